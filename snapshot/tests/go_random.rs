//! Whatever tasks, workers and spans do, and wherever a snapshot of it begins or has a gap, Go accepts the
//! export, and counts the same.
#![cfg(feature = "read")]

mod build;
mod go_tool;
mod story;

use go_tool::go_tool;
use lookback_snapshot::Trace;
use lookback_snapshot::export::go::{Report, export};
use proptest::prelude::*;
use story::{S, Story, T};

/// What happened in a story, by kind.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    creates: u64,
    polls: u64,
    ends: u64,
    pendings: u64,
    wakes: u64,
    spans: u64,
    closes: u64,
    logs: u64,
}

/// One possible action: its kind, its thread, and the choice among its possible objects.
type Step = (u8, u32, usize);

fn step() -> impl Strategy<Value = Step> {
    // Polls and their ends are the most frequent.
    let which = prop_oneof![5 => 0..6_u8, 2 => 6..18_u8];
    (which, 1..=4_u32, any::<usize>())
}

fn pick<V: Copy>(of: &[V], at: usize) -> Option<V> {
    (!of.is_empty()).then(|| of[at % of.len()])
}

/// Applies all of it, as far as possible.
fn tell(steps: &[Step]) -> (Story, Tally) {
    let (mut story, mut tally) = (Story::new(), Tally::default());
    let (mut tasks, mut spans): (Vec<T>, Vec<S>) = (Vec::new(), Vec::new());
    for thread in 1..=4 {
        story.thread(thread, &format!("thread-{thread}"));
    }
    story.worker(1, 1, 0);
    story.worker(2, 1, 1);
    for (which, thread, at) in steps.iter().copied() {
        let alive: Vec<_> = tasks.iter().copied().filter(|t| story.is_alive(*t)).collect();
        let idle: Vec<_> = alive.iter().copied().filter(|t| !story.is_running(*t)).collect();
        let open: Vec<_> = spans.iter().copied().filter(|s| story.is_open(*s)).collect();
        let polls = story.polls(thread) > 0;
        let is_parked = story.is_worker(thread) == Some(false);
        match which {
            0 | 1 => {
                if let Some(task) = pick(&idle, at).filter(|_| !is_parked) {
                    story.poll(thread, task);
                    tally.polls += 1;
                }
            }
            2 if polls => {
                story.pending(thread);
                tally.pendings += 1;
            }
            3 if polls => {
                story.waits(thread, "sleep");
                tally.pendings += 1;
            }
            4 => {
                tasks.push(story.create(thread, &format!("task {}", at % 3)));
                tally.creates += 1;
            }
            5 | 6 => {
                if let Some(task) = pick(&alive, at) {
                    tally.wakes += u64::from(story.wake(thread, task));
                }
            }
            7 if polls => {
                if at.is_multiple_of(2) {
                    story.ready(thread)
                } else {
                    story.panic(thread)
                }
                tally.ends += 1;
            }
            8 => {
                if let Some(task) = pick(&idle, at) {
                    story.drop_task(thread, task);
                    tally.ends += 1;
                }
            }
            9 => story.region(thread, &format!("region {}", at % 2)),
            10 => drop(story.end_region(thread)),
            11 => {
                spans.push(story.span(thread, &format!("span {}", at % 2)));
                tally.spans += 1;
            }
            12 => {
                if let Some(span) = pick(&open, at) {
                    story.enter(thread, span);
                }
            }
            13 => {
                if let Some(span) = pick(&open, at) {
                    story.exit(thread, span);
                }
            }
            14 => {
                if let Some(span) = pick(&open, at) {
                    tally.closes += u64::from(story.close(thread, span));
                }
            }
            15 => {
                story.log(thread, "text");
                tally.logs += 1;
            }
            16 if !polls => match story.is_worker(thread) {
                Some(true) => story.park(thread),
                Some(false) => story.unpark(thread),
                None => story.worker(thread, 1, at as u64 % 2),
            },
            17 if at.is_multiple_of(3) => story.next_generation(),
            _ => {}
        }
    }
    (story, tally)
}

fn exported(bytes: Vec<u8>) -> Report {
    let trace = Trace::from_bytes(bytes).unwrap();
    let mut out = Vec::new();
    let report = export(&trace, &mut out).unwrap();
    assert_eq!(report.refused, 0);
    if let Some(go) = go_tool() {
        go.parse(&out)
            .unwrap_or_else(|error| panic!("{error}\n{report:#?}"))
            .assert_equals(&report);
    }
    report
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_whole_snapshot_is_accepted(steps in proptest::collection::vec(step(), 0..400)) {
        let (story, tally) = tell(&steps);
        let running = (1..=4).map(|thread| story.polls(thread) as u64).sum::<u64>();
        let report = exported(story.file());
        // Four threads, which began and did not end.
        let told = Tally {
            creates: report.creations.recorded() - 4,
            polls: report.starts.recorded(),
            ends: report.destroys.recorded(),
            pendings: report.blocks.recorded() + report.yields.recorded(),
            wakes: report.unblocks.recorded() + report.yields.recorded() + report.left_out.wakes,
            spans: report.tasks_begun.recorded(),
            closes: report.tasks_ended.recorded(),
            logs: report.logs.recorded(),
        };
        // Wakes of tasks that are still being polled have had no effect yet.
        prop_assert!(told.wakes <= tally.wakes && tally.wakes <= told.wakes + running);
        prop_assert_eq!(Tally { wakes: tally.wakes, ..told }, tally);
        prop_assert_eq!(report.left_out.unknown, 0);
    }

    #[test]
    fn one_that_begins_anywhere_or_has_a_hole_is_accepted(
        steps in proptest::collection::vec(step(), 100..500),
        hole in any::<proptest::sample::Index>(),
        incomplete: bool,
    ) {
        let (mut story, _) = tell(&steps);
        story.next_generation();
        let mut generations = story.generations();
        if !incomplete {
            generations.pop();
        }
        generations.remove(hole.index(generations.len()));
        exported(build::file(&generations));
    }

    #[test]
    fn whatever_a_faulty_recorder_has_written_what_is_exported_is_valid(
        steps in proptest::collection::vec(step(), 100..400),
        flips in proptest::collection::vec(any::<[proptest::sample::Index; 4]>(), 1..6),
    ) {
        let (mut story, _) = tell(&steps);
        story.next_generation();
        let mut generations = story.generations();
        for [generation, block, byte, bit] in flips {
            let generation = generation.get_mut(&mut generations);
            if generation.blocks.is_empty() {
                continue;
            }
            let records = &mut block.get_mut(&mut generation.blocks).records;
            if !records.is_empty() {
                *byte.get_mut(records) ^= 1 << bit.index(8);
            }
        }
        exported(build::file(&generations));
    }
}
