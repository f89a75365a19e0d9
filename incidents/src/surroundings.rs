//! Whether others had the machine's cores while an incident was made. If so, a summary that says that is right.

use crate::summary::Told;
use std::fs;
use std::path::Path;

/// How long this process ran, and how long it waited for a core, up to now.
pub struct Since {
    ran: u64,
    waited: u64,
}

/// From this share on, `lookback summary` says so, too.
const MUCH: f64 = 0.25;

impl Since {
    /// From now on.
    pub fn now() -> Self {
        let mut now = Self { ran: 0, waited: 0 };
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0u64));
            now.ran += numbers.next().unwrap_or(0);
            now.waited += numbers.next().unwrap_or(0);
        }
        now
    }

    /// Whether the threads of this process that are alive now, clients most of them, had to wait for cores a good deal.
    pub fn others_had_the_cores(&self) -> bool {
        let now = Self::now();
        let (ran, waited) =
            (now.ran.saturating_sub(self.ran), now.waited.saturating_sub(self.waited));
        waited as f64 > MUCH * (ran + waited) as f64
    }
}

/// Whether others that have the cores can be all that a finding is about: it says so, or some time is short enough for a thread to have
/// waited for a core meanwhile.
pub fn may_explain(finding: &Told) -> bool {
    const SHORT: f64 = 100e6;
    match &*finding.analysis {
        "starved" => true,
        "polls" | "delays" | "spans" => finding.value < SHORT,
        _ => false,
    }
}

/// Notes it beside a snapshot, for those who judge it again.
pub fn note(folder: &Path, others_had_the_cores: bool) -> anyhow::Result<()> {
    Ok(fs::write(folder.join("others-had-the-cores"), others_had_the_cores.to_string())?)
}

/// What was noted.
pub fn noted(folder: &Path) -> bool {
    fs::read_to_string(folder.join("others-had-the-cores")).is_ok_and(|text| text == "true")
}
