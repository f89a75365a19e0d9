//! What tasks waited for, as they said it themselves: a permit of a pool, an answer, a lock.
//!
//! A wait begins when a poll ends with a reason, and is over when the task is woken; or polled, or
//! dropped, if no wake is seen.

use super::length::Length;
use super::map::Map;
use super::names::Name;
use super::scribe::Scribe;
use super::state::Wait;
use super::top::Top;
use super::{Histogram, Moment, Section, TaskRef};
use crate::wire::{Nanos, TaskId};
use crate::words::counted;

/// Reasons beyond this many are not told apart.
const MOST_REASONS: usize = 1024;
const LONGEST: usize = 3;

/// What tasks waited for, those reasons first that took most time in all.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Waits {
    /// Each reason.
    pub reasons: Vec<WaitReason>,
    /// Waits for further reasons, which were not looked at.
    pub others: u64,
}

/// One reason.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaitReason {
    /// What was waited for.
    pub reason: String,
    /// How long, each time: of those waits that are over.
    pub lengths: Histogram,
    /// How many tasks still waited when the snapshot ends.
    pub open: u64,
    /// All waits together, those that are not over up to the end.
    pub total: Nanos,
    /// How many tasks waited for it at once, at most.
    pub most_at_once: u64,
    /// The longest, those that are not over included, longest first.
    pub longest: Vec<LongWait>,
}

impl WaitReason {
    /// How many waits there were, those that are not over included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lengths.count() + self.open
    }
}

/// One wait.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LongWait {
    /// Who waited.
    pub task: TaskRef,
    /// Since when.
    pub began: Moment,
    /// How long; up to the end of the snapshot, if it is not over.
    pub length: Nanos,
    /// It is not over.
    pub open: bool,
}

/// Watches waits.
#[derive(Default)]
pub(super) struct WaitLedger {
    reasons: Map<Name, OfReason>,
    others: u64,
    uncertain: u64,
}

#[derive(Default)]
struct OfReason {
    lengths: Histogram,
    open: u64,
    total: Nanos,
    now: u64,
    most: u64,
    longest: Top<Kept, LONGEST>,
}

#[derive(Clone, Copy)]
struct Kept {
    task: TaskId,
    name: Name,
    began: Nanos,
    length: Nanos,
    open: bool,
}

impl WaitLedger {
    /// One task more waits for it.
    pub(super) fn begin(&mut self, what: Name) {
        if self.reasons.len() >= MOST_REASONS && !self.reasons.contains_key(&what) {
            self.others += 1;
            return;
        }
        let of = self.reasons.entry(what).or_default();
        of.now += 1;
        of.most = of.most.max(of.now);
    }

    /// It waits no longer. `certain` is whether nothing was lost meanwhile.
    pub(super) fn over(&mut self, task: TaskId, name: Name, wait: Wait, at: Nanos, certain: bool) {
        self.ends(task, name, wait, at, certain, false);
    }

    /// It still waits when the snapshot ends.
    pub(super) fn still(&mut self, task: TaskId, name: Name, wait: Wait, at: Nanos, certain: bool) {
        self.ends(task, name, wait, at, certain, true);
    }

    fn ends(&mut self, task: TaskId, name: Name, wait: Wait, at: Nanos, certain: bool, open: bool) {
        let Some(of) = self.reasons.get_mut(&wait.what) else { return };
        of.now = of.now.saturating_sub(1);
        if !certain {
            self.uncertain += 1;
            return;
        }
        let length = at.since(wait.since);
        of.total.grow(length);
        match open {
            true => of.open += 1,
            false => of.lengths.add(length),
        }
        if of.longest.wants(length.0) {
            of.longest.add(length.0, Kept { task, name, began: wait.since, length, open });
        }
    }

    /// What comes does not follow on what was: nobody knows whether they still wait.
    pub(super) fn forget(&mut self) {
        for of in self.reasons.values_mut() {
            self.uncertain += std::mem::take(&mut of.now);
        }
    }

    pub(super) fn finish(&self, scribe: &Scribe<'_>) -> Section<Waits> {
        let mut section = Section::<Waits>::default();
        for (what, of) in &self.reasons {
            let longest = of.longest.iter().map(|kept| LongWait {
                task: scribe.task(kept.task, kept.name),
                began: scribe.moment(kept.began),
                length: kept.length,
                open: kept.open,
            });
            section.table.reasons.push(WaitReason {
                reason: scribe.text(*what),
                lengths: of.lengths.clone(),
                open: of.open,
                total: of.total,
                most_at_once: of.most,
                longest: longest.collect(),
            });
        }
        section
            .table
            .reasons
            .sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.reason.cmp(&b.reason)));
        section.table.others = self.others;
        if self.uncertain > 0 {
            section.not_assessed.push(format!(
                "{} touch times from which events are missing: {}",
                counted(self.uncertain, "wait"),
                scribe.world.doubts.because()
            ));
        }
        section
    }
}
