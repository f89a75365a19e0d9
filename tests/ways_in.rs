//! The attributes, and the module that replaces Tokio: what they run is recorded.

mod common;

use common::{alone, events};
use lookback::Recorder;
use lookback::read::{Event, EventKind, Trace};
use std::collections::BTreeMap;

/// A file that spawns as with Tokio itself, except for one line.
mod as_before {
    use lookback::tokio;
    use tokio::sync::oneshot;
    use tokio::task::JoinSet;

    pub async fn spawns() -> u32 {
        let (send, receive) = oneshot::channel();
        let task = tokio::spawn(async move { send.send(1).unwrap() });
        let sum = receive.await.unwrap();
        task.await.unwrap();
        let blocking = tokio::task::spawn_blocking(|| 2).await.unwrap();
        let mut set = JoinSet::new();
        set.spawn(async { 4 });
        set.spawn_blocking(|| 8);
        set.spawn_on(async { 16 }, &tokio::runtime::Handle::current());
        set.spawn_blocking_on(|| 64, &tokio::runtime::Handle::current());
        assert_eq!(set.len(), 4, "Tokio's own methods are there");
        let mut all = sum + blocking;
        while let Some(number) = set.join_next().await {
            all += number.unwrap();
        }
        let local = tokio::task::LocalSet::new();
        set.spawn_local_on(async { 128 }, &local);
        let spawned = tokio::task::spawn_local;
        let local_sum = local.run_until(async { spawned(async { 32 }).await.unwrap() }).await;
        let on_local = local.run_until(set.join_next()).await.unwrap().unwrap();
        all + local_sum + on_local
    }
}

#[lookback::main(flavor = "multi_thread", worker_threads = 2)]
async fn on_two_workers(number: u32) -> Result<(Recorder, u32), lookback::Error> {
    let recorder = Recorder::builder().start()?;
    // The poll that started the recorder began before the recording.
    tokio::task::yield_now().await;
    lookback::event!("inside", number = number);
    Ok((recorder, as_before::spawns().await + number))
}

/// Replaces `lookback` for what the attribute calls. (`start_paused` needs a feature of Tokio that makes all
/// its clocks slower.)
mod stand_in {
    pub mod tokio {
        pub mod runtime {
            #[derive(Default)]
            pub struct Builder(pub Vec<String>);

            impl Builder {
                pub fn new_current_thread() -> Self {
                    Self(vec!["current thread".to_owned()])
                }
                pub fn start_paused(&mut self, paused: bool) -> &mut Self {
                    self.0.push(format!("start_paused {paused}"));
                    self
                }
            }
        }

        pub fn run<F>(builder: &mut runtime::Builder, _: F) -> Vec<String> {
            std::mem::take(&mut builder.0)
        }
    }
}

#[lookback::main(flavor = "current_thread", start_paused = true, crate = "crate::stand_in")]
async fn calls() -> Vec<String> {}

#[lookback::test]
async fn a_test_may_be_a_task_and_return_a_result() -> Result<(), std::num::ParseIntError> {
    let handle = tokio::runtime::Handle::current();
    assert_eq!(handle.runtime_flavor(), tokio::runtime::RuntimeFlavor::CurrentThread);
    assert_eq!(lookback::spawn(async { "42".parse::<u32>() }).await.expect("no panic")?, 42);
    Ok(())
}

#[lookback::test(worker_threads = 1)]
#[should_panic(expected = "as it should")]
async fn a_test_may_fail_as_it_should() {
    tokio::task::block_in_place(|| panic!("as it should"));
}

#[test]
fn options_are_passed_on() {
    assert_eq!(calls(), ["current thread", "start_paused true"]);
}

/// How many tasks of each name begin in a trace.
fn tasks(trace: &Trace) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for event in events(trace) {
        if let EventKind::TaskCreate { .. } = event.kind() {
            *names.entry(event.name().to_owned()).or_default() += 1;
        }
    }
    names
}

#[test]
fn what_the_attribute_runs_and_the_module_spawns_is_recorded() {
    alone("what_the_attribute_runs_and_the_module_spawns_is_recorded", || {
        let (recorder, sum) = on_two_workers(64).expect("it starts");
        assert_eq!(sum, 1 + 2 + 4 + 8 + 16 + 32 + 64 + 128 + 64);
        let trace = common::stop(recorder);
        let inside = |event: &Event| event.name() == "inside";
        let event = events(&trace).find(inside).expect("it is recorded");
        assert!(event.task().is_some(), "inside of a task");
        // Spawned, blocking, five of the set, local.
        let found = tasks(&trace);
        assert_eq!(found.values().sum::<usize>(), 8, "{found:?}");
    });
}
