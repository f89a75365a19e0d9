//! The ring: blocks are carved off its head, whole generations are reclaimed at its tail.
//!
//! # Synchronization
//!
//! Positions only grow. A block is carved by a compare-and-swap on `head`; there is room as long as
//! `head - tail` stays within the limit. When there is none, whoever needs it gives up the oldest
//! generation, if that is over: a compare-and-swap moves `oldest` on, and its winner raises
//! `tail` to where the next generation starts. `tail` lags behind `oldest`, never the other way, so
//! a carver can only find less room than there is.
//!
//! A generation is over when the next one is published. It need not be complete: nobody waits for who
//! completes it. So a writer may still be inside of it when its space is given up, and the block that
//! the writer fills is *pinned*: who carves steps over it. The ring asks its [`Keeper`] which blocks
//! are.
//!
//! For readers, `tail` is the sequence number of a [seqlock]. Who carves has loaded `tail` (acquire),
//! and has a release fence before it writes to the block. A reader copies, has an acquire fence, and
//! loads `tail` again: if the copy holds a byte of the new block, the fences pair, and the load sees
//! a tail behind which the copied position lies. Release stores on `tail` carry that over from the
//! thread that reclaimed to the one that carved.
//!
//! * `head` is moved with release after all that the carver committed so far, and after the note of
//!   what it pins; readers load it before they read where blocks end, and carvers before they ask for
//!   pins: no stream is cut with a gap in it, and no pin is missed.
//! * `complete` is stored with release after all that the generation holds; readers acquire it.
//!
//! # Beginning a generation
//!
//! Any number of threads may begin the next generation at once, and each may be stopped at any point
//! for any time: nobody waits for another one ([`Ring::enter`]). Every step is a compare-and-swap from
//! what stood there before to what must stand there next, so it is done once, by whoever comes first;
//! one that comes late finds that it is done. `number` is marked as [`FILLING`] first and gets its value
//! last (release; [`Ring::start_of`] acquires it). Where a generation starts, and when, only grows from
//! one to the next, which tells whether it is set already. What its other clocks said follows from
//! that: all compute the same.
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

/// Every position is a multiple of this.
#[cfg(not(loom))]
const UNIT: u64 = lookback_snapshot::wire::BLOCK_GRANULE as u64;
#[cfg(loom)]
const UNIT: u64 = 1;

/// In `number`: the entry is being filled for the generation of this number.
const FILLING: u64 = 1 << 63;

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

/// Who knows which generations are over, and who is still inside of them.
pub(crate) trait Keeper {
    /// A generation was given up, by this call and no other one.
    fn reclaimed(&self, _generation: u64) {}

    /// Makes sure that nobody enters `generation` any more, or one before it: then it can be given up,
    /// while some may still be inside, whose blocks are pinned. `false` if it cannot be made sure.
    fn close(&self, generation: u64) -> bool;

    /// This range, with the padding before the block, is about to be carved: it is pinned until another one
    /// is, or the carver leaves.
    fn pin(&self, range: Range<u64>);

    /// Where the pinned block ends that lies in this range, as a position of this lap. Blocks from `tail` on
    /// are in nobody's way.
    fn pinned(&self, range: Range<u64>, tail: u64) -> Option<u64>;
}

/// When a generation begins, by all clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Began {
    pub(crate) ticks: u64,
    pub(crate) monotonic: u64,
    pub(crate) wall: u64,
    pub(crate) frequency: u64,
}

impl Entry {
    /// Whether its generation is complete, as long as it is this one's.
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
    /// All clocks at a later tick of this one.
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

/// Sets a word that only grows from one generation to the next, unless it is set: then it is more than
/// in the generation before. What it is then.
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

/// Where a block of this length can be carved from this head on, and where what is carved for it begins:
/// contiguous, and beside all that is pinned. `None` if all is pinned.
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

    /// Makes `first` the only generation. Before any other thread knows the ring.
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

    /// Carves `length` bytes out of a ring of `capacity`, without letting more than `limit` be in
    /// use, giving up the oldest generations for it.
    pub(crate) fn carve(
        &self,
        length: u64,
        capacity: u64,
        limit: u64,
        keeper: &impl Keeper,
    ) -> Result<Carved, Full> {
        loop {
            // Acquire: what the reclaimer knew of the tail, we know before we write behind it.
            let tail = self.tail.load(Ordering::Acquire);
            // Acquire: whoever carved before has noted what it pins.
            let head = self.head.load(Ordering::Acquire);
            let Some((from, carved)) = place(head, length, capacity, tail, keeper) else {
                return Err(Full);
            };
            let next = carved.position + length;
            if next.saturating_sub(tail) > limit {
                // Others find no room at the same time: one generation is given up for all of them.
                let is_missing = || self.tail.load(Ordering::Acquire) == tail;
                match self.reclaim_if(is_missing, keeper) {
                    Ok(()) => {}
                    // Nothing is left to give up, but perhaps because another thread just did.
                    Err(Full) if self.tail.load(Ordering::Acquire) != tail => {}
                    Err(Full) => return Err(Full),
                }
                continue;
            }
            keeper.pin(from..next);
            // Release: who sees this block's end has seen what its carver committed before it.
            let swap =
                self.head.compare_exchange_weak(head, next, Ordering::Release, Ordering::Relaxed);
            if swap.is_ok() {
                // Pairs with the reader's acquire fence: see the module's head.
                fence(Ordering::Release);
                return Ok(carved);
            }
        }
    }

    /// Gives up the oldest generation, if it is over; or somebody else has done it.
    pub(crate) fn reclaim_oldest(&self, keeper: &impl Keeper) -> Result<(), Full> {
        self.reclaim_if(|| true, keeper)
    }

    /// As well, if it `is_wanted` once it is known which one is the oldest.
    fn reclaim_if(&self, is_wanted: impl Fn() -> bool, keeper: &impl Keeper) -> Result<(), Full> {
        let oldest = self.oldest.load(Ordering::Acquire);
        if !is_wanted() {
            return Ok(());
        }
        if let Some(start) = self.start_of(oldest)
            && self.tail.load(Ordering::Acquire) < start
        {
            // Another thread moved `oldest` on and has not raised `tail` yet: do it for it.
            self.tail.fetch_max(start, Ordering::AcqRel);
            return Ok(());
        }
        // All is read before the swap: while `oldest` is the oldest, the next entry is not reused.
        let next = self.entry(oldest + 1);
        let is_begun = next.number.load(Ordering::Acquire) == oldest + 1;
        if !is_begun || !keeper.close(oldest) {
            // Either another thread is already far ahead, or the next has not begun.
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

    /// Enters `generation` into the table, unless that was done already. It starts at the head as it is
    /// now, and when `began` says; without `monotonic` its other clocks go on from the generation before, and
    /// so does a `frequency` of 0.
    /// `Err` if there is no room in the table, or it is over already.
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
                // One that nobody fills any more: it would be of a generation long over.
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
        // Who reads a field that is written below reads as `number` what was seen there, or later.
        fence(Ordering::Release);
        // What was loaded before this belongs to this filling, if it is still going on.
        let is_filling = || {
            fence(Ordering::Acquire);
            entry.number.load(Ordering::Acquire) == generation | FILLING
        };
        // As the entry before says; it is not reused as long as this one is being filled.
        let (start, last) = (before.start.load(Ordering::Relaxed), before.began());
        if !is_filling() {
            return Ok(());
        }
        let head = self.head.load(Ordering::Relaxed).max(start + UNIT);
        raise(&entry.start, start, head);
        let ticks = raise(&entry.ticks, last.ticks, began.ticks.max(last.ticks + 1));
        // Another one's ticks are another instant than this one's other clocks.
        let is_own = began.monotonic != 0 && began.ticks == ticks;
        let began = match began.frequency {
            _ if !is_own => last.at(ticks),
            0 => Began { frequency: last.frequency, ..began },
            _ => began,
        };
        raise(&entry.monotonic, last.monotonic, began.monotonic.max(last.monotonic + 1));
        // These may go back. Who comes late finds another value than it has read before, or sets what
        // differs by less than the clocks do. But for `events`: a thread that has slept for a whole lap of the table may
        // find the very number that it has read, now of another generation that is complete, and set it to 0.
        // That number is for `Stats::reclaimed` and `lookback ps` alone; what an end record says stays.
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

    /// Marks `generation` complete: no block of it lies at or after the head as it is now. One thread at
    /// a time does this; it may be so late that the generation was given up, and its entry is another
    /// one's: `false` then.
    pub(crate) fn mark_complete(&self, generation: u64, events: u64) -> bool {
        let entry = self.entry(generation);
        let head = self.head.load(Ordering::Acquire);
        // Of a generation that takes the entry from now on, the end lies before its start: that says
        // that it is not complete (see `is_complete`).
        if entry.number.load(Ordering::Acquire) != generation {
            return false;
        }
        entry.events.store(events, Ordering::Relaxed);
        entry.end.store(head, Ordering::Release);
        self.complete.fetch_max(generation, Ordering::Release);
        true
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
