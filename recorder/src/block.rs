//! Blocks in memory: their headers, written so that whoever reads at any time finds a whole one or
//! none. The layout is that of `lookback_snapshot::wire::BlockHeader`.

use crate::control::Control;
use crate::ring::Ring;
use lookback_snapshot::wire::{
    BlockHeader, Generation, Loss, Position, ThreadNumber, Ticks, offset,
};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Where `committed` lies in a block's header.
const COMMITTED: usize = 56;

/// The ring in the header of the arena that is being written to.
pub(crate) fn ring(control: &Control) -> &'static Ring {
    let arena = control.arena.load(Ordering::Relaxed);
    // SAFETY: the arena is mapped as long as a generation is published or a writer is inside, and
    // its header holds a ring at this offset.
    unsafe { &*arena.add(offset::HEAD).cast::<Ring>() }
}

/// Counts lost events in the header of an arena, where they outlive the process: `at`
/// [`offset::LOST`] or [`offset::LOST_AND_TOLD`].
///
/// # Safety
/// `arena` must point to an arena that is mapped.
pub(crate) unsafe fn note_lost(arena: *mut u8, at: usize, cause: Loss, count: u64) {
    let at = at + size_of::<AtomicU64>() * cause as usize;
    // SAFETY: as the caller promises; the header holds a word for each cause from this offset on.
    unsafe { &*arena.add(at).cast::<AtomicU64>() }.fetch_add(count, Ordering::Relaxed);
}

/// The word `committed` of a block.
///
/// # Safety
/// `block` must point to a block's header that outlives the use.
#[inline(always)]
pub(crate) unsafe fn committed<'a>(block: *mut u8) -> &'a AtomicU64 {
    // SAFETY: blocks are aligned to 256 bytes, and the word lies within the header.
    unsafe { &*block.add(COMMITTED).cast::<AtomicU64>() }
}

/// The header of a block, if all of it was written.
///
/// # Safety
/// `block` must point to where a block is, or was to be, that is its writer's still.
pub(crate) unsafe fn read_header(block: *mut u8) -> Option<BlockHeader> {
    // SAFETY: as for `committed`.
    let word = |at: usize| unsafe { &*block.add(at).cast::<AtomicU64>() }.load(Ordering::Relaxed);
    let (word, half) = (|at| u64::from_le(word(at)), |at: usize| {
        // SAFETY: as for `committed`.
        u32::from_le(unsafe { &*block.add(at).cast::<AtomicU32>() }.load(Ordering::Relaxed))
    });
    let header = BlockHeader {
        length: half(4),
        position: Position(word(8)),
        generation: Generation(word(16)),
        base: Ticks(word(24)),
        first_event: word(32),
        slot: half(40),
        sequence: half(44),
        thread: ThreadNumber(word(48)),
    };
    (half(0) == header.check()).then_some(header)
}

/// Where a block at this position lies.
///
/// # Safety
/// `control` must name the arena that it was carved from.
pub(crate) unsafe fn place_of(control: &Control, position: u64) -> *mut u8 {
    let capacity = control.capacity.load(Ordering::Relaxed);
    let arena = control.arena.load(Ordering::Relaxed);
    // SAFETY: offsets within the data are within the mapping.
    unsafe { arena.add(offset::DATA + (position % capacity) as usize) }
}

/// Writes a block's header, and that of the padding before it; the block's address.
///
/// # Safety
/// The caller must have carved both from the arena that `control` names.
pub(crate) unsafe fn write_headers(
    control: &Control,
    header: &BlockHeader,
    padding: u64,
) -> *mut u8 {
    // SAFETY: as the caller promises.
    let at = |position: u64| unsafe { place_of(control, position) };
    if padding != 0 {
        let position = Position(header.position.0 - padding);
        let padding = BlockHeader { length: padding as u32, position, ..*header };
        // SAFETY: padding is at least a granule long, and was carved.
        unsafe { write_header(at(position.0), &padding, padding.padding_check()) };
    }
    let block = at(header.position.0);
    // SAFETY: the block was carved.
    unsafe { write_header(block, header, header.check()) };
    block
}

/// # Safety
/// `place` must be the caller's to write, and a header must fit.
unsafe fn write_header(place: *mut u8, header: &BlockHeader, check: u32) {
    // SAFETY: blocks are aligned to 256 bytes, so each word is aligned; all are written atomically,
    // because an outside reader may look at any time.
    unsafe {
        let word = |at: usize| &*place.add(at).cast::<AtomicU64>();
        let half = |at: usize| &*place.add(at).cast::<AtomicU32>();
        word(COMMITTED).store(0, Ordering::Relaxed);
        half(0).store(check.to_le(), Ordering::Relaxed);
        half(4).store(header.length.to_le(), Ordering::Relaxed);
        word(16).store(header.generation.0.to_le(), Ordering::Relaxed);
        word(24).store(header.base.0.to_le(), Ordering::Relaxed);
        word(32).store(header.first_event.to_le(), Ordering::Relaxed);
        half(40).store(header.slot.to_le(), Ordering::Relaxed);
        half(44).store(header.sequence.to_le(), Ordering::Relaxed);
        word(48).store(header.thread.0.to_le(), Ordering::Relaxed);
        // Whoever sees the position sees the rest.
        word(8).store(header.position.0.to_le(), Ordering::Release);
    }
}
