//! A task: whether it waits, is ready, or runs.

use super::LiveState;
use super::span::Label;
use super::wake_chain::Chain;
use crate::analysis::completeness::Mark;
use crate::analysis::interner::Name;
use crate::read::WorkerId;
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};

/// A live task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) name: Name,
    pub(crate) state: TaskNow,
    /// The thread whose polls include it.
    pub(crate) poller: Option<ThreadNumber>,
    /// The wake for its next poll.
    pub(crate) wake: Option<Wake>,
    /// Since when it has been in the queue of ready tasks.
    pub(crate) queued: Option<Nanos>,
    /// Where it can be polled.
    pub(crate) home: Home,
    /// Whether it is a closure that runs where blocking is allowed.
    pub(crate) blocking: bool,
    /// What it waits for, if it said so.
    pub(crate) waits_for: Option<Name>,
    /// The same, until it is woken.
    pub(crate) wait: Option<Wait>,
    /// The open spans that it runs in.
    pub(crate) spans: Vec<SpanId>,
    /// Polls in a row after which the task had woken itself.
    pub(crate) spin: Spin,
}

/// Which threads can poll a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Home {
    #[default]
    Unknown,
    /// The workers of this runtime.
    Runtime(u64),
    /// This thread, which is no worker; whether others can is not known.
    Thread(ThreadNumber),
}

impl Home {
    /// The home of a task that is polled there.
    pub(crate) fn of(worker: Option<WorkerId>, thread: ThreadNumber) -> Self {
        worker.map_or(Self::Thread(thread), |worker| Self::Runtime(worker.runtime))
    }
}

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TaskNow {
    /// It is not being polled.
    Idle {
        since: Nanos,
        /// Whether `since` is when this began, rather than the beginning of the snapshot.
        exact: bool,
        sequence: Option<u64>,
        mark: Mark,
    },
    /// It has been polled since then, or since before the snapshot.
    Running { began: Nanos, sequence: Option<u64> },
}

/// A wake whose poll has not come yet.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    /// When, or the beginning of the snapshot if it was before that.
    pub(crate) at: Nanos,
    pub(crate) exact: bool,
    /// Whether it came while the task was being polled.
    pub(crate) running: bool,
    /// The sequence number of the poll that it is for.
    pub(crate) target: Option<u64>,
    /// The wakers; empty if it was before the snapshot.
    pub(crate) chain: Chain,
}

/// A wait of a task that said what for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) what: Name,
    pub(crate) since: Nanos,
    pub(crate) mark: Mark,
}

/// Polls in a row, each of which ended after the task had woken itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Spin {
    pub(crate) polls: u64,
    pub(crate) began: Nanos,
    pub(crate) polling: Nanos,
}

/// The time between two polls of a task.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) task: TaskId,
    pub(crate) name: Name,
    /// When the previous poll ended, or the task was spawned; none if unknown.
    pub(crate) since: Option<Nanos>,
    /// Since when the task was ready, if known.
    pub(crate) runnable: Option<Nanos>,
    /// The waker, then that one's waker, and so on; empty if unknown.
    pub(crate) chain: Chain,
    /// What it waited for, if it said so.
    pub(crate) waits_for: Option<Name>,
    /// When it was polled, and by which thread; none if it was not polled before the end.
    pub(crate) polled: Option<(Nanos, ThreadNumber)>,
    /// The poll that kept the thread busy for most of the time that the task was ready.
    pub(crate) blocker: Option<Blocker>,
    /// Whether it is a closure that runs where blocking is allowed: it waits for no worker.
    pub(crate) blocking: bool,
}

/// A poll that kept a thread busy while a task was ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Blocker {
    pub(crate) task: TaskId,
    pub(crate) name: Name,
    pub(crate) began: Nanos,
    pub(crate) ended: Nanos,
}

impl LiveState {
    /// The span that shows the task's purpose: the innermost one with a route that it runs in; without a
    /// route, the innermost one.
    pub(crate) fn purpose(&self, task: TaskId) -> Option<&Label> {
        let spans = &self.tasks.get(&task)?.spans;
        let labels = || spans.iter().filter_map(|id| Some(&self.spans.get(id)?.label));
        labels().rfind(|label| label.group != label.name).or_else(|| labels().next_back())
    }

    /// The innermost open span that the task runs in.
    pub(crate) fn innermost_span(&self, task: TaskId) -> Option<&Label> {
        let span = self.tasks.get(&task)?.spans.last()?;
        Some(&self.spans.get(span)?.label)
    }

    /// Waits that have not ended at the end of the snapshot.
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
    /// How long it was ready and not polled, if known.
    pub(crate) fn delay(&self) -> Option<Nanos> {
        let (polled, _) = self.polled?;
        Some(Nanos(polled.0.saturating_sub(self.runnable?.0)))
    }
}
