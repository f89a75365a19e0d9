//! From wake to poll: tasks that are ready to run and are not polled.

use super::interner::Name;
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::state::{Gap, Label, LiveState, TaskNow};
use super::top_n::Top;
use super::{
    BlockerRef, Finding, Histogram, Moment, Score, Section, SpanRef, TaskRef, ThreadRef, Unit,
    WakeRef,
};
use crate::format::duration;
use crate::read::decode::fast_map::Map;
use crate::wire::Nanos;

/// A woken task should not wait longer than this.
pub const LONG_DELAY: Nanos = Nanos(10_000_000);

const LONGEST: usize = 10;
/// The most groups that are distinguished.
const MOST_GROUPS: usize = 4096;

/// Times from wake to poll.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Delays {
    /// Their lengths: for polls whose wake was recorded, or that were the first of their task.
    pub lengths: Histogram,
    /// How many were longer than [`LONG_DELAY`].
    pub long: u64,
    /// Polls whose waker is not known.
    pub causes_unknown: u64,
    /// The longest, longest first.
    pub longest: Vec<Delay>,
}

/// One delay.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Delay {
    /// The task that waited.
    pub task: TaskRef,
    /// Since when it was ready to run: when it was woken, or when the poll ended during which it was woken,
    /// or when it was spawned.
    pub runnable: Moment,
    /// How long it was not polled; at least, if it was not polled before the end.
    pub length: Nanos,
    /// The waker, then that one's waker, and so on.
    pub wakes: Vec<WakeRef>,
    /// The thread that polled it then; none if it was not polled before the end.
    pub polled_by: Option<ThreadRef>,
    /// The innermost span with a route that the task runs in; without a route, the innermost span.
    pub span: Option<SpanRef>,
    /// What that thread was doing most of the time.
    pub blocker: Option<BlockerRef>,
}

/// A delay, its gap, and the span that shows the task's purpose.
type Long = (Nanos, Gap, Option<Label>);

/// Watches delays.
#[derive(Default)]
pub(super) struct DelayWatch {
    lengths: Histogram,
    long: u64,
    unknown: u64,
    uncertain: u64,
    longest: Top<Long, LONGEST>,
    /// The longest of each group of similar delays, and their number; grouped by the task's name and the
    /// route.
    worst: Map<(Name, Option<Name>), (u64, Long)>,
}

impl DelayWatch {
    pub(super) fn polled(&mut self, gap: &Gap, live: &LiveState) {
        match gap.delay() {
            Some(delay) => {
                self.lengths.add(delay);
                self.note(delay, gap, live);
            }
            None => self.unknown += 1,
        }
    }

    fn note(&mut self, delay: Nanos, gap: &Gap, live: &LiveState) {
        self.long += u64::from(delay > LONG_DELAY);
        if delay > LONG_DELAY {
            let span = live.purpose(gap.task);
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
            let span = live.purpose(gap.task).cloned();
            self.longest.add(delay.0, (delay, gap.clone(), span));
        }
    }

    /// Tasks that were woken, and not polled before the end.
    pub(super) fn end(&mut self, live: &LiveState, end: Nanos) {
        for (runnable, task) in live.runnable() {
            let Some(entry) = live.tasks.get(&task) else { continue };
            let certain = matches!(entry.state,
                TaskNow::Idle { mark, .. } if live.doubts.certain_since(mark));
            let delay = end.since(runnable);
            if certain {
                self.note(delay, &entry.gap(task), live);
            } else {
                self.uncertain += u64::from(delay > LONG_DELAY);
            }
        }
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<Delays> {
        let mut section = Section::<Delays>::default();
        if self.uncertain > 0 {
            section.not_assessed.push(format!(
                "{} woken and not seen to be polled, but events are missing: {}",
                match self.uncertain {
                    1 => "1 task was".to_owned(),
                    many => format!("{many} tasks were"),
                },
                context.live.doubts.because()
            ));
        }
        let told = |(length, gap, span): &Long| Delay {
            task: context.task(gap.task, gap.name),
            runnable: gap.runnable.map_or(Moment(0), |runnable| context.moment(runnable)),
            length: *length,
            wakes: context.wakes(&gap.chain),
            polled_by: gap.polled.map(|(_, thread)| context.thread(thread)),
            span: span.as_ref().map(|span| context.span(span)),
            blocker: gap.blocker.as_ref().map(|blocker| context.blocker(blocker)),
        };
        section.table.longest.extend(self.longest.iter().map(told));
        // Each group is reported once, by its longest delay.
        let mut worst: Vec<_> = self.worst.into_values().collect();
        worst.sort_by_key(|(_, (delay, gap, _))| {
            (std::cmp::Reverse(*delay), gap.runnable, gap.task)
        });
        worst.truncate(LONGEST);
        let alike = worst.iter();
        let found =
            alike.filter_map(|(count, long)| finding(*count, &told(long), &long.1, context));
        section.findings.extend(found);
        section.table.lengths = self.lengths;
        section.table.long = self.long;
        section.table.causes_unknown = self.unknown;
        section.settle(5)
    }
}

fn finding(alike: u64, delay: &Delay, gap: &Gap, context: &ReportContext<'_>) -> Option<Finding> {
    let score = Score::beyond(delay.length.0 as f64, LONG_DELAY.0 as f64, Unit::Nanos)?;
    let spawned = delay.wakes.first().is_some_and(|wake| wake.spawned);
    let since = if spawned { "spawn" } else { "wake" };
    let length = duration(delay.length);
    let mut title = match &delay.polled_by {
        Some(thread) => format!(
            "Task {} waited {length} from its {since} to its poll on {}",
            delay.task.label(),
            thread.label()
        ),
        None => format!(
            "Task {} has not been polled since its {since}, {length} before the end of the snapshot",
            delay.task.label()
        ),
    };
    if let Some(blocker) = &delay.blocker {
        let task = blocker.task.label();
        title += &format!(", which had been polling {task} for {}", duration(blocker.length));
    }
    if let Some(span) = &delay.span {
        title += &format!("; it is inside span {}", span.label());
    }
    if alike > 1 {
        title += &format!(" ({} more like it)", alike - 1);
    }
    let from = gap.runnable?;
    let until = gap.polled.map(|(polled, _)| polled);
    let mut wait = context.evidence(format!("ready to run for {length}"), from, until);
    wait.task = Some(delay.task.clone());
    wait.span.clone_from(&delay.span);
    wait.thread.clone_from(&delay.polled_by);
    let mut evidence = vec![wait];
    for (hop, wake) in gap.chain.iter().zip(&delay.wakes).take(3) {
        let what = if wake.spawned { "spawned by" } else { "woken by" };
        let mut one = context.evidence(format!("{what} {}", wake.label()), hop.at, None);
        one.thread = Some(wake.thread.clone());
        one.task.clone_from(&wake.task);
        one.depth = evidence.len().min(200) as u8;
        evidence.push(one);
    }
    if let (Some(blocker), Some(told)) = (&gap.blocker, &delay.blocker) {
        let what = format!("meanwhile in a poll of {}", duration(told.length));
        let mut one = context.evidence(what, blocker.began, Some(blocker.ended));
        one.thread.clone_from(&delay.polled_by);
        one.task = Some(told.task.clone());
        one.depth = 1;
        evidence.push(one);
    }
    let mut finding = Finding::new("delays", title, score, evidence);
    finding.wants_core = true;
    Some(finding)
}
