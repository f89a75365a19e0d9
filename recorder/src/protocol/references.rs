//! A span's reference count: the thread that drops the last reference closes the span, and no other
//! thread does.
//!
//! # Synchronization
//!
//! Dropping the last reference and refusing new ones is one step: the word becomes [`CLOSING`], and
//! from then on nobody gets a reference. So a holder finds the span's place unchanged until it
//! drops its own reference. The thread that drops the last one acquires everything that was done
//! under the references dropped before it, and frees the place with release.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU32, Ordering};

/// The last reference was dropped: no thread can get another one, and the place belongs to the
/// thread that dropped it.
const CLOSING: u32 = 1 << 31;

/// See the module. Zero means that the place holds no span.
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

    /// The span is closed; its place is not free yet.
    #[inline(always)]
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether there is a span with a reference to it.
    #[inline(always)]
    pub(crate) fn are_there(&self) -> bool {
        let count = self.0.load(Ordering::Relaxed);
        count != 0 && count != CLOSING
    }

    /// Takes a reference, unless the last one was dropped. A caller that holds none yet must check
    /// afterwards that the place still holds the span that it means.
    #[inline(always)]
    pub(crate) fn hold(&self) -> bool {
        let more = |count: u32| (0 < count && count < CLOSING - 1).then_some(count + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// Drops a reference. Returns whether it was the last one: then no thread can get another, and
    /// this thread must close the span.
    #[inline(always)]
    pub(crate) fn let_go(&self) -> bool {
        let less = |count: u32| match count {
            // Dropped more often than taken: nothing to drop.
            0 | CLOSING => None,
            1 => Some(CLOSING),
            count => Some(count - 1),
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) == Ok(1)
    }

    /// As [`let_go`](Self::let_go), with a mistake: the last reference counts until the span is
    /// closed.
    #[cfg(loom)]
    pub(crate) fn let_go_later(&self) -> bool {
        let less = |count: u32| (count > 1).then(|| count - 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) == Err(1)
    }
}
