//! What is noted in the arena's header of how it is recorded, for who reads it from outside or after the
//! process's end: the filter, how many callsites had no place, and how many texts. Only who advances writes it.

use crate::control::control;
use crate::{filter, places};
use lookback_snapshot::wire::{FilterNote, offset};
use std::sync::atomic::{AtomicU64, Ordering};

/// Notes it.
///
/// # Safety
/// `arena` must point to an arena that is mapped, and nobody else may call this meanwhile.
pub(crate) unsafe fn note(arena: *mut u8) {
    // SAFETY: as the caller promises; the header has a word there.
    let word = |at: usize| unsafe { &*arena.add(at).cast::<AtomicU64>() };
    word(offset::NAMELESS).store(places::without(), Ordering::Relaxed);
    word(offset::UNSHARED_TEXTS).store(control().strings().unshared(), Ordering::Relaxed);
    let note = FilterNote::of(&filter::in_words());
    let bytes = note.bytes();
    if word(offset::FILTER).load(Ordering::Relaxed) == note.word() {
        return;
    }
    // Who reads in between finds a check that does not fit.
    word(offset::FILTER).store(0, Ordering::Release);
    // SAFETY: the header has room for so many bytes there, and nobody else in this process touches it.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), arena.add(offset::FILTER + 8), bytes.len());
    }
    word(offset::FILTER).store(note.word(), Ordering::Release);
}
