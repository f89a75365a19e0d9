//! The atomics that the protocols are built on: the standard library's, or [loom]'s, so that the
//! model checks the code that ships.
//!
//! [loom]: https://docs.rs/loom

#![forbid(unsafe_code)]

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Loom has no compiler fence; the model always runs with the processor's fence.
#[cfg(loom)]
pub(crate) fn compiler_fence(_: Ordering) {}
