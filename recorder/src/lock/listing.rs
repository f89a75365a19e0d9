//! Says with each generation which waits go on: a wait that never ends, as in a deadlock, has no other record.
//!
//! The recorder's own thread does so right before it ends a generation, and the thread that takes a snapshot right before
//! that: as events, so that they are in the arena as soon as they are recorded, also for a reader after a SIGKILL. A wait is said once it is as long as those that are recorded when they
//! end, and then again with each generation in which something else was recorded: while nothing is, what was said before is
//! still there, and a process that hangs would slowly overwrite its last events.

#![forbid(unsafe_code)]

use super::record;
use super::tables::{self, Wait};
use super::waiting::limit_now;
use crate::os::clock;
use crate::record::control::Control;
use crate::record::thread::recorded_by_others;
use std::collections::{HashMap, HashSet};

/// So many are said with a generation at most: those that have waited longest.
const MOST: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// When they began, and for which lock: what was said.
    said: HashSet<(u64, u64)>,
    /// How many events had been recorded when something was last said.
    recorded: u64,
}

impl Listing {
    /// Says what is to be said.
    pub(crate) fn look(&mut self, control: &Control) {
        let mut found: Vec<Wait> = tables::waits().collect();
        if found.is_empty() {
            return self.said.clear();
        }
        let now = clock::monotonic().0;
        let mut waiters: HashMap<u64, u64> = HashMap::new();
        found.iter().for_each(|wait| *waiters.entry(wait.lock).or_default() += 1);
        found.retain(|wait| now.saturating_sub(wait.since) >= limit_now());
        found.sort_unstable_by_key(|wait| wait.since);
        found.truncate(MOST);
        let key = |wait: &Wait| (wait.lock, wait.since);
        let is_all = self.recorded != recorded_by_others(control);
        for wait in found.iter().filter(|wait| is_all || !self.said.contains(&key(wait))) {
            record::still_waits(wait, now, waiters.get(&wait.lock).copied().unwrap_or_default());
        }
        self.said = found.iter().map(key).collect();
        self.recorded = recorded_by_others(control);
    }
}
