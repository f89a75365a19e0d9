//! Limits how many stacks of one kind are taken a second, for kinds that a service may have any number of, like panics.
//! Each stack costs its thread microseconds.
//!
//! # Synchronization
//!
//! A budget is one word: the current second, and how many stacks were taken in it. It orders nothing, so all accesses
//! are relaxed. Threads that take stacks at the same time share one count.

#![forbid(unsafe_code)]

use crate::os::clock;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Budget {
    a_second: AtomicU64,
    /// `second << 20 | count`.
    taken: AtomicU64,
    refused: AtomicU64,
}

const COUNT_BITS: u32 = 20;

impl Budget {
    pub(crate) const fn new(a_second: u32) -> Self {
        let a_second = AtomicU64::new(a_second as u64);
        Self { a_second, taken: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// From now on there are so many a second.
    pub(crate) fn set(&self, a_second: u32) {
        self.a_second.store(a_second.into(), Ordering::Relaxed);
    }

    /// Whether one more may be taken now. Else that is counted.
    pub(crate) fn take(&self) -> bool {
        self.take_at(clock::monotonic().0 / 1_000_000_000)
    }

    fn take_at(&self, second: u64) -> bool {
        let next = |taken: u64| {
            let count = if taken >> COUNT_BITS == second { taken % (1 << COUNT_BITS) } else { 0 };
            let most = self.a_second.load(Ordering::Relaxed).min((1 << COUNT_BITS) - 1);
            (count < most).then_some(second << COUNT_BITS | (count + 1))
        };
        let is_within = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok();
        if !is_within {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        is_within
    }

    /// How many were not taken.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_are_taken_and_those_beyond_are_counted() {
        let budget = Budget::new(3);
        let taken = |second| (0..10).filter(|_| budget.take_at(second)).count();
        assert_eq!([taken(7), taken(7), taken(8), taken(100)], [3, 0, 3, 3]);
        assert_eq!(budget.refused(), 31);
    }
}
