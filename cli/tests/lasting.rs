//! A hang or an overload leaves a snapshot by itself, and `lookback summary` says first what it was: a program for each trigger
//! of a condition that lasts.
#![cfg(target_os = "linux")]

#[path = "command/mod.rs"]
mod command;

use command::{ended, lookback};
use lookback::sync::{Arc, Barrier, Mutex};
use lookback::tokio::sync;
use lookback::{Pressure, Recorder, Trigger};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
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
        "errors" => service.answers(Trigger::error_rate("request", 0.2)),
        "slow answers" => {
            let trigger = Trigger::latency_quantile("request", 0.9, Duration::from_millis(20));
            service.answers(trigger.at_least(20));
        }
        "memory" => service.takes_memory(),
        "pressure" => service.is_pressed(),
        "two threads" => service.deadlock_of_threads(),
        "two tasks" => service.deadlock_of_tasks(),
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

    /// Every second request fails, and every third is slow.
    fn answers(&self, trigger: Trigger) {
        let recorder = self.start(trigger);
        for number in 0_u64.. {
            let span = tracing::info_span!("request", number, status = tracing::field::Empty);
            if number.is_multiple_of(3) {
                span.in_scope(|| std::thread::sleep(Duration::from_millis(25)));
            }
            span.record("status", if number.is_multiple_of(2) { 503 } else { 200 });
            drop(span);
            if recorder.stats().triggers.saved > 0 {
                break;
            }
        }
    }

    /// More and more memory is touched.
    fn takes_memory(&self) {
        const PIECE: usize = 1 << 20;
        let recorder = self.start(Trigger::memory(200 << 20));
        let mut taken = Vec::new();
        while recorder.stats().triggers.saved == 0 {
            if taken.len() < 400 {
                taken.push(vec![1_u8; PIECE]);
            }
            // A service does something; else no generation ends.
            lookback::event!("takes", pieces = taken.len());
            std::thread::sleep(Duration::from_millis(1));
        }
        std::hint::black_box(taken);
    }

    /// More threads compute than there are cores.
    fn is_pressed(&self) {
        if std::fs::read_to_string("/proc/pressure/cpu").is_err() {
            return println!("\nskipped: the kernel does not say what waits for a core");
        }
        let over = Duration::from_secs(1);
        let recorder = self.start(Trigger::pressure(Pressure::Cpu, 0.1).over(over));
        let is_over = AtomicBool::new(false);
        let cores = std::thread::available_parallelism().map_or(4, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..cores * 2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop()
                    }
                });
            }
            self.end(&recorder);
            is_over.store(true, Ordering::Relaxed);
        });
    }

    /// Two threads take two locks in different order.
    fn deadlock_of_threads(&self) {
        let recorder = self.start(Trigger::deadlock());
        let (locks, both) = (Arc::new((Mutex::new(1), Mutex::new(2))), Arc::new(Barrier::new(2)));
        for name in ["forth", "back"] {
            let (locks, both) = (Arc::clone(&locks), Arc::clone(&both));
            let body = move || {
                lookback::event!("begins");
                let (first, second) = match name {
                    "forth" => (&locks.0, &locks.1),
                    _ => (&locks.1, &locks.0),
                };
                let first = first.lock().unwrap();
                both.wait();
                let second = second.lock().unwrap();
                unreachable!("{first} {second}");
            };
            std::thread::Builder::new().name(name.to_owned()).spawn(body).unwrap();
        }
        self.end(&recorder);
    }

    /// The same by tasks, with locks of tasks.
    fn deadlock_of_tasks(&self) {
        let recorder = self.start(Trigger::deadlock());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let locks = Arc::new((sync::Mutex::new(1), sync::Mutex::new(2)));
        let both = Arc::new(sync::Barrier::new(2));
        for is_forth in [true, false] {
            let (locks, both) = (Arc::clone(&locks), Arc::clone(&both));
            lookback::spawn_on(runtime.handle(), async move {
                let (first, second) = match is_forth {
                    true => (&locks.0, &locks.1),
                    false => (&locks.1, &locks.0),
                };
                let first = first.lock().await;
                both.wait().await;
                let second = second.lock().await;
                unreachable!("{first} {second}");
            });
        }
        self.end(&recorder);
        runtime.shutdown_background();
    }
}

#[tracing::instrument(skip(answer))]
async fn request(number: u64, answer: tokio::sync::oneshot::Receiver<()>) {
    let _ = answer.await;
}

/// The summary of what a service has left: in words, and as JSON. `None` if the machine cannot show it.
fn summary(how: &str) -> Option<(String, Value)> {
    let place = tempfile::tempdir().unwrap();
    let said = ended(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "service", "--nocapture", "--test-threads=1"])
            .env(SERVICE, how)
            .env(DIRECTORY, place.path()),
    );
    assert_eq!(said.code, 0, "{how}: {said:?}");
    if let Some(why) = said.stdout.lines().find(|line| line.starts_with("skipped")) {
        println!("{how}: {why}");
        return None;
    }
    let entries = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "lbk")).collect();
    files.sort();
    let file = files[0].to_str().unwrap();
    assert_eq!(lookback(&["validate", file]).code, 0, "{how}");
    let text = lookback(&["summary", "--all", file]).stdout;
    let json = lookback(&["summary", file, "--json"]).stdout;
    Some((text, serde_json::from_str(&json).unwrap()))
}

/// Why the snapshot was taken, which is the first row of the summary; and where that was.
fn reason(text: &str, json: &Value) -> (String, String) {
    let mut rows = text.lines().skip(2).map(str::trim);
    let row = rows.next().unwrap().strip_prefix("reason").unwrap().trim();
    let reason = json["incident"]["causes"][0]["reason"].as_str().unwrap().to_owned();
    // What is very long is cut there.
    assert!(reason.starts_with(row.trim_end_matches('…')), "{reason}\n{text}");
    let place = rows.find_map(|row| row.strip_prefix("where")).unwrap_or_default();
    (reason, place.trim().to_owned())
}

fn evidence(json: &Value) -> &Value {
    &json["incident"]["causes"][0]["where"]
}

#[test]
fn a_request_that_hangs_is_told_of_first() {
    let (text, json) = summary("a request that hangs").unwrap();
    let (reason, place) = reason(&text, &json);
    assert!(reason.starts_with("span request is still open after "), "{text}");
    assert!(
        place.contains("in task `request") && place.contains("span `request` {number=7}"),
        "{text}"
    );
    assert_eq!(evidence(&json)["span_name"], "request", "{text}");
}

#[test]
fn that_nothing_is_answered_is_told_of_first() {
    let (text, json) = summary("no progress").unwrap();
    let (reason, place) = reason(&text, &json);
    assert!(reason.starts_with("no span request has ended for "), "{text}");
    assert!(place.contains("span `request` {number=7}"), "{text}");
    assert_eq!(evidence(&json)["span_name"], "request", "{text}");
}

/// The titles of the findings of an analysis.
fn titles(json: &Value, analysis: &str) -> Vec<String> {
    let findings = json["findings"].as_array().unwrap().iter();
    let of = findings.filter(|one| one["analysis"] == analysis);
    of.map(|one| one["title"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn that_many_requests_fail_is_told_of_first_and_how() {
    let (text, json) = summary("errors").unwrap();
    let (reason, place) = reason(&text, &json);
    assert!(reason.contains(" spans request in the last "), "{text}");
    assert!(reason.contains(" failed: ") && reason.ends_with(" %, more than 20 %"), "{text}");
    assert_eq!(place, "", "it happened in no one place: {text}");
    let failures = titles(&json, "failures");
    assert!(failures.iter().any(|title| title.contains("status 503")), "{text}");
}

#[test]
fn that_many_requests_are_slow_is_told_of_first() {
    let (text, json) = summary("slow answers").unwrap();
    let (reason, _) = reason(&text, &json);
    assert!(reason.starts_with("p90 of spans request in the last "), "{text}");
    assert!(
        reason.contains(" is above 20ms: ") && reason.contains(" took longer, the longest "),
        "{text}"
    );
}

#[test]
fn that_memory_runs_out_is_told_of_first() {
    let (text, json) = summary("memory").unwrap();
    let (reason, _) = reason(&text, &json);
    assert!(
        reason.starts_with("resident memory is ") && reason.ends_with("more than 200.0 MiB"),
        "{text}"
    );
    let counters = json["system"]["counters"].as_array().unwrap().iter();
    let most = counters
        .filter(|one| one["name"] == "memory.resident")
        .filter_map(|one| one["max"].as_f64());
    assert!(most.fold(0.0, f64::max) > f64::from(200 << 20), "{text}");
}

#[test]
fn that_cores_are_short_is_told_of_first() {
    let Some((text, json)) = summary("pressure") else { return };
    let (reason, _) = reason(&text, &json);
    assert!(
        reason.contains(" waited for a core in ") && reason.ends_with(", more than 10 %"),
        "{text}"
    );
}

#[test]
fn a_deadlock_of_threads_is_told_of_first_with_both_ends() {
    let (text, json) = summary("two threads").unwrap();
    let (reason, _) = reason(&text, &json);
    assert!(reason.starts_with("deadlock: thread "), "{text}");
    let is_told = |part: &str| reason.contains(part);
    assert!(is_told("thread forth#") && is_told("thread back#"), "{text}");
    assert!(is_told(" waits at cli/tests/lasting.rs:"), "{text}");
    assert!(is_told(" took at cli/tests/lasting.rs:"), "{text}");
    assert!(!evidence(&json)["thread"].is_null(), "{text}");
    let found = titles(&json, "locks");
    assert!(found.iter().any(|title| title.starts_with("Deadlock: ")), "{found:?} {text}");
}

#[test]
fn a_deadlock_of_tasks_is_told_of_first_with_both_ends() {
    let (text, json) = summary("two tasks").unwrap();
    let (reason, _) = reason(&text, &json);
    assert!(reason.starts_with("deadlock: task "), "{text}");
    assert_eq!(reason.matches("a tokio Mutex that task ").count(), 2, "{text}");
    let found = titles(&json, "locks");
    assert!(found.iter().any(|title| title.starts_with("Deadlock: ")), "{found:?} {text}");
}
