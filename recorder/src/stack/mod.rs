//! Stacks: where a thread is, as return addresses, and the ids that records use for them.
//!
//! * `modules` knows what code is loaded, and keeps its unwind tables; the thread in `tables` builds them;
//! * `cfi_table` is one such table: the compiler's own rules for getting from a frame to its caller;
//! * `unwind` walks a stack by these rules, and `stack_memory` reads it;
//! * `own_stack` knows the bounds of this thread's;
//! * `capture` takes the stack of the calling thread, `other_thread` that of another one, blocked or running;
//! * `trie` gives equal stacks the same number;
//! * `await_chain` finds the part of this thread's stack that belongs to the poll of a task, mostly without a walk;
//! * `own_signal` chooses signals that the service does not use;
//! * `code_references` finds which of a few addresses the functions on a stack name;
//! * `budget` limits how many stacks are taken a second.
//!
//! This needs neither compiler flags nor frame pointers on x86-64: every binary contains the rules (`.eh_frame`), even
//! one that is stripped or built with `panic = "abort"`.
//!
//! Nothing here can fault: the kernel reads stacks, code and tables for us, and returns an error where nothing is
//! mapped. Without it only a thread's own stack is read: within the bounds that the C library tells of it, and, by
//! `await_chain`, the part that walks have shown to be one.
//!
//! [`Builder::stacks`](crate::Builder::stacks) turns stacks off. Then the recorder builds no table, installs no signal
//! handler for them, and reads nothing.

#![cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))),
    allow(dead_code, reason = "where nobody gets at a stack, nothing walks one")
)]

use budget::Budget;
use lookback_snapshot::wire::StackSource;
use std::sync::atomic::{AtomicBool, Ordering};
use trie::{StackId, Trie};

pub(crate) mod await_chain;
pub(crate) mod budget;
pub(crate) mod cfi_table;
pub(crate) mod code_references;
pub(crate) mod modules;
pub(crate) mod tables;
pub(crate) mod trie;
pub(crate) mod unwind;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) mod capture;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "unsupported.rs"]
pub(crate) mod capture;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod other_thread;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) mod own_signal;
pub(crate) mod own_stack;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) mod stack_memory;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
use capture as other_thread;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(crate) use capture::Piece;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) use stack_memory::Piece;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(crate) use capture::block_own_signals;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) use capture::registers_in;
pub(crate) use capture::{of_this_thread, walk_from};
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) use other_thread::blocks;
pub(crate) use other_thread::{Patience, of_blocked_thread, of_thread};
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) use own_signal::block as block_own_signals;
pub(crate) use unwind::here;

/// The stack of the place of the call, for records of which a service may have any number: not while the trie is half full,
/// whose other half is for those that are rare, and no more than the budget allows.
#[inline(always)]
pub(crate) fn within(budget: &Budget) -> Result<StackId, StackSource> {
    if !is_on() {
        Err(StackSource::NotRecording)
    } else if Trie::get().is_some_and(Trie::is_half_full) {
        Err(StackSource::NoRoom)
    } else if !budget.take() {
        Err(StackSource::Limited)
    } else {
        of_this_thread(here())
    }
}

/// Notes where this thread's stack lies, which makes walking it cheaper. Not for handlers of signals: it may allocate.
pub(crate) fn note_bounds() {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    own_stack::note();
}

/// Whether memory of so many bytes may be taken. Twice as much must be left in the process's memory group and of
/// the machine, since beyond that the kernel kills: a table is made from a copy of what it is made of, and is no
/// larger. Under a limit on address space, or on what may be locked where all is, a sixteenth of what is left may
/// be taken.
fn room_for(bytes: usize) -> bool {
    /// For less the kernel is not asked, which takes it up to a millisecond.
    #[cfg(target_os = "linux")]
    const ASKED_FROM: usize = 64 << 10;
    #[cfg(target_os = "linux")]
    if bytes >= ASKED_FROM
        && crate::os::memory_left::check(2 * (bytes as u64).min(1 << 60)).is_err()
    {
        return false;
    }
    crate::os::mmap::room_left().is_none_or(|left| bytes <= left / 16)
}

/// Whether the process may take so little more memory that even what is allocated without asking may fail, which would end
/// it: paths of files, lists of modules. All of that is a fraction of what is asked for here, since others allocate
/// meanwhile.
fn is_memory_scarce() -> bool {
    const NEEDED: usize = 2 << 20;
    let left = [crate::os::mmap::room_left(), crate::os::mmap::data_left()];
    left.into_iter().flatten().any(|left| left < NEEDED)
}

/// Whether stacks are taken. Who reads it too early or too late takes one stack more or less: all accesses are relaxed.
static IS_ON: AtomicBool = AtomicBool::new(false);
/// Whether running threads are interrupted for theirs.
static INTERRUPTS: AtomicBool = AtomicBool::new(false);

/// Says whether stacks are taken from now on, and also of threads that run: for a recorder that starts.
pub(crate) fn turn(on: bool, of_running_threads: bool) {
    IS_ON.store(on, Ordering::Relaxed);
    INTERRUPTS.store(of_running_threads, Ordering::Relaxed);
}

/// Whether stacks are taken.
#[inline]
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

fn interrupts() -> bool {
    INTERRUPTS.load(Ordering::Relaxed)
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod await_chain_tests;
#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod judge_tests;
#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests;
