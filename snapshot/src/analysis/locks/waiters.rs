//! Who waits, or has waited, for a lock.

use crate::analysis::lock_wait::{Wait, Waiter};
use crate::analysis::nanos_ext::Length;
use crate::analysis::report_context::ReportContext;
use crate::analysis::{Evidence, Moment, TaskRef};
use crate::format::{count, counted, duration};
use crate::wire::{LockKind, Nanos, TaskId};
use std::collections::BTreeMap;

/// So many who waited for one lock are told apart, and so many for all.
const MOST: usize = 4096;
const MOST_IN_ALL: usize = 1 << 16;
/// So many are named; of others it is said how many there are.
pub(super) const NAMED: usize = 5;

/// Of so many holders it is asked what they did meanwhile.
const HOLDERS: usize = 16;

/// How many more may be told apart.
#[derive(Debug)]
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(MOST_IN_ALL)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiters(BTreeMap<Waiter, OfWaiter>);

/// The waits of one.
#[derive(Debug)]
struct OfWaiter {
    waits: u64,
    waited: Nanos,
    first: Nanos,
    last: Wait,
}

impl OfWaiter {
    fn is_within(&self, from: Nanos, until: Nanos) -> bool {
        self.first <= until && (!self.last.is_over || self.last.known >= from)
    }
}

impl Waiters {
    pub(super) fn add(&mut self, wait: &Wait, room: &mut Room) {
        // A lock of threads is waited for by its thread; a few of those may wait for many tasks.
        let who = wait.task.map_or(wait.waiter, |task| Waiter::Task(task.task));
        if let Some(known) = self.0.get_mut(&who) {
            known.waits += 1;
            known.waited.grow(wait.length());
            known.first = known.first.min(wait.began);
            known.last = wait.clone();
        } else if self.0.len() < MOST && room.0 > 0 {
            room.0 -= 1;
            let (waited, first) = (wait.length(), wait.began);
            self.0.insert(who, OfWaiter { waits: 1, waited, first, last: wait.clone() });
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The locks that they waited for last.
    pub(super) fn locks(&self) -> Vec<u64> {
        let mut locks: Vec<_> = self.0.values().map(|of| of.last.lock).collect();
        locks.sort_unstable();
        locks.dedup();
        locks
    }

    /// Tasks that had the lock while others waited, each with since when and until when at least, where it had that longest: of the
    /// waits that each waiter had last. A lock of threads is held by the thread that polls a task, unless that task keeps it across
    /// an await.
    pub(super) fn holders(&self, context: &ReportContext<'_>) -> Vec<(TaskRef, Moment, Moment)> {
        let mut found: BTreeMap<TaskId, (TaskRef, Moment, Moment)> = BTreeMap::new();
        for wait in self.0.values().map(|of| &of.last) {
            let Some(held) = &wait.held else { continue };
            let is_of_task = wait.kind.is_some_and(LockKind::is_of_tasks) || held.is_across_await;
            let holder = held.task.filter(|of| Some(of.task) != wait.task_id());
            let Some(named) = holder.filter(|_| is_of_task) else { continue };
            let since = held.since.unwrap_or(wait.began);
            let until = held.over.unwrap_or(if wait.is_over { wait.known } else { context.end });
            let (since, until) = (context.moment(since), context.moment(until));
            let known =
                found.get(&named.task).map(|(_, since, until)| until.0.saturating_sub(since.0));
            let is_longer = known.is_none_or(|known| known < until.0.saturating_sub(since.0));
            if is_longer && (known.is_some() || found.len() < HOLDERS) {
                found.insert(named.task, (named.told(context), since, until));
            }
        }
        found.into_values().collect()
    }

    /// How many waited within this time.
    pub(super) fn count_within(&self, from: Nanos, until: Nanos) -> u64 {
        self.0.values().filter(|of| of.is_within(from, until)).count() as u64
    }

    /// The first few, those that waited longest first: who they are, since when, and for how long.
    pub(super) fn evidence(&self, depth: u8, context: &ReportContext<'_>) -> Vec<Evidence> {
        self.evidence_within(Nanos(0), Nanos(u64::MAX), depth, context)
    }

    /// The same of those who waited within this time.
    pub(super) fn evidence_within(
        &self,
        from: Nanos,
        until: Nanos,
        depth: u8,
        context: &ReportContext<'_>,
    ) -> Vec<Evidence> {
        let mut all: Vec<_> = self.0.values().filter(|of| of.is_within(from, until)).collect();
        all.sort_by_key(|of| (of.last.is_over, std::cmp::Reverse(of.waited), of.first));
        let line = |of: &&OfWaiter| {
            let (times, waited) = (counted(of.waits, "time"), duration(of.waited));
            let what = match (of.last.is_over, of.waits) {
                (true, 1) => format!("{} waited {waited}", of.last.who(context)),
                (true, _) => format!("{} waited {times}, {waited} in all", of.last.who(context)),
                (false, 1) => format!("{} still waits, after {waited}", of.last.who(context)),
                (false, _) => {
                    format!("{} still waits, {times}, {waited} in all", of.last.who(context))
                }
            };
            let until = of.last.is_over.then_some(of.last.known);
            of.last.evidence_that(what, (of.first, until), depth, context)
        };
        let mut lines: Vec<_> = all.iter().take(NAMED).map(line).collect();
        let first = all.iter().skip(NAMED).map(|of| of.first).min();
        if let Some(first) = first {
            let more = format!("and {} more", count((all.len() - NAMED) as u64));
            let mut more = context.evidence(more, first, None);
            more.depth = depth;
            lines.push(more);
        }
        lines
    }
}
