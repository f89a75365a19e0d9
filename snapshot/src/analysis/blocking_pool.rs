//! Closures that may block, from `spawn_blocking` to where a thread begins with them.
//!
//! An executor has a bounded number of threads for them (Tokio 512, or what was set). A closure waits for one only if all of
//! them are taken, so whoever has them then is why.

use super::interner::Name;
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::state::{Gap, LiveState, TaskNow};
use super::{Evidence, Finding, Score, Section, TaskRef, Unit};
use crate::format::{counted, duration};
use crate::wire::{Nanos, TaskId};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A thread for a closure that may block takes no longer than this to begin with it, unless all are taken.
pub const LONG_QUEUED: Nanos = Nanos(100_000_000);

/// What runs is looked up again for one that has waited longer by this part: all tasks are looked at for it, and while the pool is
/// full each closure that begins has waited longer than the one before.
const LONGER: u64 = 8;

/// How many names of those that have the threads are told.
const NAMES: usize = 8;

/// Closures that may block.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BlockingPool {
    /// How many have begun.
    pub begun: u64,
    /// How many of those had waited longer than [`LONG_QUEUED`] for a thread.
    pub late: u64,
    /// How many wait for a thread at the end.
    pub queued: u64,
    /// How many run at the end.
    pub running: u64,
    /// The longest time that one has waited, up to the end if it still does.
    pub longest: Nanos,
    /// What ran when the one began that had waited longest, or one that had waited nearly as long; or at the end, if that one
    /// still waits: names and how many of each, most first, at most eight.
    pub had_by: Vec<(String, u64)>,
}

/// A closure that waits for a thread, or has waited for one.
struct Queued {
    task: TaskId,
    name: Name,
    since: Nanos,
    waited: Nanos,
    is_over: bool,
    had_by: Vec<(Name, u64)>,
    /// How long the one had waited for which that was looked up.
    looked_up: Nanos,
}

/// Watches them.
#[derive(Default)]
pub(super) struct BlockingWatch {
    begun: u64,
    late: u64,
    queued: u64,
    running: u64,
    longest: Option<Queued>,
    /// How often all tasks were looked at.
    looks: u64,
}

impl BlockingWatch {
    /// A thread begins with one.
    pub(super) fn begins(&mut self, gap: &Gap, live: &LiveState) {
        self.begun += 1;
        let spawned = gap.chain.first().is_some_and(|hop| hop.spawned);
        let Some((waited, since)) = gap.delay().zip(gap.runnable).filter(|_| spawned) else {
            return;
        };
        self.late += u64::from(waited > LONG_QUEUED);
        if waited > LONG_QUEUED && self.longest.as_ref().is_none_or(|known| known.waited < waited) {
            let (task, name, is_over) = (gap.task, gap.name, true);
            let known = self
                .longest
                .take()
                .filter(|known| waited.since(known.looked_up).0 <= known.looked_up.0 / LONGER);
            let (had_by, looked_up) = match known {
                Some(known) => (known.had_by, known.looked_up),
                None => {
                    self.looks += 1;
                    (running(live, Some(gap.task)).0, waited)
                }
            };
            self.longest = Some(Queued { task, name, since, waited, is_over, had_by, looked_up });
        }
    }

    /// The snapshot ends.
    pub(super) fn end(&mut self, live: &LiveState, end: Nanos) {
        let (had_by, running) = running(live, None);
        self.running = running;
        for (id, task) in live.tasks.iter().filter(|(_, task)| task.blocking) {
            // It is polled once: this one has not been.
            let TaskNow::Idle { since, mark, .. } = task.state else { continue };
            if !live.doubts.certain_since(mark) {
                continue;
            }
            self.queued += 1;
            let waited = end.since(since);
            // One that still waits tells more than one that does not.
            let is_longer = |known: &Queued| (!known.is_over, known.waited) < (true, waited);
            if waited > LONG_QUEUED && self.longest.as_ref().is_none_or(is_longer) {
                let (task, name, is_over) = (*id, task.name, false);
                let (had_by, looked_up) = (had_by.clone(), waited);
                self.longest =
                    Some(Queued { task, name, since, waited, is_over, had_by, looked_up });
            }
        }
    }

    pub(super) fn finish(&self, context: &ReportContext<'_>) -> Section<BlockingPool> {
        let told = |(name, many): &(Name, u64)| (context.text(*name), *many);
        let had_by = self.longest.iter().flat_map(|of| &of.had_by).map(told).collect();
        let table = BlockingPool {
            begun: self.begun,
            late: self.late,
            queued: self.queued,
            running: self.running,
            longest: self.longest.as_ref().map_or(Nanos(0), |of| of.waited),
            had_by,
        };
        let findings = self.longest.iter().filter_map(|of| finding(of, &table, context)).collect();
        Section { table, findings, ..Section::default() }
    }
}

/// The closures that run, by name, and how many in all.
fn running(live: &LiveState, but: Option<TaskId>) -> (Vec<(Name, u64)>, u64) {
    let mut names: BTreeMap<Name, u64> = BTreeMap::new();
    let mut all = 0;
    for (id, task) in live.tasks.iter().filter(|(_, task)| task.blocking) {
        if matches!(task.state, TaskNow::Running { .. }) && Some(*id) != but {
            *names.entry(task.name).or_default() += 1;
            all += 1;
        }
    }
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by_key(|(name, many)| (Reverse(*many), *name));
    names.truncate(NAMES);
    (names, all)
}

fn finding(of: &Queued, table: &BlockingPool, context: &ReportContext<'_>) -> Option<Finding> {
    let score = Score::beyond(of.waited.0 as f64, LONG_QUEUED.0 as f64, Unit::Nanos)?;
    let closures = |many: u64| counted(many, "closure");
    let task = TaskRef { task: of.task, name: context.text(of.name) };
    let begins = if of.is_over {
        format!(
            "{} of `spawn_blocking` waited for a thread, the longest for {}: `{}`",
            closures(table.late),
            duration(of.waited),
            task.name
        )
    } else {
        let waits = if table.queued == 1 { "waits" } else { "wait" };
        format!(
            "{} of `spawn_blocking` {waits} for a thread, the longest for {}: `{}`",
            closures(table.queued),
            duration(of.waited),
            task.name
        )
    };
    let had: Vec<_> =
        table.had_by.iter().map(|(name, many)| format!("{many} by `{name}`")).collect();
    // Without one that has a thread, the kernel may have taken long to begin one.
    if had.is_empty() {
        return None;
    }
    let are = if of.is_over { "were" } else { "are" };
    let had = format!("; all threads {are} taken, {}", had.join(", "));
    let over = of.is_over.then(|| of.since.plus(of.waited));
    let mut evidence: Evidence = context.evidence("waits for a thread".to_owned(), of.since, over);
    evidence.task = Some(task);
    let mut finding = Finding::new("blocking", begins + &had, score, vec![evidence]);
    finding.events = vec!["task_create", "task_poll"];
    Some(finding)
}
