//! What is known about threads, tasks, spans and workers while the events are read in order.
//!
//! It takes one event at a time and returns whatever that ends: a gap between polls, a poll, a span. Its size
//! grows with what lives, not with the file.
//!
//! With each event, the reader says which task the thread polls, which span it is in and which worker it is. This
//! module adds what the reader does not follow: since when each open poll, span and region counts, whether
//! anything was lost meanwhile, and what happened inside.

mod dropped;
mod initial;
mod polling;
mod region;
mod span;
mod steps;
mod task;
mod thread;
mod thread_location;
mod wait_ledger;
mod wake_chain;
mod worker;
mod worker_threads;

pub(super) use polling::PollEnd;
pub(super) use region::RegionDone;
pub(super) use span::{EachField, Holder, Label, SpanDone};
pub(super) use task::{Blocker, Gap, Home, TaskNow, Wait};
pub(super) use thread::Poll;
pub(super) use thread_location::{Here, Standing};
pub(super) use wait_ledger::WaitLedger;
pub(super) use wake_chain::Chain;
pub(super) use worker::{Worker, WorkerNow};
use worker_threads::KnownWorkers;

use super::completeness::Doubts;
use super::event_view::EventView;
use super::interner::{Name, Names};
use super::stopped::Stops;
use crate::read::WorkerId;
use crate::read::decode::fast_map::Map;
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};
use dropped::Dropped;
use span::Span;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use steps::Steps;
use task::Task;
use thread::Thread;

/// See the module.
#[derive(Default)]
pub(super) struct LiveState {
    /// When the process was stopped: all times here are by the clock that stands still meanwhile.
    pub(super) stops: Stops,
    pub(super) names: Names,
    pub(super) doubts: Doubts,
    pub(super) tasks: Map<TaskId, Task>,
    pub(super) spans: Map<SpanId, Span>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// The workers that have a thread.
    there: HashSet<WorkerId>,
    steps: Steps,
    threads: Map<ThreadNumber, Thread>,
    thread_names: Map<ThreadNumber, Name>,
    /// By the system's number; none where two had the same.
    os_threads: Map<u64, Option<ThreadNumber>>,
    /// The task that each thread just drops.
    dropped: Map<ThreadNumber, Dropped>,
    /// What tasks wait for, and have waited for.
    pub(super) waits: WaitLedger,
    /// When each thread last recorded something.
    last: Map<ThreadNumber, Nanos>,
    /// How many groups the spans of each name form.
    groups: Map<Name, u32>,
    pub(super) known_workers: KnownWorkers,
    /// The names that workers were given.
    worker_names: BTreeMap<WorkerId, Name>,
    /// Tasks that are ready, by when that began.
    runnable: BTreeSet<(Nanos, TaskId)>,
}

const THREAD_NAMES: usize = 1 << 17;

impl LiveState {
    pub(super) fn new(doubts: Doubts) -> Self {
        Self { doubts, ..Self::default() }
    }

    /// Forgets everything that lives: what comes does not follow on what was.
    pub(super) fn forget(&mut self) {
        // To empty a map that once was full would take long each time.
        (self.tasks, self.spans, self.threads) = Default::default();
        self.runnable.clear();
        self.waits.forget();
        self.dropped = Map::default();
        let certain = self.doubts.certain_time(Nanos(0));
        for worker in std::mem::take(&mut self.there) {
            if let Some(worker) = self.workers.get_mut(&worker) {
                worker.settle(certain);
                worker.now = WorkerNow::Gone;
            }
        }
    }

    /// Counts the time of workers up to now.
    pub(super) fn settle(&mut self, at: Nanos) {
        let certain = self.doubts.certain_time(at);
        self.workers.values_mut().for_each(|worker| worker.settle(certain));
    }

    pub(super) fn thread_name(&self, thread: ThreadNumber) -> &str {
        self.thread_names.get(&thread).map_or("", |name| self.names.text(*name))
    }

    /// Tasks that are ready now, with the time since when, longest first.
    pub(super) fn runnable(&self) -> impl Iterator<Item = (Nanos, TaskId)> {
        self.runnable.iter().copied()
    }

    /// A thread has recorded something.
    pub(super) fn seen(&mut self, thread: ThreadNumber, at: Nanos) {
        self.steps.earn();
        if let Some(last) = self.last.get_mut(&thread) {
            *last = at;
        } else if self.last.len() < THREAD_NAMES {
            self.last.insert(thread, at);
        }
    }

    /// When the thread last recorded something, if that is known.
    pub(super) fn last(&self, thread: ThreadNumber) -> Option<Nanos> {
        self.last.get(&thread).copied()
    }

    /// A thread records something for the first time.
    pub(super) fn numbered(&mut self, view: &EventView<'_>) {
        if let Some(thread) = view.event.and_then(|event| event.thread()) {
            self.has_number(thread.number, thread.os_thread);
        }
    }

    /// The system calls a thread this.
    pub(super) fn has_number(&mut self, thread: ThreadNumber, os_thread: u64) {
        if os_thread != 0 && self.os_threads.len() < THREAD_NAMES {
            let known = self.os_threads.entry(os_thread).or_insert(Some(thread));
            *known = known.filter(|known| *known == thread);
        }
    }

    /// The thread that the system calls this, if it is certain.
    pub(super) fn of_number(&self, os_thread: u64) -> Option<ThreadNumber> {
        self.os_threads.get(&os_thread).copied().flatten()
    }

    /// Keeps the name of a thread, even after the thread has ended, so their number is bounded.
    pub(super) fn called(&mut self, thread: ThreadNumber, name: &str) {
        let known = thread.0 == 0 || self.thread_names.contains_key(&thread);
        if !known && !name.is_empty() && self.thread_names.len() < THREAD_NAMES {
            let name = self.names.name(name);
            self.thread_names.insert(thread, name);
        }
    }

    /// A thread has a new name.
    pub(super) fn renamed(&mut self, thread: ThreadNumber, name: &str) {
        self.thread_names.remove(&thread);
        self.called(thread, name);
    }

    /// The worker was given this name, if any.
    pub(super) fn names_worker(&mut self, worker: WorkerId, name: Option<&str>) {
        if let Some(name) = name
            && self.worker_names.len() < THREAD_NAMES
        {
            let name = self.names.name(name);
            self.worker_names.insert(worker, name);
        }
    }

    pub(super) fn given_name(&self, worker: WorkerId) -> Option<&str> {
        self.worker_names.get(&worker).map(|name| self.names.text(*name))
    }

    /// Whether anything is known about what this thread has open.
    pub(super) fn knows_thread(&self, thread: ThreadNumber) -> bool {
        self.threads.contains_key(&thread)
    }

    fn thread(&mut self, thread: ThreadNumber) -> &mut Thread {
        self.threads.entry(thread).or_default()
    }

    /// A thread starts or ends: nothing is open on it.
    pub(super) fn clear_thread(&mut self, view: &EventView) {
        self.goes_on_after_drop(view.thread);
        let Some(thread) = self.threads.remove(&view.thread) else { return };
        for (label, _) in thread.spans {
            if let Some(span) = self.spans.get_mut(&label.span) {
                span.inside.exit(view.at);
            }
        }
        for poll in thread.polls {
            self.lose_poll(poll.task, view.at);
        }
    }
}
