//! What tasks waited for, as they said themselves: a permit of a pool, an answer, a lock.
//!
//! A wait begins when a poll ends with a reason, and ends when the task is woken; without a visible wake,
//! when it is polled or dropped.

use super::report_context::ReportContext;
use super::state::WaitLedger;
use super::{Histogram, Moment, Section, TaskRef};
use crate::format::counted;
use crate::wire::Nanos;

/// What tasks waited for; the reasons that took most time in all come first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Waits {
    /// The reasons.
    pub reasons: Vec<WaitReason>,
    /// Waits for further reasons, which were not analyzed.
    pub others: u64,
}

/// One reason.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaitReason {
    /// The reason.
    pub reason: String,
    /// How long each wait took: those that have ended.
    pub lengths: Histogram,
    /// How many tasks still waited at the end of the snapshot.
    pub open: u64,
    /// The sum of all waits; those that have not ended count up to the end.
    pub total: Nanos,
    /// How many tasks waited for it at the same time, at most.
    pub most_at_once: u64,
    /// The longest, including those that have not ended, longest first.
    pub longest: Vec<LongWait>,
}

impl WaitReason {
    /// How many waits there were, including those that have not ended.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lengths.count() + self.open
    }
}

/// One wait.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LongWait {
    /// The task that waited.
    pub task: TaskRef,
    /// Since when.
    pub began: Moment,
    /// How long, up to the end of the snapshot if it has not ended.
    pub length: Nanos,
    /// Whether it has not ended.
    pub open: bool,
}

impl Waits {
    /// The section, from the ledger at the end.
    pub(super) fn section(ledger: &WaitLedger, context: &ReportContext<'_>) -> Section<Self> {
        let mut section = Section::<Self>::default();
        for (what, of) in &ledger.reasons {
            let longest = of.longest.iter().map(|kept| LongWait {
                task: context.task(kept.task, kept.name),
                began: context.moment(kept.began),
                length: kept.length,
                open: kept.open,
            });
            section.table.reasons.push(WaitReason {
                reason: context.text(*what),
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
        section.table.others = ledger.others;
        if ledger.uncertain > 0 {
            section.not_assessed.push(format!(
                "{} touch times from which events are missing: {}",
                counted(ledger.uncertain, "wait"),
                context.live.doubts.because()
            ));
        }
        section
    }
}
