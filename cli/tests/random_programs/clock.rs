//! The judge's instants: the operating system's monotonic clock, which the recorder does not use for its
//! events.

use std::cell::Cell;

/// Nanoseconds since boot.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid, and the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// An instant between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    pub before: u64,
    pub after: u64,
}

/// Does something, and returns the readings before and after.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Window) {
    let before = now();
    let result = work();
    (result, Window { before, after: now() })
}

thread_local! {
    static TID: Cell<u64> = const { Cell::new(0) };
}

/// The operating system's number of this thread.
pub fn tid() -> u64 {
    let known = TID.try_with(Cell::get).unwrap_or(0);
    if known != 0 {
        return known;
    }
    // SAFETY: the call has no preconditions.
    let tid = unsafe { libc::syscall(libc::SYS_gettid) } as u64;
    let _ = TID.try_with(|cell| cell.set(tid));
    tid
}
