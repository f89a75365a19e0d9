//! From wake to poll: tasks that might run, and are not polled.

use super::length::Length;
use super::names::Name;
use super::scribe::Scribe;
use super::state::{Gap, TaskNow, World};
use super::top::Top;
use super::{
    BlockerRef, Finding, Histogram, Moment, Score, Section, TaskRef, ThreadRef, Unit, WakeRef,
};
use crate::wire::Nanos;
use crate::words::duration;
use std::collections::HashSet;

/// A task that was woken should not wait longer than this.
pub const LONG_DELAY: Nanos = Nanos(10_000_000);

const LONGEST: usize = 10;

/// Times from wake to poll.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Delays {
    /// How long they were: of polls whose wake was recorded, or that were the first of their task.
    pub lengths: Histogram,
    /// How many were longer than [`LONG_DELAY`].
    pub long: u64,
    /// Polls of which it is not known who woke the task.
    pub causes_unknown: u64,
    /// The longest, longest first.
    pub longest: Vec<Delay>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Delay {
    /// The task that waited.
    pub task: TaskRef,
    /// Since when it might have run: it was woken, or the poll ended in which it was, or it was
    /// spawned.
    pub runnable: Moment,
    /// How long it was not polled; at least so long, if nobody did up to the end.
    pub length: Nanos,
    /// Who woke it, latest first, and who had woken those.
    pub wakes: Vec<WakeRef>,
    /// Who polled it then; none if nobody did up to the end.
    pub polled_by: Option<ThreadRef>,
    /// What that thread was doing for most of the time.
    pub blocker: Option<BlockerRef>,
}

/// Watches delays.
#[derive(Default)]
pub(super) struct DelayWatch {
    lengths: Histogram,
    long: u64,
    unknown: u64,
    uncertain: u64,
    longest: Top<(Nanos, Gap), LONGEST>,
}

impl DelayWatch {
    pub(super) fn polled(&mut self, gap: &Gap) {
        match gap.delay() {
            Some(delay) => {
                self.lengths.add(delay);
                self.note(delay, gap);
            }
            None => self.unknown += 1,
        }
    }

    fn note(&mut self, delay: Nanos, gap: &Gap) {
        self.long += u64::from(delay > LONG_DELAY);
        if self.longest.wants(delay.0) {
            self.longest.add(delay.0, (delay, gap.clone()));
        }
    }

    /// Who was woken, and not polled up to the end.
    pub(super) fn end(&mut self, world: &World, end: Nanos) {
        for (runnable, task) in world.runnable() {
            let Some(entry) = world.tasks.get(&task) else { continue };
            let certain = matches!(entry.state,
                TaskNow::Idle { mark, .. } if world.doubts.certain_since(mark));
            let delay = end.since(runnable);
            if certain {
                self.note(delay, &entry.gap(task));
            } else {
                self.uncertain += u64::from(delay > LONG_DELAY);
            }
        }
    }

    pub(super) fn finish(self, scribe: &Scribe<'_>) -> Section<Delays> {
        let mut section = Section::<Delays>::default();
        if self.uncertain > 0 {
            section.not_assessed.push(format!(
                "{} woken and not seen to be polled, but events are missing: {}",
                match self.uncertain {
                    1 => "1 task was".to_owned(),
                    many => format!("{many} tasks were"),
                },
                scribe.world.doubts.because()
            ));
        }
        let mut told: HashSet<Name> = HashSet::new();
        for (length, gap) in self.longest.iter() {
            let delay = Delay {
                task: scribe.task(gap.task, gap.name),
                runnable: gap.runnable.map_or(Moment(0), |runnable| scribe.moment(runnable)),
                length: *length,
                wakes: scribe.wakes(&gap.chain),
                polled_by: gap.polled.map(|(_, thread)| scribe.thread(thread)),
                blocker: gap.blocker.as_ref().map(|blocker| scribe.blocker(blocker)),
            };
            if told.insert(gap.name) {
                section.findings.extend(finding(&delay, gap, scribe));
            }
            section.table.longest.push(delay);
        }
        section.table.lengths = self.lengths;
        section.table.long = self.long;
        section.table.causes_unknown = self.unknown;
        section.settle(5)
    }
}

fn finding(delay: &Delay, gap: &Gap, scribe: &Scribe<'_>) -> Option<Finding> {
    let score = Score::beyond(delay.length.0 as f64, LONG_DELAY.0 as f64, Unit::Nanos)?;
    let spawned = delay.wakes.first().is_some_and(|wake| wake.spawned);
    let how = if spawned { "spawned" } else { "woken" };
    let length = duration(delay.length);
    let mut title = match &delay.polled_by {
        Some(thread) => format!(
            "Task {} was {how} and then not polled for {length}, until {} did",
            delay.task.label(),
            thread.label()
        ),
        None => format!(
            "Task {} was {how} and not polled for the last {length} of the snapshot",
            delay.task.label()
        ),
    };
    if let Some(blocker) = &delay.blocker {
        let task = blocker.task.label();
        title += &format!(", which had been polling {task} for {}", duration(blocker.length));
    }
    let from = gap.runnable?;
    let until = gap.polled.map(|(polled, _)| polled);
    let mut wait = scribe.evidence(format!("ready to run for {length}"), from, until);
    wait.task = Some(delay.task.clone());
    wait.thread.clone_from(&delay.polled_by);
    let mut evidence = vec![wait];
    for (hop, wake) in gap.chain.iter().zip(&delay.wakes).take(3) {
        let what = if wake.spawned { "spawned by" } else { "woken by" };
        let mut one = scribe.evidence(format!("{what} {}", wake.label()), hop.at, None);
        one.thread = Some(wake.thread.clone());
        one.task.clone_from(&wake.task);
        one.depth = evidence.len().min(200) as u8;
        evidence.push(one);
    }
    if let (Some(blocker), Some(told)) = (&gap.blocker, &delay.blocker) {
        let what = format!("meanwhile in a poll of {}", duration(told.length));
        let mut one = scribe.evidence(what, blocker.began, Some(blocker.ended));
        one.thread.clone_from(&delay.polled_by);
        one.task = Some(told.task.clone());
        one.depth = 1;
        evidence.push(one);
    }
    Some(Finding { analysis: "delays", title, score, evidence })
}
