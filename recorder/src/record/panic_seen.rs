//! Which panics the recorder's panic hook has seen.
//!
//! A program may replace the hook, and the new one need not call ours. Then a panic shows by its consequences alone: it
//! unwinds the poll of a recorded task, or it aborts the process.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the hook was ever installed. Without it nobody expects it to see anything.
static INSTALLED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// What was seen of this thread's panics: [`NOW`] and [`EVER`]. It has no destructor and starts as a constant, so that
    /// reading it is a plain load, in a signal handler and at the thread's end, too.
    static SEEN: Cell<u8> = const { Cell::new(0) };
}

/// The hook has seen a panic that no outermost poll has reached yet.
const NOW: u8 = 1;
/// The hook has seen a panic of this thread, or it is known that it did not.
const EVER: u8 = 2;

/// From now on the hook sees the panics, unless the program replaces it.
pub(crate) fn expect() {
    INSTALLED.store(true, Ordering::Release);
}

/// The hook sees a panic of this thread.
pub(crate) fn see() {
    let _ = SEEN.try_with(|seen| seen.set(NOW | EVER));
}

/// A panic unwinds a recorded poll of this thread, its outermost or not. Returns whether the hook has missed that panic;
/// says so once for each.
pub(crate) fn is_missed(is_outermost: bool) -> bool {
    let after = if is_outermost { EVER } else { NOW | EVER };
    let before = SEEN.try_with(|seen| seen.replace(after));
    INSTALLED.load(Ordering::Acquire) && before.is_ok_and(|before| before & NOW == 0)
}

/// Whether this thread panics and the hook has seen no panic of it. May be called in a signal handler:
/// `std::thread::panicking` loads an atomic count of all threads' panics and, unless that is zero, a thread-local that is
/// a constant at first and has no destructor, like the one here.
pub(crate) fn aborts_unseen() -> bool {
    INSTALLED.load(Ordering::Acquire)
        && std::thread::panicking()
        && SEEN.try_with(Cell::get).is_ok_and(|seen| seen & EVER == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_the_hook_misses_is_missed_once() {
        expect();
        let thread = std::thread::spawn(|| {
            see();
            assert_eq!([is_missed(false), is_missed(true)], [false, false], "the hook saw it");
            assert_eq!([is_missed(false), is_missed(true)], [true, false], "it did not");
            assert!(is_missed(true));
        });
        thread.join().unwrap();
    }
}
