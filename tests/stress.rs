//! Invariants 8 and 10, and with them 2, 4, 6 and 7, on the real thing and all at once: a snapshot never
//! stops a writer; concurrent snapshots, advances and stops are safe; start, stop and start again works, and
//! stop returns with every event that was emitted before it.
//!
//! Generations follow each other back to back (period 0) while threads start, write every kind of event and
//! exit, two threads take snapshots, a sink and an outside reader copy without advancing, and the recorder is
//! stopped and started with regions open across. Everything that is seen must be sound, and every event must
//! be accounted for. `LOOKBACK_LONG=1` does ten times as much.

mod common;

use common::{Emitted, Outside};
use lookback::read::{EventKind, GenerationInfo, Trace};
use lookback::{Barrier, GenerationFrame, Recorder, Snapshot};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Writes one event of every kind, and returns how many.
fn write_every_kind(number: u64) -> u64 {
    let texts = ["GET /items", "GET /items/{id}", "POST /orders", "a text that recurs"];
    let _outer = lookback::region!("outer");
    {
        let _inner = lookback::region!("inner");
        lookback::event!("numbers", number = number, signed = -3_i64, half = 0.5, yes = true);
    }
    lookback::event!("text", route = texts[number as usize % texts.len()], number = number);
    lookback::log!("stress", "number {number} of many");
    lookback::log!(WARN, "stress", "always the same");
    lookback::counter!("depth", number);
    lookback::counter!("level", -(number as i64));
    lookback::counter!("load", 0.25 * number as f64);
    lookback::event!("nothing");
    write_generic(number);
    write_generic(0.5);
    write_generic("text");
    4 + 2 + 2 + 3 + 1 + 3
}

/// One site, several schemas.
fn write_generic<T: lookback::Value>(value: T) {
    lookback::event!("generic", value = value);
}

fn start(barrier: Barrier, max_bytes: usize, seen: &Arc<AtomicU64>) -> Recorder {
    let (seen, mut last) = (Arc::clone(seen), 0);
    let sink = move |frame: &mut GenerationFrame<'_>| -> io::Result<()> {
        assert!(frame.number.0 > last, "generation {} came after {last}", frame.number);
        last = frame.number.0;
        seen.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    Recorder::builder()
        .window(Duration::from_secs(3600))
        .max_bytes(max_bytes)
        .generation_period(Duration::ZERO)
        .barrier(barrier)
        // A sanitizer makes a storm of page faults of this.
        .found_ranges(false)
        .sink(sink)
        .start()
        .expect("a recorder starts")
}

/// Checks a whole snapshot, and that no thread's numbered events have a gap where nothing was lost.
fn assert_sound(snapshot: &Snapshot) {
    let trace = common::read(snapshot);
    common::assert_sound(&trace);
    let numbers: Vec<_> = trace.generations().iter().map(|g| g.number.0).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "generations {numbers:?}");
    let gaps_are_allowed = common::lost(&trace) > 0;
    let mut next: HashMap<u64, u64> = HashMap::new();
    let mut count = 0;
    for event in common::events(&trace) {
        count += 1;
        assert_ne!(event.name(), "?", "{event:?}");
        let thread = event.thread().unwrap_or_else(|| panic!("whose is {event:?}?")).number.0;
        if let EventKind::Typed { site } = event.kind()
            && site.name == "numbers"
        {
            let number = common::number(&event, "number").expect("it has one");
            let expected = next.insert(thread, number + 1).unwrap_or(number);
            let fine = number == expected || (gaps_are_allowed && number > expected);
            assert!(fine, "thread {thread}: {number} came where {expected} was to come");
        }
    }
    assert_eq!(count, common::count(&trace), "events, counted and told");
}

/// Starts one thread after another that writes and exits, while `go_on` holds, and at least `least`.
fn churn(emitted: &Arc<Emitted>, go_on: &Arc<AtomicBool>, least: usize) -> JoinHandle<()> {
    let (emitted, go_on) = (Arc::clone(emitted), Arc::clone(go_on));
    std::thread::spawn(move || {
        let mut started = 0;
        while started < least || go_on.load(Ordering::Relaxed) {
            started += 1;
            let emitted = Arc::clone(&emitted);
            let thread = std::thread::spawn(move || {
                // Its start and its exit are events.
                emitted.add(2 + (0..40).map(write_every_kind).sum::<u64>());
            });
            thread.join().expect("a writer does not panic");
        }
    })
}

/// Copies the arena like an outside reader, while `go_on` holds. Returns how often that succeeded.
fn look_from_outside(go_on: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let go_on = Arc::clone(go_on);
    std::thread::spawn(move || {
        let arena = Outside::find().expect("the arena has a descriptor");
        let mut copies = 0;
        while go_on.load(Ordering::Relaxed) {
            if let Some(seen) = arena.copy() {
                seen.assert_sound();
                copies += 1;
            }
            std::thread::yield_now();
        }
        copies
    })
}

/// Takes this many snapshots, and reads some of them.
fn take_snapshots(count: usize) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for number in 0..count {
            let snapshot = lookback::snapshot().expect("a snapshot is taken");
            if number % 15 == 0 {
                assert_sound(&snapshot);
            }
        }
    })
}

/// A thread that holds regions open and opens others inside, round by round, until it is stopped.
struct Holder {
    id: u64,
    go_on: Arc<AtomicBool>,
    /// The number of the newest event whose call has returned.
    written: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Holder {
    fn start(id: u64) -> Self {
        let (go_on, written) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let (flag, newest) = (Arc::clone(&go_on), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            let _first = lookback::region!("held by a loop");
            let mut number = 0;
            while flag.load(Ordering::Relaxed) {
                let _second = lookback::region!("held for a round");
                for _ in 0..20 {
                    number += 1;
                    write_every_kind(number);
                    lookback::event!("held", holder = id, number = number);
                    newest.store(number, Ordering::Release);
                }
                std::thread::yield_now();
            }
        });
        Self { id, go_on, written, thread }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    fn end(self) {
        self.go_on.store(false, Ordering::Relaxed);
        self.thread.join().expect("a holder does not panic");
    }
}

/// While the recorder is not stopped, everything is accounted for exactly.
fn everything_is_accounted_for(barrier: Barrier) {
    let (rounds, count) = if common::long() { (30, 150) } else { (2, 30) };
    let seen = Arc::new(AtomicU64::new(0));
    let mut newest = 0;
    for _ in 0..rounds {
        let recorder = start(barrier, 1 << 20, &seen);
        assert_eq!(recorder.stats().barrier, barrier);
        let (emitted, go_on) = (Arc::new(Emitted::new()), Arc::new(AtomicBool::new(true)));
        let writers: Vec<_> = (0..3).map(|_| churn(&emitted, &go_on, 60)).collect();
        let outside = look_from_outside(&go_on);
        let snapshots: Vec<_> = (0..2).map(|_| take_snapshots(count)).collect();
        for thread in snapshots {
            thread.join().expect("the snapshots are sound");
        }
        go_on.store(false, Ordering::Relaxed);
        for thread in writers {
            thread.join().expect("the writers are fine");
        }
        let copies = outside.join().expect("the outside reader finds nothing wrong");
        // What was just written is in a complete generation when this returns.
        common::advance(&recorder);
        let stats = recorder.stats();
        let (emitted, lost) = (emitted.get(), stats.lost_in_all());
        assert_eq!(emitted, stats.recorded + lost, "emitted = recorded + lost; {stats:?}");
        assert!(stats.generation > newest, "generation numbers go on after stop and start");
        println!(
            "::{barrier:?}: {emitted} events, {lost} lost, {} generations, {} handed over and {} \
             lost, {} snapshots, {copies} copies from outside",
            stats.generation - newest,
            seen.load(Ordering::Relaxed),
            stats.sink_lost,
            stats.snapshots.count,
        );
        newest = stats.generation;
        let last = recorder.stop().expect("it stops");
        assert_sound(&last);
        let trace = common::read(&last);
        assert_eq!(common::recorded(&trace), stats.recorded, "nothing was written since");
    }
}

/// Each holder's events from before the stop are in the snapshot.
fn assert_has_all_of(last: &Snapshot, holders: &[Holder], started: &[u64], before: &[u64]) {
    let trace = common::read(last);
    if common::lost(&trace) > 0 {
        return;
    }
    let was_given_up = common::recorded(&trace) > common::count(&trace);
    let mut found = HashMap::new();
    for event in common::events(&trace).filter(|event| event.name() == "held") {
        let holder = common::number(&event, "holder").expect("it has one");
        found.insert(holder, common::number(&event, "number").expect("it has one"));
    }
    for (holder, (started, before)) in holders.iter().zip(started.iter().zip(before)) {
        // Part of one number may have been written before the start.
        if *before > started + 1 {
            // The oldest are reclaimed first: if any of it is there, the newest are. None is left if the
            // machine has held the thread up for as long as the others took to fill the arena.
            let found = found.get(&holder.id).copied();
            let is_there = found.map_or(was_given_up, |found| found >= *before);
            assert!(is_there, "{before} was written before the stop, {found:?} is the last");
        }
    }
}

/// While writers continue, a recorder is stopped and started, with regions open across.
fn stop_and_start_under_writers(barrier: Barrier) {
    let cycles = if common::long() { 80 } else { 8 };
    let seen = Arc::new(AtomicU64::new(0));
    let holders: Vec<_> = (0..2).map(Holder::start).collect();
    let (mut newest, mut reached) = (0, 0);
    for _ in 0..cycles {
        let recorder = start(barrier, 512 << 10, &seen);
        let started: Vec<_> = holders.iter().map(Holder::written).collect();
        let churning = churn(&Arc::default(), &Arc::default(), 5);
        let taken = lookback::snapshot().expect("a snapshot is taken");
        // Another thread may take one at the very moment of the stop.
        let late = std::thread::spawn(|| lookback::snapshot().ok());
        let before: Vec<_> = holders.iter().map(Holder::written).collect();
        let last = recorder.stop().expect("it stops");
        assert_has_all_of(&last, &holders, &started, &before);
        let late = late.join().expect("a snapshot does not panic");
        for snapshot in [Some(taken), late, Some(last)].into_iter().flatten() {
            assert_sound(&snapshot);
            let oldest = snapshot.generations().next().expect("at least one").0;
            assert!(oldest > newest, "generation {oldest} of a recording after {newest}");
            reached = snapshot.generations().last().expect("at least one").0.max(reached);
        }
        newest = reached;
        churning.join().expect("no thread panics");
    }
    holders.into_iter().for_each(Holder::end);
    println!("::{barrier:?}: {cycles} cycles, {} handed over", seen.load(Ordering::Relaxed));
}

/// Two threads number their events in turn, each after it has seen the other's: a snapshot has no gap in
/// them, wherever it was cut, even in the running generation.
fn what_came_before_is_there(barrier: Barrier) {
    let snapshots = if common::long() { 1000 } else { 40 };
    let recorder = Recorder::builder()
        .window(Duration::from_secs(3600))
        .max_bytes(256 << 10)
        .generation_period(Duration::from_secs(3600))
        .barrier(barrier)
        .start()
        .expect("a recorder starts");
    let (turn, go_on) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
    let players: Vec<_> = (0..2)
        .map(|player| {
            let (turn, go_on) = (Arc::clone(&turn), Arc::clone(&go_on));
            std::thread::spawn(move || {
                let mut number = player;
                while go_on.load(Ordering::Relaxed) {
                    if turn.load(Ordering::Acquire) != number {
                        std::thread::yield_now();
                        continue;
                    }
                    lookback::event!("turn", number = number);
                    turn.store(number + 1, Ordering::Release);
                    number += 2;
                }
            })
        })
        .collect();
    let (mut checked, mut incomplete) = (0, 0);
    let outside = lookback::OutsideArena::of_process(std::process::id()).expect("it is recorded");
    for round in 0..snapshots {
        let played = turn.load(Ordering::Acquire);
        // A copy of one instant, and one that is streamed a generation at a time.
        let trace = if round % 2 == 0 {
            common::read(&recorder.snapshot().expect("a snapshot is taken"))
        } else {
            let mut file = Vec::new();
            outside.write_snapshot("turns", "outside", &mut file).expect("a snapshot is taken");
            Trace::from_bytes(file).expect("it can be read")
        };
        common::assert_sound(&trace);
        let generations = trace.generations();
        incomplete += generations.iter().filter(|generation| !generation.complete).count();
        let follows = |pair: &[GenerationInfo]| pair[1].number == pair[0].number.next();
        let mut gaps = generations.windows(2).filter(|pair| !follows(pair)).count();
        let mut numbers: Vec<_> = common::events(&trace)
            .filter(|event| event.name() == "turn")
            .map(|event| common::number(&event, "number").expect("it has one"))
            .collect();
        if common::lost(&trace) > 0 {
            continue;
        }
        numbers.sort_unstable();
        for pair in numbers.windows(2) {
            let [before, after] = [pair[0], pair[1]];
            if after != before + 1 && gaps > 0 {
                gaps -= 1;
                continue;
            }
            assert_eq!(after, before + 1, "{after} is there, and what came before it is not");
        }
        // Nothing is missing at the end that existed when the snapshot was requested.
        let last = numbers.last().copied().unwrap_or(0);
        assert!(
            last + 1 >= played,
            "{played} were written before the snapshot, {last} is the last"
        );
        checked += numbers.len();
        let reached = turn.load(Ordering::Acquire);
        common::wait_for(|| turn.load(Ordering::Acquire) > reached + 100);
    }
    go_on.store(false, Ordering::Relaxed);
    for player in players {
        player.join().expect("the players are fine");
    }
    println!("::{barrier:?}: {checked} events, {incomplete} incomplete generations");
}

#[test]
fn a_cut_has_all_that_came_before_with_membarrier() {
    common::alone("a_cut_has_all_that_came_before_with_membarrier", || {
        what_came_before_is_there(Barrier::Membarrier);
    });
}

#[test]
fn a_cut_has_all_that_came_before_with_fences() {
    common::alone("a_cut_has_all_that_came_before_with_fences", || {
        what_came_before_is_there(Barrier::Fence);
    });
}

#[test]
fn advances_back_to_back_with_membarrier() {
    common::alone("advances_back_to_back_with_membarrier", || {
        everything_is_accounted_for(Barrier::Membarrier);
    });
}

#[test]
fn advances_back_to_back_with_fences() {
    common::alone("advances_back_to_back_with_fences", || {
        everything_is_accounted_for(Barrier::Fence);
    });
}

#[test]
fn stop_and_start_with_membarrier() {
    common::alone("stop_and_start_with_membarrier", || {
        stop_and_start_under_writers(Barrier::Membarrier);
    });
}

#[test]
fn stop_and_start_with_fences() {
    common::alone("stop_and_start_with_fences", || stop_and_start_under_writers(Barrier::Fence));
}
