//! Notes in the arena's header about the recording, for readers outside the process or after its end: the
//! filter, how many callsites and texts found no entry, how often the kernel refused a barrier, how often the
//! process was stopped, and why snapshots cannot be saved. Only the advancing thread writes them.

use crate::arena::Arena;
use crate::record::control::control;
use crate::record::{filter, site_registry};
use lookback_snapshot::wire::{TextNote, offset};
use std::sync::atomic::{AtomicU64, Ordering};

/// Notes what the tables and the control block know. The caller must hold the advancer's lock.
pub(crate) fn note(arena: &Arena) {
    let control = control();
    word(arena, offset::NAMELESS).store(site_registry::without(), Ordering::Relaxed);
    word(arena, offset::UNSHARED_TEXTS).store(control.strings().unshared(), Ordering::Relaxed);
    let refused = control.refused_barriers.load(Ordering::Relaxed);
    word(arena, offset::REFUSED_BARRIERS).store(refused, Ordering::Relaxed);
    word(arena, offset::STOPS).store(control.stops.load(Ordering::Relaxed), Ordering::Relaxed);
    text(arena, offset::FILTER, &TextNote::of(&filter::in_words()));
}

/// Notes how many snapshots of triggers could not be saved, and why not. The caller must hold the advancer's
/// lock.
pub(crate) fn note_saves(arena: &Arena, failed: u64, why: &str) {
    word(arena, offset::FAILED_SAVES).store(failed, Ordering::Relaxed);
    text(arena, offset::SAVES, &TextNote::of(&[why.replace('\n', " ")]));
}

fn word(arena: &Arena, at: usize) -> &AtomicU64 {
    // SAFETY: the arena is mapped while it is borrowed; its header has a word there.
    unsafe { &*arena.base().add(at).cast::<AtomicU64>() }
}

fn text(arena: &Arena, at: usize, note: &TextNote) {
    let (check, bytes) = (word(arena, at), note.bytes());
    if check.load(Ordering::Relaxed) == note.word() {
        return;
    }
    // A reader that comes in between finds that the check fails.
    check.store(0, Ordering::Release);
    // SAFETY: the header has that much room there, and nothing else in this process touches it: see above.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), arena.base().add(at + 8), bytes.len());
    }
    check.store(note.word(), Ordering::Release);
}
