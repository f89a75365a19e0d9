//! All stacks that were captured, as a trie of frames: a stack is the node of its innermost frame, and each node knows
//! its caller's. Stacks with the same outer frames share those nodes, so a new stack usually takes 1 to 3 nodes.
//!
//! A node is one word: its parent, its module, and its place in the module. The node's number is the index of that word
//! in the table, which a hash finds. Adding a node is one compare-and-swap from 0 to the word, so no thread ever sees
//! half a node. Nodes are never removed: equal stacks keep the same number for as long as the process lives.
//!
//! # Synchronization
//!
//! The word holds the whole node, and [`intern`] says how threads agree on its place. Beside each node lies its id in
//! the newest generation that defined it, as for sites (see [`record::site`](crate::record::site)).

#![forbid(unsafe_code)]

use super::modules::ModuleMap;
use super::unwind::Address;
use crate::os::mmap;
use crate::protocol::intern::intern;
use lookback_snapshot::wire::StackEnd as End;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// So many nodes there can be, in 512 KiB.
const NODES: usize = 1 << 15;
/// A node is looked for in so many places.
const PROBES: usize = 64;
const PARENT_BITS: u32 = 20;
const MODULE_BITS: u32 = 12;
/// The module of a root, whose offset says why the stack has no more frames.
const ROOT: u32 = (1 << MODULE_BITS) - 1;

const _: () = assert!(super::modules::MAX_MODULES <= ROOT as usize && NODES <= 1 << PARENT_BITS);

/// A stack: the number of its innermost frame's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StackId(u32);

impl StackId {
    /// From which [`from_number`](Self::from_number) makes it again.
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        ((number as usize) < NODES && number != 0).then_some(Self(number))
    }
}

/// A frame, or the root of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A frame that was called from another one.
    Frame {
        caller: StackId,
        /// The module's number, 0 if the code belongs to none.
        module: u32,
        /// Where in the module, times two, and 1 if it is the very instruction; see [`Address`].
        offset: u32,
    },
    /// Why there are no more frames.
    Root(u32),
}

/// See the module.
pub(crate) struct Trie {
    nodes: &'static [AtomicU64],
    /// For each node `generation << 24 | id`.
    defined: &'static [AtomicU64],
    used: AtomicU32,
    /// How often there was no room for a node.
    refused: AtomicU64,
}

static TRIE: OnceLock<Option<Trie>> = OnceLock::new();

impl Trie {
    /// The one of this process; `None` before it was made.
    #[inline]
    pub(crate) fn get() -> Option<&'static Self> {
        TRIE.get()?.as_ref()
    }

    /// Makes it, if that was not tried before. Without memory there is none.
    pub(crate) fn make() {
        TRIE.get_or_init(|| {
            let is_room = super::room_for(2 * NODES * size_of::<AtomicU64>());
            if is_room { Self::with(NODES).ok() } else { None }
        });
    }

    fn with(nodes: usize) -> std::io::Result<Self> {
        let (nodes, defined) = (mmap::words(nodes)?, mmap::words(nodes)?);
        Ok(Self { nodes, defined, used: AtomicU32::new(0), refused: AtomicU64::new(0) })
    }

    /// How many nodes there are, how many there can be, and how many stacks found no room.
    pub(crate) fn fullness(&self) -> (u32, u32, u64) {
        let (used, refused) = (&self.used, &self.refused);
        (used.load(Ordering::Relaxed), self.nodes.len() as u32, refused.load(Ordering::Relaxed))
    }

    /// Whether the rest is for stacks that are rarer, and needed more, than those of allocations.
    pub(crate) fn is_half_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) as usize > self.nodes.len() / 2
    }

    /// The number of the stack with these frames, the innermost first; `None` if there is no room for it. Allocates
    /// nothing.
    pub(crate) fn intern(&self, map: &ModuleMap, frames: &[Address], end: End) -> Option<StackId> {
        let mut node = self.root(end)?;
        for frame in frames.iter().rev() {
            let (module, offset) = match map.find(frame.at()) {
                // Of the address itself, which may be the first one behind the module.
                Some((module, at)) => {
                    (module.number, at.wrapping_add(u32::from(!frame.is_exact())))
                }
                None => (0, 0),
            };
            node = self.child(node, module, offset << 1 | u32::from(frame.is_exact()))?;
        }
        Some(node)
    }

    fn root(&self, end: End) -> Option<StackId> {
        self.add(u64::from(ROOT) << 32 | u64::from(end as u8))
    }

    fn child(&self, parent: StackId, module: u32, offset: u32) -> Option<StackId> {
        let parent = u64::from(parent.0) << (32 + MODULE_BITS);
        self.add(parent | u64::from(module) << 32 | u64::from(offset))
    }

    fn add(&self, word: u64) -> Option<StackId> {
        let Some(interned) = intern(self.nodes, mixed(word), PROBES, word) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        if interned.is_new {
            self.used.fetch_add(1, Ordering::Relaxed);
        }
        Some(StackId(interned.place as u32))
    }

    /// What a node says.
    pub(crate) fn node(&self, stack: StackId) -> Node {
        let word = self.nodes[stack.0 as usize].load(Ordering::Relaxed);
        let module = (word >> 32) as u32 & ROOT;
        match StackId::from_number((word >> (32 + MODULE_BITS)) as u32) {
            Some(caller) => Node::Frame { caller, module, offset: word as u32 },
            None => Node::Root(word as u32),
        }
    }

    /// Where the id of a node's definition is kept.
    pub(crate) fn defined(&self, stack: StackId) -> &AtomicU64 {
        &self.defined[stack.0 as usize]
    }
}

/// All bits of the word in each bit of this: the finalizer of SplitMix64.
fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn stack(trie: &Trie, frames: impl IntoIterator<Item = u32>) -> Option<StackId> {
        let mut frames = frames.into_iter();
        frames.try_fold(trie.root(End::Begin)?, |node, frame| trie.child(node, 1, frame))
    }

    fn frames(trie: &Trie, mut stack: StackId) -> Vec<u32> {
        let mut found = Vec::new();
        while let Node::Frame { caller, module: 1, offset } = trie.node(stack) {
            found.insert(0, offset);
            stack = caller;
        }
        assert_eq!(trie.node(stack), Node::Root(End::Begin as u32));
        found
    }

    #[test]
    fn equal_stacks_have_one_number_and_others_another_and_each_comes_back() {
        let trie = Trie::with(1 << 12).unwrap();
        let all: Vec<Vec<u32>> =
            (0..200).map(|i| vec![7, i % 5, i % 50, i, 0]).chain([vec![], vec![7]]).collect();
        let first: Vec<_> = all.iter().map(|of| stack(&trie, of.clone()).unwrap()).collect();
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), all.len());
        for (of, number) in all.iter().zip(&first) {
            assert_eq!(stack(&trie, of.clone()), Some(*number));
            assert_eq!(frames(&trie, *number), *of);
        }
    }

    #[test]
    fn a_full_table_has_no_more_stacks_and_keeps_those_that_it_has() {
        let trie = Trie::with(64).unwrap();
        let known: Vec<_> = (0..100).map_while(|i| Some((i, stack(&trie, [i])?))).collect();
        assert_eq!(known.len(), 62, "all but the first place and a root");
        assert!((0..100).skip(known.len()).all(|i| stack(&trie, [i]).is_none()));
        assert!(known.iter().all(|(i, number)| stack(&trie, [*i]) == Some(*number)));
        assert_eq!(trie.fullness(), (63, 64, 39), "and refused frames are counted");
    }

    #[test]
    fn threads_that_add_the_same_stacks_at_once_get_the_same_numbers() {
        let trie = Trie::with(1 << 14).unwrap();
        let add = || (0..3000).map(|i| stack(&trie, [i % 7, i, i / 3])).collect::<Vec<_>>();
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(add);
            (add(), other.join().unwrap())
        });
        assert_eq!(one, other);
        let used = trie.nodes.iter().filter(|node| node.load(Ordering::Relaxed) != 0).count();
        assert_eq!(used, 1 + 7 + 3000 + 3000, "nothing is there twice");
        assert_eq!(trie.fullness(), (used as u32, 1 << 14, 0));
    }
}
