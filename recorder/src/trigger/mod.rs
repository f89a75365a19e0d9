//! Triggers: conditions that take a snapshot by themselves.
//!
//! A [`Trigger`] is a description; [armed](Armed), it has its cool-down. Firing asks the [saver] for a
//! snapshot, which is told the file's name at once and taken on the saver's thread.

pub(crate) mod active;
mod armed;
mod described;
pub(crate) mod directory;
pub(crate) mod exit;
pub(crate) mod hook;
mod limiter;
mod on_err;
pub(crate) mod saver;
pub(crate) mod signal;
pub(crate) mod slow;
pub(crate) mod ticket;
pub(crate) mod watchdog;

pub use armed::{Armed, Fired};
pub use on_err::SnapshotOnErr;

use crate::error::Error;
use lookback_snapshot::wire::Level;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How often a trigger of this process was held back by its limits.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// The shortest limit of a poll.
pub(crate) const LEAST_STALL: Duration = Duration::from_millis(1);

/// A condition that takes a snapshot by itself, given to [`Builder::trigger`](crate::Builder::trigger);
/// or armed by hand, for a condition of one's own.
///
/// Each has a [cool-down](Self::cool_down) (10 s for a panic, 1 s for a signal, 60 s for all others),
/// a [number an hour](Self::per_hour) (20; of signals 120), and a [delay](Self::delay) (none).
///
/// ```no_run
/// use lookback_recorder::{Level, Recorder, Trigger};
/// use std::time::Duration;
/// let recorder = Recorder::builder()
///     .snapshot_dir("/var/lib/shop/snapshots") // with a directory, panics trigger
///     .trigger(Trigger::log(Level::Error).target("shop"))
///     .trigger(Trigger::slow_span("checkout", Duration::from_millis(500)))
///     .trigger(Trigger::stalled_poll(Duration::from_millis(100)).delay(Duration::from_secs(1)))
///     .trigger(Trigger::signal())
///     .start()?;
/// # Ok::<(), lookback_recorder::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a trigger is given to a builder, or armed"]
pub struct Trigger {
    pub(crate) condition: Condition,
    limits: Limits,
}

/// When a trigger fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Panic,
    Log { level: Level, target: Option<String> },
    SlowSpan { name: String, limit: Duration },
    SlowRegion { name: String, limit: Duration },
    StalledPoll { limit: Duration },
    Signal { number: i32 },
    Error,
    Named { name: String },
}

/// How often a trigger fires, and how long after its condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) cool_down: Duration,
    pub(crate) per_hour: u32,
    pub(crate) delay: Duration,
}

/// What became of triggers. Counts are since the recorder was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// How often one fired.
    pub fired: u64,
    /// How often one was held back by its cool-down or its number an hour.
    pub suppressed: u64,
    /// Snapshots that were saved for it. Triggers that fire at nearly the same time share one.
    pub saved: u64,
    /// Snapshots that could not be taken or saved.
    pub failed: u64,
    /// Why the last one of those could not.
    pub last_error: Option<String>,
}

impl Trigger {
    fn new(condition: Condition) -> Self {
        let (cool_down, per_hour) = match condition {
            Condition::Panic => (10, 20),
            Condition::Signal { .. } => (1, 120),
            _ => (60, 20),
        };
        let cool_down = Duration::from_secs(cool_down);
        Self { condition, limits: Limits { cool_down, per_hour, delay: Duration::ZERO } }
    }

    /// A panic, caught or not, on any thread. This is on without being asked for when a
    /// [`snapshot_dir`](crate::Builder::snapshot_dir) was given.
    pub fn panic() -> Self {
        Self::new(Condition::Panic)
    }

    /// A message of at least this level that is recorded: by [`log!`](crate::log), as an event of
    /// `tracing`, or as a record of `log`.
    pub fn log(level: Level) -> Self {
        Self::new(Condition::Log { level, target: None })
    }

    /// Of a [`log`](Self::log) trigger: only of targets of `tracing`, or categories of
    /// [`log!`](crate::log), that begin so. Means nothing for other triggers.
    pub fn target(mut self, prefix: impl Into<String>) -> Self {
        if let Condition::Log { target, .. } = &mut self.condition {
            *target = Some(prefix.into());
        }
        self
    }

    /// A span of `tracing` of this name that takes longer than `limit`, from its creation until it is
    /// closed.
    pub fn slow_span(name: impl Into<String>, limit: Duration) -> Self {
        Self::new(Condition::SlowSpan { name: name.into(), limit })
    }

    /// A [`region!`](crate::region) of this name that takes longer than `limit`.
    pub fn slow_region(name: impl Into<String>, limit: Duration) -> Self {
        Self::new(Condition::SlowRegion { name: name.into(), limit })
    }

    /// A poll of a recorded task that has not come back after `limit`; a millisecond at least. It is
    /// noticed while it is still stalled, by half a limit more at the latest.
    pub fn stalled_poll(limit: Duration) -> Self {
        Self::new(Condition::StalledPoll { limit })
    }

    /// SIGUSR2 is sent to the process. What handled the signal before is called, too; but if it would
    /// have ended the process, it does not any more.
    pub fn signal() -> Self {
        Self::signal_number(libc::SIGUSR2)
    }

    /// Another signal than SIGUSR2 is sent to the process.
    pub fn signal_number(number: i32) -> Self {
        Self::new(Condition::Signal { number })
    }

    /// The limits of [`snapshot_on_err`](SnapshotOnErr::snapshot_on_err), which is there without being
    /// asked for.
    pub fn error() -> Self {
        Self::new(Condition::Error)
    }

    /// A condition of one's own, which [fires by hand](Armed::fire). The name stands in the metadata.
    pub fn named(name: impl Into<String>) -> Self {
        Self::new(Condition::Named { name: name.into() })
    }

    /// How long it does not fire again after it has.
    pub fn cool_down(mut self, duration: Duration) -> Self {
        self.limits.cool_down = duration;
        self
    }

    /// How often it fires in an hour, at most. An hour begins when it fires for the first time after
    /// the hour before.
    pub fn per_hour(mut self, times: u32) -> Self {
        self.limits.per_hour = times;
        self
    }

    /// How long after its condition the snapshot is taken, so that it shows what came of it. No longer
    /// than the window: else the moment itself would be gone. A panic is never waited with.
    pub fn delay(mut self, duration: Duration) -> Self {
        self.limits.delay = duration;
        self
    }

    /// Ready to be [fired by hand](Armed::fire).
    #[must_use]
    pub fn arm(self) -> Armed {
        let name = self.name().to_owned();
        Armed::new(name, self.limits)
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self, window: Duration) -> Result<(), Error> {
        let refuse = |name, value: String, reason| Err(Error::Setting { name, value, reason });
        if self.limits.delay > window {
            let reason = "with a delay longer than the window, the moment itself is gone";
            return refuse("delay", format!("{:?}", self.limits.delay), reason);
        }
        match &self.condition {
            Condition::StalledPoll { limit } if *limit < LEAST_STALL => {
                refuse("stalled_poll", format!("{limit:?}"), "a millisecond or more makes sense")
            }
            Condition::Signal { number } if !signal::is_possible(*number) => refuse(
                "signal",
                number.to_string(),
                "it must be one that a program can go on after",
            ),
            Condition::Named { name } => {
                refuse("trigger", name.clone(), "one of one's own is armed, not given to a builder")
            }
            _ => Ok(()),
        }
    }

    /// What it is called in the metadata.
    pub(crate) fn name(&self) -> &str {
        match &self.condition {
            Condition::Panic => "panic",
            Condition::Log { .. } => "log",
            Condition::SlowSpan { .. } => "slow_span",
            Condition::SlowRegion { .. } => "slow_region",
            Condition::StalledPoll { .. } => "stalled_poll",
            Condition::Signal { .. } => "signal",
            Condition::Error => "error",
            Condition::Named { name } => name,
        }
    }
}
