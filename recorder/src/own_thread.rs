//! The recorder's own threads. A service's signals are none of their business: a handler of the service's
//! expects to run on one of its threads, and a service that blocks a signal on all of these, to wait for it
//! (`sigwait`, `signalfd`), would die of it if a thread of which it knows nothing took it. So these threads
//! begin with every signal blocked but those that mean that a thread cannot go on.

use crate::sigaction::FATAL;
use std::io;
use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

/// Begins a thread of the recorder's own.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // A thread has the mask of who begins it, from its first instruction on.
    let _blocked = Blocked::now();
    Builder::new().name(name.to_owned()).spawn(work)
}

/// This thread's signals are blocked until it is dropped: then what was blocked before is again.
struct Blocked(Option<libc::sigset_t>);

impl Blocked {
    fn now() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the places are valid, and the first is filled before it is used; so is the second by a call
        // that succeeds.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            for signal in FATAL.into_iter().chain([libc::SIGTRAP, libc::SIGSYS]) {
                libc::sigdelset(all.as_mut_ptr(), signal);
            }
            let done =
                libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr()) == 0;
            Self(done.then(|| before.assume_init()))
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // SAFETY: a set that the system gave.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
        }
    }
}
