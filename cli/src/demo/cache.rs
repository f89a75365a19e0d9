//! A cache of the last requested items, so that not every request asks the inventory.

use super::inventory::Item;
use lookback::{counter, event, region};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many items it holds.
const CACHED: usize = 120;

/// The cached items.
#[derive(Default)]
pub struct Cache {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    items: HashMap<u32, Item>,
    order: VecDeque<u32>,
}

impl Cache {
    /// A cached item.
    pub fn get(&self, number: u32) -> Option<Item> {
        let _region = region!("cache");
        let item = self.known().items.get(&number).copied();
        event!("cache_lookup", item = number, hit = item.is_some());
        item
    }

    /// Adds an item, and removes the oldest if the cache is full.
    pub fn keep(&self, number: u32, item: Item) {
        let _region = region!("cache_fill");
        let mut known = self.known();
        if known.items.insert(number, item).is_none() {
            known.order.push_back(number);
        }
        if known.items.len() > CACHED
            && let Some(oldest) = known.order.pop_front()
        {
            known.items.remove(&oldest);
            tracing::debug!(item = oldest, "evicted, to make room for item {number}");
        }
        counter!("cache_size", known.items.len());
    }

    /// Empties the cache.
    pub fn clear(&self) {
        let mut known = self.known();
        *known = Known::default();
        counter!("cache_size", known.items.len());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_is_no_more_room() {
        let cache = Cache::default();
        for number in 0..=CACHED as u32 {
            cache.keep(number, Item { price: 1.0, stock: number });
        }
        assert!(cache.get(0).is_none());
        assert_eq!(cache.get(1).map(|item| item.stock), Some(1));
        cache.clear();
        assert!(cache.get(1).is_none());
    }
}
