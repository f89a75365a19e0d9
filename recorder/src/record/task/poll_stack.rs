//! The tasks that a thread is polling, outermost first: its own stack of them, and what it tells the panic hook, for its
//! own thread, and the watchdog, for all others.

use crate::protocol::task_state::Status;
use crate::record::site::Site;
use crate::record::slot::{MAX_POLLS, Slot};
use crate::record::task::TaskEntry;
use crate::record::thread;
use std::sync::atomic::Ordering;

/// A poll of this task begins on the slot's thread, as the `depth + 1`st, in a function with this stack pointer.
#[inline(always)]
pub(crate) fn push(slot: &Slot, place: &'static TaskEntry, depth: u32, frame: u64) {
    let depth_index = depth as usize;
    if let (Some(poll), Some(of)) = (slot.polls.get(depth_index), slot.poll_frames.get(depth_index))
    {
        poll.store(std::ptr::from_ref(place).cast_mut(), Ordering::Relaxed);
        of.set(frame);
    }
    slot.poll_depth.store(depth + 1, Ordering::Relaxed);
}

/// The innermost poll of the slot's thread is over.
#[inline(always)]
pub(crate) fn pop(slot: &Slot) {
    let depth = slot.poll_depth.load(Ordering::Relaxed);
    slot.poll_depth.store(depth.saturating_sub(1), Ordering::Relaxed);
}

/// Marks the innermost poll of this thread as one that may block, or unmarks it.
pub(crate) fn mark_errand(is_errand: bool) {
    let Some(slot) = thread::present_slot() else { return };
    let depth = slot.poll_depth.load(Ordering::Relaxed).wrapping_sub(1);
    let bit = 1_u32.checked_shl(depth).unwrap_or(0);
    let marks = slot.errands.load(Ordering::Relaxed);
    let marks = if is_errand { marks | bit } else { marks & !bit };
    slot.errands.store(marks, Ordering::Relaxed);
}

/// The outermost poll of a slot's thread that must not block, seen from another thread: the task's
/// place and the poll's sequence number.
pub(crate) fn outermost(slot: &Slot) -> Option<(&'static TaskEntry, u64)> {
    let depth = slot.poll_depth.load(Ordering::Relaxed) as usize;
    let errands = slot.errands.load(Ordering::Relaxed);
    let at = (0..depth.min(MAX_POLLS)).find(|at| errands & (1 << at) == 0)?;
    // SAFETY: the stack holds places, which are never unmapped, or null.
    let place = unsafe { slot.polls[at].load(Ordering::Relaxed).as_ref() }?;
    let word = place.words.look();
    (word.status() == Status::Running).then(|| (place, word.sequence()))
}

/// Whether this slot's thread, or an earlier one, has ever polled.
pub(crate) fn has_polled(slot: &Slot) -> bool {
    !slot.polls[0].load(Ordering::Relaxed).is_null()
}

/// How many polls this thread is inside of.
pub(crate) fn depth() -> u32 {
    thread::present_slot().map_or(0, |slot| slot.poll_depth.load(Ordering::Relaxed))
}

/// The place of the innermost task that the slot's thread, which is this one, is polling.
#[inline(always)]
pub(crate) fn innermost_place(slot: &Slot) -> Option<&'static TaskEntry> {
    let depth = slot.poll_depth.load(Ordering::Relaxed).checked_sub(1)?;
    let poll = slot.polls.get(depth as usize)?;
    // SAFETY: the stack holds places, which are never unmapped, or null.
    unsafe { poll.load(Ordering::Relaxed).as_ref() }
}

/// The site and the id of the innermost task that this thread is polling.
pub(crate) fn innermost() -> Option<(&'static Site, u64)> {
    let place = innermost_place(thread::present_slot()?)?;
    let (site, _) = place.named()?;
    Some((site, place.id()))
}
