//! Moments in which no thread may fork.
//!
//! A forked child has only the thread that forked, and a copy of whatever the other threads had begun. What
//! a recorder's thread begins and ends within microseconds can keep a fork waiting:
//!
//! * It asks the loader what is loaded. The C library renews most of its locks in a child, but not the one that
//!   the loader holds meanwhile: the child would hang as soon as it loads a library or unwinds a stack.
//! * It opens a file that a child must close, and has not noted the descriptor yet.
//!
//! # Synchronization
//!
//! A thread adds itself to [`BUSY`] and then looks at [`FORKING`]; a thread that forks does the reverse. All of
//! this is sequentially consistent, so at least one of the two sees the other. The busy one steps back, and the
//! one that forks waits, so they do not wait for each other. A thread that steps back counts as busy for a
//! moment longer, which only makes the other wait.

use crate::os::signal_chain::Errno;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A busy thread that waits looks this often, with a pause in between.
pub(crate) const LOOKS: u32 = 1000;
/// And a thread that forks this often, for 2 s and more: a busy thread may get no core for long on a machine that is
/// overcommitted. But one that a debugger stops must not hold up a fork for ever.
const LOOKS_OF_A_FORK: u32 = 20_000;
const PAUSE: Duration = Duration::from_micros(100);

/// How many threads are busy.
static BUSY: AtomicU32 = AtomicU32::new(0);
/// How many threads are forking.
static FORKING: AtomicU32 = AtomicU32::new(0);

/// While this exists, no thread forks. Only for threads of the recorder, and only for microseconds.
pub(crate) struct NoFork(());

impl NoFork {
    /// From now on forks are seen. One that has already begun is not: so this is called before there are threads that are
    /// busy.
    pub(crate) fn watch() {
        static WATCHED: Once = Once::new();
        // SAFETY: the functions may run at any time; in the child, they only store to atomics.
        WATCHED.call_once(|| unsafe {
            libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child));
        });
    }

    /// `None` if threads are forking each time that this looks.
    pub(crate) fn begin(looks: u32) -> Option<Self> {
        Self::watch();
        for look in 0..looks {
            if look > 0 {
                std::thread::sleep(PAUSE);
            }
            BUSY.fetch_add(1, Ordering::SeqCst);
            let busy = Self(());
            if FORKING.load(Ordering::SeqCst) == 0 {
                return Some(busy);
            }
        }
        None
    }
}

impl Drop for NoFork {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::SeqCst);
    }
}

extern "C" fn before_fork() {
    let _errno = Errno::keep();
    FORKING.fetch_add(1, Ordering::SeqCst);
    for _ in 0..LOOKS_OF_A_FORK {
        if BUSY.load(Ordering::SeqCst) == 0 {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

extern "C" fn after_fork() {
    // A thread that was forking when the functions were registered may call only this one.
    let less = |forking: u32| forking.checked_sub(1);
    let _ = FORKING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
}

extern "C" fn in_child() {
    FORKING.store(0, Ordering::SeqCst);
    BUSY.store(0, Ordering::SeqCst);
}
