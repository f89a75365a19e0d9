//! A snapshot tells where each task waits: the function and the line, for whatever it waits.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod chains;
#[path = "../common/mod.rs"]
mod common;
mod kinds;
mod services;
mod spawned;

use common::chains::Chain;
use common::wait_for;
use lookback::{Builder, RecordExt, Recorder};
use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(1000);

/// Where tasks are to wait: the name of the task, and the line.
static LINES: Mutex<Vec<(&str, u32)>> = Mutex::new(Vec::new());

/// Evaluates the expression, at which the task of this name is to wait.
#[macro_export]
macro_rules! waits {
    ($task:literal, $e:expr) => {{
        $crate::LINES.lock().unwrap().push(($task, line!()));
        $e
    }};
}

fn start() -> Recorder {
    start_with(|builder| builder)
}

fn start_with(more: impl FnOnce(Builder) -> Builder) -> Recorder {
    let builder = Recorder::builder()
        .max_bytes(4 << 20)
        .window(Duration::from_secs(3600))
        .generation_period(Duration::from_secs(3600));
    let recorder = more(builder).start().expect("a recorder starts");
    assert!(wait_for(|| recorder.stats().unwind_tables.modules > 0));
    recorder
}

/// What is kept for as long as tasks are to wait.
type Kept = Vec<Box<dyn Any + Send>>;

async fn socket(listener: &TcpListener, kept: &mut Kept) -> TcpStream {
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    kept.push(Box::new(client));
    listener.accept().await.unwrap().0
}

fn spawn(name: &'static str, task: impl Future<Output: Send> + Send + 'static) {
    tokio::spawn(task.recorded(name));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The chains of all tasks, once there are so many names.
fn once(recorder: &Recorder, file: &str, names: usize) -> BTreeMap<String, Vec<Vec<Chain>>> {
    let mut found = BTreeMap::new();
    let all = wait_for(|| {
        lookback::log!("test", "so that there is something to complete");
        common::advance(recorder);
        found = common::chains::now(&recorder.snapshot().expect("a snapshot"), file);
        found.len() >= names
    });
    assert!(all, "{} of {names}: {:?}", found.len(), found.keys());
    found
}

/// Each task of these waits at its lines. What it waits for in one of `more` has a line of its own; `kept` keep the
/// waker that they have, of an earlier poll.
fn assert_at_lines(found: &BTreeMap<String, Vec<Vec<Chain>>>, more: &[&str], kept: &[&str]) {
    let known = LINES.lock().unwrap().clone();
    for (task, chains) in found {
        let mut wanted: Vec<_> =
            known.iter().filter(|(name, _)| name == task).map(|(_, line)| *line).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for chains in chains {
            let mut lines: Vec<_> = chains.iter().filter_map(Chain::line).collect();
            lines.sort_unstable();
            lines.dedup();
            if more.contains(&&**task) {
                assert!(wanted.iter().all(|line| lines.contains(line)), "{task}: {chains:#?}");
            } else {
                assert_eq!(lines, wanted, "{task}: {chains:#?}");
            }
            let is_earlier = kept.contains(&&**task);
            assert!(
                chains.iter().all(|chain| chain.is_earlier == is_earlier),
                "{task}: {chains:#?}"
            );
        }
    }
}
