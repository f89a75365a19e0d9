//! A condition variable like the standard library's.

#![forbid(unsafe_code)]

use super::holding::Held;
use super::mutex::MutexGuard;
use super::waiting::LockKind;
use std::panic::Location;
use std::sync::{self, LockResult, PoisonError, WaitTimeoutResult};
use std::time::Duration;

/// As [`std::sync::Condvar`], which it contains, for a [`Mutex`](super::mutex::Mutex) of this module. A thread that waits for a
/// condition holds no lock; such a wait is not recorded.
///
/// ```
/// use lookback_recorder::locks::{Condvar, Mutex};
///
/// static READY: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
/// let thread = std::thread::spawn(|| {
///     *READY.0.lock().unwrap() = true;
///     READY.1.notify_one();
/// });
/// let ready = READY.1.wait_while(READY.0.lock().unwrap(), |ready| !*ready).unwrap();
/// assert!(*ready);
/// # drop(ready);
/// # thread.join().unwrap();
/// ```
#[derive(Debug, Default)]
pub struct Condvar(sync::Condvar);

impl Condvar {
    /// As [`std::sync::Condvar::new`].
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self(sync::Condvar::new())
    }

    /// As [`std::sync::Condvar::wait`].
    ///
    /// # Errors
    /// If the mutex is poisoned, with the guard.
    ///
    /// # Panics
    /// As the standard library's, it may if it is used with more than one mutex.
    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let (inner, again) = given_up(guard, Location::caller());
        match self.0.wait(inner) {
            Ok(inner) => Ok(again(inner)),
            Err(error) => Err(PoisonError::new(again(error.into_inner()))),
        }
    }

    /// As [`std::sync::Condvar::wait_while`].
    ///
    /// # Errors
    /// If the mutex is poisoned, with the guard.
    #[track_caller]
    pub fn wait_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut *guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`std::sync::Condvar::wait_timeout`].
    ///
    /// # Errors
    /// If the mutex is poisoned, with the guard.
    ///
    /// # Panics
    /// As the standard library's, it may if it is used with more than one mutex.
    #[track_caller]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (inner, again) = given_up(guard, Location::caller());
        match self.0.wait_timeout(inner, timeout) {
            Ok((inner, result)) => Ok((again(inner), result)),
            Err(error) => {
                let (inner, result) = error.into_inner();
                Err(PoisonError::new((again(inner), result)))
            }
        }
    }

    /// As [`std::sync::Condvar::wait_timeout_while`].
    ///
    /// # Errors
    /// If the mutex is poisoned, with the guard.
    #[track_caller]
    pub fn wait_timeout_while<'a, T, F>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        // The standard library's does all of it, so the loop is its own; between its waits the mutex is locked.
        let (inner, again) = given_up(guard, Location::caller());
        match self.0.wait_timeout_while(inner, timeout, condition) {
            Ok((inner, result)) => Ok((again(inner), result)),
            Err(error) => {
                let (inner, result) = error.into_inner();
                Err(PoisonError::new((again(inner), result)))
            }
        }
    }

    /// As [`std::sync::Condvar::notify_one`].
    #[inline]
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// As [`std::sync::Condvar::notify_all`].
    #[inline]
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Notes that a thread gives a mutex up to wait; and how it has it again afterwards.
fn given_up<'a, T>(
    guard: MutexGuard<'a, T>,
    place: &'static Location<'static>,
) -> (sync::MutexGuard<'a, T>, impl FnOnce(sync::MutexGuard<'a, T>) -> MutexGuard<'a, T>) {
    let MutexGuard { held, inner } = guard;
    let holding = held.holding();
    drop(held);
    let again = move |inner| MutexGuard::of(inner, Held::again(holding, LockKind::Mutex, place));
    (inner, again)
}
