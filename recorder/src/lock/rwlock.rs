//! A reader-writer lock like the standard library's.

#![forbid(unsafe_code)]

use super::holding::{Held, Holding};
use super::waiting::{LockKind, before_sleep, pause};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};

/// As [`std::sync::RwLock`], which it contains. A thread that must wait for it for long is recorded, with the holder: the one
/// that writes, or one of those that read.
///
/// ```
/// use lookback_recorder::locks::RwLock;
///
/// let names = RwLock::new(vec!["a"]);
/// names.write().unwrap().push("b");
/// let (one, other) = (names.read().unwrap(), names.read().unwrap());
/// assert_eq!((one.len(), other.len()), (2, 2));
/// ```
#[derive(Default)]
pub struct RwLock<T: ?Sized> {
    holding: Holding,
    inner: sync::RwLock<T>,
}

/// As [`std::sync::RwLockReadGuard`].
#[must_use = "if unused the RwLock will immediately unlock"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    // Dropped first: nobody is named as the holder any more when the lock is free.
    _held: Held<'a>,
    inner: sync::RwLockReadGuard<'a, T>,
}

/// As [`std::sync::RwLockWriteGuard`].
#[must_use = "if unused the RwLock will immediately unlock"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    // As above.
    _held: Held<'a>,
    inner: sync::RwLockWriteGuard<'a, T>,
}

impl<T> RwLock<T> {
    /// As [`std::sync::RwLock::new`].
    #[inline]
    pub const fn new(value: T) -> Self {
        Self { holding: Holding::new(), inner: sync::RwLock::new(value) }
    }

    /// As [`std::sync::RwLock::into_inner`].
    ///
    /// # Errors
    /// If it is poisoned, with the value.
    pub fn into_inner(self) -> LockResult<T> {
        self.inner.into_inner()
    }
}

/// What both ways to lock have in common.
macro_rules! ways {
    ($lock:ident, $try_lock:ident, $guard:ident, $kind:ident, $held:ident, $after:ident, $doc:literal, $try_doc:literal) => {
        #[doc = $doc]
        ///
        /// # Errors
        /// If it is poisoned, since a thread panicked while it wrote: with the guard.
        ///
        /// # Panics
        /// As the standard library's, it may if the thread holds the lock already.
        #[inline]
        #[track_caller]
        pub fn $lock(&self) -> LockResult<$guard<'_, T>> {
            let place = Location::caller();
            let mut attempt = self.inner.$try_lock();
            if matches!(attempt, Err(TryLockError::WouldBlock)) {
                pause();
                attempt = self.inner.$try_lock();
            }
            let held = || Held::$held(&self.holding, LockKind::$kind, place);
            match attempt {
                Ok(inner) => Ok($guard { _held: held(), inner }),
                Err(TryLockError::Poisoned(error)) => {
                    let inner = error.into_inner();
                    Err(PoisonError::new($guard { _held: held(), inner }))
                }
                // Here for the reason that the mutex gives.
                Err(TryLockError::WouldBlock) => {
                    let waiting = before_sleep(&self.holding.words, LockKind::$kind, place);
                    let locked = self.inner.$lock();
                    let _held = Held::$after(waiting, &self.holding, LockKind::$kind, place);
                    match locked {
                        Ok(inner) => Ok($guard { _held, inner }),
                        Err(error) => {
                            let inner = error.into_inner();
                            Err(PoisonError::new($guard { _held, inner }))
                        }
                    }
                }
            }
        }

        #[doc = $try_doc]
        ///
        /// # Errors
        /// If it is not free; or poisoned, with the guard.
        #[inline]
        #[track_caller]
        pub fn $try_lock(&self) -> TryLockResult<$guard<'_, T>> {
            let place = Location::caller();
            let held = || Held::$held(&self.holding, LockKind::$kind, place);
            match self.inner.$try_lock() {
                Ok(inner) => Ok($guard { _held: held(), inner }),
                Err(TryLockError::Poisoned(error)) => {
                    let inner = error.into_inner();
                    let guard = $guard { _held: held(), inner };
                    Err(TryLockError::Poisoned(PoisonError::new(guard)))
                }
                Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            }
        }
    };
}

impl<T: ?Sized> RwLock<T> {
    ways! {
        read, try_read, RwLockReadGuard, Read, shared, shared_after,
        "As [`std::sync::RwLock::read`]: waits until nobody writes, and reads.",
        "As [`std::sync::RwLock::try_read`]: reads, unless somebody writes."
    }

    ways! {
        write, try_write, RwLockWriteGuard, Write, alone, alone_after,
        "As [`std::sync::RwLock::write`]: waits until nobody reads or writes, and writes.",
        "As [`std::sync::RwLock::try_write`]: writes, unless somebody reads or writes."
    }

    /// As [`std::sync::RwLock::is_poisoned`].
    pub fn is_poisoned(&self) -> bool {
        self.inner.is_poisoned()
    }

    /// As [`std::sync::RwLock::clear_poison`].
    pub fn clear_poison(&self) {
        self.inner.clear_poison();
    }

    /// As [`std::sync::RwLock::get_mut`].
    ///
    /// # Errors
    /// If it is poisoned, with the reference.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.inner.get_mut()
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// What both guards have in common.
macro_rules! reads {
    ($guard:ident) => {
        impl<T: ?Sized> Deref for $guard<'_, T> {
            type Target = T;

            #[inline]
            fn deref(&self) -> &T {
                &self.inner
            }
        }

        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.inner.fmt(f)
            }
        }

        impl<T: ?Sized + fmt::Display> fmt::Display for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.inner.fmt(f)
            }
        }
    };
}

reads!(RwLockReadGuard);
reads!(RwLockWriteGuard);
