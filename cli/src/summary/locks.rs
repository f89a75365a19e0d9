//! The table of locks that threads and tasks waited for.

use super::findings::section;
use super::tables::{head, name_wide};
use super::wrap::fit;
use crate::format::{count, counted, duration, escape};
use crate::terminal::{dim, name, odd};
use lookback::read::LockKind;
use lookback::read::analysis::{LockWaiter, Locks, Report, TaskRef, ThreadRef};
use serde_json::{Value, json};
use std::io::{self, Write};

const MOST_ROWS: usize = 8;

/// Nothing if no lock says anything: most services have none.
pub fn print(locks: &Locks, out: &mut impl Write) -> io::Result<()> {
    let rows = [locks.locks.len(), locks.going_on.len(), locks.across_await.len()];
    if rows.iter().all(|rows| *rows == 0) {
        return Ok(());
    }
    section("Locks", out)?;
    if !locks.locks.is_empty() {
        let wide = name_wide(9 + 9 + 9 + 9 + 30);
        head("held at", wide, "    waits    total  longest  waiters  kind", out)?;
    }
    for of in locks.locks.iter().take(MOST_ROWS) {
        let wide = name_wide(9 + 9 + 9 + 9 + 30);
        let place = of.held_at.first().or(of.places.first());
        writeln!(
            out,
            "  {} {:>8} {:>8} {:>8} {:>8}  {}",
            name().apply_to(fit(escape(place.map_or("?", |(at, ..)| at)).as_ref(), wide)),
            count(of.waits),
            duration(of.waited.0),
            duration(of.longest.0),
            count(of.waiters),
            dim().apply_to(of.kind.map_or("lock", LockKind::name)),
        )?;
    }
    let more = locks.locks.len().saturating_sub(MOST_ROWS);
    if more > 0 {
        writeln!(out, "  {}", dim().apply_to(format!("{} more, see --json", count(more as u64))))?;
    }
    for wait in locks.going_on.iter().take(MOST_ROWS) {
        let line = format!(
            "still waits after {}: {} at {}{}",
            duration(wait.length.0),
            wait.who(),
            wait.place,
            wait.held_at.as_ref().map_or_else(String::new, |at| {
                let holder = wait.holder_in_words().unwrap_or_else(|| "somebody".to_owned());
                format!(", held at {at} by {holder}")
            }),
        );
        writeln!(out, "  {}", odd().apply_to(escape(&line)))?;
    }
    for of in locks.across_await.iter().take(MOST_ROWS) {
        let line = format!(
            "held across an .await: {} at {}, {}",
            of.kind.map_or("lock", LockKind::name),
            of.place,
            if of.times == 0 { "up to the end".to_owned() } else { counted(of.times, "time") },
        );
        writeln!(out, "  {}", dim().apply_to(escape(&line)))?;
    }
    Ok(())
}

/// For programs.
pub fn json(report: &Report) -> Value {
    let locks = &report.locks.table;
    let places = |places: &[(String, u64, lookback::read::wire::Nanos)]| -> Vec<Value> {
        let each = places.iter();
        each.map(|(at, waits, waited)| json!({ "at": at, "waits": waits, "waited_ns": waited.0 }))
            .collect()
    };
    let kind = |kind: Option<LockKind>| kind.map(LockKind::name);
    json!({
        "waits": locks.waits,
        "waited_ns": locks.waited.0,
        "many": locks.many,
        "locks": locks.locks.iter().map(|of| json!({
            "lock": of.lock,
            "kind": kind(of.kind),
            "waits": of.waits,
            "given_up": of.given_up,
            "waited_ns": of.waited.0,
            "longest_ns": of.longest.0,
            "waiters": of.waiters,
            "most_at_once": of.most_at_once,
            "places": places(&of.places),
            "held_at": places(&of.held_at),
        })).collect::<Vec<_>>(),
        "going_on": locks.going_on.iter().map(waiter).collect::<Vec<_>>(),
        "across_await": locks.across_await.iter().map(|of| json!({
            "at": of.place,
            "kind": kind(of.kind),
            "times": of.times,
            "most_polls": of.most_polls,
            "waits": of.waits,
            "longest_wait_ns": of.longest_wait.0,
        })).collect::<Vec<_>>(),
    })
}

/// Who waits for a lock, and who holds it.
pub fn waiter(wait: &LockWaiter) -> Value {
    let of_thread = |thread: &Option<ThreadRef>| thread.as_ref().map(|thread| thread.number.0);
    let of_task = |task: &Option<TaskRef>| task.as_ref().map(|task| task.task.to_string());
    let of_name = |task: &Option<TaskRef>| task.as_ref().map(|task| task.name.clone());
    json!({
        "thread": of_thread(&wait.thread),
        "task": of_task(&wait.task),
        "task_name": of_name(&wait.task),
        "span": wait.span.as_ref().map(|span| span.span.to_string()),
        "lock": wait.lock,
        "kind": wait.kind.map(LockKind::name),
        "at": wait.place,
        "since_ns": wait.since.0,
        "length_ns": wait.length.0,
        "over": wait.is_over,
        "holder": of_thread(&wait.holder.0),
        "holder_os_thread": wait.holder_os_thread,
        "holder_task": of_task(&wait.holder.1),
        "holder_task_name": of_name(&wait.holder.1),
        "held_at": wait.held_at,
        "held_ns": wait.held.map(|held| held.0),
        "held_at_least": wait.is_held_at_least,
        "across_await": wait.is_across_await,
    })
}
