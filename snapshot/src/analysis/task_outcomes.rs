//! How tasks ended: done, cancelled, or in a panic.

use super::event_view::EventView;
use super::interner::Name;
use super::report_context::ReportContext;
use super::{Finding, Moment, Score, Section, TaskRef, ThreadRef, Unit};
use crate::format::counted;
use crate::wire::{Nanos, TaskId, ThreadNumber};

const LISTED: usize = 10;

/// How many tasks began, and how they ended.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Endings {
    /// How many were spawned.
    pub spawned: u64,
    /// How many finished.
    pub ready: u64,
    /// How many were dropped before they finished.
    pub dropped: u64,
    /// How many panicked.
    pub panicked: u64,
    /// The first panics.
    pub panics: Vec<Panic>,
}

/// A task that panicked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Panic {
    /// The task.
    pub task: TaskRef,
    /// The thread that polled it.
    pub thread: ThreadRef,
    /// When.
    pub at: Moment,
}

/// Counts endings.
#[derive(Default)]
pub(super) struct EndingWatch {
    pub(super) spawned: u64,
    pub(super) ready: u64,
    pub(super) dropped: u64,
    panicked: u64,
    panics: Vec<(TaskId, Name, ThreadNumber, Nanos)>,
}

impl EndingWatch {
    pub(super) fn panicked(&mut self, view: &EventView<'_>, task: TaskId, name: Name) {
        self.panicked += 1;
        // The first ones: they have caused the others as often as not.
        if self.panics.len() < LISTED {
            self.panics.push((task, name, view.thread, view.at));
        }
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<Endings> {
        let panics: Vec<_> = self
            .panics
            .iter()
            .map(|(task, name, thread, at)| Panic {
                task: context.task(*task, *name),
                thread: context.thread(*thread),
                at: context.moment(*at),
            })
            .collect();
        let mut section = Section::<Endings>::default();
        if let (Some(score), Some(first)) =
            (Score::beyond(self.panicked as f64, 0.0, Unit::Count), panics.first())
        {
            let others = match self.panicked {
                1 => String::new(),
                many => format!(", the first of {}", counted(many, "panic")),
            };
            let title = format!("Task {} panicked{others}", first.task.label());
            let evidence = panics.iter().zip(&self.panics).take(3).map(|(told, panic)| {
                let mut evidence = context.evidence("the panic", panic.3, None);
                evidence.thread = Some(told.thread.clone());
                evidence.task = Some(told.task.clone());
                evidence
            });
            let evidence = evidence.collect();
            section.findings.push(Finding::new("endings", title, score, evidence));
        }
        if context.live.doubts.any() {
            let because = context.live.doubts.because();
            section.not_assessed.push(format!("events are missing, so there were more: {because}"));
        }
        let Self { spawned, ready, dropped, panicked, .. } = self;
        section.table = Endings { spawned, ready, dropped, panicked, panics };
        section
    }
}
