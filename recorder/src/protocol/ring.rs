//! The ring: carves blocks off its head and reclaims whole generations at its tail.
//!
//! # Synchronization
//!
//! Positions only grow. A block is carved by a compare-and-swap on `head`; there is room as long as
//! `head - tail` stays within the limit. When there is none, the carving thread gives up the oldest
//! generation, if that is over: a compare-and-swap advances `oldest`, and the winner raises `tail`
//! to the start of the next generation. `tail` may lag behind `oldest` but never leads it, so a
//! carver can only find less room than there is.
//!
//! A generation is over when the next one is published. It need not be complete: carvers do not
//! wait for the thread that completes it. So a writer may still be inside it when its space is
//! given up. The block that this writer fills is *pinned*, and carvers step over it. The ring asks
//! its [`Keeper`] which blocks are pinned.
//!
//! For readers, `tail` is the sequence number of a [seqlock]. A carver loads `tail` (acquire) and
//! executes a release fence before it writes to the block. A reader copies, executes an acquire
//! fence, and loads `tail` again: if the copy holds a byte of the new block, the fences pair, and
//! the load sees a tail past the copied position. Release stores on `tail` carry this over from the
//! thread that reclaimed to the thread that carved.
//!
//! * `head` moves with release, after all that the carver committed so far and after it noted what
//!   it pins. Readers load `head` before they read where blocks end, and carvers before they ask
//!   for pins: no stream is cut with a gap in it, and no pin is missed.
//! * `complete` is stored with release after everything that the generation holds; readers acquire
//!   it.
//!
//! # Beginning a generation
//!
//! Any number of threads may begin the next generation at once, and each may be stopped at any
//! point for any length of time; none waits for another ([`Ring::enter`]). Every step is a
//! compare-and-swap from the word's old value to its only possible next value, so the first thread
//! to reach it takes it, and later threads find it taken. `number` is marked as [`FILLING`] first
//! and gets its value last (release; [`Ring::start_of`] acquires it). A generation's start position
//! and start time are greater than its predecessor's, which tells whether they are set already. Its
//! other clocks are computed from these, with the same result on every thread.
//!
//! [seqlock]: https://www.hpl.hp.com/techreports/2012/HPL-2012-68.pdf

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering, fence};
use std::ops::Range;

/// How many generations the table holds.
#[cfg(not(loom))]
pub(crate) const TABLE: usize = lookback_snapshot::wire::GENERATION_SLOTS;
#[cfg(loom)]
pub(crate) const TABLE: usize = 4;

/// An entry of the generation table, as laid out in the arena's header.
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

/// The words of the ring, as laid out in the arena's header (see
/// `lookback_snapshot::wire::offset`).
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

/// Every position is a multiple of this.
#[cfg(not(loom))]
const UNIT: u64 = lookback_snapshot::wire::BLOCK_GRANULE as u64;
#[cfg(loom)]
const UNIT: u64 = 1;

/// In `number`: a thread is filling the entry for the generation with this number.
const FILLING: u64 = 1 << 63;

/// There is no room, and no generation that could be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A carved block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carved {
    /// Where the block begins.
    pub(crate) position: u64,
    /// The bytes of padding before it, which keep the block contiguous.
    pub(crate) padding: u64,
}

/// Knows which generations are over, and which writers are still inside them.
pub(crate) trait Keeper {
    /// This call, and no other, gave up a generation.
    fn reclaimed(&self, _generation: u64) {}

    /// Makes sure that no writer enters `generation` or an earlier one any more, so that it can be
    /// given up. Writers may still be inside; their blocks are pinned. `false` if this cannot be
    /// ensured.
    fn close(&self, generation: u64) -> bool;

    /// This range, padding included, is about to be carved: pins it until the carver pins another
    /// range or leaves.
    fn pin(&self, range: Range<u64>);

    /// The end of a pinned block within this range, as a position of this lap. Blocks from `tail`
    /// on obstruct nobody.
    fn pinned(&self, range: Range<u64>, tail: u64) -> Option<u64>;
}

/// When a generation begins, by each clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Began {
    pub(crate) ticks: u64,
    pub(crate) monotonic: u64,
    pub(crate) wall: u64,
    pub(crate) frequency: u64,
}

impl Entry {
    /// Whether this entry's generation is complete, provided that the entry still belongs to it.
    pub(crate) fn is_complete(&self) -> bool {
        self.end.load(Ordering::Acquire) > self.start.load(Ordering::Relaxed)
    }

    fn began(&self) -> Began {
        Began {
            ticks: self.ticks.load(Ordering::Relaxed),
            monotonic: self.monotonic.load(Ordering::Relaxed),
            wall: self.wall.load(Ordering::Relaxed),
            frequency: self.frequency.load(Ordering::Relaxed),
        }
    }
}

impl Began {
    /// All clocks, extrapolated to a later tick.
    fn at(self, ticks: u64) -> Self {
        let elapsed = u128::from(ticks.saturating_sub(self.ticks)) * 1_000_000_000;
        let nanos = (elapsed / u128::from(self.frequency.max(1))) as u64;
        Self {
            ticks,
            monotonic: self.monotonic.saturating_add(nanos),
            wall: self.wall.saturating_add(nanos),
            frequency: self.frequency,
        }
    }
}

/// Sets a word that only grows from one generation to the next, unless it is already greater than
/// in the generation before. Returns its value.
fn raise(word: &AtomicU64, before: u64, value: u64) -> u64 {
    let mut found = word.load(Ordering::Relaxed);
    while found <= before {
        match word.compare_exchange(found, value, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return value,
            Err(other) => found = other,
        }
    }
    found
}

/// The first place at or after `head` for a block of this length, contiguous and clear of all pins:
/// where the carved range begins, and the block. `None` if everything is pinned.
fn place(
    head: u64,
    length: u64,
    capacity: u64,
    tail: u64,
    keeper: &impl Keeper,
) -> Option<(u64, Carved)> {
    let mut from = head;
    while from - head < capacity {
        let to_end = capacity - from % capacity;
        let padding = if to_end < length { to_end } else { 0 };
        let position = from + padding;
        match keeper.pinned(from..position + length, tail) {
            None => return Some((from, Carved { position, padding })),
            Some(end) => from = end,
        }
    }
    None
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

    /// Makes `first` the only generation. Called before any other thread knows the ring.
    pub(crate) fn begin(&self, first: u64, began: Began) {
        let entry = self.entry(first);
        entry.ticks.store(began.ticks, Ordering::Relaxed);
        entry.monotonic.store(began.monotonic, Ordering::Relaxed);
        entry.wall.store(began.wall, Ordering::Relaxed);
        entry.frequency.store(began.frequency, Ordering::Relaxed);
        entry.number.store(first, Ordering::Release);
        self.oldest.store(first, Ordering::Relaxed);
        self.complete.store(first - 1, Ordering::Release);
    }

    /// Carves `length` bytes out of a ring of `capacity`, keeping at most `limit` in use: gives up
    /// the oldest generations to make room.
    pub(crate) fn carve(
        &self,
        length: u64,
        capacity: u64,
        limit: u64,
        keeper: &impl Keeper,
    ) -> Result<Carved, Full> {
        loop {
            // Acquire: what the reclaimer knew of the tail, this thread knows before it writes past
            // it.
            let tail = self.tail.load(Ordering::Acquire);
            // Acquire: earlier carvers have noted what they pin.
            let head = self.head.load(Ordering::Acquire);
            let Some((from, carved)) = place(head, length, capacity, tail, keeper) else {
                return Err(Full);
            };
            let next = carved.position + length;
            if next.saturating_sub(tail) > limit {
                // Other threads find no room at the same time: one generation is given up for all
                // of them.
                let is_missing = || self.tail.load(Ordering::Acquire) == tail;
                match self.reclaim_if(is_missing, keeper) {
                    Ok(()) => {}
                    // Nothing is left to give up, unless another thread just gave up something.
                    Err(Full) if self.tail.load(Ordering::Acquire) != tail => {}
                    Err(Full) => return Err(Full),
                }
                continue;
            }
            keeper.pin(from..next);
            // Release: a thread that sees this block's end has seen everything that its carver
            // committed before.
            let swap =
                self.head.compare_exchange_weak(head, next, Ordering::Release, Ordering::Relaxed);
            if swap.is_ok() {
                // Pairs with the reader's acquire fence: see the module's docs.
                fence(Ordering::Release);
                return Ok(carved);
            }
        }
    }

    /// Gives up the oldest generation, if it is over. Succeeds as well if another thread has done
    /// so.
    pub(crate) fn reclaim_oldest(&self, keeper: &impl Keeper) -> Result<(), Full> {
        self.reclaim_if(|| true, keeper)
    }

    /// The same, if `is_wanted` holds once the oldest generation is known.
    fn reclaim_if(&self, is_wanted: impl Fn() -> bool, keeper: &impl Keeper) -> Result<(), Full> {
        let oldest = self.oldest.load(Ordering::Acquire);
        if !is_wanted() {
            return Ok(());
        }
        if let Some(start) = self.start_of(oldest)
            && self.tail.load(Ordering::Acquire) < start
        {
            // Another thread advanced `oldest` and has not raised `tail` yet: raise it.
            self.tail.fetch_max(start, Ordering::AcqRel);
            return Ok(());
        }
        // Read everything before the swap: while `oldest` stays, the next entry is not reused.
        let next = self.entry(oldest + 1);
        let is_begun = next.number.load(Ordering::Acquire) == oldest + 1;
        if !is_begun || !keeper.close(oldest) {
            // Either another thread is already far ahead, or the next generation has not begun.
            let is_still = self.oldest.load(Ordering::Acquire) == oldest;
            return if is_still { Err(Full) } else { Ok(()) };
        }
        let start = next.start.load(Ordering::Relaxed);
        let swap =
            self.oldest.compare_exchange(oldest, oldest + 1, Ordering::AcqRel, Ordering::Relaxed);
        if swap.is_ok() {
            self.tail.fetch_max(start, Ordering::AcqRel);
            keeper.reclaimed(oldest);
        }
        Ok(())
    }

    /// Enters `generation` into the table, unless that is done already. It starts at the current
    /// head, at the time that `began` gives. If `monotonic` is 0, its other clocks continue from
    /// the generation before; if `frequency` is 0, that does. `Err` if the table has no room or the
    /// generation is already over.
    pub(crate) fn enter(
        &self,
        generation: u64,
        began: Began,
        keeper: &impl Keeper,
    ) -> Result<(), Full> {
        while generation.saturating_sub(self.oldest.load(Ordering::Acquire)) >= TABLE as u64 {
            self.reclaim_oldest(keeper)?;
        }
        let (entry, before) = (self.entry(generation), self.entry(generation - 1));
        loop {
            let number = entry.number.load(Ordering::Acquire);
            match (number & !FILLING).cmp(&generation) {
                std::cmp::Ordering::Greater => return Err(Full),
                std::cmp::Ordering::Equal if number == generation => return Ok(()),
                std::cmp::Ordering::Equal => break,
                // An abandoned filling: it would belong to a generation that ended long ago.
                std::cmp::Ordering::Less => {
                    let filling = generation | FILLING;
                    let _ = entry.number.compare_exchange(
                        number,
                        filling,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                }
            }
        }
        // A thread that reads a field written below reads in `number` the value seen here, or a
        // later one.
        fence(Ordering::Release);
        // What was loaded before this call belongs to this filling, if that is still going on.
        let is_filling = || {
            fence(Ordering::Acquire);
            entry.number.load(Ordering::Acquire) == generation | FILLING
        };
        // Copied from the previous entry, which is not reused while this one is being filled.
        let (start, last) = (before.start.load(Ordering::Relaxed), before.began());
        if !is_filling() {
            return Ok(());
        }
        let head = self.head.load(Ordering::Relaxed).max(start + UNIT);
        raise(&entry.start, start, head);
        let ticks = raise(&entry.ticks, last.ticks, began.ticks.max(last.ticks + 1));
        // Another thread set the ticks: they are not of the same instant as this thread's other
        // clocks.
        let is_own = began.monotonic != 0 && began.ticks == ticks;
        let began = match began.frequency {
            _ if !is_own => last.at(ticks),
            0 => Began { frequency: last.frequency, ..began },
            _ => began,
        };
        raise(&entry.monotonic, last.monotonic, began.monotonic.max(last.monotonic + 1));
        // These may go back. A late thread finds a value that differs from what it read before, or
        // sets one that differs by less than the clocks do. `events` is the exception: a thread
        // that has slept for a whole lap of the table may find exactly the number that it read, now
        // that of another complete generation, and set it to 0. Only `Stats::reclaimed` and
        // `lookback ps` use that number; end records keep theirs.
        for (word, value) in [
            (&entry.wall, began.wall),
            (&entry.frequency, began.frequency),
            (&entry.events, 0),
            (&entry.end, 0),
        ] {
            let old = word.load(Ordering::Relaxed);
            if !is_filling() {
                return Ok(());
            }
            let _ = word.compare_exchange(old, value, Ordering::Relaxed, Ordering::Relaxed);
        }
        let filling = generation | FILLING;
        let _ =
            entry.number.compare_exchange(filling, generation, Ordering::AcqRel, Ordering::Relaxed);
        Ok(())
    }

    /// Marks `generation` complete: none of its blocks lies at or after the current head. Only one
    /// thread at a time does this. It may be so late that the generation was given up and its entry
    /// belongs to another one; then it returns `false`.
    pub(crate) fn mark_complete(&self, generation: u64, events: u64) -> bool {
        let entry = self.entry(generation);
        let head = self.head.load(Ordering::Acquire);
        // A generation that takes the entry from now on has its end before its start, which says
        // that it is not complete (see `is_complete`).
        if entry.number.load(Ordering::Acquire) != generation {
            return false;
        }
        entry.events.store(events, Ordering::Relaxed);
        entry.end.store(head, Ordering::Release);
        self.complete.fetch_max(generation, Ordering::Release);
        true
    }

    /// The start of `generation`, if it is in the table.
    pub(crate) fn start_of(&self, generation: u64) -> Option<u64> {
        let entry = self.entry(generation);
        if entry.number.load(Ordering::Acquire) != generation {
            return None;
        }
        let start = entry.start.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        (entry.number.load(Ordering::Relaxed) == generation).then_some(start)
    }

    /// The reader's side of the seqlock: the tail, loaded after a copy. Bytes copied from that
    /// position on are sound.
    pub(crate) fn tail_after_copy(&self) -> u64 {
        fence(Ordering::Acquire);
        self.tail.load(Ordering::Acquire)
    }

    /// Whether bytes copied from `position` on are sound. Called after the copy.
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
