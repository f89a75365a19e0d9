//! The heap: how much the program allocates and frees, how much of it is alive, and which stacks allocated it.
//!
//! * `alloc` is the allocator that a program declares, around any other one;
//! * `counters` counts, for each thread on its own;
//! * `sampling` decides which allocations are samples: each byte has the same chance;
//! * `samples` are those that are alive, and what is recorded of them;
//! * `profile` is what the end of a generation lists.
//!
//! Everything counts from the first allocation of the process on, recorded or not: what is alive is known only to who has
//! seen it begin. While nothing is recorded, samples have no stack.

pub(crate) mod alloc;
pub(crate) mod counters;
pub(crate) mod profile;
pub(crate) mod samples;
pub(crate) mod sampling;
