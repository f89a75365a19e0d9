//! A carved block belongs to its carver alone, and a generation is reclaimed once.

use super::{Plain, Quiet, RACE, holds, is_caught};
use crate::protocol::ring::{Began, Carved, Full, Ring};
use crate::sync::{AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;

/// The ring and its memory, one word per unit; and what was reclaimed.
struct Arena<const CAPACITY: usize> {
    ring: Ring,
    words: [Plain; CAPACITY],
    reclaimed: AtomicU64,
}

impl<const CAPACITY: usize> Arena<CAPACITY> {
    /// An arena with complete generations 1, 2, … of these lengths, followed by a running one.
    /// Generation g counts as 10^g.
    fn with(lengths: &[u64]) -> Arc<Self> {
        let words = std::array::from_fn(|_| Plain::new(0));
        let arena = Self { ring: Ring::new(), words, reclaimed: AtomicU64::new(0) };
        arena.ring.begin(1, Began::default());
        for (number, length) in (1..).zip(lengths) {
            arena
                .ring
                .head
                .store(arena.ring.head.load(Ordering::Relaxed) + length, Ordering::Relaxed);
            arena.ring.mark_complete(number, 0);
            let keeper = Quiet(&arena.ring, |given_up| arena.count(given_up));
            arena.ring.enter(number + 1, Began::default(), &keeper).expect("there is room");
        }
        Arc::new(arena)
    }

    fn count(&self, generation: u64) {
        self.reclaimed.fetch_add(10_u64.pow(generation as u32), Ordering::Relaxed);
    }

    /// Carves and fills a block. Each write is a race with any other thread that believes it owns
    /// the place.
    fn fill(&self, length: u64) -> Result<Carved, Full> {
        let capacity = CAPACITY as u64;
        let carved = self.ring.carve(
            length,
            capacity,
            capacity,
            &Quiet(&self.ring, |given_up| self.count(given_up)),
        )?;
        let end = carved.position + length;
        assert_eq!(carved.position / capacity, (end - 1) / capacity, "a block is contiguous");
        let tail = self.ring.tail.load(Ordering::Acquire);
        assert!(end - tail <= capacity, "more is in use than there is");
        for position in carved.position - carved.padding..end {
            self.words[(position % capacity) as usize].set(position);
        }
        Ok(carved)
    }

    fn fill_all(&self, lengths: &[u64]) {
        for length in lengths {
            self.fill(*length).expect("there is room, if all is given up that is complete");
        }
    }

    /// When all threads are done: reclaimed generations were counted, and the tail is where it
    /// should be.
    fn check(&self) {
        let oldest = self.ring.oldest.load(Ordering::Acquire);
        let counted: u64 = (1..oldest).map(|number| 10_u64.pow(number as u32)).sum();
        assert_eq!(self.reclaimed.load(Ordering::Relaxed), counted, "not reclaimed once");
        let tail = self.ring.tail.load(Ordering::Acquire);
        assert_eq!(Some(tail), self.ring.start_of(oldest), "the tail lags behind for good");
    }
}

/// Two threads carve blocks of the lengths `carve`, from a ring whose complete generations have the
/// lengths `complete`.
fn carvers<const CAPACITY: usize>(complete: &[u64], carve: [&'static [u64]; 2]) {
    let arena = Arena::<CAPACITY>::with(complete);
    let other = {
        let arena = Arc::clone(&arena);
        thread::spawn(move || arena.fill_all(carve[1]))
    };
    arena.fill_all(carve[0]);
    other.join().unwrap();
    arena.check();
}

#[test]
fn two_that_reclaim_at_once_share_no_memory() {
    holds(|| carvers::<4>(&[2, 2], [&[1], &[1]]));
}

#[test]
fn two_that_need_all_that_is_complete_get_it() {
    holds(|| carvers::<4>(&[1, 1, 2], [&[2], &[2]]));
}

#[test]
fn two_that_carve_twice_share_no_memory() {
    holds(|| carvers::<4>(&[1, 1, 1, 1], [&[1, 1], &[1, 1]]));
}

#[test]
fn padding_is_reclaimed_space_too() {
    holds(|| carvers::<5>(&[2, 2], [&[2], &[1]]));
}

#[test]
fn a_tail_that_lags_is_raised_by_whoever_needs_it() {
    holds(|| {
        // A thread died after it advanced `oldest` and before it raised `tail`.
        let arena = Arena::<4>::with(&[2, 2]);
        arena.ring.oldest.store(2, Ordering::Release);
        arena.count(1);
        let other = {
            let arena = Arc::clone(&arena);
            thread::spawn(move || arena.fill_all(&[1]))
        };
        arena.fill_all(&[2]);
        other.join().unwrap();
        arena.check();
    });
}

#[test]
fn what_is_not_complete_is_not_given_up() {
    holds(|| {
        let arena = Arena::<4>::with(&[2]);
        let other = {
            let arena = Arc::clone(&arena);
            thread::spawn(move || u64::from(arena.fill(2).is_ok()))
        };
        let filled = u64::from(arena.fill(2).is_ok()) + other.join().unwrap();
        assert_eq!(filled, 2, "a generation of two units is reclaimed, and two were free");
        assert_eq!(arena.fill(1), Err(Full));
        arena.check();
    });
}

#[test]
fn a_carver_that_does_not_look_at_the_tail_is_caught() {
    is_caught(RACE, || {
        let arena = Arena::<4>::with(&[2]);
        let mistaken = |arena: &Arena<4>| {
            let position = arena.ring.head.fetch_add(2, Ordering::Relaxed);
            for at in position..position + 2 {
                arena.words[at as usize % 4].set(at);
            }
        };
        let other = {
            let arena = Arc::clone(&arena);
            thread::spawn(move || mistaken(&arena))
        };
        mistaken(&arena);
        mistaken(&arena);
        other.join().unwrap();
    });
}
