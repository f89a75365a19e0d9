//! The memory of a snapshot beyond the arena. A save streams one generation at a time: at most a quarter of
//! the arena, plus compressing and writing. A kept snapshot is a copy of the window. Neither leaves anything
//! allocated.
#![cfg(target_os = "linux")]

mod common;

use common::{alone, long};
use lookback::{OutsideArena, Recorder};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// What a save may take at any size of the arena: the compressor, the notes of blocks, the saver's stack.
const BESIDES: u64 = 4 * MIB;
/// What may stay: small pieces that allocators keep.
const STAYS: u64 = 2 * MIB;

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Records some hundred bytes, most of which do not compress.
fn write(random: &mut u64) {
    let mut next = || {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *random
    };
    let (a, b, c, d, e, f) = (next(), next(), next(), next(), next(), next());
    lookback::event!("load", a = a, b = b, c = c, d = d, e = e, f = f);
}

/// Fills an arena of this many bytes, one and a half times.
fn fill(bytes: u64) {
    let mut random = 1;
    (0..bytes / 32).for_each(|_| write(&mut random));
}

/// Runs it, and returns how much additional memory it took, and how much of that stayed.
fn taken_by(work: impl FnOnce()) -> Option<[u64; 2]> {
    let before = status("VmRSS:");
    if std::fs::write("/proc/self/clear_refs", "5").is_err() {
        println!("::skipped: the kernel does not let the peak be measured anew");
        return None;
    }
    work();
    Some(["VmHWM:", "VmRSS:"].map(|name| status(name).saturating_sub(before)))
}

/// How a snapshot gets to its file.
#[derive(Clone, Copy, Debug)]
enum How {
    /// By the recorder.
    Saved,
    /// As the command does it, from outside.
    FromOutside,
    /// Copied first.
    Kept,
}

impl How {
    fn save(self, recorder: &Recorder, path: &Path) {
        match self {
            Self::Saved => drop(recorder.save("measured").unwrap()),
            Self::FromOutside => {
                let arena = OutsideArena::of_process(std::process::id()).unwrap();
                let file = std::fs::File::create(path).unwrap();
                assert!(arena.write_snapshot("measured", "outside", file).unwrap() > 0);
            }
            Self::Kept => recorder.snapshot().unwrap().save(path).unwrap(),
        }
    }

    /// What it may take for an arena of this many bytes.
    fn budget(self, bytes: u64) -> u64 {
        match self {
            Self::Saved | Self::FromOutside => bytes / 4 + BESIDES,
            Self::Kept => bytes + BESIDES,
        }
    }
}

fn measured(how: How, mebibytes: u64, is_busy: bool) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.lbk");
    let bytes = mebibytes * MIB;
    let recorder = Recorder::builder()
        .max_bytes(bytes as usize)
        .window(Duration::from_secs(600))
        .generation_period(Duration::from_secs(60))
        .snapshot_dir(directory.path())
        .start()
        .unwrap();
    write(&mut 1);
    // Allocated once.
    how.save(&recorder, &path);
    fill(bytes);
    let over = AtomicBool::new(false);
    let taken = std::thread::scope(|scope| {
        if is_busy {
            scope.spawn(|| {
                let mut random = 2;
                while !over.load(Ordering::Relaxed) {
                    write(&mut random);
                }
            });
        }
        let taken = taken_by(|| how.save(&recorder, &path));
        over.store(true, Ordering::Relaxed);
        taken
    });
    let Some([peak, stays]) = taken else { return };
    let in_mib = |bytes: u64| bytes as f64 / MIB as f64;
    println!(
        "::{how:?}, {mebibytes} MiB{}: {:.1} MiB at most beyond the arena ({:.2} of it), {:.1} MiB stay",
        if is_busy { ", beside a writer" } else { "" },
        in_mib(peak),
        1.0 + peak as f64 / bytes as f64,
        in_mib(stays),
    );
    assert!(recorder.stats().bytes > bytes / 2, "the window is full");
    assert!(peak <= how.budget(bytes), "{peak}");
    assert!(stays <= STAYS, "{stays}");
}

#[test]
fn a_save_takes_a_quarter_of_the_arena_and_a_little() {
    alone("a_save_takes_a_quarter_of_the_arena_and_a_little", || {
        measured(How::Saved, 1, false);
        measured(How::Saved, 8, false);
        measured(How::Saved, 32, false);
        if long() {
            measured(How::Saved, 128, false);
        }
    });
}

#[test]
fn a_save_from_outside_takes_no_more() {
    alone("a_save_from_outside_takes_no_more", || measured(How::FromOutside, 32, false));
}

#[test]
fn a_save_beside_a_writer_takes_no_more() {
    alone("a_save_beside_a_writer_takes_no_more", || measured(How::Saved, 32, true));
}

#[test]
fn a_snapshot_that_is_kept_takes_its_copy_and_little_more() {
    alone("a_snapshot_that_is_kept_takes_its_copy_and_little_more", || {
        measured(How::Kept, 16, false)
    });
}
