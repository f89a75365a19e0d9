//! What stacks cost: starting with and without them, the tables, a panic that is caught, and the bytes of one. `cargo bench
//! --bench stacks`; with a large library in `LD_PRELOAD`, its tables are among those.
//!
//! Recorders with and without stacks take turns. Each number is a median.

use lookback::Recorder;
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
/// The recorder takes so many stacks of panics a second.
const PANICS: u32 = 10;

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut starts = [Vec::new(), Vec::new()];
    let mut panics = [Vec::new(), Vec::new()];
    let mut tables = None;
    for _ in 0..ROUNDS {
        for stacks in [false, true] {
            let began = Instant::now();
            let recorder = Recorder::builder().stacks(stacks).start().unwrap();
            starts[usize::from(stacks)].push(began.elapsed());
            while stacks && recorder.stats().unwind_tables.modules == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            tables = stacks.then(|| recorder.stats().unwind_tables).or(tables);
            // So that none of the last second's count.
            std::thread::sleep(Duration::from_millis(1100));
            let began = Instant::now();
            for _ in 0..PANICS {
                let _ = std::panic::catch_unwind(|| deep(20));
            }
            panics[usize::from(stacks)].push(began.elapsed() / PANICS);
            recorder.stop().unwrap();
        }
    }
    let [without, with] = starts.map(median);
    println!("start: {without:?} without stacks, {with:?} with stacks");
    let [without, with] = panics.map(median);
    println!(
        "a panic that is caught, 20 frames deep: {without:?} without, {with:?} with its stack"
    );
    let tables = tables.expect("they were made");
    println!(
        "tables of {} files: {} kB, made once, in the background, in {:?}",
        tables.modules,
        tables.bytes / 1000,
        tables.made_in
    );
    bytes_of_stacks();
}

/// How much longer the arena's events and a saved snapshot are by the stacks of events, each of which has one.
fn bytes_of_stacks() {
    const EVENTS: u32 = 50_000;
    const DEPTHS: u32 = 100;
    let lengths = [false, true].map(|stacks| {
        let builder = Recorder::builder().stacks(stacks).max_bytes(32 << 20);
        let recorder = builder.window(Duration::from_secs(600)).start().unwrap();
        while stacks && recorder.stats().unwind_tables.modules == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let before = recorder.stats().bytes;
        for event in 0..EVENTS {
            with_stack(event % DEPTHS);
        }
        let recorded = recorder.stats().bytes - before;
        let file = recorder.snapshot().unwrap();
        recorder.stop().unwrap();
        (recorded, file.write_to(std::io::sink()).unwrap())
    });
    let [(recorded, file), (recorded_with, file_with)] = lengths;
    let each = |with: u64, without: u64| with.saturating_sub(without) as f64 / f64::from(EVENTS);
    println!(
        "an event's stack, of {DEPTHS} different ones: {:.2} bytes in the arena, {:.2} in the file",
        each(recorded_with, recorded),
        each(file_with, file)
    );
}

#[inline(never)]
fn with_stack(depth: u32) -> u32 {
    if depth == 0 {
        lookback::event!(stack: u32::MAX, "somewhere");
        return 1;
    }
    with_stack(depth - 1) + std::hint::black_box(depth)
}

#[inline(never)]
fn deep(depth: u32) -> u32 {
    if depth == 0 {
        panic!("to see what it costs");
    }
    deep(depth - 1) + std::hint::black_box(depth)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
