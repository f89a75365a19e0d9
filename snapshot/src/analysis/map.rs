//! Maps by small numbers. Every event looks up several of them; with the standard hash the whole pass
//! took more than twice as long.
//!
//! Ids come from a file that may be made to harm: so where they fall depends on a random number.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A map by ids, names, threads.
pub(super) type Map<K, V> = HashMap<K, V, Seed>;

/// Makes hashers, each map others.
#[derive(Clone, Debug)]
pub(super) struct Seed(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0_u8))
    }
}

impl BuildHasher for Seed {
    type Hasher = Mix;

    #[inline]
    fn build_hasher(&self) -> Mix {
        Mix(self.0)
    }
}

/// Multiplies, and folds the upper half of the product into the lower.
pub(super) struct Mix(u64);

impl Hasher for Mix {
    #[inline]
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::TaskId;
    use std::collections::HashSet;

    #[test]
    fn neighbours_fall_far_apart() {
        let seed = Seed::default();
        let task = |index, incarnation| TaskId { index, incarnation };
        let all = (0..100).flat_map(|index| (0..100).map(move |again| task(index, again)));
        let low: HashSet<_> = all.clone().map(|task| seed.hash_one(task) % 16384).collect();
        let high: HashSet<_> = all.map(|task| seed.hash_one(task) >> 50).collect();
        // Ten thousand into 16,384: at random some 7,500 places are taken.
        assert!(low.len() > 7000 && high.len() > 7000, "{} {}", low.len(), high.len());
    }
}
