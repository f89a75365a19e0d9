//! Locks: who waits for which for how long, and who holds it meanwhile.
//!
//! * [`words`] stand beside each lock and say who holds it;
//! * [`waiting`] is a wait: from the failed first attempt to the record of it;
//! * [`tables`] have the waits that go on, and the holders of locks that are waited for;
//! * [`holding`] is what stands beside a lock in all, and a lock that is held, until it is released;
//! * [`record`] writes the events, and [`listing`] says with each generation who still waits; [`cycles`] finds deadlocks;
//! * [`owned`] is a guard that keeps its lock alive;
//! * [`mutex`], [`rwlock`] and [`condvar`] are those of the standard library, and [`raw`] those of `lock_api`.
//!
//! A lock that is free costs an attempt to lock it, as without, and a few stores to the memory that the lock has just been
//! written to. Only a thread that must wait anyway does more.

pub(crate) mod condvar;
pub(crate) mod cycles;
pub(crate) mod holding;
pub(crate) mod listing;
pub(crate) mod mutex;
pub(crate) mod owned;
#[cfg(feature = "lock_api")]
pub(crate) mod raw;
pub(crate) mod record;
pub(crate) mod rwlock;
pub(crate) mod tables;
pub(crate) mod waiting;
pub(crate) mod words;
