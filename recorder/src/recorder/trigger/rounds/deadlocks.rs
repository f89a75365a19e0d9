//! Deadlocks, each told once.

#![forbid(unsafe_code)]

use super::About;
use super::latch::Latch;
use crate::lock::cycles::{Link, cycles};
use crate::lock::words::Who;
use crate::record::control::Control;
use crate::record::slot::Slot;
use crate::record::task::{TASKS, TaskEntry};
use crate::record::thread::with_os_number;
use crate::recorder::trigger::Armed;
use lookback_snapshot::wire::TaskId;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::atomic::Ordering;

/// So many of a circle are named.
const NAMED: usize = 5;

/// See the module.
#[derive(Debug)]
pub(super) struct Deadlocks {
    armed: Armed,
    /// By their waits: for which lock, and since when.
    known: HashMap<Vec<(u64, u64)>, Latch>,
}

impl Deadlocks {
    pub(super) fn new(armed: Armed) -> Self {
        Self { armed, known: HashMap::new() }
    }

    pub(super) fn look(&mut self, control: &Control) {
        let mut known = HashMap::new();
        for cycle in cycles() {
            let mut key: Vec<_> =
                cycle.iter().map(|link| (link.wait.lock, link.wait.since)).collect();
            key.sort_unstable();
            // What is read of several locks is of several moments: a circle counts if it is there at the next look, too.
            let mut latch = self.known.remove(&key);
            if let Some(latch) = &mut latch {
                latch.holds(&self.armed, |armed| {
                    let thread = cycle.first().and_then(|link| number(link.wait.who));
                    About { span: 0, thread: thread.unwrap_or(0) }.record();
                    armed.go(false, || reason(control, &cycle), Vec::new());
                });
            }
            known.insert(key, latch.unwrap_or_default());
        }
        self.known = known;
    }
}

/// The recorder's number of a thread.
fn number(who: Who) -> Option<u64> {
    match who {
        Who::Thread(number) => Some(number),
        Who::OsThread(number) => with_os_number(number),
        Who::Task => None,
    }
}

fn reason(control: &Control, cycle: &[Link]) -> String {
    let told = cycle.iter().take(NAMED).map(|link| {
        let waiter = called(control, link.wait.who, link.wait.task);
        let (at, held_at) = (place(link.wait.place), place(link.held.place));
        let kind = link.wait.kind.name();
        if cycle.len() == 1 {
            return format!(
                "{waiter} waits at {at} for a {kind} that it holds itself, since {held_at}"
            );
        }
        let holder = called(control, link.held.who, link.held.task);
        format!("{waiter} waits at {at} for a {kind} that {holder} took at {held_at}")
    });
    let told: Vec<_> = told.collect();
    let more = match cycle.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("deadlock: {}{more}", told.join("; "))
}

fn called(control: &Control, who: Who, of_task: u64) -> String {
    let thread = number(who).and_then(|number| {
        let is_it = |slot: &&Slot| slot.thread.load(Ordering::Relaxed) == number;
        let slot = control.slots().find(is_it)?;
        Some(format!("thread {}#{number}", slot.name().as_str()))
    });
    let task = task(of_task);
    match (who, thread, task) {
        (Who::Task, _, Some(task)) => format!("task {task}"),
        (Who::Task, _, None) => "a task".to_owned(),
        (_, Some(thread), Some(task)) => format!("{thread} in task {task}"),
        (_, Some(thread), None) => thread,
        _ => "a thread".to_owned(),
    }
}

/// The name of a task and its number as every view shows it, if it is alive.
fn task(task: u64) -> Option<String> {
    let (site, incarnation) = TASKS.get(task as u32).and_then(TaskEntry::named)?;
    let is_it = u64::from(incarnation) == task >> 32;
    is_it.then(|| format!("{} ({})", site.said(), TaskId::from_number(task)))
}

fn place(place: &Location<'_>) -> String {
    format!("{}:{}", place.file(), place.line())
}
