//! However a service uses its threads, its memory and its code: sampled a thousand times a second, with the stacks of
//! its tasks, it goes on undisturbed, and every stack is right.
//!
//! Each storm takes a second, or as long as `LOOKBACK_TEST_SECONDS` says.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod code;
#[path = "../common/mod.rs"]
mod common;
mod judge;
mod processes;
mod threads;

use common::wait_for;
use judge::Judge;
use lookback::{Builder, RecordExt, Recorder};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PER_SECOND: u32 = 1000;

fn time() -> Duration {
    let given = std::env::var("LOOKBACK_TEST_SECONDS").ok();
    Duration::from_secs(given.and_then(|seconds| seconds.parse().ok()).unwrap_or(1))
}

fn builder() -> Builder {
    // A thread is sampled from the generation on that follows its start.
    Recorder::builder()
        .max_bytes(1 << 20)
        .window(Duration::from_secs(2))
        .generation_period(Duration::from_millis(10))
        .cpu_samples(PER_SECOND)
}

fn start() -> Recorder {
    let recorder = builder().start().expect("a recorder starts");
    assert!(wait_for(|| recorder.stats().unwind_tables.modules > 0));
    recorder
}

/// Ends what waits for it, also if a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Computes until it is over. Who is sampled here is below this function.
#[inline(never)]
fn busy_root(over: &AtomicBool) -> u64 {
    let mut sum = 0;
    while !over.load(Ordering::Relaxed) {
        sum += busy_leaf(black_box(sum));
    }
    sum
}

#[inline(never)]
fn busy_leaf(seed: u64) -> u64 {
    let mut state = seed | 1;
    for _ in 0..10_000 {
        state = black_box(state.rotate_left(7).wrapping_mul(0x9E37_79B9));
    }
    state & 1
}

/// Tasks that wait for one another, or for a moment, until it is over.
#[inline(never)]
fn tasks_root(over: &AtomicBool) {
    async fn hands_on(
        mut from: tokio::sync::mpsc::Receiver<u64>,
        to: tokio::sync::mpsc::Sender<u64>,
    ) {
        while let Some(number) = from.recv().await {
            if number % 8 == 0 {
                tokio::time::sleep(Duration::from_micros(50)).await;
            }
            if to.send(number + 1).await.is_err() {
                return;
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("there is memory for it").block_on(async {
        let (first, mut from) = tokio::sync::mpsc::channel(4);
        for _ in 0..5 {
            let (to, next) = tokio::sync::mpsc::channel(4);
            tokio::spawn(hands_on(from, to).recorded("hands on"));
            from = next;
        }
        tokio::spawn(hands_on(from, first.clone()).recorded("hands on"));
        for number in 0..3 {
            first.send(number).await.expect("somebody receives");
        }
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

/// The same two threads run during each storm.
fn spawn_bystanders<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    over: &'scope AtomicBool,
) {
    let spawn = |name: &str, root: fn(&AtomicBool)| {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn_scoped(scope, move || root(over)).expect("it starts");
    };
    spawn("busy", |over| _ = black_box(busy_root(over)));
    spawn("tasks", tasks_root);
}

/// Lets `storm` run again and again, on so many threads at once beside those of each storm, and samples all of them.
/// Every snapshot must be sound, and every stack right.
fn storm(threads: usize, mut judge: Judge, storm: impl Fn(u64) + Sync) {
    let recorder = start();
    let (until, over) = (Instant::now() + time(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _over = Over(&over);
        spawn_bystanders(scope, &over);
        for _ in 0..threads {
            let (over, storm) = (&over, &storm);
            let thread = std::thread::Builder::new().name("storm".to_owned());
            let rounds = move || {
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    storm(round);
                }
            };
            thread.spawn_scoped(scope, rounds).expect("it starts");
        }
        // At least until there is something to judge of each thread, however slow the machine is.
        let few = |judge: &Judge| recorder.stats().cpu_samples.taken < 50 || !judge.has_seen_all();
        let (began, most) = (Instant::now(), time() + Duration::from_secs(60));
        while Instant::now() < until || few(&judge) && began.elapsed() < most {
            std::thread::sleep(Duration::from_secs(1).min(time()));
            judge.examine(&common::read(&recorder.snapshot().expect("it records")));
        }
    });
    let stats = recorder.stats();
    assert_eq!(stats.broken, None);
    assert_eq!(stats.cpu_samples.trouble, None);
    judge.examine(&common::read(&recorder.stop().expect("it stops")));
    judge.sum_up();
}
