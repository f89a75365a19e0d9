//! Where a span was created, stated and closed: the words that make each generation hold every open
//! span. See `span` for the protocol.
//!
//! # Synchronization
//!
//! `stated` is stored with release after the status was written, and loaded with acquire. Any
//! thread that names the span may store to it. A store that overwrites a newer one forgets that the
//! newer generation has a status, but never claims a status that does not exist. When a span
//! begins, `closed` is stored last, with release, so a thread that finds the span open finds all of
//! its state. All three are stored under a gate's flag: once no writer is left in a generation, its
//! stores are visible.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering};

/// The value of `closed` while the span is open.
const OPEN: u64 = u64::MAX;

/// See the module. All zeroes: a place that was never used.
#[repr(C)]
pub(crate) struct SpanGenerations {
    /// The last generation that stated the span, times two; plus 1 if the one before it did, too.
    stated: AtomicU64,
    created: AtomicU64,
    closed: AtomicU64,
}

impl SpanGenerations {
    #[cfg(any(loom, test))]
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { stated: zero(), created: zero(), closed: zero() }
    }

    /// A span takes the place, in `generation`. The span is not open yet.
    #[inline(always)]
    pub(crate) fn begin(&self, generation: u64) {
        self.created.store(generation, Ordering::Relaxed);
    }

    /// The span is open. Its open event is in `generation`; 0: that event was lost.
    #[inline(always)]
    pub(crate) fn open(&self, generation: u64) {
        self.stated.store(generation << 1, Ordering::Release);
        self.closed.store(OPEN, Ordering::Release);
    }

    /// The span is closed. Its close event is in `generation`.
    #[inline(always)]
    pub(crate) fn close(&self, generation: u64) {
        self.closed.store(generation, Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn is_stated_in(&self, generation: u64) -> bool {
        self.stated.load(Ordering::Acquire) >> 1 == generation
    }

    /// Whether a newer generation has stated the span: then a writer in this one must begin again.
    pub(crate) fn is_ahead_of(&self, generation: u64) -> bool {
        self.newest() > generation
    }

    /// The newest generation known to have stated the span.
    pub(crate) fn newest(&self) -> u64 {
        self.stated.load(Ordering::Acquire) >> 1
    }

    /// The span's status was written in `generation`.
    pub(crate) fn is_stated_now(&self, generation: u64) {
        let before = self.stated.load(Ordering::Relaxed) >> 1;
        let mark = u64::from(before + 1 == generation);
        self.stated.store(generation << 1 | mark, Ordering::Release);
    }

    /// The status written in `generation` is incomplete and must be written again.
    pub(crate) fn is_to_be_stated_again(&self, generation: u64) {
        if self.newest() == generation {
            self.stated.store((generation - 1) << 1, Ordering::Release);
        }
    }

    /// Whether the span is open: then all of its state is there.
    pub(crate) fn is_open(&self) -> bool {
        self.closed.load(Ordering::Acquire) == OPEN
    }

    /// Whether the listing of `generation` must state the span. Called when no writer is left in
    /// that generation and none is yet in the one after the next.
    pub(crate) fn is_to_be_listed(&self, generation: u64) -> bool {
        if self.closed.load(Ordering::Acquire) <= generation
            || self.created.load(Ordering::Relaxed) > generation
        {
            return false;
        }
        let stated = self.stated.load(Ordering::Acquire);
        stated >> 1 != generation && stated != (generation + 1) << 1 | 1
    }

    /// Whether another span can take the place, once `complete` is complete.
    #[inline(always)]
    pub(crate) fn is_free_for(&self, complete: u64) -> bool {
        self.closed.load(Ordering::Acquire) <= complete + 1
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_listed_where_nobody_stated_it() {
        let told = SpanGenerations::new();
        assert!(!told.is_to_be_listed(1), "never used");
        told.begin(3);
        told.open(3);
        assert!(!told.is_to_be_listed(2), "not yet");
        assert!(!told.is_to_be_listed(3), "its begin stands there");
        assert!(told.is_to_be_listed(4));
        told.is_stated_now(5);
        assert!(told.is_to_be_listed(4), "stated in 5, not in 4");
        told.is_stated_now(6);
        assert!(!told.is_to_be_listed(5), "the mark says that 5 has it");
        assert!(!told.is_to_be_listed(6));
        told.close(7);
        assert!(told.is_to_be_listed(6) || told.is_stated_in(6));
        assert!(!told.is_to_be_listed(7));
        assert!(!told.is_free_for(5) && told.is_free_for(6));
    }

    #[test]
    fn a_begin_that_was_lost_is_listed() {
        let told = SpanGenerations::new();
        told.begin(3);
        told.open(0);
        assert!(told.is_to_be_listed(3) && !told.is_to_be_listed(2));
    }
}
