//! Tasks that nobody wraps: what an executor's hooks say of them.

use crate::task::{Outcome, Place, Task, begin_poll, end_poll};
use std::panic::Location;

/// A task that is seen from outside alone, by its executor's hooks: nobody wraps its future, so who
/// wakes it is not known. To be ended once.
#[derive(Clone, Copy, Debug)]
pub struct Observed(&'static Place);

impl Observed {
    /// Begins now, with this name. `None` if nothing is recorded.
    #[must_use]
    pub fn new(name: &'static str, place: &'static Location<'static>) -> Option<Self> {
        Some(Self(Task::create(crate::places::site_of(name, place))?.into_place()))
    }

    /// A poll begins on this thread. Says whether it is recorded; only then does it have an end.
    pub fn begin_poll(self) -> bool {
        begin_poll(self.0)
    }

    /// The poll ends that [`begin_poll`](Self::begin_poll) said is recorded.
    pub fn end_poll(self) {
        end_poll(self.0, Outcome::Pending);
    }

    /// The task is over: in the poll that is going on (`polled`), or because it was dropped.
    pub fn end(self, polled: bool) {
        if polled {
            end_poll(self.0, Outcome::Ready);
            Task::from_place(self.0).finish();
        } else {
            drop(Task::from_place(self.0));
        }
    }
}
