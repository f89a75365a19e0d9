//! The end of a recording while writers publish one generation after another and one of them is held up
//! inside an event: the arena stays mapped until that one has left.
#![cfg(any(debug_assertions, feature = "fault_injection"))]

mod common;

use common::alone;
use lookback::fault_injection::{Point, hold};
use lookback::{Error, OutsideArena, Recorder};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const FOREVER: Duration = Duration::MAX;

static GO_ON: AtomicBool = AtomicBool::new(true);
static LET_GO: AtomicBool = AtomicBool::new(false);

/// Releases held-up threads when it is dropped, so that a failing test does not hang.
struct LetGo;

impl Drop for LetGo {
    fn drop(&mut self) {
        LET_GO.store(true, Ordering::SeqCst);
        hold(Point::Carved, Duration::ZERO, 1);
        GO_ON.store(false, Ordering::SeqCst);
    }
}

fn write() {
    let mut number = 0_u64;
    while GO_ON.load(Ordering::Relaxed) {
        number += 1;
        lookback::event!("numbered", number = number, text = "some text that takes a little room");
    }
}

/// Writers, one of which is held up just before it writes the header of a block that it has carved. The
/// stopping thread is so slow that what it notes is never of the running generation.
fn with_one_held(stop: impl FnOnce(Recorder)) {
    let window = Duration::from_secs(1);
    let recorder = Recorder::builder().max_bytes(256 << 10).window(window).start().unwrap();
    std::thread::scope(|scope| {
        let let_go = LetGo;
        (0..4).for_each(|_| drop(scope.spawn(write)));
        let arena = OutsideArena::of_process(std::process::id()).expect("there is an arena");
        let laps = || {
            let header = arena.header().expect("it can be read");
            header.head.0 / header.capacity
        };
        assert!(common::wait_for(|| laps() >= 1), "the arena is filled");
        // The first thread that comes there, and no other one.
        hold(Point::Carved, FOREVER, u64::MAX);
        let before = laps();
        assert!(common::wait_for(|| laps() >= before + 2), "the others go on");
        hold(Point::Noted, Duration::from_millis(30), 1);
        stop(recorder);
        drop(let_go);
    });
}

#[test]
fn the_end_waits_for_a_writer_that_is_held_up_whoever_publishes_meanwhile() {
    alone("the_end_waits_for_a_writer_that_is_held_up_whoever_publishes_meanwhile", || {
        with_one_held(|recorder| {
            let stop = std::thread::spawn(move || {
                let stopped = recorder.stop();
                (LET_GO.load(Ordering::SeqCst), stopped)
            });
            // An end that does not wait is over by then; and the patience is longer.
            let begun = std::time::Instant::now();
            while !stop.is_finished() && begun.elapsed() < Duration::from_millis(1500) {
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(LetGo);
            match stop.join().unwrap() {
                (was_let_go, Ok(snapshot)) => {
                    assert!(was_let_go, "nobody has waited for it");
                    let trace = common::read(&snapshot);
                    common::assert_sound(&trace);
                    assert!(common::count(&trace) > 0, "the newest events are not there");
                }
                // On a very slow machine.
                (_, Err(error)) => assert!(matches!(error, Error::Stuck(_)), "{error}"),
            }
        });
    });
}

#[test]
fn who_is_held_up_for_longer_than_patience_finds_the_arena_where_it_was() {
    if !common::long() {
        return;
    }
    alone("who_is_held_up_for_longer_than_patience_finds_the_arena_where_it_was", || {
        with_one_held(|recorder| {
            let stopped = recorder.stop();
            assert!(matches!(stopped, Err(Error::Stuck(_))), "{stopped:?}");
        });
    });
}
