//! What exists when the snapshot begins, or begins again after a gap, according to statuses.
//!
//! A status does not say since when something is in its state, except for regions and spans: so the state
//! counts from before.

use super::LiveState;
use super::region::OpenRegion;
use super::span::{Label, Span};
use super::task::{Home, Task, TaskNow, Wake};
use super::thread::{Explains, MAX_OPEN, OpenPoll};
use super::worker::{Worker, WorkerNow};
use crate::analysis::event_view::list;
use crate::analysis::interner::Name;
use crate::analysis::outcomes::outcome_of;
use crate::read::{SpanStatus, WorkerId};
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};
use std::rc::Rc;

impl LiveState {
    /// A task exists: its sequence number, if known, and whether it was woken.
    pub(crate) fn had_task(
        &mut self,
        task: TaskId,
        (name, blocking): (&str, bool),
        (sequence, woken): (Option<u64>, bool),
        at: Nanos,
    ) {
        let (name, mark) = (self.names.name(name), self.doubts.mark());
        let state = TaskNow::Idle { since: at, exact: false, sequence, mark };
        let mut entry = Task::new(name, state);
        entry.blocking = blocking;
        if woken && !blocking {
            let chain = Box::default();
            entry.wake = Some(Wake { at, exact: false, running: false, target: None, chain });
            entry.queued = Some(at);
            self.runnable.insert((at, task));
        }
        self.tasks.insert(task, entry);
    }

    /// This thread is polling the task, inside the polls that were stated before.
    pub(crate) fn had_poll(&mut self, thread: ThreadNumber, task: TaskId, at: Nanos) {
        let mark = self.doubts.mark();
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        let TaskNow::Idle { sequence, .. } = entry.state else { return };
        entry.state = TaskNow::Running { began: at, sequence };
        if let Some(queued) = entry.queued.take() {
            self.runnable.remove(&(queued, task));
        }
        let (name, blocking): (Name, _) = (entry.name, entry.blocking);
        let number = thread;
        let thread = self.threads.entry(thread).or_default();
        entry.home = Home::of(thread.worker, number);
        let blocking = blocking || thread.polls.last().is_some_and(|outer| outer.blocking);
        entry.poller = Some(number);
        let lost = thread.begin_poll(OpenPoll {
            task,
            name,
            began: at,
            exact: false,
            mark,
            nested: Nanos(0),
            cause: None,
            worker: thread.worker,
            handed_over: None,
            blocking,
            self_woken: false,
            span: Explains::default(),
            region: Explains::default(),
            route: None,
        });
        if let Some(lost) = lost {
            self.lose_poll(lost, at);
        }
    }

    /// The thread is this worker.
    pub(crate) fn had_worker(
        &mut self,
        thread: ThreadNumber,
        worker: WorkerId,
        (now, visit): (WorkerNow, bool),
        at: Nanos,
    ) {
        let certain = self.doubts.certain_time(at);
        self.threads.entry(thread).or_default().worker = Some(worker);
        match self.workers.get_mut(&worker) {
            Some(known) => known.again(thread, now, certain),
            None => drop(self.workers.insert(worker, Worker::new(thread, now, certain))),
        }
        self.there.insert(worker);
        self.visits(worker, visit);
        self.known_workers.note(thread, worker);
    }

    /// A region is open on the thread, inside those that were stated before.
    pub(crate) fn had_region(&mut self, thread: ThreadNumber, name: &str, began: Nanos) {
        let (name, mark) = (self.names.name(name), self.doubts.mark());
        let began = self.stops.counted(began);
        self.thread(thread).begin_region(OpenRegion::new(name, began, mark));
    }

    /// A span is open.
    pub(crate) fn had_span(&mut self, status: &SpanStatus<'_>, at: Nanos) {
        let (name, mark) = (self.names.name(status.site.name), self.doubts.mark());
        let group =
            self.group(name, &|see| status.fields().for_each(|(name, value)| see(name, value)));
        let mut fields = list(status.fields(), status.omitted_fields());
        if status.is_part() && status.omitted_fields().next().is_none() {
            // Which fields are missing or outdated is not known.
            fields += "…";
        }
        let label = Label { span: status.span, name, group, fields: Rc::from(fields) };
        let (parent, thread) = (status.parent, ThreadNumber(0));
        let began = self.stops.counted(status.began);
        let mut span = Span::new(label, parent, (began, at), mark, thread);
        span.outcome =
            outcome_of(&|see| status.fields().for_each(|(name, value)| see(name, value)));
        self.spans.insert(status.span, span);
    }

    /// The thread has entered it, inside those that were stated before.
    pub(crate) fn had_entered(&mut self, thread: ThreadNumber, span: SpanId, at: Nanos) {
        let Some(entry) = self.spans.get_mut(&span) else { return };
        entry.inside.enter(at);
        (entry.entered, entry.entered_by_task) = (true, true);
        let label = entry.label.clone();
        let entered = self.threads.entry(thread).or_default();
        if entered.spans.len() < MAX_OPEN {
            entered.spans.push((label, at));
        }
        if let Some(task) = entered.polls.last().map(|poll| poll.task) {
            self.bind(span, Some(task));
        }
    }
}
