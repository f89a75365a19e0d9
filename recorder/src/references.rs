//! How many references there are to a span: whoever gives the last one up closes it, alone.
//!
//! # Synchronization
//!
//! Giving up the last reference and closing the door is one step: the word becomes [`CLOSING`], and
//! nobody gets a reference any more. So whoever has one finds the span's place as it is until he has
//! given it up himself; each reference that is given up is seen, with all that was done under it, by who
//! gives up the last one, and he gives the place away with release.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU32, Ordering};

/// The references of a span of which the last one was given up: nobody can get another one. Its
/// place is that one's alone from then on.
const CLOSING: u32 = 1 << 31;

/// See the module. Zero is that of a place in which there is no span.
#[repr(transparent)]
pub(crate) struct References(AtomicU32);

impl References {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// A span has taken the place, with one reference.
    #[inline(always)]
    pub(crate) fn begin(&self) {
        self.0.store(1, Ordering::Release);
    }

    /// The span is over; its place is not given away yet.
    #[inline(always)]
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether there is a span that somebody has a reference to.
    #[inline(always)]
    pub(crate) fn are_there(&self) -> bool {
        let count = self.0.load(Ordering::Relaxed);
        count != 0 && count != CLOSING
    }

    /// One more reference, unless the last one was given up. Who has none of his own must look
    /// afterwards whether this is still the span that he means.
    #[inline(always)]
    pub(crate) fn hold(&self) -> bool {
        let more = |count: u32| (0 < count && count < CLOSING - 1).then_some(count + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// One reference less. Whether it was the last one: then nobody gets one any more, and this thread
    /// is to close the span.
    #[inline(always)]
    pub(crate) fn let_go(&self) -> bool {
        let less = |count: u32| match count {
            // Of one that is given up too often there is nothing left to give up.
            0 | CLOSING => None,
            1 => Some(CLOSING),
            count => Some(count - 1),
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) == Ok(1)
    }

    /// As [`let_go`](Self::let_go), with a mistake: the last reference stands until the span is closed.
    #[cfg(loom)]
    pub(crate) fn let_go_later(&self) -> bool {
        let less = |count: u32| (count > 1).then(|| count - 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) == Err(1)
    }
}
