//! Slots: a thread's place in the recorder.
//!
//! A slot belongs to one thread at a time, its owner, who alone stores to it (but for the count of
//! re-entrant losses, which a signal handler on the same thread may raise in between). A thread that
//! ends gives its slot back, and the next one goes on in the same block: a record in the stream
//! switches the thread. So ten thousand short-lived threads a second reuse a few blocks.
//!
//! # Synchronization
//!
//! Other threads read of a slot: the [`Gate`], the counts of losses, and, while the owner is silent,
//! the thread's identity and the stack of its open regions. Those are relaxed atomics; whether what
//! was read belongs together is decided by [`Gate::entered`] afterwards. The free slots are a
//! [Treiber stack] whose head carries a tag, so that a slot which was popped and pushed again in
//! between is noticed.
//!
//! [Treiber stack]: https://dominoweb.draco.res.ibm.com/58319a2ed2b1078985257003004617ef.html

use crate::control::Control;
use crate::deep::{Deep, Entry};
use crate::gate::Gate;
use crate::groups::Cache;
use crate::carver::Pin;
use crate::reasons::Reasons;
use crate::site::Site;
use crate::sync;
use crate::task::Place;
use crate::worker::WorkerPlace;
use lookback_snapshot::wire::Loss;
use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// How many open regions of a thread lie in its slot and are restated; deeper ones are counted.
pub(crate) const MAX_REGIONS: usize = 64;
/// How many polls of a thread, one inside of the other, are recorded. Deeper ones are not.
pub(crate) const MAX_POLLS: usize = 16;
/// How many spans that a thread is inside of lie in its slot and are restated; deeper ones are
/// counted.
pub(crate) const MAX_SPANS: usize = 64;

/// See the module. Zeroes are a valid slot.
#[repr(C, align(128))]
pub(crate) struct Slot {
    pub(crate) gate: Gate,
    /// The block being filled, null if there is none; its header is at the front.
    pub(crate) block: Cell<*mut u8>,
    /// How many bytes of records it takes.
    pub(crate) room: Cell<u32>,
    /// What is committed of the block: the word in its header.
    pub(crate) committed: OwnWord,
    /// The slot must be stated before its next record. It has no room then.
    pub(crate) must_state: Cell<bool>,
    /// Why what `lost_here` counts was lost: the last cause.
    pub(crate) lost_cause: Cell<u8>,
    /// The time of the last record.
    pub(crate) last: Cell<u64>,

    /// The span that the thread created last, if nothing was recorded of it since; 0 for none.
    pub(crate) created_last: Cell<u64>,
    /// The span that the thread left last, if a reader knows which; 0 for none.
    pub(crate) exited_last: Cell<u64>,
    /// How many spans the thread is inside of.
    pub(crate) span_depth: AtomicU32,
    /// How many it entered beyond those, for want of room.
    pub(crate) spans_beyond: Cell<u32>,
    /// A reader may not know all spans that the thread is inside of: more were entered than are
    /// restated, and not all were left since.
    pub(crate) spans_unknown: Cell<bool>,
    pub(crate) deep_spans: Deep,
    pub(crate) deep_regions: Deep,
    /// The key of the region that was begun last.
    pub(crate) last_region: Cell<u64>,
    /// How many polls the thread is in.
    pub(crate) poll_depth: AtomicU32,
    /// What the tasks being polled are about to wait for, as far as that is known.
    pub(crate) reasons: Reasons,
    /// Which worker the thread is.
    pub(crate) worker: WorkerPlace,
    pub(crate) free_tasks: Cache,
    pub(crate) free_spans: Cache,

    /// The number of the next block's first event.
    pub(crate) next_event: Cell<u64>,
    /// How many blocks were opened in this generation, without those that were given up empty.
    pub(crate) sequence: Cell<u32>,
    /// How large the next block is to be.
    pub(crate) next_block: Cell<u32>,
    /// How many bytes were used in this generation, without the block being filled.
    pub(crate) used: Cell<u32>,
    /// Events lost since the last block, not yet told in the stream.
    pub(crate) lost_here: Cell<u64>,
    lost: [AtomicU64; Loss::ALL.len() + 1],
    /// As `lost`, before the newest generation that the owner adopted.
    lost_before: [AtomicU64; Loss::ALL.len() + 1],
    /// The block that it fills.
    pub(crate) pin: Pin,
    /// Events in the blocks that it has filled, times two; 1 more while a block is being given up.
    written: AtomicU64,

    /// The thread's number, 0 while the slot is free.
    pub(crate) thread: sync::AtomicU64,
    /// The operating system's number of it.
    pub(crate) os_thread: sync::AtomicU64,
    name: NameCell,
    next_free: AtomicU32,
    /// Where on its stack the owner was when the ordinary way was closed to it: see `abandoned`.
    pub(crate) refused_at: Cell<u64>,
    /// How many regions are open.
    pub(crate) depth: AtomicU32,
    pub(crate) regions: [OpenRegion; MAX_REGIONS],
    /// The tasks being polled, outermost first.
    pub(crate) polls: [AtomicPtr<Place>; MAX_POLLS],
    /// Which of them are closures that may block: a bit each.
    pub(crate) errands: AtomicU32,
    /// The spans that the thread is inside of, outermost first.
    pub(crate) spans: [AtomicU64; MAX_SPANS],
}

/// A word to which the owner alone stores, and which others may load.
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
    /// What its guard knows it by: no other region of the slot ever had this key.
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

// SAFETY: the cells are touched by the owner alone; everything else is atomic.
unsafe impl Sync for Slot {}

impl Slot {
    /// Counts a loss of this slot. With an atomic addition: the owner may be interrupted in it.
    #[cold]
    pub(crate) fn count_lost(&self, cause: Loss) {
        self.lost[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self, cause: Loss) -> u64 {
        self.lost[cause as usize].load(Ordering::Relaxed)
    }

    /// The block that it fills, if there is one, gets no more. What was committed of it.
    pub(crate) fn end_block(&self) -> Option<u64> {
        if self.room.replace(0) == 0 {
            return None;
        }
        let committed = self.give_up_block();
        if committed == 0 {
            // A block that holds nothing does not count for readers: its number is the next one's.
            self.sequence.set(self.sequence.get().saturating_sub(1));
        }
        self.next_event.set(self.next_event.get() + (committed >> 32));
        Some(committed)
    }

    /// The owner gives up its block. What was committed of it.
    pub(crate) fn give_up_block(&self) -> u64 {
        let (written, committed) = (self.written.load(Ordering::Relaxed), self.committed.get());
        self.written.store(written + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.committed.set(0);
        self.written.store(written + ((committed >> 32) << 1), Ordering::Release);
        self.pin.clear();
        committed
    }

    /// The owner gives up its block, and may have been interrupted in that for good. `committed` is what is
    /// committed of it.
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

    /// How many events it has ever recorded.
    pub(crate) fn recorded(&self) -> u64 {
        let mut recorded = 0;
        // An owner that is stopped while it gives up a block is not waited for.
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

    /// The owner is about to adopt a new generation: what it has lost until now was lost before that.
    pub(crate) fn mark_losses(&self) {
        for (before, lost) in self.lost_before.iter().zip(&self.lost) {
            before.store(lost.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// What was lost up to the end of `generation`; asked when no newer one but the next can be.
    pub(crate) fn lost_until(&self, generation: u64, cause: Loss) -> u64 {
        let lost = self.lost(cause);
        // As with a note of the slot's state: if the owner is still not seen in the next generation,
        // it has lost nothing of this in it.
        fence(Ordering::Acquire);
        if self.gate.entered() <= generation {
            return lost;
        }
        self.lost_before[cause as usize].load(Ordering::Relaxed)
    }

    /// The base time of the block that is being filled; there must be one.
    pub(crate) fn base(&self) -> u64 {
        // SAFETY: there is a block, with a base time in its header that nobody changes.
        u64::from_le(unsafe { self.block.get().add(24).cast::<u64>().read() })
    }

    /// Forgets what the slot knows of its thread, which is gone.
    pub(crate) fn forget_thread(&self) {
        self.thread.store(0, Ordering::Relaxed);
        self.open_regions().clear();
        self.poll_depth.store(0, Ordering::Relaxed);
        self.errands.store(0, Ordering::Relaxed);
        self.reasons.forget_from(0);
        self.entered_spans().clear();
        self.spans_beyond.set(0);
        self.spans_unknown.set(false);
        self.worker.clear();
        self.forget_last();
    }

    /// Forgets what the records before this one were about: a reader will not know.
    pub(crate) fn forget_last(&self) {
        self.created_last.set(0);
        self.exited_last.set(0);
    }

    /// The thread's name: as the operating system has it, at most 15 bytes, or as it was given.
    pub(crate) fn name(&self) -> ThreadName {
        self.name.get()
    }

    pub(crate) fn set_name(&self, name: ThreadName) {
        self.name.set(name);
    }
}

/// A name that one thread sets and others read. Whether what was read belongs together is for them to
/// find out.
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

/// Names of threads and of workers have so many bytes at most.
pub(crate) const MAX_NAME: usize = 64;

/// A thread's name, or a worker's; zeroes follow if there is room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadName([u8; MAX_NAME]);

impl std::fmt::Debug for ThreadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl ThreadName {
    /// None.
    pub(crate) const NONE: Self = Self([0; MAX_NAME]);

    /// The name as it was given, as much as there is room for. Without zeroes, which would end it.
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

    /// The first bytes, for who has room for no more than the kernel has.
    pub(crate) fn short(&self) -> [u8; 16] {
        std::array::from_fn(|at| self.0[at])
    }

    /// The name as the kernel has it, whose last character may be cut; a byte that is no text becomes
    /// a question mark.
    pub(crate) fn of_kernel(mut bytes: [u8; 16]) -> Self {
        let mut at = 0;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(16);
        bytes[end..].fill(0);
        while let Err(error) = std::str::from_utf8(&bytes[at..end]) {
            at += error.valid_up_to();
            let Some(length) = error.error_len() else {
                bytes[at..end].fill(0);
                break;
            };
            bytes[at..at + length].fill(b'?');
            at += length;
        }
        let mut name = Self::NONE;
        name.0[..16].copy_from_slice(&bytes);
        name
    }

    /// The name as text, up to the first byte that is none.
    pub(crate) fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(MAX_NAME);
        match std::str::from_utf8(&self.0[..length]) {
            Ok(name) => name,
            Err(error) => std::str::from_utf8(&self.0[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}

impl Control {
    /// Whether few slots are left that no thread owns.
    pub(crate) fn slots_are_scarce(&self) -> bool {
        let used = self.slots_used.load(Ordering::Relaxed);
        used > self.slots_in_all() / 4 * 3 && self.free_slots.load(Ordering::Relaxed) as u32 == 0
    }

    /// Takes a slot that no thread owns.
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
        // Memory first: who knows the count looks at all slots.
        let fresh = self.slots_used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
            (used < self.slots_in_all() && self.commit_slot(used)).then_some(used + 1)
        });
        fresh.ok().map(|index| self.slot(index))
    }

    /// Gives a slot back.
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
        // The kernel cuts after fifteen bytes, in the middle of a character as it may be.
        assert_eq!(told("0123456789abcdé".as_bytes().split_at(15).0), "0123456789abcd");
        assert_eq!(told(b""), "");
    }
}
