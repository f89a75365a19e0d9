//! The end of the process: a snapshot that was asked for is waited for.
//!
//! Who panics, or logs an error, does not wait for the snapshot of it: the panic may be caught, and
//! meanwhile the thread would hold up whoever needs it, or the locks that it holds. But the process may end of
//! it: `main` returns an error, or unwinds, or a hook calls `exit` or `abort`. So the exit waits where
//! something is [pending](super::saver::PENDING), for no longer than
//! [`panic_patience`](crate::Builder::panic_patience), and so does the handler of SIGABRT, which does no
//! more than to look at atomics, to wake the saver by a futex, and to sleep. What was to be delayed is saved
//! at once, for afterwards there is nobody left. Nobody waits on the saver's own thread.

use super::saver::PENDING;
use crate::control::control;
use crate::{recorder, thread};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// Threads that are about to ask: counted before it is known whether they may.
pub(super) static ASKING: AtomicU32 = AtomicU32::new(0);
/// The operating system's number of the saver's thread.
pub(super) static SAVER: AtomicU64 = AtomicU64::new(0);
/// Its handle, for a signal handler, which may be using it at any time: so it is never freed, a few bytes
/// for each recorder that has a saver.
static HANDLE: AtomicPtr<Thread> = AtomicPtr::new(std::ptr::null_mut());
/// The process is aborting: nothing is delayed any more.
static ABORTING: AtomicBool = AtomicBool::new(false);
/// How long is waited, in milliseconds.
static PATIENCE: AtomicU64 = AtomicU64::new(0);

/// From now on the exit of the process waits so long for what is pending.
pub(crate) fn watch(patience: Duration) {
    static WATCHED: Once = Once::new();
    PATIENCE.store(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    WATCHED.call_once(|| {
        // SAFETY: the function may be called at any time. Where there is no room for it, nobody waits.
        unsafe { libc::atexit(at_exit) };
    });
}

/// This thread is the saver.
pub(super) fn note_saver() {
    HANDLE.store(Box::into_raw(Box::new(std::thread::current())), Ordering::Release);
    SAVER.store(thread::os_thread(), Ordering::Relaxed);
}

/// Whether the process is aborting, as far as anybody knows.
pub(super) fn is_aborting() -> bool {
    ABORTING.load(Ordering::SeqCst)
}

/// Waits as [`wait`] does, in the handler of SIGABRT. Whatever is delayed is saved at once.
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
    // Who handled the signal before may let the process go on.
    ABORTING.store(false, Ordering::SeqCst);
}

/// Whether there is anything that this thread would wait for.
fn is_awaited() -> bool {
    let is_pending = || {
        ASKING.load(Ordering::SeqCst) > 0 || PENDING.load(Ordering::SeqCst) > 0
    };
    is_pending() && !control().is_foreign() && thread::os_thread() != SAVER.load(Ordering::Relaxed)
}

/// Waits until nothing is pending, or patience is over. May be called in a signal handler.
pub(crate) fn wait() {
    let mut left = PATIENCE.load(Ordering::Relaxed);
    while left > 0 && is_awaited() {
        let millisecond = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // SAFETY: the time is valid, and what is left of it is not asked for.
        unsafe { libc::nanosleep(&millisecond, std::ptr::null_mut()) };
        left -= 1;
    }
}

extern "C" fn at_exit() {
    if !is_awaited() {
        return;
    }
    // What is delayed is saved at once, as when the recorder stops.
    if let Ok(shared) = recorder::current() {
        shared.saver.hurry();
    }
    wait();
}
