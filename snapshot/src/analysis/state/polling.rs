//! What happens to tasks: they are spawned, woken and polled, and they end.

use super::task::{Gap, Home, Spin, Task, TaskNow, Wait, Wake};
use super::thread::{Explains, OpenPoll, Poll};
use super::wake_chain::{Hop, chain};
use super::{LiveState, Name};
use crate::analysis::event_view::EventView;
use crate::analysis::nanos_ext::Length;
use crate::wire::{Nanos, TaskId, ThreadNumber};

/// How a poll ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollEnd {
    Pending,
    Over,
}

impl LiveState {
    pub(crate) fn task_create(&mut self, view: &EventView, task: TaskId) {
        if task == TaskId::default() {
            return;
        }
        let name = self.names.name(view.name);
        let hop = self.hop(view, true);
        let chain = chain(hop, self.cause(view.thread));
        let target = view.sequence.map(|sequence| sequence.wrapping_add(1));
        let wake = Wake { at: view.at, exact: true, running: false, target, chain };
        let mark = self.doubts.mark();
        let (since, sequence) = (view.at, view.sequence);
        let state = TaskNow::Idle { since, exact: true, sequence, mark };
        self.forget_task(task, view.at);
        // A closure that may block does not wait for a worker.
        let blocking = view.blocking;
        let queued = (!blocking).then_some(view.at);
        let home = match view.worker {
            Some(worker) => Home::Runtime(worker.runtime),
            None => Home::Unknown,
        };
        let wake = Some(wake);
        let created = Task { wake, queued, blocking, home, ..Task::new(name, state) };
        self.tasks.insert(task, created);
        self.runnable.extend(queued.map(|queued| (queued, task)));
    }

    /// A poll begins. Returns the gap before it.
    pub(crate) fn task_poll(&mut self, view: &EventView, task: TaskId) -> Gap {
        self.goes_on_after_drop(view.thread);
        let (at, mark) = (view.at, self.doubts.mark());
        let unknown = TaskNow::Idle { since: at, exact: false, sequence: None, mark };
        let names = &mut self.names;
        let new = || Task::new(names.name(view.name), unknown);
        let entry = self.tasks.entry(task).or_insert_with(new);
        if let Some(queued) = entry.queued.take() {
            self.runnable.remove(&(queued, task));
        }
        let polled = Some((at, view.thread));
        let (since, runnable, chain, blocker) = Default::default();
        entry.blocking |= view.blocking;
        let blocking = entry.blocking;
        let (name, waits_for) = (entry.name, entry.waits_for.take());
        let mut gap =
            Gap { task, name, since, runnable, chain, waits_for, polled, blocker, blocking };
        if let Some(wait) = entry.wait.take() {
            self.waits.over(task, name, wait, at, self.doubts.certain_since(wait.mark));
        }
        if let Some(before) = entry.poller.replace(view.thread)
            && let Some(before) = self.threads.get_mut(&before)
        {
            // The end of the previous poll was not seen.
            before.polls.retain(|poll| poll.task != task);
        }
        if let TaskNow::Idle { since, exact, sequence, mark } = entry.state {
            let follows = match (sequence, view.sequence) {
                (Some(before), Some(now)) => before.wrapping_add(1) == now,
                _ => self.doubts.certain_since(mark),
            };
            gap.since = (exact && follows).then_some(since);
            entry.wake_for(view.sequence, &mut gap);
        }
        entry.state = TaskNow::Running { began: at, sequence: view.sequence };
        let thread = self.threads.entry(view.thread).or_default();
        let worker = view.worker.or(thread.worker);
        entry.home = Home::of(worker, view.thread);
        let blocking = blocking || thread.polls.last().is_some_and(|outer| outer.blocking);
        if let Some(runnable) = gap.runnable {
            gap.blocker = thread.blocker(runnable, at);
        }
        let around = if thread.polls.is_empty() { thread.innermost_spans() } else { &[] };
        let around: Vec<_> = around.iter().map(|(label, _)| label.span).collect();
        let lost = thread.begin_poll(OpenPoll {
            task,
            name: entry.name,
            began: at,
            exact: true,
            mark,
            nested: Nanos(0),
            cause: (!gap.chain.is_empty()).then(|| gap.chain.clone()),
            worker,
            handed_over: None,
            blocking,
            self_woken: false,
            span: Explains::default(),
            region: Explains::default(),
            route: None,
        });
        for id in &entry.spans {
            if let Some(span) = self.spans.get_mut(id) {
                span.spent.gap(&gap, at);
            }
        }
        around.into_iter().for_each(|span| self.polled_inside(span, task, &gap));
        if let Some(lost) = lost {
            self.lose_poll(lost, at);
        }
        gap
    }

    /// A poll ends. Returns it, if its beginning is known, and how often in a row the task has woken itself.
    pub(crate) fn task_poll_end(
        &mut self,
        view: &EventView,
        task: TaskId,
        how: PollEnd,
        waits_for: Option<&str>,
    ) -> Option<Poll> {
        let thread = self.threads.entry(view.thread).or_default();
        let found = thread.polls.iter().rposition(|poll| poll.task == task);
        let lost = thread.polls.drain(found.map_or(0, |at| at + 1)..);
        let lost: Vec<_> = lost.map(|poll| poll.task).collect();
        lost.into_iter().for_each(|task| self.lose_poll(task, view.at));
        let waits_for = waits_for.map(|name| self.names.name(name));
        let mark = self.doubts.mark();
        if let Some(entry) = self.tasks.get_mut(&task) {
            let (since, sequence) = (view.at, view.sequence);
            entry.state = TaskNow::Idle { since, exact: true, sequence, mark };
            entry.poller = entry.poller.filter(|_| found.is_none());
            entry.waits_for = waits_for;
            if let Some(what) = waits_for {
                let wait = Wait { what, since, mark };
                self.waits.begin(what);
                // A task that was woken while it was polled does not wait.
                if entry.wake.is_some() {
                    self.waits.over(task, entry.name, wait, since, true);
                } else {
                    entry.wait = Some(wait);
                }
            }
            if entry.wake.is_some() && how == PollEnd::Pending {
                entry.queued = Some(view.at);
                self.runnable.insert((view.at, task));
            }
        }
        let poll = found.and_then(|_| self.close_poll(view));
        if let Some(poll) = &poll {
            self.unentered(task, poll.began);
        }
        if let (Some(poll), Some(entry)) = (&poll, self.tasks.get(&task)) {
            for id in &entry.spans {
                if let Some(span) = self.spans.get_mut(id) {
                    span.spent.polled(poll.began, view.at);
                }
            }
        }
        if how == PollEnd::Over {
            self.forget_task(task, view.at);
        }
        poll
    }

    fn close_poll(&mut self, view: &EventView) -> Option<Poll> {
        let thread = self.threads.get_mut(&view.thread)?;
        let open = thread.polls.pop()?;
        // Of those around it, the innermost one began last: if that is not certain, none is.
        let outermost =
            !thread.polls.last().is_some_and(|outer| self.doubts.certain_since(outer.mark));
        let mut poll = open.at(view.thread, view.at, thread, outermost);
        poll.certain = self.doubts.certain_since(open.mark);
        if let Some(outer) = thread.polls.last_mut() {
            outer.nested.grow(poll.held);
        }
        thread.remember(&poll);
        self.count_for_worker(&poll);
        Some(poll)
    }

    fn count_for_worker(&mut self, poll: &Poll) {
        if poll.outermost
            && poll.certain
            && !poll.blocking
            && let Some(worker) = poll.worker.and_then(|id| self.workers.get_mut(&id))
        {
            worker.polling.grow(poll.held);
            worker.polls += 1;
            worker.longest = worker.longest.max(poll.held);
        }
    }

    pub(crate) fn task_drop(&mut self, view: &EventView, task: TaskId) {
        self.note_dropped(view.thread, task, view.at);
        self.forget_task(task, view.at);
    }

    fn forget_task(&mut self, task: TaskId, at: Nanos) {
        let Some(entry) = self.tasks.remove(&task) else { return };
        if let Some(queued) = entry.queued {
            self.runnable.remove(&(queued, task));
        }
        // What it waited for when it was dropped is a part of its spans, too.
        if let TaskNow::Idle { .. } = entry.state
            && !entry.spans.is_empty()
        {
            let gap = entry.gap(task);
            for id in &entry.spans {
                if let Some(span) = self.spans.get_mut(id) {
                    span.spent.gap(&gap, at);
                }
            }
        }
        if let Some(wait) = entry.wait {
            self.waits.over(task, entry.name, wait, at, self.doubts.certain_since(wait.mark));
        }
    }

    /// A task is woken. Wakes of unknown tasks, and late ones, are ignored.
    pub(crate) fn task_wake(&mut self, view: &EventView, task: TaskId) {
        let hop = self.hop(view, false);
        let thread = self.threads.entry(view.thread).or_default();
        if let Some(poll) = thread.polls.last_mut() {
            poll.self_woken |= poll.task == task;
        }
        let cause = thread.polls.last().and_then(|poll| poll.cause.as_deref());
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        let target = view.sequence.map(|seen| seen.wrapping_add(1 + (seen & 1)));
        let (running, sequence) = match entry.state {
            TaskNow::Idle { sequence, .. } => (false, sequence),
            TaskNow::Running { sequence, .. } => (true, sequence),
        };
        if matches!((target, sequence), (Some(target), Some(now)) if target <= now) {
            return;
        }
        let chain = chain(hop, cause);
        entry.wake = Some(Wake { at: view.at, exact: true, running, target, chain });
        if !running && let Some(wait) = entry.wait.take() {
            let certain = self.doubts.certain_since(wait.mark);
            self.waits.over(task, entry.name, wait, view.at, certain);
        }
        if !running && entry.queued.is_none() && !entry.blocking {
            entry.queued = Some(view.at);
            self.runnable.insert((view.at, task));
        }
    }

    fn hop(&self, view: &EventView, spawned: bool) -> Hop {
        let poll = self.threads.get(&view.thread).and_then(|thread| thread.polls.last());
        Hop {
            task: poll.map(|poll| (poll.task, poll.name)),
            thread: view.thread,
            at: view.at,
            polled: poll.map(|poll| poll.began),
            spawned,
        }
    }

    fn cause(&self, thread: ThreadNumber) -> Option<&[Hop]> {
        self.threads.get(&thread)?.polls.last()?.cause.as_deref()
    }

    /// The end of a poll was not seen.
    pub(crate) fn lose_poll(&mut self, task: TaskId, at: Nanos) {
        let mark = self.doubts.mark();
        if let Some(task) = self.tasks.get_mut(&task)
            && matches!(task.state, TaskNow::Running { .. })
        {
            task.state = TaskNow::Idle { since: at, exact: false, sequence: None, mark };
        }
    }

    /// Polls that are running at the end of the snapshot.
    pub(crate) fn open_polls(&mut self, at: Nanos) -> Vec<Poll> {
        let mut polls = Vec::new();
        for (number, thread) in &self.threads {
            let mut nested = Nanos(0);
            for (depth, open) in thread.polls.iter().enumerate().rev() {
                let mut poll = open.at(*number, at, thread, depth == 0);
                poll.running = true;
                poll.certain = self.doubts.certain_since(open.mark);
                poll.blocked.0 = poll.blocked.0.saturating_sub(nested.0);
                nested = poll.held;
                polls.push(poll);
            }
        }
        polls.iter().for_each(|poll| self.count_for_worker(poll));
        polls.sort_by_key(|poll| (poll.began, poll.task));
        polls
    }
}

impl Task {
    pub(super) fn new(name: Name, state: TaskNow) -> Self {
        let (wake, queued, home, blocking, waits_for, wait, spans) = Default::default();
        let (poller, spin) = (None, Spin::default());
        Self { name, state, poller, wake, queued, home, blocking, waits_for, wait, spans, spin }
    }

    /// Takes the wake that caused the poll of this number.
    fn wake_for(&mut self, sequence: Option<u64>, gap: &mut Gap) {
        let due = |wake: &mut Wake| match (wake.target, sequence) {
            // A later poll's wake stays.
            (Some(target), Some(now)) => target <= now,
            _ => true,
        };
        let Some(wake) = self.wake.take_if(due) else { return };
        let other = matches!((wake.target, sequence), (Some(target), Some(now)) if target < now);
        if other || !wake.exact {
            return;
        }
        gap.runnable = match gap.since {
            Some(since) => Some(wake.at.max(since)),
            // It would count from the end of a poll that was not seen.
            None if wake.running => None,
            None => Some(wake.at),
        };
        gap.chain = wake.chain;
    }

    /// The task's current gap.
    pub(crate) fn gap(&self, task: TaskId) -> Gap {
        let (since, name) = match self.state {
            TaskNow::Idle { since, exact: true, .. } => (Some(since), self.name),
            _ => (None, self.name),
        };
        let runnable = self.wake.as_ref().map(|wake| wake.at.max(since.unwrap_or_default()));
        let chain = self.wake.as_ref().map(|wake| wake.chain.clone()).unwrap_or_default();
        let (waits_for, blocking) = (self.waits_for, self.blocking);
        let (polled, blocker) = (None, None);
        Gap { task, name, since, runnable, chain, waits_for, polled, blocker, blocking }
    }
}
