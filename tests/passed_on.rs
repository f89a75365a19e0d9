//! Saves straight out of the arena, one generation at a time, while threads write: the file holds what a copy
//! of that instant would hold, except what was overwritten before its turn. That is the oldest data, or a
//! gap; the newest is there, and each generation is whole.
#![cfg(target_os = "linux")]

mod common;

use common::{alone, events, number};
use lookback::read::Trace;
use lookback::{OutsideArena, Recorder};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const ARENA: usize = 4 << 20;

fn start() -> Recorder {
    let builder = Recorder::builder().max_bytes(ARENA).window(Duration::from_secs(3600));
    builder.generation_period(Duration::from_secs(3600)).start().expect("a recorder starts")
}

/// Numbered events of a hundred bytes each that do not compress much.
fn write(number: &mut u64) {
    let random = |n: u64| number.wrapping_add(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (a, b, c, d) = (
        random(1),
        random(2).rotate_left(17),
        random(3).rotate_left(31),
        random(4).rotate_left(47),
    );
    lookback::event!("numbered", number = *number, a = a, b = b, c = c, d = d);
    *number += 1;
}

fn fill(number: &mut u64, bytes: usize) {
    (0..bytes / 40).for_each(|_| write(number));
}

/// An output that records this many bytes for each byte written to it.
struct Busy {
    file: Vec<u8>,
    number: u64,
    pace: f64,
}

impl Write for Busy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fill(&mut self.number, (bytes.len() as f64 * self.pace) as usize);
        self.file.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn outside() -> OutsideArena {
    OutsideArena::of_process(std::process::id()).expect("it is recorded")
}

/// The numbers in a trace, and how many gaps there are between its generations.
fn numbers(trace: &Trace) -> (Vec<u64>, usize) {
    common::assert_sound(trace);
    let generations = trace.generations();
    let gaps =
        generations.windows(2).filter(|pair| pair[1].number != pair[0].number.next()).count();
    let numbers = events(trace).filter(|event| event.name() == "numbered");
    (numbers.map(|event| number(&event, "number").expect("it has one")).collect(), gaps)
}

#[test]
fn what_nobody_overwrites_is_what_a_copy_holds() {
    alone("what_nobody_overwrites_is_what_a_copy_holds", || {
        let recorder = start();
        fill(&mut 0, 2 * ARENA);
        recorder.advance();
        let copied = common::read(&recorder.snapshot().expect("a copy"));
        let mut file = Vec::new();
        let bytes =
            outside().write_snapshot("a test", "outside", &mut file).expect("it is written");
        assert_eq!(bytes, file.len() as u64);
        let passed_on = Trace::from_bytes(file).expect("it can be read");
        let about = |trace: &Trace| {
            let each = |g: &lookback::read::GenerationInfo| (g.number, g.complete, g.events);
            trace.generations().iter().map(each).collect::<Vec<_>>()
        };
        // If the collector gets no core, writers end generations at two sixteenths of the arena.
        assert!(about(&copied).len() > 4);
        assert_eq!(about(&passed_on), about(&copied));
        assert_eq!(numbers(&passed_on), numbers(&copied));
    });
}

/// However much writers record for each byte of the file: from nothing to more than the whole arena.
#[test]
fn the_newest_is_there_however_fast_it_is_overwritten() {
    alone("the_newest_is_there_however_fast_it_is_overwritten", || {
        for pace in [0.0, 0.5, 1.0, 2.0, 8.0, 100.0] {
            let _recorder = start();
            let mut busy = Busy { file: Vec::new(), number: 0, pace };
            fill(&mut busy.number, 2 * ARENA);
            let last = busy.number - 1;
            outside().write_snapshot("a test", "outside", &mut busy).expect("it is written");
            let (numbers, gaps) = numbers(&Trace::from_bytes(busy.file).expect("it can be read"));
            let there = numbers.len() as f64 * 48.0 / ARENA as f64;
            println!("::{pace} bytes written a byte: {there:.2} of the arena, {gaps} gaps");
            assert_eq!(numbers.last(), Some(&last), "the newest");
            let jumps = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
            assert!(jumps <= gaps, "{jumps} jumps, {gaps} gaps");
            assert!(gaps <= 2, "it leaps far enough");
            if pace <= 0.5 {
                assert!(
                    there > 0.75 && gaps == 0,
                    "who writes no faster than is passed on overtakes nothing"
                );
            }
        }
    });
}

/// Tells writers to stop, also when a test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn saved_at_full_speed() {
    let place = tempfile::tempdir().unwrap();
    let builder = Recorder::builder().max_bytes(ARENA).window(Duration::from_secs(3600));
    let recorder = builder.snapshot_dir(place.path()).start().expect("a recorder starts");
    let go_on = AtomicBool::new(true);
    let newest: [Arc<AtomicU64>; 2] = Default::default();
    std::thread::scope(|scope| {
        let _ends = Ends(&go_on);
        for (writer, newest) in newest.iter().enumerate() {
            let go_on = &go_on;
            scope.spawn(move || {
                let mut number = 1;
                while go_on.load(Ordering::Relaxed) {
                    lookback::event!("of one", writer = writer, number = number);
                    newest.store(number, Ordering::Release);
                    number += 1;
                }
            });
        }
        for _ in 0..if common::long() { 100 } else { 3 } {
            let reached: u64 = newest.iter().map(|newest| newest.load(Ordering::Acquire)).sum();
            let further = || {
                newest.iter().map(|newest| newest.load(Ordering::Acquire)).sum::<u64>()
                    > reached + 200_000
            };
            assert!(common::wait_for(further));
            let before = newest.each_ref().map(|newest| newest.load(Ordering::Acquire));
            let trace =
                Trace::open(recorder.save("a test").expect("it is saved")).expect("it can be read");
            common::assert_sound(&trace);
            let mut last = [0; 2];
            for event in events(&trace).filter(|event| event.name() == "of one") {
                let writer = number(&event, "writer").expect("it has one") as usize;
                last[writer] = number(&event, "number").expect("it has one");
            }
            // A writer that the machine has held up for a lap may have nothing in the window, but not the one
            // that recorded the newest events in it.
            let is_there = (0..2).any(|writer| last[writer] >= before[writer]);
            assert!(is_there, "{last:?}, and before it {before:?}");
        }
    });
}

#[test]
fn what_is_saved_at_full_speed_has_all_that_came_before() {
    alone("what_is_saved_at_full_speed_has_all_that_came_before", saved_at_full_speed);
}

/// Stragglers write blocks of a generation among later ones' blocks, and hardly any is complete.
#[cfg(any(debug_assertions, feature = "fault_injection"))]
#[test]
fn so_it_has_where_writers_and_the_collector_are_held_up() {
    use lookback::fault_injection::{Point, hold};
    alone("so_it_has_where_writers_and_the_collector_are_held_up", || {
        hold(Point::Inside, Duration::from_millis(20), 50);
        hold(Point::Carved, Duration::from_millis(5), 50);
        hold(Point::Advance, Duration::from_millis(200), 2);
        saved_at_full_speed();
        for point in [Point::Inside, Point::Carved, Point::Advance] {
            hold(point, Duration::ZERO, 1);
        }
    });
}
