//! All spans of one name: what the slow ones spend their time with.
//!
//! Of each span only its sums are kept, added to those of spans that took about as long: so memory does not grow with
//! their number.

use crate::analysis::Histogram;
use crate::analysis::interner::Name;
use crate::analysis::nanos_ext::Length;
use crate::analysis::state::SpanDone;
use crate::wire::Nanos;
use std::collections::BTreeMap;

/// What one span, or several together, spent their time with. The parts add up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct NameSums {
    pub(super) spans: u64,
    pub(super) time: Nanos,
    pub(super) polling: Nanos,
    pub(super) runnable: Nanos,
    /// Waiting, without a reason that the task gave.
    pub(super) waiting: Nanos,
    pub(super) unknown: Nanos,
    pub(super) reasons: BTreeMap<Name, Nanos>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SpansOfName {
    pub(super) lengths: Histogram,
    pub(super) open: u64,
    /// By how long they took, in the buckets of a histogram.
    by_length: BTreeMap<usize, NameSums>,
}

/// How many reasons to wait are told apart in a bucket.
const MOST_REASONS: usize = 64;

impl SpansOfName {
    pub(super) fn add(&mut self, span: &SpanDone) {
        // Of one that is open or began before the snapshot, a part is not known.
        if span.open || span.before {
            self.open += u64::from(span.open);
            return;
        }
        self.lengths.add(span.length());
        let sums = self.by_length.entry(Histogram::bucket_of(span.length())).or_default();
        sums.add(span);
    }

    /// Those that took at least as long as this, together.
    pub(super) fn from(&self, length: Nanos) -> NameSums {
        let mut all = NameSums::default();
        let from = Histogram::bucket_of(length);
        self.by_length.range(from..).for_each(|(_, sums)| all.add_all(sums));
        all
    }
}

impl NameSums {
    fn add(&mut self, span: &SpanDone) {
        let spent = &span.spent;
        let mut rest = spent.waiting;
        for (what, length) in &spent.reasons {
            let length = (*length).min(rest);
            if self.reasons.len() < MOST_REASONS || self.reasons.contains_key(what) {
                self.reasons.entry(*what).or_default().grow(length);
                rest = rest.since(length);
            }
        }
        self.spans += 1;
        self.time.grow(span.length());
        self.polling.grow(spent.polling);
        self.runnable.grow(spent.runnable);
        self.waiting.grow(rest);
        self.unknown.grow(spent.unknown);
    }

    fn add_all(&mut self, more: &Self) {
        self.spans += more.spans;
        self.time.grow(more.time);
        self.polling.grow(more.polling);
        self.runnable.grow(more.runnable);
        self.waiting.grow(more.waiting);
        self.unknown.grow(more.unknown);
        for (what, length) in &more.reasons {
            self.reasons.entry(*what).or_default().grow(*length);
        }
    }
}
