//! Who may give up a generation, and which blocks must be stepped over then.
//!
//! A writer that was pre-empted inside of an event may stay there for as long as it likes, and then writes
//! on in its block, and perhaps carves another one. Its generation is given up all the same when its space
//! is needed: the newest events are worth more. So what has to be kept from others is that block alone.
//!
//! # Synchronization
//!
//! * Nobody enters a generation any more once a later one is published *and* a barrier was issued after
//!   that (see `gate`): `barred` says up to which one, and is stored with release after the barrier. Who
//!   gives up a generation issues it, if nobody has.
//! * `pinned_until` is raised (release) before the tail is. So who sees the new tail sees it, and looks at
//!   all slots before writing behind that. A slot whose owner has left, or has adopted a later generation
//!   (acquire; see [`Gate::is_past`](crate::gate::Gate::is_past)), pins nothing there, and never will.
//! * A pin is stored before the block is carved, with release by the compare-and-swap on the ring's head,
//!   and carvers load the head with acquire. While its owner writes to the block, the pin stands. It
//!   changes when the owner has given the block up: whoever sees the change (acquire) sees all that was written
//!   there.
//! * Blocks at or behind the tail need no pin: nobody carves there.

use crate::barrier::Barrier;
use crate::control::Control;
use crate::ring::Keeper;
use crate::sigaction::Errno;
use crate::slot::Slot;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the block lies that somebody fills, and the padding before it, as positions.
pub(crate) struct Pin {
    start: AtomicU64,
    end: AtomicU64,
}

impl Pin {
    pub(crate) const fn new() -> Self {
        Self { start: AtomicU64::new(0), end: AtomicU64::new(0) }
    }

    /// All that was written to the block before happens before whoever sees this.
    fn set(&self, range: Range<u64>) {
        self.start.store(range.start, Ordering::Release);
        self.end.store(range.end, Ordering::Release);
    }

    /// Nothing is pinned by it: all that was written to the block happens before whoever sees this.
    pub(crate) fn clear(&self) {
        self.end.store(0, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.end.load(Ordering::Acquire) != 0
    }

    /// Both words of one block. Of an owner that goes on all the time, the last that was seen: it has given
    /// up what it had.
    fn get(&self) -> Range<u64> {
        let mut start = self.start.load(Ordering::Acquire);
        for _ in 0..100 {
            let end = self.end.load(Ordering::Acquire);
            let again = self.start.load(Ordering::Acquire);
            if again == start {
                return start..end;
            }
            start = again;
        }
        start..self.end.load(Ordering::Acquire)
    }
}

/// Who carves: a writer in its generation, or the collector for one.
pub(crate) struct Carver {
    pub(crate) control: &'static Control,
    /// That of the writer.
    pub(crate) slot: Option<&'static Slot>,
    /// Neither this generation nor a later one is given up for it.
    pub(crate) generation: u64,
}

impl Keeper for Carver {
    fn close(&self, generation: u64) -> bool {
        let control = self.control;
        if generation >= self.generation {
            return false;
        }
        let is_settled = control.settled.load(Ordering::Acquire) >= generation;
        if is_settled && !control.collector_pin.is_set() {
            return true;
        }
        let published = control.generation.load(Ordering::Acquire);
        if !is_settled && published <= generation {
            return false;
        }
        if !is_settled && control.barred.load(Ordering::Acquire) <= generation {
            // This is the host's thread, in the middle of whatever it does.
            let _errno = Errno::keep();
            if Barrier::of(control.mode()).issue().is_err() {
                // By a filter of this thread's own, or of all: then the collector finds that out.
                control.refused_barriers.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            control.barred.fetch_max(published, Ordering::Release);
        }
        control.pinned_until.fetch_max(generation, Ordering::Release);
        true
    }

    fn pin(&self, range: Range<u64>) {
        match self.slot {
            Some(slot) => slot.pin.set(range),
            None => self.control.collector_pin.set(range),
        }
    }

    #[inline]
    fn pinned(&self, range: Range<u64>, tail: u64) -> Option<u64> {
        let until = self.control.pinned_until.load(Ordering::Acquire);
        if until == 0 { None } else { self.pinned_by(until, range, tail) }
    }
}

impl Carver {
    #[cold]
    fn pinned_by(&self, until: u64, range: Range<u64>, tail: u64) -> Option<u64> {
        let control = self.control;
        let capacity = control.capacity.load(Ordering::Relaxed);
        let mut are_past = true;
        let mut behind = None;
        for slot in control.slots() {
            if slot.gate.is_past(until + 1) {
                continue;
            }
            are_past = false;
            // Who carves has given up what it had.
            let is_own = self.slot.is_some_and(|own| std::ptr::eq(own, slot));
            if !is_own && behind.is_none() {
                behind = overlap(&range, &slot.pin.get(), capacity, tail);
            }
        }
        if self.slot.is_some() && control.collector_pin.is_set() {
            are_past = false;
            behind = behind.or(overlap(&range, &control.collector_pin.get(), capacity, tail));
        }
        if are_past {
            control.settled.fetch_max(until, Ordering::Release);
            let _ = control.pinned_until.compare_exchange(
                until,
                0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
        behind
    }
}

/// Where a pinned block ends that lies in the way of a range, in a ring of this capacity: as a position
/// from the range on.
fn overlap(range: &Range<u64>, pin: &Range<u64>, capacity: u64, tail: u64) -> Option<u64> {
    if pin.start >= tail.min(range.start) || pin.is_empty() {
        return None;
    }
    let length = pin.end - pin.start;
    // How far the range begins behind the pin's begin, and how far this begins behind that.
    let after = (range.start - pin.start) % capacity;
    if after < length {
        return Some(range.start + length - after);
    }
    let before = capacity - after;
    (before < range.end - range.start).then(|| range.start + before + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAPACITY: u64 = 64;

    fn places(range: &Range<u64>) -> Vec<u64> {
        range.clone().map(|position| position % CAPACITY).collect()
    }

    proptest! {
        #[test]
        fn what_is_pinned_is_stepped_over(
            tail in 64_u64..600,
            used in 0_u64..32,
            length in 1_u64..16,
            pinned in 1_u64..20,
            back in 1_u64..512,
        ) {
            let start = tail + used;
            let range = start..start + length;
            let from = tail.saturating_sub(back);
            let pin = from..(from + pinned).min(tail);
            let shared = places(&range).iter().any(|place| places(&pin).contains(place));
            let found = overlap(&range, &pin, CAPACITY, tail);
            prop_assert_eq!(found.is_some(), shared);
            if let Some(end) = found {
                prop_assert_eq!(end % CAPACITY, pin.end % CAPACITY);
                prop_assert!(end > start && end - start <= CAPACITY);
            }
            prop_assert_eq!(overlap(&range, &(tail..tail + 8), CAPACITY, tail), None);
        }
    }
}
