//! The heap, with jemalloc behind the recorder's allocator.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/heap/of_any_allocator.rs"]
mod of_any_allocator;

use tikv_jemallocator::Jemalloc as Inner;

/// What the recorder's allocator passes calls on to.
const INNER: Inner = Inner;
