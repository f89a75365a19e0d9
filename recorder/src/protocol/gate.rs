//! The gate: how a writer knows which generation it writes in, for the price of two plain stores.
//!
//! # Synchronization
//!
//! A writer *enters* by setting its flag and then loading the published generation; it *leaves* by
//! clearing the flag. The advancing thread stores the new generation and then checks every flag.
//! Both sides store, then load, as in [Dekker's algorithm]: unless both loads are ordered after
//! both stores, a writer could still be in the old generation while its flag looks clear.
//!
//! The advancing side pays for that order, because it runs rarely: between its store and its loads
//! it issues a process-wide barrier (`membarrier`), which acts as a full fence in every running
//! thread at some point of its execution. If the writer's store of the flag came before that point,
//! the advancing side sees it; if not, the writer's load comes after it and sees the new
//! generation. Without `membarrier`, the writer and the advancing side each execute a sequentially
//! consistent fence.
//!
//! * `leave` (release) pairs with the acquire load in [`Gate::is_past`]: all that was written in
//!   the old generation happens before the advance goes on.
//! * `adopt` stores the generation with release, and the same load in `is_past` acquires it: a
//!   writer whose flag is set, but whose generation is the new one, is no longer in the old one.
//!   The fence after that store pairs with the acquire fence of the thread that notes the slot's
//!   state: see [`Gate::entered`].
//!
//! [Dekker's algorithm]: https://en.wikipedia.org/wiki/Dekker%27s_algorithm

#![forbid(unsafe_code)]

use crate::protocol::frame;
use crate::sync::{AtomicU64, Ordering, compiler_fence, fence};

/// A slot's flag and the generations that its owner was in. Only the owner stores to it.
#[repr(C)]
pub(crate) struct Gate {
    /// 0 while the owner is outside; its stack pointer at entry while it is inside.
    flag: AtomicU64,
    /// The newest generation that the owner adopted.
    generation: AtomicU64,
    /// The one before that.
    previous: AtomicU64,
    /// The newest generation in which the owner wrote its own statuses.
    stated: AtomicU64,
    /// The one before that.
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

    /// Whether the owner is inside already: then this code has interrupted it.
    #[inline(always)]
    pub(crate) fn is_inside(&self) -> bool {
        self.flag.load(Ordering::Relaxed) != 0
    }

    /// The owner's stack pointer when it entered: see [`frame`].
    pub(crate) fn entered_at(&self) -> u64 {
        self.flag.load(Ordering::Relaxed)
    }

    /// Enters and returns the published generation. If `fenced` returns true, the writer executes a
    /// fence; otherwise the advancing side provides the order. `fenced` is evaluated after the flag
    /// is set, so a mode change can wait out the threads that saw the old mode.
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

    /// Leaves. Everything written inside happens before any load that sees the flag clear.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        self.flag.store(0, Ordering::Release);
    }

    /// The newest generation that the owner adopted. Called by the owner.
    #[inline(always)]
    pub(crate) fn adopted(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Moves the owner into `generation`. A thread that (after an acquire fence) sees a store made
    /// after this call also sees the new generation.
    pub(crate) fn adopt(&self, generation: u64) {
        self.previous.store(self.generation.load(Ordering::Relaxed), Ordering::Relaxed);
        self.generation.store(generation, Ordering::Release);
        fence(Ordering::Release);
    }

    /// Notes that the owner has written its statuses in the generation that it adopted last.
    pub(crate) fn note_stated(&self) {
        let generation = self.generation.load(Ordering::Relaxed);
        if self.stated.load(Ordering::Relaxed) != generation {
            self.stated_before.store(self.stated.load(Ordering::Relaxed), Ordering::Relaxed);
            self.stated.store(generation, Ordering::Release);
        }
    }

    /// Whether the owner, as seen from the advancing side, has left every generation before `next`.
    /// Once true for a slot after the barrier, it stays true. `next` is 0 when tracing ends.
    pub(crate) fn is_past(&self, next: u64) -> bool {
        self.flag.load(Ordering::Acquire) == 0
            || (next != 0 && self.generation.load(Ordering::Acquire) >= next)
    }

    /// The newest generation adopted, for a thread that notes the owner's state from outside: it
    /// notes the state, executes an acquire fence, then calls this. If the result is still older
    /// than the generation in question, the owner stored nothing of the noted state in that
    /// generation.
    pub(crate) fn entered(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the owner was inside `generation`. Valid while only the next generation can be
    /// newer.
    pub(crate) fn was_in(&self, generation: u64) -> bool {
        let newest = self.generation.load(Ordering::Acquire);
        newest == generation
            || (newest > generation && self.previous.load(Ordering::Relaxed) == generation)
    }

    /// Whether the owner wrote its statuses in `generation`. Valid while only the next generation
    /// can be newer.
    pub(crate) fn was_stated_in(&self, generation: u64) -> bool {
        let newest = self.stated.load(Ordering::Acquire);
        newest == generation
            || (newest > generation && self.stated_before.load(Ordering::Relaxed) == generation)
    }
}
