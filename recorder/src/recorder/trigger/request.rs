//! A ticket: one snapshot to be taken, with the reasons of all who requested it.
//!
//! Its file has a name from the moment it is opened, so that a firing thread can report the name. Until the
//! copy begins, firing threads join the open ticket instead of opening others.
//!
//! # Synchronization
//!
//! One lock holds the reasons and the due time. A joining thread takes it for a few instructions at a time:
//! to count itself in, to add its reason, and to count itself out. In between it records that the trigger fired. The saver closes
//! the ticket when no thread is in between: then all reasons are there, and the events that tell of the
//! triggers precede the copy. The saver only tries the lock, as it does with all others.
//!
//! Nothing under the lock can panic, record or allocate, so a panic hook never finds its own thread holding
//! it. The recorder's signal handlers never join: they set a flag, and the collector joins. If a handler of the
//! program logs at a triggering level, formatting the reason allocates before it joins, so it already depends
//! on not having interrupted such code.

#![forbid(unsafe_code)]

use crate::error::Error;
use lookback_snapshot::wire::Value;
use parking_lot::{Condvar, Mutex};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The metadata has this many reasons; more are counted.
const MAX_REASONS: usize = 16;

/// How a ticket ended: with a file, or why without one.
pub(crate) type Outcome = Result<PathBuf, Arc<Error>>;

/// Why a snapshot is taken.
#[derive(Debug)]
pub(crate) struct Reason {
    /// The trigger's name.
    pub(crate) trigger: String,
    pub(crate) reason: String,
    /// Further values for the metadata, by name.
    pub(crate) details: Vec<(&'static str, Value)>,
}

/// When to take a snapshot, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    At(u64),
    /// At once, whatever delays others requested: the process may be about to end.
    Urgent,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ticket {
    file_name: String,
    /// No joining thread moves the due time beyond this.
    latest: u64,
    asked: Mutex<Asked>,
    /// The reasons, and how many more there were, once the ticket is closed.
    closed: OnceLock<(Vec<Reason>, u64)>,
    outcome: Mutex<Option<Outcome>>,
    resolved: Condvar,
}

/// What threads have requested so far.
#[derive(Debug)]
struct Asked {
    /// How many threads are joining right now.
    joining: u32,
    due: u64,
    urgent: bool,
    whys: Vec<Reason>,
    more: u64,
}

/// A thread is joining: while this exists, the ticket cannot be closed.
#[derive(Debug)]
pub(crate) struct Joining<'a>(&'a Ticket);

impl Ticket {
    /// A ticket whose opener is joining it, until it drops [`opened`](Self::opened).
    pub(crate) fn open(file_name: String, due: Due, latest: u64) -> Self {
        let (urgent, due) = match due {
            Due::At(at) => (false, at),
            Due::Urgent => (true, 0),
        };
        let whys = Vec::with_capacity(MAX_REASONS);
        Self {
            file_name,
            latest: latest.max(due),
            asked: Mutex::new(Asked { joining: 1, due, urgent, whys, more: 0 }),
            closed: OnceLock::new(),
            outcome: Mutex::new(None),
            resolved: Condvar::new(),
        }
    }

    /// The opener's part in the ticket, once.
    pub(crate) fn opened(&self) -> Joining<'_> {
        Joining(self)
    }

    /// Joins, unless the ticket is closed.
    pub(crate) fn join(&self, due: Due) -> Option<Joining<'_>> {
        let mut asked = self.asked.lock();
        if self.is_closed() {
            return None;
        }
        asked.joining += 1;
        match due {
            Due::At(at) => asked.due = asked.due.max(at.min(self.latest)),
            Due::Urgent => asked.urgent = true,
        }
        Some(Joining(self))
    }

    /// Closes the ticket if it is due at `now`. Otherwise returns when to look again.
    pub(crate) fn close(&self, now: u64, at_once: bool) -> Result<(), Duration> {
        const SOON: Duration = Duration::from_micros(100);
        let mut asked = self.asked.try_lock().ok_or(SOON)?;
        if asked.joining > 0 || self.is_closed() {
            return Err(SOON);
        }
        if now < asked.due && !at_once && !asked.urgent {
            return Err(Duration::from_nanos(asked.due - now));
        }
        let whys = std::mem::take(&mut asked.whys);
        self.closed.set((whys, asked.more)).map_err(|_| SOON)
    }

    /// Whether the ticket is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// The reasons, in the order of arrival, and how many more there were; none before the ticket is closed.
    pub(crate) fn whys(&self) -> (Vec<&Reason>, u64) {
        match self.closed.get() {
            Some((whys, more)) => (whys.iter().collect(), *more),
            None => (Vec::new(), 0),
        }
    }

    pub(crate) fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Sets the ticket's outcome; the first one stays.
    pub(crate) fn resolve(&self, outcome: Outcome) {
        self.outcome.lock().get_or_insert(outcome);
        self.resolved.notify_all();
    }

    /// Waits for the outcome.
    pub(crate) fn wait_for_it(&self) -> Outcome {
        loop {
            if let Some(outcome) = self.wait(Duration::from_secs(3600)) {
                return outcome;
            }
        }
    }

    /// Waits for the outcome, at most for `patience`.
    pub(crate) fn wait(&self, patience: Duration) -> Option<Outcome> {
        let mut outcome = self.outcome.lock();
        if outcome.is_none() {
            let pending = |outcome: &mut Option<_>| outcome.is_none();
            self.resolved.wait_while_for(&mut outcome, pending, patience);
        }
        outcome.clone()
    }
}

impl Joining<'_> {
    /// Adds a reason.
    pub(crate) fn add(&self, why: Reason) {
        let mut asked = self.0.asked.lock();
        if asked.whys.len() < MAX_REASONS {
            // Within the capacity.
            asked.whys.push(why);
        } else {
            asked.more += 1;
            // Frees the reason without the lock.
            drop(asked);
        }
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.0.asked.lock().joining -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(reason: &str) -> Reason {
        Reason { trigger: "t".to_owned(), reason: reason.to_owned(), details: Vec::new() }
    }

    #[test]
    fn who_joins_before_it_is_closed_is_in_it_and_nobody_afterwards() {
        let ticket = Ticket::open("a.lbk".to_owned(), Due::At(10), 100);
        let opened = ticket.opened();
        opened.add(why("first"));
        assert!(ticket.close(50, false).is_err(), "somebody is joining");
        drop(opened);
        assert_eq!(ticket.close(4, false), Err(Duration::from_nanos(6)));
        ticket.join(Due::At(30)).unwrap().add(why("second"));
        assert_eq!(ticket.close(20, false), Err(Duration::from_nanos(10)));
        ticket.join(Due::At(1000)).unwrap().add(why("third"));
        assert_eq!(ticket.close(99, false), Err(Duration::from_nanos(1)), "not for ever");
        assert_eq!(ticket.close(100, false), Ok(()));
        assert!(ticket.join(Due::At(0)).is_none());
        let (whys, more) = ticket.whys();
        let reasons: Vec<_> = whys.iter().map(|why| why.reason.as_str()).collect();
        assert_eq!((reasons, more), (vec!["first", "second", "third"], 0));
    }

    #[test]
    fn what_is_urgent_waits_for_nobodys_delay() {
        let ticket = Ticket::open("a.lbk".to_owned(), Due::At(1000), 1000);
        drop(ticket.opened());
        assert!(ticket.close(1, false).is_err());
        drop(ticket.join(Due::Urgent));
        assert_eq!(ticket.close(1, false), Ok(()));
    }

    #[test]
    fn reasons_beyond_the_bound_are_counted() {
        let ticket = Ticket::open("a.lbk".to_owned(), Due::Urgent, 0);
        let opened = ticket.opened();
        (0..MAX_REASONS + 5).for_each(|n| opened.add(why(&n.to_string())));
        drop(opened);
        assert_eq!(ticket.close(0, false), Ok(()));
        let (whys, more) = ticket.whys();
        assert_eq!((whys.len(), more), (MAX_REASONS, 5));
    }

    #[test]
    fn whoever_joins_from_many_threads_is_in_one_ticket_or_in_none() {
        for _ in 0..200 {
            let ticket = Ticket::open("a.lbk".to_owned(), Due::At(0), 0);
            drop(ticket.opened());
            let joined = std::thread::scope(|scope| {
                let join = || {
                    let joining = ticket.join(Due::At(0));
                    joining.as_ref().inspect(|joining| joining.add(why("x"))).is_some()
                };
                let threads: Vec<_> = (0..3).map(|_| scope.spawn(join)).collect();
                while ticket.close(1, false).is_err() {}
                let seen = ticket.whys().0.len();
                let joined = threads.into_iter().map(|t| t.join().unwrap());
                (joined.filter(|joined| *joined).count(), seen)
            });
            assert_eq!(joined.0, joined.1, "joined, and seen when it was closed");
        }
    }
}
