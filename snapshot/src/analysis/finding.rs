//! What an analysis hands over: findings with their evidence, and what it could not assess.

use super::Score;
use crate::read::WorkerId;
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};

/// An instant, in nanoseconds since the first event of the snapshot. Negative for what began
/// before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

/// A thread, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadRef {
    /// The recorder's number of it.
    pub number: ThreadNumber,
    /// Its name; empty if it has none. Several threads can have one name.
    pub name: String,
    /// The worker that it is, if it was one and no other, and no other thread was that one.
    pub worker: Option<WorkerId>,
    /// The name that this worker was given, if it was given one.
    pub worker_name: Option<String>,
}

/// A task, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRef {
    /// Which.
    pub task: TaskId,
    /// Its future's type, or what it was called; `?` if that is not known.
    pub name: String,
}

/// A span, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanRef {
    /// Which.
    pub span: SpanId,
    /// Its name; `?` if that is not known.
    pub name: String,
    /// Its first fields, as `name=value name=value`.
    pub fields: String,
}

/// A place in the trace that shows what a finding says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evidence {
    /// What is to be seen there.
    pub what: String,
    /// When it begins.
    pub at: Moment,
    /// When it ends, if it takes time.
    pub until: Option<Moment>,
    /// How long before the end of the snapshot it begins: what `lookback events --last` takes.
    pub before_end: Nanos,
    /// The thread that it happened on.
    pub thread: Option<ThreadRef>,
    /// The task that it is about.
    pub task: Option<TaskRef>,
    /// The span that it is about.
    pub span: Option<SpanRef>,
    /// How deep it stands in a chain of causes: what is one deeper explains what is before it.
    pub depth: u8,
}

/// Something that stands out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// The analysis that found it, as the key in `--json`.
    pub analysis: &'static str,
    /// What it is, in one sentence.
    pub title: String,
    /// How far beyond its limit.
    pub score: Score,
    /// Where it can be seen.
    pub evidence: Vec<Evidence>,
}

/// What one analysis has to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section<T> {
    /// What it measured.
    pub table: T,
    /// What stands out, by descending score.
    pub findings: Vec<Finding>,
    /// What could not be assessed: each the end of a sentence that begins with "not assessed
    /// because".
    pub not_assessed: Vec<String>,
}

impl<T: Default> Section<T> {
    /// Nothing was assessed, because of this.
    pub(super) fn nothing(because: impl Into<String>) -> Self {
        Self { not_assessed: vec![because.into()], ..Self::default() }
    }
}

impl<T> Section<T> {
    /// Puts the findings in order, and keeps so many.
    pub(super) fn settle(mut self, most: usize) -> Self {
        self.findings.sort_by(|a, b| b.score.number().total_cmp(&a.score.number()));
        self.findings.truncate(most);
        self
    }
}
