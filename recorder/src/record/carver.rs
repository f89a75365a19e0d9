//! Reclaiming a generation for a block, and which blocks a carver must then step over.
//!
//! A writer that is pre-empted inside an event may stay there for any length of time. Then it continues to
//! write to its block, and may carve another one. Its generation is reclaimed all the same when the space is
//! needed: the newest events are worth more. So only that one block must be protected from others.
//!
//! # Synchronization
//!
//! * No thread enters a generation once a later one is published *and* a barrier was issued after that (see
//!   `gate`). `barred` says up to which generation this holds; it is stored with release after the barrier. A
//!   thread that reclaims a generation issues the barrier, unless another thread has.
//! * `pinned_until` is raised (release) before the tail. So a thread that sees the new tail also sees
//!   `pinned_until`, and checks all slots before it writes past the old tail. A slot whose owner has left, or
//!   has adopted a later generation (acquire; see [`Gate::is_past`](crate::protocol::gate::Gate::is_past)),
//!   pins nothing there, and never will.
//! * A pin is stored before the block is carved, and released by the compare-and-swap on the ring's head;
//!   carvers load the head with acquire. The pin stays while its owner writes to the block. It changes when
//!   the owner has given the block up: a thread that sees the change (acquire) sees everything that was
//!   written there.
//! * Blocks at or after the tail need no pin: no thread carves there.
//! * A carver that has checked all slots for a `pinned_until` notes the few that were not past it
//!   ([`Stuck`]). Later carvers check those alone, because a slot that was seen past it stays past it. So all
//!   slots are checked once for each reclaimed generation, not once for each block.

use crate::os::barrier::Barrier;
use crate::os::signal_chain::Errno;
use crate::protocol::ring::Keeper;
use crate::record::control::Control;
use crate::record::slot::Slot;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// The block that a thread is filling, including the padding before it, as positions.
pub(crate) struct Pin {
    start: AtomicU64,
    end: AtomicU64,
}

impl Pin {
    pub(crate) const fn new() -> Self {
        Self { start: AtomicU64::new(0), end: AtomicU64::new(0) }
    }

    /// Everything written to the previous block happens before a load that sees this.
    fn set(&self, range: Range<u64>) {
        self.start.store(range.start, Ordering::Release);
        self.end.store(range.end, Ordering::Release);
    }

    /// Pins nothing: everything written to the block happens before a load that sees this.
    pub(crate) fn clear(&self) {
        self.end.store(0, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.end.load(Ordering::Acquire) != 0
    }

    /// Both words of one block. If the owner keeps moving on, the last block that was seen: the owner has
    /// given it up.
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

/// The slots whose owners were still inside when a carver checked all slots, and the `pinned_until` for which
/// it did.
pub(crate) struct Stuck {
    /// The `pinned_until`; 0 while `slots` is being written. The same value may return later, with slots that
    /// are just as right.
    until: AtomicU64,
    /// Their indexes plus 1, two bytes each; 0 for none.
    slots: AtomicU64,
    is_written: AtomicBool,
}

/// The most slots that are noted. If there are more, every carver checks all slots.
const MOST_STUCK: usize = 4;

impl Stuck {
    pub(crate) const fn new() -> Self {
        Self {
            until: AtomicU64::new(0),
            slots: AtomicU64::new(0),
            is_written: AtomicBool::new(false),
        }
    }

    /// Notes that only these slots are not past `until`, unless another carver is just writing a note.
    fn note(&self, until: u64, stuck: &[u32]) {
        if stuck.len() > MOST_STUCK || self.is_written.swap(true, Ordering::Acquire) {
            return;
        }
        let fits = stuck.iter().all(|slot| *slot < u32::from(u16::MAX));
        // An older note never replaces a newer one.
        if fits && self.until.load(Ordering::Relaxed) <= until {
            let pack = |packed: u64, slot: &u32| packed << 16 | u64::from(slot + 1);
            self.until.store(0, Ordering::Relaxed);
            // A reader that sees one of these slots sees the 0, too.
            fence(Ordering::Release);
            self.slots.store(stuck.iter().fold(0, pack), Ordering::Relaxed);
            // What this carver saw of the slots happens before a reader of the note (acquire) acts on it.
            self.until.store(until, Ordering::Release);
        }
        self.is_written.store(false, Ordering::Release);
    }

    /// The slots noted for this `until`, if a carver noted them.
    fn of(&self, until: u64) -> Option<impl Iterator<Item = u32> + use<>> {
        if self.until.load(Ordering::Acquire) != until {
            return None;
        }
        let slots = self.slots.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let is_whole = self.until.load(Ordering::Relaxed) == until;
        let each = (0..MOST_STUCK).map(move |at| (slots >> (16 * at)) as u16);
        is_whole.then(|| each.filter(|slot| *slot != 0).map(|slot| u32::from(slot) - 1))
    }
}

/// The carving thread: a writer in its generation, or the collector on behalf of one.
pub(crate) struct Carver {
    pub(crate) control: &'static Control,
    /// The writer's slot.
    pub(crate) slot: Option<&'static Slot>,
    /// Neither this generation nor a later one is reclaimed for it.
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
            // This is the host's thread, which may be in the middle of anything.
            let _errno = Errno::keep();
            if Barrier::of(control.mode()).issue().is_err() {
                // A filter of this thread, or of the whole process: in the latter case the collector finds
                // that out.
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
        let mut behind = None;
        // Whether the slot's owner is past it. If not, its block may be in the way.
        let mut look = |slot: &Slot| {
            if slot.gate.is_past(until + 1) {
                return true;
            }
            // A carving thread has given up its previous block.
            let is_own = self.slot.is_some_and(|own| std::ptr::eq(own, slot));
            if !is_own && behind.is_none() {
                behind = overlap(&range, &slot.pin.get(), capacity, tail);
            }
            false
        };
        let mut are_past = true;
        if let Some(stuck) = control.stuck.of(until) {
            for index in stuck {
                are_past &= look(control.slot(index));
            }
        } else {
            let (mut stuck, mut many) = ([0; MOST_STUCK], 0);
            for (index, slot) in control.slots().enumerate() {
                if !look(slot) {
                    if let Some(place) = stuck.get_mut(many) {
                        *place = index as u32;
                    }
                    many += 1;
                }
            }
            are_past &= many == 0;
            if let Some(stuck) = stuck.get(..many) {
                control.stuck.note(until, stuck);
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

/// Where a pinned block ends that overlaps a range, in a ring of this capacity: as a position after the
/// range's start.
fn overlap(range: &Range<u64>, pin: &Range<u64>, capacity: u64, tail: u64) -> Option<u64> {
    if pin.start >= tail.min(range.start) || pin.is_empty() {
        return None;
    }
    let length = pin.end - pin.start;
    // How far the range begins after the pin, and how far the pin begins after the range.
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

    #[test]
    fn who_is_stuck_is_told_for_the_generation_that_was_looked_at_alone() {
        let stuck = Stuck::new();
        let of = |until| stuck.of(until).map(|slots| slots.collect::<Vec<_>>());
        assert_eq!(of(7), None);
        stuck.note(7, &[0, 8191, 3]);
        assert_eq!(
            of(7).map(|mut slots| {
                slots.sort_unstable();
                slots
            }),
            Some(vec![0, 3, 8191])
        );
        assert_eq!((of(6), of(8)), (None, None));
        stuck.note(9, &[]);
        assert_eq!((of(7), of(9)), (None, Some(vec![])));
        // A carver that was stopped for long does not replace a newer note.
        stuck.note(8, &[1]);
        // Too many slots, or one beyond the field's range, are not noted.
        stuck.note(10, &[1, 2, 3, 4, 5]);
        stuck.note(11, &[u32::from(u16::MAX)]);
        assert_eq!((of(8), of(9), of(10), of(11)), (None, Some(vec![]), None, None));
    }

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
