//! A mutex of Tokio's that is recorded.

use super::{take, take_blocking, taken};
use crate::LockKind;
use ::tokio::sync::{self, TryLockError};
use lookback_recorder::integration::lock::{Exclusive, Lends, LockWords, Owned};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;

/// As [`tokio::sync::Mutex`](::tokio::sync::Mutex), which it contains.
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    words: LockWords,
    inner: sync::Mutex<T>,
}

/// As [`tokio::sync::MutexGuard`](::tokio::sync::MutexGuard), which it contains. When it is dropped, nobody is said to hold the
/// lock: Tokio hands it on to who waits, and whether that is polled is another matter.
#[clippy::has_significant_drop]
pub struct MutexGuard<'a, T: ?Sized> {
    // Dropped in this order.
    held: Held<'a>,
    guard: sync::MutexGuard<'a, T>,
    lock: &'a Mutex<T>,
}

/// As [`tokio::sync::MappedMutexGuard`](::tokio::sync::MappedMutexGuard), which it contains.
#[clippy::has_significant_drop]
pub struct MappedMutexGuard<'a, T: ?Sized> {
    // Dropped in this order.
    held: Held<'a>,
    guard: sync::MappedMutexGuard<'a, T>,
}

/// The lock is held, until this is dropped.
struct Held<'a>(&'a LockWords);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.released_for_task();
    }
}

/// As [`tokio::sync::OwnedMutexGuard`](::tokio::sync::OwnedMutexGuard), without its functions that map it.
pub type OwnedMutexGuard<T> = Owned<Mutex<T>, Exclusive>;

impl<T: ?Sized + 'static> Lends<Exclusive> for Mutex<T> {
    type Target = T;
    type Guard<'a> = MutexGuard<'a, T>;
}

impl<T> Mutex<T> {
    /// As [`tokio::sync::Mutex::new`](::tokio::sync::Mutex::new).
    pub fn new(value: T) -> Self {
        Self { words: LockWords::new(), inner: sync::Mutex::new(value) }
    }

    /// As [`tokio::sync::Mutex::const_new`](::tokio::sync::Mutex::const_new).
    pub const fn const_new(value: T) -> Self {
        Self { words: LockWords::new(), inner: sync::Mutex::const_new(value) }
    }

    /// As [`tokio::sync::Mutex::into_inner`](::tokio::sync::Mutex::into_inner).
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// As [`tokio::sync::Mutex::lock`](::tokio::sync::Mutex::lock): waits until the lock is free, and takes it.
    #[track_caller]
    pub fn lock(&self) -> impl Future<Output = MutexGuard<'_, T>> {
        let place = Location::caller();
        let wait = async { self.guard(self.inner.lock().await) };
        take(&self.words, LockKind::TaskMutex, place, wait, |_| true)
    }

    /// As [`tokio::sync::Mutex::blocking_lock`](::tokio::sync::Mutex::blocking_lock).
    ///
    /// # Panics
    /// Inside of a task.
    #[track_caller]
    pub fn blocking_lock(&self) -> MutexGuard<'_, T> {
        self.blocking_lock_at(Location::caller())
    }

    /// As [`tokio::sync::Mutex::try_lock`](::tokio::sync::Mutex::try_lock).
    ///
    /// # Errors
    /// If it is not free.
    #[track_caller]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError> {
        self.try_lock_at(Location::caller())
    }

    fn try_lock_at(
        &self,
        place: &'static Location<'static>,
    ) -> Result<MutexGuard<'_, T>, TryLockError> {
        taken(&self.words, place, self.inner.try_lock().map(|guard| self.guard(guard)))
    }

    fn guard<'a>(&'a self, guard: sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard { held: Held(&self.words), guard, lock: self }
    }

    fn blocking_lock_at(&self, place: &'static Location<'static>) -> MutexGuard<'_, T> {
        let attempt = || Some(self.guard(self.inner.try_lock().ok()?));
        let wait = || self.guard(self.inner.blocking_lock());
        take_blocking(&self.words, LockKind::TaskMutex, place, attempt, wait, |_| true)
    }

    /// As [`tokio::sync::Mutex::get_mut`](::tokio::sync::Mutex::get_mut).
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: ?Sized + Send + 'static> Mutex<T> {
    /// As [`tokio::sync::Mutex::lock_owned`](::tokio::sync::Mutex::lock_owned).
    #[track_caller]
    pub fn lock_owned(self: Arc<Self>) -> impl Future<Output = OwnedMutexGuard<T>> {
        let place = Location::caller();
        Owned::take(self, move |lock| {
            let wait = async { lock.guard(lock.inner.lock().await) };
            Box::pin(take(&lock.words, LockKind::TaskMutex, place, wait, |_| true))
        })
    }

    /// As [`tokio::sync::Mutex::blocking_lock_owned`](::tokio::sync::Mutex::blocking_lock_owned).
    ///
    /// # Panics
    /// Inside of a task.
    #[track_caller]
    pub fn blocking_lock_owned(self: Arc<Self>) -> OwnedMutexGuard<T> {
        let place = Location::caller();
        let blocking = Owned::attempt(self, move |lock| {
            Ok::<_, std::convert::Infallible>(lock.blocking_lock_at(place))
        });
        match blocking {
            Ok(guard) => guard,
            Err(never) => match never {},
        }
    }

    /// As [`tokio::sync::Mutex::try_lock_owned`](::tokio::sync::Mutex::try_lock_owned).
    ///
    /// # Errors
    /// If it is not free.
    #[track_caller]
    pub fn try_lock_owned(self: Arc<Self>) -> Result<OwnedMutexGuard<T>, TryLockError> {
        let place = Location::caller();
        Owned::attempt(self, move |lock| lock.try_lock_at(place))
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// As [`tokio::sync::MutexGuard::map`](::tokio::sync::MutexGuard::map).
    pub fn map<U: ?Sized>(
        this: Self,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedMutexGuard<'a, U> {
        let Self { held, guard, .. } = this;
        MappedMutexGuard { held, guard: sync::MutexGuard::map(guard, part) }
    }

    /// As [`tokio::sync::MutexGuard::try_map`](::tokio::sync::MutexGuard::try_map).
    ///
    /// # Errors
    /// If there is no such part: this guard.
    pub fn try_map<U: ?Sized>(
        this: Self,
        part: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedMutexGuard<'a, U>, Self> {
        let Self { held, guard, lock } = this;
        match sync::MutexGuard::try_map(guard, part) {
            Ok(guard) => Ok(MappedMutexGuard { held, guard }),
            Err(guard) => Err(Self { held, guard, lock }),
        }
    }

    /// As [`tokio::sync::MutexGuard::mutex`](::tokio::sync::MutexGuard::mutex).
    pub fn mutex(this: &Self) -> &'a Mutex<T> {
        this.lock
    }
}

impl<'a, T: ?Sized> MappedMutexGuard<'a, T> {
    /// As [`tokio::sync::MappedMutexGuard::map`](::tokio::sync::MappedMutexGuard::map).
    pub fn map<U>(this: Self, part: impl FnOnce(&mut T) -> &mut U) -> MappedMutexGuard<'a, U> {
        let Self { held, guard } = this;
        MappedMutexGuard { held, guard: sync::MappedMutexGuard::map(guard, part) }
    }

    /// As [`tokio::sync::MappedMutexGuard::try_map`](::tokio::sync::MappedMutexGuard::try_map).
    ///
    /// # Errors
    /// If there is no such part: this guard.
    pub fn try_map<U>(
        this: Self,
        part: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedMutexGuard<'a, U>, Self> {
        let Self { held, guard } = this;
        match sync::MappedMutexGuard::try_map(guard, part) {
            Ok(guard) => Ok(MappedMutexGuard { held, guard }),
            Err(guard) => Err(Self { held, guard }),
        }
    }
}

macro_rules! guards {
    ($($guard:ident)*) => {$(
        impl<T: ?Sized> Deref for $guard<'_, T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.guard
            }
        }

        impl<T: ?Sized> DerefMut for $guard<'_, T> {
            fn deref_mut(&mut self) -> &mut T {
                &mut self.guard
            }
        }

        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.guard.fmt(f)
            }
        }

        impl<T: ?Sized + fmt::Display> fmt::Display for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.guard.fmt(f)
            }
        }
    )*};
}

guards!(MutexGuard MappedMutexGuard);

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
