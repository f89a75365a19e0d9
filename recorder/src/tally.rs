//! Adding up the blocks of a generation.

use crate::arena::Arena;
use lookback_snapshot::wire::{BLOCK_GRANULE, offset};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What the blocks of a generation hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) blocks: u64,
}

/// Adds up all blocks of a generation. If it is given up meanwhile, what comes out means nothing.
///
/// It is asked of the arena, and not of what `control` names: that is another recording's as soon as this
/// one is over, and unmapped when the other is.
pub(crate) fn of(arena: &Arena, generation: u64) -> Tally {
    let mut tally = Tally::default();
    each_block(arena, generation, |number, committed| {
        if number == generation {
            tally.events += committed >> 32;
            tally.bytes += committed & 0xffff_ffff;
            tally.blocks += 1;
        }
    });
    tally
}

/// How many events those of these generations have that are not complete; as [`of`].
pub(crate) fn of_incomplete(arena: &Arena, generations: RangeInclusive<u64>) -> u64 {
    let ring = arena.ring();
    let is_complete = |generation: u64| ring.entry(generation).is_complete();
    let Some(first) = generations.clone().find(|number| !is_complete(*number)) else { return 0 };
    let mut events = 0;
    each_block(arena, first, |number, committed| {
        if generations.contains(&number) && !is_complete(number) {
            events += committed >> 32;
        }
    });
    events
}

/// Calls `each` with the generation of each block from where this one starts on, and what is committed in it.
fn each_block(arena: &Arena, generation: u64, mut each: impl FnMut(u64, u64)) {
    let ring = arena.ring();
    let (base, capacity) = (arena.base(), arena.capacity());
    let head = ring.head.load(Ordering::Acquire);
    let Some(start) = ring.start_of(generation) else { return };
    // Never more than one lap, whatever the words in the arena say.
    let mut at = start.max(head.saturating_sub(capacity));
    while at < head {
        // SAFETY: offsets within the data are within the mapping, which the arena keeps, and headers are
        // aligned.
        let place = unsafe { base.add(offset::DATA + (at % capacity) as usize) };
        // SAFETY: as above; headers are written and read atomically.
        let word = |offset: usize| unsafe { &*place.add(offset).cast::<AtomicU64>() };
        // SAFETY: as above.
        let length = unsafe { &*place.add(4).cast::<AtomicU32>() };
        if word(8).load(Ordering::Acquire) != at {
            at += BLOCK_GRANULE as u64;
            continue;
        }
        let length = u64::from(u32::from_le(length.load(Ordering::Relaxed)));
        if length < BLOCK_GRANULE as u64 || length > head - at || length % 256 != 0 {
            at += BLOCK_GRANULE as u64;
            continue;
        }
        let committed = u64::from_le(word(56).load(Ordering::Acquire));
        if committed != 0 {
            each(u64::from_le(word(16).load(Ordering::Relaxed)), committed);
        }
        at += length;
    }
}
