//! A value for each entry of one of the recorder's tables: of tasks, or of spans.

use std::collections::HashMap;

/// Values by index. Recorders assign indexes from 0 up, so most lie close together; others (a file may claim
/// any) take no room in between.
pub(crate) struct SparseVec<T> {
    dense: Vec<T>,
    sparse: HashMap<u32, T>,
    /// How many indexes have been used.
    used: usize,
    /// The most of them that are kept; further ones share one value.
    limit: usize,
    beyond: T,
}

impl<T: Default + Clone> SparseVec<T> {
    /// Room for at most `limit` indexes.
    pub(crate) fn new(limit: usize) -> Self {
        let (dense, sparse) = (Vec::new(), HashMap::new());
        Self { dense, sparse, used: 0, limit, beyond: T::default() }
    }

    /// This many will follow, in ascending order.
    pub(crate) fn expect(&mut self, count: usize) {
        self.dense.reserve(count.min(self.limit));
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        match self.dense.get(index as usize) {
            Some(found) => Some(found),
            None if self.sparse.is_empty() => None,
            None => self.sparse.get(&index),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> &mut T {
        if (index as usize) < self.dense.len() {
            return &mut self.dense[index as usize];
        }
        self.grow(index)
    }

    #[cold]
    fn grow(&mut self, index: u32) -> &mut T {
        let at = index as usize;
        if !self.sparse.contains_key(&index) {
            if self.used >= self.limit {
                return &mut self.beyond;
            }
            self.used += 1;
            if at < 1024.max(4 * self.used) {
                // Doubles the size, because indexes count up.
                let end = (at + 1).max((2 * self.dense.len()).min(4 * self.used));
                let begin = self.dense.len();
                self.dense.resize(end, T::default());
                if !self.sparse.is_empty() {
                    for moved in begin..end {
                        if let Some(value) = self.sparse.remove(&(moved as u32)) {
                            self.dense[moved] = value;
                        }
                    }
                }
                return &mut self.dense[at];
            }
        }
        self.sparse.entry(index).or_default()
    }

    /// All of them with their indexes, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let dense = self.dense.iter().enumerate().map(|(index, value)| (index as u32, value));
        dense.chain(self.sparse.iter().map(|(index, value)| (*index, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_far_apart_take_no_room_in_between() {
        let mut places = SparseVec::<u64>::new(100);
        *places.get_mut(u32::MAX) = 7;
        *places.get_mut(3) = 8;
        assert!(places.dense.len() <= 1024);
        assert_eq!(
            (places.get(u32::MAX), places.get(3), places.get(1 << 20)),
            (Some(&7), Some(&8), None)
        );
    }

    #[test]
    fn no_more_are_kept_than_the_limit_says() {
        let mut places = SparseVec::<u64>::new(10);
        for index in 0..1000 {
            *places.get_mut(index << 20) = 1;
        }
        assert!(places.iter().count() <= 1024 + 10);
    }

    proptest! {
        #[test]
        fn what_is_put_is_found(
            values in prop::collection::vec((0_u32..6000, any::<u64>()), 0..200), spread in 0_u32..12
        ) {
            let mut places = SparseVec::new(1000);
            let mut expected = HashMap::new();
            for (index, value) in values {
                let index = index << spread;
                *places.get_mut(index) = value;
                expected.insert(index, value);
            }
            for (index, value) in &expected {
                prop_assert_eq!(places.get(*index), Some(value));
            }
        }
    }
}
