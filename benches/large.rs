//! Large arenas: how long the start takes, until all of the memory is there, and the stop; how long a save
//! takes and how much memory beyond the arena; how soon the file's first event can be read. `cargo bench
//! --bench large`; `-- --large` adds 4 GiB, `-- --keep DIRECTORY` keeps the files.

use lookback::read::Trace;
use lookback::{OutsideArena, Recorder, event};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let is_large = arguments.iter().any(|argument| argument == "--large");
    let keep = arguments.iter().position(|argument| argument == "--keep");
    let keep = keep.and_then(|at| arguments.get(at + 1)).map(PathBuf::from);
    println!(
        "{:<10} {:>10} {:>12} {:>10} {:>12} {:>10} {:>10} {:>12} {:>10} {:>12} {:>9}",
        "max_bytes",
        "start ms",
        "processor ms",
        "all, ms",
        "events",
        "save s",
        "processor s",
        "beyond MiB",
        "stays MiB",
        "file MB",
        "first ms"
    );
    let mut sizes = vec![32, 1024];
    sizes.extend(is_large.then_some(4096));
    for mebibytes in sizes {
        measure(mebibytes, keep.as_ref());
    }
}

fn measure(mebibytes: usize, keep: Option<&PathBuf>) {
    let place = tempfile::tempdir().expect("there is a place");
    let (began, worked) = (Instant::now(), processor());
    let builder = Recorder::builder().max_bytes(mebibytes * MIB).window(Duration::from_secs(3600));
    let recorder = builder.snapshot_dir(place.path()).start().expect("a recorder starts");
    let (start, start_work) = (began.elapsed(), processor() - worked);
    let is_growing = || {
        let arena = OutsideArena::of_process(std::process::id()).expect("it is recorded");
        arena.header().expect("it can be read").growing.is_some()
    };
    while is_growing() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let all = began.elapsed();
    let mut number = 0_u64;
    // An event takes about nine bytes; fill it one and a half times.
    while number < (mebibytes * MIB / 6) as u64 {
        event!("load", number = number);
        number += 1;
    }
    let before = status("VmRSS:");
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (began, worked) = (Instant::now(), processor());
    let path = recorder.save("measured").expect("it is saved");
    let (save, save_work) = (began.elapsed(), processor() - worked);
    let [peak, stays] = ["VmHWM:", "VmRSS:"].map(|name| status(name).saturating_sub(before));
    drop(recorder);
    let file = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    let began = Instant::now();
    let trace = Trace::open(&path).expect("it can be read");
    let first = trace.events().next().map(|_| began.elapsed()).unwrap_or_default();
    let events: u64 = trace.generations().iter().map(|generation| generation.events).sum();
    println!(
        "{:<10} {:>10.1} {:>12.1} {:>10.0} {events:>12} {:>10.2} {:>10.2} {:>12.1} {:>10.1} {:>12.1} {:>9.1}",
        format!("{mebibytes} MiB"),
        start.as_secs_f64() * 1e3,
        start_work as f64 / 1e6,
        all.as_secs_f64() * 1e3,
        save.as_secs_f64(),
        save_work as f64 / 1e9,
        peak as f64 / MIB as f64,
        stays as f64 / MIB as f64,
        file as f64 / 1e6,
        first.as_secs_f64() * 1e3,
    );
    if let Some(keep) = keep {
        let name = format!("{mebibytes}.lbk");
        std::fs::copy(&path, keep.join(name)).expect("it is kept");
    }
}

/// How many nanoseconds this process has run.
fn processor() -> u64 {
    let schedstat =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("schedstat")).ok();
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(schedstat).filter_map(|line| line.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// This process's bytes according to the kernel; 0 if it does not say.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    number.unwrap_or_default() * 1024
}
