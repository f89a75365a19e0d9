//! The results of an analysis: findings with their evidence, and what it could not assess.

use super::{LockWaiter, Score};
use crate::read::WorkerId;
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};

/// An instant, in nanoseconds since the snapshot's first event. Negative for what began before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

/// A thread, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadRef {
    /// The recorder's number of the thread.
    pub number: ThreadNumber,
    /// Its name; empty if it has none. Several threads can have the same name.
    pub name: String,
    /// Its worker, if the thread was that worker and no other, and no other thread was.
    pub worker: Option<WorkerId>,
    /// The name that this worker was given, if any.
    pub worker_name: Option<String>,
}

/// A task, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskRef {
    /// The task.
    pub task: TaskId,
    /// Its future's type, or the name it was given; `?` if unknown.
    pub name: String,
}

/// A span, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpanRef {
    /// The span.
    pub span: SpanId,
    /// Its name; `?` if unknown.
    pub name: String,
    /// Its first fields, as `name=value name=value`.
    pub fields: String,
}

/// A place in the trace that supports a finding.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evidence {
    /// What happens there.
    pub what: String,
    /// When it begins.
    pub at: Moment,
    /// When it ends, if it has a length.
    pub until: Option<Moment>,
    /// How long before the end of the snapshot it begins, as for `lookback events --last`.
    pub before_end: Nanos,
    /// The thread on which it happened.
    pub thread: Option<ThreadRef>,
    /// The task that it concerns.
    pub task: Option<TaskRef>,
    /// The span that it concerns.
    pub span: Option<SpanRef>,
    /// Its depth in a chain of causes: each item explains the preceding one that is less deep.
    pub depth: u8,
}

/// Something that stands out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// The analysis that found it, as the key in `--json`.
    pub analysis: &'static str,
    /// The finding in one sentence.
    pub title: String,
    /// How far it is beyond its limit.
    pub score: Score,
    /// The evidence.
    pub evidence: Vec<Evidence>,
    /// The lock that whatever it is about waited for most of the time, if one did: then who held that lock is the cause.
    pub lock: Option<LockWaiter>,
    /// The kinds of events that show it, as `lookback events --kind` takes them; empty if all of its thread may.
    pub events: Vec<&'static str>,
    /// Whether it names who keeps others waiting for a lock, and nothing else can: then others need not.
    pub(crate) is_certain: bool,
    /// Whether it is about time in which, as far as is known, somebody mostly wanted a core.
    pub(crate) wants_core: bool,
    /// Whether it is about spans that are open and go on: if those wait for the next thing to do, they are conversations, not
    /// slow.
    pub(crate) goes_on: bool,
    /// The numbers of the locks that it is about itself.
    pub(crate) of_locks: Vec<u64>,
    /// The tasks that held them while others waited, each with since when and until when as far as is known.
    pub(crate) holders: Vec<(TaskRef, Moment, Moment)>,
    /// If it is about one holder of them: from when to when that held one, as far as is known.
    pub(crate) hold: Option<(Moment, Option<Moment>)>,
}

impl Finding {
    /// A finding in which no lock was waited for.
    pub(crate) fn new(
        analysis: &'static str,
        title: String,
        score: Score,
        evidence: Vec<Evidence>,
    ) -> Self {
        let (lock, events, is_certain, wants_core, goes_on) = Default::default();
        let (of_locks, holders, hold) = Default::default();
        Self {
            analysis,
            title,
            score,
            evidence,
            lock,
            events,
            is_certain,
            wants_core,
            goes_on,
            of_locks,
            holders,
            hold,
        }
    }
}

/// The results of one analysis.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Section<T> {
    /// What it measured.
    pub table: T,
    /// The findings, by descending score.
    pub findings: Vec<Finding>,
    /// What it could not assess: each is the end of a sentence that begins with "not assessed because".
    pub not_assessed: Vec<String>,
}

impl<T: Default> Section<T> {
    /// An analysis that assessed nothing, for this reason.
    pub(super) fn nothing(because: impl Into<String>) -> Self {
        Self { not_assessed: vec![because.into()], ..Self::default() }
    }
}

impl<T> Section<T> {
    /// Sorts the findings, and keeps the first `most`.
    pub(super) fn settle(mut self, most: usize) -> Self {
        self.findings.sort_by(|a, b| b.score.number().total_cmp(&a.score.number()));
        self.findings.truncate(most);
        self
    }
}
