//! The last logs before the end, and the number of logs of each level.

use super::event_view::{EventView, list, shown};
use super::interner::Name;
use super::report_context::ReportContext;
use super::state::{Label, LiveState};
use super::{Moment, Section, SpanRef, TaskRef, ThreadRef};
use crate::read::{EventKind, Level, OwnedFrame};
use crate::wire::{Nanos, SpanId, StackReason, TaskId, ThreadNumber};
use std::collections::{BTreeMap, VecDeque};

const LAST: usize = 20;
/// So many frames of a stack are kept.
const FRAMES: usize = 128;

/// Logs.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Logs {
    /// How many there were, by level.
    pub levels: BTreeMap<&'static str, u64>,
    /// The last ones, in chronological order.
    pub last: Vec<LogLine>,
    /// The last warnings and errors before those.
    pub warnings: Vec<LogLine>,
}

/// A log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogLine {
    /// When.
    pub at: Moment,
    /// Its level.
    pub level: Level,
    /// Its category.
    pub category: String,
    /// Its message, with `…` where it was cut off when it was recorded.
    pub message: String,
    /// Its fields, as `name=value name=value`.
    pub fields: String,
    /// The thread.
    pub thread: ThreadRef,
    /// The task that the thread was polling.
    pub task: Option<TaskRef>,
    /// The innermost span that the thread had entered.
    pub span: Option<SpanRef>,
    /// The thread's stack, innermost frame first; empty if it was not recorded.
    pub stack: Vec<OwnedFrame>,
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
    stack: Vec<OwnedFrame>,
}

impl LogWatch {
    pub(super) fn log(&mut self, view: &EventView<'_>, live: &LiveState) {
        let EventKind::Log { level, message, .. } = view.kind else { return };
        *self.levels.entry(level.name()).or_default() += 1;
        let name = |task: TaskId| live.tasks.get(&task).map_or(Name::default(), |t| t.name);
        let label = |span: SpanId| live.spans.get(&span).map(|span| span.label.clone());
        // The first two are the level and the message.
        let fields = view.event.map(|event| list(event.fields().skip(2), event.omitted_fields()));
        let kept = Kept {
            at: view.at,
            level,
            category: view.name.to_owned(),
            message: format!("{}{}", message.text, if message.cut { "…" } else { "" }),
            fields: fields.map_or_else(String::new, |fields| shown(&fields)),
            thread: view.thread,
            task: view.task.map(|task| (task, name(task))),
            span: view.span.and_then(label),
            stack: Vec::new(),
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

    /// The stack of a thread, which may belong to its last log.
    pub(super) fn stack(&mut self, view: &EventView<'_>) {
        let of_log = Some(StackReason::Error);
        let asked = Some(StackReason::Asked);
        let EventKind::ThreadStack { thread, reason, .. } = view.kind else { return };
        let is_its = reason == of_log || reason == asked;
        let last = self.last.iter_mut().rev().find(|log| log.thread == thread);
        if let Some(log) = last.filter(|log| is_its && log.stack.is_empty())
            && let Some(stack) = view.event.and_then(|event| event.stack())
        {
            log.stack = stack.frames().take(FRAMES).map(OwnedFrame::from).collect();
        }
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<Logs> {
        if self.levels.is_empty() {
            return Section::nothing("no log is recorded");
        }
        let told = |kept: &Kept| LogLine {
            at: context.moment(kept.at),
            level: kept.level,
            category: kept.category.clone(),
            message: kept.message.clone(),
            fields: kept.fields.clone(),
            thread: context.thread(kept.thread),
            task: kept.task.map(|(task, name)| context.task(task, name)),
            span: kept.span.as_ref().map(|span| context.span(span)),
            stack: kept.stack.clone(),
        };
        let last = self.last.iter().map(told).collect();
        let warnings = self.warnings.iter().map(told).collect();
        let table = Logs { levels: self.levels, last, warnings };
        Section { table, ..Section::default() }
    }
}
