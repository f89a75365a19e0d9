//! A copy that the ring calls sound holds nothing of a later lap.

use super::{Quiet, enter, holds, is_caught, reclaim_oldest};
use crate::protocol::ring::{Began, Ring};
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

/// Two units, each a block of two words, in memory that may be read while it is written.
const UNITS: u64 = 2;

struct Arena {
    ring: Ring,
    words: [[AtomicU64; 2]; UNITS as usize],
}

impl Arena {
    /// Full of complete generations 1 and 2, a unit each; 3 is running.
    fn new() -> Arc<Self> {
        let unit = |at: usize| std::array::from_fn(|_| AtomicU64::new(at as u64));
        let arena = Self { ring: Ring::new(), words: std::array::from_fn(unit) };
        arena.ring.begin(1, Began::default());
        for number in 1..=2 {
            arena.ring.head.store(number, Ordering::Relaxed);
            arena.ring.mark_complete(number, 0);
            enter(&arena.ring, number + 1);
        }
        Arc::new(arena)
    }

    /// Fills the unit at `position`, each word with the position.
    fn fill(&self, position: u64) {
        for word in &self.words[(position % UNITS) as usize] {
            word.store(position, Ordering::Relaxed);
        }
    }

    fn copy(&self, position: u64) -> [u64; 2] {
        let unit = &self.words[(position % UNITS) as usize];
        std::array::from_fn(|word| unit[word].load(Ordering::Relaxed))
    }
}

fn carve_and_fill(arena: &Arena) {
    if let Ok(carved) = arena.ring.carve(1, UNITS, UNITS, &Quiet(&arena.ring, |_| ())) {
        arena.fill(carved.position);
    }
}

/// One thread writes, one reads from `position`; if `reclaims`, a third moves the tail.
fn scenario(write: fn(&Arena), holds: fn(&Ring, u64) -> bool, position: u64, reclaims: bool) {
    let arena = Arena::new();
    let reader = {
        let arena = Arc::clone(&arena);
        thread::spawn(move || {
            let copy = arena.copy(position);
            if holds(&arena.ring, position) {
                assert_eq!(copy, [position; 2], "a later lap in a sound copy");
            }
        })
    };
    let reclaimer = reclaims.then(|| {
        let arena = Arc::clone(&arena);
        thread::spawn(move || {
            reclaim_oldest(&arena.ring);
        })
    });
    write(&arena);
    reader.join().unwrap();
    if let Some(reclaimer) = reclaimer {
        reclaimer.join().unwrap();
    }
}

#[test]
fn a_copy_of_what_is_reclaimed_meanwhile_is_not_sound() {
    holds(|| scenario(carve_and_fill, Ring::still_holds, 0, false));
}

#[test]
fn a_copy_is_judged_rightly_if_one_reclaims_and_another_writes() {
    holds(|| scenario(carve_and_fill, Ring::still_holds, 0, true));
}

#[test]
fn a_copy_of_the_next_generation_is_judged_rightly_too() {
    fn twice(arena: &Arena) {
        carve_and_fill(arena);
        carve_and_fill(arena);
    }
    holds(|| scenario(twice, Ring::still_holds, 1, true));
}

#[test]
fn a_reader_that_does_not_look_again_is_caught() {
    is_caught("a later lap", || scenario(carve_and_fill, |_, _| true, 0, false));
}

#[test]
fn a_reader_without_the_fence_is_caught() {
    fn unfenced(ring: &Ring, position: u64) -> bool {
        ring.tail.load(Ordering::Acquire) <= position
    }
    is_caught("a later lap", || scenario(carve_and_fill, unfenced, 0, false));
}

#[test]
fn a_tail_raised_after_the_overwriting_is_caught() {
    fn too_late(arena: &Arena) {
        let position = arena.ring.head.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        arena.fill(position);
        reclaim_oldest(&arena.ring);
    }
    is_caught("a later lap", || scenario(too_late, Ring::still_holds, 0, false));
}

#[test]
fn a_carver_without_the_fence_is_caught() {
    fn unfenced(arena: &Arena) {
        reclaim_oldest(&arena.ring);
        let tail = arena.ring.tail.load(Ordering::Acquire);
        let head = arena.ring.head.load(Ordering::Relaxed);
        if head + 1 - tail <= UNITS {
            arena.ring.head.store(head + 1, Ordering::Relaxed);
            arena.fill(head);
        }
    }
    is_caught("a later lap", || scenario(unfenced, Ring::still_holds, 0, false));
}

/// A slot fills a block, then carves another and writes there. A reader that sees the head past the
/// second block finds the first one complete: the slot's stream has no gap.
fn stream(carve: fn(&Ring) -> u64) {
    let ring = Arc::new(Ring::new());
    let committed: Arc<[AtomicU64; 2]> = Arc::default();
    ring.begin(1, Began::default());
    let reader = {
        let (ring, committed) = (Arc::clone(&ring), Arc::clone(&committed));
        thread::spawn(move || {
            let head = ring.head.load(Ordering::Acquire);
            let ends = committed.each_ref().map(|committed| committed.load(Ordering::Acquire));
            assert!(head < 2 || ends[0] == 1, "a gap in a stream");
        })
    };
    for _ in 0..2 {
        let position = carve(&ring);
        committed[position as usize].store(1, Ordering::Release);
    }
    reader.join().unwrap();
}

#[test]
fn a_stream_that_is_cut_has_no_gap() {
    holds(|| stream(|ring| ring.carve(1, UNITS, UNITS, &Quiet(ring, |_| ())).unwrap().position));
}

#[test]
fn a_head_that_moves_without_a_release_is_caught() {
    is_caught("a gap in", || stream(|ring| ring.head.fetch_add(1, Ordering::Relaxed)));
}
