//! What is counted of the spans of a name as they end: for triggers that ask how many, not which.
//!
//! # Synchronization
//!
//! Any thread counts, and the recorder's own thread reads: each count by itself, relaxed.

#![forbid(unsafe_code)]

use super::Armed;
use crate::record::hooks::EndedSpan;
use crate::record::span::outcome::has_failed;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) name: String,
    pub(crate) armed: Armed,
    pub(crate) bad: Bad,
    ended: AtomicU64,
    ended_badly: AtomicU64,
    /// In nanoseconds, of those that ended badly since this was last read.
    longest: AtomicU64,
}

/// Which spans end badly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bad {
    None,
    Failed,
    Slower(Duration),
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ended: u64,
    pub(crate) badly: u64,
}

impl Counted {
    pub(crate) fn new(name: String, armed: Armed, bad: Bad) -> Self {
        let zero = || AtomicU64::new(0);
        Self { name, armed, bad, ended: zero(), ended_badly: zero(), longest: zero() }
    }

    /// A span of the name has ended.
    pub(crate) fn ended(&self, took: Duration, span: &EndedSpan<'_>) {
        let is_bad = match self.bad {
            Bad::None => false,
            Bad::Failed => has_failed(span.site, span.fields),
            Bad::Slower(limit) => took > limit,
        };
        if is_bad {
            self.ended_badly.fetch_add(1, Ordering::Relaxed);
            let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.longest.fetch_max(took, Ordering::Relaxed);
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Since the recorder was started.
    pub(crate) fn counts(&self) -> Counts {
        let badly = self.ended_badly.load(Ordering::Relaxed);
        Counts { ended: self.ended.load(Ordering::Relaxed), badly }
    }

    /// The longest that ended badly since the last call.
    pub(crate) fn take_longest(&self) -> Duration {
        Duration::from_nanos(self.longest.swap(0, Ordering::Relaxed))
    }
}

impl Counts {
    /// What was added since then.
    pub(crate) fn since(self, before: Self) -> Self {
        let ended = self.ended.saturating_sub(before.ended);
        Self { ended, badly: self.badly.saturating_sub(before.badly) }
    }
}
