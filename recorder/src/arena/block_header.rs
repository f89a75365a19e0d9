//! The header of a block as it lies in the arena. All of it is atomic, because a reader may look at any time;
//! `lookback_snapshot::wire::BlockHeader` has its meaning. Numbers are little-endian.

use lookback_snapshot::wire::{
    BLOCK_GRANULE, BLOCK_HEADER, BlockHeader, Generation, Position, ThreadNumber, Ticks,
};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// See the module.
#[repr(C)]
pub(crate) struct RawHeader {
    check: AtomicU32,
    length: AtomicU32,
    /// Stored last, with release: a reader that finds its position here finds everything else.
    position: AtomicU64,
    generation: AtomicU64,
    base: AtomicU64,
    first_event: AtomicU64,
    slot: AtomicU32,
    sequence: AtomicU32,
    thread: AtomicU64,
    /// How many events are complete, and how many bytes they take. Stored with release after each event.
    pub(crate) committed: AtomicU64,
}

// The layout that readers of the format expect, and room for all of it.
const _: () = assert!(
    offset_of!(RawHeader, length) == 4
        && offset_of!(RawHeader, position) == 8
        && offset_of!(RawHeader, generation) == 16
        && offset_of!(RawHeader, base) == 24
        && offset_of!(RawHeader, first_event) == 32
        && offset_of!(RawHeader, slot) == 40
        && offset_of!(RawHeader, sequence) == 44
        && offset_of!(RawHeader, thread) == 48
        && offset_of!(RawHeader, committed) == 56
        && size_of::<RawHeader>() <= BLOCK_HEADER
        && BLOCK_GRANULE.is_multiple_of(align_of::<RawHeader>())
);

impl RawHeader {
    /// The header at this address.
    ///
    /// # Safety
    /// `block` must lie at a multiple of [`BLOCK_GRANULE`] in the data of an arena that outlives the use.
    #[inline(always)]
    pub(crate) unsafe fn at<'a>(block: *mut u8) -> &'a Self {
        // SAFETY: it is aligned and within the mapping, and any bytes are valid atomics of these widths.
        unsafe { &*block.cast::<Self>() }
    }

    /// The header's content, if it was written completely.
    pub(crate) fn read(&self) -> Option<BlockHeader> {
        let word = |word: &AtomicU64| u64::from_le(word.load(Ordering::Relaxed));
        let half = |half: &AtomicU32| u32::from_le(half.load(Ordering::Relaxed));
        let header = BlockHeader {
            length: half(&self.length),
            position: Position(word(&self.position)),
            generation: Generation(word(&self.generation)),
            base: Ticks(word(&self.base)),
            first_event: word(&self.first_event),
            slot: half(&self.slot),
            sequence: half(&self.sequence),
            thread: ThreadNumber(word(&self.thread)),
        };
        (half(&self.check) == header.check()).then_some(header)
    }

    /// Writes all of it, with nothing committed. Only the thread that carved the block calls this.
    pub(crate) fn write(&self, header: &BlockHeader, check: u32) {
        let word = |word: &AtomicU64, value: u64| word.store(value.to_le(), Ordering::Relaxed);
        let half = |half: &AtomicU32, value: u32| half.store(value.to_le(), Ordering::Relaxed);
        word(&self.committed, 0);
        half(&self.check, check);
        half(&self.length, header.length);
        word(&self.generation, header.generation.0);
        word(&self.base, header.base.0);
        word(&self.first_event, header.first_event);
        half(&self.slot, header.slot);
        half(&self.sequence, header.sequence);
        word(&self.thread, header.thread.0);
        // Release: a reader that sees the position sees everything else.
        self.position.store(header.position.0.to_le(), Ordering::Release);
    }

    /// The word where a position may be, read with acquire.
    pub(crate) fn position(&self) -> u64 {
        u64::from_le(self.position.load(Ordering::Acquire))
    }

    /// The block's length, once its position was seen.
    pub(crate) fn length(&self) -> u32 {
        u32::from_le(self.length.load(Ordering::Relaxed))
    }

    /// The block's generation, once its position was seen.
    pub(crate) fn generation(&self) -> u64 {
        u64::from_le(self.generation.load(Ordering::Relaxed))
    }

    /// The time that the first event's delta counts from, in ticks.
    pub(crate) fn base(&self) -> u64 {
        u64::from_le(self.base.load(Ordering::Relaxed))
    }
}
