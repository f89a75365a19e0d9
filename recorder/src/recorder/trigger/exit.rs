//! The end of the process waits for snapshots that triggers have requested.
//!
//! A thread that panics or logs an error does not wait for its snapshot: the panic may be caught, and
//! meanwhile the thread would hold up others that need it or its locks. But the process may end as a result:
//! `main` returns an error or unwinds, or a hook calls `exit` or `abort`. So the exit waits while something
//! is [pending](super::saver::PENDING), for at most [`panic_patience`](crate::Builder::panic_patience). The
//! handler of SIGABRT waits, too; it only reads atomics, wakes the saver by a futex, and sleeps. Delayed
//! snapshots are saved at once, because nothing could save them later. The saver's own thread never waits.

use super::saver::PENDING;
use crate::os;
use crate::record::control::control;
use crate::recorder;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// Threads that are about to request a snapshot, counted before they know whether they may.
pub(super) static ASKING: AtomicU32 = AtomicU32::new(0);
/// The operating system's ID of the saver's thread.
pub(super) static SAVER: AtomicU64 = AtomicU64::new(0);
/// The saver's handle, for a signal handler, which may be using it at any time. So it is never freed: a few
/// bytes for each recorder that has a saver.
static HANDLE: AtomicPtr<Thread> = AtomicPtr::new(std::ptr::null_mut());
/// The process is aborting: delays no longer apply.
static ABORTING: AtomicBool = AtomicBool::new(false);
/// How long to wait, in milliseconds.
static PATIENCE: AtomicU64 = AtomicU64::new(0);

/// From now on the exit of the process waits this long for what is pending.
pub(crate) fn watch(patience: Duration) {
    static WATCHED: Once = Once::new();
    PATIENCE.store(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    WATCHED.call_once(|| {
        // SAFETY: the function may be called at any time. If `atexit` has no room for it, the exit does not
        // wait.
        unsafe { libc::atexit(at_exit) };
    });
}

/// This thread is the saver.
pub(super) fn note_saver() {
    HANDLE.store(Box::into_raw(Box::new(std::thread::current())), Ordering::Release);
    SAVER.store(os::thread::number(), Ordering::Relaxed);
}

/// Whether the process is known to be aborting.
pub(super) fn is_aborting() -> bool {
    ABORTING.load(Ordering::SeqCst)
}

/// Like [`wait`], in the handler of SIGABRT. Delayed snapshots are saved at once.
pub(crate) fn wait_in_abort() {
    if !is_awaited() {
        return;
    }
    ABORTING.store(true, Ordering::SeqCst);
    // SAFETY: it is null, or a handle that is never freed.
    if let Some(saver) = unsafe { HANDLE.load(Ordering::Acquire).as_ref() } {
        saver.unpark();
    }
    wait();
    // The signal's previous handler may let the process continue.
    ABORTING.store(false, Ordering::SeqCst);
}

/// Whether this thread has anything to wait for.
fn is_awaited() -> bool {
    let is_pending = || ASKING.load(Ordering::SeqCst) > 0 || PENDING.load(Ordering::SeqCst) > 0;
    is_pending() && !control().is_foreign() && os::thread::number() != SAVER.load(Ordering::Relaxed)
}

/// Waits until nothing is pending, or the patience is used up. Safe in a signal handler.
pub(crate) fn wait() {
    let mut left = PATIENCE.load(Ordering::Relaxed);
    while left > 0 && is_awaited() {
        let millisecond = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // SAFETY: the time is valid, and the remaining time is not requested.
        unsafe { libc::nanosleep(&millisecond, std::ptr::null_mut()) };
        left -= 1;
    }
}

extern "C" fn at_exit() {
    if !is_awaited() {
        return;
    }
    // Delayed snapshots are saved at once, as when the recorder stops.
    if let Ok(shared) = recorder::current() {
        shared.saver.hurry();
    }
    wait();
}
