//! A region lasts from its own beginning to the drop of its own guard, in whatever order guards are dropped.
//! The judge stamps each beginning and end itself.

mod common;

use common::alone;
use lookback::read::{EventKind, Trace};
use lookback::{Recorder, Region, region};
use std::time::{Duration, Instant};

fn start() -> Recorder {
    common::start_with(32 << 20, Duration::from_secs(3600))
}

/// Names of regions, one for each site.
const NAMES: [&str; 6] = ["r0", "r1", "r2", "r3", "r4", "r5"];

fn begin(name: usize) -> Region {
    match name {
        0 => region!("r0"),
        1 => region!("r1"),
        2 => region!("r2"),
        3 => region!("r3"),
        4 => region!("r4"),
        _ => region!("r5"),
    }
}

/// An open region, as the judge knows it.
struct Open {
    name: usize,
    began: [Instant; 2],
    guard: Region,
}

/// The judge's record of a region that has ended: its name, and the bounds of its length.
#[derive(Debug)]
struct Said {
    name: &'static str,
    least: Duration,
    most: Duration,
}

#[derive(Default)]
struct Judge {
    open: Vec<Open>,
    said: Vec<Said>,
}

impl Judge {
    fn begin(&mut self, name: usize) {
        let before = Instant::now();
        let guard = begin(name);
        self.open.push(Open { name, began: [before, Instant::now()], guard });
    }

    fn end(&mut self, at: usize) {
        let Open { name, began, guard } = self.open.remove(at);
        let before = Instant::now();
        drop(guard);
        let (least, most) = (before - began[1], began[0].elapsed());
        self.said.push(Said { name: NAMES[name], least, most });
    }
}

/// Names and lengths of the regions that ended, in that order.
fn ended(trace: &Trace) -> Vec<(Option<String>, Option<Duration>)> {
    common::events(trace)
        .filter_map(|event| match event.kind() {
            EventKind::RegionEnd { site, duration, .. } => {
                let took = duration.map(|took| Duration::from_nanos(took.0));
                Some((site.map(|site| site.name.to_owned()), took))
            }
            _ => None,
        })
        .collect()
}

/// Compares the recording with the judge. Returns how many names were unknown.
fn compare(trace: &Trace, said: &[Said]) -> usize {
    common::assert_sound(trace);
    assert_eq!(common::lost(trace), 0);
    let ended = ended(trace);
    assert_eq!(ended.len(), said.len());
    let mut unknown = 0;
    for (at, ((name, took), said)) in ended.iter().zip(said).enumerate() {
        let Some(name) = name else {
            unknown += 1;
            continue;
        };
        assert_eq!(name, said.name, "{at}");
        let took = took.expect("of a region whose name is known the length is");
        // Two clocks, each read separately.
        let slack = Duration::from_micros(2) + said.most / 500;
        assert!(
            took + slack >= said.least && took <= said.most + slack,
            "{at}: {took:?}, {said:?}"
        );
    }
    unknown
}

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// Begins and ends regions in any order, with at most `most` open at once.
fn disorder(
    judge: &mut Judge,
    seed: u64,
    turns: usize,
    most: usize,
    mut at_turn: impl FnMut(usize),
) {
    let mut state = seed;
    for turn in 0..turns {
        let grows = judge.open.len() < most && !random(&mut state).is_multiple_of(5);
        if judge.open.is_empty() || (grows && random(&mut state).is_multiple_of(2)) {
            judge.begin(random(&mut state) % NAMES.len());
        } else {
            let last = judge.open.len() - 1;
            let at = match random(&mut state) % 4 {
                0 => last,
                1 => 0,
                _ => random(&mut state) % judge.open.len(),
            };
            judge.end(at);
        }
        at_turn(turn);
    }
    while !judge.open.is_empty() {
        judge.end(random(&mut state) % judge.open.len());
    }
}

#[test]
fn guards_that_are_dropped_in_any_order_keep_their_own_lengths() {
    alone("guards_that_are_dropped_in_any_order_keep_their_own_lengths", || {
        let seeds = if common::long() { 200 } else { 4 };
        for seed in 0..seeds {
            let recorder = start();
            let mut judge = Judge::default();
            disorder(&mut judge, seed, 4000, 60, |turn| {
                if turn % 512 == 511 {
                    common::advance(&recorder);
                }
            });
            assert_eq!(compare(&common::stop(recorder), &judge.said), 0, "seed {seed}");
        }
    });
}

#[test]
fn regions_deeper_than_are_restated_end_in_any_order_and_are_sound() {
    alone("regions_deeper_than_are_restated_end_in_any_order_and_are_sound", || {
        let recorder = start();
        let mut judge = Judge::default();
        (0..300).for_each(|at| judge.begin(at % NAMES.len()));
        disorder(&mut judge, 7, 3000, 400, |turn| {
            if turn % 700 == 699 {
                common::advance(&recorder);
            }
        });
        let unknown = compare(&common::stop(recorder), &judge.said);
        // Of the regions that were open between two generations, 64 are restated.
        assert!(unknown > 0 && unknown < judge.said.len() / 2, "{unknown} of {}", judge.said.len());
    });
}

#[test]
fn ten_thousand_regions_that_end_first_to_last_keep_their_own_lengths() {
    alone("ten_thousand_regions_that_end_first_to_last_keep_their_own_lengths", || {
        for first_to_last in [true, false] {
            let recorder = start();
            let mut judge = Judge::default();
            (0..10_000).for_each(|at| judge.begin(at % NAMES.len()));
            let mut open: Vec<_> = std::mem::take(&mut judge.open);
            if !first_to_last {
                open.reverse();
            }
            for one in open {
                judge.open.push(one);
                judge.end(0);
            }
            assert_eq!(compare(&common::stop(recorder), &judge.said), 0);
        }
    });
}

#[test]
fn a_region_that_is_replaced_ends_when_the_next_one_has_begun() {
    alone("a_region_that_is_replaced_ends_when_the_next_one_has_begun", || {
        let recorder = start();
        let mut guard = region!("step");
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(2));
            guard = region!("step");
        }
        drop(guard);
        let trace = common::stop(recorder);
        common::assert_sound(&trace);
        let took: Vec<_> = ended(&trace).into_iter().filter_map(|(_, took)| took).collect();
        assert_eq!(took.len(), 6);
        assert!(took[..5].iter().all(|took| *took >= Duration::from_millis(2)), "{took:?}");
        assert!(took[5] < took[..5].iter().sum::<Duration>(), "{took:?}");
    });
}

#[test]
fn regions_beyond_what_a_thread_can_have_open_are_counted_and_end_nothing() {
    alone("regions_beyond_what_a_thread_can_have_open_are_counted_and_end_nothing", || {
        let recorder = start();
        let outer = region!("outer");
        let mut inner: Vec<_> = (1..16_384).map(|_| region!("inner")).collect();
        let beyond: Vec<_> = (0..10).map(|_| region!("beyond")).collect();
        drop(beyond);
        // Once there is room again, regions are recorded again.
        inner.pop();
        drop(region!("once more"));
        while let Some(guard) = inner.pop() {
            drop(guard);
        }
        std::thread::sleep(Duration::from_millis(20));
        drop(outer);
        let trace = common::stop(recorder);
        common::assert_sound(&trace);
        assert_eq!(common::lost(&trace), 10);
        let ended = ended(&trace);
        assert_eq!(ended.len(), 16_384 + 1);
        assert!(ended.iter().all(|(name, _)| name.as_deref() != Some("beyond")));
        let (name, took) = ended.last().expect("the outermost one");
        assert_eq!(name.as_deref(), Some("outer"));
        assert!(took.is_some_and(|took| took >= Duration::from_millis(20)));
    });
}

#[test]
fn a_guard_that_is_held_over_an_await_keeps_its_own_length() {
    alone("a_guard_that_is_held_over_an_await_keeps_its_own_length", || {
        let recorder = start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let local = tokio::task::LocalSet::new();
        let stamp = |name, pause: u64| async move {
            let began = [Instant::now(), {
                // The second stamp is taken after the beginning.
                Instant::now()
            }];
            let guard = begin(name);
            let after = Instant::now();
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let before = Instant::now();
            drop(guard);
            (before, Said { name: NAMES[name], least: before - after, most: began[0].elapsed() })
        };
        let mut said = local.block_on(&runtime, async {
            let pauses = [30, 5, 20, 10];
            let tasks = pauses.into_iter().enumerate();
            let tasks: Vec<_> =
                tasks.map(|(name, pause)| tokio::task::spawn_local(stamp(name, pause))).collect();
            let mut said = Vec::new();
            for task in tasks {
                said.push(task.await.unwrap());
            }
            said
        });
        said.sort_by_key(|(ended, _)| *ended);
        let said: Vec<_> = said.into_iter().map(|(_, said)| said).collect();
        assert_eq!(compare(&common::stop(recorder), &said), 0);
    });
}

#[test]
fn a_guard_that_outlives_a_recording_ends_no_region_of_the_next_one() {
    alone("a_guard_that_outlives_a_recording_ends_no_region_of_the_next_one", || {
        let recorder = start();
        let (old, older) = (region!("old"), region!("older"));
        common::stop(recorder);
        // A region that begins while nothing is recorded never becomes one.
        let nothing = region!("nothing");
        let recorder = start();
        let new = region!("new");
        drop(old);
        drop(nothing);
        std::thread::sleep(Duration::from_millis(5));
        drop(new);
        drop(older);
        let trace = common::stop(recorder);
        common::assert_sound(&trace);
        let ended = ended(&trace);
        let names: Vec<_> = ended.iter().map(|(name, _)| name.as_deref().unwrap_or("?")).collect();
        assert_eq!(names, ["old", "new", "older"]);
        assert!(ended[1].1.is_some_and(|took| took >= Duration::from_millis(5)));
    });
}
