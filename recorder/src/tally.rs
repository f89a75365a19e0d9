//! Adding up the blocks of a generation.

use crate::arena::Arena;
use lookback_snapshot::wire::{BLOCK_GRANULE, offset};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What the blocks of a generation hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) blocks: u64,
}

impl Tally {
    /// Adds up a generation that is not complete, and so cannot be reclaimed meanwhile.
    pub(crate) fn of(arena: &Arena, generation: u64) -> Self {
        let ring = arena.ring();
        let mut tally = Self::default();
        let Some(mut at) = ring.start_of(generation) else { return tally };
        let head = ring.head.load(Ordering::Acquire);
        let capacity = arena.capacity();
        while at < head {
            // SAFETY: offsets within the data are within the mapping, and headers are aligned.
            let place = unsafe { arena.base().add(offset::DATA + (at % capacity) as usize) };
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
            if u64::from_le(word(16).load(Ordering::Relaxed)) == generation && committed != 0 {
                tally.events += committed >> 32;
                tally.bytes += committed & 0xffff_ffff;
                tally.blocks += 1;
            }
            at += length;
        }
        tally
    }
}
