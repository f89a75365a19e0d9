//! However a process ends, its last seconds can be read.
//!
//! A recorded service runs as a child under full load and is ended at a random moment, in every way in which
//! a process can end. It reports the number of the last event that each of its writers has emitted.
//! Afterwards, the recovered trace must have that event and every one before it: with a black box, under
//! `lookback run`, and with both. Only if the machine held a writer up for so long that others have filled
//! the arena since may its event be gone; how often that happened is printed.
//!
//! `LOOKBACK_TEST_KILLS=N` sets how many services are ended (200 in an optimised build, 9 otherwise). The
//! seed of a run is printed, and `LOOKBACK_TEST_SEED=N` repeats one. `LOOKBACK_TEST_BUSY=N` runs N threads
//! beside each service that only take cores away, as on an overcommitted machine, where the collector seldom
//! gets one. `LOOKBACK_TEST_AT_ONCE=N` runs N services beside each other: each has four threads that always
//! have something to do, so ten of them overcommit two cores twenty times.

#[path = "../command/mod.rs"]
mod command;
mod ends;
mod recovered;
mod service;

use ends::End;
use recovered::Recovered;
use service::Child;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where to find the service's last seconds.
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

/// A pseudo-random sequence of numbers: <https://prng.di.unimi.it/splitmix64.c>.
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

/// Threads of this process that only take cores away, until this is dropped.
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
    let at_once = number_of("LOOKBACK_TEST_AT_ONCE").unwrap_or(1).max(1);
    println!(
        "LOOKBACK_TEST_SEED={seed} LOOKBACK_TEST_KILLS={kills} LOOKBACK_TEST_BUSY={busy} \
         LOOKBACK_TEST_AT_ONCE={at_once}"
    );
    let next = AtomicU64::new(0);
    let found = Mutex::new(Found::default());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let kill = next.fetch_add(1, Ordering::Relaxed);
                    if kill >= kills {
                        break;
                    }
                    let one = end_one(kill, seed, busy, busy > 0 || at_once > 1);
                    let mut found = found.lock().unwrap();
                    found.add(&one);
                    if found.ended % 100 == 0 {
                        println!("{} of {kills}", found.ended);
                    }
                }
            });
        }
    });
    let Found { told, reclaimed, events, by_kernel, .. } = found.into_inner().unwrap();
    println!("the kernel ended {by_kernel} because the memory of their group had run out");
    println!(
        "{kills} processes were ended: {told} last events were told, and 0 are lost; {events} read; \
         {reclaimed} more were older than all that the arena had room for"
    );
}

/// The results for the processes that were ended.
#[derive(Default)]
struct Found {
    ended: u64,
    told: usize,
    reclaimed: usize,
    events: u64,
    by_kernel: u32,
}

impl Found {
    fn add(&mut self, other: &Self) {
        self.ended += 1;
        self.told += other.told;
        self.reclaimed += other.reclaimed;
        self.events += other.events;
        self.by_kernel += other.by_kernel;
    }
}

/// Runs a service, ends it, and checks what was recovered of it.
fn end_one(kill: u64, seed: u64, busy: u64, is_overcommitted: bool) -> Found {
    let mut random = Random(seed.wrapping_add(kill << 32));
    let end = End::ALL[kill as usize % End::ALL.len()];
    // Each end meets each keeper in turn, and few ends meet all of them.
    let turn = kill as usize / End::ALL.len();
    let keeper = Keeper::ALL[(kill as usize + turn) % Keeper::ALL.len()];
    // A process that is one of many gets a core only now and then.
    let moment = random.below(60_000) * if is_overcommitted { 10 } else { 1 };
    let moment = Duration::from_micros(moment);
    let what = format!("kill {kill} (seed {seed}): {end:?}, {keeper:?}, after {moment:?}");
    let directory = service::directory();
    let busy = Busy::start(busy);
    let child = Child::start(directory.path(), keeper.has_box(), keeper.has_run(), end);
    std::thread::sleep(moment);
    end.bring_about(&child);
    let last = child.last(&what);
    drop(busy);
    let mut found = Found { by_kernel: child.wait().into(), ..Found::default() };
    assert!(last.iter().all(|last| last.number > 0), "{what}: a writer had not begun: {last:?}");
    for recovered in recover(directory.path(), keeper, &what) {
        let gone = recovered.holds(&last, &what);
        found.told += last.len() - gone;
        found.reclaimed += gone;
        found.events += recovered.events();
    }
    if keeper.has_box() && end == End::Kill {
        cut_the_box(directory.path(), &mut random, &what);
    }
    found
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

/// A power cut: the box ends somewhere. The rest can be read, and what cannot is reported.
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
            // Other blocks may need what a missing block defined.
            assert!(read > 0 || length < whole / 4, "{what}: cut at {length}, and nothing is left");
        }
    }
}
