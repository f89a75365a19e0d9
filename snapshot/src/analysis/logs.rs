//! The last logs before the end, and how many there were of each level.

use super::names::Name;
use super::scribe::Scribe;
use super::state::{Label, World};
use super::step::{Step, list, shown};
use super::{Moment, Section, SpanRef, TaskRef, ThreadRef};
use crate::read::{EventKind, Level};
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};
use std::collections::{BTreeMap, VecDeque};

const LAST: usize = 20;

/// Logs.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Logs {
    /// How many there were, by level.
    pub levels: BTreeMap<&'static str, u64>,
    /// The last ones, in the order of time.
    pub last: Vec<LogLine>,
    /// The last ones that warn or tell of an error and stand before those.
    pub warnings: Vec<LogLine>,
}

/// A log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogLine {
    /// When.
    pub at: Moment,
    /// How important it is.
    pub level: Level,
    /// Its category.
    pub category: String,
    /// What it says; with `…` where it was cut off when it was recorded.
    pub message: String,
    /// Its fields, as `name=value name=value`.
    pub fields: String,
    /// The thread.
    pub thread: ThreadRef,
    /// The task that the thread was polling.
    pub task: Option<TaskRef>,
    /// The span that it was inside of.
    pub span: Option<SpanRef>,
}

/// Keeps the last logs.
#[derive(Default)]
pub(super) struct LogWatch {
    levels: BTreeMap<&'static str, u64>,
    last: VecDeque<Kept>,
    warnings: VecDeque<Kept>,
}

struct Kept {
    at: Nanos,
    level: Level,
    category: String,
    message: String,
    fields: String,
    thread: ThreadNumber,
    task: Option<(TaskId, Name)>,
    span: Option<Label>,
}

impl LogWatch {
    pub(super) fn log(&mut self, step: &Step<'_>, world: &World) {
        let EventKind::Log { level, message, .. } = step.kind else { return };
        *self.levels.entry(level.name()).or_default() += 1;
        let name = |task: TaskId| world.tasks.get(&task).map_or(Name::default(), |t| t.name);
        let label = |span: SpanId| world.spans.get(&span).map(|span| span.label.clone());
        // The first two are the level and the message.
        let fields = step.event.map(|event| list(event.fields().skip(2), event.omitted_fields()));
        let kept = Kept {
            at: step.at,
            level,
            category: step.name.to_owned(),
            message: format!("{}{}", message.text, if message.cut { "…" } else { "" }),
            fields: fields.map_or_else(String::new, |fields| shown(&fields)),
            thread: step.thread,
            task: step.task.map(|task| (task, name(task))),
            span: step.span.and_then(label),
        };
        self.last.push_back(kept);
        if self.last.len() > LAST
            && let Some(early) = self.last.pop_front()
            && early.level >= Level::Warn
        {
            if self.warnings.len() == LAST {
                self.warnings.pop_front();
            }
            self.warnings.push_back(early);
        }
    }

    pub(super) fn finish(self, scribe: &Scribe<'_>) -> Section<Logs> {
        if self.levels.is_empty() {
            return Section::nothing("no log is recorded");
        }
        let told = |kept: &Kept| LogLine {
            at: scribe.moment(kept.at),
            level: kept.level,
            category: kept.category.clone(),
            message: kept.message.clone(),
            fields: kept.fields.clone(),
            thread: scribe.thread(kept.thread),
            task: kept.task.map(|(task, name)| scribe.task(task, name)),
            span: kept.span.as_ref().map(|span| scribe.span(span)),
        };
        let last = self.last.iter().map(told).collect();
        let warnings = self.warnings.iter().map(told).collect();
        let table = Logs { levels: self.levels, last, warnings };
        Section { table, ..Section::default() }
    }
}
