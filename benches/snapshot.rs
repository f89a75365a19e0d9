//! How long a snapshot takes, depending on the size of the window: the copy, and the compression on one core;
//! and how much memory a save takes beyond the arena, and how much of it stays. `cargo bench --bench
//! snapshot`.

mod common;

use common::quantiles;
use lookback::{Recorder, counter, event, log, region};
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;

fn main() {
    println!(
        "{:<14} {:>10} {:>10} {:>10} {:>12} {:>12} {:>10} {:>12} {:>10}",
        "max_bytes",
        "copied MB",
        "copy ms",
        "GB/s",
        "compress ms",
        "MB/s",
        "file MB",
        "peak beyond",
        "stays MB"
    );
    for mebibytes in [1, 8, 32, 64, 256] {
        window(mebibytes);
    }
}

/// Work that looks like a service's: regions of differing length, typed events, logs, counters.
fn fill(mut until: impl FnMut() -> bool) {
    let mut random = 1_u64;
    while !until() {
        for n in 0..200_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let _request = region!("request");
            for _ in 0..(random >> 58) {
                std::hint::spin_loop();
            }
            event!("lookup", key = random >> 44, hit = random >> 63 == 1);
            let _inner = region!("render");
            if n % 8 == 0 {
                log!("cache", "evicted {} of {n}", random >> 52);
                counter!("queue_depth", random >> 60);
            }
        }
    }
}

fn window(mebibytes: usize) {
    let recorder = Recorder::builder()
        .max_bytes(mebibytes << 20)
        .window(Duration::from_secs(3600))
        .start()
        .expect("a recorder starts");
    // Twice around, so that the window is as full as it gets.
    let (capacity, mut written) = ((mebibytes as u64) << 20, 0);
    while written < 2 * capacity {
        let before = recorder.stats().recorded;
        let mut rounds = 0;
        fill(|| {
            rounds += 1;
            rounds > 50
        });
        written += (recorder.stats().recorded - before) * 5;
    }
    let (mut copies, mut compressions, mut bytes, mut file) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let snapshot = recorder.snapshot().expect("nobody is stuck");
        copies.push(began.elapsed().as_secs_f64());
        bytes = snapshot.bytes();
        let began = Instant::now();
        file = snapshot.write_to(std::io::sink()).expect("a sink takes everything");
        compressions.push(began.elapsed().as_secs_f64());
    }
    let before = status("VmRSS:");
    // Reset the peak here, if the kernel can do that.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let saved = recorder.snapshot().and_then(|snapshot| snapshot.write_to(std::io::sink()));
    saved.expect("a sink takes everything");
    let [peak, stays] = ["VmHWM:", "VmRSS:"].map(|name| status(name).saturating_sub(before));
    let [copy] = quantiles(&mut copies, [0.5]);
    let [compress] = quantiles(&mut compressions, [0.5]);
    let megabytes = bytes as f64 / 1e6;
    println!(
        "{:<14} {megabytes:>10.1} {:>10.2} {:>10.2} {:>12.1} {:>12.0} {:>10.2} {:>12.1} {:>10.1}",
        format!("{mebibytes} MiB"),
        copy * 1e3,
        megabytes / 1e3 / copy,
        compress * 1e3,
        megabytes / compress,
        file as f64 / 1e6,
        peak as f64 / 1e6,
        stays as f64 / 1e6,
    );
}

/// This process's bytes according to the kernel; 0 if it does not say.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    number.unwrap_or_default() * 1024
}
