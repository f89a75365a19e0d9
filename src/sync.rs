//! Locks that say who waits for whom: `std::sync`, with a [`Mutex`], an [`RwLock`] and a [`Condvar`] that are recorded.
//!
//! This module re-exports all of [`std::sync`], so one word changes in a file, `std` to `lookback`:
//!
//! ```
//! use lookback::sync::{Arc, Condvar, Mutex, RwLock};
//!
//! let total = Arc::new(Mutex::new(0));
//! let other = Arc::clone(&total);
//! std::thread::spawn(move || *other.lock().unwrap() += 1).join().unwrap();
//! assert_eq!(*total.lock().unwrap(), 1);
//! ```
//!
//! A lock that is free costs a few stores more than the standard library's, and nothing is recorded. A thread that has waited
//! for a millisecond ([`Builder::lock_waits`](crate::Builder::lock_waits)) records where, for how long, and who held the lock. A
//! wait that never ends is in each generation. Guards are types of this module, like those of the standard library. They note
//! when a lock is held across an `.await`.
//!
//! With the feature `lock_api` the locks of `parking_lot` are recorded, too: `lookback::sync::RawMutex` and
//! `lookback::sync::RawRwLock`, for the types of `lock_api`. `lookback::tokio::sync` has those of Tokio. `docs/locks.md` has
//! all of it, with its limits.

#[doc(no_inline)]
pub use ::std::sync::*;
pub use lookback_recorder::locks::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
#[cfg(feature = "lock_api")]
pub use lookback_recorder::locks::{RawMutex, RawRwLock};
