//! However a process ends, its last seconds can be read.
//!
//! A recorded service runs as a child, under full load, and is ended at a random moment in every way
//! that a process can end. It tells the number of the last event that each of its writers has emitted;
//! afterwards that event is in what was recovered, and so is every one before it: with a black box,
//! under `lookback run`, and with both. Only where the machine let a writer wait for so long that others have
//! filled the arena since, its event is no more; how often that was is printed.
//!
//! `LOOKBACK_TEST_KILLS=N` says how many are ended (200 in an optimised build, 9 in another); the seed of
//! a run is printed, and `LOOKBACK_TEST_SEED=N` repeats one. `LOOKBACK_TEST_BUSY=N` has N threads beside each
//! service that do nothing but take cores away, as on a machine that is overcommitted, where the collector seldom
//! gets one.

#[path = "../command/mod.rs"]
mod command;
mod ends;
mod recovered;
mod service;

use ends::End;
use recovered::Recovered;
use service::Child;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where the service's last seconds are to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeper {
    BlackBox,
    Run,
    Both,
}

impl Keeper {
    const ALL: [Self; 3] = [Self::BlackBox, Self::Run, Self::Both];

    fn has_box(self) -> bool {
        self != Self::Run
    }

    fn has_run(self) -> bool {
        self != Self::BlackBox
    }
}

/// A sequence of numbers that is as good as random: <https://prng.di.unimi.it/splitmix64.c>.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }
}

/// Threads of this process that do nothing but take cores away, until this is dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start(threads: u64) -> Self {
        let go_on = Arc::new(AtomicBool::new(true));
        for _ in 0..threads {
            let go_on = Arc::clone(&go_on);
            std::thread::spawn(move || {
                while go_on.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(go_on)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn the_last_event_of_every_writer_outlives_every_end() {
    if service::is_child() {
        return service::run();
    }
    let usual = if cfg!(debug_assertions) { 9 } else { 200 };
    let kills = number_of("LOOKBACK_TEST_KILLS").unwrap_or(usual);
    let seed = number_of("LOOKBACK_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let busy = number_of("LOOKBACK_TEST_BUSY").unwrap_or(0);
    println!("LOOKBACK_TEST_SEED={seed} LOOKBACK_TEST_KILLS={kills} LOOKBACK_TEST_BUSY={busy}");
    let mut random = Random(seed);
    let (mut told, mut reclaimed, mut events, mut by_kernel) = (0, 0, 0, 0);
    for kill in 0..kills {
        let end = End::ALL[kill as usize % End::ALL.len()];
        // Each end meets each keeper in turn, and few ends meet all of them.
        let turn = kill as usize / End::ALL.len();
        let keeper = Keeper::ALL[(kill as usize + turn) % Keeper::ALL.len()];
        // Who is one of many gets a core now and then.
        let moment = Duration::from_micros(random.below(60_000) * if busy > 0 { 10 } else { 1 });
        let what = format!("kill {kill} (seed {seed}): {end:?}, {keeper:?}, after {moment:?}");
        let directory = service::directory();
        let busy = Busy::start(busy);
        let child = Child::start(directory.path(), keeper.has_box(), keeper.has_run(), end);
        std::thread::sleep(moment);
        end.bring_about(&child);
        let last = child.last(&what);
        drop(busy);
        let ran_out = child.wait();
        by_kernel += u32::from(ran_out);
        assert!(
            last.iter().all(|last| last.number > 0),
            "{what}: a writer had not begun: {last:?}"
        );
        for recovered in recover(directory.path(), keeper, &what) {
            let gone = recovered.holds(&last, &what);
            told += last.len() - gone;
            reclaimed += gone;
            events += recovered.events();
        }
        if keeper.has_box() && end == End::Kill {
            cut_the_box(directory.path(), &mut random, &what);
        }
    }
    println!("the kernel ended {by_kernel} because the memory of their group had run out");
    println!(
        "{kills} processes were ended: {told} last events were told, and 0 are lost; {events} read; \
         {reclaimed} more were older than all that the arena had room for"
    );
}

/// What each keeper has.
fn recover(directory: &Path, keeper: Keeper, what: &str) -> Vec<Recovered> {
    let mut all = Vec::new();
    if keeper.has_box() {
        all.push(Recovered::of_box(&directory.join(service::BOX), directory, what));
    }
    if keeper.has_run() {
        all.push(Recovered::of_run(&directory.join(service::SAVED), what));
    }
    all
}

/// A power cut: the box ends somewhere. What there is of it can be read, and what cannot is said in words.
fn cut_the_box(directory: &Path, random: &mut Random, what: &str) {
    let path = directory.join(service::BOX);
    let whole = std::fs::metadata(&path).unwrap().len();
    let cut = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for length in [whole - 1 - random.below(whole / 2), random.below(whole / 2), 100, 0] {
        cut.set_len(length).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        if let Ok(mut recovered) = lookback::read::recover::recover(&bytes) {
            let mut file = Vec::new();
            recovered.write_to(&mut file, "cut", "test").unwrap();
            let trace = lookback::Trace::from_bytes(file).expect("it can be read");
            let read = trace.events().filter(Result::is_ok).count() as u64;
            // Of a block that is missing, others may have needed what it defined.
            assert!(read > 0 || length < whole / 4, "{what}: cut at {length}, and nothing is left");
        }
    }
}
