//! How recording scales: with what is alive, with threads and how fast they record, with the size of the
//! arena. `cargo bench --bench scale`; `-- --quick` takes a tenth of the time, `-- --large` adds arenas of
//! 4 GiB.
//!
//! Of each: events a second, which share of them was lost, how much of a core the collector took, how far
//! back the window goes; and of what is alive how many bytes of a generation each takes.

mod common;

use lookback::{RecordExt, Recorder, event};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// So many events are recorded at a time by who records at a rate.
const BURST: u64 = 100;

fn main() {
    let has = |name: &str| std::env::args().any(|argument| argument == name);
    let (is_quick, is_large) = (has("--quick"), has("--large"));
    let time = Duration::from_millis(if is_quick { 300 } else { 3000 });
    header("alive, beside one thread");
    let counts: &[usize] =
        if is_quick { &[0, 10_000, 100_000] } else { &[0, 10_000, 100_000, 1_000_000] };
    for rate in [Some(100_000), Some(1_000_000), None] {
        for &count in counts {
            alive("tasks", count, rate, time, tasks);
        }
        for &count in counts {
            alive("spans", count, rate, time, spans);
        }
    }
    header("threads, each at this rate, 32 MiB");
    for threads in [1, 2, 8, 64, 512] {
        for rate in [Some(10_000), Some(100_000), None] {
            let recorder = start(32 * MIB);
            let what = format!("{threads} threads at {}", told(rate));
            run(&what, &recorder, threads, rate, time, None);
        }
    }
    header("arenas, two threads");
    let mut arenas = vec![1, 8, 32, 128];
    arenas.extend((!is_quick).then_some(1024));
    arenas.extend(is_large.then_some(4096));
    for mebibytes in arenas {
        for rate in [Some(500_000), None] {
            let recorder = start(mebibytes * MIB);
            let what = format!("{mebibytes} MiB at {}", told(rate));
            run(&what, &recorder, 2, rate, time, None);
        }
    }
}

fn header(what: &str) {
    println!(
        "{what:<40} {:>14} {:>9} {:>11} {:>10} {:>10}",
        "events/s", "lost", "collector", "window, s", "bytes each"
    );
}

fn told(rate: Option<u64>) -> String {
    rate.map_or("full speed".to_owned(), |rate| format!("{rate} a second"))
}

fn start(max_bytes: usize) -> Recorder {
    let builder = Recorder::builder().max_bytes(max_bytes).window(Duration::from_secs(600));
    builder.start().expect("a recorder starts")
}

fn tasks(count: usize) -> Box<dyn std::any::Any> {
    let mut context = Context::from_waker(Waker::noop());
    let tasks: Vec<Pin<Box<dyn Future<Output = ()>>>> = (0..count)
        .map(|_| -> Pin<Box<dyn Future<Output = ()>>> {
            let mut task = Box::pin(std::future::pending::<()>().recorded("idle"));
            assert!(task.as_mut().poll(&mut context).is_pending());
            task
        })
        .collect();
    Box::new(tasks)
}

fn spans(count: usize) -> Box<dyn std::any::Any> {
    let _default = tracing::subscriber::set_default(lookback::tracing::subscriber());
    let span = |number| tracing::info_span!("request", method = "GET", path = "/cart", number);
    Box::new((0..count).map(span).collect::<Vec<_>>())
}

fn alive(
    what: &str,
    count: usize,
    rate: Option<u64>,
    time: Duration,
    make: impl FnOnce(usize) -> Box<dyn std::any::Any>,
) {
    let recorder = start(256 * MIB);
    let alive = make(count);
    recorder.advance();
    // What nobody does anything to is listed in each generation from now on.
    let before = recorder.stats();
    event!("tick");
    recorder.advance();
    let listed = (recorder.stats().bytes.saturating_sub(before.bytes)) as f64 / count.max(1) as f64;
    let each = (count > 0).then_some(listed);
    run(&format!("{count} {what}, {}", told(rate)), &recorder, 1, rate, time, each);
    drop(alive);
}

/// Records on so many threads, and prints a line.
fn run(
    what: &str,
    recorder: &Recorder,
    threads: u64,
    rate: Option<u64>,
    time: Duration,
    each: Option<f64>,
) {
    let (before, worked) = (recorder.stats(), collector());
    let over = AtomicBool::new(false);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| write(rate, &over));
        }
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
    });
    let took = began.elapsed().as_secs_f64();
    let worked = collector().saturating_sub(worked) as f64 / 1e9;
    let after = recorder.stats();
    let lost = after.lost_in_all() - before.lost_in_all();
    let recorded = after.recorded - before.recorded;
    let covered = recorder.snapshot().map_or(0.0, |snapshot| snapshot.covered().as_secs_f64());
    let each = each.map_or(String::new(), |each| format!("{each:.2}"));
    println!(
        "{what:<40} {:>14.0} {:>8.3}% {:>10.2}% {covered:>10.3} {each:>10}",
        recorded as f64 / took,
        lost as f64 / (lost + recorded).max(1) as f64 * 100.0,
        worked / took * 100.0,
    );
}

fn write(rate: Option<u64>, over: &AtomicBool) {
    let (began, mut number) = (Instant::now(), 0_u64);
    while !over.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            event!("load", number = number);
            number += 1;
        }
        if let Some(rate) = rate {
            let due = Duration::from_nanos(number.saturating_mul(1_000_000_000) / rate);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
}

/// For how many nanoseconds the recorder's own threads have run.
fn collector() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |thread: std::fs::DirEntry| -> Option<u64> {
        let read = |name| std::fs::read_to_string(thread.path().join(name)).ok();
        read("comm")?.starts_with("lookback").then_some(())?;
        read("schedstat")?.split(' ').next()?.parse().ok()
    };
    threads.filter_map(of).sum()
}
