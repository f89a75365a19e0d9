//! A reader-writer lock of Tokio's that is recorded.

use super::{take, take_blocking, taken};
use crate::LockKind;
use ::tokio::sync::{self, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use lookback_recorder::integration::lock::{Exclusive, Lends, LockWords, Owned, Shared};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// As [`tokio::sync::RwLock`](::tokio::sync::RwLock), which it contains.
#[derive(Default)]
pub struct RwLock<T: ?Sized> {
    words: LockWords,
    inner: sync::RwLock<T>,
}

/// As [`tokio::sync::OwnedRwLockReadGuard`](::tokio::sync::OwnedRwLockReadGuard), without its functions that map it.
pub type OwnedRwLockReadGuard<T> = Owned<RwLock<T>, Shared>;
/// As [`tokio::sync::OwnedRwLockWriteGuard`](::tokio::sync::OwnedRwLockWriteGuard), without its functions that map it.
pub type OwnedRwLockWriteGuard<T> = Owned<RwLock<T>, Exclusive>;

impl<T: ?Sized + 'static> Lends<Shared> for RwLock<T> {
    type Target = T;
    type Guard<'a> = RwLockReadGuard<'a, T>;
}

impl<T: ?Sized + 'static> Lends<Exclusive> for RwLock<T> {
    type Target = T;
    type Guard<'a> = RwLockWriteGuard<'a, T>;
}

impl<T> RwLock<T> {
    /// As [`tokio::sync::RwLock::new`](::tokio::sync::RwLock::new).
    pub fn new(value: T) -> Self {
        Self { words: LockWords::new(), inner: sync::RwLock::new(value) }
    }

    /// As [`tokio::sync::RwLock::const_new`](::tokio::sync::RwLock::const_new).
    pub const fn const_new(value: T) -> Self {
        Self { words: LockWords::new(), inner: sync::RwLock::const_new(value) }
    }

    /// As [`tokio::sync::RwLock::with_max_readers`](::tokio::sync::RwLock::with_max_readers).
    ///
    /// # Panics
    /// With more than 2^29 - 1.
    pub fn with_max_readers(value: T, most: u32) -> Self {
        Self { words: LockWords::new(), inner: sync::RwLock::with_max_readers(value, most) }
    }

    /// As [`tokio::sync::RwLock::const_with_max_readers`](::tokio::sync::RwLock::const_with_max_readers).
    pub const fn const_with_max_readers(value: T, most: u32) -> Self {
        Self { words: LockWords::new(), inner: sync::RwLock::const_with_max_readers(value, most) }
    }

    /// As [`tokio::sync::RwLock::into_inner`](::tokio::sync::RwLock::into_inner).
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

/// The ways to take a lock, for those that read and those that write.
macro_rules! ways {
    ($kind:ident, $guard:ident: $lock:ident, $blocking:ident, $try_lock:ident) => {
        impl<T: ?Sized> RwLock<T> {
            #[doc = concat!("As [`tokio::sync::RwLock::", stringify!($lock), "`](::tokio::sync::RwLock::", stringify!($lock), ").")]
            #[track_caller]
            pub fn $lock(&self) -> impl Future<Output = $guard<'_, T>> {
                let place = Location::caller();
                take(&self.words, LockKind::$kind, place, self.inner.$lock(), |_| true)
            }

            #[doc = concat!("As [`tokio::sync::RwLock::", stringify!($blocking), "`](::tokio::sync::RwLock::", stringify!($blocking), ").")]
            ///
            /// # Panics
            /// Inside of a task.
            #[track_caller]
            pub fn $blocking(&self) -> $guard<'_, T> {
                let place = Location::caller();
                let attempt = || self.inner.$try_lock().ok();
                let wait = || self.inner.$blocking();
                take_blocking(&self.words, LockKind::$kind, place, attempt, wait, |_| true)
            }

            #[doc = concat!("As [`tokio::sync::RwLock::", stringify!($try_lock), "`](::tokio::sync::RwLock::", stringify!($try_lock), ").")]
            ///
            /// # Errors
            /// If it is not free.
            #[track_caller]
            pub fn $try_lock(&self) -> Result<$guard<'_, T>, TryLockError> {
                taken(&self.words, Location::caller(), self.inner.$try_lock())
            }
        }
    };
    ($kind:ident, $guard:ident, owned: $lock:ident, $owned:ident, $try_lock:ident, $try_owned:ident) => {
        impl<T: ?Sized + Send + Sync + 'static> RwLock<T> {
            #[doc = concat!("As [`tokio::sync::RwLock::", stringify!($owned), "`](::tokio::sync::RwLock::", stringify!($owned), ").")]
            #[track_caller]
            pub fn $owned(self: Arc<Self>) -> impl Future<Output = $guard<T>> {
                let place = Location::caller();
                Owned::take(self, move |lock| {
                    let wait = lock.inner.$lock();
                    Box::pin(take(&lock.words, LockKind::$kind, place, wait, |_| true))
                })
            }

            #[doc = concat!("As [`tokio::sync::RwLock::", stringify!($try_owned), "`](::tokio::sync::RwLock::", stringify!($try_owned), ").")]
            ///
            /// # Errors
            /// If it is not free.
            #[track_caller]
            pub fn $try_owned(self: Arc<Self>) -> Result<$guard<T>, TryLockError> {
                let place = Location::caller();
                Owned::attempt(self, move |lock| taken(&lock.words, place, lock.inner.$try_lock()))
            }
        }
    };
}

ways!(TaskRead, RwLockReadGuard: read, blocking_read, try_read);
ways!(TaskWrite, RwLockWriteGuard: write, blocking_write, try_write);
ways!(TaskRead, OwnedRwLockReadGuard, owned: read, read_owned, try_read, try_read_owned);
ways!(TaskWrite, OwnedRwLockWriteGuard, owned: write, write_owned, try_write, try_write_owned);

impl<T: ?Sized> RwLock<T> {
    /// As [`tokio::sync::RwLock::get_mut`](::tokio::sync::RwLock::get_mut).
    pub fn get_mut(&mut self) -> &mut T {
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
