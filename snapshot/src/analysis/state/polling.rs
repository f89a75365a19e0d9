//! What happens to tasks: they are spawned, woken, polled, and end.

use super::super::length::Length;
use super::super::step::Step;
use super::cause::{Hop, chain};
use super::task::{Gap, Home, Spin, Task, TaskNow, Wait, Wake};
use super::thread::{Explains, OpenPoll, Poll};
use super::{Name, World};
use crate::wire::{Nanos, TaskId, ThreadNumber};

/// How a poll ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollEnd {
    Pending,
    Over,
}

impl World {
    pub(crate) fn task_create(&mut self, step: &Step, task: TaskId) {
        if task == TaskId::default() {
            return;
        }
        let name = self.names.name(step.name);
        let hop = self.hop(step, true);
        let chain = chain(hop, self.cause(step.thread));
        let target = step.sequence.map(|sequence| sequence.wrapping_add(1));
        let wake = Wake { at: step.at, exact: true, running: false, target, chain };
        let mark = self.doubts.mark();
        let (since, sequence) = (step.at, step.sequence);
        let state = TaskNow::Idle { since, exact: true, sequence, mark };
        self.forget_task(task, step.at);
        // A closure that may block waits for no worker.
        let blocking = step.blocking;
        let queued = (!blocking).then_some(step.at);
        let home = match step.worker {
            Some(worker) => Home::Runtime(worker.runtime),
            None => Home::Unknown,
        };
        let wake = Some(wake);
        let created = Task { wake, queued, blocking, home, ..Task::new(name, state) };
        self.tasks.insert(task, created);
        self.runnable.extend(queued.map(|queued| (queued, task)));
    }

    /// A poll begins. What is over is the gap before it.
    pub(crate) fn task_poll(&mut self, step: &Step, task: TaskId) -> Gap {
        let (at, mark) = (step.at, self.doubts.mark());
        let unknown = TaskNow::Idle { since: at, exact: false, sequence: None, mark };
        let names = &mut self.names;
        let new = || Task::new(names.name(step.name), unknown);
        let entry = self.tasks.entry(task).or_insert_with(new);
        if let Some(queued) = entry.queued.take() {
            self.runnable.remove(&(queued, task));
        }
        let polled = Some((at, step.thread));
        let (since, runnable, chain, blocker) = Default::default();
        entry.blocking |= step.blocking;
        let blocking = entry.blocking;
        let (name, waits_for) = (entry.name, entry.waits_for.take());
        let mut gap =
            Gap { task, name, since, runnable, chain, waits_for, polled, blocker, blocking };
        if let Some(wait) = entry.wait.take() {
            self.waits.over(task, name, wait, at, self.doubts.certain_since(wait.mark));
        }
        if let Some(before) = entry.poller.replace(step.thread)
            && let Some(before) = self.threads.get_mut(&before)
        {
            // The end of the poll before was not seen.
            before.polls.retain(|poll| poll.task != task);
        }
        if let TaskNow::Idle { since, exact, sequence, mark } = entry.state {
            let follows = match (sequence, step.sequence) {
                (Some(before), Some(now)) => before.wrapping_add(1) == now,
                _ => self.doubts.certain_since(mark),
            };
            gap.since = (exact && follows).then_some(since);
            entry.wake_for(step.sequence, &mut gap);
        }
        entry.state = TaskNow::Running { began: at, sequence: step.sequence };
        let thread = self.threads.entry(step.thread).or_default();
        let worker = step.worker.or(thread.worker);
        entry.home = Home::of(worker, step.thread);
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
                span.spent.gap(&gap, span.began, at);
            }
        }
        around.into_iter().for_each(|span| self.polled_inside(span, task, &gap));
        if let Some(lost) = lost {
            self.lose_poll(lost, at);
        }
        gap
    }

    /// A poll ends. It, if its begin is known, and how often in a row the task has woken itself.
    pub(crate) fn task_poll_end(
        &mut self,
        step: &Step,
        task: TaskId,
        how: PollEnd,
        waits_for: Option<&str>,
    ) -> Option<Poll> {
        let thread = self.threads.entry(step.thread).or_default();
        let found = thread.polls.iter().rposition(|poll| poll.task == task);
        let lost = thread.polls.drain(found.map_or(0, |at| at + 1)..);
        let lost: Vec<_> = lost.map(|poll| poll.task).collect();
        lost.into_iter().for_each(|task| self.lose_poll(task, step.at));
        let waits_for = waits_for.map(|name| self.names.name(name));
        let mark = self.doubts.mark();
        if let Some(entry) = self.tasks.get_mut(&task) {
            let (since, sequence) = (step.at, step.sequence);
            entry.state = TaskNow::Idle { since, exact: true, sequence, mark };
            entry.poller = entry.poller.filter(|_| found.is_none());
            entry.waits_for = waits_for;
            if let Some(what) = waits_for {
                let wait = Wait { what, since, mark };
                self.waits.begin(what);
                // Who was woken while it was polled does not wait.
                if entry.wake.is_some() {
                    self.waits.over(task, entry.name, wait, since, true);
                } else {
                    entry.wait = Some(wait);
                }
            }
            if entry.wake.is_some() && how == PollEnd::Pending {
                entry.queued = Some(step.at);
                self.runnable.insert((step.at, task));
            }
        }
        let poll = found.and_then(|_| self.close_poll(step));
        if let Some(poll) = &poll {
            self.unentered(task, poll.began);
        }
        if let (Some(poll), Some(entry)) = (&poll, self.tasks.get(&task)) {
            for id in &entry.spans {
                if let Some(span) = self.spans.get_mut(id) {
                    span.spent.polled(poll.began, span.began, step.at);
                }
            }
        }
        if how == PollEnd::Over {
            self.forget_task(task, step.at);
        }
        poll
    }

    fn close_poll(&mut self, step: &Step) -> Option<Poll> {
        let thread = self.threads.get_mut(&step.thread)?;
        let open = thread.polls.pop()?;
        // Of those around it, the innermost one began last: if it is not certain, none is.
        let outermost =
            !thread.polls.last().is_some_and(|outer| self.doubts.certain_since(outer.mark));
        let mut poll = open.at(step.thread, step.at, thread, outermost);
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

    pub(crate) fn task_drop(&mut self, task: TaskId, at: Nanos) {
        self.forget_task(task, at);
    }

    fn forget_task(&mut self, task: TaskId, at: Nanos) {
        let Some(entry) = self.tasks.remove(&task) else { return };
        if let Some(queued) = entry.queued {
            self.runnable.remove(&(queued, task));
        }
        if let Some(wait) = entry.wait {
            self.waits.over(task, entry.name, wait, at, self.doubts.certain_since(wait.mark));
        }
    }

    /// A task is woken. Wakes of tasks that are not known, or came too late, say nothing.
    pub(crate) fn task_wake(&mut self, step: &Step, task: TaskId) {
        let hop = self.hop(step, false);
        let thread = self.threads.entry(step.thread).or_default();
        if let Some(poll) = thread.polls.last_mut() {
            poll.self_woken |= poll.task == task;
        }
        let cause = thread.polls.last().and_then(|poll| poll.cause.as_deref());
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        let target = step.sequence.map(|seen| seen.wrapping_add(1 + (seen & 1)));
        let (running, sequence) = match entry.state {
            TaskNow::Idle { sequence, .. } => (false, sequence),
            TaskNow::Running { sequence, .. } => (true, sequence),
        };
        if matches!((target, sequence), (Some(target), Some(now)) if target <= now) {
            return;
        }
        let chain = chain(hop, cause);
        entry.wake = Some(Wake { at: step.at, exact: true, running, target, chain });
        if !running && let Some(wait) = entry.wait.take() {
            let certain = self.doubts.certain_since(wait.mark);
            self.waits.over(task, entry.name, wait, step.at, certain);
        }
        if !running && entry.queued.is_none() && !entry.blocking {
            entry.queued = Some(step.at);
            self.runnable.insert((step.at, task));
        }
    }

    fn hop(&self, step: &Step, spawned: bool) -> Hop {
        let poll = self.threads.get(&step.thread).and_then(|thread| thread.polls.last());
        Hop {
            task: poll.map(|poll| (poll.task, poll.name)),
            thread: step.thread,
            at: step.at,
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

    /// Polls that were running when the snapshot ends.
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

    /// Takes the wake that a poll of this number is due to.
    fn wake_for(&mut self, sequence: Option<u64>, gap: &mut Gap) {
        let due = |wake: &mut Wake| match (wake.target, sequence) {
            // For a later one.
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
            // It counts from the end of a poll that was not seen.
            None if wake.running => None,
            None => Some(wake.at),
        };
        gap.chain = wake.chain;
    }

    /// The gap that goes on.
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
