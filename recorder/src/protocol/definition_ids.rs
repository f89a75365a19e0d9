//! Definition ids: each generation counts its own, from 1.
//!
//! Each word holds a generation's number next to its count. A straggler in a generation that ended
//! long ago finds a newer generation's number in the word and gets no id, so it cannot take one of
//! that generation's.

#![forbid(unsafe_code)]

use lookback_snapshot::wire::Loss;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of words, and so of generations that can define something at the same time,
/// stragglers included.
const WORDS: usize = 8;
/// Ids are below this number.
const MOST: u32 = 1 << 24;

/// See the module.
pub(crate) struct Ids([AtomicU64; WORDS]);

impl Ids {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    fn word(&self, generation: u64) -> &AtomicU64 {
        &self.0[(generation % WORDS as u64) as usize]
    }

    /// Gives a word to `generation`, unless this or a later generation has it already. Called
    /// before the generation is published.
    pub(crate) fn begin(&self, generation: u64) {
        let word = self.word(generation);
        let mut found = word.load(Ordering::Relaxed);
        let is_older = |word: u64| ((word >> 32) as u32).wrapping_sub(generation as u32) > 1 << 31;
        while found == 0 || is_older(found) {
            let new = generation << 32 | 1;
            match word.compare_exchange(found, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => found = other,
            }
        }
    }

    /// The next id of `generation`, or [`Loss::NoId`] if it has none left or has lost its word.
    pub(crate) fn next(&self, generation: u64) -> Result<u32, Loss> {
        let is_own = |word: u64| (word >> 32) as u32 == generation as u32 && (word as u32) < MOST;
        // A straggler changes nothing: an id that it gave back could already belong to another
        // thread.
        let more = |word: u64| is_own(word).then_some(word + 1);
        let found = self.word(generation).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        found.map(|word| word as u32).map_err(|_| Loss::NoId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_counts_from_one_and_stragglers_take_no_other_ones_ids() {
        for first in [1, u64::from(u32::MAX) - 6] {
            let ids = Ids::new();
            for generation in [first, first + 1, first + 8, first + 9] {
                ids.begin(generation);
                assert_eq!(ids.next(generation), Ok(1));
                ids.begin(generation);
                assert_eq!(ids.next(generation), Ok(2), "begun twice, counted on");
            }
        }
        let ids = Ids::new();
        ids.begin(3);
        ids.begin(11);
        ids.begin(3);
        assert_eq!(ids.next(3), Err(Loss::NoId));
        assert_eq!(ids.next(11), Ok(1), "a straggler changes nothing");
    }

    #[test]
    fn no_id_is_given_twice_while_stragglers_ask() {
        let ids = Ids::new();
        ids.begin(9);
        let mut given = std::thread::scope(|scope| {
            for straggler in [1, 1, 17] {
                let ids = &ids;
                scope.spawn(move || {
                    (0..100_000).for_each(|_| assert_eq!(ids.next(straggler), Err(Loss::NoId)));
                });
            }
            let take = || (0..100_000).map(|_| ids.next(9).unwrap()).collect::<Vec<_>>();
            let other = scope.spawn(take);
            let mut given = take();
            given.extend(other.join().unwrap());
            given
        });
        given.sort_unstable();
        assert!(given.iter().copied().eq(1..=200_000), "each once, and none left out");
    }

    #[test]
    fn ids_that_are_used_up_stay_so() {
        let ids = Ids::new();
        ids.begin(7);
        ids.word(7).fetch_add(u64::from(MOST) - 2, Ordering::Relaxed);
        assert_eq!(ids.next(7), Ok(MOST - 1));
        assert_eq!([ids.next(7), ids.next(7)], [Err(Loss::NoId); 2]);
    }
}
