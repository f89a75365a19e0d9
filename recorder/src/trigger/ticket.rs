//! A ticket: one snapshot that is to be taken, and all who asked for it.
//!
//! Its file has a name from the moment it is opened, so that who fires can tell it to others. Until
//! the copy begins, whoever fires joins the ticket that is open instead of opening one of his own.
//!
//! # Synchronization
//!
//! All that joining needs is one word: whether the ticket is closed, how many are just joining, and
//! how many have joined in all. Who joins counts himself in by compare-and-swap, unless it is closed;
//! writes his reason into a place that is his alone; and counts himself out with release. The saver
//! closes the ticket by compare-and-swap (acquire) from a word in which nobody is joining, and which
//! is as it was when it looked at the time that the ticket is due. So all reasons are there after
//! that, nobody has waited, and nobody who wanted a later time was cut short.

#![forbid(unsafe_code)]

use crate::error::Error;
use lookback_snapshot::wire::Value;
use parking_lot::{Condvar, Mutex};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// So many reasons stand in the metadata; more are counted.
const MAX_REASONS: usize = 16;

const CLOSED: u64 = 1;
const URGENT: u64 = 1 << 1;
const JOINING: u64 = 1 << 2;
const JOINING_ALL: u64 = (1 << 32) - JOINING;
const JOINED: u64 = 1 << 32;

/// What became of a ticket: the file, or why there is none.
pub(crate) type Outcome = Result<PathBuf, Arc<Error>>;

/// Why a snapshot is taken.
#[derive(Debug)]
pub(crate) struct Why {
    /// The trigger's name.
    pub(crate) trigger: String,
    pub(crate) reason: String,
    /// What else there is to say, by names of the metadata.
    pub(crate) details: Vec<(&'static str, Value)>,
}

/// When a snapshot is to be taken, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    At(u64),
    /// At once, whatever others wanted: the process may be about to end.
    Urgent,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ticket {
    file_name: String,
    state: AtomicU64,
    due: AtomicU64,
    /// No one who joins moves the time beyond this.
    latest: u64,
    whys: [OnceLock<Why>; MAX_REASONS],
    next: AtomicU32,
    outcome: Mutex<Option<Outcome>>,
    resolved: Condvar,
}

/// Somebody is joining: while this is there, the ticket is not closed.
#[derive(Debug)]
pub(crate) struct Joining<'a>(&'a Ticket);

impl Ticket {
    /// A ticket that is opened by somebody who is joining it.
    pub(crate) fn open(file_name: String, due: Due, latest: u64) -> Self {
        let (urgent, at) = match due {
            Due::At(at) => (0, at),
            Due::Urgent => (URGENT, 0),
        };
        Self {
            file_name,
            state: AtomicU64::new(JOINED | JOINING | urgent),
            due: AtomicU64::new(at),
            latest: latest.max(at),
            whys: [const { OnceLock::new() }; MAX_REASONS],
            next: AtomicU32::new(0),
            outcome: Mutex::new(None),
            resolved: Condvar::new(),
        }
    }

    /// For who has opened it.
    pub(crate) fn opened(&self) -> Joining<'_> {
        Joining(self)
    }

    /// Joins, unless it is closed.
    pub(crate) fn join(&self, due: Due) -> Option<Joining<'_>> {
        let mut state = self.state.load(Ordering::Relaxed);
        let urgent = if due == Due::Urgent { URGENT } else { 0 };
        loop {
            if state & CLOSED != 0 {
                return None;
            }
            let next = (state + JOINING + JOINED) | urgent;
            let (order, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            match self.state.compare_exchange_weak(state, next, order, failure) {
                Ok(_) => break,
                Err(other) => state = other,
            }
        }
        if let Due::At(at) = due {
            self.due.fetch_max(at.min(self.latest), Ordering::Relaxed);
        }
        Some(Joining(self))
    }

    /// Closes it, if it is due `now`. If it is not, says when to look again.
    pub(crate) fn close(&self, now: u64, at_once: bool) -> Result<(), Duration> {
        const SOON: Duration = Duration::from_micros(100);
        let state = self.state.load(Ordering::Acquire);
        if state & (JOINING_ALL | CLOSED) != 0 {
            return Err(SOON);
        }
        let due = self.due.load(Ordering::Relaxed);
        if now < due && !at_once && state & URGENT == 0 {
            return Err(Duration::from_nanos(due - now));
        }
        let (order, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        match self.state.compare_exchange(state, state | CLOSED, order, failure) {
            Ok(_) => Ok(()),
            Err(_) => Err(SOON),
        }
    }

    /// Whether somebody has closed it.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// The reasons, in the order in which they came; and how many more there were.
    pub(crate) fn whys(&self) -> (Vec<&Why>, u64) {
        let all = u64::from(self.next.load(Ordering::Relaxed));
        let known: Vec<_> = self.whys.iter().filter_map(OnceLock::get).collect();
        let more = all.saturating_sub(known.len() as u64);
        (known, more)
    }

    pub(crate) fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Says what became of it; what was said first stands.
    pub(crate) fn resolve(&self, outcome: Outcome) {
        self.outcome.lock().get_or_insert(outcome);
        self.resolved.notify_all();
    }

    /// Waits until it is known what became of it.
    pub(crate) fn wait_for_it(&self) -> Outcome {
        loop {
            if let Some(outcome) = self.wait(Duration::from_secs(3600)) {
                return outcome;
            }
        }
    }

    /// Waits until it is known what became of it, or patience is over.
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
    pub(crate) fn add(&self, why: Why) {
        let index = self.0.next.fetch_add(1, Ordering::Relaxed) as usize;
        if let Some(place) = self.0.whys.get(index) {
            let _ = place.set(why);
        }
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(JOINING, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(reason: &str) -> Why {
        Why { trigger: "t".to_owned(), reason: reason.to_owned(), details: Vec::new() }
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
