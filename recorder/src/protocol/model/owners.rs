//! A slot is taken back from a thread that is gone only if the thread has not returned it itself.

use super::{holds, is_caught};
use crate::protocol::owner::was_left;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

/// A slot, the list of free slots, and what the kernel knows of two threads.
struct System {
    number: AtomicU64,
    os_thread: AtomicU64,
    free: AtomicU32,
    gone: [AtomicU32; 2],
}

/// What the slot's owner does.
#[derive(Clone, Copy, PartialEq)]
enum Owner {
    TakesLeave,
    /// It ends unnoticed: its key is not set.
    IsGone,
}

impl System {
    /// The first of two threads owns the slot.
    fn new() -> Self {
        Self {
            number: AtomicU64::new(1),
            os_thread: AtomicU64::new(0),
            free: AtomicU32::new(0),
            gone: [AtomicU32::new(0), AtomicU32::new(0)],
        }
    }

    /// `take_leave` on the thread itself, and its end.
    fn end(&self, thread: u64, owner: Owner) {
        if owner == Owner::TakesLeave {
            self.number.store(0, Ordering::Relaxed);
            self.free.store(1, Ordering::Release);
        }
        self.gone[thread as usize].store(1, Ordering::Release);
    }

    /// `arrive`, on the second thread. Returns whether the slot was free.
    fn arrive(&self, number: Ordering) -> bool {
        let is_free = self.free.load(Ordering::Acquire) == 1;
        if is_free {
            self.os_thread.store(1, Ordering::Relaxed);
            self.number.store(2, number);
        }
        is_free
    }

    fn is_gone(&self, os_thread: u64) -> bool {
        self.gone[os_thread as usize].load(Ordering::Acquire) == 1
    }
}

/// How the slot is inspected: as `reap` does, or with a mistake.
type Look = fn(&System) -> bool;

fn well(system: &System) -> bool {
    was_left(&system.number, &system.os_thread, |thread| system.is_gone(thread))
}

/// The first thread ends; the second takes the slot if it can, and stays or ends. A third looks for
/// abandoned slots.
fn scenario(first: Owner, second_ends: bool, look: Look, number: Ordering) {
    let system = Arc::new(System::new());
    let ends = {
        let system = Arc::clone(&system);
        thread::spawn(move || system.end(0, first))
    };
    let arrives = {
        let system = Arc::clone(&system);
        thread::spawn(move || {
            let arrived = system.arrive(number);
            if arrived && second_ends {
                system.end(1, Owner::IsGone);
            }
            arrived
        })
    };
    let found = look(&system);
    ends.join().unwrap();
    let arrived = arrives.join().unwrap();
    let was_left = if first == Owner::IsGone { !arrived } else { arrived && second_ends };
    assert!(!found || was_left, "two owners of one slot");
    assert!(look(&system) == was_left, "a slot is lost for good");
}

#[test]
fn a_slot_that_was_given_back_is_not_taken_back() {
    holds(|| scenario(Owner::TakesLeave, false, well, Ordering::Release));
}

#[test]
fn a_slot_that_was_left_is_taken_back() {
    holds(|| scenario(Owner::IsGone, false, well, Ordering::Release));
}

#[test]
fn of_two_threads_that_had_a_slot_the_right_one_is_asked_for() {
    holds(|| scenario(Owner::TakesLeave, true, well, Ordering::Release));
}

#[test]
fn a_number_that_is_not_looked_at_again_is_caught() {
    fn once(system: &System) -> bool {
        let number = system.number.load(Ordering::Acquire);
        number != 0 && system.is_gone(system.os_thread.load(Ordering::Relaxed))
    }
    is_caught("two owners", || {
        scenario(Owner::TakesLeave, false, once, Ordering::Release);
    });
}

#[test]
fn a_number_that_is_stored_relaxed_is_caught() {
    is_caught("two owners", || {
        scenario(Owner::TakesLeave, false, well, Ordering::Relaxed);
    });
}

#[test]
fn a_number_that_is_loaded_relaxed_is_caught() {
    fn relaxed(system: &System) -> bool {
        let number = system.number.load(Ordering::Relaxed);
        if number == 0 || !system.is_gone(system.os_thread.load(Ordering::Relaxed)) {
            return false;
        }
        fence(Ordering::Acquire);
        system.number.load(Ordering::Relaxed) == number
    }
    is_caught("two owners", || {
        scenario(Owner::TakesLeave, false, relaxed, Ordering::Release);
    });
}
