//! How recording scales: with what is alive, with the number of threads and their rate, with the size of the
//! arena. `cargo bench --bench scale`; `-- --quick` takes a tenth of the time, `-- --large` adds arenas of 4
//! GiB, `-- alive`, `rates`, `waiting` or `arenas` runs these parts alone.
//!
//! For each: events a second, the processor time per event, the lost share, the collector's share of a core,
//! the length of the window; and for what is alive, the bytes that each takes in a generation.

mod common;

use lookback::{RecordExt, Recorder, event};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// How many events a thread with a fixed rate records at a time.
const BURST: u64 = 100;

fn main() {
    let has = |name: &str| std::env::args().any(|argument| argument == name);
    let (is_quick, is_large) = (has("--quick"), has("--large"));
    let time = Duration::from_millis(if is_quick { 300 } else { 3000 });
    let parts = ["alive", "rates", "waiting", "arenas"];
    let runs = |part: &str| has(part) || !parts.iter().any(|part| has(part));
    if runs("alive") {
        all_alive(time, is_quick);
    }
    if runs("rates") {
        rates(time);
    }
    if runs("waiting") {
        waiting(time);
    }
    if runs("arenas") {
        arenas(time, is_quick, is_large);
    }
}

fn all_alive(time: Duration, is_quick: bool) {
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
}

fn rates(time: Duration) {
    header("threads, each at this rate, 32 MiB");
    for threads in [1, 2, 8, 64, 512] {
        for rate in [Some(10_000), Some(100_000), None] {
            let recorder = start(32 * MIB);
            let what = format!("{threads} threads at {}", told(rate));
            run(&what, &recorder, threads, rate, time, None);
        }
    }
}

fn waiting(time: Duration) {
    header("threads that wait, beside two at full speed, 1 MiB");
    for waiting in [0, 1_000, 8_000] {
        let recorder = start(MIB);
        let _waiting = Waiting::start(waiting);
        run(&format!("{waiting} threads that wait"), &recorder, 2, None, time, None);
    }
}

fn arenas(time: Duration, is_quick: bool, is_large: bool) {
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
        "{what:<40} {:>14} {:>9} {:>9} {:>11} {:>10} {:>10}",
        "events/s", "ns each", "lost", "collector", "window, s", "bytes each"
    );
}

fn told(rate: Option<u64>) -> String {
    rate.map_or("full speed".to_owned(), |rate| format!("{rate} a second"))
}

fn start(max_bytes: usize) -> Recorder {
    let builder = Recorder::builder().max_bytes(max_bytes).window(Duration::from_secs(600));
    let recorder = builder.start().expect("a recorder starts");
    // A thread touches the arena ahead of its use, and ends; its time is not the collector's.
    while own_threads().any(|(name, _)| name.starts_with("lookback-room")) {
        std::thread::sleep(Duration::from_millis(1));
    }
    recorder
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

/// Threads that have recorded one event each and wait until this is dropped; each keeps a slot.
struct Waiting {
    over: Arc<Barrier>,
    threads: Vec<JoinHandle<()>>,
}

impl Waiting {
    fn start(count: usize) -> Self {
        let over = Arc::new(Barrier::new(count + 1));
        let begun = Arc::new(Barrier::new(count + 1));
        let thread = |_| {
            let (begun, over) = (Arc::clone(&begun), Arc::clone(&over));
            let thread = std::thread::Builder::new().stack_size(64 << 10);
            let run = move || {
                event!("waits");
                begun.wait();
                over.wait();
            };
            thread.spawn(run).expect("a thread starts")
        };
        let threads = (0..count).map(thread).collect();
        begun.wait();
        Self { over, threads }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.over.wait();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
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
    // From now on nothing happens to them, so each generation lists them.
    let before = recorder.stats();
    event!("tick");
    recorder.advance();
    let listed = (recorder.stats().bytes.saturating_sub(before.bytes)) as f64 / count.max(1) as f64;
    let each = (count > 0).then_some(listed);
    run(&format!("{count} {what}, {}", told(rate)), &recorder, 1, rate, time, each);
    drop(alive);
}

/// Records on this many threads, and prints a line.
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
    let (began, busy) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                write(rate, &over);
                busy.fetch_add(thread_time(), Ordering::Relaxed);
            });
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
        "{what:<40} {:>14.0} {:>9.1} {:>8.3}% {:>10.2}% {covered:>10.3} {each:>10}",
        recorded as f64 / took,
        busy.into_inner() as f64 / recorded.max(1) as f64,
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

/// How many nanoseconds this thread has run.
fn thread_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How many nanoseconds the recorder's own threads have run.
fn collector() -> u64 {
    let ran = |schedstat: String| schedstat.split(' ').next()?.parse::<u64>().ok();
    own_threads().filter_map(|(_, schedstat)| ran(schedstat)).sum()
}

/// The names of the recorder's own threads, and what the kernel's scheduler reports of each.
fn own_threads() -> impl Iterator<Item = (String, String)> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |thread: std::fs::DirEntry| {
        let read = |name| std::fs::read_to_string(thread.path().join(name)).ok();
        Some((read("comm")?, read("schedstat")?))
    };
    threads.filter_map(of).filter(|(name, _)| name.starts_with("lookback"))
}
