//! How long single events take at full speed, in arenas of 1 to 256 MiB, while the collector runs, while it
//! is held up for 5 s at a time, and while it never runs, so that writers end generations themselves. `cargo
//! bench --bench latency --features fault_injection`; `-- --quick` takes a tenth of the time.
//!
//! Two threads write, one of which reads the clock between its events. The same two without a recorder,
//! twice, show what the machine alone does. For a single writer, the benchmark prints the time of an event
//! that ends a generation: the median of the slowest events, as many as there were generations.

use lookback::fault_injection::{Point, hold};
use lookback::{Recorder, event};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// Shorter times are distinguished by the nanosecond.
const FINE: usize = 100_000;

/// How long events took.
struct Times {
    fine: Vec<u64>,
    longer: Vec<u64>,
}

impl Times {
    fn new() -> Self {
        Self { fine: vec![0; FINE], longer: Vec::with_capacity(1 << 20) }
    }

    #[inline]
    fn add(&mut self, nanos: u64) {
        match self.fine.get_mut(nanos as usize) {
            Some(count) => *count += 1,
            None => self.longer.push(nanos),
        }
    }

    fn count(&self) -> u64 {
        self.fine.iter().sum::<u64>() + self.longer.len() as u64
    }

    /// The time that all but `slower` events did not exceed.
    fn but(&mut self, slower: u64) -> u64 {
        self.longer.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(time) = self.longer.get(slower as usize) {
            return *time;
        }
        let mut left = slower - self.longer.len() as u64;
        for (nanos, count) in self.fine.iter().enumerate().rev() {
            if *count > left {
                return nanos as u64;
            }
            left -= count;
        }
        0
    }
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let time = Duration::from_millis(if is_quick { 600 } else { 6000 });
    println!(
        "{:<36} {:>10} {:>8} {:>8} {:>8} {:>8} {:>10} {:>12}",
        "µs", "M events/s", "p50", "p99", "p99.9", "p99.99", "longest", "generations"
    );
    for _ in 0..2 {
        row("nothing recorded", None, &mut measure(time, true), time);
    }
    for mebibytes in [1, 8, 32, 256] {
        for (what, held) in [
            ("the collector comes", Duration::ZERO),
            ("held up for 5 s", Duration::from_secs(5)),
            ("it never comes", Duration::MAX),
        ] {
            let (recorder, before) = start(mebibytes, held);
            let mut times = measure(time, true);
            let generations = recorder.stats().generation - before;
            row(&format!("{mebibytes} MiB, {what}"), Some(generations), &mut times, time);
            hold(Point::Advance, Duration::ZERO, 1);
        }
    }
    // In the smallest arena there are so many of them that what the machine does to a few does not matter.
    let (recorder, before) = start(1, Duration::MAX);
    let mut times = measure(time, false);
    let generations = recorder.stats().generation - before;
    let micros = times.but(generations / 2) as f64 / 1e3;
    println!(
        "\nan event that ends a generation, of a writer alone: {micros:.2} µs, of {generations}"
    );
    hold(Point::Advance, Duration::ZERO, 1);
}

fn start(mebibytes: usize, held: Duration) -> (Recorder, u64) {
    let builder = Recorder::builder().max_bytes(mebibytes * MIB).window(Duration::from_secs(600));
    let recorder = builder.start().expect("a recorder starts");
    hold(Point::Advance, held, 1);
    let before = recorder.stats().generation;
    (recorder, before)
}

/// The times of one thread's events, with another thread's beside it or alone.
fn measure(time: Duration, beside: bool) -> Times {
    let over = AtomicBool::new(false);
    let mut times = Times::new();
    std::thread::scope(|scope| {
        if beside {
            scope.spawn(|| {
                let mut number = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    event!("beside", number = number);
                    number += 1;
                }
            });
        }
        let (began, mut number) = (Instant::now(), 0_u64);
        let mut before = began;
        while before - began < time {
            event!("measured", number = number);
            number += 1;
            let now = Instant::now();
            times.add((now - before).as_nanos() as u64);
            before = now;
        }
        over.store(true, Ordering::Relaxed);
    });
    times
}

fn row(what: &str, generations: Option<u64>, times: &mut Times, time: Duration) {
    let count = times.count();
    let mut micros = |part: u64| times.but(count / part) as f64 / 1e3;
    let (p50, p99, p999, p9999) = (micros(2), micros(100), micros(1000), micros(10_000));
    let longest = times.but(0) as f64 / 1e3;
    let rate = count as f64 / time.as_secs_f64() / 1e6;
    let generations = generations.map_or(String::new(), |count| count.to_string());
    println!(
        "{what:<36} {rate:>10.1} {p50:>8.3} {p99:>8.3} {p999:>8.2} {p9999:>8.2} {longest:>10.1} {generations:>12}"
    );
}
