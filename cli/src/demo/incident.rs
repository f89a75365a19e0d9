//! The snapshot that the shop takes of itself, the first time that something goes wrong.

use lookback::{Recorder, region};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How the snapshot was saved, or why it was not.
type Outcome = anyhow::Result<()>;

/// See the module.
pub struct Incident {
    recorder: Arc<Recorder>,
    file: PathBuf,
    began: AtomicBool,
    outcome: Mutex<Option<Outcome>>,
}

impl Incident {
    /// None yet. If there is one, it is saved to this file.
    pub fn new(recorder: &Arc<Recorder>, file: &Path) -> Arc<Self> {
        Arc::new(Self {
            recorder: Arc::clone(recorder),
            file: file.to_owned(),
            began: AtomicBool::new(false),
            outcome: Mutex::new(None),
        })
    }

    /// Keeps the seconds that led to it: the first time that this is called.
    pub async fn save(self: &Arc<Self>, reason: String) {
        if self.began.swap(true, Relaxed) {
            return;
        }
        let this = Arc::clone(self);
        // Files are written where that keeps no worker from its tasks.
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

    /// Whether there is a snapshot, or cannot be one.
    pub fn is_saved(&self) -> bool {
        self.outcome().is_some()
    }

    /// How it was saved, if there was an incident.
    pub fn take_outcome(&self) -> Option<Outcome> {
        self.outcome().take()
    }

    fn outcome(&self) -> MutexGuard<'_, Option<Outcome>> {
        // Nothing can panic while it is locked.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
