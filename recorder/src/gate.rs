//! The gate: how a writer tells which generation it writes in, at the price of two plain stores.
//!
//! # Synchronization
//!
//! A writer *enters* by setting its flag and then loading the published generation; it *leaves* by
//! clearing the flag. Who advances stores the new generation and then looks at every flag. That is
//! the store-then-load of [Dekker's algorithm] on both sides: unless both loads are ordered after
//! both stores, a writer could still be in the old generation while its flag looks clear.
//!
//! The order is bought where it is cheap: the advancing side issues a process-wide barrier
//! (`membarrier`) between its store and its loads, which acts as a full fence in every running
//! thread at some point of its execution. If the writer's store of the flag came before that point,
//! the advancing side sees it; if not, the writer's load comes after it and sees the new generation.
//! Without `membarrier`, the writer has a sequentially consistent fence of its own, and so has the
//! advancing side.
//!
//! * `leave` (release) pairs with the acquire load in [`Gate::is_past`]: all that was written in the
//!   old generation happens before the advance goes on.
//! * `adopt` stores the generation with release; the same load of `is_past` acquires it: a flag that
//!   is set, with a generation that is the new one, is a writer that is no longer in the old one.
//!   The fence after it pairs with the acquire fence of who notes the slot's state: see
//!   [`Gate::entered`].
//!
//! [Dekker's algorithm]: https://en.wikipedia.org/wiki/Dekker%27s_algorithm

#![forbid(unsafe_code)]

use crate::frame;
use crate::sync::{AtomicU64, Ordering, compiler_fence, fence};

/// A slot's flag, and the generations that it was in. Only the slot's owner stores to it.
#[repr(C)]
pub(crate) struct Gate {
    /// 0 while the owner is outside; where it is on its stack while it is inside.
    flag: AtomicU64,
    /// The newest generation that the owner was inside of.
    generation: AtomicU64,
    /// The one before.
    previous: AtomicU64,
    /// The newest generation in which the owner wrote its own statuses.
    stated: AtomicU64,
    /// The one before.
    stated_before: AtomicU64,
}

impl Gate {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            flag: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            previous: AtomicU64::new(0),
            stated: AtomicU64::new(0),
            stated_before: AtomicU64::new(0),
        }
    }

    /// Whether the owner is inside already: it was interrupted, and this is the interruption.
    #[inline(always)]
    pub(crate) fn is_inside(&self) -> bool {
        self.flag.load(Ordering::Relaxed) != 0
    }

    /// Where on its stack the owner was when it entered: see [`frame`].
    pub(crate) fn entered_at(&self) -> u64 {
        self.flag.load(Ordering::Relaxed)
    }

    /// Enters, and says which generation is published. If `fenced` says so, the writer pays for the
    /// order itself; else the advancing side does. It is asked inside, so that who changes it can
    /// wait for those who got the old answer.
    #[inline(always)]
    pub(crate) fn enter(&self, published: &AtomicU64, fenced: impl FnOnce() -> bool) -> u64 {
        frame::mark(&self.flag);
        compiler_fence(Ordering::SeqCst);
        if fenced() {
            fence(Ordering::SeqCst);
        }
        compiler_fence(Ordering::SeqCst);
        published.load(Ordering::Acquire)
    }

    /// Leaves. All that was written inside happens before whoever sees the flag clear.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        self.flag.store(0, Ordering::Release);
    }

    /// The newest generation that the owner adopted; for the owner itself.
    #[inline(always)]
    pub(crate) fn adopted(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// From now on the owner is in `generation`. What it stores afterwards is seen only by who sees
    /// this too (after an acquire fence).
    pub(crate) fn adopt(&self, generation: u64) {
        self.previous.store(self.generation.load(Ordering::Relaxed), Ordering::Relaxed);
        self.generation.store(generation, Ordering::Release);
        fence(Ordering::Release);
    }

    /// Notes that the owner has written its statuses in the generation that it adopted.
    pub(crate) fn note_stated(&self) {
        let generation = self.generation.load(Ordering::Relaxed);
        if self.stated.load(Ordering::Relaxed) != generation {
            self.stated_before.store(self.stated.load(Ordering::Relaxed), Ordering::Relaxed);
            self.stated.store(generation, Ordering::Release);
        }
    }

    /// Whether the owner, seen from the advancing side, has left every generation before `next`.
    /// Once true for a slot after the barrier, it stays true. `next` is 0 when tracing ends.
    pub(crate) fn is_past(&self, next: u64) -> bool {
        self.flag.load(Ordering::Acquire) == 0
            || (next != 0 && self.generation.load(Ordering::Acquire) >= next)
    }

    /// The newest generation adopted, for who notes the owner's state from outside: note, then an
    /// acquire fence, then this. If it is still an older generation than the one whose state is
    /// asked for, nothing that was noted was stored in the newer one.
    pub(crate) fn entered(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the owner was inside `generation`; asked when no newer one but the next can be.
    pub(crate) fn was_in(&self, generation: u64) -> bool {
        let newest = self.generation.load(Ordering::Acquire);
        newest == generation
            || (newest > generation && self.previous.load(Ordering::Relaxed) == generation)
    }

    /// Whether the owner wrote its statuses in `generation`; asked when no newer one but the next
    /// can be.
    pub(crate) fn was_stated_in(&self, generation: u64) -> bool {
        let newest = self.stated.load(Ordering::Acquire);
        newest == generation
            || (newest > generation && self.stated_before.load(Ordering::Relaxed) == generation)
    }
}
