//! Await chains: the part of this thread's stack that belongs to the poll of a task, from where its waker is registered
//! up to the function that polls it.
//!
//! A task waits at the same few places again and again, and then its stack looks the same, but for where it lies. So
//! each chain that was met is remembered, as the return addresses and how far above the stack pointer each of them lay.
//! To find a chain again takes a look at those very words; the stack is walked only where none fits. The walk reads
//! through the kernel, as all walks do, and takes microseconds, so there is a limit on how many there are in a second.
//!
//! # Why the words may be read
//!
//! A walk that gets from here to the poll passes through nothing but frames that are in use, one above the other, so all
//! of what lies between is memory: a thread's stack, or part of one. [`KnownStack`] has what the thread's walks have
//! shown so far, in whole pages, and only there is anything read without the kernel. A frame of more than
//! [`MAX_FRAME`] bytes may be a change to another stack; nothing is concluded from it. A thread that continues on another
//! stack (coroutines, `stacker`) is outside of what is known, and its stack is walked.
//!
//! # Why the words are enough
//!
//! The innermost return address is looked up where the function that registers the waker has it: [`FirstReturn`], from an
//! earlier walk. If it is what it was in a remembered chain, the caller is the same, at the same place; its frame is as
//! large, so the next return address lies where it lay; and so on, up to the poll. Frames that a function sizes at run
//! time do not have this property; there the distance to the poll must be the same to the byte, too, as everywhere.
//! Code that is unloaded and replaced has another [`epoch`](modules::epoch), by which chains are also known.
//!
//! # Chains that begin alike
//!
//! Hundreds of functions may wait for a timer, through the same frames and at the same depth. The first of these chains is
//! the one that is found by its innermost return address and its depth. Where another one departs from it, there is a
//! return address of its own, which lies where the first one's does, as all frames below are the same. The other chain is
//! found by that word and its offset; and a chain that departs from that one, likewise. So a chain is compared with
//! few others, however many there are.
//!
//! # Synchronization
//!
//! The table is of write-once words. A writer takes words that nobody else has (`used` only grows), fills them, and then
//! publishes their place by a compare-and-swap of an entry of the index from 0 (release). A reader loads the entry
//! (acquire), and so finds the words as they stay for good. Of two writers that add the same chain at once, one may add
//! it a second time: that takes room, and nothing else. A handler of a signal is like another thread. What belongs to a
//! thread alone (`KnownStack`) is read once before each use, and a handler leaves it true.

use super::budget::Budget;
use super::capture::{intern, up_to_poll};
use super::trie::{StackId, Trie};
use super::unwind::{Address, MAX_FRAMES, Registers};
use super::{modules, room_for};
use crate::os::{mmap, own_memory};
use lookback_snapshot::wire::StackSource;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// How many chains can be remembered: so many entries has the index, in 64 KiB.
const CHAINS: usize = 1 << 13;
/// How many words they can have together, in 512 KiB.
const WORDS: usize = 1 << 16;
/// A chain is looked for in so many entries.
const PROBES: usize = 16;
/// And is compared with so many chains that begin as it does.
const DEPARTURES: usize = 32;
/// So many walks a second are made in the whole process: 1,000 take a hundredth of a core.
pub(super) const WALKS_A_SECOND: u32 = 1000;
/// A larger frame may be a change to another stack.
const MAX_FRAME: u64 = 64 << 10;
/// Where a return address lies above the stack pointer, in words, has so many bits in a word; the address has the rest.
const OFFSET_BITS: u32 = 16;
/// A chain's first word: its stack's number, how many words follow, and the last one's offset in words.
const COUNT_SHIFT: u32 = 20;
const LAST_SHIFT: u32 = 32;

const _: () = assert!(MAX_FRAMES < 1 << (LAST_SHIFT - COUNT_SHIFT));

/// See the module.
pub(crate) struct AwaitChains {
    /// For each chain the upper half of its hash, and where its words are, from 1; or 0.
    index: &'static [AtomicU64],
    words: &'static [AtomicU64],
    used: AtomicU32,
    /// How many chains could not be remembered.
    refused: AtomicU64,
    walks: Budget,
}

static TABLE: OnceLock<Option<AwaitChains>> = OnceLock::new();
/// The table while chains are taken, or null. Stored with release and loaded with acquire, so a thread that finds the table
/// finds what is in it.
static CURRENT: AtomicPtr<AwaitChains> = AtomicPtr::new(std::ptr::null_mut());

/// Says whether await chains are taken from now on: for a recorder that starts. Returns whether they are.
pub(crate) fn turn(on: bool) -> bool {
    let table = if on { TABLE.get_or_init(AwaitChains::new).as_ref() } else { None };
    let table = table.filter(|_| cfg!(any(target_arch = "x86_64", target_arch = "aarch64")));
    let current = table.map_or(std::ptr::null_mut(), |table| std::ptr::from_ref(table).cast_mut());
    CURRENT.store(current, Ordering::Release);
    table.is_some()
}

/// Whether chains are taken.
pub(crate) fn are_taken() -> bool {
    AwaitChains::current().is_some()
}

/// How many chains could not be remembered, and how many were not taken because too many in a second had to be walked.
pub(crate) fn missed() -> (u64, u64) {
    let table = TABLE.get().and_then(Option::as_ref);
    table.map_or((0, 0), |table| (table.refused.load(Ordering::Relaxed), table.walks.refused()))
}

/// Where the return address of a function lies above the stack pointer in it, in bytes; 0 before that is known. All accesses
/// are relaxed: a thread that finds an older number recognises no chain, and walks.
pub(crate) struct FirstReturn(AtomicU32);

impl FirstReturn {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }
}

/// The part of a thread's stack that is known to be memory: the number of its first page, and how many there are. All
/// zeroes: none.
pub(crate) struct KnownStack(Cell<u64>);

impl KnownStack {
    const COUNT_BITS: u32 = 28;
    const PAGE_BITS: u32 = 12;

    #[cfg(test)]
    pub(super) const fn none() -> Self {
        Self(Cell::new(0))
    }

    /// Another thread comes.
    pub(crate) fn forget(&self) {
        self.0.set(0);
    }

    /// What is known now.
    #[inline(always)]
    fn pages(&self) -> (u64, u64) {
        let known = self.0.get();
        (known >> Self::COUNT_BITS, known & ((1 << Self::COUNT_BITS) - 1))
    }

    /// Everything from `sp` up to the word below `end` is memory.
    fn learn(&self, sp: u64, end: u64) {
        let (first, behind) = (sp >> Self::PAGE_BITS, ((end - 1) >> Self::PAGE_BITS) + 1);
        let (known, count) = self.pages();
        let touches = known <= behind && first <= known + count;
        let (first, behind) = match touches {
            true => (first.min(known), behind.max(known + count)),
            false => (first, behind),
        };
        if behind - first < 1 << Self::COUNT_BITS && first < 1 << (64 - Self::COUNT_BITS) {
            self.0.set(first << Self::COUNT_BITS | (behind - first));
        }
    }
}

/// A frame that was walked through.
#[derive(Clone, Copy, Default)]
pub(super) struct Step {
    pub(super) at: Address,
    /// The stack pointer in it.
    pub(super) sp: u64,
    /// The return address that led to it, as it was on the stack.
    pub(super) returns: u64,
}

/// Why no chain was found: none that is remembered fits. It may be remembered by this hash.
pub(crate) struct Unknown(u64);

/// The word of the stack that is the first to differ from a chain, and where it lies.
struct Departure(u64);

/// Where a chain begins and ends on the stack.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// The stack pointer of the function that polls the task.
    pub(crate) top: u64,
    /// Frames with a lower stack pointer are left out: they belong to another task, which this one polls.
    pub(crate) from: u64,
}

impl AwaitChains {
    fn new() -> Option<Self> {
        Trie::make();
        if !room_for((CHAINS + WORDS) * size_of::<AtomicU64>()) {
            return None;
        }
        Self::with(CHAINS, WORDS).ok()
    }

    pub(super) fn with(chains: usize, words: usize) -> std::io::Result<Self> {
        let (index, words) = (mmap::words(chains)?, mmap::words(words)?);
        let (used, refused) = (AtomicU32::new(0), AtomicU64::new(0));
        Ok(Self { index, words, used, refused, walks: Budget::new(WALKS_A_SECOND) })
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The table, if chains are taken.
    #[inline(always)]
    pub(crate) fn current() -> Option<&'static Self> {
        // SAFETY: null, or the table, which is never freed.
        unsafe { CURRENT.load(Ordering::Acquire).as_ref() }
    }

    /// The chain that goes from a function with the stack pointer `sp` up to `top`, if it is one that is remembered: its
    /// stack, or `None` if there was no room for that.
    ///
    /// # Safety
    /// The function must be running on this thread, and `known` be what is known of this thread's stack.
    #[inline(always)]
    pub(crate) unsafe fn find(
        &self,
        sp: u64,
        top: u64,
        known: &KnownStack,
        first: &FirstReturn,
    ) -> Result<Option<StackId>, Unknown> {
        let first = u64::from(first.0.load(Ordering::Relaxed));
        let memory = known.pages();
        if !is_in(memory, sp) || !is_in(memory, sp.wrapping_add(first)) {
            return Err(Unknown(0));
        }
        // SAFETY: it lies in the known part of the stack.
        let returns = unsafe { word(sp.wrapping_add(first)) };
        let mut hash = hash(returns, top.wrapping_sub(sp), modules::epoch());
        for _ in 0..DEPARTURES {
            let Some(at) = self.entry(hash) else { return Err(Unknown(hash)) };
            // SAFETY: as the caller promises.
            match unsafe { self.fits(at, sp, memory) } {
                Ok(stack) => return Ok(StackId::from_number(stack)),
                Err(Departure(bits)) => hash = mixed(hash ^ bits),
            }
        }
        Err(Unknown(0))
    }

    /// Where the words are of the chain with this hash, if there is one.
    #[inline(always)]
    fn entry(&self, hash: u64) -> Option<u32> {
        let mask = self.index.len() - 1;
        for probe in 0..PROBES {
            let place = &self.index[(hash as usize).wrapping_add(probe) & mask];
            let entry = place.load(Ordering::Acquire);
            if entry == 0 {
                return None;
            }
            if entry >> 32 == hash >> 32 {
                return Some(entry as u32);
            }
        }
        None
    }

    /// The stack's number of the chain at `at`, if its return addresses are where they were.
    ///
    /// # Safety
    /// As for [`find`](Self::find); `memory` is what is known of the stack.
    #[inline(always)]
    unsafe fn fits(&self, at: u32, sp: u64, memory: (u64, u64)) -> Result<u32, Departure> {
        let words = self.words.get(at as usize - 1..).and_then(<[_]>::split_first);
        let Some((head, rest)) = words else { return Err(Departure(0)) };
        let head = head.load(Ordering::Relaxed);
        let count = head as u32 >> COUNT_SHIFT;
        if !is_in(memory, sp.wrapping_add(head >> LAST_SHIFT << 3)) {
            return Err(Departure(0));
        }
        for remembered in rest.get(..count as usize).unwrap_or_default() {
            let remembered = remembered.load(Ordering::Relaxed);
            let offset = remembered & ((1 << OFFSET_BITS) - 1);
            // SAFETY: it lies between the stack pointer and the last word, so in the known part of the stack.
            let found = unsafe { word(sp.wrapping_add(offset << 3)) };
            let found = found << OFFSET_BITS | offset;
            if found != remembered {
                return Err(Departure(found));
            }
        }
        Ok(head as u32 & ((1 << COUNT_SHIFT) - 1))
    }

    /// The chain from the place of these registers up to a poll, or as many frames of it as a stack can have, by a walk;
    /// remembers it. `None` if it does not lead there, or if there have been too many walks.
    ///
    /// # Safety
    /// As for [`find`](Self::find).
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn walk(
        &self,
        from: Registers,
        extent: Extent,
        known: &KnownStack,
        first: &FirstReturn,
    ) -> Option<StackId> {
        // Without tables, as when recording has just begun, no walk is spent.
        let can_walk = modules::is_made() && own_memory::is_open();
        if from.sp >= extent.top || !can_walk || !self.walks.take() {
            return None;
        }
        let mut steps = [Step::default(); MAX_FRAMES];
        let (count, end) = up_to_poll(from, extent.top, &mut steps)?;
        let steps = &steps[..count];
        let (_, callers) = steps.split_first()?;
        let is_whole = steps.windows(2).all(|pair| pair[1].sp - pair[0].sp <= MAX_FRAME);
        let mut hash = 0;
        if is_whole {
            first.0.store((callers.first()?.sp - 8 - from.sp) as u32, Ordering::Relaxed);
            known.learn(from.sp, callers.last()?.sp);
            // This thread may just not have met it.
            // SAFETY: as the caller promises.
            match unsafe { self.find(from.sp, extent.top, known, first) } {
                Ok(stack) => return stack,
                Err(Unknown(of)) => hash = of,
            }
        }
        let mut frames = [Address::default(); MAX_FRAMES];
        let mut count = 0;
        for step in callers.iter().filter(|step| step.sp >= extent.from) {
            (frames[count], count) = (step.at, count + 1);
        }
        if count == 0 {
            return None;
        }
        let interned = intern(&frames[..count], end);
        if is_whole && !matches!(interned, Err(why) if why != StackSource::NoRoom) {
            self.remember(hash, from.sp, callers, interned.ok());
        }
        interned.ok()
    }

    /// Adds a chain whose frames were walked through, and which is looked for by this hash; 0 if it cannot be found.
    fn remember(&self, hash: u64, sp: u64, callers: &[Step], stack: Option<StackId>) {
        let offset = |step: &Step| (step.sp - 8 - sp) >> 3;
        let last = callers.last().map_or(0, offset);
        let size = callers.len() as u32 + 1;
        let most = self.words.len() as u32;
        let order = Ordering::Relaxed;
        let taken = self.used.fetch_update(order, order, |used| {
            let fits = |after: &u32| *after <= most && last < 1 << OFFSET_BITS && hash != 0;
            used.checked_add(size).filter(fits)
        });
        let Ok(at) = taken else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let head = u64::from(stack.map_or(0, StackId::number))
            | (callers.len() as u64) << COUNT_SHIFT
            | last << LAST_SHIFT;
        let all = callers.iter().map(|step| step.returns << OFFSET_BITS | offset(step));
        for (word, value) in self.words[at as usize..].iter().zip(std::iter::once(head).chain(all))
        {
            word.store(value, Ordering::Relaxed);
        }
        let (entry, mask) = (hash >> 32 << 32 | u64::from(at + 1), self.index.len() - 1);
        let is_published = (0..PROBES).any(|probe| {
            let place = &self.index[(hash as usize).wrapping_add(probe) & mask];
            place.compare_exchange(0, entry, Ordering::Release, Ordering::Relaxed).is_ok()
        });
        if !is_published {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether the word at `address` lies in these pages.
#[inline(always)]
fn is_in((first, count): (u64, u64), address: u64) -> bool {
    (address >> KnownStack::PAGE_BITS).wrapping_sub(first) < count
}

/// The word of the stack at `address`, a multiple of 8.
///
/// # Safety
/// It must be memory. Other code of this thread may have written it; no other thread writes to it.
#[inline(always)]
unsafe fn word(address: u64) -> u64 {
    // SAFETY: as the caller promises; volatile, since nothing in this program is known to be there.
    unsafe { std::ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
}

/// All bits of what a chain is looked up by, in each bit of both halves of this.
#[inline(always)]
fn hash(returns: u64, depth: u64, epoch: u32) -> u64 {
    mixed(returns ^ depth << 40 ^ u64::from(epoch).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

#[inline(always)]
fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word ^ word >> 32
}
