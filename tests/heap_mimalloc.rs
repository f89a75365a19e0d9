//! The heap, with mimalloc behind the recorder's allocator.

mod common;
#[path = "heap/of_any_allocator.rs"]
mod of_any_allocator;

use mimalloc::MiMalloc as Inner;

/// What the recorder's allocator passes calls on to.
const INNER: Inner = Inner;
