//! From wake to poll: tasks that might run, and are not polled.

use super::length::Length;
use super::map::Map;
use super::names::Name;
use super::scribe::Scribe;
use super::state::{Gap, Label, TaskNow, World};
use super::top::Top;
use super::{
    BlockerRef, Finding, Histogram, Moment, Score, Section, SpanRef, TaskRef, ThreadRef, Unit,
    WakeRef,
};
use crate::wire::Nanos;
use crate::words::duration;

/// A task that was woken should not wait longer than this.
pub const LONG_DELAY: Nanos = Nanos(10_000_000);

const LONGEST: usize = 10;
/// More that differ are not told apart.
const MOST_GROUPS: usize = 4096;

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
    /// The innermost span that the task runs in and that has a route, else the innermost one.
    pub span: Option<SpanRef>,
    /// What that thread was doing for most of the time.
    pub blocker: Option<BlockerRef>,
}

/// A delay, its gap, and the span that says what the task was for.
type Long = (Nanos, Gap, Option<Label>);

/// Watches delays.
#[derive(Default)]
pub(super) struct DelayWatch {
    lengths: Histogram,
    long: u64,
    unknown: u64,
    uncertain: u64,
    longest: Top<Long, LONGEST>,
    /// The longest of those that are alike, and how many there were: by the task's name and the route.
    worst: Map<(Name, Option<Name>), (u64, Long)>,
}

impl DelayWatch {
    pub(super) fn polled(&mut self, gap: &Gap, world: &World) {
        match gap.delay() {
            Some(delay) => {
                self.lengths.add(delay);
                self.note(delay, gap, world);
            }
            None => self.unknown += 1,
        }
    }

    fn note(&mut self, delay: Nanos, gap: &Gap, world: &World) {
        self.long += u64::from(delay > LONG_DELAY);
        if delay > LONG_DELAY {
            let span = world.purpose(gap.task);
            let key = (gap.name, span.map(|span| span.group));
            let long = || (delay, gap.clone(), span.cloned());
            if let Some((count, worst)) = self.worst.get_mut(&key) {
                *count += 1;
                if worst.0 < delay {
                    *worst = long();
                }
            } else if self.worst.len() < MOST_GROUPS {
                self.worst.insert(key, (1, long()));
            }
        }
        if self.longest.wants(delay.0) {
            let span = world.purpose(gap.task).cloned();
            self.longest.add(delay.0, (delay, gap.clone(), span));
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
                self.note(delay, &entry.gap(task), world);
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
        let told = |(length, gap, span): &Long| Delay {
            task: scribe.task(gap.task, gap.name),
            runnable: gap.runnable.map_or(Moment(0), |runnable| scribe.moment(runnable)),
            length: *length,
            wakes: scribe.wakes(&gap.chain),
            polled_by: gap.polled.map(|(_, thread)| scribe.thread(thread)),
            span: span.as_ref().map(|span| scribe.span(span)),
            blocker: gap.blocker.as_ref().map(|blocker| scribe.blocker(blocker)),
        };
        section.table.longest.extend(self.longest.iter().map(told));
        // What is alike is told once, by the longest.
        let mut worst: Vec<_> = self.worst.into_values().collect();
        worst.sort_by_key(|(_, (delay, gap, _))| {
            (std::cmp::Reverse(*delay), gap.runnable, gap.task)
        });
        worst.truncate(LONGEST);
        let alike = worst.iter();
        let found = alike.filter_map(|(count, long)| finding(*count, &told(long), &long.1, scribe));
        section.findings.extend(found);
        section.table.lengths = self.lengths;
        section.table.long = self.long;
        section.table.causes_unknown = self.unknown;
        section.settle(5)
    }
}

fn finding(alike: u64, delay: &Delay, gap: &Gap, scribe: &Scribe<'_>) -> Option<Finding> {
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
    if let Some(span) = &delay.span {
        title += &format!("; it is inside of span {}", span.label());
    }
    if alike > 1 {
        title += &format!(" ({} more like it)", alike - 1);
    }
    let from = gap.runnable?;
    let until = gap.polled.map(|(polled, _)| polled);
    let mut wait = scribe.evidence(format!("ready to run for {length}"), from, until);
    wait.task = Some(delay.task.clone());
    wait.span.clone_from(&delay.span);
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
