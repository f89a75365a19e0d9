//! What is said of an event besides its name and its values: of which task, span, worker, range it is, say.

use crate::format::quote;
use lookback::read::wire::{SpanId, TaskId};
use lookback::read::{Event, EventKind, Site, WorkerId};
use std::fmt::{self, Display};

/// A fact about an event of a task, a worker or a span.
pub enum Fact<'a> {
    Task(TaskId),
    Span(SpanId),
    Worker(WorkerId),
    Number(u64),
    Name(&'a str),
    /// A file and a line.
    Place(String),
    /// Something that is so.
    Is,
}

impl Display for Fact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => task.fmt(f),
            Self::Span(span) => span.fmt(f),
            Self::Worker(worker) => worker.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(&quote(name)),
            Self::Place(place) => f.write_str(place),
            Self::Is => f.write_str("true"),
        }
    }
}

/// The facts about an event of a task, a worker or a span, its id first.
pub fn facts(event: &Event) -> Vec<(&'static str, Fact<'_>)> {
    let mut facts = Vec::new();
    match event.kind() {
        EventKind::TaskCreate { task, parent, .. } => {
            facts.push(("task", Fact::Task(task)));
            facts.extend(parent.map(|parent| ("parent", Fact::Task(parent))));
        }
        EventKind::TaskPending { task, waits_for } => {
            facts.push(("task", Fact::Task(task)));
            facts.extend(waits_for.map(|site| ("waits_for", Fact::Name(site.name))));
        }
        EventKind::TaskPoll { task }
        | EventKind::TaskReady { task }
        | EventKind::TaskPanic { task }
        | EventKind::TaskDrop { task } => facts.push(("task", Fact::Task(task))),
        EventKind::TaskWake { task } => {
            facts.push(("task", Fact::Task(task)));
            facts.extend(event.task().map(|by| ("by", Fact::Task(by))));
        }
        EventKind::WorkerStart { worker }
        | EventKind::WorkerVisit { worker }
        | EventKind::WorkerPark { worker }
        | EventKind::WorkerUnpark { worker }
        | EventKind::WorkerStop { worker } => facts.push(("worker", Fact::Worker(worker))),
        EventKind::PoolThread { runtime } => facts.push(("runtime", Fact::Number(runtime))),
        EventKind::SpanCreate { span, parent, .. } => {
            facts.push(("span", Fact::Span(span)));
            facts.extend(parent.map(|parent| ("parent", Fact::Span(parent))));
        }
        EventKind::SpanEnter { span }
        | EventKind::SpanExit { span }
        | EventKind::SpanClose { span }
        | EventKind::SpanRecord { span } => facts.push(("span", Fact::Span(span))),
        EventKind::RangeBegin { range, ago, .. } => {
            facts.push(("range", Fact::Number(range)));
            facts.extend((ago.0 > 0).then_some(("ago_ns", Fact::Number(ago.0))));
        }
        EventKind::RangeEnd { range, duration, late, .. } => {
            facts.push(("range", Fact::Number(range)));
            facts.push(("duration_ns", Fact::Number(duration.0)));
            facts.extend((late.0 > 0).then_some(("late_ns", Fact::Number(late.0))));
        }
        EventKind::SpanFollows { span, from } => {
            facts.extend([("span", Fact::Span(span)), ("from", Fact::Span(from))]);
        }
        EventKind::Contention { .. } | EventKind::LockWait { .. } | EventKind::LockHeld { .. } => {
            lock_facts(event, &mut facts);
        }
        _ => {}
    }
    facts.extend(event.sequence().map(|number| ("sequence", Fact::Number(number))));
    facts
}

/// Those of an event of a lock.
fn lock_facts<'a>(event: &'a Event, facts: &mut Vec<(&'static str, Fact<'a>)>) {
    let place = |site: Site<'_>| Fact::Place(format!("{}:{}", site.file, site.line));
    let (number, is_given_up) = match event.kind() {
        EventKind::Contention { site, lock, waited, waiters, is_given_up, .. } => {
            facts.extend([("at", place(site)), ("waited_ns", Fact::Number(waited.0))]);
            facts.push(("waiters", Fact::Number(waiters)));
            (lock, is_given_up)
        }
        EventKind::LockWait { thread, task, site, lock, waited, .. } => {
            facts.extend(thread.map(|thread| ("waiting_thread", Fact::Number(thread.0))));
            facts.extend(task.map(|task| ("waiting_task", Fact::Task(task))));
            facts.extend([("at", place(site)), ("waited_ns", Fact::Number(waited.0))]);
            (lock, false)
        }
        EventKind::LockHeld { site, lock, task, polls, .. } => {
            facts.extend([("task", Fact::Task(task)), ("at", place(site))]);
            facts.push(("polls", Fact::Number(polls)));
            (lock, false)
        }
        _ => return,
    };
    facts.push(("lock", Fact::Number(number)));
    if is_given_up {
        facts.push(("given_up", Fact::Is));
    }
    let Some(holder) = event.lock_holder() else { return };
    facts.extend(holder.thread.map(|thread| ("holder", Fact::Number(thread.0))));
    facts.extend(holder.os_thread.map(|thread| ("holder_os_thread", Fact::Number(thread))));
    facts.extend(holder.task.map(|task| ("holder_task", Fact::Task(task))));
    facts.extend(holder.site.map(|site| ("held_at", place(site))));
    let name = if holder.is_at_least { "held_at_least_ns" } else { "held_ns" };
    facts.extend(holder.held.map(|held| (name, Fact::Number(held.0))));
    if holder.is_across_await {
        facts.push(("across_await", Fact::Is));
    }
}

/// How many of an event's fields the recorder defines: `level` and `message`, or `value`.
pub fn own_fields(event: &Event) -> usize {
    match event.kind() {
        EventKind::Log { .. } => 2,
        EventKind::Counter { .. } => 1,
        _ => 0,
    }
}
