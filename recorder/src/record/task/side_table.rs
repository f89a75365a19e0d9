//! A table beside the tasks' places, with something of each task by the same index: address space for as many tasks as
//! can be, of which only what is used becomes memory.
//!
//! # Synchronization
//!
//! The mapping is published once (release) and never unmapped. `committed` only grows, after the memory is there: who
//! sees an index below it (acquire) may use the item.

use crate::os::mmap;
use crate::record::task::TASKS;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Items become memory for so many tasks at once.
const PIECE: u32 = 2048;

/// See the module. All zeroes must be a valid item, and only atomics change one.
pub(crate) struct SideTable<T> {
    /// Reserved for as many tasks as can be, or null.
    items: AtomicPtr<T>,
    /// For how many tasks it is memory.
    committed: AtomicU32,
}

impl<T> SideTable<T> {
    pub(crate) const fn new() -> Self {
        Self { items: AtomicPtr::new(std::ptr::null_mut()), committed: AtomicU32::new(0) }
    }

    /// Reserves address space, unless that was done before; a sixteenth of what is left of it at most. Returns whether
    /// there is any. Called under the lock of `start`.
    pub(crate) fn establish(&self) -> bool {
        if !self.items.load(Ordering::Relaxed).is_null() {
            return true;
        }
        let length = TASKS.capacity() as usize * size_of::<T>();
        if mmap::room_left().is_some_and(|left| length > left / 16) {
            return false;
        }
        match mmap::reserved(length) {
            Ok(mapping) => {
                self.items.store(mapping.cast(), Ordering::Release);
                true
            }
            Err(_) => false,
        }
    }

    /// Whether a task may have anything in it.
    pub(crate) fn is_used(&self) -> bool {
        self.committed.load(Ordering::Acquire) > 0
    }

    /// The item of the task with this index, if it is memory.
    #[inline(always)]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let is_memory = index < self.committed.load(Ordering::Acquire);
        // SAFETY: the mapping is as long as that and never unmapped; zeroes are valid, and only atomics change them.
        is_memory.then(|| unsafe { &*self.items.load(Ordering::Relaxed).add(index as usize) })
    }

    /// As [`get`](Self::get), after making it memory.
    #[cold]
    pub(crate) fn commit(&self, index: u32) -> Option<&T> {
        let start = self.items.load(Ordering::Acquire);
        let capacity = TASKS.capacity();
        if start.is_null() || index >= capacity {
            return None;
        }
        let from = self.committed.load(Ordering::Relaxed);
        let to = (index + 1).next_multiple_of(PIECE).min(capacity);
        if from < to {
            let length = (to - from) as usize * size_of::<T>();
            if !mmap::commit(start.wrapping_add(from as usize).cast(), length) {
                return None;
            }
            self.committed.fetch_max(to, Ordering::AcqRel);
        }
        self.get(index)
    }

    /// Returns the memory of so many items from this index on: whole pages, which then read as zeroes.
    pub(crate) fn give_back(&self, index: u32, count: u32) {
        let first = self.items.load(Ordering::Relaxed).wrapping_add(index as usize);
        mmap::give_back(first.cast(), count as usize * size_of::<T>());
    }
}
