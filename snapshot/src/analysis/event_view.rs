//! One event, with what the analyses need to know about it.

use super::nanos_ext::Length;
use super::stopped::Stops;
use crate::read::WorkerId;
use crate::read::{Event, EventKind, LockHolder, Value};
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber, floor_char_boundary};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct EventView<'a> {
    pub(super) at: Nanos,
    pub(super) thread: ThreadNumber,
    pub(super) thread_name: &'a str,
    pub(super) kind: EventKind<'a>,
    /// The event's name; for an event of a task, the task's name.
    pub(super) name: &'a str,
    pub(super) sequence: Option<u64>,
    /// The innermost task that the thread was polling.
    pub(super) task: Option<TaskId>,
    pub(super) span: Option<SpanId>,
    pub(super) worker: Option<WorkerId>,
    /// Whether it concerns a task that is a closure which may block.
    pub(super) blocking: bool,
    /// Absent only in tests.
    pub(super) event: Option<&'a Event>,
    /// Its fields, if there is no event.
    pub(super) given: &'a [(&'a str, Value<'a>)],
    /// Who holds the lock that it is about, if there is no event.
    pub(super) holder: Option<LockHolder<'a>>,
}

impl<'a> EventView<'a> {
    pub(super) fn of(event: &'a Event) -> Self {
        let thread = event.thread();
        Self {
            at: event.measured(),
            thread: thread.map_or(ThreadNumber(0), |thread| thread.number),
            thread_name: thread.map_or("", |thread| &thread.name),
            kind: event.kind(),
            name: event.name(),
            sequence: event.sequence(),
            task: event.task().filter(|task| task.number() != 0),
            span: event.span().filter(|span| span.number() != 0),
            worker: event.worker(),
            blocking: event.site().is_some_and(|site| site.blocking),
            event: Some(event),
            given: &[],
            holder: None,
        }
    }

    /// The same event, timed by the clock that stands still while the process is stopped.
    pub(super) fn counted(mut self, stops: &Stops) -> Self {
        let at = stops.counted(self.at);
        if let EventKind::RegionEnd { site, duration: Some(duration), inside } = self.kind {
            let duration = Some(at.since(stops.counted(self.at.since(duration))));
            self.kind = EventKind::RegionEnd { site, duration, inside };
        }
        let (began, ended) = match self.kind {
            EventKind::RangeBegin { ago, .. } => (self.at.since(ago), self.at),
            EventKind::RangeEnd { duration, late, .. } => {
                let ended = self.at.since(late);
                (ended.since(duration), ended)
            }
            _ => (self.at, self.at),
        };
        let (began, ended) = (stops.counted(began), stops.counted(ended));
        match &mut self.kind {
            EventKind::RangeBegin { ago, .. } => *ago = at.since(began),
            EventKind::RangeEnd { duration, late, .. } => {
                (*duration, *late) = (ended.since(began), at.since(ended));
            }
            _ => {}
        }
        self.at = at;
        self
    }

    /// Its fields, as a list.
    pub(super) fn fields(&self) -> String {
        match self.event {
            Some(event) => list(event.fields(), event.omitted_fields()),
            None => list(self.given.iter().copied(), std::iter::empty()),
        }
    }

    /// Calls `see` with each of its fields.
    pub(super) fn each_field(&self, see: &mut dyn FnMut(&str, Value<'_>)) {
        match self.event {
            Some(event) => event.fields().for_each(|(name, value)| see(name, value)),
            None => self.given.iter().for_each(|(name, value)| see(name, *value)),
        }
    }
}

/// Separates the fields of a list. In a value it would be escaped.
const BETWEEN: char = '\u{1f}';
/// How many bytes of the fields are shown.
const MOST: usize = 120;

/// Fields as `name=value`, or as `name=…` where there was no room for the value. Keeps as many as can ever be
/// [shown](shown) or [changed](changed).
pub(super) fn list<'a>(
    fields: impl Iterator<Item = (&'a str, Value<'a>)>,
    omitted: impl Iterator<Item = &'a str>,
) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        let (Value::Text(text) | Value::Error(text)) = value else {
            add(&mut out, format_args!("{name}={value}"));
            continue;
        };
        let mark = if text.cut { "…" } else { "" };
        let short = &text[..floor_char_boundary(&text, 4 * MOST)];
        add(&mut out, format_args!("{name}={}{mark}", short.replace(BETWEEN, " ")));
    }
    omitted.for_each(|name| add(&mut out, format_args!("{name}=…")));
    out
}

fn add(out: &mut String, field: std::fmt::Arguments<'_>) {
    // More than can ever be shown is not needed.
    if out.len() < 16 * MOST {
        if !out.is_empty() {
            out.push(BETWEEN);
        }
        // Writing to a string cannot fail.
        let _ = out.write_fmt(field);
    }
}

/// A list of fields after those of `later` became known: the last value of each field.
pub(super) fn changed(list: &str, later: &str) -> String {
    let mut out = String::new();
    let last: HashMap<&str, &str> = each(later).map(|field| (name(field), field)).collect();
    let known: HashSet<&str> = each(list).map(name).collect();
    for field in each(list) {
        add(&mut out, format_args!("{}", last.get(name(field)).unwrap_or(&field)));
    }
    for field in each(later).filter(|field| !known.contains(name(field))) {
        add(&mut out, format_args!("{field}"));
    }
    out
}

/// The fields of a list.
fn each(list: &str) -> impl Iterator<Item = &str> {
    list.split(BETWEEN).filter(|field| !field.is_empty())
}

fn name(field: &str) -> &str {
    field.split_once('=').map_or("", |(name, _)| name)
}

/// A list as it is shown: `name=value name=value`, at most [`MOST`] bytes.
pub(super) fn shown(list: &str) -> String {
    let mut out = list.replace(BETWEEN, " ");
    if out.len() > MOST {
        out.truncate(floor_char_boundary(&out, MOST));
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Text;

    #[test]
    fn the_last_value_of_a_field_is_shown_and_what_is_missing_is_marked() {
        let text = |text, cut| Value::Text(Text { text, cut });
        let began = [("path", text("/a b", false)), ("status", Value::Unsigned(0))];
        let began = list(began.into_iter(), ["body"].into_iter());
        assert_eq!(shown(&began), "path=/a b status=0 body=…");
        let late = list(
            [("status", Value::Unsigned(503)), ("why", text("full", true))].into_iter(),
            [].into_iter(),
        );
        let both = changed(&began, &late);
        assert_eq!(shown(&both), "path=/a b status=503 body=… why=full…");
        assert_eq!(shown(&changed("", &late)), "status=503 why=full…");
        assert_eq!(
            shown(&list([("a", text(&"ü".repeat(200), false))].into_iter(), [].into_iter())).len(),
            120 + 3
        );
    }
}
