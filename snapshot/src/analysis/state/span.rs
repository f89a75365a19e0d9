//! A span that is open, and where its time goes.

use super::super::doubts::Mark;
use super::super::length::Length;
use super::super::names::Name;
use super::super::step::Step;
use super::super::top::Top;
use super::World;
use super::task::{Gap, TaskNow};
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};
use std::rc::Rc;

/// So many of the longest gaps of a span are kept.
pub(crate) const GAPS: usize = 4;

/// What a span is called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Label {
    pub(crate) span: SpanId,
    pub(crate) name: Name,
    pub(crate) fields: Rc<str>,
}

/// An open span.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) label: Label,
    pub(crate) began: Nanos,
    /// It began before the snapshot does.
    pub(crate) before: bool,
    pub(crate) mark: Mark,
    /// The thread that created it; 0 if that was before the snapshot.
    pub(crate) thread: ThreadNumber,
    /// The task that it runs in: that which entered it first, or else that which created it.
    pub(crate) task: Option<(TaskId, Name)>,
    /// Whether it was entered.
    pub(crate) entered: bool,
    /// It was entered by other tasks, too; what they did is not in `spent`.
    pub(crate) shared: bool,
    pub(crate) spent: Spent,
    pub(crate) inside: Inside,
}

/// The time of a span, by what its task did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) polling: Nanos,
    /// Until somebody woke the task.
    pub(crate) waiting: Nanos,
    /// Woken, and not polled yet.
    pub(crate) runnable: Nanos,
    /// Between polls whose cause is not known.
    pub(crate) unknown: Nanos,
    /// The longest gaps between polls.
    pub(crate) gaps: Top<Gap, GAPS>,
}

/// How long at least one thread was inside of a span.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inside {
    threads: u32,
    since: Nanos,
    total: Nanos,
}

impl Inside {
    pub(crate) fn enter(&mut self, at: Nanos) {
        if self.threads == 0 {
            self.since = at;
        }
        self.threads = self.threads.saturating_add(1);
    }

    pub(crate) fn exit(&mut self, at: Nanos) {
        self.threads = self.threads.saturating_sub(1);
        if self.threads == 0 {
            self.total.grow(at.since(self.since));
        }
    }

    pub(crate) fn total(&self, at: Nanos) -> Nanos {
        if self.threads > 0 { self.total.plus(at.since(self.since)) } else { self.total }
    }
}

impl Spent {
    /// A gap between polls is over, or the span is: what of it lies behind `began` counts.
    pub(crate) fn gap(&mut self, gap: &Gap, began: Nanos, now: Nanos) {
        let since = gap.since.unwrap_or(now).max(began);
        match gap.runnable {
            Some(runnable) => {
                let runnable = runnable.clamp(since, now.max(since));
                self.waiting.grow(runnable.since(since));
                self.runnable.grow(now.since(runnable));
            }
            // Nobody woke it up to the end: it waits. A poll without a wake: nobody knows.
            None if gap.polled.is_none() => self.waiting.grow(now.since(since)),
            None => self.unknown.grow(now.since(since)),
        }
        self.gaps.add(now.0.saturating_sub(since.0), gap.clone());
    }

    /// A poll is over, or the span is.
    pub(crate) fn polled(&mut self, from: Nanos, began: Nanos, now: Nanos) {
        self.polling.grow(now.since(from.max(began)));
    }
}

/// A span that is over, or that the end of the snapshot found open.
#[derive(Clone, Debug)]
pub(crate) struct SpanDone {
    pub(crate) label: Label,
    pub(crate) began: Nanos,
    pub(crate) before: bool,
    pub(crate) ended: Nanos,
    pub(crate) open: bool,
    pub(crate) certain: bool,
    pub(crate) thread: ThreadNumber,
    pub(crate) task: Option<(TaskId, Name)>,
    pub(crate) shared: bool,
    pub(crate) spent: Spent,
    pub(crate) inside: Nanos,
}

impl SpanDone {
    pub(crate) fn length(&self) -> Nanos {
        self.ended.since(self.began)
    }
}

/// So many spans of one task are followed at once; of further ones it is not told what it did.
const SPANS_OF_A_TASK: usize = 16;

impl World {
    pub(crate) fn span_create(&mut self, step: &Step, span: SpanId) {
        if span == SpanId::default() {
            return;
        }
        let fields = step.fields();
        let label = Label { span, name: self.names.name(step.name), fields: Rc::from(fields) };
        let mark = self.doubts.mark();
        let created = Span::new(label, step.at, false, mark, step.thread);
        self.spans.insert(span, created);
        self.bind(span, step.task);
    }

    pub(crate) fn span_enter(&mut self, step: &Step, span: SpanId) {
        let Some(entry) = self.spans.get_mut(&span) else { return };
        entry.inside.enter(step.at);
        let label = entry.label.clone();
        let first = !std::mem::replace(&mut entry.entered, true);
        let task = entry.task.map(|(task, _)| task);
        self.thread(step.thread).spans.push((label, step.at));
        if first && task != step.task {
            self.bind(span, step.task);
        } else if task != step.task
            && let Some(entry) = self.spans.get_mut(&span)
        {
            entry.shared = true;
        }
    }

    pub(crate) fn span_exit(&mut self, step: &Step, span: SpanId) {
        let thread = self.threads.entry(step.thread).or_default();
        let Some(at) = thread.spans.iter().rposition(|(label, _)| label.span == span) else {
            return;
        };
        let (label, entered) = thread.spans.remove(at);
        if let Some(poll) = thread.polls.last_mut() {
            poll.span.ended(label, entered.max(poll.began), step.at);
        }
        if let Some(span) = self.spans.get_mut(&span) {
            span.inside.exit(step.at);
        }
    }

    pub(crate) fn span_close(&mut self, at: Nanos, span: SpanId) -> Option<SpanDone> {
        self.span_done(at, span, false)
    }

    /// The span runs in this task from now on.
    pub(super) fn bind(&mut self, id: SpanId, task: Option<TaskId>) {
        let Some(span) = self.spans.get_mut(&id) else { return };
        if let Some(before) = span.task.take().and_then(|(task, _)| self.tasks.get_mut(&task)) {
            before.spans.retain(|span| *span != id);
        }
        if let Some(task) = task
            && let Some(entry) = self.tasks.get_mut(&task)
            && entry.spans.len() < SPANS_OF_A_TASK
        {
            span.task = Some((task, entry.name));
            entry.spans.push(id);
        }
    }

    fn span_done(&mut self, at: Nanos, id: SpanId, open: bool) -> Option<SpanDone> {
        let mut span = self.spans.remove(&id)?;
        if let Some(task) = span.task
            && let Some(entry) = self.tasks.get_mut(&task.0)
            && entry.spans.contains(&id)
        {
            entry.spans.retain(|span| *span != id);
            match entry.state {
                TaskNow::Running { began, .. } => span.spent.polled(began, span.began, at),
                TaskNow::Idle { .. } => span.spent.gap(&entry.gap(task.0), span.began, at),
            }
        }
        Some(SpanDone {
            began: span.began,
            before: span.before,
            ended: at,
            open,
            certain: self.doubts.certain_since(span.mark),
            thread: span.thread,
            task: span.task,
            shared: span.shared,
            inside: span.inside.total(at),
            spent: span.spent,
            label: span.label,
        })
    }

    /// Spans that were open when the snapshot ends.
    pub(crate) fn open_spans(&mut self, at: Nanos) -> Vec<SpanDone> {
        let mut open: Vec<_> = self.spans.keys().copied().collect();
        open.sort();
        open.into_iter().filter_map(|span| self.span_done(at, span, true)).collect()
    }
}

impl Span {
    pub(super) fn new(
        label: Label,
        began: Nanos,
        before: bool,
        mark: Mark,
        thread: ThreadNumber,
    ) -> Self {
        let (task, entered, shared) = (None, false, false);
        let (spent, inside) = Default::default();
        Self { label, began, before, mark, thread, task, entered, shared, spent, inside }
    }
}
