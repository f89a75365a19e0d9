//! A semaphore of Tokio's that is recorded.

use super::{take, take_blocking, taken};
use crate::LockKind;
use ::tokio::sync::{self, AcquireError, OwnedSemaphorePermit, SemaphorePermit, TryAcquireError};
use lookback_recorder::integration::lock::LockWords;
use std::panic::Location;
use std::sync::{Arc, OnceLock};

/// As [`tokio::sync::Semaphore`](::tokio::sync::Semaphore), which it contains. Its permits are Tokio's.
#[derive(Debug)]
pub struct Semaphore {
    words: LockWords,
    /// How many permits it begins with.
    permits: usize,
    /// Permits that own their semaphore own this. Made when it is first used: a constant cannot allocate.
    inner: OnceLock<Arc<sync::Semaphore>>,
}

/// What is waited for.
fn kind(permits: u32) -> LockKind {
    if permits > 1 { LockKind::SeveralPermits } else { LockKind::Permits }
}

impl Semaphore {
    /// As [`tokio::sync::Semaphore::MAX_PERMITS`](::tokio::sync::Semaphore::MAX_PERMITS).
    pub const MAX_PERMITS: usize = sync::Semaphore::MAX_PERMITS;

    /// As [`tokio::sync::Semaphore::new`](::tokio::sync::Semaphore::new).
    ///
    /// # Panics
    /// With more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub fn new(permits: usize) -> Self {
        let semaphore = Self::const_new(permits);
        semaphore.inner();
        semaphore
    }

    /// As [`tokio::sync::Semaphore::const_new`](::tokio::sync::Semaphore::const_new).
    ///
    /// # Panics
    /// With more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub const fn const_new(permits: usize) -> Self {
        assert!(permits <= Self::MAX_PERMITS, "a semaphore has no more than MAX_PERMITS permits");
        Self { words: LockWords::new(), permits, inner: OnceLock::new() }
    }

    fn inner(&self) -> &Arc<sync::Semaphore> {
        self.inner.get_or_init(|| Arc::new(sync::Semaphore::new(self.permits)))
    }

    /// As [`tokio::sync::Semaphore::available_permits`](::tokio::sync::Semaphore::available_permits).
    pub fn available_permits(&self) -> usize {
        self.inner().available_permits()
    }

    /// As [`tokio::sync::Semaphore::add_permits`](::tokio::sync::Semaphore::add_permits).
    ///
    /// # Panics
    /// If there would be more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    pub fn add_permits(&self, permits: usize) {
        self.inner().add_permits(permits);
    }

    /// As [`tokio::sync::Semaphore::forget_permits`](::tokio::sync::Semaphore::forget_permits).
    pub fn forget_permits(&self, permits: usize) -> usize {
        let forgotten = self.inner().forget_permits(permits);
        if forgotten > 0 {
            // It is for want of these that tasks wait from now on, whoever took one last.
            self.words.released_for_task();
        }
        forgotten
    }

    /// As [`tokio::sync::Semaphore::acquire`](::tokio::sync::Semaphore::acquire).
    ///
    /// # Errors
    /// If it is closed.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<SemaphorePermit<'_>, AcquireError>> {
        self.acquire_many(1)
    }

    /// As [`tokio::sync::Semaphore::acquire_many`](::tokio::sync::Semaphore::acquire_many).
    ///
    /// # Errors
    /// If it is closed.
    #[track_caller]
    pub fn acquire_many(
        &self,
        permits: u32,
    ) -> impl Future<Output = Result<SemaphorePermit<'_>, AcquireError>> {
        let place = Location::caller();
        let wait = self.inner().acquire_many(permits);
        take(&self.words, kind(permits), place, wait, Result::is_ok)
    }

    /// As [`tokio::sync::Semaphore::acquire_owned`](::tokio::sync::Semaphore::acquire_owned).
    ///
    /// # Errors
    /// If it is closed.
    #[track_caller]
    pub fn acquire_owned(
        self: Arc<Self>,
    ) -> impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>> {
        self.acquire_many_owned(1)
    }

    /// As [`tokio::sync::Semaphore::acquire_many_owned`](::tokio::sync::Semaphore::acquire_many_owned).
    ///
    /// # Errors
    /// If it is closed.
    #[track_caller]
    pub fn acquire_many_owned(
        self: Arc<Self>,
        permits: u32,
    ) -> impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>> {
        let place = Location::caller();
        async move {
            let wait = Arc::clone(self.inner()).acquire_many_owned(permits);
            take(&self.words, kind(permits), place, wait, Result::is_ok).await
        }
    }

    /// As [`tokio::sync::Semaphore::blocking_acquire`](::tokio::sync::Semaphore::blocking_acquire).
    ///
    /// # Errors
    /// If it is closed.
    ///
    /// # Panics
    /// Inside of a task.
    #[track_caller]
    pub fn blocking_acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.blocking_acquire_many(1)
    }

    /// As [`tokio::sync::Semaphore::blocking_acquire_many`](::tokio::sync::Semaphore::blocking_acquire_many).
    ///
    /// # Errors
    /// If it is closed.
    ///
    /// # Panics
    /// Inside of a task.
    #[track_caller]
    pub fn blocking_acquire_many(&self, permits: u32) -> Result<SemaphorePermit<'_>, AcquireError> {
        let attempt = || self.inner().try_acquire_many(permits).ok().map(Ok);
        let wait = || self.inner().blocking_acquire_many(permits);
        let (kind, place) = (kind(permits), Location::caller());
        take_blocking(&self.words, kind, place, attempt, wait, Result::is_ok)
    }

    /// As [`tokio::sync::Semaphore::blocking_acquire_owned`](::tokio::sync::Semaphore::blocking_acquire_owned).
    ///
    /// # Errors
    /// If it is closed.
    ///
    /// # Panics
    /// Inside of a task.
    #[track_caller]
    pub fn blocking_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.blocking_acquire_many_owned(1)
    }

    /// As [`tokio::sync::Semaphore::blocking_acquire_many_owned`](::tokio::sync::Semaphore::blocking_acquire_many_owned).
    ///
    /// # Errors
    /// If it is closed.
    ///
    /// # Panics
    /// Inside of a task.
    #[track_caller]
    pub fn blocking_acquire_many_owned(
        self: Arc<Self>,
        permits: u32,
    ) -> Result<OwnedSemaphorePermit, AcquireError> {
        let inner = || Arc::clone(self.inner());
        let attempt = || inner().try_acquire_many_owned(permits).ok().map(Ok);
        let wait = || inner().blocking_acquire_many_owned(permits);
        let (kind, place) = (kind(permits), Location::caller());
        take_blocking(&self.words, kind, place, attempt, wait, Result::is_ok)
    }

    /// As [`tokio::sync::Semaphore::try_acquire`](::tokio::sync::Semaphore::try_acquire).
    ///
    /// # Errors
    /// If there is none, or it is closed.
    #[track_caller]
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        taken(&self.words, Location::caller(), self.inner().try_acquire())
    }

    /// As [`tokio::sync::Semaphore::try_acquire_many`](::tokio::sync::Semaphore::try_acquire_many).
    ///
    /// # Errors
    /// If there are not so many, or it is closed.
    #[track_caller]
    pub fn try_acquire_many(&self, permits: u32) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        taken(&self.words, Location::caller(), self.inner().try_acquire_many(permits))
    }

    /// As [`tokio::sync::Semaphore::try_acquire_owned`](::tokio::sync::Semaphore::try_acquire_owned).
    ///
    /// # Errors
    /// If there is none, or it is closed.
    #[track_caller]
    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// As [`tokio::sync::Semaphore::try_acquire_many_owned`](::tokio::sync::Semaphore::try_acquire_many_owned).
    ///
    /// # Errors
    /// If there are not so many, or it is closed.
    #[track_caller]
    pub fn try_acquire_many_owned(
        self: Arc<Self>,
        permits: u32,
    ) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        let place = Location::caller();
        taken(&self.words, place, Arc::clone(self.inner()).try_acquire_many_owned(permits))
    }

    /// As [`tokio::sync::Semaphore::close`](::tokio::sync::Semaphore::close).
    pub fn close(&self) {
        self.inner().close();
    }

    /// As [`tokio::sync::Semaphore::is_closed`](::tokio::sync::Semaphore::is_closed).
    pub fn is_closed(&self) -> bool {
        self.inner().is_closed()
    }
}
