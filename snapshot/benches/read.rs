//! What reading and writing a file cost: megabytes and events a second, on one core.
//!
//! The records are those of a made-up service: eight threads that serve requests, each a region
//! with two regions inside, a typed event, a counter, and a message now and then; and those of a
//! service of tasks, whose workers poll, wake and go through spans. Times between
//! events vary as a service's do, so that they compress no better than real ones.

#[path = "../tests/build/mod.rs"]
mod build;
#[path = "tasks/mod.rs"]
mod tasks;

use build::{Gen, PERIOD, Val};
use lookback_snapshot::file::FileWriter;
use lookback_snapshot::wire::ValueType;
use lookback_snapshot::{Trace, validate};
use std::hint::black_box;
use std::time::{Duration, Instant};

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut generations: Vec<Gen> = Vec::new();
    for _ in 0..8 {
        let next = generations.last().map_or_else(|| Gen::new(1), Gen::next);
        generations.push(busy(next, 400_000));
    }
    println!("a service of threads: regions, typed events, counters, messages");
    let (events, records) = size(&generations);
    for level in [-5, -1, 1, 2, 3, 5] {
        let mut size = 0;
        let took = best(|| size = write(&generations, level).len());
        println!(
            "write, level {level:>2}: {:>6.0} MB/s of records, ratio {:.2}, {:.2} bytes an event",
            megabytes(records, took),
            records as f64 / size as f64,
            size as f64 / events as f64,
        );
    }
    read(&generations);
    println!("\na service of tasks: polls, wakes, spans, workers");
    let mut program = tasks::Program::default();
    let generations: Vec<_> = (0..8).map(|_| program.generation(400_000)).collect();
    read(&generations);
}

/// Events, and bytes of records.
fn size(generations: &[Gen]) -> (u64, usize) {
    let blocks = || generations.iter().flat_map(|g| &g.blocks);
    let events = blocks().map(|block| u64::from(block.events)).sum();
    let records = blocks().map(|block| block.records.len()).sum();
    let per_event = records as f64 / events as f64;
    println!("{events} events, {records} bytes of records, {per_event:.2} bytes an event");
    (events, records)
}

fn read(generations: &[Gen]) {
    let (events, records) = size(generations);
    let mut writer = FileWriter::new(Vec::new(), &build::metadata()).unwrap();
    for generation in generations {
        writer.generation(&mut generation.frame()).unwrap();
    }
    let file = writer.finish().unwrap();
    println!("{:.2} bytes of file an event", file.len() as f64 / events as f64);
    if let Ok(path) = std::env::var("LOOKBACK_BENCH_FILE") {
        std::fs::write(path, &file).unwrap();
    }
    let report = |what: &str, took: Duration| {
        println!(
            "{what}: {:>5.1} M events/s, {:>5.0} MB/s of records",
            events as f64 / took.as_secs_f64() / 1e6,
            megabytes(records, took),
        );
    };
    let trace = Trace::from_bytes(file.clone()).unwrap();
    report(
        "read, every event            ",
        best(|| {
            let (mut lent, mut count) = (trace.events(), 0);
            while let Some(next) = lent.lend() {
                count += u64::from(next.is_ok());
            }
            assert_eq!(count, events);
        }),
    );
    report(
        "read, every event, to keep   ",
        best(|| assert_eq!(trace.events().count() as u64, events)),
    );
    report(
        "read, every event with names ",
        best(|| {
            let (mut lent, mut length) = (trace.events(), 0);
            while let Some(next) = lent.lend() {
                let event = next.unwrap().event;
                length += event.name().len() + event.kind_name().len();
            }
            black_box(length);
        }),
    );
    report(
        "read, every value            ",
        best(|| {
            let (mut lent, mut count) = (trace.events(), 0);
            while let Some(next) = lent.lend() {
                count += next.unwrap().event.fields().count();
            }
            black_box(count);
        }),
    );
    assert_eq!(validate(&trace).first().map(ToString::to_string), None);
    report("validate                     ", best(|| assert_eq!(validate(&trace).len(), 0)));
    report(
        "count (generations)          ",
        best(|| {
            let trace = Trace::from_bytes(file.clone()).unwrap();
            assert_eq!(trace.generations().len(), 8);
        }),
    );
}

fn megabytes(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64() / 1e6
}

/// The best of five.
fn best(mut run: impl FnMut()) -> Duration {
    let once = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..5).map(once).min().unwrap_or_default()
}

fn write(generations: &[Gen], level: i32) -> Vec<u8> {
    let mut writer = FileWriter::with_level(Vec::new(), &build::metadata(), level).unwrap();
    for generation in generations {
        writer.generation(&mut generation.frame()).unwrap();
    }
    writer.finish().unwrap()
}

/// A generation in which eight threads are busy.
fn busy(mut g: Gen, events: u64) -> Gen {
    const THREADS: u32 = 8;
    let mut random = g.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut dice = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut ids = None;
    for slot in 1..=THREADS {
        let mut time = 10;
        g.block(slot, u64::from(slot), time);
        g.thread_status(slot, u64::from(slot), &format!("worker-{slot}"));
        let (request, query, render, served, depth, cache) = *ids.get_or_insert_with(|| {
            (
                g.site(slot, "request"),
                g.site(slot, "query"),
                g.site(slot, "render"),
                g.schema(
                    slot,
                    "served",
                    &[("status", ValueType::Unsigned), ("bytes", ValueType::Unsigned)],
                ),
                g.site(slot, "queue_depth"),
                g.site(slot, "cache"),
            )
        });
        // A lean estimate of ticks between events, so that a thread's share fits the period.
        let step = PERIOD * u64::from(THREADS) / events / 2;
        let mut after = |dice: &mut dyn FnMut() -> u64| {
            time += 1 + (dice() % step) * (1 + u64::from(dice().is_multiple_of(16)) * 8);
            time.min(PERIOD)
        };
        let mut written = 0;
        while written < events / u64::from(THREADS) {
            if g.last(slot).records.len() > 60_000 {
                let now = after(&mut dice);
                g.block(slot, u64::from(slot), now);
            }
            g.region_begin(slot, after(&mut dice), request);
            g.counter(slot, after(&mut dice), depth, &Val::U(dice() % 50));
            g.region_begin(slot, after(&mut dice), query).region_end(slot, after(&mut dice));
            g.region_begin(slot, after(&mut dice), render).region_end(slot, after(&mut dice));
            let status = if dice().is_multiple_of(20) { 404 } else { 200 };
            g.event(slot, after(&mut dice), served, &[Val::U(status), Val::U(dice() % 20_000)]);
            if dice().is_multiple_of(16) {
                let text = format!("evicted {} keys of shard {}", dice() % 1000, dice() % 32);
                g.log(slot, after(&mut dice), cache, 3, &text);
                written += 1;
            }
            g.region_end(slot, after(&mut dice));
            written += 8;
        }
    }
    g.end(&[]);
    g
}
