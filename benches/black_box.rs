//! What a black box costs compared with the anonymous arena, event for event, and how often write-back holds
//! an event up when the box is on a disk. `cargo bench --bench black_box`; `LOOKBACK_BENCH_DISK=DIR` names a
//! directory on a disk, by default this one.
//!
//! A process has one recorder, so arenas take turns, a tenth of a second each. A second anonymous one shows
//! the noise.

mod common;

use common::{Cost, header, quantiles, row};
use lookback::{Recorder, event};
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TURNS: usize = 15;
const ROUNDS: usize = 60;
const ROUND: u32 = 10_000;
const BYTES: usize = 32 << 20;
/// How long to watch for events that are held up.
const WATCH: Duration = Duration::from_secs(6);

fn main() {
    let memory = Directory::new(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" });
    let disk =
        std::env::var_os("LOOKBACK_BENCH_DISK").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let disk = Directory::new(&disk);
    let places: [(&str, Option<PathBuf>); 4] = [
        ("A: the anonymous arena", None),
        ("A: the anonymous arena, again", None),
        ("B: a black box in memory (tmpfs)", Some(memory.0.join("bench.box"))),
        ("B: a black box on a disk", Some(disk.0.join("bench.box"))),
    ];
    let mut times: [Vec<f64>; 4] = Default::default();
    for turn in 0..TURNS {
        // Each is first, and last, equally often.
        for index in 0..places.len() {
            let index = (index + turn) % places.len();
            times[index].extend(turn_of(places[index].1.as_deref()));
        }
    }
    println!("an event with two integers, in a box and without; ratios are to the first row");
    header();
    let costs = times.each_mut().map(|times| Cost::of(times));
    for ((name, _), cost) in places.iter().zip(costs) {
        row(name, cost, costs[0]);
    }

    println!("\nevents that took longer than 100 µs, in {WATCH:?} of one writer");
    println!("{:<52} {:>8} {:>12} {:>12}", "", "number", "longest, ms", "in all, ms");
    for (name, place, busy) in [
        ("anonymous, nothing else", &places[0].1, false),
        ("in memory, nothing else", &places[2].1, false),
        ("on a disk, nothing else", &places[3].1, false),
        ("anonymous, and files written and synced beside it", &places[0].1, true),
        ("in memory, and files written and synced beside it", &places[2].1, true),
        ("on a disk, and files written and synced beside it", &places[3].1, true),
    ] {
        let mut held = watch(place.as_deref(), busy.then_some(disk.0.as_path()));
        let in_all = held.iter().fold(0.0, |sum, held| sum + held);
        let longest = if held.is_empty() { 0.0 } else { quantiles(&mut held, [1.0])[0] };
        println!("{name:<52} {:>8} {longest:>12.2} {in_all:>12.2}", held.len());
    }
}

/// A directory for this benchmark, which this deletes when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(parent: impl AsRef<Path>) -> Self {
        let path = parent.as_ref().join(format!("lookback-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the directory can be written to");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(place: Option<&Path>) -> Recorder {
    let mut builder = Recorder::builder().max_bytes(BYTES);
    if let Some(path) = place {
        builder = builder.black_box(path);
    }
    builder.start().expect("a recorder starts")
}

/// How long an event takes, in nanoseconds, from many short rounds.
fn turn_of(place: Option<&Path>) -> Vec<f64> {
    let recorder = start(place);
    let mut times = Vec::new();
    for round in 0..ROUNDS + 3 {
        let began = Instant::now();
        for n in 0..u64::from(ROUND) {
            event!("evict", keys = black_box(n & 63), bytes = black_box(4000 + (n & 1023)));
        }
        if round >= 3 {
            times.push(began.elapsed().as_nanos() as f64 / f64::from(ROUND));
        }
    }
    recorder.stop().expect("nobody is stuck");
    times
}

/// The durations of slow events, in milliseconds.
fn watch(place: Option<&Path>, busy: Option<&Path>) -> Vec<f64> {
    let recorder = start(place);
    let over = AtomicBool::new(false);
    let mut held = Vec::new();
    std::thread::scope(|scope| {
        if let Some(directory) = busy {
            scope.spawn(|| write_and_sync(directory, &over));
        }
        let began = Instant::now();
        let mut last = began;
        while began.elapsed() < WATCH {
            // As often as a busy service: about seven million events a second.
            for n in 0..128_u64 {
                event!("evict", keys = black_box(n), bytes = black_box(4000));
            }
            let now = Instant::now();
            let took = now - last;
            if took > Duration::from_micros(100) {
                held.push(took.as_secs_f64() * 1e3);
            }
            last = Instant::now();
            while last - now < Duration::from_micros(15) {
                last = Instant::now();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    recorder.stop().expect("nobody is stuck");
    held
}

fn write_and_sync(directory: &Path, over: &AtomicBool) {
    let path = directory.join("other");
    let bytes = vec![7_u8; 4 << 20];
    while !over.load(Ordering::Relaxed) {
        let mut file = File::create(&path).expect("a file can be made");
        file.write_all(&bytes).expect("there is room");
        file.sync_all().expect("it can be synced");
    }
}
