//! What a thread is inside: its open regions and its entered spans. Each is a stack. Its front
//! lies in the slot, where the fast path finds it; deeper entries lie in chunks of a shared pool.
//!
//! The pool is address space that becomes memory when used, so a deeply nested thread needs no
//! allocation and may be in a signal handler. Entries that do not fit (see [`MAX_DEPTH`]) are not
//! recorded, and count as lost.
//!
//! Entries may end in any order: an outer one is removed, and the inner ones move up.
//!
//! Only the slot's owner accesses chunks, inside its gate. A thread that notes the state of a
//! silent slot reads only the front.

use crate::record::slab::{Cache, Slab};
use crate::record::slot::{OpenRegion, Slot};
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The most regions, and the most spans, that a thread can be inside. It bounds the time to end
/// the outermost one first.
pub(crate) const MAX_DEPTH: u32 = 1 << 14;
/// The number of chunks in each pool: 16 MiB of address space.
const CHUNKS: u32 = 1 << 15;

static REGIONS: Slab<Chunk<OpenRegion, 21>> = Slab::new();
static SPANS: Slab<Chunk<AtomicU64, 63>> = Slab::new();

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

/// Entries of a stack; `below` is the chunk of the entries around them, from 1. All zeroes is a
/// valid chunk.
#[repr(C)]
pub(crate) struct Chunk<E, const N: usize> {
    below: AtomicU32,
    entries: [E; N],
}

/// The entries that do not fit into a slot. All zeroes: none.
pub(crate) struct Deep {
    /// The chunk of the innermost entries, from 1.
    top: Cell<u32>,
    free: Cache,
}

/// See the module.
pub(crate) struct Stack<'a, E: 'static, const N: usize> {
    depth: &'a AtomicU32,
    near: &'a [E],
    deep: &'a Deep,
    pool: &'static Slab<Chunk<E, N>>,
}

/// Reserves the pools.
pub(crate) fn establish(room: Option<usize>) -> io::Result<()> {
    REGIONS.establish(CHUNKS, room)?;
    SPANS.establish(CHUNKS, room)
}

/// Returns the pools.
///
/// # Safety
/// As for [`Slab::abandon`].
pub(crate) unsafe fn abandon() {
    // SAFETY: as the caller promises.
    unsafe {
        REGIONS.abandon();
        SPANS.abandon();
    }
}

/// Returns the memory of past peaks.
pub(crate) fn shrink() {
    REGIONS.shrink(0, |_| Some((0, 0)), |_, _| {});
    SPANS.shrink(0, |_| Some((0, 0)), |_, _| {});
}

impl Slot {
    /// The thread's open regions. For the owner, inside its gate.
    pub(crate) fn open_regions(&self) -> Stack<'_, OpenRegion, 21> {
        let (depth, near, deep) = (&self.depth, &self.regions, &self.deep_regions);
        Stack { depth, near, deep, pool: &REGIONS }
    }

    /// The spans that the thread is inside. For the owner.
    pub(crate) fn entered_spans(&self) -> Stack<'_, AtomicU64, 63> {
        let (depth, near, deep) = (&self.span_depth, &self.spans, &self.deep_spans);
        Stack { depth, near, deep, pool: &SPANS }
    }
}

impl<'a, E: Entry, const N: usize> Stack<'a, E, N> {
    fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed) as usize
    }

    /// The entries in pieces, from the innermost piece outwards.
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

    /// The entries, from the innermost one outwards.
    pub(crate) fn outwards(&self) -> impl Iterator<Item = &'a E> {
        self.pieces().flat_map(|piece| piece.iter().rev())
    }

    /// The innermost matching entry, as the number of entries inside it.
    pub(crate) fn find(&self, mut is_it: impl FnMut(&E) -> bool) -> Option<usize> {
        let mut inside = 0;
        self.pieces().find_map(|piece| {
            let found = piece.iter().rposition(&mut is_it);
            inside += piece.len() - found.map_or(0, |at| at + 1);
            found.map(|_| inside)
        })
    }

    /// The entry with this key, as the number of entries inside it. Keys ascend inwards.
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

    /// Room for one more entry, which must be [pushed](Self::push). `None` if there is none.
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

    /// Adds an entry, in the place that [`room`](Self::room) returned.
    pub(crate) fn push(&self, entry: &E, value: E::Value) {
        entry.set(value);
        self.depth.store(self.depth() as u32 + 1, Ordering::Relaxed);
    }

    /// Removes the entry that has `inside` entries inside it.
    pub(crate) fn remove(&self, inside: usize) {
        let (mut left, mut carried) = (inside, None);
        for piece in self.pieces() {
            let first = piece.len().saturating_sub(left + 1);
            let moved = piece.get(first..).unwrap_or_default();
            let Some(around) = moved.first().map(E::get) else { break };
            if std::ptr::eq(piece.as_ptr(), self.near.as_ptr()) {
                // Other threads may be reading.
                moved.windows(2).for_each(|pair| pair[0].set(pair[1].get()));
            } else {
                let (to, count) = (moved.as_ptr().cast_mut(), moved.len() - 1);
                // SAFETY: entries consist of atomics, which may change through shared references;
                // both ranges lie within `moved`, and no other thread reads chunks.
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

    /// Removes all entries and returns all chunks: the thread is gone.
    pub(crate) fn clear(&self) {
        self.depth.store(0, Ordering::Relaxed);
        while self.deep.top.get() != 0 {
            self.give_top_back();
        }
        self.pool.release(&self.deep.free);
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
        // The innermost entry is at the front.
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
