//! Stuck tasks: not polled, and not woken.
//!
//! Most tasks of a healthy service wait most of the time, and all of them do when there is nothing to do.
//! So a task is a suspect only if it has something to do: it is inside a span, and other spans of that name
//! have closed; or, where no spans are recorded, other tasks of its name continue. Then its wait is compared
//! with the waits of tasks of its name.

use super::interner::Name;
use super::locks::LockWatch;
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::spans::SpanWatch;
use super::state::{Gap, TaskNow};
use super::{
    FEWEST_SPANS, Finding, Histogram, LockWaiter, Moment, Score, Section, SpanRef, TaskRef, Unit,
};
use crate::format::{counted, duration};
use crate::read::decode::fast_map::Map;
use crate::wire::{Nanos, TaskId};
use std::collections::BTreeMap;

/// A task that has been unpolled for less than this is not called stuck.
pub const STUCK: Nanos = Nanos(1_000_000_000);
/// With fewer waits of tasks of a name than this, nothing is concluded.
pub const FEWEST_WAITS: u64 = 8;

const MOST_NAMES: usize = 4096;
const LISTED: usize = 10;

/// Tasks that were alive at the end of the snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StuckTasks {
    /// How many.
    pub live: u64,
    /// How many of them had been woken, or were being polled.
    pub active: u64,
    /// How many were not polled in the whole snapshot.
    pub idle_throughout: u64,
    /// Those that had been neither polled nor woken for longest.
    pub longest: Vec<IdleTask>,
    /// How long each of them has been, and whether that began before the snapshot.
    pub(crate) idle: BTreeMap<TaskId, (Nanos, bool)>,
}

/// A task that is neither polled nor woken.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IdleTask {
    /// The task.
    pub task: TaskRef,
    /// Since when, or the beginning of the snapshot if it was before that.
    pub since: Moment,
    /// How long; at least, if it began before the snapshot.
    pub length: Nanos,
    /// Whether it began before the snapshot.
    pub before: bool,
    /// What it waits for, if it said so.
    pub waits_for: Option<String>,
    /// The lock that it waits for, if that is recorded.
    pub lock: Option<LockWaiter>,
    /// The innermost open span that it runs in.
    pub span: Option<SpanRef>,
    /// The length that is too long for it, if that can be told.
    pub limit: Option<Nanos>,
}

/// What similar tasks have in common: their name, their span with its route, what they wait for, and where they do for a lock.
type GroupKey = (Name, Option<Name>, Option<Name>, Option<Name>);

/// Watches how long tasks wait.
#[derive(Default)]
pub(super) struct WaitWatch {
    waits: Map<Name, IdleTimes>,
}

#[derive(Default)]
struct IdleTimes {
    lengths: Histogram,
    /// When one of that name was last polled.
    last: Nanos,
}

impl WaitWatch {
    pub(super) fn polled(&mut self, gap: &Gap) {
        // A task that was just spawned has not waited.
        let spawned = gap.chain.first().is_some_and(|hop| hop.spawned);
        if let (Some(since), Some((polled, _))) = (gap.since, gap.polled)
            && !spawned
            && (self.waits.len() < MOST_NAMES || self.waits.contains_key(&gap.name))
        {
            let wait = polled.since(since);
            let waits = self.waits.entry(gap.name).or_default();
            waits.lengths.add(wait);
            waits.last = polled;
        }
    }

    /// What is too long for a task of this name that has waited since then. `busy` is whether it is known to
    /// have something to do; none if that is not known of any task.
    fn limit(&self, name: Name, since: Nanos, busy: Option<bool>) -> Option<Nanos> {
        let waits = self.waits.get(&name)?;
        let others_go_on = waits.last.0 >= since.0.saturating_add(STUCK.0);
        if waits.lengths.count() < FEWEST_WAITS || !busy.unwrap_or(others_go_on) {
            return None;
        }
        let usual = match busy {
            Some(_) => waits.lengths.percentile(0.99).0.saturating_mul(10),
            None => waits.lengths.most().0.saturating_mul(3),
        };
        Some(Nanos(usual).max(STUCK))
    }

    /// `spans` has the observed spans, if any are recorded, and `locks` what tasks wait for at the end.
    pub(super) fn finish(
        &self,
        context: &ReportContext<'_>,
        spans: Option<&SpanWatch>,
        locks: &LockWatch,
    ) -> Section<StuckTasks> {
        let live = context.live;
        let mut section = Section::<StuckTasks>::default();
        section.table.live = live.tasks.len() as u64;
        let mut idle: Vec<(Nanos, TaskId)> = Vec::new();
        let mut uncertain = 0_u64;
        for (id, task) in &live.tasks {
            match task.state {
                TaskNow::Idle { since, mark, exact, .. } if task.wake.is_none() => {
                    if live.doubts.certain_since(mark) {
                        section.table.idle_throughout += u64::from(!exact);
                        idle.push((since, *id));
                    } else {
                        uncertain += 1;
                    }
                }
                _ => section.table.active += 1,
            }
        }
        idle.sort();
        if uncertain > 0 {
            section.not_assessed.push(format!(
                "{} may have been polled or woken unseen: {}",
                counted(uncertain, "task"),
                live.doubts.because()
            ));
        }
        // Similar tasks have the same name, route and reason to wait.
        let mut worst: Map<GroupKey, (u64, IdleTask, Nanos)> = Map::default();
        for (since, id) in idle {
            let Some(task) = live.tasks.get(&id) else { continue };
            let span = task.spans.last().and_then(|span| live.spans.get(span));
            let is_one_of_many = |spans: &SpanWatch| {
                span.is_some_and(|span| {
                    spans.closed(span.label.group, span.label.name) >= FEWEST_SPANS
                })
            };
            let limit = self.limit(task.name, since, spans.map(is_one_of_many));
            let length = context.end.since(since);
            let is_before = matches!(task.state, TaskNow::Idle { exact: false, .. });
            section.table.idle.insert(id, (length, is_before));
            let told = || IdleTask {
                task: context.task(id, task.name),
                since: context.moment(since),
                length,
                before: matches!(task.state, TaskNow::Idle { exact: false, .. }),
                waits_for: task.waits_for.map(|name| context.text(name)),
                lock: locks.of_task(id).map(|wait| wait.told(context)),
                span: span.map(|span| context.span(&span.label)),
                limit,
            };
            if limit.is_some_and(|limit| length > limit) {
                let route = live.purpose(id).map(|span| span.group);
                let key = (task.name, route, task.waits_for, locks.of_task(id).map(|wait| wait.at));
                let entry = worst.entry(key).or_insert_with(|| (0, told(), since));
                entry.0 += 1;
            }
            if section.table.longest.len() < LISTED {
                section.table.longest.push(told());
            }
        }
        let mut worst: Vec<_> = worst.into_values().collect();
        worst.sort_by_key(|(_, task, _)| (task.since, task.task.task));
        section.findings.extend(worst.iter().filter_map(|worst| finding(worst, context)));
        section.settle(5)
    }
}

fn finding(
    (alike, idle, since): &(u64, IdleTask, Nanos),
    context: &ReportContext<'_>,
) -> Option<Finding> {
    let limit = idle.limit?;
    let score = Score::beyond(idle.length.0 as f64, limit.0 as f64, Unit::Nanos)?;
    let least = if idle.before { "at least " } else { "" };
    let mut title = format!(
        "Task {} has not been polled for {least}{}, and nobody woke it",
        idle.task.label(),
        duration(idle.length)
    );
    if let Some(span) = &idle.span {
        title += &format!("; it is inside span {}", span.label());
    }
    if let Some(waits_for) = &idle.waits_for {
        title += &format!("; it waits for `{waits_for}`");
    }
    if let Some(lock) = &idle.lock {
        title += &format!("; it waits for {}", lock.lock_and_holder());
    }
    if *alike > 1 {
        title += &format!(" ({} more like it)", alike - 1);
    }
    let mut evidence = context.evidence("its last poll ended", *since, None);
    if idle.before {
        evidence.what = "idle since before the snapshot".to_owned();
    }
    evidence.task = Some(idle.task.clone());
    evidence.span.clone_from(&idle.span);
    let mut finding = Finding::new("stuck", title, score, vec![evidence]);
    finding.lock.clone_from(&idle.lock);
    Some(finding)
}
