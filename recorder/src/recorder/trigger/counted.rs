//! What is counted of the spans of a name as they end: for triggers that ask how many, not which.
//!
//! # Synchronization
//!
//! Any thread counts, and the recorder's own thread reads: each count by itself, relaxed.

#![forbid(unsafe_code)]

use super::Armed;
use crate::record::hooks::EndedSpan;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) name: String,
    pub(crate) armed: Armed,
    ended: AtomicU64,
}

impl Counted {
    pub(crate) fn new(name: String, armed: Armed) -> Self {
        Self { name, armed, ended: AtomicU64::new(0) }
    }

    /// A span of the name has ended.
    pub(crate) fn ended(&self, _took: Duration, _span: &EndedSpan<'_>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// How many have ended since the recorder was started.
    pub(crate) fn all(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }
}
