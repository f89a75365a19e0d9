//! The recorder's name of each span of a registry.
//!
//! A registry keeps what layers want to know of a span in a map on the heap, behind a lock; that alone
//! takes longer than to record the span. So names lie in a table of fixed size, beside it. Where that
//! is full, the registry's own place is used.
//!
//! # Synchronization
//!
//! An entry is taken by a compare-and-swap on its id, by who makes the span. Nobody else knows the id
//! before that is done, and the registry gives it to no other span before it was removed. The number
//! of a span is handed from thread to thread by whoever shares it; that orders the rest.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many entries there are.
const ENTRIES: usize = 1 << 14;
/// How many entries one may lie in: two cache lines.
const PROBES: usize = 8;

/// See the module.
pub(super) struct Names {
    entries: Box<[Entry]>,
    /// Whether there was no room for one, ever.
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
        let hash = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let start = hash as usize % (ENTRIES / PROBES) * PROBES;
        &self.entries[start..start + PROBES]
    }

    /// Keeps the name of a span. Says whether there was room.
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

    /// The name of a span. The error says whether it may be elsewhere.
    #[inline]
    pub(super) fn get(&self, id: u64) -> Result<u64, bool> {
        let found = self.at(id).iter().find(|entry| entry.id.load(Ordering::Acquire) == id);
        match found {
            Some(entry) => Ok(entry.name.load(Ordering::Acquire)),
            None => Err(self.overflowed.load(Ordering::Acquire)),
        }
    }

    /// Forgets a span.
    #[inline]
    pub(super) fn remove(&self, id: u64) {
        if let Some(entry) = self.at(id).iter().find(|e| e.id.load(Ordering::Acquire) == id) {
            entry.name.store(0, Ordering::Relaxed);
            entry.id.store(0, Ordering::Release);
        }
    }
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
