//! Firing: from a trigger's condition to a ticket.

#![forbid(unsafe_code)]

use super::rate_limit::Limiter;
use super::request::{Due, Reason, Ticket};
use super::saver::{Saver, Slot};
use super::{Limits, SUPPRESSED};
use crate::error::Error;
use crate::os::clock;
use crate::record::emit::{encoded, is_recording, typed_event};
use crate::record::site::Site;
use crate::recorder;
use crate::redact;
use lookback_snapshot::wire::{self, key};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A trigger that can fire. Cheap to clone; clones share the cool-down and the hourly limit.
///
/// It belongs to no recorder: when it fires, the running recorder takes the snapshot, and without one nothing
/// happens.
#[derive(Clone, Debug)]
pub struct Armed(Arc<Armament>);

#[derive(Debug)]
struct Armament {
    name: String,
    delay: Duration,
    limiter: Limiter,
}

/// A snapshot that is being taken.
///
/// ```
/// # use lookback_recorder::{Recorder, Trigger};
/// # use std::time::Duration;
/// # let directory = std::env::temp_dir().join("lookback-doc-fired");
/// let recorder = Recorder::builder().max_bytes(1 << 20).snapshot_dir(&directory).start()?;
/// let trigger = Trigger::named("checkout").arm();
/// let fired = trigger.fire(|| "the cart was empty".to_owned()).expect("for the first time");
/// println!("see {}", fired.file_name());
/// let saved = fired.wait(Duration::from_secs(60)).expect("in time").expect("the disk has room");
/// assert_eq!(saved.file_name().unwrap(), fired.file_name());
/// assert!(trigger.fire(|| "again".to_owned()).is_none(), "it cools down");
/// # drop(recorder);
/// # std::fs::remove_dir_all(directory).unwrap();
/// # Ok::<(), lookback_recorder::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fired(Arc<Ticket>);

impl Armed {
    pub(super) fn new(name: String, limits: Limits) -> Self {
        let limiter = Limiter::new(limits.cool_down, limits.per_hour);
        Self(Arc::new(Armament { name, delay: limits.delay, limiter }))
    }

    /// Fires, unless the trigger is cooling down or has reached its hourly limit. In these cases, and if
    /// nothing is being recorded, returns `None` without calling `reason`. A thread of the recorder takes the
    /// snapshot. This call does not wait, and does not panic even if `reason` does.
    ///
    /// Do not call it in a signal handler: it allocates.
    #[inline]
    pub fn fire(&self, reason: impl FnOnce() -> String) -> Option<Fired> {
        if !is_recording() {
            return None;
        }
        self.admit().then(|| self.go(false, reason, Vec::new()))?
    }

    /// Whether the trigger may fire now; a refusal is counted.
    #[inline]
    pub(super) fn admit(&self) -> bool {
        let admitted = self.0.limiter.admits(clock::monotonic().0);
        if !admitted {
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Whether it would be refused now. This counts nothing.
    pub(super) fn is_cooling(&self) -> bool {
        self.0.limiter.is_closed(clock::monotonic().0)
    }

    /// Counts that it was held back.
    pub(super) fn count_suppressed(&self) {
        SUPPRESSED.fetch_add(1, Ordering::Relaxed);
    }

    /// Fires, after [`admit`](Self::admit) has allowed it.
    #[cold]
    pub(super) fn go(
        &self,
        urgent: bool,
        reason: impl FnOnce() -> String,
        details: Vec<(&'static str, wire::Value)>,
    ) -> Option<Fired> {
        let reason = catch_unwind(AssertUnwindSafe(|| redact::scrubbed_string(reason())))
            .unwrap_or_else(|_| "(what was to tell the reason panicked)".to_owned());
        let mut details = redact::scrubbed_details(details);
        let shared = recorder::current().ok()?;
        let now = clock::monotonic().0;
        let window = shared.settings.window;
        // After a longer delay the moment itself would be gone.
        let delay = self.0.delay.min(window);
        let due = if urgent { Due::Urgent } else { Due::At(now + delay.as_nanos() as u64) };
        let latest = now + (window / 2).as_nanos() as u64;
        details.push((key::TRIGGER_THREAD, crate::record::thread::describe_self().into()));
        let why = Reason { trigger: self.0.name.clone(), reason, details };
        shared.saver.counts.fired.fetch_add(1, Ordering::Relaxed);
        let ticket = Saver::ask(&shared, Slot::Triggers, why, due, latest, |ticket, why| {
            let (name, reason) = (why.trigger.as_str(), why.reason.as_str());
            let values = (encoded(name), encoded(reason), encoded(ticket.file_name()));
            typed_event(&TRIGGER, values);
        });
        Some(Fired(ticket))
    }
}

/// The event that is recorded on the firing thread.
static TRIGGER: Site = Site::new("trigger", &["name", "reason", "file"], file!(), line!());

impl Fired {
    pub(super) fn ticket(&self) -> &Arc<Ticket> {
        &self.0
    }

    /// The name that the snapshot will have in the [`snapshot_dir`](crate::Builder::snapshot_dir). Triggers
    /// that fire at nearly the same time share one snapshot.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.file_name()
    }

    /// Waits until the snapshot is saved or has failed, and returns its path or the reason. `None` if neither
    /// happens within `patience`.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> Option<Result<PathBuf, Arc<Error>>> {
        self.0.wait(patience)
    }
}
