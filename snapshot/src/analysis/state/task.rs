//! A task: whether it waits, may run, or runs.

use super::super::doubts::Mark;
use super::super::names::Name;
use super::World;
use super::cause::Chain;
use super::span::Label;
use crate::read::WorkerId;
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};

/// A live task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) name: Name,
    pub(crate) state: TaskNow,
    /// The thread among whose polls it is.
    pub(crate) poller: Option<ThreadNumber>,
    /// The wake for its next poll.
    pub(crate) wake: Option<Wake>,
    /// Since when it is in the queue of those that might run.
    pub(crate) queued: Option<Nanos>,
    /// Where it can be polled.
    pub(crate) home: Home,
    /// It is a closure that runs where blocking is allowed.
    pub(crate) blocking: bool,
    /// What it waits for, if it said so.
    pub(crate) waits_for: Option<Name>,
    /// The same, until it is woken.
    pub(crate) wait: Option<Wait>,
    /// Open spans that it runs in.
    pub(crate) spans: Vec<SpanId>,
    /// Polls in a row that ended with the task waking itself.
    pub(crate) spin: Spin,
}

/// Which threads can poll a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Home {
    #[default]
    Unknown,
    /// The workers of this runtime.
    Runtime(u64),
    /// This thread, which is no worker: of others nobody knows.
    Thread(ThreadNumber),
}

impl Home {
    /// That of a task which is polled there.
    pub(crate) fn of(worker: Option<WorkerId>, thread: ThreadNumber) -> Self {
        worker.map_or(Self::Thread(thread), |worker| Self::Runtime(worker.runtime))
    }
}

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TaskNow {
    /// It is not polled.
    Idle {
        since: Nanos,
        /// Whether `since` is when it began, not when the snapshot did.
        exact: bool,
        sequence: Option<u64>,
        mark: Mark,
    },
    /// It is polled, since then, or since before the snapshot.
    Running { began: Nanos, sequence: Option<u64> },
}

/// A wake that was not followed by its poll yet.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    /// When; or, if it was before the snapshot, when that begins.
    pub(crate) at: Nanos,
    pub(crate) exact: bool,
    /// It came while the task was being polled.
    pub(crate) running: bool,
    /// The sequence number of the poll that it is for.
    pub(crate) target: Option<u64>,
    /// Who; empty if it was before the snapshot.
    pub(crate) chain: Chain,
}

/// A wait of a task that said what for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) what: Name,
    pub(crate) since: Nanos,
    pub(crate) mark: Mark,
}

/// Polls in a row that each ended with the task waking itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Spin {
    pub(crate) polls: u64,
    pub(crate) began: Nanos,
    pub(crate) polling: Nanos,
}

/// The time between two polls of a task, when it is over.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) task: TaskId,
    pub(crate) name: Name,
    /// When the poll before ended, or the task was spawned; none if that is not known.
    pub(crate) since: Option<Nanos>,
    /// From when on it might have been polled, if that is known.
    pub(crate) runnable: Option<Nanos>,
    /// Who woke it, latest first; empty if that is not known.
    pub(crate) chain: Chain,
    /// What it waited for, if it said so.
    pub(crate) waits_for: Option<Name>,
    /// When it was polled, and by whom; none if it was not, up to the end.
    pub(crate) polled: Option<(Nanos, ThreadNumber)>,
    /// The poll that kept the thread from it for most of the time that it might have run.
    pub(crate) blocker: Option<Blocker>,
    /// It is of a closure that runs where blocking is allowed: it waits for no worker.
    pub(crate) blocking: bool,
}

/// A poll that kept a thread busy while a task might have run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Blocker {
    pub(crate) task: TaskId,
    pub(crate) name: Name,
    pub(crate) began: Nanos,
    pub(crate) ended: Nanos,
}

impl World {
    /// The span that says what the task is for: the innermost that it runs in and that has a route, say; else
    /// the innermost.
    pub(crate) fn purpose(&self, task: TaskId) -> Option<&Label> {
        let spans = &self.tasks.get(&task)?.spans;
        let labels = || spans.iter().filter_map(|id| Some(&self.spans.get(id)?.label));
        labels().rfind(|label| label.group != label.name).or_else(|| labels().next_back())
    }

    /// Waits that are not over when the snapshot ends.
    pub(crate) fn open_waits(&mut self, at: Nanos) {
        for (id, task) in &mut self.tasks {
            if let Some(wait) = task.wait.take() {
                let certain = self.doubts.certain_since(wait.mark);
                self.waits.still(*id, task.name, wait, at, certain);
            }
        }
    }
}

impl Gap {
    /// How long it might have run and was not polled, if that is known.
    pub(crate) fn delay(&self) -> Option<Nanos> {
        let (polled, _) = self.polled?;
        Some(Nanos(polled.0.saturating_sub(self.runnable?.0)))
    }
}
