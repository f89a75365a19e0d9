//! Errors as triggers.

#![forbid(unsafe_code)]

use crate::recorder::Recorder;
use std::fmt::Display;

/// Takes a snapshot where an error is handled.
pub trait SnapshotOnErr {
    /// If this is an error, fires the trigger [`error`](crate::Trigger::error), with the error as the reason.
    /// The snapshot is saved in the [`snapshot_dir`](crate::Builder::snapshot_dir). This does not wait, and
    /// returns the result unchanged.
    ///
    /// ```
    /// use lookback_recorder::{Recorder, SnapshotOnErr};
    /// fn pay(recorder: &Recorder) -> std::io::Result<String> {
    ///     std::fs::read_to_string("receipt.txt").snapshot_on_err(recorder)
    /// }
    /// # let directory = std::env::temp_dir().join("lookback-doc-on-err");
    /// # let recorder = Recorder::builder().max_bytes(1 << 20).snapshot_dir(&directory).start()?;
    /// assert!(pay(&recorder).is_err());
    /// assert_eq!(recorder.stats().triggers.fired, 1);
    /// # drop(recorder);
    /// # std::fs::remove_dir_all(directory).unwrap();
    /// # Ok::<(), lookback_recorder::Error>(())
    /// ```
    #[must_use]
    fn snapshot_on_err(self, recorder: &Recorder) -> Self;
}

impl<T, E: Display> SnapshotOnErr for Result<T, E> {
    fn snapshot_on_err(self, recorder: &Recorder) -> Self {
        if let Err(error) = &self {
            let _ = recorder.on_error().fire(|| error.to_string());
        }
        self
    }
}
