//! Where each task waits: the await chains at which its wakers were last registered, the newest four, newest first.
//!
//! They are kept beside the tasks' places, by the same index, in words that hold a chain's stack and the number of the
//! poll in which it was taken. So a word says by itself whether it is of the task's last poll. A waker of an earlier poll
//! may still be registered: a future that finds its waker unchanged does not clone it again.
//!
//! # Synchronization
//!
//! Only the thread that polls a task stores to its words; the executor orders these threads. The collector loads each
//! word by itself, relaxed: the numbers of polls are for life, so a word that is newer than the state it looks at, or of
//! an earlier task in that place, shows by its number. Memory that is returned reads as zeroes, no chains.

use crate::protocol::frame;
use crate::record::slot::Slot;
use crate::record::task::side_table::SideTable;
use crate::record::task::{TASKS, TaskEntry};
use crate::record::thread;
use crate::stack::await_chain::{AwaitChains, Extent, FirstReturn};
use crate::stack::here;
use crate::stack::trie::StackId;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many chains of a task are kept.
pub(crate) const KEPT: usize = 4;
/// A word is the poll's number, and a stack of so many bits.
const STACK_BITS: u32 = 20;
const STACK: u64 = (1 << STACK_BITS) - 1;
/// Two groups of tasks have a page.
const PAGE: usize = 4096;

/// The chains of one task. All zeroes: none.
#[repr(C)]
struct Chains([AtomicU64; KEPT]);

const _: () = assert!(PAGE == 2 * crate::record::slab::GROUP as usize * size_of::<Chains>());

static CHAINS: SideTable<Chains> = SideTable::new();

/// Makes room for them. Returns whether there is any. Called under the lock of `start`.
pub(crate) fn establish() -> bool {
    CHAINS.establish()
}

/// Whether a task may have any.
pub(crate) fn are_there() -> bool {
    CHAINS.is_used()
}

/// A task takes the place with this index.
#[inline(always)]
pub(crate) fn begin(index: u32) {
    if let Some(Chains(words)) = CHAINS.get(index) {
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// The memory of a group of tasks is returned. The words of two groups share a page.
pub(crate) fn give_back(group: u32, is_neighbour_used: bool) {
    const GROUP: u32 = crate::record::slab::GROUP;
    let pair = group / 2 * 2 * GROUP;
    if is_neighbour_used || CHAINS.get(pair + 2 * GROUP - 1).is_none() {
        (group * GROUP..(group + 1) * GROUP).for_each(begin);
        return;
    }
    // Should the neighbour come into use just now, a chain that is taken there may be lost.
    CHAINS.give_back(pair, 2 * GROUP);
}

/// The waker of this task is being registered, by a function that this is inlined into: if this thread is polling the
/// task, notes the chain.
#[inline(always)]
pub(crate) fn registered(place: &'static TaskEntry, first: &FirstReturn) {
    let Some(table) = AwaitChains::current() else { return };
    let Some(slot) = thread::present_slot() else { return };
    let innermost = (slot.poll_depth.load(Ordering::Relaxed) as usize).wrapping_sub(1);
    let (Some(poll), Some(top)) = (slot.polls.get(innermost), slot.poll_frames.get(innermost))
    else {
        return;
    };
    let mut extent = Extent { top: top.get(), from: 0 };
    if !std::ptr::eq(poll.load(Ordering::Relaxed), place) {
        match outer(slot, innermost, place) {
            Some(found) => extent = found,
            None => return,
        }
    }
    // SAFETY: this is inlined into the running function, and the slot is this thread's.
    let found = unsafe { table.find(frame::here(), extent.top, &slot.known_stack, first) };
    let stack = match found {
        Ok(stack) => stack,
        // SAFETY: as above.
        Err(_) => unsafe { table.walk(here(), extent, &slot.known_stack, first) },
    };
    put(place, stack);
}

/// Where the poll of a task lies that polls another one, which polls here: a waker of ours is cloned to wake through.
#[cold]
fn outer(slot: &Slot, innermost: usize, place: &'static TaskEntry) -> Option<Extent> {
    let at = slot.polls[..innermost]
        .iter()
        .rposition(|poll| std::ptr::eq(poll.load(Ordering::Relaxed), place))?;
    Some(Extent { top: slot.poll_frames[at].get(), from: slot.poll_frames[at + 1].get() })
}

/// Notes that the task, which this thread polls, is registered there; `None` if that is not known. Then the older chains
/// no longer count as where it waits.
#[inline(always)]
fn put(place: &'static TaskEntry, stack: Option<StackId>) {
    let index = TASKS.index_of(place);
    let Some(Chains(words)) = CHAINS.get(index).or_else(|| CHAINS.commit(index)) else { return };
    let number = u64::from(stack.map_or(0, StackId::number));
    let poll = place.words.own().sequence();
    let next = poll << STACK_BITS | number;
    let known = words.each_ref().map(|word| word.load(Ordering::Relaxed));
    let is_it = |word: &u64| *word & STACK == number;
    if !is_it(&known[0]) {
        let at = known.iter().position(is_it).unwrap_or(KEPT - 1);
        for at in (1..=at).rev() {
            words[at].store(known[at - 1], Ordering::Relaxed);
        }
    }
    words[0].store(next, Ordering::Relaxed);
}

/// A chain, for an observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) stack: StackId,
    /// It was registered in an earlier poll than the last one, so the task may wait there no more.
    pub(crate) is_earlier: bool,
}

/// Where a task waits that is idle since the transition of this number: the last registered first. Nothing if it was
/// polled since.
pub(crate) fn waiting(
    index: u32,
    place: &TaskEntry,
    sequence: u64,
) -> impl Iterator<Item = Waiting> {
    let mut words = [0; KEPT];
    if let Some(Chains(of)) = CHAINS.get(index) {
        words = of.each_ref().map(|word| word.load(Ordering::Relaxed));
    }
    let last_poll = sequence.wrapping_sub(1);
    let is_of_now = words.iter().all(|word| word >> STACK_BITS <= last_poll);
    // Each clone that exists is of one of the chains. In a poll, a future may have replaced its waker by another one. It
    // waits where it was registered last, even if whoever had the waker has lost it.
    let is_current = move |word: u64| word >> STACK_BITS == last_poll;
    let clones = (place.wakers.clones() as usize).max(usize::from(is_current(words[0])));
    words.into_iter().take(if is_of_now { clones } else { 0 }).filter_map(move |word| {
        let stack = StackId::from_number((word & STACK) as u32)?;
        Some(Waiting { stack, is_earlier: !is_current(word) })
    })
}
