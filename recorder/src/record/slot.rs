//! Slots: a thread's place in the recorder.
//!
//! A slot belongs to one thread at a time, its owner. Only the owner stores to it, except that a
//! signal handler on the same thread may count re-entrant losses. A thread that ends returns its
//! slot, and the next owner continues in the same block, where a record switches the thread. So ten
//! thousand short-lived threads a second reuse a few blocks.
//!
//! # Synchronization
//!
//! Other threads read some of a slot: the [`Gate`], the loss counts, and, while the owner is
//! silent, the thread's identity and the stack of its open regions. These are relaxed atomics;
//! afterwards, [`Gate::entered`] tells whether the values read belong together. The free slots form
//! a [Treiber stack] whose head carries a tag, to detect a slot that was popped and pushed again in
//! between.
//!
//! [Treiber stack]: https://dominoweb.draco.res.ibm.com/58319a2ed2b1078985257003004617ef.html

use crate::arena::block_header::RawHeader;
use crate::os;
use crate::protocol::gate::Gate;
use crate::record::carver::Pin;
use crate::record::control::Control;
use crate::record::nesting::{Deep, Entry};
use crate::record::site::Site;
use crate::record::slab::Cache;
use crate::record::task::TaskEntry;
use crate::record::task::reasons::Reasons;
use crate::record::worker::WorkerPlace;
use crate::stack::await_chain::KnownStack;
use crate::sync;
use lookback_snapshot::wire::Loss;
use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// How many open regions of a thread are in its slot and are restated; deeper ones are only
/// counted.
pub(crate) const MAX_REGIONS: usize = 64;
/// How many nested polls of a thread are recorded. Deeper ones are not.
pub(crate) const MAX_POLLS: usize = 16;
/// How many entered spans of a thread are in its slot and are restated; deeper ones are only
/// counted.
pub(crate) const MAX_SPANS: usize = 64;

/// See the module. All zeroes are a valid slot.
#[repr(C, align(128))]
pub(crate) struct Slot {
    pub(crate) gate: Gate,
    /// The block being filled, which starts with its header; null if there is none.
    pub(crate) block: Cell<*mut u8>,
    /// How many bytes of records the block can hold.
    pub(crate) room: Cell<u32>,
    /// The committed part of the block: the word in its header.
    pub(crate) committed: OwnWord,
    /// Whether the slot must be stated before its next record. Then it has no room.
    pub(crate) must_state: Cell<bool>,
    /// The cause of the last loss in `lost_here`.
    pub(crate) lost_cause: Cell<u8>,
    /// The time of the last record.
    pub(crate) last: Cell<u64>,

    /// The span that the thread created last, if nothing was recorded since; 0 for none.
    pub(crate) created_last: Cell<u64>,
    /// The span that the thread exited last, if a reader knows which; 0 for none.
    pub(crate) exited_last: Cell<u64>,
    /// The number of spans that the thread is inside.
    pub(crate) span_depth: AtomicU32,
    /// The number of spans that it entered beyond those, for which there was no room.
    pub(crate) spans_beyond: Cell<u32>,
    /// Whether a reader may not know all spans that the thread is inside: it entered more than
    /// are restated, and has not exited all since.
    pub(crate) spans_unknown: Cell<bool>,
    pub(crate) deep_spans: Deep,
    pub(crate) deep_regions: Deep,
    /// The key of the last region begun.
    pub(crate) last_region: Cell<u64>,
    /// The number of polls that the thread is inside.
    pub(crate) poll_depth: AtomicU32,
    /// What the tasks being polled are about to wait for, as far as known.
    pub(crate) reasons: Reasons,
    /// Which worker the thread is.
    pub(crate) worker: WorkerPlace,
    pub(crate) free_tasks: Cache,
    pub(crate) free_spans: Cache,

    /// The number of the next block's first event.
    pub(crate) next_event: Cell<u64>,
    /// The number of blocks opened in this generation, except those that were given up empty.
    pub(crate) sequence: Cell<u32>,
    /// The size of the next block.
    pub(crate) next_block: Cell<u32>,
    /// The number of bytes used in this generation, except in the block being filled.
    pub(crate) used: Cell<u32>,
    /// Events lost since the last block and not stated yet.
    pub(crate) lost_here: Cell<u64>,
    lost: [AtomicU64; Loss::ALL.len() + 1],
    /// The values of `lost` when the owner adopted its newest generation.
    lost_before: [AtomicU64; Loss::ALL.len() + 1],
    /// The block that the slot fills.
    pub(crate) pin: Pin,
    /// Events in completed blocks, times two; plus 1 while a block is being given up.
    written: AtomicU64,

    /// The thread's number; 0 while the slot is free.
    pub(crate) thread: sync::AtomicU64,
    /// The operating system's id of the thread.
    pub(crate) os_thread: sync::AtomicU64,
    name: NameCell,
    next_free: AtomicU32,
    /// The owner's stack pointer when the fast path refused it: see `abandoned`.
    pub(crate) refused_at: Cell<u64>,
    /// The number of open regions.
    pub(crate) depth: AtomicU32,
    pub(crate) regions: [OpenRegion; MAX_REGIONS],
    /// The tasks being polled, outermost first.
    pub(crate) polls: [AtomicPtr<TaskEntry>; MAX_POLLS],
    /// The stack pointer in the frame of each of these polls; 0 if there is none.
    pub(crate) poll_frames: [Cell<u64>; MAX_POLLS],
    /// Where the thread's stack is known to be memory.
    pub(crate) known_stack: KnownStack,
    /// Which of them are closures that may block: one bit each.
    pub(crate) errands: AtomicU32,
    /// The spans that the thread is inside, outermost first.
    pub(crate) spans: [AtomicU64; MAX_SPANS],
}

/// A word that only the owner stores to and other threads may load.
#[repr(transparent)]
pub(crate) struct OwnWord(AtomicU64);

impl OwnWord {
    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// An open region.
#[repr(C)]
pub(crate) struct OpenRegion {
    pub(crate) site: AtomicPtr<Site>,
    pub(crate) began: AtomicU64,
    /// Identifies the region to its guard; unique among all regions of the slot.
    pub(crate) key: AtomicU64,
}

impl Entry for OpenRegion {
    type Value = (*mut Site, u64, u64);

    #[inline(always)]
    fn get(&self) -> Self::Value {
        let (site, began) = (self.site.load(Ordering::Relaxed), self.began.load(Ordering::Relaxed));
        (site, began, self.key.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn set(&self, (site, began, key): Self::Value) {
        self.site.store(site, Ordering::Relaxed);
        self.began.store(began, Ordering::Relaxed);
        self.key.store(key, Ordering::Relaxed);
    }
}

// SAFETY: only the owner accesses the cells; everything else is atomic.
unsafe impl Sync for Slot {}

impl Slot {
    /// Counts a loss. Adds atomically, because a signal may interrupt the owner.
    #[cold]
    pub(crate) fn count_lost(&self, cause: Loss) {
        self.lost[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self, cause: Loss) -> u64 {
        self.lost[cause as usize].load(Ordering::Relaxed)
    }

    /// Ends the current block, if there is one, and returns what was committed of it.
    pub(crate) fn end_block(&self) -> Option<u64> {
        if self.room.replace(0) == 0 {
            return None;
        }
        let committed = self.give_up_block();
        if committed == 0 {
            // An empty block does not count for readers: the next block gets its number.
            self.sequence.set(self.sequence.get().saturating_sub(1));
        }
        self.next_event.set(self.next_event.get() + (committed >> 32));
        Some(committed)
    }

    /// Gives up the owner's block, and returns what was committed of it.
    pub(crate) fn give_up_block(&self) -> u64 {
        let (written, committed) = (self.written.load(Ordering::Relaxed), self.committed.get());
        self.written.store(written + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.committed.set(0);
        self.written.store(written + ((committed >> 32) << 1), Ordering::Release);
        self.pin.clear();
        committed
    }

    /// Gives up the owner's block, of which `committed` is committed, after a first attempt may
    /// have been interrupted for good.
    pub(crate) fn give_up_block_again(&self, committed: u64) {
        let written = self.written.load(Ordering::Relaxed);
        let is_half_done = !written.is_multiple_of(2);
        if is_half_done {
            self.written.store(written - 1, Ordering::Relaxed);
        }
        if is_half_done || self.committed.get() != 0 {
            self.committed.set(committed);
        }
        self.give_up_block();
    }

    /// The number of events ever recorded in this slot.
    pub(crate) fn recorded(&self) -> u64 {
        let mut recorded = 0;
        // Does not wait for an owner that is stopped while it gives up a block.
        for _ in 0..100 {
            let written = self.written.load(Ordering::Acquire);
            recorded = (written >> 1) + (self.committed.get() >> 32);
            fence(Ordering::Acquire);
            if written & 1 == 0 && self.written.load(Ordering::Relaxed) == written {
                break;
            }
        }
        recorded
    }

    /// The owner is about to adopt a new generation: saves the losses up to now.
    pub(crate) fn mark_losses(&self) {
        for (before, lost) in self.lost_before.iter().zip(&self.lost) {
            before.store(lost.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The losses up to the end of `generation`. Valid while only the next generation can be newer.
    pub(crate) fn lost_until(&self, generation: u64, cause: Loss) -> u64 {
        let lost = self.lost(cause);
        // As with a note of the slot's state: if the owner has not entered the next generation yet,
        // it has lost nothing in it.
        fence(Ordering::Acquire);
        if self.gate.entered() <= generation {
            return lost;
        }
        self.lost_before[cause as usize].load(Ordering::Relaxed)
    }

    /// The base time of the block being filled; there must be one.
    pub(crate) fn base(&self) -> u64 {
        // SAFETY: there is a block, and the base time in its header does not change.
        unsafe { RawHeader::at(self.block.get()) }.base()
    }

    /// Forgets the slot's thread, which is gone.
    pub(crate) fn forget_thread(&self) {
        self.thread.store(0, Ordering::Relaxed);
        self.open_regions().clear();
        self.poll_depth.store(0, Ordering::Relaxed);
        self.known_stack.forget();
        self.errands.store(0, Ordering::Relaxed);
        self.reasons.forget_from(0);
        self.entered_spans().clear();
        self.spans_beyond.set(0);
        self.spans_unknown.set(false);
        self.worker.clear();
        self.forget_last();
    }

    /// Forgets the spans of the preceding records, which a reader will not know.
    pub(crate) fn forget_last(&self) {
        self.created_last.set(0);
        self.exited_last.set(0);
    }

    /// The thread's name: the operating system's, of at most 15 bytes, or the name given by the
    /// program.
    pub(crate) fn name(&self) -> ThreadName {
        self.name.get()
    }

    pub(crate) fn set_name(&self, name: ThreadName) {
        self.name.set(name);
    }
}

/// A name that one thread sets and others read. Readers must find out whether the parts they read
/// belong together.
#[derive(Default)]
pub(crate) struct NameCell([AtomicU64; MAX_NAME / 8]);

impl NameCell {
    pub(crate) fn get(&self) -> ThreadName {
        let mut bytes = [0; MAX_NAME];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(&self.0) {
            chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        ThreadName(bytes)
    }

    pub(crate) fn set(&self, name: ThreadName) {
        for (chunk, word) in name.0.chunks_exact(8).zip(&self.0) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(chunk);
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
    }
}

/// The most bytes of a thread's or a worker's name.
pub(crate) const MAX_NAME: usize = 64;

/// The name of a thread or a worker, padded with zeroes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadName([u8; MAX_NAME]);

impl std::fmt::Debug for ThreadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl ThreadName {
    /// No name.
    pub(crate) const NONE: Self = Self([0; MAX_NAME]);

    /// The given name, as far as it fits. Zero bytes are dropped, because they would end it.
    pub(crate) fn given(name: &str) -> Self {
        let mut given = Self::NONE;
        let mut end = 0;
        for c in name.chars().filter(|c| *c != '\0') {
            let Some(room) = given.0.get_mut(end..end + c.len_utf8()) else { break };
            c.encode_utf8(room);
            end += c.len_utf8();
        }
        given
    }

    /// The kernel's name: text, with a question mark for each byte that is not.
    pub(crate) fn of_kernel(bytes: [u8; 16]) -> Self {
        let mut name = Self::NONE;
        name.0[..16].copy_from_slice(&os::thread::whole_characters(bytes));
        name
    }

    /// The name as text, up to the first byte that is not.
    pub(crate) fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(MAX_NAME);
        match std::str::from_utf8(&self.0[..length]) {
            Ok(name) => name,
            Err(error) => std::str::from_utf8(&self.0[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}

impl Control {
    /// Whether few slots without an owner are left.
    pub(crate) fn slots_are_scarce(&self) -> bool {
        let used = self.slots_used.load(Ordering::Relaxed);
        used > self.slots_in_all() / 4 * 3 && self.free_slots.load(Ordering::Relaxed) as u32 == 0
    }

    /// Takes a slot without an owner.
    pub(crate) fn take_slot(&self) -> Option<&Slot> {
        let mut head = self.free_slots.load(Ordering::Acquire);
        while head as u32 != 0 {
            let slot = self.slot(head as u32 - 1);
            let next = u64::from(slot.next_free.load(Ordering::Relaxed));
            let tagged = (head >> 32).wrapping_add(1) << 32 | next;
            match self.free_slots.compare_exchange_weak(
                head,
                tagged,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(slot),
                Err(seen) => head = seen,
            }
        }
        // Commit the memory first: threads that load the count access all slots.
        let fresh = self.slots_used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
            (used < self.slots_in_all() && self.commit_slot(used)).then_some(used + 1)
        });
        fresh.ok().map(|index| self.slot(index))
    }

    /// Returns a slot.
    pub(crate) fn give_slot(&self, slot: &Slot) {
        let index = self.index_of(slot);
        let mut head = self.free_slots.load(Ordering::Relaxed);
        loop {
            slot.next_free.store(head as u32, Ordering::Relaxed);
            let tagged = (head >> 32).wrapping_add(1) << 32 | u64::from(index + 1);
            match self.free_slots.compare_exchange_weak(
                head,
                tagged,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_given_is_cut_between_characters() {
        let given = |name: &str| ThreadName::given(name).as_str().to_owned();
        assert_eq!(given("arbiter-0"), "arbiter-0");
        assert_eq!(given(""), "");
        assert_eq!(given("a\0b"), "ab");
        assert_eq!(given(&"x".repeat(100)), "x".repeat(64));
        assert_eq!(given(&("x".repeat(63) + "ä")), "x".repeat(63));
        assert_eq!(given(&("x".repeat(62) + "ää")), "x".repeat(62) + "ä");
    }

    #[test]
    fn a_thread_name_that_is_no_utf_8_keeps_what_is_text() {
        let told = |name: &[u8]| {
            let mut bytes = [0; 16];
            bytes[..name.len()].copy_from_slice(name);
            ThreadName::of_kernel(bytes).as_str().to_owned()
        };
        assert_eq!(told(b"worker"), "worker");
        assert_eq!(told(b"caf\xe9 7"), "caf? 7", "Latin 1");
        assert_eq!(told(b"\xff\xfeab"), "??ab");
        assert_eq!(told("ärger".as_bytes()), "ärger");
        // The kernel cuts after fifteen bytes, even in the middle of a character.
        assert_eq!(told("0123456789abcdé".as_bytes().split_at(15).0), "0123456789abcd");
        assert_eq!(told(b""), "");
    }
}
