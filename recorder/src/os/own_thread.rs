//! The recorder's own threads, which must not take the service's signals. A handler of the service
//! expects to run on one of the service's threads. A service that blocks a signal on all of them,
//! to wait for it (`sigwait`, `signalfd`), would die if a thread that it does not know took the
//! signal. So the recorder's threads start with every signal blocked, except those that mean that a
//! thread cannot go on.

use crate::os::signal_chain::FATAL;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

/// The kernel's numbers of the recorder's threads; 0 for none. A thread beyond these is not told apart. Relaxed: what is
/// read says nothing else, and may be late.
static OWN: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];

/// Whether this is the kernel's number of a thread of the recorder.
pub(crate) fn is_own(os_thread: u64) -> bool {
    OWN.iter().any(|own| own.load(Ordering::Relaxed) == os_thread)
}

/// This thread is one of the recorder's until this is dropped.
struct Listed(Option<&'static AtomicU64>);

impl Listed {
    fn new() -> Self {
        let (number, order) = (super::thread::number(), Ordering::Relaxed);
        Self(OWN.iter().find(|own| own.compare_exchange(0, number, order, order).is_ok()))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            place.store(0, Ordering::Relaxed);
        }
    }
}

/// Starts a thread of the recorder.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    start(Builder::new().name(name.to_owned()), work)
}

/// Starts a thread of the recorder with a small stack.
pub(crate) fn spawn_small(
    name: &str,
    stack: usize,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    start(Builder::new().name(name.to_owned()).stack_size(stack), work)
}

fn start<T: Send + 'static>(
    thread: Builder,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // A thread inherits its creator's mask, from its first instruction on.
    let _blocked = Blocked::now();
    thread.spawn(|| {
        let _listed = Listed::new();
        work()
    })
}

/// Blocks this thread's signals until dropped, then restores the previous mask.
struct Blocked(Option<libc::sigset_t>);

impl Blocked {
    fn now() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the places are valid. The first is filled before it is used; the second is filled
        // by a call that succeeds.
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
