//! Why something took so long: all of the time of a span or a task, by what it did, so that the parts add up to the whole.
//!
//! A pass over the events finds the span; another one accounts for its time (`window`, `watch`). Where it waited for another
//! task, or for a lock that another task held, a further pass accounts for that task's time meanwhile, and so on, a few
//! times. Memory grows with what lives, and with the few windows of time that are asked for.
//!
//! What is not known stays unknown, with the reason: a share is never guessed.

mod choice;
mod doing;
mod of_name;
mod passes;
mod periods;
mod tables;
#[cfg(test)]
mod tests;
mod told;
mod watch;
mod window;

use super::{Histogram, Moment, SpanRef, TaskRef, ThreadRef};
use crate::read::{OwnedFrame, Trace};
use crate::wire::{LockKind, Nanos, SpanId, TaskId};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyOf {
    /// The span that the report names first among the slow ones; if it names none, the longest.
    Slowest,
    /// This span.
    Span(SpanId),
    /// The longest span of this name or group, and all of them together.
    SpansOf(String),
    /// This task, as long as it lived.
    Task(TaskId),
}

/// Where the time of a span or a task went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Why {
    /// The span, unless a task was asked for.
    pub span: Option<SpanRef>,
    /// The task: that which entered the span first. None if the span ran in no recorded task.
    pub task: Option<TaskRef>,
    /// When it began.
    pub began: Moment,
    /// From when on it is accounted for: its begin, or that of the snapshot.
    pub from: Moment,
    /// How long it took from there, up to the end of the snapshot if it had not ended.
    pub length: Nanos,
    /// Whether it had not ended.
    pub is_open: bool,
    /// Whether other tasks entered the span, too: what they did is not included.
    pub is_shared: bool,
    /// Whether no event was lost in its time.
    pub is_certain: bool,
    /// Where the time went: the parts add up to `length`.
    pub spent: Spent,
    /// All spans of the name that was asked for.
    pub all: Option<AllOfName>,
}

/// Time by what was done.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Spent {
    /// All of it.
    pub length: Nanos,
    /// The parts, longest first. They add up to `length`.
    pub parts: Vec<Part>,
    /// The longest stretches, in chronological order.
    pub longest: Vec<Stretch>,
    /// Where it was seen while it was polled or entered: by samples of CPU time, and because a poll stalled. The most often
    /// first.
    pub seen: Vec<Seen>,
}

/// A stack that was taken of the thread that polled it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Seen {
    /// The stack, innermost frame first.
    pub stack: Vec<OwnedFrame>,
    /// How often it was that one.
    pub times: u64,
    /// When it was first.
    pub first: Moment,
}

/// All the time in which one thing was done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Part {
    /// What was done.
    pub state: State,
    /// For how long, in all.
    pub time: Nanos,
    /// How often. Where the time in polls is divided, how many polls there were.
    pub times: u64,
    /// The longest of these times. Where the time in polls is divided, the longest of these polls, whatever of it was this.
    pub longest: Nanos,
    /// When that began.
    pub longest_at: Moment,
    /// What the task did meanwhile that was waited for, or that held the lock: in the longest of these times.
    pub followed: Option<Box<Spent>>,
}

/// One thing, once.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stretch {
    /// When it began.
    pub began: Moment,
    /// How long it was.
    pub length: Nanos,
    /// What was done.
    pub state: State,
}

/// What a task, or a span without one, does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// It is polled, and its thread runs: the kernel says so.
    Running {
        /// The thread.
        thread: ThreadRef,
    },
    /// It is polled, and its thread has no core: the kernel says so.
    WaitingForCore {
        /// The thread.
        thread: ThreadRef,
    },
    /// It is polled, and its thread is blocked.
    Blocked {
        /// The thread.
        thread: ThreadRef,
        /// Where, if that was noted, the innermost frame first.
        stack: Vec<OwnedFrame>,
    },
    /// It is polled. Whether its thread runs is not known.
    Polled {
        /// The thread.
        thread: ThreadRef,
    },
    /// It is ready, and not polled.
    Ready {
        /// The thread that polled it then; none if it was not polled.
        thread: Option<ThreadRef>,
        /// What that thread polled for most of the time.
        meanwhile: Option<TaskRef>,
        /// Whether it had been spawned, and not woken.
        is_spawned: bool,
        /// Whether it needs a thread on which it may block.
        may_block: bool,
    },
    /// It waits for a lock, or its thread does.
    Lock(LockWaitedFor),
    /// It waits until another task wakes it, or ends.
    Task {
        /// The task that woke it.
        task: TaskRef,
        /// Whether that had ended, and its thread woke this one right afterwards.
        is_end: bool,
        /// What it waits for, if it said so.
        reason: Option<String>,
        /// Its await chain, if that was noted, the innermost frame first.
        stack: Vec<OwnedFrame>,
    },
    /// It waits until it is woken outside of recorded tasks: by a runtime, for I/O and timers, or by a thread.
    Wake {
        /// The thread that woke it, if that is known.
        thread: Option<ThreadRef>,
        /// What it waits for, if it said so.
        reason: Option<String>,
        /// Its await chain, if that was noted, the innermost frame first.
        stack: Vec<OwnedFrame>,
    },
    /// It waits, and nothing has woken it.
    NotWoken {
        /// What it waits for, if it said so.
        reason: Option<String>,
        /// Its await chain, if that was noted, the innermost frame first.
        stack: Vec<OwnedFrame>,
    },
    /// The whole process was stopped.
    Stopped,
    /// It is not known.
    Unknown {
        /// Why not.
        because: &'static str,
    },
}

/// A lock, and who had it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LockWaitedFor {
    /// Its number: it says only whether two are one.
    pub lock: u64,
    /// What it is; `None` if only a later version knows it.
    pub kind: Option<LockKind>,
    /// Where it was asked for, as `file:line`.
    pub place: String,
    /// The thread that held it, if one did.
    pub thread: Option<ThreadRef>,
    /// The kernel's number of a thread that held it and had recorded nothing.
    pub os_thread: Option<u64>,
    /// The task that held it, or that the thread polled when it took the lock.
    pub task: Option<TaskRef>,
    /// Where the holder took it, as `file:line`.
    pub held_at: Option<String>,
    /// Whether a thread held it for a task that nobody polled.
    pub is_across_await: bool,
}

/// All spans of a name, as far as they began and ended in the snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AllOfName {
    /// The name.
    pub name: String,
    /// How long they took.
    pub lengths: Histogram,
    /// How many had not ended.
    pub open: u64,
    /// All of them, and the slowest: see [`SlowestPart`].
    pub slowest: Vec<SlowestPart>,
    /// How many of the slowest hundredth are accounted for in detail: all, or the slowest 256.
    pub accounted: u64,
    /// Where the time of these went. The parts add up to their length.
    pub spent: Spent,
}

/// The slowest spans of a name.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SlowestPart {
    /// Which part of the spans took less: 0.0 is all of them, 0.99 the slowest hundredth.
    pub beyond: f64,
    /// What this part does not exceed.
    pub limit: Nanos,
    /// How many there are.
    pub spans: u64,
    /// How long they took, together.
    pub time: Nanos,
    /// Where that went, longest first: what, and for how long. The parts add up to `time`.
    pub parts: Vec<(String, Nanos)>,
}

impl Why {
    /// Accounts for the time of a span or a task. `None` if there is none of that kind.
    ///
    /// ```no_run
    /// use lookback_snapshot::analysis::{Why, WhyOf};
    /// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
    /// if let Some(why) = Why::of(&trace, WhyOf::Slowest) {
    ///     for part in &why.spent.parts {
    ///         println!("{} ns  {}", part.time.0, part.state.in_words());
    ///     }
    /// }
    /// # Ok::<(), lookback_snapshot::ReadError>(())
    /// ```
    #[must_use]
    pub fn of(trace: &Trace, asked: WhyOf) -> Option<Self> {
        passes::why(trace, asked)
    }
}
