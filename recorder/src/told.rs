//! In which generation a span was stated, created, closed: the words by which each generation comes
//! to hold every span that is open. See `span` for the protocol.
//!
//! # Synchronization
//!
//! `stated` is stored with release after the status was written, and loaded with acquire. Any thread
//! that names the span may store to it; a store that overtakes another one forgets that the newer
//! generation has a status, and never claims one that is not there. `closed` is stored last when a
//! span begins, and with release, so who finds it open finds all that it is. All three are stored
//! under the flag of a gate: when no writer is left in a generation, what it stored can be seen.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering};

/// `closed` of a span that is open.
const OPEN: u64 = u64::MAX;

/// See the module. Zeroes are of a place that was never used.
#[repr(C)]
pub(crate) struct Told {
    /// The generation that stated it last, times two; 1 more if the one before had, too.
    stated: AtomicU64,
    created: AtomicU64,
    closed: AtomicU64,
}

impl Told {
    #[cfg(any(loom, test))]
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { stated: zero(), created: zero(), closed: zero() }
    }

    /// A span takes the place, in `generation`. It is not open yet.
    #[inline(always)]
    pub(crate) fn begin(&self, generation: u64) {
        self.created.store(generation, Ordering::Relaxed);
    }

    /// It is open; the event that says so stands in `generation`, or (0) was lost.
    #[inline(always)]
    pub(crate) fn open(&self, generation: u64) {
        self.stated.store(generation << 1, Ordering::Release);
        self.closed.store(OPEN, Ordering::Release);
    }

    /// It is over; the event that says so stands in `generation`.
    #[inline(always)]
    pub(crate) fn close(&self, generation: u64) {
        self.closed.store(generation, Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn is_stated_in(&self, generation: u64) -> bool {
        self.stated.load(Ordering::Acquire) >> 1 == generation
    }

    /// Whether a generation newer than this one has stated it: who is in this one begins again.
    pub(crate) fn is_ahead_of(&self, generation: u64) -> bool {
        self.newest() > generation
    }

    /// The newest generation that is known to have stated it.
    pub(crate) fn newest(&self) -> u64 {
        self.stated.load(Ordering::Acquire) >> 1
    }

    /// Its status was written in `generation`.
    pub(crate) fn is_stated_now(&self, generation: u64) {
        let before = self.stated.load(Ordering::Relaxed) >> 1;
        let mark = u64::from(before + 1 == generation);
        self.stated.store(generation << 1 | mark, Ordering::Release);
    }

    /// The status that was written in `generation` lacks something: it is to be written again.
    pub(crate) fn is_to_be_stated_again(&self, generation: u64) {
        if self.newest() == generation {
            self.stated.store((generation - 1) << 1, Ordering::Release);
        }
    }

    /// Whether the listing of `generation` has to state it. Asked when no writer is left in it, and
    /// none is in the one after the next.
    pub(crate) fn is_to_be_listed(&self, generation: u64) -> bool {
        if self.closed.load(Ordering::Acquire) <= generation
            || self.created.load(Ordering::Relaxed) > generation
        {
            return false;
        }
        let stated = self.stated.load(Ordering::Acquire);
        stated >> 1 != generation && stated != (generation + 1) << 1 | 1
    }

    /// Whether another span can take the place, when `complete` is.
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
        let told = Told::new();
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
        let told = Told::new();
        told.begin(3);
        told.open(0);
        assert!(told.is_to_be_listed(3) && !told.is_to_be_listed(2));
    }
}
