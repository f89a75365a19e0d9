//! A task that was dropped before it had ended: what its future gives up then, the thread records after the task's last event.

use super::{LiveState, TaskNow};
use crate::analysis::event_view::EventView;
use crate::analysis::nanos_ext::Length;
use crate::read::EventKind;
use crate::wire::{LockKind, Nanos, TaskId, ThreadNumber};

/// The last task that a thread has dropped while nobody polled it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropped {
    task: TaskId,
    at: Nanos,
    /// Since when it had been idle.
    idle: Nanos,
}

impl LiveState {
    pub(super) fn note_dropped(&mut self, thread: ThreadNumber, task: TaskId, at: Nanos) {
        match self.tasks.get(&task).map(|entry| entry.state) {
            Some(TaskNow::Idle { since, .. }) => {
                self.dropped.insert(thread, Dropped { task, at, idle: since });
            }
            _ => self.goes_on_after_drop(thread),
        }
    }

    /// The thread does something else: the future is gone.
    pub(super) fn goes_on_after_drop(&mut self, thread: ThreadNumber) {
        if !self.dropped.is_empty() {
            self.dropped.remove(&thread);
        }
    }

    /// The task that has waited for a lock: the one that the thread polls, or the one that it drops, which gives the wait up with
    /// all else that its future has.
    pub(in crate::analysis) fn waiter(&self, view: &EventView<'_>) -> Option<TaskId> {
        let EventKind::Contention { kind: Some(kind), waited, is_given_up: true, .. } = view.kind
        else {
            return view.task;
        };
        // It ended between the drop and this event, and began in one of the task's polls.
        let began = |at: Nanos| self.stops.counted(self.stops.told(at).since(waited));
        let may_be = |of: &&Dropped| LockKind::is_of_tasks(kind) && began(of.at) <= of.idle;
        let dropped = || self.dropped.get(&view.thread).filter(may_be);
        view.task.or_else(|| dropped().map(|dropped| dropped.task))
    }
}
