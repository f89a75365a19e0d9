//! The generation table: a reused entry is never read as its old generation, nor early as its new
//! one.

use super::{Quiet, enter, holds, is_caught, reclaim_oldest};
use crate::protocol::ring::{Began, Ring, TABLE};
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

/// A ring with a full table: generations 1 to 4, of ten units each, of which 3 are complete.
fn full_table() -> Arc<Ring> {
    let ring = Ring::new();
    ring.begin(1, Began::default());
    for number in 1..TABLE as u64 {
        ring.head.store(number * 10, Ordering::Relaxed);
        ring.mark_complete(number, number);
        enter(&ring, number + 1);
    }
    ring.head.store(TABLE as u64 * 10, Ordering::Relaxed);
    Arc::new(ring)
}

fn ask(ring: &Ring, generation: u64) {
    if let Some(start) = ring.start_of(generation) {
        assert_eq!(start, (generation - 1) * 10, "the start of another generation");
    }
}

/// The next generation takes the oldest one's entry, while a carver reclaims the oldest and a
/// reader asks for both.
fn scenario(start_of: fn(&Ring, u64), questions: &'static [u64]) {
    let ring = full_table();
    let reader = {
        let ring = Arc::clone(&ring);
        thread::spawn(move || questions.iter().for_each(|generation| start_of(&ring, *generation)))
    };
    let carver = {
        let ring = Arc::clone(&ring);
        thread::spawn(move || reclaim_oldest(&ring))
    };
    let counted = std::cell::Cell::new(0);
    let keeper = Quiet(&ring, |given_up| counted.set(counted.get() + given_up));
    ring.enter(5, Began::default(), &keeper).expect("there is room");
    let mut reclaimed = counted.get();
    assert_eq!(ring.start_of(5), Some(40));
    assert_eq!(ring.start_of(1), None);
    reclaimed += carver.join().unwrap();
    reader.join().unwrap();
    let oldest = ring.oldest.load(Ordering::Relaxed);
    assert_eq!(reclaimed, (1..oldest).sum::<u64>(), "not reclaimed once");
    assert_eq!(ring.tail.load(Ordering::Relaxed), (oldest - 1) * 10);
}

#[test]
fn a_reused_entry_is_never_taken_for_another() {
    holds(|| scenario(ask, &[1, 5]));
}

#[test]
fn the_neighbours_of_a_reused_entry_are_as_they_were() {
    holds(|| scenario(ask, &[5, 2, 1]));
}

#[test]
fn a_start_that_is_not_looked_up_twice_is_caught() {
    fn once(ring: &Ring, generation: u64) {
        let entry = ring.entry(generation);
        if entry.number.load(Ordering::Acquire) == generation {
            let start = entry.start.load(Ordering::Relaxed);
            assert_eq!(start, (generation - 1) * 10, "the start of another generation");
        }
    }
    is_caught("the start of another", || scenario(once, &[1]));
}

#[test]
fn a_start_without_the_fence_is_caught() {
    fn unfenced(ring: &Ring, generation: u64) {
        let entry = ring.entry(generation);
        if entry.number.load(Ordering::Acquire) == generation {
            let start = entry.start.load(Ordering::Relaxed);
            if entry.number.load(Ordering::Relaxed) == generation {
                assert_eq!(start, (generation - 1) * 10, "the start of another generation");
            }
        }
    }
    is_caught("the start of another", || scenario(unfenced, &[1]));
}

#[test]
fn an_entry_that_is_overwritten_before_it_is_marked_is_caught() {
    // `Ring::enter` without its first store: number and start of an entry, from (1, 0) to (5, 40).
    is_caught("the start of another", || {
        let entry = Arc::new((AtomicU64::new(1), AtomicU64::new(0)));
        let writer = {
            let entry = Arc::clone(&entry);
            thread::spawn(move || {
                entry.1.store(40, Ordering::Relaxed);
                entry.0.store(5, Ordering::Release);
            })
        };
        if entry.0.load(Ordering::Acquire) == 1 {
            let start = entry.1.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if entry.0.load(Ordering::Relaxed) == 1 {
                assert_eq!(start, 0, "the start of another generation");
            }
        }
        writer.join().unwrap();
    });
}
