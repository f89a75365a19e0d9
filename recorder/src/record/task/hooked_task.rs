//! Tasks without a wrapper, seen through an executor's hooks.

use crate::record::site_registry::site_of;
use crate::record::task::{NO_FRAME, Outcome, Task, TaskEntry, begin_poll, end_poll};
use lookback_snapshot::wire::HOOKED_TASK;
use std::panic::Location;

/// A task seen only through its executor's hooks: its future is not wrapped, so its wakes are not
/// recorded. Must be ended once.
#[derive(Clone, Copy, Debug)]
pub struct HookedTask(&'static TaskEntry);

impl HookedTask {
    /// Begins a task that was spawned here. `None` if nothing is recorded.
    #[must_use]
    pub fn new(spawned_at: &'static Location<'static>) -> Option<Self> {
        Some(Self(Task::create(site_of(HOOKED_TASK, spawned_at, 0))?.into_place()))
    }

    /// Begins a poll on this thread. Returns whether it is recorded; only then must it be ended.
    pub fn begin_poll(self) -> bool {
        begin_poll(self.0, NO_FRAME)
    }

    /// Ends the poll that [`begin_poll`](Self::begin_poll) said is recorded.
    pub fn end_poll(self) {
        end_poll(self.0, Outcome::Pending);
    }

    /// Ends the task: in its current poll (`polled`), or because it was dropped.
    pub fn end(self, polled: bool) {
        if polled {
            end_poll(self.0, Outcome::Ready);
            Task::from_place(self.0).finish();
        } else {
            drop(Task::from_place(self.0));
        }
    }
}
