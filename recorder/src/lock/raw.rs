//! Locks for `lock_api`, and so for all that is built on it: `parking_lot`, by default.

use super::holding::Holding;
use super::waiting::{LockKind, wait_for};
use lock_api::{
    GuardNoSend, RawMutexFair, RawMutexTimed, RawRwLockDowngrade, RawRwLockFair,
    RawRwLockRecursive, RawRwLockTimed, RawRwLockUpgrade, RawRwLockUpgradeDowngrade,
};
use std::panic::Location;

impl Holding {
    /// Takes a lock, waiting if need be.
    #[inline]
    #[track_caller]
    fn lock(&self, kind: LockKind, attempt: impl Fn() -> bool, wait: impl FnOnce()) {
        let at = Location::caller();
        let poll = if attempt() {
            self.words.taken(at)
        } else {
            let attempt = || attempt().then_some(());
            wait_for(&self.words, kind, at, attempt, wait, || self.words.taken_after_wait(at)).1
        };
        self.note_poll(poll, at);
    }

    /// The same for as long as `wait` waits. Returns whether the lock was taken.
    #[track_caller]
    fn lock_within(
        &self,
        kind: LockKind,
        attempt: impl Fn() -> bool,
        wait: impl FnOnce() -> bool,
    ) -> bool {
        let at = Location::caller();
        let poll = if attempt() {
            self.words.taken(at)
        } else {
            let mut waiting = super::waiting::Waiting::begin(&self.words, kind, at);
            waiting.look_again();
            if !wait() {
                return false;
            }
            waiting.taken_alone()
        };
        self.note_poll(poll, at);
        true
    }

    /// Takes a lock if it is free.
    #[inline]
    #[track_caller]
    fn attempt(&self, attempt: bool) -> bool {
        if attempt {
            let at = Location::caller();
            self.taken(at);
        }
        attempt
    }

    #[inline]
    #[track_caller]
    fn read(&self, attempt: impl Fn() -> bool, wait: impl FnOnce()) {
        let at = Location::caller();
        if attempt() {
            self.words.read(at, 0);
        } else {
            let attempt = || attempt().then_some(());
            let since = || self.words.read(at, crate::os::clock::monotonic().0);
            wait_for(&self.words, LockKind::RawRead, at, attempt, wait, since);
        }
    }

    #[track_caller]
    fn read_within(&self, attempt: impl Fn() -> bool, wait: impl FnOnce() -> bool) -> bool {
        let at = Location::caller();
        if attempt() {
            self.words.read(at, 0);
            return true;
        }
        let mut waiting = super::waiting::Waiting::begin(&self.words, LockKind::RawRead, at);
        waiting.look_again();
        if !wait() {
            return false;
        }
        waiting.taken_to_read();
        true
    }

    #[inline]
    #[track_caller]
    fn attempt_to_read(&self, attempt: bool) -> bool {
        if attempt {
            self.words.read(Location::caller(), 0);
        }
        attempt
    }

    /// Takes a lock that others may read meanwhile.
    #[track_caller]
    fn lock_upgradable(&self, attempt: impl Fn() -> bool, wait: impl FnOnce()) {
        let (kind, at) = (LockKind::RawWrite, Location::caller());
        let poll = if attempt() {
            self.words.taken_beside_readers(at, 0)
        } else {
            let attempt = || attempt().then_some(());
            let taken = || self.words.taken_beside_readers(at, crate::os::clock::monotonic().0);
            wait_for(&self.words, kind, at, attempt, wait, taken).1
        };
        self.note_poll(poll, at);
    }

    #[track_caller]
    fn attempt_upgradable(&self, attempt: bool) -> bool {
        if attempt {
            let at = Location::caller();
            self.note_poll(self.words.taken_beside_readers(at, 0), at);
        }
        attempt
    }

    fn unlock_upgradable(&self) {
        self.end_poll(LockKind::RawWrite);
        self.words.released_if_named();
    }

    #[inline]
    fn unlock_read(&self) {
        self.words.released_if_named();
    }
}

/// A mutex for [`lock_api`] that contains another one, `parking_lot`'s by default, and says who waits for whom.
///
/// ```
/// type Mutex<T> = lock_api::Mutex<lookback_recorder::locks::RawMutex, T>;
///
/// static TOTAL: Mutex<u64> = Mutex::new(0);
/// *TOTAL.lock() += 1;
/// assert_eq!(*TOTAL.lock(), 1);
/// ```
#[derive(Debug)]
pub struct RawMutex<R = parking_lot::RawMutex> {
    holding: Holding,
    inner: R,
}

// SAFETY: the mutex that it contains excludes others.
unsafe impl<R: lock_api::RawMutex> lock_api::RawMutex for RawMutex<R> {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "each use is a new one, as the trait wants"
    )]
    const INIT: Self = Self { holding: Holding::new(), inner: R::INIT };

    // Its holder is a thread, not a task.
    type GuardMarker = GuardNoSend;

    #[inline]
    #[track_caller]
    fn lock(&self) {
        let (inner, kind) = (&self.inner, LockKind::RawMutex);
        self.holding.lock(kind, || inner.try_lock(), || inner.lock());
    }

    #[inline]
    #[track_caller]
    fn try_lock(&self) -> bool {
        self.holding.attempt(self.inner.try_lock())
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.holding.released(LockKind::RawMutex);
        // SAFETY: as the caller promises.
        unsafe { self.inner.unlock() };
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }
}

// SAFETY: as above.
unsafe impl<R: RawMutexFair> RawMutexFair for RawMutex<R> {
    unsafe fn unlock_fair(&self) {
        self.holding.released(LockKind::RawMutex);
        // SAFETY: as the caller promises.
        unsafe { self.inner.unlock_fair() };
    }
}

// SAFETY: as above.
unsafe impl<R: RawMutexTimed> RawMutexTimed for RawMutex<R> {
    type Duration = R::Duration;
    type Instant = R::Instant;

    #[track_caller]
    fn try_lock_for(&self, timeout: Self::Duration) -> bool {
        let (inner, kind) = (&self.inner, LockKind::RawMutex);
        self.holding.lock_within(kind, || inner.try_lock(), || inner.try_lock_for(timeout))
    }

    #[track_caller]
    fn try_lock_until(&self, timeout: Self::Instant) -> bool {
        let (inner, kind) = (&self.inner, LockKind::RawMutex);
        self.holding.lock_within(kind, || inner.try_lock(), || inner.try_lock_until(timeout))
    }
}

/// A reader-writer lock for [`lock_api`] that contains another one, `parking_lot`'s by default, and says who waits for whom. An
/// upgradable reader counts as one that writes: it excludes others of its kind, and writers.
///
/// ```
/// type RwLock<T> = lock_api::RwLock<lookback_recorder::locks::RawRwLock, T>;
///
/// static NAMES: RwLock<Vec<&str>> = RwLock::new(Vec::new());
/// NAMES.write().push("a");
/// assert_eq!(NAMES.read().len(), 1);
/// ```
#[derive(Debug)]
pub struct RawRwLock<R = parking_lot::RawRwLock> {
    holding: Holding,
    inner: R,
}

// SAFETY: the lock that it contains excludes others.
unsafe impl<R: lock_api::RawRwLock> lock_api::RawRwLock for RawRwLock<R> {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "each use is a new one, as the trait wants"
    )]
    const INIT: Self = Self { holding: Holding::new(), inner: R::INIT };

    // Its holder is a thread, not a task.
    type GuardMarker = GuardNoSend;

    #[inline]
    #[track_caller]
    fn lock_shared(&self) {
        self.holding.read(|| self.inner.try_lock_shared(), || self.inner.lock_shared());
    }

    #[inline]
    #[track_caller]
    fn try_lock_shared(&self) -> bool {
        self.holding.attempt_to_read(self.inner.try_lock_shared())
    }

    #[inline]
    unsafe fn unlock_shared(&self) {
        self.holding.unlock_read();
        // SAFETY: as the caller promises.
        unsafe { self.inner.unlock_shared() };
    }

    #[inline]
    #[track_caller]
    fn lock_exclusive(&self) {
        let (inner, kind) = (&self.inner, LockKind::RawWrite);
        self.holding.lock(kind, || inner.try_lock_exclusive(), || inner.lock_exclusive());
    }

    #[inline]
    #[track_caller]
    fn try_lock_exclusive(&self) -> bool {
        self.holding.attempt(self.inner.try_lock_exclusive())
    }

    #[inline]
    unsafe fn unlock_exclusive(&self) {
        self.holding.released(LockKind::RawWrite);
        // SAFETY: as the caller promises.
        unsafe { self.inner.unlock_exclusive() };
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }

    #[inline]
    fn is_locked_exclusive(&self) -> bool {
        self.inner.is_locked_exclusive()
    }
}

// SAFETY: as above.
unsafe impl<R: RawRwLockFair> RawRwLockFair for RawRwLock<R> {
    unsafe fn unlock_shared_fair(&self) {
        self.holding.unlock_read();
        // SAFETY: as the caller promises.
        unsafe { self.inner.unlock_shared_fair() };
    }

    unsafe fn unlock_exclusive_fair(&self) {
        self.holding.released(LockKind::RawWrite);
        // SAFETY: as the caller promises.
        unsafe { self.inner.unlock_exclusive_fair() };
    }
}

// SAFETY: as above.
unsafe impl<R: RawRwLockDowngrade> RawRwLockDowngrade for RawRwLock<R> {
    #[track_caller]
    unsafe fn downgrade(&self) {
        self.holding.released(LockKind::RawWrite);
        self.holding.words.read(Location::caller(), 0);
        // SAFETY: as the caller promises.
        unsafe { self.inner.downgrade() };
    }
}

// SAFETY: as above.
unsafe impl<R: RawRwLockTimed> RawRwLockTimed for RawRwLock<R> {
    type Duration = R::Duration;
    type Instant = R::Instant;

    #[track_caller]
    fn try_lock_shared_for(&self, timeout: Self::Duration) -> bool {
        let inner = &self.inner;
        self.holding.read_within(|| inner.try_lock_shared(), || inner.try_lock_shared_for(timeout))
    }

    #[track_caller]
    fn try_lock_shared_until(&self, timeout: Self::Instant) -> bool {
        let inner = &self.inner;
        self.holding
            .read_within(|| inner.try_lock_shared(), || inner.try_lock_shared_until(timeout))
    }

    #[track_caller]
    fn try_lock_exclusive_for(&self, timeout: Self::Duration) -> bool {
        let (inner, kind) = (&self.inner, LockKind::RawWrite);
        let wait = || inner.try_lock_exclusive_for(timeout);
        self.holding.lock_within(kind, || inner.try_lock_exclusive(), wait)
    }

    #[track_caller]
    fn try_lock_exclusive_until(&self, timeout: Self::Instant) -> bool {
        let (inner, kind) = (&self.inner, LockKind::RawWrite);
        let wait = || inner.try_lock_exclusive_until(timeout);
        self.holding.lock_within(kind, || inner.try_lock_exclusive(), wait)
    }
}

// SAFETY: as above.
unsafe impl<R: RawRwLockRecursive> RawRwLockRecursive for RawRwLock<R> {
    #[inline]
    #[track_caller]
    fn lock_shared_recursive(&self) {
        let inner = &self.inner;
        self.holding.read(|| inner.try_lock_shared_recursive(), || inner.lock_shared_recursive());
    }

    #[inline]
    #[track_caller]
    fn try_lock_shared_recursive(&self) -> bool {
        self.holding.attempt_to_read(self.inner.try_lock_shared_recursive())
    }
}

// SAFETY: as above.
unsafe impl<R: RawRwLockUpgrade> RawRwLockUpgrade for RawRwLock<R> {
    #[track_caller]
    fn lock_upgradable(&self) {
        let inner = &self.inner;
        self.holding.lock_upgradable(|| inner.try_lock_upgradable(), || inner.lock_upgradable());
    }

    #[track_caller]
    fn try_lock_upgradable(&self) -> bool {
        self.holding.attempt_upgradable(self.inner.try_lock_upgradable())
    }

    unsafe fn unlock_upgradable(&self) {
        self.holding.unlock_upgradable();
        // SAFETY: as the caller promises.
        unsafe { self.inner.unlock_upgradable() };
    }

    unsafe fn upgrade(&self) {
        // SAFETY: as the caller promises.
        unsafe { self.inner.upgrade() };
    }

    unsafe fn try_upgrade(&self) -> bool {
        // SAFETY: as the caller promises.
        unsafe { self.inner.try_upgrade() }
    }
}

// SAFETY: as above.
unsafe impl<R: RawRwLockUpgradeDowngrade> RawRwLockUpgradeDowngrade for RawRwLock<R> {
    #[track_caller]
    unsafe fn downgrade_upgradable(&self) {
        self.holding.unlock_upgradable();
        self.holding.words.read(Location::caller(), 0);
        // SAFETY: as the caller promises.
        unsafe { self.inner.downgrade_upgradable() };
    }

    unsafe fn downgrade_to_upgradable(&self) {
        // SAFETY: as the caller promises.
        unsafe { self.inner.downgrade_to_upgradable() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::alone;
    use lock_api::{RawRwLock as _, RawRwLockUpgrade};

    #[test]
    fn an_upgradable_reader_leaves_the_words_alone_while_a_reader_writes_them() {
        let name = "lock::raw::tests::\
            an_upgradable_reader_leaves_the_words_alone_while_a_reader_writes_them";
        alone(name, || {
            let recorder = crate::Recorder::builder().max_bytes(256 << 10).start().unwrap();
            let lock = RawRwLock::<parking_lot::RawRwLock>::INIT;
            // A reader is in the middle of it.
            lock.holding.words.claim();
            assert!(lock.try_lock_shared() && lock.try_lock_upgradable());
            assert!(lock.holding.words.holder().is_none(), "{:?}", lock.holding.words);
            // SAFETY: it is locked so.
            unsafe { lock.unlock_upgradable() };
            // SAFETY: it is locked so.
            unsafe { lock.unlock_shared() };
            assert!(lock.holding.words.is_claimed(), "{:?}", lock.holding.words);
            // A reader that is named already gives way, and does not take the other's name away.
            lock.holding.words.released();
            assert!(lock.try_lock_shared());
            let reader = lock.holding.words.holder().unwrap();
            lock.lock_upgradable();
            let upgradable = lock.holding.words.holder().unwrap();
            assert!(!std::ptr::eq(reader.place, upgradable.place));
            // SAFETY: it is locked so.
            unsafe { lock.unlock_upgradable() };
            assert!(lock.holding.words.holder().is_none());
            recorder.stop().unwrap();
        });
    }
}
