//! Saves a snapshot the first time that something goes wrong in the shop.

use lookback::{Recorder, region};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How the snapshot was saved, or why it was not.
type Outcome = anyhow::Result<()>;

/// The shop's one snapshot.
pub struct Incident {
    recorder: Arc<Recorder>,
    file: PathBuf,
    began: AtomicBool,
    outcome: Mutex<Option<Outcome>>,
}

impl Incident {
    /// No incident yet; the snapshot of one will be saved to this file.
    pub fn new(recorder: &Arc<Recorder>, file: &Path) -> Arc<Self> {
        Arc::new(Self {
            recorder: Arc::clone(recorder),
            file: file.to_owned(),
            began: AtomicBool::new(false),
            outcome: Mutex::new(None),
        })
    }

    /// Saves the last seconds, on the first call only.
    pub async fn save(self: &Arc<Self>, reason: String) {
        if self.began.swap(true, Relaxed) {
            return;
        }
        let this = Arc::clone(self);
        // Write the file where that blocks no worker.
        let saved = lookback::spawn_blocking(move || {
            let _region = region!("save_snapshot");
            let snapshot = this.recorder.snapshot_because(&reason)?;
            snapshot.save(&this.file)
        });
        let outcome = match saved.await {
            Ok(saved) => saved.map_err(Into::into),
            Err(error) => Err(error.into()),
        };
        *self.outcome() = Some(outcome);
    }

    /// Whether a snapshot was saved, or failed.
    pub fn is_saved(&self) -> bool {
        self.outcome().is_some()
    }

    /// The outcome, if there was an incident.
    pub fn take_outcome(&self) -> Option<Outcome> {
        self.outcome().take()
    }

    fn outcome(&self) -> MutexGuard<'_, Option<Outcome>> {
        // Nothing can panic while it is locked.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
