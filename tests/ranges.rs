//! Ranges of the whole process: any thread ends them, and each generation says which are open.

mod common;

use common::{alone, assert_sound, read};
use lookback::read::analysis::Report;
use lookback::read::{EventKind, Trace};
use lookback::{Recorder, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(50);

fn recorder(bytes: usize) -> Recorder {
    let window = Duration::from_secs(40);
    let builder = Recorder::builder().max_bytes(bytes).generation_period(PERIOD).window(window);
    builder.found_ranges(false).start().unwrap()
}

/// The ranges that are open at the end of each complete generation, by name, as that generation alone says.
fn open(trace: &Trace) -> Vec<Vec<String>> {
    let complete = trace.generations().iter().filter(|info| info.complete);
    let of = |number| {
        let generation = trace.generation(number).unwrap();
        let listed = generation.ranges().map(|range| (range.range, range.site.name.to_owned()));
        let mut open: BTreeMap<u64, String> = listed.collect();
        let mut ended = BTreeSet::new();
        for event in generation.events() {
            let event = event.unwrap();
            match event.kind() {
                EventKind::RangeBegin { range, site, .. } if !ended.contains(&range) => {
                    open.insert(range, site.name.to_owned());
                }
                EventKind::RangeEnd { range, .. } => {
                    ended.insert(range);
                    open.remove(&range);
                }
                _ => {}
            }
        }
        open.into_values().collect()
    };
    complete.map(|info| of(info.number)).collect()
}

/// Records until this many generations are complete that this one says something of.
fn until(recorder: &Recorder, is_so: impl Fn(&Trace) -> bool) -> (Snapshot, Trace) {
    loop {
        lookback::event!("goes on");
        std::thread::sleep(PERIOD);
        let snapshot = recorder.snapshot().unwrap();
        let trace = read(&snapshot);
        if is_so(&trace) {
            return (snapshot, trace);
        }
    }
}

#[test]
fn a_range_may_end_on_another_thread_and_its_end_says_how_long_it_took() {
    alone("a_range_may_end_on_another_thread_and_its_end_says_how_long_it_took", || {
        let recorder = recorder(1 << 20);
        let compaction = lookback::range!("compaction");
        let reload = lookback::range!("reload");
        std::thread::sleep(Duration::from_millis(20));
        // They overlap, and the one that began first ends first.
        std::thread::spawn(move || drop(compaction)).join().unwrap();
        std::thread::sleep(Duration::from_millis(5));
        drop(reload);
        let trace = read(&recorder.stop().unwrap());
        assert_sound(&trace);
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for event in trace.events().flatten() {
            let thread = event.thread().unwrap().number;
            match event.kind() {
                EventKind::RangeBegin { site, range, ago } => {
                    assert_eq!(ago.0, 0);
                    begun.push((site.name.to_owned(), range, thread));
                }
                EventKind::RangeEnd { site, range, duration, late } => {
                    assert_eq!((event.name(), late.0), (site.name, 0));
                    ended.push((site.name.to_owned(), range, thread, duration.0));
                }
                _ => {}
            }
        }
        let names = |of: &str| begun.iter().find(|(name, ..)| name == of).unwrap().clone();
        let [first, second] = &ended[..] else { panic!("{ended:?}") };
        assert_eq!((&*first.0, &*second.0), ("compaction", "reload"));
        assert_eq!((first.1, second.1), (names("compaction").1, names("reload").1));
        assert_ne!(first.1, second.1);
        assert_ne!(first.2, names("compaction").2, "another thread has ended it");
        assert_eq!(second.2, names("reload").2);
        assert!(first.3 >= 20_000_000 && second.3 >= first.3 + 5_000_000, "{ended:?}");
    });
}

#[test]
fn each_generation_says_what_is_open_even_if_that_of_its_begin_is_gone() {
    alone("each_generation_says_what_is_open_even_if_that_of_its_begin_is_gone", || {
        let recorder = recorder(256 << 10);
        let range = lookback::range!("backup");
        // Until the generation of its begin is overwritten.
        let begun = |trace: &Trace| {
            trace
                .events()
                .flatten()
                .any(|event| matches!(event.kind(), EventKind::RangeBegin { .. }))
        };
        let filled = |trace: &Trace| {
            (0..2000_u64).for_each(|number| lookback::event!("filler", number));
            !begun(trace) && open(trace).len() >= 2
        };
        let (_, trace) = until(&recorder, filled);
        assert_sound(&trace);
        let all = open(&trace);
        assert!(all.iter().all(|open| open == &["backup"]), "{all:?}");
        let report = Report::of(&trace);
        let [of] = &report.ranges.table.names[..] else { panic!("{:?}", report.ranges.table) };
        assert_eq!((&*of.name, of.count, of.open), ("backup", 1, 1));
        // It began before the snapshot.
        assert!(of.longest_at.0 < 0 && of.longest > of.total, "{of:?}");
        drop(range);
        let (_, trace) = until(&recorder, |trace| open(trace).last().is_some_and(Vec::is_empty));
        let report = Report::of(&trace);
        assert_eq!(report.ranges.table.names[0].open, 0, "{:?}", report.ranges.table);
    });
}

#[test]
fn threads_that_begin_and_end_ranges_at_once_leave_none_open_and_none_out() {
    alone("threads_that_begin_and_end_ranges_at_once_leave_none_open_and_none_out", || {
        let recorder = recorder(8 << 20);
        let mut many = 0;
        for _ in 0..20 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..50 {
                            let ranges: Vec<_> = (0..5).map(|_| lookback::range!("work")).collect();
                            std::thread::yield_now();
                            drop(ranges);
                        }
                    });
                }
            });
            many += 4 * 50 * 5;
            std::thread::sleep(PERIOD / 2);
        }
        let trace = read(&recorder.stop().unwrap());
        assert_sound(&trace);
        let [mut begun, mut ended] = [BTreeSet::new(), BTreeSet::new()];
        for event in trace.events().flatten() {
            match event.kind() {
                EventKind::RangeBegin { range, .. } => assert!(begun.insert(range)),
                EventKind::RangeEnd { range, .. } => assert!(ended.insert(range)),
                _ => {}
            }
        }
        assert_eq!((begun.len(), &begun), (many, &ended));
        let report = Report::of(&trace);
        let of = &report.ranges.table.names[0];
        assert_eq!((of.count, of.open), (many as u64, 0));
    });
}

#[test]
fn more_ranges_than_there_is_room_for_are_counted_as_lost() {
    alone("more_ranges_than_there_is_room_for_are_counted_as_lost", || {
        let recorder = recorder(4 << 20);
        let ranges: Vec<_> = (0..1100).map(|_| lookback::range!("one of many")).collect();
        let lost = recorder.stats().lost;
        drop(ranges);
        let trace = read(&recorder.stop().unwrap());
        let begun =
            |event: &lookback::read::Event| matches!(event.kind(), EventKind::RangeBegin { .. });
        assert_eq!(trace.events().flatten().filter(begun).count(), 1024);
        assert_eq!(lost.iter().map(|(_, many)| many).sum::<u64>(), 76, "{lost:?}");
    });
}

#[test]
fn a_range_without_a_recorder_is_nothing_and_one_outlives_a_recorder() {
    alone("a_range_without_a_recorder_is_nothing_and_one_outlives_a_recorder", || {
        drop(lookback::range!("nobody looks"));
        let first = recorder(1 << 20);
        let range = lookback::range!("long");
        lookback::event!("one");
        first.stop().unwrap();
        let second = recorder(1 << 20);
        let (_, trace) = until(&second, |trace| open(trace).iter().any(|open| open == &["long"]));
        assert_sound(&trace);
        drop(range);
        second.stop().unwrap();
    });
}
