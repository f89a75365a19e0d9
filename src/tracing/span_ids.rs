//! Maps the span ids of a registry to the recorder's span ids.
//!
//! A registry keeps extensions of a span in a map on the heap, behind a lock; that alone takes longer than
//! recording the span. So the layer keeps its ids in a table of fixed size. If that is full, it uses the
//! registry's extensions.
//!
//! A layer may be replaced while spans are open. Then its table is kept for the next layer.
//!
//! # Synchronization
//!
//! The thread that creates a span takes an entry by a compare-and-swap on its id. No other thread knows the
//! id before that, and the registry does not reuse it before it was removed. The program passes the span from
//! thread to thread; that orders everything else.

use lookback_recorder::integration::{mix, span};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many entries there are.
const ENTRIES: usize = 1 << 14;
/// How many entries an id may lie in: two cache lines.
const PROBES: usize = 8;

/// The table of a layer.
pub(super) struct Names {
    entries: Box<[Entry]>,
    /// Whether the table was ever full.
    overflowed: AtomicBool,
}

#[derive(Default)]
struct Entry {
    /// The registry's id, 0 for none.
    id: AtomicU64,
    name: AtomicU64,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("overflowed", &self.overflowed).finish_non_exhaustive()
    }
}

impl Default for Names {
    fn default() -> Self {
        let entries = std::iter::repeat_with(Entry::default).take(ENTRIES).collect();
        Self { entries, overflowed: AtomicBool::new(false) }
    }
}

impl Names {
    #[inline]
    fn at(&self, id: u64) -> &[Entry] {
        let start = mix(id) as usize % (ENTRIES / PROBES) * PROBES;
        &self.entries[start..start + PROBES]
    }

    /// Adds a span. Returns whether there was room.
    #[inline]
    pub(super) fn insert(&self, id: u64, name: u64) -> bool {
        for entry in self.at(id) {
            let is_free = entry.id.load(Ordering::Relaxed) == 0;
            if is_free
                && entry.id.compare_exchange(0, id, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                entry.name.store(name, Ordering::Release);
                return true;
            }
        }
        self.overflowed.store(true, Ordering::Release);
        false
    }

    /// The recorder's id of a span. The error says whether the registry may have it.
    #[inline]
    pub(super) fn get(&self, id: u64) -> Result<u64, bool> {
        let found = self.at(id).iter().find(|entry| entry.id.load(Ordering::Acquire) == id);
        match found {
            Some(entry) => Ok(entry.name.load(Ordering::Acquire)),
            None => Err(self.overflowed.load(Ordering::Acquire)),
        }
    }

    /// Removes a span.
    #[inline]
    pub(super) fn remove(&self, id: u64) {
        if let Some(entry) = self.at(id).iter().find(|e| e.id.load(Ordering::Acquire) == id) {
            entry.name.store(0, Ordering::Relaxed);
            entry.id.store(0, Ordering::Release);
        }
    }
}

/// The tables of dropped layers with open spans, in the order of dropping.
static LEFT: Mutex<Vec<Arc<Names>>> = Mutex::new(Vec::new());
/// How many are kept; the oldest is dropped first.
const MOST_LEFT: usize = 8;

/// Keeps the table of a dropped layer with open spans, for the next layer.
pub(super) fn leave(names: Arc<Names>) {
    let is_used = |entry: &Entry| entry.id.load(Ordering::Acquire) != 0;
    if names.entries.iter().any(is_used) || names.overflowed.load(Ordering::Acquire) {
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        left.push(names);
        if left.len() > MOST_LEFT {
            left.remove(0);
        }
    }
}

/// Takes the table of the last dropped layer whose open spans are in this registry. Spans that the registry
/// no longer has ended while there was no layer.
pub(super) fn take_over(is_here: impl Fn(u64, span::Name) -> bool) -> Option<Arc<Names>> {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let known = |entry: &Entry| {
        let (id, name) = (entry.id.load(Ordering::Acquire), entry.name.load(Ordering::Acquire));
        (id != 0 && name != 0).then_some((id, name))
    };
    let ours = |names: &Arc<Names>| {
        names.entries.iter().filter_map(known).any(|(id, name)| is_here(id, name))
    };
    let at = left.iter().rposition(ours)?;
    let names = left.remove(at);
    drop(left);
    for (id, name) in names.entries.iter().filter_map(known) {
        if !is_here(id, name) {
            names.remove(id);
            span::give_up(name);
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_until_they_are_removed() {
        let names = Names::default();
        assert_eq!(names.get(1), Err(false));
        for id in 1..1000 {
            assert!(names.insert(id, id * 10));
        }
        for id in 1..1000 {
            assert_eq!(names.get(id), Ok(id * 10));
            names.remove(id);
            assert_eq!(names.get(id), Err(false));
        }
    }

    #[test]
    fn where_there_is_no_room_it_says_so() {
        let names = Names::default();
        let kept = (1..200_000).filter(|id| names.insert(*id, 7)).count();
        assert!(kept > ENTRIES / 2 && kept <= ENTRIES);
        assert_eq!(names.get(u64::MAX), Err(true));
    }
}
