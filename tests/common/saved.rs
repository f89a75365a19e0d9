//! Helpers for tests of triggers: recorders that save into a directory of their own, and what they have
//! saved.

use super::{assert_sound, wait_for};
use lookback::read::Trace;
use lookback::read::wire::key;
use lookback::{Builder, Recorder, Trigger};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A wait of this length means a hang.
pub const EVER: Duration = Duration::from_secs(120);

/// A recorder that keeps everything that fits, and saves here.
pub fn builder(directory: &Path) -> Builder {
    Recorder::builder()
        .max_bytes(2 << 20)
        .window(Duration::from_secs(3600))
        .name("triggers")
        .snapshot_dir(directory)
}

/// One with this trigger.
pub fn start(directory: &Path, trigger: Trigger) -> Recorder {
    builder(directory).trigger(trigger).start().expect("a recorder starts")
}

/// The snapshots in a directory, by name.
pub fn snapshots(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut found: Vec<_> = paths.filter(|p| p.extension().is_some_and(|e| e == "lbk")).collect();
    found.sort();
    found
}

/// Waits until this many snapshots were saved, and reads the last one.
pub fn saved(recorder: &Recorder, directory: &Path, count: u64) -> Trace {
    let done = || recorder.stats().triggers.saved >= count;
    assert!(wait_for(done), "{:?}", recorder.stats().triggers);
    let trace = Trace::open(snapshots(directory).last().expect("it is there")).expect("it reads");
    assert_sound(&trace);
    trace
}

/// Which trigger a snapshot names first, and why.
pub fn told(trace: &Trace) -> (String, String) {
    let text = |name| trace.metadata().text(name).expect("it is there").to_owned();
    (text(key::TRIGGER), text(key::REASON))
}
