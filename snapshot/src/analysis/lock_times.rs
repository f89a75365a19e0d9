//! For how long a poll or a span waited for locks, by lock: so that what waited is told apart from what kept others waiting.

use super::lock_wait::Wait;
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use crate::format::duration;
use crate::wire::Nanos;
use std::rc::Rc;

/// So many locks of one poll or span are told apart: those that it waited for the longest.
const MOST: usize = 4;

/// The waits of one poll or span for one lock.
#[derive(Clone, Debug)]
pub(super) struct LockTime {
    /// How long they were, together.
    pub(super) waited: Nanos,
    /// The longest of them.
    pub(super) wait: Rc<Wait>,
}

impl LockTime {
    /// `waited 480 ms of 500 ms for a Mutex (src/bank.rs:31), held by …`
    pub(super) fn in_words(&self, of: Nanos, context: &ReportContext<'_>) -> String {
        let told = self.wait.told(context);
        let waited = format!("waited {} of {} for", duration(self.waited), duration(of));
        format!("{waited} {}", told.lock_and_holder())
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct LockTimes(Vec<LockTime>);

impl LockTimes {
    pub(super) fn add(&mut self, wait: &Rc<Wait>) {
        self.add_time(&LockTime { waited: wait.length(), wait: Rc::clone(wait) });
    }

    /// Those of something inside of it count, too.
    pub(super) fn merge(&mut self, inside: &Self) {
        inside.0.iter().for_each(|time| self.add_time(time));
    }

    fn add_time(&mut self, more: &LockTime) {
        if let Some(known) = self.0.iter_mut().find(|time| time.wait.lock == more.wait.lock) {
            known.waited.grow(more.waited);
            if more.wait.length() > known.wait.length() {
                known.wait = Rc::clone(&more.wait);
            }
            return;
        }
        if self.0.len() == MOST {
            let least = self.0.iter().enumerate().min_by_key(|(_, time)| time.waited);
            match least.map(|(at, time)| (at, time.waited)) {
                Some((at, waited)) if waited < more.waited => self.0.swap_remove(at),
                _ => return,
            };
        }
        self.0.push(more.clone());
    }

    /// The lock that at least half of this length was waited for, if that has waits since then.
    pub(super) fn most_of(&self, length: Nanos, since: Nanos) -> Option<LockTime> {
        let mut most = self.0.iter().max_by_key(|time| time.waited).cloned()?;
        // Several tasks may have waited inside of one span at once.
        most.waited = most.waited.min(length);
        let is_most = length.0 > 0 && most.waited.0 >= length.0 / 2;
        (is_most && most.wait.known >= since).then_some(most)
    }
}
