//! A worker: how long it was parked, how long it polled, how long it did something else.

use super::super::length::Length;
use super::super::step::Step;
use super::World;
use crate::read::{Event, WorkerId};
use crate::wire::{Nanos, ThreadNumber};

/// A worker of a runtime.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    /// The thread that is it, or was it last.
    pub(crate) thread: ThreadNumber,
    pub(crate) now: WorkerNow,
    /// Up to where its time is counted, as [`Doubts::certain_time`] has it.
    ///
    /// [`Doubts::certain_time`]: super::super::doubts::Doubts::certain_time
    since: Nanos,
    pub(crate) parked: Nanos,
    pub(crate) unparked: Nanos,
    /// Part of `unparked`: in polls of recorded tasks.
    pub(crate) polling: Nanos,
    pub(crate) polls: u64,
    pub(crate) longest: Nanos,
    /// Its thread may be gone from it unseen: whether it runs is known in polls alone.
    visit: bool,
    /// How long it was neither parked nor in polls until `visit` changed last; and how much of that it
    /// was on visits.
    rest: Nanos,
    unknown: Nanos,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerNow {
    Parked,
    Running,
    /// No thread is it.
    Gone,
}

impl Worker {
    pub(crate) fn new(thread: ThreadNumber, now: WorkerNow, since: Nanos) -> Self {
        let (parked, unparked, polling) = Default::default();
        let (polls, longest) = (0, Nanos(0));
        let (visit, rest, unknown) = (false, Nanos(0), Nanos(0));
        Self { thread, now, since, parked, unparked, polling, polls, longest, visit, rest, unknown }
    }

    /// How long it was at work outside of polls; and for how long it is not known whether it was.
    pub(crate) fn outside(&self) -> (Nanos, Nanos) {
        let rest = self.unparked.since(self.polling).max(self.rest);
        let now = if self.visit { rest.since(self.rest) } else { Nanos(0) };
        let unknown = self.unknown.plus(now);
        (rest.since(unknown), unknown)
    }

    /// From now on, what it does outside of polls is known, or not.
    fn visits(&mut self, visit: bool) {
        if self.visit != visit {
            (_, self.unknown) = self.outside();
            self.rest = self.unparked.since(self.polling).max(self.rest);
            self.visit = visit;
        }
    }

    /// It is told anew.
    pub(super) fn again(&mut self, thread: ThreadNumber, now: WorkerNow, since: Nanos) {
        (self.thread, self.now, self.since) = (thread, now, since);
    }

    /// Counts the certain time up to now.
    pub(crate) fn settle(&mut self, certain: Nanos) {
        let took = certain.since(self.since);
        match self.now {
            WorkerNow::Parked => self.parked.grow(took),
            WorkerNow::Running => self.unparked.grow(took),
            WorkerNow::Gone => {}
        }
        self.since = self.since.max(certain);
    }
}

impl World {
    /// `visit`: when the thread ceases to be it is not told.
    pub(crate) fn worker_start(&mut self, step: &Step, worker: WorkerId, visit: bool) {
        self.worker_goes(step, worker, WorkerNow::Running);
        self.visits(worker, visit);
        self.known_workers.note(step.thread, worker);
        self.names_worker(worker, step.event.and_then(Event::worker_name));
        self.thread(step.thread).worker = Some(worker);
    }

    pub(super) fn visits(&mut self, worker: WorkerId, visit: bool) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.visits(visit);
        }
    }

    pub(crate) fn worker_stop(&mut self, step: &Step, worker: WorkerId) {
        self.worker_goes(step, worker, WorkerNow::Gone);
        self.thread(step.thread).worker = None;
    }

    /// The worker parks or goes on, or another thread has become it.
    pub(crate) fn worker_goes(&mut self, step: &Step, worker: WorkerId, now: WorkerNow) {
        let certain = self.doubts.certain_time(step.at);
        let new = || Worker::new(step.thread, now, certain);
        let entry = self.workers.entry(worker).or_insert_with(new);
        entry.settle(certain);
        let before = std::mem::replace(&mut entry.thread, step.thread);
        entry.now = now;
        match now {
            WorkerNow::Gone => self.there.remove(&worker),
            _ => self.there.insert(worker),
        };
        if before != step.thread
            && let Some(thread) = self.threads.get_mut(&before)
            && thread.worker.take_if(|had| *had == worker).is_some()
        {
            for poll in &mut thread.polls {
                poll.handed_over.get_or_insert(step.at);
            }
        }
    }
}
