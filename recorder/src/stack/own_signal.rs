//! A signal of the recorder's own: the first one of those for any purpose (`SIGRTMIN` and on) that the service does not
//! use when it is first needed. Its handler stays, since such a signal ends a process without one, and one may be on its
//! way; so it must do nothing that was not asked for.

use crate::os::signal_chain::{self, FATAL, Handler};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// The signals whose handler is one of these, a bit each from 1 on; also after the service has taken one over. Relaxed: a
/// thread that does not see one yet is interrupted by it.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Blocks these signals on this thread, which is in a handler of a fatal signal; the kernel puts the mask back when that
/// returns. On an alternate stack there is no room for a second signal, and a long walk of a stack is just when the timer on
/// a thread's CPU time goes off.
pub(crate) fn block() {
    let taken = TAKEN.load(Ordering::Relaxed);
    if taken == 0 {
        return;
    }
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: a set that is emptied before it is used, and signals that exist.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in (1..=64).filter(|signal| taken >> (signal - 1) & 1 != 0) {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// See the module.
pub(crate) struct OwnSignal {
    handler: Handler,
    /// 0 before it was chosen, or if there is none. Relaxed: the kernel orders what the handler needs.
    number: AtomicI32,
}

impl OwnSignal {
    /// One with this handler, which no other signal interrupts, unless it means that the thread cannot go on: on an
    /// alternate stack there is little room.
    pub(crate) const fn new(handler: Handler) -> Self {
        Self { handler, number: AtomicI32::new(0) }
    }

    /// The signal, with its handler; `None` if there is none that the service does not use. Another one than before, if the
    /// service has taken that over.
    pub(crate) fn get(&self) -> Option<libc::c_int> {
        let known = self.number.load(Ordering::Relaxed);
        if known > 0 && signal_chain::current(known).sa_sigaction == self.handler as usize {
            return Some(known);
        }
        let is_free = |signal: &libc::c_int| {
            let now = signal_chain::current(*signal);
            now.sa_sigaction == libc::SIG_DFL
        };
        let mut signals = (libc::SIGRTMIN()..=libc::SIGRTMAX()).filter(is_free);
        let chosen = signals.find(|signal| self.take(*signal));
        self.number.store(chosen.unwrap_or_default(), Ordering::Relaxed);
        chosen
    }

    /// Installs the handler. `false` if the signal has another one by now.
    fn take(&self, signal: libc::c_int) -> bool {
        let mut action = signal_chain::current(signal);
        action.sa_sigaction = self.handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: any bits are a valid set, and the signals exist.
        unsafe {
            // Not by `sigfillset`: it leaves out the signals by which the C library has all threads change their user, and
            // on an alternate stack that is left for another one there is no room for those either.
            std::ptr::from_mut(&mut action.sa_mask).write_bytes(0xff, 1);
            for fatal in FATAL.into_iter().chain([libc::SIGTRAP, libc::SIGSYS]) {
                libc::sigdelset(&mut action.sa_mask, fatal);
            }
        }
        TAKEN.fetch_or(1 << (signal - 1), Ordering::Relaxed);
        let mut before = action;
        // SAFETY: the handler is for a signal of any purpose, and may run at any time.
        if unsafe { libc::sigaction(signal, &action, &mut before) } != 0 {
            return false;
        }
        let is_ours = before.sa_sigaction == libc::SIG_DFL;
        if !is_ours {
            // The service has taken the signal since it was looked at.
            // SAFETY: what the service has just set.
            unsafe { libc::sigaction(signal, &before, std::ptr::null_mut()) };
        }
        is_ours
    }
}
