//! A worker: how long it was parked, how long it polled, how long it did something else.

use super::LiveState;
use crate::analysis::event_view::EventView;
use crate::analysis::nanos_ext::Length;
use crate::read::{Event, WorkerId};
use crate::wire::{Nanos, ThreadNumber};

/// A worker of a runtime.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    /// Its thread, current or last.
    pub(crate) thread: ThreadNumber,
    pub(crate) now: WorkerNow,
    /// Up to where its time is counted, in terms of [`Doubts::certain_time`].
    ///
    /// [`Doubts::certain_time`]: crate::analysis::completeness::Doubts::certain_time
    since: Nanos,
    pub(crate) parked: Nanos,
    pub(crate) unparked: Nanos,
    /// The part of `unparked` in polls of recorded tasks.
    pub(crate) polling: Nanos,
    pub(crate) polls: u64,
    pub(crate) longest: Nanos,
    /// Its thread may have left without a record: only polls show that it runs.
    visit: bool,
    /// How long it was neither parked nor in polls until `visit` last changed, and how much of that was on
    /// visits.
    rest: Nanos,
    unknown: Nanos,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerNow {
    Parked,
    Running,
    /// No thread is this worker.
    Gone,
}

impl Worker {
    pub(crate) fn new(thread: ThreadNumber, now: WorkerNow, since: Nanos) -> Self {
        let (parked, unparked, polling) = Default::default();
        let (polls, longest) = (0, Nanos(0));
        let (visit, rest, unknown) = (false, Nanos(0), Nanos(0));
        Self { thread, now, since, parked, unparked, polling, polls, longest, visit, rest, unknown }
    }

    /// How long it was at work outside polls, and how long it is unknown whether it was.
    pub(crate) fn outside(&self) -> (Nanos, Nanos) {
        let rest = self.unparked.since(self.polling).max(self.rest);
        let now = if self.visit { rest.since(self.rest) } else { Nanos(0) };
        let unknown = self.unknown.plus(now);
        (rest.since(unknown), unknown)
    }

    /// From now on, what it does outside polls is known, or is not.
    fn visits(&mut self, visit: bool) {
        if self.visit != visit {
            (_, self.unknown) = self.outside();
            self.rest = self.unparked.since(self.polling).max(self.rest);
            self.visit = visit;
        }
    }

    /// A status states it again.
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

impl LiveState {
    /// `visit`: no record will say when the thread stops being this worker.
    pub(crate) fn worker_start(&mut self, view: &EventView, worker: WorkerId, visit: bool) {
        self.worker_goes(view, worker, WorkerNow::Running);
        self.visits(worker, visit);
        self.known_workers.note(view.thread, worker);
        self.names_worker(worker, view.event.and_then(Event::worker_name));
        self.thread(view.thread).worker = Some(worker);
    }

    pub(super) fn visits(&mut self, worker: WorkerId, visit: bool) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.visits(visit);
        }
    }

    pub(crate) fn worker_stop(&mut self, view: &EventView, worker: WorkerId) {
        // Another thread may have taken the worker long before this one noticed it.
        if self.workers.get(&worker).is_none_or(|known| known.thread == view.thread) {
            self.worker_goes(view, worker, WorkerNow::Gone);
        }
        self.thread(view.thread).worker = None;
    }

    /// The worker parks or continues, or another thread has become this worker.
    pub(crate) fn worker_goes(&mut self, view: &EventView, worker: WorkerId, now: WorkerNow) {
        self.goes_on_after_drop(view.thread);
        let certain = self.doubts.certain_time(view.at);
        let new = || Worker::new(view.thread, now, certain);
        let entry = self.workers.entry(worker).or_insert_with(new);
        entry.settle(certain);
        let before = std::mem::replace(&mut entry.thread, view.thread);
        entry.now = now;
        match now {
            WorkerNow::Gone => self.there.remove(&worker),
            _ => self.there.insert(worker),
        };
        if before != view.thread
            && let Some(thread) = self.threads.get_mut(&before)
            && thread.worker.take_if(|had| *had == worker).is_some()
        {
            for poll in &mut thread.polls {
                poll.handed_over.get_or_insert(view.at);
            }
        }
    }
}
