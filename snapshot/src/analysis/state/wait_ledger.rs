//! What tasks wait for, and have waited for, by reason.

use super::Wait;
use crate::analysis::Histogram;
use crate::analysis::interner::{Name, Names};
use crate::analysis::lock_wait::{Wait as LockWait, called};
use crate::analysis::nanos_ext::Length;
use crate::analysis::top_n::Top;
use crate::read::decode::fast_map::Map;
use crate::wire::{Nanos, TaskId};

/// The most reasons that are distinguished.
const MOST_REASONS: usize = 1024;
const LONGEST: usize = 3;

/// Watches waits.
#[derive(Default)]
pub(crate) struct WaitLedger {
    pub(crate) reasons: Map<Name, OfReason>,
    pub(crate) others: u64,
    pub(crate) uncertain: u64,
}

#[derive(Default)]
pub(crate) struct OfReason {
    pub(crate) lengths: Histogram,
    pub(crate) open: u64,
    pub(crate) total: Nanos,
    pub(crate) now: u64,
    pub(crate) most: u64,
    /// How many wait for a lock at the end.
    locks_open: u64,
    pub(crate) longest: Top<Kept, LONGEST>,
}

#[derive(Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) task: TaskId,
    pub(crate) name: Name,
    pub(crate) began: Nanos,
    pub(crate) length: Nanos,
    pub(crate) open: bool,
}

impl WaitLedger {
    /// One more task waits for this.
    pub(super) fn begin(&mut self, what: Name) {
        if self.reasons.len() >= MOST_REASONS && !self.reasons.contains_key(&what) {
            self.others += 1;
            return;
        }
        let of = self.reasons.entry(what).or_default();
        of.now += 1;
        of.most = of.most.max(of.now);
    }

    /// The wait has ended. `certain` is whether nothing was lost meanwhile.
    pub(super) fn over(&mut self, task: TaskId, name: Name, wait: Wait, at: Nanos, certain: bool) {
        self.ends(task, name, wait, at, certain, false);
    }

    /// The task still waits at the end of the snapshot.
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

    /// A task has waited for a lock, or waits for it at the end: nobody has to say so. `at_once` is how many then did.
    pub(crate) fn lock(&mut self, wait: &LockWait, at_once: u64, names: &mut Names) {
        let Some(task) = wait.task else { return };
        let what = format!("{} at {}", called(wait.kind), names.text(wait.at));
        let what = names.name(&what);
        if self.reasons.len() >= MOST_REASONS && !self.reasons.contains_key(&what) {
            self.others += 1;
            return;
        }
        let (length, open) = (wait.length(), !wait.is_over);
        let of = self.reasons.entry(what).or_default();
        of.total.grow(length);
        if open {
            of.locks_open += 1;
            of.open += 1;
        } else {
            of.lengths.add(length);
        }
        of.most = of.most.max(at_once).max(of.locks_open);
        let kept = Kept { task: task.task, name: task.name, began: wait.began, length, open };
        of.longest.add(length.0, kept);
    }

    /// Forgets current waits: what comes does not follow on what was, so nothing shows whether they continue.
    pub(super) fn forget(&mut self) {
        for of in self.reasons.values_mut() {
            self.uncertain += std::mem::take(&mut of.now);
        }
    }
}
