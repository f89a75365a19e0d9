//! A hang or an overload leaves a snapshot by itself, and `lookback summary` says first what it was: a program for each trigger
//! of a condition that lasts.
#![cfg(target_os = "linux")]

#[path = "command/mod.rs"]
mod command;

use command::{ended, lookback};
use lookback::{Recorder, Trigger};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SERVICE: &str = "LOOKBACK_TEST_LASTING";
const DIRECTORY: &str = "LOOKBACK_TEST_DIRECTORY";
const LIMIT: Duration = Duration::from_millis(300);

/// Not a test: the service of the others, which is this executable started again.
#[test]
fn service() {
    let Ok(how) = std::env::var(SERVICE) else { return };
    // SAFETY: the call has no preconditions.
    unsafe { libc::alarm(900) };
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let service = Service { directory: Path::new(&directory) };
    match how.as_str() {
        "a request that hangs" => service.hangs(Trigger::slow_span("request", LIMIT)),
        "no progress" => service.hangs(Trigger::no_progress("request", LIMIT)),
        _ => panic!("no service is like that: {how}"),
    }
}

struct Service<'a> {
    directory: &'a Path,
}

impl Service<'_> {
    fn start(&self, trigger: Trigger) -> Recorder {
        let recorder = Recorder::builder()
            .name("service")
            .max_bytes(4 << 20)
            .generation_period(Duration::from_millis(50))
            .snapshot_dir(self.directory)
            .trigger(trigger)
            .start()
            .unwrap();
        tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
        recorder
    }

    /// Waits until there is a snapshot.
    fn end(&self, recorder: &Recorder) {
        while recorder.stats().triggers.saved == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A request waits for an answer that nobody gives.
    fn hangs(&self, trigger: Trigger) {
        let recorder = self.start(trigger);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (_nobody, answer) = tokio::sync::oneshot::channel::<()>();
        lookback::spawn_on(runtime.handle(), request(7, answer));
        self.end(&recorder);
        runtime.shutdown_background();
    }
}

#[tracing::instrument(skip(answer))]
async fn request(number: u64, answer: tokio::sync::oneshot::Receiver<()>) {
    let _ = answer.await;
}

/// The summary of what a service has left: in words, and as JSON.
fn summary(how: &str) -> (String, Value) {
    let place = tempfile::tempdir().unwrap();
    let said = ended(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "service", "--nocapture", "--test-threads=1"])
            .env(SERVICE, how)
            .env(DIRECTORY, place.path()),
    );
    assert_eq!(said.code, 0, "{how}: {said:?}");
    let entries = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "lbk")).collect();
    files.sort();
    let file = files[0].to_str().unwrap();
    assert_eq!(lookback(&["validate", file]).code, 0, "{how}");
    let text = lookback(&["summary", file]).stdout;
    let json = lookback(&["summary", file, "--json"]).stdout;
    (text, serde_json::from_str(&json).unwrap())
}

/// The first rows of a summary: why the snapshot was taken, and where that was.
fn reason(text: &str) -> (String, String) {
    let mut rows = text.lines().skip(2).map(str::trim);
    let reason = rows.next().unwrap().strip_prefix("reason").unwrap().trim().to_owned();
    let place = rows.find_map(|row| row.strip_prefix("where")).unwrap_or_default();
    (reason, place.trim().to_owned())
}

fn evidence(json: &Value) -> &Value {
    &json["incident"]["causes"][0]["where"]
}

#[test]
fn a_request_that_hangs_is_told_of_first() {
    let (text, json) = summary("a request that hangs");
    let (reason, place) = reason(&text);
    assert!(reason.starts_with("span request is still open after "), "{text}");
    assert!(
        place.contains("in task `request") && place.contains("span `request` {number=7}"),
        "{text}"
    );
    assert_eq!(evidence(&json)["span_name"], "request", "{text}");
}

#[test]
fn that_nothing_is_answered_is_told_of_first() {
    let (text, json) = summary("no progress");
    let (reason, place) = reason(&text);
    assert!(reason.starts_with("no span request has ended for "), "{text}");
    assert!(place.contains("span `request` {number=7}"), "{text}");
    assert_eq!(evidence(&json)["span_name"], "request", "{text}");
}
