//! Adding up the blocks of a generation.

use crate::arena::Arena;
use crate::arena::block_header::RawHeader;
use lookback_snapshot::wire::{BLOCK_GRANULE, offset};
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

/// What the blocks of a generation hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) blocks: u64,
}

/// Adds up all blocks of a generation. The result means nothing if the generation is reclaimed meanwhile.
///
/// It takes the arena, not the one that `control` names: that one belongs to another recording as soon as
/// this one is over, and is unmapped when the other ends.
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

/// How many events the incomplete generations among these have; as [`of`].
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

/// Calls `each` with the generation and the committed word of each block, from the start of this generation
/// on.
fn each_block(arena: &Arena, generation: u64, mut each: impl FnMut(u64, u64)) {
    let ring = arena.ring();
    let (base, capacity) = (arena.base(), arena.capacity());
    let head = ring.head.load(Ordering::Acquire);
    let Some(start) = ring.start_of(generation) else { return };
    // Never more than one lap, whatever the arena says.
    let mut at = start.max(head.saturating_sub(capacity));
    while at < head {
        // SAFETY: offsets within the data are within the mapping, which the arena keeps, and headers are
        // aligned.
        let place = unsafe { base.add(offset::DATA + (at % capacity) as usize) };
        // SAFETY: as above.
        let header = unsafe { RawHeader::at(place) };
        if header.position() != at {
            at += BLOCK_GRANULE as u64;
            continue;
        }
        let length = u64::from(header.length());
        if length < BLOCK_GRANULE as u64 || length > head - at || length % 256 != 0 {
            at += BLOCK_GRANULE as u64;
            continue;
        }
        let committed = u64::from_le(header.committed.load(Ordering::Acquire));
        if committed != 0 {
            each(header.generation(), committed);
        }
        at += length;
    }
}
