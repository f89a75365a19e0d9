//! What is known of threads, tasks, spans and workers while the events are read in order.
//!
//! It takes one event at a time and hands back what is over by it: a gap between polls, a poll, a
//! span. It grows with what lives, not with the file.

mod begin;
mod cause;
mod here;
mod polling;
mod region;
mod span;
mod steps;
mod task;
mod thread;
mod worker;
mod worker_threads;

pub(super) use cause::Chain;
pub(super) use here::{Here, Standing};
pub(super) use polling::PollEnd;
pub(super) use region::RegionDone;
pub(super) use span::{Holder, Label, SpanDone};
pub(super) use task::{Blocker, Gap, Home, TaskNow, Wait};
pub(super) use thread::Poll;
pub(super) use worker::{Worker, WorkerNow};
use worker_threads::KnownWorkers;

use super::doubts::Doubts;
use super::map::Map;
use super::names::{Name, Names};
use super::step::Step;
use super::waits::WaitLedger;
use crate::read::WorkerId;
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};
use span::Span;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use steps::Steps;
use task::Task;
use thread::Thread;

/// See the module.
#[derive(Default)]
pub(super) struct World {
    pub(super) names: Names,
    pub(super) doubts: Doubts,
    pub(super) tasks: Map<TaskId, Task>,
    pub(super) spans: Map<SpanId, Span>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// Those that a thread is.
    there: HashSet<WorkerId>,
    steps: Steps,
    threads: Map<ThreadNumber, Thread>,
    thread_names: Map<ThreadNumber, Name>,
    /// What tasks wait for, and have waited for.
    pub(super) waits: WaitLedger,
    /// When each thread recorded something last.
    last: Map<ThreadNumber, Nanos>,
    /// Of how many groups the spans of a name are.
    groups: Map<Name, u32>,
    pub(super) known_workers: KnownWorkers,
    /// The names that workers were given.
    worker_names: BTreeMap<WorkerId, Name>,
    /// Tasks that might run, by when that began.
    runnable: BTreeSet<(Nanos, TaskId)>,
}

const THREAD_NAMES: usize = 1 << 17;

impl World {
    pub(super) fn new(doubts: Doubts) -> Self {
        Self { doubts, ..Self::default() }
    }

    /// Forgets what lives: what comes does not follow on what was.
    pub(super) fn forget(&mut self) {
        // Emptied anew each time, a large map that once was full would take long.
        (self.tasks, self.spans, self.threads) = Default::default();
        self.runnable.clear();
        self.waits.forget();
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

    /// Tasks that might run now, those that wait longest first, with the begin of it.
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

    /// Keeps the name of a thread; also for when it is gone, so there is an end to them.
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

    /// The worker was given this name, if it was given one.
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

    /// Whether anything is known of what this thread is inside of.
    pub(super) fn knows_thread(&self, thread: ThreadNumber) -> bool {
        self.threads.contains_key(&thread)
    }

    fn thread(&mut self, thread: ThreadNumber) -> &mut Thread {
        self.threads.entry(thread).or_default()
    }

    /// A thread starts or ends: nothing is open on it.
    pub(super) fn clear_thread(&mut self, step: &Step) {
        let Some(thread) = self.threads.remove(&step.thread) else { return };
        for (label, _) in thread.spans {
            if let Some(span) = self.spans.get_mut(&label.span) {
                span.inside.exit(step.at);
            }
        }
        for poll in thread.polls {
            self.lose_poll(poll.task, step.at);
        }
    }
}
