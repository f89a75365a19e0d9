//! The heap, with the system's allocator behind the recorder's allocator.

#[path = "../common/mod.rs"]
mod common;
mod of_any_allocator;

use std::alloc::System as Inner;

/// What the recorder's allocator passes calls on to.
const INNER: Inner = Inner;
