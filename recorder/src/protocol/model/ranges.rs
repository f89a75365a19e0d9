//! What is read of an open range is of one range, although its entry is another one's soon after.

use super::{holds, is_caught};
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

const CLAIMED: u64 = u64::MAX;

/// `Place` of `record/ranges.rs`: which range, and when it began.
#[derive(Default)]
struct Place {
    number: AtomicU64,
    began: AtomicU64,
}

impl Place {
    /// `claim`.
    fn claim(&self, number: u64, order: Ordering) {
        let free =
            self.number.compare_exchange(0, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok();
        assert!(free, "its range is over");
        self.began.store(number * 10, order);
        self.number.store(number, Ordering::Release);
    }

    /// `Range::end`.
    fn end(&self) {
        self.number.store(0, Ordering::Release);
    }

    /// `note_all`.
    fn noted(&self) -> Option<(u64, u64)> {
        let number = self.number.load(Ordering::Acquire);
        if number == 0 || number == CLAIMED {
            return None;
        }
        let began = self.began.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        (self.number.load(Ordering::Relaxed) == number).then_some((number, began))
    }
}

/// Two ranges have an entry one after the other, while the collector looks.
fn noted_in_turns(order: Ordering) {
    let place = Arc::new(Place::default());
    let looks = {
        let place = Arc::clone(&place);
        thread::spawn(move || {
            if let Some((number, began)) = place.noted() {
                assert_eq!(began, number * 10, "another's begin");
            }
        })
    };
    place.claim(1, order);
    place.end();
    place.claim(2, order);
    looks.join().unwrap();
}

#[test]
fn a_range_is_noted_with_its_own_begin() {
    holds(|| noted_in_turns(Ordering::Release));
}

#[test]
fn a_begin_that_is_stored_without_release_is_caught() {
    is_caught("another's begin", || noted_in_turns(Ordering::Relaxed));
}
