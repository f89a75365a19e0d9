//! Signals as triggers: a handler sets a flag and wakes the collector, which then fires.
//!
//! The handler does only what is safe in one: atomics, and the futex call of `unpark`. A pipe would be lost
//! when a program closes all of its descriptors, and the next file that it opens would get the number.
//! Afterwards the handler calls the previous one, and it does not change what the signal interrupts.
//!
//! A handler that is installed later may call ours, and ours must not call it. So while ours may lie below
//! another handler, it is not installed on top of that one again.
//!
//! # Memory
//!
//! The handler may be running whenever something here changes. So what it reaches through pointers is never
//! freed: the collector's handle and the previous action, a few bytes each for every recorder with such a
//! trigger. An equal action is kept only once.

use crate::error::Error;
use crate::os::signal_chain::{self, Errno, FATAL, Handler, current};
use crate::record::control::control;
use crate::recorder::Shared;
use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;

/// All signal numbers are below this.
const SIGNALS: usize = 65;

/// A bit for each signal that has arrived and whose trigger has not fired yet.
static CAME: AtomicU64 = AtomicU64::new(0);
/// The process that sent the last one, 0 for none.
static SENDER: AtomicU32 = AtomicU32::new(0);
static COLLECTOR: AtomicPtr<Thread> = AtomicPtr::new(std::ptr::null_mut());
/// The actions that were installed before ours.
static BEFORE: [AtomicPtr<libc::sigaction>; SIGNALS] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; SIGNALS];
/// A bit for each signal whose handler is ours, or was when another one replaced it.
static INSTALLED: AtomicU64 = AtomicU64::new(0);

/// Whether this signal can be a trigger: it can be handled, and does not mean that the thread cannot
/// continue.
pub(crate) fn is_possible(number: i32) -> bool {
    let never = [libc::SIGKILL, libc::SIGSTOP];
    (1..SIGNALS as i32).contains(&number) && !FATAL.contains(&number) && !never.contains(&number)
}

/// From now on these triggers' signals wake this collector. Called under the lock of `start`.
pub(crate) fn watch(shared: &Shared, collector: &Thread) -> Result<(), Error> {
    if shared.active.signals.is_empty() {
        return Ok(());
    }
    CAME.store(0, Ordering::Relaxed);
    COLLECTOR.store(Box::into_raw(Box::new(collector.clone())), Ordering::Release);
    for (number, _) in &shared.active.signals {
        install(*number)
            .map_err(|error| Error::System { what: "cannot install a signal handler", error })?;
    }
    Ok(())
}

/// Restores the previous handlers, where ours are still in place.
pub(crate) fn unwatch(shared: &Shared) {
    for (number, _) in &shared.active.signals {
        let before = BEFORE[*number as usize].load(Ordering::Acquire);
        if !before.is_null() && is_ours(&current(*number)) {
            // SAFETY: the system returned this action, and it is never freed.
            unsafe { libc::sigaction(*number, before, std::ptr::null_mut()) };
            INSTALLED.fetch_and(!bit(*number), Ordering::AcqRel);
        }
    }
}

/// Fires for the signals that have arrived. The collector calls this.
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
    // With the previous handler's mask: it relies on not being interrupted by those signals.
    let mut action = before;
    action.sa_sigaction = handle as Handler as usize;
    // Ours stays, even if the previous one was to be called once.
    action.sa_flags &= !libc::SA_RESETHAND;
    action.sa_flags |= libc::SA_SIGINFO;
    if !is_handler {
        // A program that did not handle the signal must not notice ours.
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

/// Stores the previous action where the handler finds it, before the handler is installed.
fn keep(number: i32, before: libc::sigaction) {
    let place = &BEFORE[number as usize];
    // SAFETY: it is null, or an action that is never freed.
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
        // SAFETY: the system passed it.
        let sender = unsafe { signal_chain::sender(info) };
        SENDER.store(sender, Ordering::Relaxed);
        CAME.fetch_or(bit(number), Ordering::AcqRel);
        // SAFETY: it is null, or a handle that is never freed.
        if let Some(collector) = unsafe { COLLECTOR.load(Ordering::Acquire).as_ref() } {
            collector.unpark();
        }
    }
    // SAFETY: it is null, or an action that is never freed.
    let before = BEFORE.get(number as usize).map(|before| before.load(Ordering::Acquire));
    // SAFETY: as above.
    if let Some(before) = before.and_then(|before| unsafe { before.as_ref() }) {
        go_on(before, number, info, context, is_foreign);
    }
}

/// Does what the previous action would have done, except that a signal that would have ended the process does
/// so only in a forked child.
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
        // SAFETY: it has a handler, and the other arguments are those that ours got.
        _ => unsafe { signal_chain::call(before, number, info, context) },
    }
}
