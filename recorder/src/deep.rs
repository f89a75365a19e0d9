//! What a thread is inside of: its open regions, and the spans that it entered. Each is a stack whose
//! front lies in the slot, where the ordinary case finds it; what is nested deeper lies in chunks of
//! a common pool.
//!
//! The pool is address space that takes memory as it is used, so a thread that is nested deep needs
//! no allocation and no call of the system, and may be in a signal handler. What does not fit (see
//! [`MAX_DEPTH`]) is not recorded, and is counted as lost.
//!
//! What ends need not be the innermost one: it is taken out, and what is inside of it moves up.
//!
//! Only the owner of the slot looks at chunks, inside its gate. Who notes the state of a silent thread
//! reads the front alone.

use crate::groups::{Cache, Groups};
use crate::slot::{OpenRegion, Slot};
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many regions, and how many spans, a thread can be inside of. It bounds the time that it takes
/// to end the outermost one of them first.
pub(crate) const MAX_DEPTH: u32 = 1 << 14;
/// How many chunks each pool has: 16 MiB of address space.
const CHUNKS: u32 = 1 << 15;

static REGIONS: Groups<Chunk<OpenRegion, 21>> = Groups::new();
static SPANS: Groups<Chunk<AtomicU64, 63>> = Groups::new();

/// One entry of a stack.
pub(crate) trait Entry: 'static {
    type Value: Copy;
    fn get(&self) -> Self::Value;
    fn set(&self, value: Self::Value);

}

impl Entry for AtomicU64 {
    type Value = u64;

    fn get(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    fn set(&self, value: u64) {
        self.store(value, Ordering::Relaxed);
    }
}

/// Entries of a stack, `below` being the chunk that holds those around them, from 1. Zeroes are a
/// chunk.
#[repr(C)]
pub(crate) struct Chunk<E, const N: usize> {
    below: AtomicU32,
    entries: [E; N],
}

/// Where the entries lie that a slot has no room for. Zeroes are none.
pub(crate) struct Deep {
    /// The chunk of the innermost ones, from 1.
    top: Cell<u32>,
    free: Cache,
}

/// See the module.
pub(crate) struct Stack<'a, E: 'static, const N: usize> {
    depth: &'a AtomicU32,
    near: &'a [E],
    deep: &'a Deep,
    pool: &'static Groups<Chunk<E, N>>,
}

/// Reserves the pools.
pub(crate) fn establish(room: Option<usize>) -> io::Result<()> {
    REGIONS.establish(CHUNKS, room)?;
    SPANS.establish(CHUNKS, room)
}

/// Gives them back.
///
/// # Safety
/// As for [`Groups::abandon`].
pub(crate) unsafe fn abandon() {
    // SAFETY: as the caller promises.
    unsafe {
        REGIONS.abandon();
        SPANS.abandon();
    }
}

/// Gives the memory of past peaks back.
pub(crate) fn shrink() {
    REGIONS.shrink(0, |_| Some((0, 0)));
    SPANS.shrink(0, |_| Some((0, 0)));
}

impl Slot {
    /// The regions that the thread has open; for the owner, inside its gate.
    pub(crate) fn open_regions(&self) -> Stack<'_, OpenRegion, 21> {
        let (depth, near, deep) = (&self.depth, &self.regions, &self.deep_regions);
        Stack { depth, near, deep, pool: &REGIONS }
    }

    /// The spans that the thread is inside of; for the owner.
    pub(crate) fn entered_spans(&self) -> Stack<'_, AtomicU64, 63> {
        let (depth, near, deep) = (&self.span_depth, &self.spans, &self.deep_spans);
        Stack { depth, near, deep, pool: &SPANS }
    }
}

impl<'a, E: Entry, const N: usize> Stack<'a, E, N> {
    fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed) as usize
    }

    /// The entries, piece by piece: from the piece that holds the innermost ones outwards.
    fn pieces(&self) -> impl Iterator<Item = &'a [E]> {
        let (near, pool) = (self.near, self.pool);
        let (mut left, mut chunk) = (self.depth(), self.deep.top.get());
        std::iter::from_fn(move || {
            let Some(deep) = left.checked_sub(near.len() + 1) else {
                let piece = &near[..std::mem::take(&mut left)];
                return (!piece.is_empty()).then_some(piece);
            };
            let of: &Chunk<E, N> = pool.get(chunk.checked_sub(1)?)?;
            let piece = &of.entries[..=deep % N];
            (left, chunk) = (left - piece.len(), of.below.load(Ordering::Relaxed));
            Some(piece)
        })
    }

    /// The entries from the innermost one outwards.
    pub(crate) fn outwards(&self) -> impl Iterator<Item = &'a E> {
        self.pieces().flat_map(|piece| piece.iter().rev())
    }

    /// How many are inside of the innermost one that is this.
    pub(crate) fn find(&self, mut is_it: impl FnMut(&E) -> bool) -> Option<usize> {
        let mut inside = 0;
        self.pieces().find_map(|piece| {
            let found = piece.iter().rposition(&mut is_it);
            inside += piece.len() - found.map_or(0, |at| at + 1);
            found.map(|_| inside)
        })
    }

    /// How many are inside of the one of this key, where keys ascend inwards.
    pub(crate) fn find_key(&self, key: u64, key_of: impl Fn(&E) -> u64) -> Option<usize> {
        let mut inside = 0;
        for piece in self.pieces() {
            if piece.first().is_some_and(|first| key_of(first) <= key) {
                let at = piece.iter().rposition(|entry| key_of(entry) == key)?;
                return Some(inside + piece.len() - at - 1);
            }
            inside += piece.len();
        }
        None
    }

    /// The entry for one more, which is to be [pushed](Self::push). `None` if there is no room.
    pub(crate) fn room(&self) -> Option<&'a E> {
        let depth = self.depth();
        let Some(deep) = depth.checked_sub(self.near.len()) else { return self.near.get(depth) };
        if depth >= MAX_DEPTH as usize {
            return None;
        }
        if deep.is_multiple_of(N) {
            let chunk = self.pool.take(&self.deep.free, |_| true)?;
            chunk.below.store(self.deep.top.get(), Ordering::Relaxed);
            self.deep.top.set(self.pool.index_of(chunk) + 1);
        }
        let top: &Chunk<E, N> = self.pool.get(self.deep.top.get().checked_sub(1)?)?;
        top.entries.get(deep % N)
    }

    /// One more, in the entry that [`room`](Self::room) gave.
    pub(crate) fn push(&self, entry: &E, value: E::Value) {
        entry.set(value);
        self.depth.store(self.depth() as u32 + 1, Ordering::Relaxed);
    }

    /// Takes the entry out that so many are inside of.
    pub(crate) fn remove(&self, inside: usize) {
        let (mut left, mut carried) = (inside, None);
        for piece in self.pieces() {
            let first = piece.len().saturating_sub(left + 1);
            let moved = piece.get(first..).unwrap_or_default();
            let Some(around) = moved.first().map(E::get) else { break };
            if std::ptr::eq(piece.as_ptr(), self.near.as_ptr()) {
                // Others may look on.
                moved.windows(2).for_each(|pair| pair[0].set(pair[1].get()));
            } else {
                let (to, count) = (moved.as_ptr().cast_mut(), moved.len() - 1);
                // SAFETY: all of an entry are atomics, which change through shared references; both
                // ranges are of `moved`, and nobody else looks at chunks.
                unsafe { std::ptr::copy(to.add(1), to, count) };
            }
            if let (Some(carried), Some(last)) = (carried, moved.last()) {
                last.set(carried);
            }
            let Some(rest) = left.checked_sub(piece.len()) else { break };
            (left, carried) = (rest, Some(around));
        }
        self.pop();
    }

    fn pop(&self) {
        let Some(depth) = self.depth().checked_sub(1) else { return };
        self.depth.store(depth as u32, Ordering::Relaxed);
        if depth.checked_sub(self.near.len()).is_some_and(|deep| deep.is_multiple_of(N)) {
            self.give_top_back();
        }
    }

    fn give_top_back(&self) {
        let Some(index) = self.deep.top.get().checked_sub(1) else { return };
        let below = self.pool.get(index).map_or(0, |chunk| chunk.below.load(Ordering::Relaxed));
        self.deep.top.set(below);
        self.pool.give(index, Some(&self.deep.free));
    }

    /// Takes everything out, and gives all chunks back: the thread is gone.
    pub(crate) fn clear(&self) {
        self.depth.store(0, Ordering::Relaxed);
        while self.deep.top.get() != 0 {
            self.give_top_back();
        }
        self.pool.give_up(&self.deep.free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn what_is_open_is_what_a_list_of_it_would_hold() {
        establish(None).unwrap();
        let near: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
        let (depth, deep) = (AtomicU32::new(0), Deep { top: Cell::new(0), free: Cache::new() });
        let stack = Stack { depth: &depth, near: &near, deep: &deep, pool: &SPANS };
        // The innermost one is at the front.
        let mut list = VecDeque::new();
        let mut random = 7_u64;
        for turn in 0..30_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let grows = if turn < 15_000 { 6 } else { 4 };
            if random >> 33 & 7 < grows || list.is_empty() {
                stack.push(stack.room().unwrap(), turn);
                list.push_front(turn);
            } else {
                let near_the_top = (random >> 40) as usize % list.len().min(5);
                let anywhere = (random >> 40) as usize % list.len();
                let at = if turn % 20 == 0 { anywhere } else { near_the_top };
                let value = list.remove(at).unwrap();
                assert_eq!(stack.find(|entry| entry.get() == value), Some(at));
                assert_eq!(stack.find_key(value, Entry::get), Some(at));
                stack.remove(at);
                assert_eq!(stack.find_key(value, Entry::get), None);
            }
            if turn % 500 == 0 {
                assert!(stack.outwards().map(Entry::get).eq(list.iter().copied()), "{turn}");
            }
        }
        assert!(stack.outwards().map(Entry::get).eq(list.iter().copied()));
        stack.clear();
        assert_eq!((depth.load(Ordering::Relaxed), deep.top.get()), (0, 0));
        let held = (0..MAX_DEPTH).all(|_| stack.room().map(|entry| stack.push(entry, 1)).is_some());
        assert!(held && stack.room().is_none());
        stack.clear();
    }
}
