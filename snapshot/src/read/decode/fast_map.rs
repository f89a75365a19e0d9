//! Maps with small numbers as keys. The analyses look up several of them at every event; with the standard hash
//! their whole pass took more than twice as long.
//!
//! The ids come from a file, which may be malicious: so the hash depends on a random number.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// A map with ids, names or threads as keys.
pub(crate) type Map<K, V> = HashMap<K, V, Seed>;

/// Makes hashers, different ones for each map.
#[derive(Clone, Debug)]
pub(crate) struct Seed(u64);

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
pub(crate) struct Mix(u64);

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
        // Ten thousand into 16,384: a random choice takes some 7,500 of them.
        assert!(low.len() > 7000 && high.len() > 7000, "{} {}", low.len(), high.len());
    }
}
