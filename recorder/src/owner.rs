//! Whose a slot is: whether the thread that it belongs to is gone without having given it back.
//!
//! # Synchronization
//!
//! A thread may take leave, and end, while it is asked for, and another one may get the slot. So its
//! number is looked at again after the kernel was asked: who took leave has cleared the number before
//! it was gone, and no number is used twice. The number is stored (release) after the operating
//! system's number, and loaded (acquire) before it: so both are one thread's, or the second look finds
//! another number.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering, fence};

/// Whether the thread of this number, 0 for none, is gone and has not taken leave.
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
