//! A mutex like the standard library's.

#![forbid(unsafe_code)]

use super::holding::{Held, Holding};
use super::waiting::{LockKind, before_sleep, pause};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};

/// As [`std::sync::Mutex`], which it contains. A thread that must wait for it for long is recorded, with the holder.
///
/// ```
/// use lookback_recorder::locks::Mutex;
///
/// static TOTAL: Mutex<u64> = Mutex::new(0);
/// *TOTAL.lock().unwrap() += 1;
/// assert_eq!(*TOTAL.lock().unwrap(), 1);
/// ```
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    holding: Holding,
    inner: sync::Mutex<T>,
}

/// As [`std::sync::MutexGuard`]: unlocks the [`Mutex`] when it is dropped.
#[must_use = "if unused the Mutex will immediately unlock"]
pub struct MutexGuard<'a, T: ?Sized> {
    // Dropped first: nobody is named as the holder any more when the lock is free.
    pub(super) held: Held<'a>,
    pub(super) inner: sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    /// As [`std::sync::Mutex::new`].
    #[inline]
    pub const fn new(value: T) -> Self {
        Self { holding: Holding::new(), inner: sync::Mutex::new(value) }
    }

    /// As [`std::sync::Mutex::into_inner`].
    ///
    /// # Errors
    /// If it is poisoned, with the value.
    pub fn into_inner(self) -> LockResult<T> {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// As [`std::sync::Mutex::lock`]: waits until the lock is free, and takes it.
    ///
    /// # Errors
    /// If it is poisoned, since a thread panicked while it held the lock: with the guard.
    ///
    /// # Panics
    /// As the standard library's, it may if the thread holds the lock already.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let place = Location::caller();
        let mut attempt = self.inner.try_lock();
        if matches!(attempt, Err(TryLockError::WouldBlock)) {
            pause();
            attempt = self.inner.try_lock();
        }
        let held = || Held::alone(&self.holding, LockKind::Mutex, place);
        match attempt {
            Ok(inner) => Ok(MutexGuard::of(inner, held())),
            Err(TryLockError::Poisoned(error)) => {
                Err(PoisonError::new(MutexGuard::of(error.into_inner(), held())))
            }
            // All of it is here and not in a function of its own: that would return the guard in memory, and the processor stalls
            // where it is copied from there right after it was written.
            Err(TryLockError::WouldBlock) => {
                let waiting = before_sleep(&self.holding.words, LockKind::Mutex, place);
                let locked = self.inner.lock();
                let held = Held::alone_after(waiting, &self.holding, LockKind::Mutex, place);
                match locked {
                    Ok(inner) => Ok(MutexGuard::of(inner, held)),
                    Err(error) => Err(PoisonError::new(MutexGuard::of(error.into_inner(), held))),
                }
            }
        }
    }

    /// As [`std::sync::Mutex::try_lock`]: takes the lock if it is free.
    ///
    /// # Errors
    /// If it is not free; or poisoned, with the guard.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        let place = Location::caller();
        let guard =
            |inner| MutexGuard::of(inner, Held::alone(&self.holding, LockKind::Mutex, place));
        match self.inner.try_lock() {
            Ok(inner) => Ok(guard(inner)),
            Err(TryLockError::Poisoned(error)) => {
                Err(TryLockError::Poisoned(PoisonError::new(guard(error.into_inner()))))
            }
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        }
    }

    /// As [`std::sync::Mutex::is_poisoned`].
    pub fn is_poisoned(&self) -> bool {
        self.inner.is_poisoned()
    }

    /// As [`std::sync::Mutex::clear_poison`].
    pub fn clear_poison(&self) {
        self.inner.clear_poison();
    }

    /// As [`std::sync::Mutex::get_mut`].
    ///
    /// # Errors
    /// If it is poisoned, with the reference.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.inner.get_mut()
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    #[inline(always)]
    pub(super) fn of(inner: sync::MutexGuard<'a, T>, held: Held<'a>) -> Self {
        Self { held, inner }
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_lock_grows_by_72_bytes() {
        assert_eq!(size_of::<super::Mutex<u64>>(), size_of::<std::sync::Mutex<u64>>() + 72);
    }
}
