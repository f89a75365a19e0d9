//! Which tasks threads are polling, for who looks: the panic hook at its own thread, the watchdog at all
//! others.

use crate::site::Site;
use crate::slot::{MAX_POLLS, Slot};
use crate::task::Place;
use crate::thread;
use crate::words::Status;
use std::sync::atomic::Ordering;

/// The outermost poll of a slot's thread that must not block, for who looks from outside: its task's
/// place, and its sequence number.
pub(crate) fn outermost(slot: &Slot) -> Option<(&'static Place, u64)> {
    let depth = slot.poll_depth.load(Ordering::Relaxed) as usize;
    let errands = slot.errands.load(Ordering::Relaxed);
    let at = (0..depth.min(MAX_POLLS)).find(|at| errands & (1 << at) == 0)?;
    // SAFETY: the stack holds places, which are never unmapped, or null.
    let place = unsafe { slot.polls[at].load(Ordering::Relaxed).as_ref() }?;
    let word = place.words.look();
    (word.status() == Status::Running).then(|| (place, word.sequence()))
}

/// Whether the slot's thread, or one before it, has ever polled.
pub(crate) fn has_polled(slot: &Slot) -> bool {
    !slot.polls[0].load(Ordering::Relaxed).is_null()
}

/// The innermost task that this thread is polling: its site, and its id.
pub(crate) fn innermost() -> Option<(&'static Site, u64)> {
    let slot = thread::present_slot()?;
    let depth = slot.poll_depth.load(Ordering::Relaxed).checked_sub(1)?;
    let poll = slot.polls.get(depth as usize)?;
    // SAFETY: the stack holds places, which are never unmapped, or null.
    let place = unsafe { poll.load(Ordering::Relaxed).as_ref() }?;
    let (site, _) = place.named()?;
    Some((site, place.id()))
}
