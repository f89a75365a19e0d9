//! The note of a crash: what is written into the arena's header when a fatal signal comes.
//!
//! The handler does what a handler may: it stores to memory and asks the kernel. It runs on the thread's
//! alternate stack where it has one, as threads of the standard library do; so a stack that overflowed
//! is noted, too. The note has a place of its own in the header, because the signal may have
//! interrupted an event. Then the handler that was there before is called, or the signal is let
//! through as if there had been none; so the process dies as it would have.
//!
//! The first note that nobody has dealt with stays: a handler that aborts on a fault does not hide
//! the fault. See [`note`] for what is noted when several threads fault.
//!
//! Ours is installed as the one before was, but for the form that it is called in: with its mask and its
//! flags, on the stack that it asked for. One that was installed for the thread's own stack does not find
//! itself on a small alternate one. So what overflows a stack is noted only where the handler from before
//! would have been called.
//!
//! # Synchronization
//!
//! The recorder may stop, and the arena be unmapped, while a handler runs. So a handler counts itself in
//! before it looks for the header; who takes the header away looks at the count afterwards (all of that
//! sequentially consistent), and waits. A handler is counted only while it is at the note, which takes
//! microseconds; not while the handler from before runs, which may take for ever.

mod abort;
mod note;

pub(crate) use abort::{look_after, take_back_if_left};

use crate::arena::Arena;
use crate::sigaction::{self, Errno, FATAL, current, sender};
use crate::trigger::exit;
use note::Noted;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The header that is noted in, null when there is none.
static HEADER: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// How many handlers are at a note: see the module.
static AT_NOTE: AtomicU32 = AtomicU32::new(0);
/// How long handlers are waited for that are.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was installed before for a signal. Written once, before the handler that reads it can run.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: see above.
unsafe impl Sync for Before {}

/// By place in [`FATAL`].
static BEFORE: [Before; FATAL.len()] =
    [const { Before(UnsafeCell::new(MaybeUninit::uninit())) }; FATAL.len()];

/// Whether a handler that is there for once was called.
static WAS_CALLED: [AtomicBool; FATAL.len()] = [const { AtomicBool::new(false) }; FATAL.len()];

/// From now on a fatal signal is noted in this arena.
pub(crate) fn watch(arena: &Arena) {
    HEADER.store(arena.base(), Ordering::SeqCst);
    FATAL.into_iter().for_each(install);
}

/// From now on a process that aborts waits for the snapshots that were asked for.
pub(crate) fn watch_aborts() {
    install(libc::SIGABRT);
}

/// Installs the handler for a fatal signal. Once a process: who has taken the signal over since then may
/// call ours, and must not be called by it.
fn install(signal: libc::c_int) {
    static INSTALLED: [Once; FATAL.len()] = [const { Once::new() }; FATAL.len()];
    let Some(index) = FATAL.iter().position(|known| *known == signal) else { return };
    INSTALLED[index].call_once(|| {
        // SAFETY: `BEFORE` is written here alone, under the `Once`, and the element before the
        // handler that reads it is installed; and so is `OURS`. Both structures are valid.
        unsafe {
            let before = BEFORE[index].0.get();
            if libc::sigaction(signal, std::ptr::null(), before.cast()) != 0 {
                return;
            }
            // What interrupts the handler from before, what it interrupts, and where it runs, stays as
            // it was.
            let mut ours: libc::sigaction = *before.cast();
            if has_handler(&ours) {
                // One that is there for once is taken away when it is called.
                ours.sa_flags &= !libc::SA_RESETHAND;
            } else {
                // Who expected nothing of the signal does not notice it.
                ours.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
            }
            ours.sa_sigaction = on_signal as *const () as usize;
            ours.sa_flags |= libc::SA_SIGINFO;
            if signal == libc::SIGABRT {
                *abort::OURS.0.get() = MaybeUninit::new(ours);
            }
            libc::sigaction(signal, &ours, std::ptr::null_mut());
        }
    });
}

/// Nothing is noted in this arena any more. It may be unmapped afterwards.
pub(crate) fn forget(arena: &Arena) {
    let (ours, none) = (arena.base(), std::ptr::null_mut());
    if HEADER.compare_exchange(ours, none, Ordering::SeqCst, Ordering::Relaxed).is_err() {
        return;
    }
    let began = Instant::now();
    while AT_NOTE.load(Ordering::SeqCst) != 0 {
        if began.elapsed() > PATIENCE {
            return arena.leak();
        }
        std::thread::sleep(Duration::from_micros(20));
    }
}

extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let _errno = Errno::keep();
    let Some(index) = FATAL.iter().position(|known| *known == signal) else { return };
    // SAFETY: written before the handler was installed.
    let before = unsafe { (*BEFORE[index].0.get()).assume_init_ref() };
    abort::take_back_if_left();
    let nests = before.sa_flags & libc::SA_NODEFER != 0;
    // SAFETY: the kernel has given us both.
    let noted = unsafe { note::take(signal, info, context, nests) };
    if signal == libc::SIGABRT {
        exit::wait_in_abort();
    }
    // SAFETY: as above.
    if unsafe { pass_on(before, &WAS_CALLED[index], &noted, (signal, info, context)) } {
        noted.survived();
    }
}

fn has_handler(action: &libc::sigaction) -> bool {
    !matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN)
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_signal as *const () as usize
}

/// Calls what was installed before, or lets the signal through. Whether that dealt with it, so that the
/// process goes on.
///
/// # Safety
/// To be called in the handler with what it was given.
unsafe fn pass_on(
    before: &libc::sigaction,
    was_called: &AtomicBool,
    noted: &Noted,
    (signal, info, context): (libc::c_int, *mut libc::siginfo_t, *mut libc::c_void),
) -> bool {
    // SAFETY: the kernel's.
    let code = unsafe { (*info).si_code };
    let by_fault = code > 0 && signal != libc::SIGABRT;
    // SAFETY: the kernel's.
    let sender = unsafe { sender(info) };
    // Who calls `abort` dies of it, whatever a handler does.
    let by_itself = signal == libc::SIGABRT && (sender == 0 || sender == std::process::id());
    if before.sa_sigaction == libc::SIG_IGN && !by_fault {
        return !by_itself;
    }
    // One that is there for once is called once, also when two threads fail together: the kernel takes it
    // away before it calls it. Who has taken the signal over since then calls it as often as he likes.
    let now = current(signal);
    let is_for_once = has_handler(before)
        && before.sa_flags & libc::SA_RESETHAND != 0
        && (is_ours(&now) || now.sa_sigaction == libc::SIG_DFL);
    let was_called = is_for_once && was_called.swap(true, Ordering::SeqCst);
    // SAFETY: zeroes are the action that is there by default.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    if !has_handler(before) || was_called {
        noted.is_fatal();
        // SAFETY: valid structures. What faulted faults again, with nobody in between; what was sent is
        // sent again, and waits until this handler is left.
        unsafe {
            let last = if was_called { &raw const default } else { before };
            libc::sigaction(signal, last, std::ptr::null_mut());
            if !by_fault {
                libc::pthread_kill(libc::pthread_self(), signal);
            }
        }
        return false;
    }
    if is_for_once {
        // SAFETY: a valid structure.
        unsafe { libc::sigaction(signal, &default, std::ptr::null_mut()) };
    }
    // Whatever the handler calls is further down.
    let here = crate::frame::here();
    let dealing = by_fault.then(|| abort::Dealing::begin(here));
    // SAFETY: it has a handler, and the rest is what ours was given.
    unsafe { sigaction::call(before, signal, info, context) };
    drop(dealing);
    if !by_fault && signal != libc::SIGABRT {
        // Nothing fails again because it was sent once.
        return true;
    }
    if signal == libc::SIGABRT {
        return !by_itself;
    }
    // A handler that takes itself away does so for the signal to be fatal when it comes again.
    current(signal).sa_sigaction != libc::SIG_DFL
}
