//! A recorder that is disabled: it answers the program's calls, but records nothing.

#![forbid(unsafe_code)]

use super::{Recorder, State};
use crate::error::Error;
use crate::os::barrier::Barrier;
use crate::recorder::builder::Settings;
use crate::recorder::identity;
use crate::recorder::stats::Stats;
use crate::recorder::trigger::{Armed, Trigger};
use crate::redact;
use crate::snapshot::Snapshot;
use crate::snapshot::snapshot_dir::Directory;
use crate::snapshot::window::Window;
use crossbeam_channel::bounded;
use lookback_snapshot::wire::{ClockKind, encode_event_table, key};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

/// See the module.
#[derive(Debug)]
pub(super) struct Off {
    pub(super) settings: Settings,
    pub(super) on_error: Armed,
}

impl Recorder {
    /// A recorder that does nothing.
    pub(super) fn off(settings: Settings) -> Self {
        let off = Arc::new(Off { settings, on_error: Trigger::error().arm() });
        *TURNED_OFF.lock() = Arc::downgrade(&off);
        Self { state: State::Off(off), commands: bounded(0).0, collector: None }
    }
}

/// The last disabled recorder while it exists, for saves from anywhere in the process.
static TURNED_OFF: Mutex<Weak<Off>> = Mutex::new(Weak::new());

/// This process's disabled recorder, if there is one. (The lock is only ever held for a moment; a
/// child forked in that moment finds no recorder.)
pub(super) fn turned_off() -> Option<Arc<Off>> {
    TURNED_OFF.try_lock()?.upgrade()
}

impl Off {
    /// An empty snapshot that says why it is empty.
    pub(super) fn snapshot(&self, reason: &str, trigger: &str) -> Snapshot {
        let mut metadata = identity::describe(self.settings.name.as_deref());
        let reason = redact::scrubbed_string(reason.to_owned());
        metadata.add(key::REASON, format!("{reason} (recording is turned off)"));
        metadata.add(key::TRIGGER, trigger);
        metadata.add(key::TAKEN, chrono::Local::now().to_rfc3339());
        metadata.add(key::COVERED, 0_u64);
        metadata.add(key::ENABLED, 0_u64);
        metadata.add(key::EVENT_TABLE, encode_event_table());
        Snapshot::new(Arc::new(Window::empty()), metadata)
    }

    pub(super) fn save(&self, reason: &str) -> Result<PathBuf, Error> {
        let name = identity::describe(self.settings.name.as_deref());
        let name = name.text(key::PROCESS_NAME).unwrap_or("lookback");
        let (path, bounds) = (self.settings.snapshot_dir.clone(), self.settings.snapshot_bounds);
        let directory = Directory::new(path, bounds, name);
        // Within the directory's bounds, and through no link, like any other snapshot.
        let snapshot = self.snapshot(reason, "request");
        directory.save(&directory.name("request"), |out| snapshot.write_to(out).map(drop))
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            enabled: false,
            window: self.settings.window,
            snapshot_dir: self.settings.snapshot_dir.clone(),
            broken: None,
            ..Stats::of_child(ClockKind::Monotonic, Barrier::Fence)
        }
    }
}
