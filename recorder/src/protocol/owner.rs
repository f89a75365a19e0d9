//! Slot ownership: whether a slot's thread is gone without having returned the slot.
//!
//! # Synchronization
//!
//! While the kernel is asked about a thread, that thread may return its slot and end, and another
//! thread may take the slot. So the slot's thread number is read again after the kernel has
//! answered: a thread clears the number when it returns the slot, before it is gone, and no number
//! is used twice. The number is stored (release) after the operating system's thread id and loaded
//! (acquire) before it: so either both belong to one thread, or the second read finds another
//! number.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering, fence};

/// Whether the thread with this number (0: none) is gone without having returned its slot.
pub(crate) fn was_left(
    thread: &AtomicU64,
    os_thread: &AtomicU64,
    is_gone: impl FnOnce(u64) -> bool,
) -> bool {
    let number = thread.load(Ordering::Acquire);
    if number == 0 || !is_gone(os_thread.load(Ordering::Relaxed)) {
        return false;
    }
    fence(Ordering::Acquire);
    thread.load(Ordering::Relaxed) == number
}
