//! Triggers: conditions that take a snapshot by themselves.
//!
//! A [`Trigger`] describes a condition; once [armed](Armed), it has a cool-down. Firing requests a snapshot
//! from the [saver]: the file's name is known at once, and the saver's thread takes the snapshot.

pub(crate) mod counted;
pub(crate) mod dispatch;
pub(crate) mod lasting;
pub(crate) mod panic_hook;
pub(crate) mod rate_limit;
pub(crate) mod request;
pub(crate) mod rounds;

mod armed;
pub(crate) mod exit;
mod on_err;
pub(crate) mod saver;
pub(crate) mod signal;
pub(crate) mod watchdog;

pub use armed::{Armed, Fired};
pub use lasting::Pressure;
pub use on_err::SnapshotOnErr;

use crate::error::Error;
use lasting::MemoryLimit;
use lookback_snapshot::wire::Level;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How often limits have held back a trigger in this process.
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// The shortest limit for a poll.
pub(crate) const LEAST_STALL: Duration = Duration::from_millis(1);

/// A condition that takes a snapshot by itself. Pass it to [`Builder::trigger`](crate::Builder::trigger), or
/// [arm](Self::arm) it to fire it by hand.
///
/// Each trigger has a [cool-down](Self::cool_down) (by default 10 s for a panic, 1 s for a signal, 60 s for
/// all others), an [hourly limit](Self::per_hour) (120 for signals, 20 for others), and a
/// [delay](Self::delay) (none).
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
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    Panic,
    Log { level: Level, target: Option<String> },
    SlowSpan { name: String, limit: Duration },
    SlowRegion { name: String, limit: Duration },
    NoProgress { name: String, limit: Duration },
    ErrorRate { name: String, share: f64, over: Duration, at_least: u64 },
    LatencyQuantile { name: String, quantile: f64, limit: Duration, over: Duration, at_least: u64 },
    Memory { limit: MemoryLimit },
    Pressure { of: Pressure, share: f64, over: Duration },
    Deadlock,
    StalledPoll { limit: Duration },
    Signal { number: i32 },
    Error,
    Named { name: String },
}

/// How often a trigger may fire, and how long after its condition the snapshot is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) cool_down: Duration,
    pub(crate) per_hour: u32,
    pub(crate) delay: Duration,
}

/// What triggers have done since the recorder was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// How often a trigger fired.
    pub fired: u64,
    /// How often a cool-down or an hourly limit held a trigger back.
    pub suppressed: u64,
    /// Snapshots that were saved. Triggers that fire at nearly the same time share one.
    pub saved: u64,
    /// Snapshots that could not be taken or saved.
    pub failed: u64,
    /// Why the last of those failed.
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

    /// Fires on a panic, caught or not, on any thread. A [`snapshot_dir`](crate::Builder::snapshot_dir) turns
    /// this trigger on by itself.
    pub fn panic() -> Self {
        Self::new(Condition::Panic)
    }

    /// Fires when a message of at least this level is recorded: by [`log!`](crate::log), as an event of
    /// `tracing`, or as a record of `log`.
    pub fn log(level: Level) -> Self {
        Self::new(Condition::Log { level, target: None })
    }

    /// Limits a [`log`](Self::log) trigger to targets of `tracing`, or categories of [`log!`](crate::log),
    /// that begin with this prefix. It has no effect on other triggers.
    pub fn target(mut self, prefix: impl Into<String>) -> Self {
        if let Condition::Log { target, .. } = &mut self.condition {
            *target = Some(prefix.into());
        }
        self
    }

    /// Fires when a `tracing` span of this name takes longer than `limit` from its creation until it is closed: when it is
    /// closed, or while it is still open, at most a generation late. So a hang leaves a snapshot, too, although nothing is
    /// ever closed.
    ///
    /// It fires once for a span; and for further ones that are still open not before one of this name was closed in time: else
    /// they belong to the same hang. Choose a name whose spans end: one that is open as long as a connection fires once
    /// for each connection that gets that old.
    pub fn slow_span(name: impl Into<String>, limit: Duration) -> Self {
        Self::new(Condition::SlowSpan { name: name.into(), limit })
    }

    /// Fires when a [`region!`](crate::region) of this name took longer than `limit`.
    pub fn slow_region(name: impl Into<String>, limit: Duration) -> Self {
        Self::new(Condition::SlowRegion { name: name.into(), limit })
    }

    /// Fires when no `tracing` span of this name has been closed for so long, while one has been open for so long: everything
    /// hangs, or the last worker does. Fires once, until a span of this name is closed again, or none is open. Only time counts in which
    /// the recorder's thread was running: not that of a suspended machine.
    ///
    /// ```
    /// use lookback_recorder::{Recorder, Trigger};
    /// use std::time::Duration;
    /// let builder = Recorder::builder().trigger(Trigger::no_progress("request", Duration::from_secs(10)));
    /// ```
    pub fn no_progress(name: impl Into<String>, limit: Duration) -> Self {
        Self::new(Condition::NoProgress { name: name.into(), limit })
    }

    /// Fires when a poll of a recorded task does not return within `limit`, which must be at least a
    /// millisecond. The poll is noticed while it is still stalled, at most half a limit late.
    pub fn stalled_poll(limit: Duration) -> Self {
        Self::new(Condition::StalledPoll { limit })
    }

    /// Fires when the process receives SIGUSR2. The signal's previous handler is called, too; but a signal
    /// that would have ended the process no longer does.
    pub fn signal() -> Self {
        Self::signal_number(libc::SIGUSR2)
    }

    /// Fires when the process receives this signal.
    pub fn signal_number(number: i32) -> Self {
        Self::new(Condition::Signal { number })
    }

    /// The limits of [`snapshot_on_err`](SnapshotOnErr::snapshot_on_err), which works without adding this
    /// trigger.
    pub fn error() -> Self {
        Self::new(Condition::Error)
    }

    /// A custom condition, which you [fire by hand](Armed::fire). Its name appears in the metadata.
    pub fn named(name: impl Into<String>) -> Self {
        Self::new(Condition::Named { name: name.into() })
    }

    /// How long the trigger stays silent after it has fired.
    pub fn cool_down(mut self, duration: Duration) -> Self {
        self.limits.cool_down = duration;
        self
    }

    /// How often the trigger fires in an hour, at most. An hour begins with the first time that it fires
    /// after the previous hour.
    pub fn per_hour(mut self, times: u32) -> Self {
        self.limits.per_hour = times;
        self
    }

    /// How long after its condition the snapshot is taken, so that it shows the consequences. The delay must
    /// not exceed the window, or the moment itself would be gone. Panics are never delayed.
    pub fn delay(mut self, duration: Duration) -> Self {
        self.limits.delay = duration;
        self
    }

    /// Arms the trigger, so that it can be [fired by hand](Armed::fire).
    #[must_use]
    pub fn arm(self) -> Armed {
        let name = self.name().to_owned();
        Armed::new(name, self.limits)
    }

    /// Refuses invalid settings.
    pub(crate) fn check(&self, window: Duration) -> Result<(), Error> {
        let refuse = |name, value: String, reason| Err(Error::Setting { name, value, reason });
        if self.limits.delay > window {
            let reason =
                "must not be longer than the window, or the snapshot misses the moment itself";
            return refuse("delay", format!("{:?}", self.limits.delay), reason);
        }
        if let Some((name, share)) = self.share()
            && !(0.0..=1.0).contains(&share)
        {
            return refuse(name, share.to_string(), "must be a share, between 0 and 1");
        }
        match &self.condition {
            Condition::StalledPoll { limit } if *limit < LEAST_STALL => {
                refuse("stalled_poll", format!("{limit:?}"), "must be at least a millisecond")
            }
            Condition::Signal { number } if !signal::is_possible(*number) => refuse(
                "signal",
                number.to_string(),
                "a program must be able to continue after the signal, as it can after SIGUSR2 or SIGHUP",
            ),
            Condition::Named { name } => refuse(
                "trigger",
                name.clone(),
                "arm a custom trigger with `Trigger::arm`; the builder does not take it",
            ),
            _ => Ok(()),
        }
    }

    /// How long a poll must stall for it, if it is that trigger.
    pub(crate) fn stall_limit(&self) -> Option<Duration> {
        match self.condition {
            Condition::StalledPoll { limit } => Some(limit),
            _ => None,
        }
    }

    /// The trigger's name in the metadata.
    pub(crate) fn name(&self) -> &str {
        match &self.condition {
            Condition::Panic => "panic",
            Condition::Log { .. } => "log",
            Condition::SlowSpan { .. } => "slow_span",
            Condition::SlowRegion { .. } => "slow_region",
            Condition::NoProgress { .. } => "no_progress",
            Condition::ErrorRate { .. } => "error_rate",
            Condition::LatencyQuantile { .. } => "latency_quantile",
            Condition::Memory { .. } => "memory",
            Condition::Pressure { .. } => "pressure",
            Condition::Deadlock => "deadlock",
            Condition::StalledPoll { .. } => "stalled_poll",
            Condition::Signal { .. } => "signal",
            Condition::Error => "error",
            Condition::Named { name } => name,
        }
    }
}
