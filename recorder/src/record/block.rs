//! Blocks in memory. Headers are written so that a reader finds, at any time, a whole header or
//! none. `lookback_snapshot::wire::BlockHeader` defines the layout.

use crate::arena::block_header::RawHeader;
use crate::protocol::ring::Ring;
use crate::record::control::Control;
use lookback_snapshot::wire::{BlockHeader, Loss, Position, offset};
use std::sync::atomic::{AtomicU64, Ordering};

/// The ring in the header of the current arena.
pub(crate) fn ring(control: &Control) -> &'static Ring {
    let arena = control.arena.load(Ordering::Relaxed);
    // SAFETY: the arena is mapped as long as a generation is published or a writer is inside, and
    // its header holds a ring at this offset.
    unsafe { &*arena.add(offset::HEAD).cast::<Ring>() }
}

/// Counts lost events in an arena's header, where the count outlives the process: `at` is
/// [`offset::LOST`] or [`offset::LOST_AND_TOLD`].
///
/// # Safety
/// `arena` must point to an arena that is mapped.
pub(crate) unsafe fn note_lost(arena: *mut u8, at: usize, cause: Loss, count: u64) {
    let at = at + size_of::<AtomicU64>() * cause as usize;
    // SAFETY: as the caller promises; the header holds a word for each cause from this offset on.
    unsafe { &*arena.add(at).cast::<AtomicU64>() }.fetch_add(count, Ordering::Relaxed);
}

/// The `committed` word of a block.
///
/// # Safety
/// `block` must point to a block's header that outlives the use.
#[inline(always)]
pub(crate) unsafe fn committed<'a>(block: *mut u8) -> &'a AtomicU64 {
    // SAFETY: as the caller promises.
    unsafe { &RawHeader::at(block).committed }
}

/// A block's header, if it was written completely.
///
/// # Safety
/// `block` must point to a block that still belongs to its writer, or to where one was to be
/// written.
pub(crate) unsafe fn read_header(block: *mut u8) -> Option<BlockHeader> {
    // SAFETY: as for `committed`.
    unsafe { RawHeader::at(block) }.read()
}

/// The address of the block at this position.
///
/// # Safety
/// `control` must refer to the arena that the block was carved from.
pub(crate) unsafe fn place_of(control: &Control, position: u64) -> *mut u8 {
    let capacity = control.capacity.load(Ordering::Relaxed);
    let arena = control.arena.load(Ordering::Relaxed);
    // SAFETY: offsets within the data are within the mapping.
    unsafe { arena.add(offset::DATA + (position % capacity) as usize) }
}

/// Writes a block's header and that of the padding before it, and returns the block's address.
///
/// # Safety
/// The caller must have carved both from the arena that `control` refers to.
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
        unsafe { RawHeader::at(at(position.0)) }.write(&padding, padding.padding_check());
    }
    let block = at(header.position.0);
    // SAFETY: the block was carved.
    unsafe { RawHeader::at(block) }.write(header, header.check());
    block
}
