//! Triggers of conditions that last: an overload, a deadlock. `rounds` finds them.

#![forbid(unsafe_code)]

use super::{Condition, Trigger};
use lookback_snapshot::wire::CounterGroup;
use std::time::Duration;

/// For so long a rate is measured, if nothing else is said.
const OVER: Duration = Duration::from_secs(10);
/// Of so many spans at least.
const FAILED_OF: u64 = 20;
const SLOW_OF: u64 = 100;

/// What there is too little of: see [`Trigger::pressure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pressure {
    /// Cores.
    Cpu,
    /// Memory.
    Memory,
    /// Storage.
    Io,
}

/// How much memory is too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MemoryLimit {
    Bytes(u64),
    /// Of what the control group may have.
    Share(f64),
}

impl Trigger {
    /// Fires when a larger share than this of the `tracing` spans of this name fails: 0.05 is one in twenty. A span has failed if its
    /// fields say so, as `lookback summary` counts failures: `status` of 500 or more, a `grpc_status` that blames the server,
    /// `error`, `otel.status_code`, `panicked`. The spans of the layer for HTTP have these and are named `request`.
    ///
    /// It counts those that ended in the last 10 s ([`over`](Self::over)), if they are at least 20 ([`at_least`](Self::at_least)).
    /// Fires once, until the share is a tenth below the limit again, or there are fewer.
    ///
    /// ```
    /// use lookback_recorder::{Recorder, Trigger};
    /// use std::time::Duration;
    /// let trigger = Trigger::error_rate("request", 0.05).over(Duration::from_secs(5)).at_least(50);
    /// let builder = Recorder::builder().trigger(trigger);
    /// ```
    pub fn error_rate(name: impl Into<String>, share: f64) -> Self {
        let (name, over, at_least) = (name.into(), OVER, FAILED_OF);
        Self::new(Condition::ErrorRate { name, share, over, at_least })
    }

    /// Fires when this quantile of the lengths of `tracing` spans of this name is above `limit`: with 0.99, when more than one in
    /// a hundred takes longer.
    ///
    /// It counts those that ended in the last 10 s ([`over`](Self::over)), if they are at least 100 ([`at_least`](Self::at_least)).
    /// Fires once, until those that take longer are a tenth below that share again, or there are fewer.
    ///
    /// ```
    /// use lookback_recorder::{Recorder, Trigger};
    /// use std::time::Duration;
    /// let trigger = Trigger::latency_quantile("request", 0.99, Duration::from_millis(500));
    /// let builder = Recorder::builder().trigger(trigger);
    /// ```
    pub fn latency_quantile(name: impl Into<String>, quantile: f64, limit: Duration) -> Self {
        let (name, over, at_least) = (name.into(), OVER, SLOW_OF);
        Self::new(Condition::LatencyQuantile { name, quantile, limit, over, at_least })
    }

    /// Fires when the process's resident memory is more than so many bytes: once, until it is a tenth below that again. It
    /// is read once a generation, so [`system_counters`](crate::Builder::system_counters) has the group `memory` then.
    ///
    /// ```
    /// use lookback_recorder::{Recorder, Trigger};
    /// let builder = Recorder::builder().trigger(Trigger::memory(2 << 30));
    /// ```
    pub fn memory(bytes: u64) -> Self {
        Self::new(Condition::Memory { limit: MemoryLimit::Bytes(bytes) })
    }

    /// The same for a share of what the process's control group may have; of the machine's memory if the group has no limit. Before
    /// the kernel kills the process at 1.0, 0.9 leaves a snapshot of what has taken it.
    ///
    /// ```
    /// use lookback_recorder::{Recorder, Trigger};
    /// let builder = Recorder::builder().trigger(Trigger::memory_share(0.9));
    /// ```
    pub fn memory_share(share: f64) -> Self {
        Self::new(Condition::Memory { limit: MemoryLimit::Share(share) })
    }

    /// Fires when tasks wait for this for a larger share of the last 10 s ([`over`](Self::over)): what the kernel calls PSI, `some`. It is
    /// that of the process's control group, or of the machine if the group has none. Fires once, until the
    /// share is a tenth below the limit again.
    ///
    /// ```
    /// use lookback_recorder::{Pressure, Recorder, Trigger};
    /// let builder = Recorder::builder().trigger(Trigger::pressure(Pressure::Memory, 0.2));
    /// ```
    pub fn pressure(of: Pressure, share: f64) -> Self {
        Self::new(Condition::Pressure { of, share, over: OVER })
    }

    /// Fires when threads or tasks wait for each other's locks in a circle, or for one that they hold themselves: once for each
    /// circle. Only locks of `lookback::sync` and mutexes of `lookback::tokio::sync` say who holds them; each wait must last for
    /// a second.
    ///
    /// ```
    /// use lookback_recorder::{Recorder, Trigger};
    /// let builder = Recorder::builder().trigger(Trigger::deadlock());
    /// ```
    pub fn deadlock() -> Self {
        Self::new(Condition::Deadlock)
    }

    /// Over which time [`error_rate`](Self::error_rate), [`latency_quantile`](Self::latency_quantile) and
    /// [`pressure`](Self::pressure) are measured: 10 s by default. It has no effect on other triggers. Of a time that is longer than the
    /// window, the snapshot has only the end.
    pub fn over(mut self, time: Duration) -> Self {
        match &mut self.condition {
            Condition::ErrorRate { over, .. }
            | Condition::LatencyQuantile { over, .. }
            | Condition::Pressure { over, .. } => *over = time,
            _ => {}
        }
        self
    }

    /// Of how many spans at least [`error_rate`](Self::error_rate) and [`latency_quantile`](Self::latency_quantile) are measured:
    /// of fewer, a share says little. It has no effect on other triggers.
    pub fn at_least(mut self, spans: u64) -> Self {
        match &mut self.condition {
            Condition::ErrorRate { at_least, .. } | Condition::LatencyQuantile { at_least, .. } => {
                *at_least = spans;
            }
            _ => {}
        }
        self
    }

    /// What must be a share, with its name.
    pub(super) fn share(&self) -> Option<(&'static str, f64)> {
        match self.condition {
            Condition::ErrorRate { share, .. } => Some(("error_rate", share)),
            Condition::Pressure { share, .. } => Some(("pressure", share)),
            Condition::LatencyQuantile { quantile, .. } => Some(("latency_quantile", quantile)),
            Condition::Memory { limit: MemoryLimit::Share(share) } => Some(("memory_share", share)),
            _ => None,
        }
    }

    /// The counters that must be read for it.
    pub(crate) fn counters(&self) -> &'static [CounterGroup] {
        match self.condition {
            Condition::Memory { limit: MemoryLimit::Bytes(_) } => &[CounterGroup::Memory],
            Condition::Memory { .. } => &[CounterGroup::Memory, CounterGroup::Cgroup],
            Condition::Pressure { .. } => &[CounterGroup::Pressure],
            _ => &[],
        }
    }
}
