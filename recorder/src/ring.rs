//! The ring: blocks are carved off its head, whole generations are reclaimed at its tail.
//!
//! # Synchronization
//!
//! Positions only grow. A block is carved by a compare-and-swap on `head`; there is room as long as
//! `head - tail` stays within the limit. When there is none, whoever needs it gives up the oldest
//! generation, if that is complete: a compare-and-swap moves `oldest` on, and its winner raises
//! `tail` to where the next generation starts. `tail` lags behind `oldest`, never the other way, so
//! a carver can only find less room than there is.
//!
//! For readers, `tail` is the sequence number of a [seqlock]. Who carves has loaded `tail` (acquire),
//! and has a release fence before it writes to the block. A reader copies, has an acquire fence, and
//! loads `tail` again: if the copy holds a byte of the new block, the fences pair, and the load sees
//! a tail behind which the copied position lies. Release stores on `tail` carry that over from the
//! thread that reclaimed to the one that carved.
//!
//! * `head` is moved with release after all that the carver committed so far, and readers load it
//!   before they read where blocks end: no stream is cut with a gap in it.
//! * `register` fills an entry of the generation table and then stores its number (release), which
//!   [`Ring::start_of`] acquires.
//! * `complete` is stored with release after all that the generation holds; readers acquire it.
//!
//! [seqlock]: https://www.hpl.hp.com/techreports/2012/HPL-2012-68.pdf

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering, fence};

/// How many generations the table holds.
#[cfg(not(loom))]
pub(crate) const TABLE: usize = lookback_snapshot::wire::GENERATION_SLOTS;
#[cfg(loom)]
pub(crate) const TABLE: usize = 4;

/// An entry of the generation table, as it lies in the arena's header.
#[repr(C)]
pub(crate) struct Entry {
    pub(crate) number: AtomicU64,
    pub(crate) start: AtomicU64,
    pub(crate) end: AtomicU64,
    pub(crate) ticks: AtomicU64,
    pub(crate) monotonic: AtomicU64,
    pub(crate) wall: AtomicU64,
    pub(crate) frequency: AtomicU64,
    pub(crate) events: AtomicU64,
}

/// The words of the ring, as they lie in the arena's header (see `lookback_snapshot::wire::offset`).
#[repr(C)]
pub(crate) struct Ring {
    pub(crate) head: AtomicU64,
    _head_line: [u8; 56],
    pub(crate) tail: AtomicU64,
    pub(crate) oldest: AtomicU64,
    _tail_line: [u8; 48],
    pub(crate) complete: AtomicU64,
    pub(crate) running: AtomicU64,
    _to_the_table: [u8; 4096 - 272],
    pub(crate) entries: [Entry; TABLE],
}

/// There is no room, and nothing that could be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What was carved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carved {
    /// Where the block begins.
    pub(crate) position: u64,
    /// How many bytes before it are padding, because a block is contiguous.
    pub(crate) padding: u64,
}

impl Ring {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            head: zero(),
            _head_line: [0; 56],
            tail: zero(),
            oldest: zero(),
            _tail_line: [0; 48],
            complete: zero(),
            running: zero(),
            _to_the_table: [0; 4096 - 272],
            entries: std::array::from_fn(|_| Entry {
                number: zero(),
                start: zero(),
                end: zero(),
                ticks: zero(),
                monotonic: zero(),
                wall: zero(),
                frequency: zero(),
                events: zero(),
            }),
        }
    }

    pub(crate) fn entry(&self, generation: u64) -> &Entry {
        &self.entries[(generation % TABLE as u64) as usize]
    }

    /// Makes `first` the only generation, not yet begun. Before any other thread knows the ring.
    pub(crate) fn begin(&self, first: u64) {
        self.oldest.store(first, Ordering::Relaxed);
        self.complete.store(first - 1, Ordering::Release);
    }

    /// Carves `length` bytes out of a ring of `capacity`, without letting more than `limit` be in
    /// use, giving up complete generations for it, each of which is told to `reclaimed` with the
    /// number of its events.
    pub(crate) fn carve(
        &self,
        length: u64,
        capacity: u64,
        limit: u64,
        mut reclaimed: impl FnMut(u64),
    ) -> Result<Carved, Full> {
        loop {
            // Acquire: what the reclaimer knew of the tail, we know before we write behind it.
            let tail = self.tail.load(Ordering::Acquire);
            let head = self.head.load(Ordering::Relaxed);
            let to_end = capacity - head % capacity;
            let padding = if to_end < length { to_end } else { 0 };
            let next = head + padding + length;
            if next.saturating_sub(tail) > limit {
                match self.reclaim_oldest() {
                    Ok(Some(events)) => reclaimed(events),
                    Ok(None) => {}
                    // Nothing is left to give up, but perhaps because another thread just did.
                    Err(Full) if self.tail.load(Ordering::Acquire) != tail => {}
                    Err(Full) => return Err(Full),
                }
                continue;
            }
            // Release: who sees this block's end has seen what its carver committed before it.
            let swap =
                self.head.compare_exchange_weak(head, next, Ordering::Release, Ordering::Relaxed);
            if swap.is_ok() {
                // Pairs with the reader's acquire fence: see the module's head.
                fence(Ordering::Release);
                return Ok(Carved { position: head + padding, padding });
            }
        }
    }

    /// Gives up the oldest generation, if it is complete. `Some(events)` if it was this call that
    /// did, `None` if another thread was faster.
    pub(crate) fn reclaim_oldest(&self) -> Result<Option<u64>, Full> {
        let oldest = self.oldest.load(Ordering::Acquire);
        if let Some(start) = self.start_of(oldest)
            && self.tail.load(Ordering::Acquire) < start
        {
            // Another thread moved `oldest` on and has not raised `tail` yet: do it for it.
            self.tail.fetch_max(start, Ordering::AcqRel);
            return Ok(None);
        }
        if oldest > self.complete.load(Ordering::Acquire) {
            return Err(Full);
        }
        // Both are read before the swap: while `oldest` is the oldest, neither entry is reused.
        let events = self.entry(oldest).events.load(Ordering::Relaxed);
        let next = self.entry(oldest + 1);
        if next.number.load(Ordering::Acquire) != oldest + 1 {
            // Either another thread is already far ahead, or the next has not begun.
            return if self.oldest.load(Ordering::Acquire) == oldest {
                Err(Full)
            } else {
                Ok(None)
            };
        }
        let start = next.start.load(Ordering::Relaxed);
        match self.oldest.compare_exchange(oldest, oldest + 1, Ordering::AcqRel, Ordering::Relaxed)
        {
            Ok(_) => {
                self.tail.fetch_max(start, Ordering::AcqRel);
                Ok(Some(events))
            }
            Err(_) => Ok(None),
        }
    }

    /// Enters `generation` into the table, starting at the head as it is now, after making room for
    /// it there. Returns the start. Only one thread advances at a time.
    pub(crate) fn register(
        &self,
        generation: u64,
        fill: impl FnOnce(&Entry),
        mut reclaimed: impl FnMut(u64),
    ) -> u64 {
        while generation - self.oldest.load(Ordering::Acquire) >= TABLE as u64 {
            match self.reclaim_oldest() {
                Ok(Some(events)) => reclaimed(events),
                Ok(None) => {}
                // The table is larger than the two generations that can be incomplete.
                Err(Full) => break,
            }
        }
        let entry = self.entry(generation);
        entry.number.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        let start = self.head.load(Ordering::Relaxed);
        entry.start.store(start, Ordering::Relaxed);
        entry.end.store(0, Ordering::Relaxed);
        entry.events.store(0, Ordering::Relaxed);
        fill(entry);
        entry.number.store(generation, Ordering::Release);
        start
    }

    /// Marks `generation` complete: no block of it lies at or after the head as it is now.
    pub(crate) fn mark_complete(&self, generation: u64, events: u64) {
        let entry = self.entry(generation);
        entry.events.store(events, Ordering::Relaxed);
        entry.end.store(self.head.load(Ordering::Relaxed), Ordering::Relaxed);
        self.complete.store(generation, Ordering::Release);
    }

    /// Where `generation` starts, if it is in the table.
    pub(crate) fn start_of(&self, generation: u64) -> Option<u64> {
        let entry = self.entry(generation);
        if entry.number.load(Ordering::Acquire) != generation {
            return None;
        }
        let start = entry.start.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        (entry.number.load(Ordering::Relaxed) == generation).then_some(start)
    }

    /// The reader's side of the seqlock: where the tail stands, asked after a copy. What was copied from
    /// there on is sound.
    pub(crate) fn tail_after_copy(&self) -> u64 {
        fence(Ordering::Acquire);
        self.tail.load(Ordering::Acquire)
    }

    /// Whether what was copied from `position` on is sound, asked after the copy.
    #[cfg(loom)]
    pub(crate) fn still_holds(&self, position: u64) -> bool {
        self.tail_after_copy() <= position
    }
}

#[cfg(not(loom))]
const _: () = {
    use lookback_snapshot::wire::offset;
    use std::mem::offset_of;
    assert!(offset_of!(Ring, tail) == offset::TAIL - offset::HEAD);
    assert!(offset_of!(Ring, oldest) == offset::OLDEST - offset::HEAD);
    assert!(offset_of!(Ring, complete) == offset::COMPLETE - offset::HEAD);
    assert!(offset_of!(Ring, running) == offset::RUNNING - offset::HEAD);
    assert!(offset_of!(Ring, entries) == offset::GENERATIONS - offset::HEAD);
    assert!(size_of::<Entry>() == offset::ENTRY);
};
