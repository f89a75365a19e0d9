//! The greatest few of many.

/// Keeps the `N` items with the greatest keys; of equal ones, the first.
#[derive(Clone, Debug)]
pub(super) struct Top<T, const N: usize> {
    items: Vec<(u64, T)>,
}

impl<T, const N: usize> Default for Top<T, N> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

impl<T, const N: usize> Top<T, N> {
    /// Whether an item with this key would be kept now.
    pub(super) fn wants(&self, key: u64) -> bool {
        self.items.len() < N || self.items.last().is_some_and(|(least, _)| key > *least)
    }

    /// Keeps an item, if it is great enough.
    pub(super) fn add(&mut self, key: u64, item: T) {
        if self.wants(key) {
            let at = self.items.partition_point(|(other, _)| *other >= key);
            self.items.insert(at, (key, item));
            self.items.truncate(N);
        }
    }

    /// The items, greatest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|(_, item)| item)
    }

    /// The items, greatest first, for changing them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_are_kept_in_order() {
        let mut top = Top::<_, 3>::default();
        for (at, key) in [5, 1, 9, 5, 7, 2].into_iter().enumerate() {
            top.add(key, (key, at));
        }
        let kept: Vec<_> = top.iter().copied().collect();
        assert_eq!(kept, [(9, 2), (7, 4), (5, 0)]);
        assert!(!top.wants(5));
        assert!(top.wants(6));
    }
}
