//! The heap at the end of a generation.

#![forbid(unsafe_code)]

use crate::wire::{Nanos, StackSource};

/// What a program with [`Alloc`](https://docs.rs/lookback) allocated and freed, for a time that ended with a generation or
/// shortly before: see [`DecodedGeneration::heap`](crate::DecodedGeneration::heap).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapTotals {
    /// How long the time was.
    pub time: Nanos,
    /// How many bytes were allocated in it.
    pub allocated: u64,
    /// In how many objects.
    pub allocations: u64,
    /// How many bytes were freed in it.
    pub freed: u64,
    /// In how many objects.
    pub frees: u64,
    /// How many bytes were alive at its end.
    pub live: u64,
    /// In how many objects.
    pub live_objects: u64,
    /// The most bytes that were alive at one moment of it, to 64 KiB a thread.
    pub peak: u64,
}

/// What a generation lists.
#[derive(Debug, Default)]
pub(crate) struct ListedHeap {
    pub(crate) totals: Option<HeapTotals>,
    pub(crate) stacks: Vec<ListedHeapStack>,
    /// Samples, and the bytes that they stand for.
    pub(crate) omitted: Option<(u64, u64)>,
}

/// What is alive of what a stack has allocated; `stack` is its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListedHeapStack {
    pub(crate) stack: u64,
    pub(crate) source: Option<StackSource>,
    pub(crate) samples: u64,
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) age: u64,
}
