//! What a thread of the snapshot is doing.

use super::goroutine::{GoId, Token};
use super::state_machine::{ProcId, ThreadAt};
use super::tables::Root;
use crate::read::WorkerId;

/// A thread, by its index in the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeatAt(pub(super) usize);

/// A thread.
#[derive(Debug)]
pub(super) struct ThreadSeat {
    /// The recorder's number of the thread, if an event names it; and the operating system's, if the thread
    /// has that number in the trace.
    pub(super) number: Option<u64>,
    pub(super) os_thread: Option<u64>,
    /// The thread in the state machine.
    pub(super) at: ThreadAt,
    /// Its name, and its own goroutine, which runs everything outside tasks. The goroutine is created when it
    /// is first needed.
    pub(super) root: Root,
    pub(super) own: GoId,
    /// Its own processor, once it has had one.
    pub(super) proc: Option<ProcId>,
    pub(super) worker: Option<WorkerId>,
    pub(super) is_parked: bool,
    /// The tasks that it polls, outermost first. In Go's terms only the innermost one runs.
    pub(super) polls: Vec<GoId>,
    /// The regions and spans that it has entered, outermost first.
    pub(super) open: Vec<Open>,
}

/// A region or span that a thread has entered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) what: OpenRange,
    /// The goroutine that was running when it began, and its region in that goroutine; `None` if it was too
    /// deep for one.
    pub(super) goroutine: GoId,
    pub(super) token: Option<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenRange {
    /// A region whose name has this hash.
    Region(u64),
    /// A span of this number.
    Span(u64),
}

impl ThreadSeat {
    /// The most that is tracked of a thread's regions and spans.
    const MAX_OPEN: usize = 4096;

    /// Notes that the thread has entered this.
    pub(super) fn open(&mut self, open: Open) {
        if self.open.len() < Self::MAX_OPEN {
            self.open.push(open);
        }
    }

    /// Removes the innermost one that matches.
    pub(super) fn close(&mut self, what: OpenRange) -> Option<Open> {
        let place = self.open.iter().rposition(|open| open.what == what)?;
        Some(self.open.remove(place))
    }

    /// Removes the region that has this many others inside it; if that one does not match, because something
    /// is missing, the innermost one that does.
    pub(super) fn close_region(&mut self, what: OpenRange, inside: u64) -> Option<Open> {
        let regions = self.open.iter().enumerate().rev();
        let mut regions = regions.filter(|(_, open)| matches!(open.what, OpenRange::Region(_)));
        match regions.nth(usize::try_from(inside).unwrap_or(usize::MAX)) {
            Some((place, open)) if open.what == what => Some(self.open.remove(place)),
            _ => self.close(what),
        }
    }

    /// Removes the innermost region if it has none in the trace.
    pub(super) fn close_deep(&mut self) -> bool {
        let is_region = |open: &Open| matches!(open.what, OpenRange::Region(_));
        let place = self.open.iter().rposition(is_region);
        let place = place.filter(|place| self.open[*place].token.is_none());
        place.map(|place| self.open.remove(place)).is_some()
    }

    /// The goroutine that should run on it.
    pub(super) fn wanted(&self) -> GoId {
        self.polls.last().copied().unwrap_or(self.own)
    }
}
