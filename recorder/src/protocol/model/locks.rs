//! What is read of a cell is of one writer; a cell has one claimant; and a reader of a lock's words names a holder whose place is
//! its own.

use super::{holds, is_caught};
use crate::protocol::lock_cell::LockCell;
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

#[test]
fn what_is_read_of_a_cell_is_of_one_writer() {
    holds(|| {
        let cell = Arc::new(LockCell::<3>::new());
        let reader = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || {
                if let Some(words) = cell.read() {
                    assert!(words.iter().all(|word| *word == words[0]), "of two: {words:?}");
                }
            })
        };
        let claim = cell.claim([1; 3]).expect("it is free");
        cell.clear(claim);
        assert!(cell.claim([2; 3]).is_some());
        reader.join().unwrap();
        assert_eq!(cell.read(), Some([2; 3]));
    });
}

#[test]
fn a_cell_that_two_claim_is_of_one_of_them_until_it_is_cleared() {
    holds(|| {
        let cell = Arc::new(LockCell::<2>::new());
        let other = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || {
                let claim = cell.claim([7; 2]);
                if let Some(claim) = claim {
                    assert_eq!(cell.read(), Some([7; 2]));
                    cell.clear(claim);
                }
                claim.is_some()
            })
        };
        if let Some(claim) = cell.claim([8; 2]) {
            assert_eq!(cell.read(), Some([8; 2]));
            cell.clear(claim);
        } else {
            assert!(other.join().unwrap(), "one of them gets it");
            return;
        }
        other.join().unwrap();
        assert_eq!(cell.read(), None);
    });
}

#[test]
fn two_that_write_a_cell_at_once_leave_one_of_both() {
    holds(|| {
        let cell = Arc::new(LockCell::<2>::new());
        let other = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.write([7; 2]))
        };
        let is_written = cell.write([8; 2]);
        assert!(other.join().unwrap() || is_written);
        let words = cell.read().expect("somebody wrote it");
        assert_eq!(words[0], words[1]);
    });
}

/// `LockWords::say`, `released` and `holder`: who, and where.
#[derive(Default)]
struct Words {
    holder: AtomicU64,
    place: AtomicU64,
}

impl Words {
    fn say(&self, who: u64, order: Ordering) {
        self.place.store(who * 10, order);
        self.holder.store(who, Ordering::Release);
    }

    fn released(&self) {
        self.holder.store(0, Ordering::Relaxed);
    }

    fn holder(&self) -> Option<(u64, u64)> {
        let who = self.holder.load(Ordering::Acquire);
        let place = self.place.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        (who != 0 && self.holder.load(Ordering::Relaxed) == who).then_some((who, place))
    }
}

/// Two threads hold a lock one after the other, while a third one looks.
fn held_in_turns(order: Ordering) {
    let words = Arc::new(Words::default());
    let looks = {
        let words = Arc::clone(&words);
        thread::spawn(move || {
            if let Some((who, place)) = words.holder() {
                assert_eq!(place, who * 10, "at another's place");
            }
        })
    };
    // The lock orders the two holders like the steps of one thread.
    words.say(1, order);
    words.released();
    words.say(2, order);
    looks.join().unwrap();
}

#[test]
fn a_holder_is_named_with_its_own_place() {
    holds(|| held_in_turns(Ordering::Release));
}

#[test]
fn a_place_that_is_stored_without_release_is_caught() {
    is_caught("at another's place", || held_in_turns(Ordering::Relaxed));
}

/// As of somebody who is about to say who holds the lock.
const CLAIMED: u64 = u64::MAX;

impl Words {
    /// `LockWords::claim_and_say`, or what it would be without the claim.
    fn take_over(&self, who: u64, is_claimed: bool) {
        let was = self.holder.load(Ordering::Relaxed);
        let claims = || {
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
            self.holder.compare_exchange(was, CLAIMED, success, failure).is_ok()
        };
        if !is_claimed || was != CLAIMED && claims() {
            self.say(who, Ordering::Release);
        }
    }

    /// `LockWords::read`, and `released_if_named`.
    fn read(&self, who: u64) {
        let order = Ordering::Relaxed;
        if self.holder.compare_exchange(0, CLAIMED, Ordering::Acquire, order).is_ok() {
            self.say(who, Ordering::Release);
            let _ = self.holder.compare_exchange(who, 0, order, order);
        }
    }
}

/// An upgradable reader comes beside one that reads, while a third thread looks.
fn upgradable_beside_a_reader(is_claimed: bool) {
    let words = Arc::new(Words::default());
    let reads = {
        let words = Arc::clone(&words);
        thread::spawn(move || words.read(1))
    };
    let upgradable = {
        let words = Arc::clone(&words);
        thread::spawn(move || words.take_over(2, is_claimed))
    };
    if let Some((who, place)) = words.holder().filter(|(who, _)| *who != CLAIMED) {
        assert_eq!(place, who * 10, "at another's place");
    }
    reads.join().unwrap();
    upgradable.join().unwrap();
}

#[test]
fn an_upgradable_reader_beside_another_one_is_named_with_its_own_place() {
    holds(|| upgradable_beside_a_reader(true));
}

#[test]
fn two_that_write_the_words_at_once_are_caught() {
    is_caught("at another's place", || upgradable_beside_a_reader(false));
}
