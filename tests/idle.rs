//! An idle process sees one wake-up of the recorder per generation, and none after the recorder is stopped.

#![cfg(target_os = "linux")]

use lookback::{Recorder, event};
use std::fs;
use std::time::{Duration, Instant};

/// How often the collector's thread has gone to sleep, if it exists.
fn sleeps() -> Option<u64> {
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "lookback") {
            let status = fs::read_to_string(task.join("status")).ok()?;
            let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"))?;
            return line.trim().parse().ok();
        }
    }
    None
}

#[test]
fn an_idle_recorder_wakes_once_a_generation() {
    let period = Duration::from_millis(250);
    let recorder = Recorder::builder()
        .max_bytes(1 << 20)
        .generation_period(period)
        .start()
        .expect("a recorder starts");
    event!("something");
    std::thread::sleep(period * 2);
    let (began, before) = (Instant::now(), sleeps().expect("there is a collector"));
    std::thread::sleep(period * 6);
    let after = sleeps().expect("there is a collector");
    // Measured against the time that actually passed: a slow machine wakes it less often, never more.
    let generations = began.elapsed().as_millis() / period.as_millis() + 1;
    assert!(u128::from(after - before) <= generations + 1, "{before}, then {after}");

    recorder.stop().expect("nobody is stuck");
    assert_eq!(sleeps(), None, "a stopped recorder has no thread");
}
