//! What is alive of the heap, by the stack that allocated it.

use super::Stack;
use super::decode::contents::Contents;
use super::heap_totals::ListedHeapStack;
use crate::wire::StackSource;

/// What is alive of what one stack has allocated: see
/// [`DecodedGeneration::heap_stacks`](super::DecodedGeneration::heap_stacks).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HeapStack<'a> {
    /// Where it was allocated. `None` if that is unknown: then `source` says why.
    pub stack: Option<Stack<'a>>,
    /// How the stack was obtained, or why there is none; `None` if only a later version knows it.
    pub source: Option<StackSource>,
    /// How many samples say so. The fewer, the less exact the others are: a standard deviation is about their number
    /// divided by the root of this.
    pub samples: u64,
    /// How many objects they stand for.
    pub objects: u64,
    /// How many bytes they stand for.
    pub bytes: u64,
    /// How many seconds before the end of the generation the oldest of them was allocated.
    pub age: u64,
}

impl<'a> HeapStack<'a> {
    pub(super) fn all(of: &'a Contents) -> impl Iterator<Item = Self> {
        of.tables.heap.stacks.iter().map(|listed| {
            let ListedHeapStack { stack, source, samples, objects, bytes, age } = *listed;
            Self { stack: Stack::new(of, stack), source, samples, objects, bytes, age }
        })
    }
}
