//! One event, with what the analyses ask of it.

use crate::read::WorkerId;
use crate::read::{Event, EventKind, Value};
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};
use std::fmt::Write;

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) at: Nanos,
    pub(super) thread: ThreadNumber,
    pub(super) thread_name: &'a str,
    pub(super) kind: EventKind<'a>,
    /// The event's name: of a task's event, that of the task.
    pub(super) name: &'a str,
    pub(super) sequence: Option<u64>,
    /// The innermost task that the thread was polling.
    pub(super) task: Option<TaskId>,
    pub(super) span: Option<SpanId>,
    pub(super) worker: Option<WorkerId>,
    /// Not there in tests alone.
    pub(super) event: Option<&'a Event>,
    /// Its fields, where there is no event.
    pub(super) given: &'a [(&'a str, Value<'a>)],
}

impl<'a> Step<'a> {
    pub(super) fn of(event: &'a Event) -> Self {
        let thread = event.thread();
        Self {
            at: event.time(),
            thread: thread.map_or(ThreadNumber(0), |thread| thread.number),
            thread_name: thread.map_or("", |thread| &thread.name),
            kind: event.kind(),
            name: event.name(),
            sequence: event.sequence(),
            task: event.task().filter(|task| task.number() != 0),
            span: event.span().filter(|span| span.number() != 0),
            worker: event.worker(),
            event: Some(event),
            given: &[],
        }
    }

    /// Its fields, as a short text.
    pub(super) fn fields(&self) -> String {
        match self.event {
            Some(event) => fields(event.fields()),
            None => fields(self.given.iter().copied()),
        }
    }

    /// Shows each of its fields.
    pub(super) fn each_field(&self, see: &mut dyn FnMut(&str, Value<'_>)) {
        match self.event {
            Some(event) => event.fields().for_each(|(name, value)| see(name, value)),
            None => self.given.iter().for_each(|(name, value)| see(name, *value)),
        }
    }
}

/// Fields as `name=value name=value`, at most so many characters of them.
pub(super) fn fields<'a>(fields: impl Iterator<Item = (&'a str, Value<'a>)>) -> String {
    const MOST: usize = 120;
    let mut out = String::new();
    for (name, value) in fields {
        let space = if out.is_empty() { "" } else { " " };
        // Writing to a text does not fail.
        let _ = write!(out, "{space}{name}={value}");
        if out.len() > MOST {
            let cut = (0..=MOST).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
            out.truncate(cut);
            out.push('…');
            break;
        }
    }
    out
}
