//! What a snapshot takes of memory beyond the arena: its copy of the window, and next to nothing for
//! compressing and writing it; and nothing of either stays.
#![cfg(target_os = "linux")]

mod common;

use common::{alone, wait_for};
use lookback::Recorder;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// What a save may take beyond its copy: the compressor, the notes of blocks, stacks of threads.
const BESIDES: u64 = 4 * MIB;
/// What may stay: what allocators keep of small pieces.
const STAYS: u64 = 2 * MIB;

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Fills the arena.
fn fill(recorder: &Recorder, bytes: u64) {
    let before = recorder.stats().recorded;
    write(bytes);
    assert!(recorder.stats().recorded > before);
}

fn write(bytes: u64) {
    let mut random = 1_u64;
    // An event of this kind takes no less.
    for number in 0..bytes / 8 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        lookback::event!("load", number = number, random = random >> 24);
    }
}

/// Saves, and says how much memory that took beyond what there was, how much of it stayed, and how large
/// the copy was.
fn save(recorder: &Recorder, path: &std::path::Path) -> Option<[u64; 3]> {
    let before = status("VmRSS:");
    if std::fs::write("/proc/self/clear_refs", "5").is_err() {
        println!("::skipped: the kernel does not let the peak be measured anew");
        return None;
    }
    let snapshot = recorder.snapshot().unwrap();
    let copied = snapshot.bytes() as u64;
    snapshot.save(path).unwrap();
    drop(snapshot);
    let [peak, stays] = ["VmHWM:", "VmRSS:"].map(|name| status(name).saturating_sub(before));
    Some([peak, stays, copied])
}

fn measured(mebibytes: u64, in_one_generation: bool) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lbk");
    let recorder = Recorder::builder()
        .max_bytes((mebibytes * MIB) as usize)
        .window(Duration::from_secs(600))
        .generation_period(Duration::from_secs(60))
        .start()
        .unwrap();
    lookback::event!("load", number = 0_u64, random = 0_u64);
    // What is allocated once.
    save(&recorder, &path);
    if in_one_generation {
        recorder.while_locked(|| write(mebibytes * MIB));
        assert!(wait_for(|| recorder.advance()));
    } else {
        fill(&recorder, 2 * mebibytes * MIB);
    }
    let Some([peak, stays, copied]) = save(&recorder, &path) else { return };
    let in_mib = |bytes: u64| bytes as f64 / MIB as f64;
    println!(
        "::{mebibytes} MiB{}: {:.1} MiB copied, {:.1} MiB at most beyond the arena, {:.1} MiB stay",
        if in_one_generation { " in one generation" } else { "" },
        in_mib(copied),
        in_mib(peak),
        in_mib(stays),
    );
    assert!(copied > mebibytes * MIB / 2, "the window is full");
    assert!(peak <= copied + BESIDES, "{peak} for a copy of {copied}");
    assert!(stays <= STAYS, "{stays}");
}

#[test]
fn a_save_takes_its_copy_and_little_more() {
    alone("a_save_takes_its_copy_and_little_more", || measured(8, false));
}

#[test]
fn a_large_save_takes_its_copy_and_little_more() {
    alone("a_large_save_takes_its_copy_and_little_more", || measured(64, false));
}

#[test]
fn one_generation_that_holds_nearly_all_takes_no_more() {
    alone("one_generation_that_holds_nearly_all_takes_no_more", || measured(32, true));
}
