//! Signals as triggers: a handler that sets a flag and wakes the collector, which then fires.
//!
//! The handler does what is safe in one: atomics, and the futex call of `unpark`. There is no pipe,
//! because a program that closes all of its descriptors would take it away, and the next file that it
//! opens would have its number. What handled the signal before is called afterwards, and what it is
//! that the signal interrupts stays as it was.
//!
//! Who has taken a signal over since then may call ours, and must not be called by it: so while ours
//! may lie below another handler, it is not put on top of that one again.
//!
//! # Memory
//!
//! The handler may be running whenever something here changes, so what it follows pointers to is never
//! freed: the collector's handle, and the action from before, each a few bytes for each recorder that has
//! such a trigger; the action is kept once, if it is the same one.

use crate::control::control;
use crate::error::Error;
use crate::recorder::Shared;
use crate::sigaction::{self, Errno, FATAL, Handler, current};
use std::io;
use std::sync::atomic::{AtomicU32, AtomicPtr, AtomicU64, Ordering};
use std::thread::Thread;

/// Signals have numbers below this.
const SIGNALS: usize = 65;

/// A bit for each signal that came and was not yet fired for.
static CAME: AtomicU64 = AtomicU64::new(0);
/// The process that sent the last one, 0 if it was none.
static SENDER: AtomicU32 = AtomicU32::new(0);
static COLLECTOR: AtomicPtr<Thread> = AtomicPtr::new(std::ptr::null_mut());
/// The actions from before ours.
static BEFORE: [AtomicPtr<libc::sigaction>; SIGNALS] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; SIGNALS];
/// A bit for each signal whose handler is ours, or was when somebody else took it over.
static INSTALLED: AtomicU64 = AtomicU64::new(0);

/// Whether a signal of this number can be a trigger: one that can be handled, and does not mean that
/// the thread cannot go on.
pub(crate) fn is_possible(number: i32) -> bool {
    let never = [libc::SIGKILL, libc::SIGSTOP];
    (1..SIGNALS as i32).contains(&number) && !FATAL.contains(&number) && !never.contains(&number)
}

/// From now on the signals of these triggers wake this collector. Called under the lock of `start`.
pub(crate) fn watch(shared: &Shared, collector: &Thread) -> Result<(), Error> {
    if shared.active.signals.is_empty() {
        return Ok(());
    }
    CAME.store(0, Ordering::Relaxed);
    COLLECTOR.store(Box::into_raw(Box::new(collector.clone())), Ordering::Release);
    for (number, _) in &shared.active.signals {
        install(*number)
            .map_err(|error| Error::System { what: "no handler of a signal", error })?;
    }
    Ok(())
}

/// Puts the handlers from before back, where ours are still in place.
pub(crate) fn unwatch(shared: &Shared) {
    for (number, _) in &shared.active.signals {
        let before = BEFORE[*number as usize].load(Ordering::Acquire);
        if !before.is_null() && is_ours(&current(*number)) {
            // SAFETY: the action is one that the system gave, and lives for ever.
            unsafe { libc::sigaction(*number, before, std::ptr::null_mut()) };
            INSTALLED.fetch_and(!bit(*number), Ordering::AcqRel);
        }
    }
}

/// Fires for the signals that came. Called by the collector.
pub(crate) fn fire(shared: &Shared) {
    if CAME.load(Ordering::Relaxed) == 0 {
        return;
    }
    let came = CAME.swap(0, Ordering::AcqRel);
    for (number, armed) in &shared.active.signals {
        if came & bit(*number) != 0 {
            let _ = armed.fire(|| {
                let name = if *number == libc::SIGUSR2 { "SIGUSR2" } else { "signal" };
                match SENDER.load(Ordering::Relaxed) {
                    0 => format!("{name} ({number})"),
                    sender => format!("{name} ({number}), sent by process {sender}"),
                }
            });
        }
    }
}

fn bit(number: i32) -> u64 {
    1 << (number - 1)
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == handle as Handler as usize
}

fn install(number: i32) -> io::Result<()> {
    let before = current(number);
    let is_handler = !matches!(before.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
    let may_be_below = is_handler && INSTALLED.load(Ordering::Acquire) & bit(number) != 0;
    if is_ours(&before) || may_be_below {
        return Ok(());
    }
    keep(number, before);
    // With the mask of the one before: it counts on not being interrupted by those.
    let mut action = before;
    action.sa_sigaction = handle as Handler as usize;
    // Ours stays, even if the one before was to be called once.
    action.sa_flags &= !libc::SA_RESETHAND;
    action.sa_flags |= libc::SA_SIGINFO;
    if !is_handler {
        // Who expected nothing of the signal must not notice it.
        action.sa_flags |= libc::SA_RESTART | libc::SA_ONSTACK;
    }
    // SAFETY: the handler does only what is safe in one.
    let result = unsafe { libc::sigaction(number, &action, std::ptr::null_mut()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    INSTALLED.fetch_or(bit(number), Ordering::AcqRel);
    Ok(())
}

/// Keeps the action from before for the handler to find, before that is installed.
fn keep(number: i32, before: libc::sigaction) {
    let place = &BEFORE[number as usize];
    // SAFETY: it is null, or an action that lives for ever.
    let known = unsafe { place.load(Ordering::Acquire).as_ref() };
    let is_known = known.is_some_and(|known| {
        known.sa_sigaction == before.sa_sigaction && known.sa_flags == before.sa_flags
    });
    if !is_known {
        place.store(Box::into_raw(Box::new(before)), Ordering::Release);
    }
}

extern "C" fn handle(number: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let _errno = Errno::keep();
    let is_foreign = control().is_foreign();
    if !is_foreign {
        // SAFETY: what the system gives.
        let sender = unsafe { sigaction::sender(info) };
        SENDER.store(sender, Ordering::Relaxed);
        CAME.fetch_or(bit(number), Ordering::AcqRel);
        // SAFETY: it is null, or a handle that lives for ever.
        if let Some(collector) = unsafe { COLLECTOR.load(Ordering::Acquire).as_ref() } {
            collector.unpark();
        }
    }
    // SAFETY: it is null, or an action that lives for ever.
    let before = BEFORE.get(number as usize).map(|before| before.load(Ordering::Acquire));
    // SAFETY: as above.
    if let Some(before) = before.and_then(|before| unsafe { before.as_ref() }) {
        go_on(before, number, info, context, is_foreign);
    }}

/// Does what the action from before would have done; but what would have ended the process does so in
/// a forked child alone.
fn go_on(
    before: &libc::sigaction,
    number: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    is_foreign: bool,
) {
    match before.sa_sigaction {
        libc::SIG_IGN => {}
        libc::SIG_DFL if is_foreign => {
            // SAFETY: both are safe in a handler; the signal is delivered when this one returns.
            unsafe {
                libc::signal(number, libc::SIG_DFL);
                libc::raise(number);
            }
        }
        libc::SIG_DFL => {}
        // SAFETY: it has a handler, and the rest is what ours was given.
        _ => unsafe { sigaction::call(before, number, info, context) },
    }
}
