//! How much of a text, of a span's fields and of an event's fields is recorded: the builder's
//! settings, within what fits on the stack of the recording thread.
//!
//! All limits are in one word, which is set before recording starts. Recording threads load it only
//! where they handle a text or a field.

#![forbid(unsafe_code)]

use crate::record::fields::KEPT;
use lookback_snapshot::wire::MAX_TEXT;
use std::sync::atomic::{AtomicU64, Ordering};

/// The lowest limit for a text.
pub(crate) const LEAST_TEXT: usize = 16;
/// The most fields of an event or a span of `tracing`: as many as have names in their definition.
pub(crate) const MOST_FIELDS: usize = 64;

static LIMITS: AtomicU64 = AtomicU64::new(Limits::USUAL.packed());

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of one text.
    pub(crate) text: usize,
    /// Bytes of a span's fields that are kept for restating them.
    pub(crate) kept: usize,
    /// Fields of an event or a span of `tracing`.
    pub(crate) fields: usize,
}

impl Limits {
    pub(crate) const USUAL: Self = Self { text: MAX_TEXT, kept: KEPT, fields: MOST_FIELDS };

    const fn packed(self) -> u64 {
        self.text as u64 | (self.kept as u64) << 16 | (self.fields as u64) << 32
    }

    /// The current limits.
    #[inline(always)]
    pub(crate) fn now() -> Self {
        let word = LIMITS.load(Ordering::Relaxed);
        let part = |shift: u32| usize::from((word >> shift) as u16);
        Self { text: part(0), kept: part(16), fields: part(32) }
    }

    /// Sets the limits.
    pub(crate) fn set(self) {
        LIMITS.store(self.packed(), Ordering::Relaxed);
    }
}
