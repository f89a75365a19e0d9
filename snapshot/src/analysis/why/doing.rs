//! What a task does at a time, in numbers: names, locks and stacks are told apart by where they are in tables.

use super::window::Segment;
use crate::analysis::interner::Name;
use crate::analysis::nanos_ext::Length;
use crate::analysis::state::Gap;
use crate::wire::{Nanos, TaskId, ThreadNumber};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Doing {
    /// A thread polls it, or has entered the span.
    Polled {
        thread: ThreadNumber,
    },
    /// The same, and the thread is blocked: at this stack.
    Stands {
        thread: ThreadNumber,
        stack: usize,
    },
    /// It waits for this lock, or the thread that polls it does.
    Lock(usize),
    /// It is ready to be polled.
    Ready(Ready),
    /// It waits until it is woken.
    Waits(Waits),
    Unknown(Unknown),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ready {
    /// The thread that polled it then.
    pub(super) thread: Option<ThreadNumber>,
    /// What that thread polled for most of the time.
    pub(super) meanwhile: Option<(TaskId, Name)>,
    /// Whether it had been spawned, and not woken.
    pub(super) spawned: bool,
    /// Whether it needs a thread on which it may block.
    pub(super) blocking: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Waits {
    /// What it waits for, if it said so.
    pub(super) reason: Option<Name>,
    pub(super) waker: Waker,
    /// Its await chain, if that was noted meanwhile.
    pub(super) stack: Option<usize>,
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Waker {
    Task(TaskId, Name),
    /// The end of this task: its thread woke it right afterwards.
    EndOf(TaskId, Name),
    /// This thread, outside of any recorded task.
    Thread(ThreadNumber),
    /// Nothing has ended it.
    Nobody,
    /// Its end was recorded, and not by whom.
    NotKnown,
}

/// A task that was woken by the end of another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joined {
    pub(super) task: TaskId,
    pub(super) name: Name,
    pub(super) woken: Nanos,
}

/// Why it is not known what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Unknown {
    /// Nothing says what it did before.
    NotKnownYet,
    /// It was polled though no wake of it was recorded.
    PolledWithoutWake,
    TaskOver,
    NotEntered,
    /// There is too much to tell it apart.
    Many,
}

/// How long it did that, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) time: Nanos,
    pub(super) times: u64,
    /// The longest, and when that began.
    pub(super) longest: Nanos,
    pub(super) longest_at: Nanos,
}

impl Sum {
    pub(super) fn add(&mut self, segment: &Segment) {
        self.add_all(&Self {
            time: segment.length(),
            times: 1,
            longest: segment.length(),
            longest_at: segment.from,
        });
    }

    pub(super) fn add_all(&mut self, more: &Self) {
        self.time.grow(more.time);
        self.times = self.times.saturating_add(more.times);
        if more.longest > self.longest || self.times == more.times {
            (self.longest, self.longest_at) = (more.longest, more.longest_at);
        }
    }
}

impl Doing {
    pub(super) fn ready(gap: &Gap) -> Self {
        Self::Ready(Ready {
            thread: gap.polled.map(|(_, thread)| thread),
            meanwhile: gap.blocker.map(|blocker| (blocker.task, blocker.name)),
            spawned: gap.chain.first().is_some_and(|hop| hop.spawned),
            blocking: gap.blocking,
        })
    }

    /// `ended` is a task after whose end a thread woke this one, and when.
    pub(super) fn waits(gap: &Gap, stack: Option<usize>, ended: Option<Joined>) -> Self {
        let waker = match (gap.chain.first(), gap.runnable, gap.polled) {
            // It woke itself, or whatever ran inside of it did.
            (Some(hop), ..) => match hop.task {
                Some((task, name)) => Waker::Task(task, name),
                None => match ended.filter(|ended| ended.woken == hop.at) {
                    Some(ended) => Waker::EndOf(ended.task, ended.name),
                    None => Waker::Thread(hop.thread),
                },
            },
            (None, None, None) => Waker::Nobody,
            (None, ..) => Waker::NotKnown,
        };
        Self::Waits(Waits { reason: gap.waits_for, waker, stack })
    }

    /// Whether it is in a poll, and nothing more is known.
    pub(super) fn is_polled(self) -> bool {
        matches!(self, Self::Polled { .. })
    }

    /// Whether two of it in a row are one.
    pub(super) fn may_be_in_pieces(self) -> bool {
        matches!(self, Self::Polled { .. } | Self::Unknown(_))
    }

    /// Whether a wait for a lock of tasks may be what this is.
    pub(super) fn may_be_a_wait_for_a_lock(self) -> bool {
        match self {
            Self::Waits(_) => true,
            Self::Unknown(because) => because == Unknown::PolledWithoutWake,
            _ => false,
        }
    }

    /// The same without what tells it apart.
    pub(super) fn of_many(self) -> Self {
        match self {
            Self::Ready(_) => Self::Ready(Ready::default()),
            Self::Waits(_) => {
                Self::Waits(Waits { reason: None, waker: Waker::NotKnown, stack: None })
            }
            Self::Polled { .. } => Self::Polled { thread: ThreadNumber(0) },
            Self::Stands { .. } | Self::Lock(_) | Self::Unknown(_) => Self::Unknown(Unknown::Many),
        }
    }
}
