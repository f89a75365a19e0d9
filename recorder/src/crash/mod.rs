//! The crash note: what a fatal signal leaves in the arena's header.
//!
//! The handler does only what a handler may: it stores to memory and asks the kernel. It runs on the thread's
//! alternate stack if there is one, as on threads of the standard library, so a stack overflow is noted, too.
//! The note has its own room in the header, because the signal may have interrupted an event. Afterwards the
//! handler calls the previous handler, or lets the signal through, so the process dies as it would have
//! without us.
//!
//! The first note that no handler resolved stays: a handler that aborts on a fault does not hide the fault.
//! See [`note`] for what is noted when several threads fault.
//!
//! Our handler takes over the mask, the flags and the choice of stack of the previous one, and differs only
//! in its signature. So a handler that was installed for the thread's own stack does not find itself on a
//! small alternate one. It follows that a stack overflow is noted only where the previous handler could have
//! been called.
//!
//! # Synchronization
//!
//! The recorder may stop, and unmap the arena, while a handler runs. So a handler increments a count before
//! it loads the header's address; a thread that takes the header away reads the count afterwards (all of this
//! sequentially consistent) and waits. A handler is counted only while it writes the note, which takes
//! microseconds, not while the previous handler runs, which may never return.

mod abort;
mod note;
mod stack;

pub(crate) use abort::{look_after, take_back_if_left};

use crate::arena::Arena;
use crate::os::mode::Mode;
use crate::os::signal_chain::{self, Errno, FATAL, current, sender};
use crate::os::signal_stack::{self, Handling};
use note::Noted;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};

/// The header that notes go to, or null.
static HEADER: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// How many handlers are writing a note: see the module.
static AT_NOTE: AtomicU32 = AtomicU32::new(0);
/// How long to wait for those handlers.
const PATIENCE: Duration = Duration::from_secs(1);

/// The action that was installed for a signal before ours. Written once, before the handler that reads it can
/// run.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: see above.
unsafe impl Sync for Before {}

/// Indexed as [`FATAL`].
static BEFORE: [Before; FATAL.len()] =
    [const { Before(UnsafeCell::new(MaybeUninit::uninit())) }; FATAL.len()];

/// Whether a one-shot handler was called.
static WAS_CALLED: [AtomicBool; FATAL.len()] = [const { AtomicBool::new(false) }; FATAL.len()];

/// From now on fatal signals are noted in this arena.
pub(crate) fn watch(arena: &Arena) {
    HEADER.store(arena.base(), Ordering::SeqCst);
    FATAL.into_iter().for_each(install);
}

/// What a note needs from the recording thread. All of these are safe in a signal handler.
pub(crate) struct Witness {
    /// Whether this is a forked child, which must not write to its parent's arena.
    pub(crate) is_foreign: fn() -> bool,
    /// The clock that the recording uses.
    pub(crate) mode: fn() -> Mode,
    /// This thread's number in the recording, 0 for none.
    pub(crate) thread: fn() -> u64,
    /// Whether this thread panics and the panic hook has not seen it.
    pub(crate) aborts_unseen: fn() -> bool,
}

static WITNESS: OnceLock<&Witness> = OnceLock::new();

/// Sets the source of that information. Called before any arena is watched.
pub(crate) fn ask(witness: &'static Witness) {
    let _ = WITNESS.set(witness);
}

fn witness() -> Option<&'static Witness> {
    WITNESS.get().copied()
}

/// What to call before an abort: see [`watch_aborts`].
static BEFORE_ABORT: OnceLock<fn()> = OnceLock::new();

/// From now on an aborting process calls `wait` first, in the handler of the signal.
pub(crate) fn watch_aborts(wait: fn()) {
    let _ = BEFORE_ABORT.set(wait);
    install(libc::SIGABRT);
}

/// Installs the handler for a fatal signal, once per process: a handler installed since then may call ours,
/// and ours must not call it in turn.
fn install(signal: libc::c_int) {
    static INSTALLED: [Once; FATAL.len()] = [const { Once::new() }; FATAL.len()];
    let Some(index) = FATAL.iter().position(|known| *known == signal) else { return };
    INSTALLED[index].call_once(|| {
        // SAFETY: only this code writes `BEFORE`, under the `Once`, and each element before the handler that
        // reads it is installed; the same holds for `OURS`. Both structures are valid.
        unsafe {
            let before = BEFORE[index].0.get();
            if libc::sigaction(signal, std::ptr::null(), before.cast()) != 0 {
                return;
            }
            // What interrupts the previous handler, what it interrupts, and where it runs stay the same.
            let mut ours: libc::sigaction = *before.cast();
            if has_handler(&ours) {
                // The kernel removes a one-shot handler when it calls it.
                ours.sa_flags &= !libc::SA_RESETHAND;
            } else {
                // A program that did not handle the signal does not notice ours.
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

/// Stops noting in this arena. It may be unmapped afterwards.
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
    crate::stack::block_own_signals();
    let Some(index) = FATAL.iter().position(|known| *known == signal) else { return };
    // SAFETY: written before the handler was installed.
    let before = unsafe { (*BEFORE[index].0.get()).assume_init_ref() };
    abort::take_back_if_left();
    let nests = before.sa_flags & libc::SA_NODEFER != 0;
    // SAFETY: the kernel gave us both; taking a note neither faults nor unwinds.
    let noted = unsafe {
        let take = || note::take(signal, info, context, nests);
        signal_stack::with_room(context, Handling::Fatal, take)
    };
    let noted = noted.unwrap_or(Noted::Nowhere);
    if signal == libc::SIGABRT
        && let Some(wait) = BEFORE_ABORT.get()
    {
        wait();
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

/// Calls the previous handler, or lets the signal through. Returns whether that resolved the signal, so that
/// the process continues.
///
/// # Safety
/// Call it in the handler, with the handler's arguments.
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
    // A process that calls `abort` dies of it, whatever a handler does.
    let by_itself = signal == libc::SIGABRT && (sender == 0 || sender == std::process::id());
    if before.sa_sigaction == libc::SIG_IGN && !by_fault {
        return !by_itself;
    }
    // A one-shot handler is called once, even when two threads fail together: the kernel removes it before
    // calling it. A handler installed since then may call it as often as it likes.
    let now = current(signal);
    let is_for_once = has_handler(before)
        && before.sa_flags & libc::SA_RESETHAND != 0
        && (is_ours(&now) || now.sa_sigaction == libc::SIG_DFL);
    let was_called = is_for_once && was_called.swap(true, Ordering::SeqCst);
    // SAFETY: zeroes are the default action.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    if !has_handler(before) || was_called {
        noted.is_fatal();
        // SAFETY: valid structures. A fault faults again, with nothing in between; a sent signal is sent
        // again and stays pending until this handler returns.
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
    // The previous handler's frames are below this.
    let here = crate::protocol::frame::here();
    let dealing = by_fault.then(|| abort::Dealing::begin(here));
    // SAFETY: it has a handler, and the other arguments are those that ours got.
    unsafe { signal_chain::call(before, signal, info, context) };
    drop(dealing);
    if !by_fault && signal != libc::SIGABRT {
        // A signal that was sent once does not fail again.
        return true;
    }
    if signal == libc::SIGABRT {
        return !by_itself;
    }
    // A handler that uninstalls itself does so because the signal should be fatal when it comes again.
    current(signal).sa_sigaction != libc::SIG_DFL
}
