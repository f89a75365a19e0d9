//! A lock that one can give up waiting for: what the demo's fault is about.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A value that one thread at a time may hold. The holder takes it out; it is put back when the
/// guard is dropped.
pub struct Lock<T> {
    value: Mutex<Option<T>>,
    freed: Condvar,
}

/// The value, held. Dropping it lets the next one have it.
pub struct Held<'a, T> {
    lock: &'a Lock<T>,
    value: Option<T>,
}

impl<T> Lock<T> {
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(Some(value)), freed: Condvar::new() }
    }

    /// Waits for the value, but not for longer than this.
    pub fn hold_within(&self, limit: Duration) -> Option<Held<'_, T>> {
        let (mut value, _) = self
            .freed
            .wait_timeout_while(self.value(), limit, |value| value.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        value.take().map(|value| Held { lock: self, value: Some(value) })
    }

    fn value(&self) -> MutexGuard<'_, Option<T>> {
        // Nothing can panic while it is locked.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("only `drop` takes it")
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("only `drop` takes it")
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        *self.lock.value() = self.value.take();
        self.lock.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_cannot_be_had_and_then_it_can() {
        let lock = Lock::new(1);
        let mut held = lock.hold_within(Duration::ZERO).unwrap();
        assert!(lock.hold_within(Duration::from_millis(1)).is_none());
        *held += 1;
        drop(held);
        assert_eq!(*lock.hold_within(Duration::ZERO).unwrap(), 2);
    }

    #[test]
    fn who_waits_gets_it_as_soon_as_it_is_free() {
        let lock = Lock::new(());
        std::thread::scope(|scope| {
            let held = lock.hold_within(Duration::ZERO).unwrap();
            let waits = scope.spawn(|| lock.hold_within(Duration::from_secs(60)).is_some());
            drop(held);
            assert!(waits.join().unwrap());
        });
    }
}
