//! How often a generation's events name each span.

use super::fast_map::Map;
use super::sparse_vec::SparseVec;
use crate::wire::SpanId;

/// How often a generation names each span, other than by its creation and its end.
#[derive(Default)]
pub(crate) struct Named {
    /// For each entry, the first incarnation met, and how often it is named.
    places: Option<SparseVec<(u32, u32)>>,
    /// Further incarnations. They come one after the other, so several of them share a row.
    others: Map<(u32, u32), [u32; ROW]>,
}

/// How many incarnations share a row.
const ROW: usize = 8;

/// The key of a span's row, and its place in the row.
fn row(id: SpanId) -> ((u32, u32), usize) {
    ((id.index, id.incarnation / ROW as u32), id.incarnation as usize % ROW)
}

impl Named {
    /// More entries than this are counted the slow way.
    const MANY: usize = 1 << 20;
    /// The most bytes that a new entry or row takes.
    pub(crate) const ENTRY: usize = 112;

    /// Adds to a span's count. Returns whether that takes a new entry.
    pub(crate) fn add(&mut self, id: SpanId, count: u32) -> bool {
        if id.index == 0 {
            return false;
        }
        let places = self.places.get_or_insert_with(|| SparseVec::new(Self::MANY));
        let place = places.get_mut(id.index);
        let mut fresh = place.1 == 0;
        if fresh {
            place.0 = id.incarnation;
        }
        let named = if place.0 == id.incarnation {
            &mut place.1
        } else {
            let (row, at) = row(id);
            let row = self.others.entry(row).or_insert_with(|| {
                fresh = true;
                [0; ROW]
            });
            &mut row[at]
        };
        *named = named.saturating_add(count);
        fresh
    }

    pub(crate) fn get(&self, id: SpanId) -> u32 {
        let place = self.places.as_ref().and_then(|places| places.get(id.index));
        match place {
            Some((incarnation, count)) if *incarnation == id.incarnation => *count,
            _ if self.others.is_empty() => 0,
            _ => {
                let (row, at) = row(id);
                self.others.get(&row).map_or(0, |row| row[at])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn each_incarnation_of_each_place_is_counted() {
        let (mut named, mut expected) = (Named::default(), HashMap::<SpanId, u32>::new());
        let mut random = 1_u64;
        let ids = |random: u64| {
            let index = (random >> 40) as u32 % 7 * 300_000_000;
            SpanId { index, incarnation: u32::MAX - (random >> 50) as u32 % 40 }
        };
        for _ in 0..5000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = ids(random);
            named.add(id, 2);
            if id.index != 0 {
                *expected.entry(id).or_default() += 2;
            }
        }
        assert!(expected.len() > 200);
        for index in 0..8 {
            for back in 0..60 {
                let id = SpanId { index: index * 300_000_000, incarnation: u32::MAX - back };
                assert_eq!(named.get(id), expected.get(&id).copied().unwrap_or(0), "{id}");
            }
        }
    }
}
