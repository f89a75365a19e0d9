//! Busy loops: tasks that wake themselves, poll after poll.

use super::interner::Name;
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::state::{LiveState, Poll};
use super::top_n::Top;
use super::{Finding, Moment, Score, Section, TaskRef, Unit};
use crate::format::{count, duration};
use crate::wire::{Nanos, TaskId};
use std::collections::HashSet;

/// A task should not wake itself more often than this in a row without waiting for anything else.
pub const LONG_SPIN: u64 = 1000;
/// Shorter runs are not even listed.
const LISTED: u64 = 100;

/// Polls that ended after their task had woken itself.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BusyLoops {
    /// How many there were.
    pub self_wakes: u64,
    /// The longest runs of them, of 100 polls or more.
    pub longest: Vec<BusyLoop>,
}

/// A run of polls of one task, each of which it woke itself for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BusyLoop {
    /// Which task.
    pub task: TaskRef,
    /// How many polls.
    pub polls: u64,
    /// When the first of them began.
    pub began: Moment,
    /// From there to the end of the last one.
    pub length: Nanos,
    /// How much of that time it was being polled.
    pub polling: Nanos,
}

/// Watches self-wakes.
#[derive(Default)]
pub(super) struct BusyWatch {
    self_wakes: u64,
    longest: Top<Run, 10>,
}

struct Run {
    task: TaskId,
    name: Name,
    polls: u64,
    began: Nanos,
    ended: Nanos,
    polling: Nanos,
}

impl BusyWatch {
    /// A poll has ended; if the task is not done, it may have woken itself.
    pub(super) fn ended(&mut self, poll: &Poll, live: &mut LiveState) {
        self.self_wakes += u64::from(poll.self_woken);
        let Some(task) = live.tasks.get_mut(&poll.task) else { return };
        if poll.self_woken {
            let spin = &mut task.spin;
            if spin.polls == 0 {
                spin.began = poll.began;
            }
            spin.polls += 1;
            spin.polling.grow(poll.held);
        }
        let spin = task.spin;
        if !poll.self_woken && spin.polls > 0 {
            task.spin = Default::default();
            self.over(poll.task, poll.name, spin.polls, (spin.began, poll.began, spin.polling));
        }
    }

    fn over(&mut self, task: TaskId, name: Name, polls: u64, times: (Nanos, Nanos, Nanos)) {
        if polls >= LISTED {
            let (began, ended, polling) = times;
            self.longest.add(polls, Run { task, name, polls, began, ended, polling });
        }
    }

    /// A task has ended, or the snapshot has.
    pub(super) fn leaves(&mut self, task: TaskId, live: &LiveState, at: Nanos) {
        if let Some(entry) = live.tasks.get(&task) {
            let spin = entry.spin;
            self.over(task, entry.name, spin.polls, (spin.began, at, spin.polling));
        }
    }

    pub(super) fn end(&mut self, live: &LiveState, at: Nanos) {
        let mut spinning: Vec<_> = live
            .tasks
            .iter()
            .filter(|(_, task)| task.spin.polls >= LISTED)
            .map(|(id, _)| *id)
            .collect();
        spinning.sort();
        spinning.into_iter().for_each(|task| self.leaves(task, live, at));
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<BusyLoops> {
        let mut section = Section::<BusyLoops>::default();
        let mut told = HashSet::new();
        for run in self.longest.iter() {
            let busy = BusyLoop {
                task: context.task(run.task, run.name),
                polls: run.polls,
                began: context.moment(run.began),
                length: run.ended.since(run.began),
                polling: run.polling,
            };
            if told.insert(run.name) {
                section.findings.extend(finding(&busy, run, context));
            }
            section.table.longest.push(busy);
        }
        section.table.self_wakes = self.self_wakes;
        section.settle(3)
    }
}

fn finding(busy: &BusyLoop, run: &Run, context: &ReportContext<'_>) -> Option<Finding> {
    let score = Score::beyond(busy.polls as f64, LONG_SPIN as f64, Unit::Count)?;
    let title = format!(
        "Task {} woke itself for {} polls in a row, in {}, {} of it in those polls",
        busy.task.label(),
        count(busy.polls),
        duration(busy.length),
        duration(busy.polling)
    );
    let what = format!("{} self-wakes in a row", count(busy.polls));
    let mut evidence = context.evidence(what, run.began, Some(run.ended));
    evidence.task = Some(busy.task.clone());
    Some(Finding::new("busy", title, score, vec![evidence]))
}
