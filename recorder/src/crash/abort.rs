//! Aborts while a handler deals with a fault.
//!
//! Such an abort is a consequence of the fault, which is already noted (see [`note`](super::note)), so our
//! handler of SIGABRT passes it on. But if the fault's handler runs on a small alternate stack, such as
//! threads of the standard library have, a second signal's frame does not fit, and the process would die of
//! that instead. So there SIGABRT is *lent*: while the handler runs, the previous disposition replaces ours.
//! This applies to the whole process; during that time an abort of another thread is neither noted nor waited
//! for.
//!
//! A handler may leave by a jump, and then it never gives SIGABRT back. The thread detects that at its next
//! fault, or when it first records in another generation, from its position on the stack (see [`frame`]). If
//! the thread is gone, the advancing thread detects it. A thread that lives on and does neither keeps SIGABRT
//! lent.

use super::{BEFORE, Before, is_ours};
use crate::os;
use crate::os::signal_chain::{FATAL, current};
use crate::protocol::frame;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};

/// SIGABRT stays ours if this much stack is free: enough for what the kernel saves (a few kilobytes, with all
/// registers), for our handler, and for the previous one.
const ENOUGH: u64 = 32 << 10;

/// Our action for SIGABRT. Written once, before it is installed.
pub(super) static OURS: Before = Before(UnsafeCell::new(MaybeUninit::uninit()));

/// The operating system's ID of the thread to which SIGABRT is lent (0 for none), and its position on its
/// stack at that time. [`MOVING`]: SIGABRT is being lent or taken back.
static LENT_TO: AtomicU64 = AtomicU64::new(0);
static LENT_AT: AtomicU64 = AtomicU64::new(0);
/// What the system reports as installed while it is lent: handler and flags, some of which the system adds.
static LENT: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
const MOVING: u64 = u64::MAX;

/// Exists while a handler deals with a fault.
pub(super) struct Dealing {
    is_lent: bool,
}

impl Dealing {
    /// `here` is the caller's position on the stack.
    pub(super) fn begin(here: u64) -> Self {
        Self { is_lent: !has_enough(here) && lend(here) }
    }
}

impl Drop for Dealing {
    fn drop(&mut self) {
        if self.is_lent {
            take_back(os::thread::number());
        }
    }
}

/// Whether the frame of another signal is known to fit below.
fn has_enough(here: u64) -> bool {
    let Some((first, size)) = frame::alternate_stack() else { return false };
    let below = here.wrapping_sub(first);
    here != 0 && (below >= size || below >= ENOUGH)
}

/// The action that is installed for SIGABRT: handler and flags.
fn installed() -> [u64; 2] {
    let now = current(libc::SIGABRT);
    [now.sa_sigaction as u64, now.sa_flags.cast_unsigned().into()]
}

/// If our action for SIGABRT is installed, restores the previous one.
fn lend(here: u64) -> bool {
    let Some(index) = FATAL.iter().position(|known| *known == libc::SIGABRT) else { return false };
    let own = os::thread::number();
    let swap = LENT_TO.compare_exchange(0, MOVING, Ordering::SeqCst, Ordering::SeqCst);
    if swap.is_err() {
        return false;
    }
    let is_ours = is_ours(&current(libc::SIGABRT));
    // SAFETY: written before the handler was installed, which it is.
    let is_lent = is_ours
        && unsafe {
            let before = BEFORE[index].0.get().cast();
            libc::sigaction(libc::SIGABRT, before, std::ptr::null_mut()) == 0
        };
    LENT_AT.store(here, Ordering::SeqCst);
    LENT.iter().zip(installed()).for_each(|(word, now)| word.store(now, Ordering::SeqCst));
    LENT_TO.store(if is_lent { own } else { 0 }, Ordering::SeqCst);
    is_lent
}

/// Takes SIGABRT back from this thread, if it has it. An action installed meanwhile by anyone else stays.
fn take_back(from: u64) {
    let swap = LENT_TO.compare_exchange(from, MOVING, Ordering::SeqCst, Ordering::SeqCst);
    if swap.is_err() {
        return;
    }
    if installed() == LENT.each_ref().map(|word| word.load(Ordering::SeqCst)) {
        // SAFETY: it was lent, so this was written before.
        unsafe { libc::sigaction(libc::SIGABRT, OURS.0.get().cast(), std::ptr::null_mut()) };
    }
    LENT_TO.store(0, Ordering::SeqCst);
}

/// Takes SIGABRT back if it was lent to a handler of this thread that has left by a jump.
#[inline]
pub(crate) fn take_back_if_left() {
    if LENT_TO.load(Ordering::Relaxed) != 0 {
        take_back_if_left_here(frame::here());
    }
}

#[cold]
#[inline(never)]
fn take_back_if_left_here(here: u64) {
    let own = os::thread::number();
    if LENT_TO.load(Ordering::SeqCst) == own
        && frame::has_left(LENT_AT.load(Ordering::SeqCst), here)
    {
        take_back(own);
    }
}

/// Takes SIGABRT back if it was lent to a thread that is gone. The advancing thread calls this.
pub(crate) fn look_after() {
    let lent_to = LENT_TO.load(Ordering::Relaxed);
    if lent_to != 0 && lent_to != MOVING && os::thread::is_gone(lent_to) {
        take_back(lent_to);
    }
}
