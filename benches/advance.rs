//! How long an advance takes, and how long it waits for writers, depending on the number of threads, and with
//! every core busy writing. `cargo bench --bench advance`.

mod common;

use common::quantiles;
use lookback::{RecordExt, Recorder, event, region};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier as Meeting};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const ADVANCES: usize = 300;

fn main() {
    println!(
        "{:<44} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "an advance, µs", "p50", "p90", "p99", "wait p50", "wait p99"
    );
    for threads in [1, 100, 1000] {
        silent(threads);
    }
    idle_tasks(&[0, 1_000, 10_000, 100_000, 1_000_000]);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    busy(1);
    busy(cores);
}

fn recorder() -> Recorder {
    // So long that the collector advances only on request.
    let long = Duration::from_secs(3600);
    let builder = Recorder::builder().max_bytes(64 << 20).window(long).generation_period(long);
    builder.start().expect("a recorder starts")
}

/// Advances with threads that have recorded something, have a region open, and are silent now.
fn silent(threads: usize) {
    let recorder = recorder();
    let meeting = Arc::new(Meeting::new(threads + 1));
    let sleepers: Vec<_> = (0..threads)
        .map(|_| {
            let meeting = Arc::clone(&meeting);
            std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || {
                    let _guard = region!("waiting");
                    meeting.wait();
                    meeting.wait();
                })
                .expect("a thread starts")
        })
        .collect();
    meeting.wait();
    recorder.advance();
    let mut times = Vec::new();
    let before = recorder.stats();
    for _ in 0..ADVANCES {
        event!("tick");
        let began = Instant::now();
        assert!(recorder.advance());
        times.push(began.elapsed().as_nanos() as f64 / 1e3);
    }
    let after = recorder.stats();
    report(&format!("{threads} silent threads, each in a region"), &mut times, &recorder);
    let bytes = (after.bytes - before.bytes) as f64 / ADVANCES as f64;
    println!("{:<44} {bytes:>10.0}", "  bytes a generation");
    meeting.wait();
    sleepers.into_iter().for_each(|thread| drop(thread.join()));
}

/// Advances with live tasks to which nothing happens: each is in the list of every generation.
fn idle_tasks(counts: &[usize]) {
    println!(
        "{:<44} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "idle tasks", "p50, µs", "p90", "ns a task", "bytes each", "memory, B"
    );
    let mut fixed = None;
    for &count in counts {
        let long = Duration::from_secs(3600);
        let builder = Recorder::builder().max_bytes(256 << 20).window(long).generation_period(long);
        let recorder = builder.start().expect("a recorder starts");
        let resident = resident();
        let mut tasks: Vec<_> =
            (0..count).map(|_| Box::pin(std::future::pending::<()>().recorded("idle"))).collect();
        let mut context = Context::from_waker(Waker::noop());
        for task in &mut tasks {
            assert!(task.as_mut().poll(&mut context).is_pending());
        }
        recorder.advance();
        let mut times = Vec::new();
        let before = recorder.stats();
        let advances = if count > 100_000 { 31 } else { 101 };
        for _ in 0..advances {
            event!("tick");
            let began = Instant::now();
            assert!(recorder.advance());
            times.push(began.elapsed().as_nanos() as f64 / 1e3);
        }
        let memory = self::resident().saturating_sub(resident) as f64 / count.max(1) as f64;
        let bytes = (recorder.stats().bytes - before.bytes) as f64 / advances as f64;
        let [p50, p90] = quantiles(&mut times, [0.5, 0.9]);
        let (base, bare) = *fixed.get_or_insert((p50, bytes));
        let each = |all: f64| if count == 0 { 0.0 } else { all / count as f64 };
        println!(
            "{count:<44} {p50:>10.1} {p90:>10.1} {:>10.1} {:>10.2} {memory:>10.0}",
            each((p50 - base) * 1e3),
            each(bytes - bare),
        );
    }
}

/// This process's memory, without what it shares (the arena).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Advances while `writers` threads write as fast as they can.
fn busy(writers: usize) {
    let recorder = recorder();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                let mut n = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    event!("evict", keys = n, bytes = n);
                }
            });
        }
        let mut times = Vec::new();
        for _ in 0..ADVANCES {
            std::thread::sleep(Duration::from_millis(2));
            let began = Instant::now();
            recorder.advance();
            times.push(began.elapsed().as_nanos() as f64 / 1e3);
        }
        stop.store(true, Ordering::Relaxed);
        report(&format!("{writers} busy writers"), &mut times, &recorder);
    });
}

fn report(name: &str, times: &mut [f64], recorder: &Recorder) {
    let [p50, p90, p99] = quantiles(times, [0.5, 0.9, 0.99]);
    let waits = recorder.stats().waits;
    println!(
        "{name:<44} {p50:>10.1} {p90:>10.1} {p99:>10.1} {:>10.1} {:>10.1}",
        waits.median.as_nanos() as f64 / 1e3,
        waits.p99.as_nanos() as f64 / 1e3,
    );
}
