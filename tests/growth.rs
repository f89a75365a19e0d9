//! A large arena is allocated piece by piece while threads record into it: nobody waits for it, nothing is
//! lost because of it, and if the rest cannot be allocated, recording ends with an error.
#![cfg(target_os = "linux")]

mod common;

use common::{alone, events, number};
use lookback::read::Trace;
use lookback::{Error, OutsideArena, Recorder};
use std::time::Duration;

const ARENA: usize = 96 << 20;

fn start() -> Recorder {
    let builder =
        Recorder::builder().found_ranges(false).max_bytes(ARENA).window(Duration::from_secs(3600));
    builder.start().expect("a recorder starts")
}

/// Records at least this many bytes, and returns the next number.
fn write(mut next: u64, bytes: usize) -> u64 {
    for _ in 0..bytes / 64 {
        let random = |n: u64| next.wrapping_add(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63;
        lookback::event!(
            "numbered",
            number = next,
            a = random(1),
            b = random(2),
            c = random(3),
            d = random(4),
            e = random(5),
            f = random(6)
        );
        next += 1;
    }
    next
}

fn of_outside() -> Trace {
    let (arena, mut file) =
        (OutsideArena::of_process(std::process::id()).expect("it is recorded"), Vec::new());
    arena.write_snapshot("a test", "outside", &mut file).expect("it is written");
    Trace::from_bytes(file).expect("it can be read")
}

fn newest(trace: &Trace) -> Option<u64> {
    let numbered = events(trace).filter(|event| event.name() == "numbered");
    numbered.last().and_then(|event| number(&event, "number"))
}

/// A writer that overtakes the growing thread allocates the memory itself, to the end and around it.
#[cfg(any(debug_assertions, feature = "fault_injection"))]
#[test]
fn who_is_faster_than_the_arena_grows_loses_nothing() {
    use lookback::fault_injection::{Point, hold};
    alone("who_is_faster_than_the_arena_grows_loses_nothing", || {
        hold(Point::Grow, Duration::MAX, 1);
        let recorder = start();
        let next = write(0, 1000);
        assert_eq!(newest(&of_outside()), Some(next - 1), "it can be read while it grows");
        let next = write(next, ARENA / 2);
        let trace = of_outside();
        common::assert_sound(&trace);
        assert_eq!(newest(&trace), Some(next - 1));
        let next = write(next, ARENA);
        assert_eq!(recorder.stats().lost_in_all(), 0);
        hold(Point::Grow, Duration::ZERO, 1);
        let trace = common::read(&recorder.stop().expect("nobody is stuck"));
        assert_eq!(newest(&trace), Some(next - 1));
    });
}

#[test]
fn a_large_arena_is_there_in_the_end_and_can_be_stopped_at_once() {
    alone("a_large_arena_is_there_in_the_end_and_can_be_stopped_at_once", || {
        for _ in 0..3 {
            start().stop().expect("nobody is stuck");
        }
        let recorder = start();
        let is_there = || {
            let arena = OutsideArena::of_process(std::process::id()).expect("it is recorded");
            arena.header().expect("it can be read").growing.is_none()
        };
        assert!(common::wait_for(is_there));
        drop(recorder);
    });
}

#[test]
fn where_memory_cannot_be_populated_a_large_arena_is_allocated_at_the_start() {
    alone("where_memory_cannot_be_populated_a_large_arena_is_allocated_at_the_start", || {
        if !common::seccomp::forget_to_populate() {
            println!("::no seccomp here");
            return;
        }
        let recorder = start();
        let arena = OutsideArena::of_process(std::process::id()).expect("it is recorded");
        assert_eq!(arena.header().expect("it can be read").growing, None);
        let next = write(0, ARENA / 2);
        assert_eq!(recorder.stats().broken, None);
        let trace = common::read(&recorder.stop().expect("nobody is stuck"));
        assert_eq!(newest(&trace), Some(next - 1));
    });
}

#[test]
fn where_the_rest_cannot_be_had_recording_ends_and_what_there_is_can_be_read() {
    alone("where_the_rest_cannot_be_had_recording_ends_and_what_there_is_can_be_read", || {
        let recorder = start();
        let next = write(0, 1000);
        recorder.give_up("the rest of the arena could not be allocated: a test");
        lookback::event!("too late");
        let trace = common::read(&recorder.snapshot().expect("it can be read"));
        assert_eq!(newest(&trace), Some(next - 1));
        assert!(events(&trace).all(|event| event.name() != "too late"));
        let broken = recorder.stats().broken.expect("it says why");
        assert_eq!(broken, "the rest of the arena could not be allocated: a test");
        assert!(matches!(recorder.stop(), Err(Error::Broken(reason)) if reason == broken));
        // The next recording is not affected.
        let recorder = start();
        let next = write(0, 1000);
        let trace = common::read(&recorder.stop().expect("nobody is stuck"));
        assert_eq!(newest(&trace), Some(next - 1));
    });
}
