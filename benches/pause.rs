//! The longest pause of a writer while snapshots are taken 20 times a second, and without any, twice, to show
//! the noise. `cargo bench --bench pause`.
//!
//! A pause is the time between two events of a thread that does nothing else. What the scheduler takes away
//! shows equally in every phase; what recording adds shows in the difference.

mod common;

use common::quantiles;
use lookback::{Recorder, event};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PHASE: Duration = Duration::from_millis(1500);
const ROUNDS: usize = 5;

fn main() {
    let recorder = Recorder::builder().max_bytes(32 << 20).start().expect("a recorder starts");
    let mut phases = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        phases[0].push(phase(|| event!("tick", n = 1_u64), || {}));
        phases[1].push(phase(|| event!("tick", n = 1_u64), || {}));
        phases[2].push(phase(
            || event!("tick", n = 1_u64),
            || drop(recorder.snapshot().expect("nobody is stuck")),
        ));
        phases[3].push(phase(|| (), || {}));
    }
    println!("pauses of one writer, µs; the median of {ROUNDS} phases of {PHASE:?}");
    println!("{:<44} {:>10} {:>10} {:>10}", "", "p99.99", "p99.999", "longest");
    for (name, phases) in [
        ("A: no snapshots", &phases[0]),
        ("A: no snapshots, again", &phases[1]),
        ("B: 20 snapshots a second", &phases[2]),
        ("the loop alone, nothing recorded", &phases[3]),
    ] {
        let column = |index: usize| {
            let mut values: Vec<_> = phases.iter().map(|phase| phase[index]).collect();
            quantiles(&mut values, [0.5])[0]
        };
        println!("{name:<44} {:>10.1} {:>10.1} {:>10.1}", column(0), column(1), column(2));
    }
    let stats = recorder.stats();
    println!(
        "recorded {}, lost {}, {} snapshots",
        stats.recorded,
        stats.lost_in_all(),
        stats.snapshots.count
    );
}

/// Runs a writer for a while, and `meanwhile` 20 times a second.
fn phase(work: impl Fn() + Sync, meanwhile: impl Fn()) -> [f64; 3] {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut pauses = vec![0_u32; 1 << 20];
            let (mut count, mut longest) = (0_u64, 0_u64);
            let mut last = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                work();
                let now = Instant::now();
                let pause = (now - last).as_nanos() as u64;
                last = now;
                count += 1;
                longest = longest.max(pause);
                let index = (pause / 10).min(pauses.len() as u64 - 1) as usize;
                pauses[index] += 1;
            }
            let at = |quantile: f64| {
                let mut left = (count as f64 * (1.0 - quantile)) as u64;
                for (index, number) in pauses.iter().enumerate().rev() {
                    if u64::from(*number) > left {
                        return index as f64 / 100.0;
                    }
                    left -= u64::from(*number);
                }
                0.0
            };
            [at(0.9999), at(0.99999), longest as f64 / 1e3]
        });
        let began = Instant::now();
        while began.elapsed() < PHASE {
            meanwhile();
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends")
    })
}
