//! What a thread of the snapshot is doing.

use super::goroutine::{GoId, Token};
use super::machine::{ProcId, ThreadAt};
use super::tables::Root;
use crate::read::WorkerId;

/// A thread, by its place on the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeatAt(pub(super) usize);

/// A thread.
#[derive(Debug)]
pub(super) struct Seat {
    /// The recorder's number of the thread, and the operating system's if that is the thread's number
    /// in the trace; if an event names it.
    pub(super) number: Option<u64>,
    pub(super) os_thread: Option<u64>,
    /// The thread in Go's machine.
    pub(super) at: ThreadAt,
    /// What it is called, and its own goroutine: what runs on it outside of tasks. It exists from
    /// when it is first needed.
    pub(super) root: Root,
    pub(super) own: GoId,
    /// Its own processor, once it had one.
    pub(super) proc: Option<ProcId>,
    pub(super) worker: Option<WorkerId>,
    pub(super) is_parked: bool,
    /// The tasks that it polls, outermost first. Only the innermost one runs, as Go sees it.
    pub(super) polls: Vec<GoId>,
    /// The regions and spans that it is inside of, outermost first.
    pub(super) open: Vec<Open>,
}

/// What a thread is inside of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) what: What,
    /// The goroutine that ran when it began, and which region of that it is. None if it was too deep
    /// for one.
    pub(super) goroutine: GoId,
    pub(super) token: Option<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A region whose name has this hash.
    Region(u64),
    /// A span of this number.
    Span(u64),
}

impl Seat {
    /// No more than so much is kept of what a thread is inside of.
    const MAX_OPEN: usize = 4096;

    /// Notes something that it is inside of.
    pub(super) fn open(&mut self, open: Open) {
        if self.open.len() < Self::MAX_OPEN {
            self.open.push(open);
        }
    }

    /// Takes the innermost one that is this.
    pub(super) fn close(&mut self, what: What) -> Option<Open> {
        let place = self.open.iter().rposition(|open| open.what == what)?;
        Some(self.open.remove(place))
    }

    /// Takes the region that so many others are inside of; if that is not this one, because something
    /// is missing, the innermost one that is.
    pub(super) fn close_region(&mut self, what: What, inside: u64) -> Option<Open> {
        let regions = self.open.iter().enumerate().rev();
        let mut regions = regions.filter(|(_, open)| matches!(open.what, What::Region(_)));
        match regions.nth(usize::try_from(inside).unwrap_or(usize::MAX)) {
            Some((place, open)) if open.what == what => Some(self.open.remove(place)),
            _ => self.close(what),
        }
    }

    /// Takes the innermost region, if that has none in the trace.
    pub(super) fn close_deep(&mut self) -> bool {
        let is_region = |open: &Open| matches!(open.what, What::Region(_));
        let place = self.open.iter().rposition(is_region);
        let place = place.filter(|place| self.open[*place].token.is_none());
        place.map(|place| self.open.remove(place)).is_some()
    }

    /// The goroutine that is to run on it.
    pub(super) fn wanted(&self) -> GoId {
        self.polls.last().copied().unwrap_or(self.own)
    }
}
