//! `tokio::sync`, with a [`Mutex`], an [`RwLock`] and a [`Semaphore`] that say who waits for whom.
//!
//! This module re-exports all of [`tokio::sync`], so a file with `use lookback::tokio;`, or `lookback::tokio::sync` in
//! place of `tokio::sync`, has its locks recorded. They contain Tokio's, and their guards and permits are Tokio's; only
//! guards of a mutex, and those that own their lock, are types of this module.
//!
//! ```
//! use lookback::tokio::sync::{Mutex, Semaphore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! static PERMITS: Semaphore = Semaphore::const_new(2);
//! let total = Mutex::new(0);
//! let permit = PERMITS.acquire().await.unwrap();
//! *total.lock().await += 1;
//! assert_eq!(*total.lock().await, 1);
//! # drop(permit);
//! # }
//! ```
//!
//! Nothing is recorded if a lock is free. A task that has waited for a millisecond
//! ([`Builder::lock_waits`](crate::Builder::lock_waits)) records where, for how long, and which task took the lock last. A guard of
//! a mutex tells when it is released. Others do not: of a semaphore, and of a reader-writer lock, the task that took it last is only
//! a guess at its holder: it may have released it, and others hold it. `docs/locks.md` has the details.

mod mutex;
mod rwlock;
mod semaphore;

#[doc(no_inline)]
pub use ::tokio::sync::*;
pub use mutex::{MappedMutexGuard, Mutex, MutexGuard, OwnedMutexGuard};
pub use rwlock::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
pub use semaphore::Semaphore;

use crate::LockKind;
use ::tokio::task::coop::has_budget_remaining;
use lookback_recorder::integration::lock::{LockWords, Waiting, taken_by_thread, taken_for_task};
use std::future::poll_fn;
use std::panic::Location;
use std::pin::pin;

/// Takes a lock, waiting if need be; unless what comes of that is no lock, which `is_taken` says.
///
/// The first to be asked is Tokio's future, not the lock: each lock that a task takes counts against its budget, and once that is
/// used up, the future lets others run, even if the lock is free.
async fn take<G>(
    words: &LockWords,
    kind: LockKind,
    place: &'static Location<'static>,
    wait: impl Future<Output = G>,
    is_taken: impl FnOnce(&G) -> bool,
) -> G {
    let mut wait = pin!(wait);
    let mut waiting = None;
    let guard = poll_fn(|cx| {
        // Without a budget, "not yet" says nothing of the lock.
        let is_asked = has_budget_remaining();
        let taken = wait.as_mut().poll(cx);
        if taken.is_pending() && is_asked && waiting.is_none() {
            waiting = Some(Waiting::begin_of_task(words, kind, place));
        }
        taken
    })
    .await;
    // A wait for what is no lock is given up: dropped.
    match (is_taken(&guard), waiting) {
        (true, Some(waiting)) => waiting.taken_for_task(),
        (true, None) => taken_for_task(words, place),
        (false, _) => {}
    }
    guard
}

/// The same on a thread, outside of tasks.
fn take_blocking<G>(
    words: &LockWords,
    kind: LockKind,
    place: &'static Location<'static>,
    attempt: impl FnOnce() -> Option<G>,
    wait: impl FnOnce() -> G,
    is_taken: impl FnOnce(&G) -> bool,
) -> G {
    // Where blocking is wrong, Tokio panics; which it would not if the lock were free.
    if ::tokio::runtime::Handle::try_current().is_err()
        && let Some(guard) = attempt()
    {
        taken_by_thread(words, place);
        return guard;
    }
    let waiting = Waiting::begin(words, kind, place);
    let guard = wait();
    if is_taken(&guard) {
        waiting.taken_by_thread();
    }
    guard
}

/// Notes a lock that was taken without a wait.
fn taken<G, E>(
    words: &LockWords,
    place: &'static Location<'static>,
    taken: Result<G, E>,
) -> Result<G, E> {
    if taken.is_ok() {
        taken_for_task(words, place);
    }
    taken
}
