//! What one event costs, as a ratio to the bare clock instruction measured beside it.
//!
//! `cargo bench --bench events`. Each figure is the median of many short rounds, taken in turn with
//! rounds of the clock instruction, so that a machine whose speed drifts drifts for both.

mod common;

use common::{Rounds, header, row};
use lookback::{Barrier, Recorder, counter, event, log, region};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const ROUND: u32 = 20_000;

fn main() {
    println!("event costs; every ratio is to the clock instruction in the same run");
    header();
    off();
    for barrier in [Barrier::Membarrier, Barrier::Fence] {
        println!("-- {barrier:?}");
        let Ok(recorder) = Recorder::builder().max_bytes(64 << 20).barrier(barrier).start() else {
            println!("not available here");
            continue;
        };
        one_thread();
        two_threads();
        drop(recorder);
    }
    bytes_an_event();
}

fn clock() {
    for _ in 0..ROUND {
        black_box(lookback::__private::clock_instruction());
    }
}

fn two_integers() {
    for n in 0..u64::from(ROUND) {
        event!("evict", keys = black_box(n & 63), bytes = black_box(4000 + (n & 1023)));
    }
}

/// Real values vary in width: a latency spans seven decades, an id grows with time, a hash has all of 64
/// bits. Drawn in advance, and so many that no branch predictor learns them.
struct Mixed {
    latency: u64,
    id: u64,
    hash: u64,
}

fn mixed_widths() -> Vec<Mixed> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut of_width = |low: u64, high: u64| {
        let width = low + draw() % (high - low + 1);
        1 << (width - 1) | draw() & ((1 << (width - 1)) - 1)
    };
    let mut all: Vec<Mixed> = (0..ROUND)
        .map(|_| Mixed { latency: of_width(4, 34), id: of_width(1, 48), hash: 0 })
        .collect();
    all.iter_mut().for_each(|mixed| mixed.hash = draw());
    all
}

/// The clock instruction, beside the loads that [`three_mixed`] has.
fn clock_and_loads(data: &[Mixed]) {
    for mixed in data {
        black_box((mixed.latency, mixed.id, mixed.hash));
        black_box(lookback::__private::clock_instruction());
    }
}

fn two_mixed(data: &[Mixed]) {
    for mixed in data {
        event!("read", latency = black_box(mixed.latency), id = black_box(mixed.id));
    }
}

fn three_mixed(data: &[Mixed]) {
    for mixed in data {
        event!(
            "served",
            latency = black_box(mixed.latency),
            id = black_box(mixed.id),
            hash = black_box(mixed.hash)
        );
    }
}

fn regions() {
    for _ in 0..ROUND {
        let _guard = region!("parse");
    }
}

fn off() {
    let rounds = Rounds::measure(
        &mut [("clock", &mut clock), ("event", &mut two_integers), ("region", &mut regions)],
        ROUND,
    );
    row("tracing off: event, two integers", rounds[1], rounds[0]);
    row("tracing off: region", rounds[2], rounds[0]);
}

fn one_thread() {
    let data = mixed_widths();
    let rounds = Rounds::measure(
        &mut [
            ("clock", &mut clock),
            ("event", &mut two_integers),
            ("clock and loads", &mut || clock_and_loads(&data)),
            ("mixed", &mut || three_mixed(&data)),
            ("two mixed", &mut || two_mixed(&data)),
            ("region", &mut regions),
            ("counter", &mut || {
                for n in 0..ROUND {
                    counter!("depth", black_box(n & 31));
                }
            }),
            ("no fields", &mut || {
                for _ in 0..ROUND {
                    event!("tick");
                }
            }),
            ("string", &mut || {
                for n in 0..ROUND {
                    let route = if n & 1 == 0 { "GET /items/:id" } else { "POST /checkout" };
                    event!("request", route = black_box(route), status = black_box(200_u32));
                }
            }),
            ("log", &mut || {
                for _ in 0..ROUND {
                    log!("cache", "a message without arguments");
                }
            }),
            ("log, formatted", &mut || {
                for n in 0..ROUND {
                    log!("cache", "evicted {} keys of {}", black_box(n), black_box(17));
                }
            }),
        ],
        ROUND,
    );
    let clock = rounds[0];
    row("event, two integers of mixed widths", rounds[4], rounds[2]);
    row("event, three integers of mixed widths", rounds[3], rounds[2]);
    row("event, two integers of constant widths", rounds[1], clock);
    row("region, begin and end", rounds[5], clock);
    row("counter", rounds[6], clock);
    row("event, no fields", rounds[7], clock);
    row("event, a string and an integer", rounds[8], clock);
    row("log, a constant", rounds[9], clock);
    row("log, formatted", rounds[10], clock);
}

/// Two threads at once: does one slow the other?
fn two_threads() {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                two_integers();
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        let rounds =
            Rounds::measure(&mut [("clock", &mut clock), ("event", &mut two_integers)], ROUND);
        stop.store(true, Ordering::Relaxed);
        row("event, while another thread records", rounds[1], rounds[0]);
    });
}

fn bytes_an_event() {
    let pace = || {
        let until = Instant::now() + Duration::from_micros(1);
        while Instant::now() < until {}
    };
    let mut sparse_events = || {
        for n in 0..u64::from(ROUND) {
            event!("evict", keys = n & 63, bytes = 4000 + (n & 1023));
            pace();
        }
    };
    let mut sparse_regions = || {
        for _ in 0..ROUND / 2 {
            let _guard = region!("parse");
            pace();
        }
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let _ = lookback::tokio::instrument(builder.worker_threads(2));
    let runtime = builder.build().expect("a runtime");
    let mut ping_pong = || {
        let (here, there) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let side = |wait: Arc<Notify>, wake: Arc<Notify>| async move {
            for _ in 0..ROUND {
                wait.notified().await;
                wake.notify_one();
            }
        };
        here.notify_one();
        let first = lookback::spawn_on(runtime.handle(), side(here.clone(), there.clone()));
        let second = lookback::spawn_on(runtime.handle(), side(there, here));
        lookback::block_on(&runtime, async { (first.await, second.await) }).0.expect("it ends");
    };
    let mut spawn_and_join = || {
        let joins = async {
            for n in 0..ROUND {
                let _ = lookback::spawn(async move { black_box(n) }).await;
            }
        };
        lookback::block_on(&runtime, async { lookback::spawn(joins).await }).expect("it ends");
    };
    println!();
    println!("{:<44} {:>9} {:>9}", "bytes an event", "arena", "file");
    for (name, work) in [
        ("event, two integers, back to back", &mut two_integers as &mut dyn FnMut()),
        ("event, two integers, 1 µs apart", &mut sparse_events),
        ("region, 1 µs long", &mut sparse_regions),
        ("tasks that wake each other in turn", &mut ping_pong),
        ("tasks spawned and joined", &mut spawn_and_join),
    ] {
        let recorder = Recorder::builder().max_bytes(64 << 20).start().expect("it is not running");
        work();
        let events = recorder.stats().recorded as f64;
        let snapshot = recorder.stop().expect("nobody is stuck");
        let file = snapshot.write_to(std::io::sink()).expect("a sink takes everything");
        println!(
            "{name:<44} {:>9.2} {:>9.2}",
            snapshot.bytes() as f64 / events,
            file as f64 / events
        );
    }
}
