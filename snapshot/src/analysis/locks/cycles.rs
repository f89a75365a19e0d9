//! Deadlocks: who waits for a lock that somebody holds who waits for a lock, and so on, back to the first.
//!
//! A thread that holds a lock like the standard library's has to unlock it itself, whichever task it polls. So a thread that
//! waits is one of a cycle if it holds what is waited for before; and so is a task that holds it, if that waits.

use super::waiters::NAMED;
use crate::analysis::lock_wait::{Held, Wait, Waiter, called};
use crate::analysis::report_context::ReportContext;
use crate::analysis::{Finding, Score, Unit};
use crate::format::count;
use crate::wire::LockKind;
use std::collections::{HashMap, HashSet};

/// So many deadlocks are told at most.
const MOST: usize = 5;
/// And so many of those that wait behind one.
const MOST_BEHIND: usize = 10;

/// The deadlocks, and who is in one.
pub(super) fn find(
    going_on: &HashMap<(u64, Waiter), Wait>,
    context: &ReportContext<'_>,
) -> (Vec<Finding>, HashSet<Waiter>) {
    let mut waits: Vec<&Wait> = going_on.values().collect();
    waits.sort_by_key(|wait| (wait.began, wait.lock, wait.waiter));
    let next: Vec<Option<usize>> = waits.iter().map(|wait| follow(wait, &waits)).collect();
    let mut cycles = cycles(&next);
    cycles.retain(|cycle| cycle.len() > 1 || cycle.iter().all(|at| !is_of_many(waits[*at].kind)));
    let told = cycles.iter().take(MOST).map(|cycle| finding(cycle, &waits, &next, context));
    let mut findings: Vec<_> = told.flatten().collect();
    if let (true, Some(last)) = (cycles.len() > MOST, findings.last_mut()) {
        last.title += &format!("; {} more deadlocks", count((cycles.len() - MOST) as u64));
    }
    let members = cycles.iter().flatten().map(|at| waits[*at].waiter).collect();
    (findings, members)
}

/// Whether there may be many of what is waited for. Of those it is known who took the last one, and whoever takes one for each thing
/// that it hands on, as a server does for each connection, waits behind itself when all are gone: that is no deadlock.
const fn is_of_many(kind: Option<LockKind>) -> bool {
    matches!(kind, Some(LockKind::Permits | LockKind::SeveralPermits))
}

/// The wait of who holds the lock that this one waits for.
fn follow(wait: &Wait, waits: &[&Wait]) -> Option<usize> {
    let held = wait.held?;
    let is_holder = |other: &&Wait| {
        let has_thread = |thread| held.thread == Some(thread);
        match other.waiter {
            Waiter::Thread(thread) if has_thread(thread) => true,
            // A task that waits in its poll holds its thread up, and itself.
            Waiter::Thread(_) => {
                held.thread.is_none() && held.task.is_some() && other.task_id() == held.task_id()
            }
            Waiter::Task(task) => held.task_id() == Some(task),
        }
    };
    waits.iter().position(is_holder)
}

/// The cycles of this graph, each from its first member on.
fn cycles(next: &[Option<usize>]) -> Vec<Vec<usize>> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for start in 0..next.len() {
        let (mut path, mut at) = (Vec::new(), Some(start));
        while let Some(here) = at.filter(|here| seen.insert(*here)) {
            path.push(here);
            at = next[here];
        }
        // It ends where this path has been.
        if let Some(begin) = at.and_then(|here| path.iter().position(|known| *known == here)) {
            let mut cycle = path.split_off(begin);
            let first = cycle.iter().enumerate().min_by_key(|(_, wait)| **wait);
            let first = first.map_or(0, |(first, _)| first);
            cycle.rotate_left(first);
            found.push(cycle);
        }
    }
    found
}

fn finding(
    cycle: &[usize],
    waits: &[&Wait],
    next: &[Option<usize>],
    context: &ReportContext<'_>,
) -> Option<Finding> {
    let first = waits[*cycle.first()?];
    let is_certain =
        cycle.iter().all(|at| waits[*at].kind.is_some_and(LockKind::has_certain_holder));
    let name = if is_certain { "Deadlock" } else { "Deadlock, suspected" };
    let at = context.text(first.at);
    let title = match cycle {
        [_] => {
            let since = match first.held.and_then(|held| held.at) {
                Some(held) => format!(", since {}", context.text(held)),
                None => String::new(),
            };
            let how = match first.held.is_some_and(|held| held.is_across_await) {
                true => format!(
                    " for {}, across an .await",
                    first.held.map(|held| of_task(&held, context)).unwrap_or_default()
                ),
                false => String::new(),
            };
            format!(
                "{name}: {} waits at {at} for a {} that {} holds itself{how}{since}",
                first.who(context),
                called(first.kind),
                match first.waiter {
                    Waiter::Thread(_) => "its thread",
                    Waiter::Task(_) => "it",
                },
            )
        }
        _ => {
            let who = cycle.iter().take(NAMED).map(|at| waits[*at].who(context));
            let mut who = who.collect::<Vec<_>>().join(" and ");
            if cycle.len() > NAMED {
                who += &format!(" and {} more", count((cycle.len() - NAMED) as u64));
            }
            format!("{name}: {who} wait for each other's locks")
        }
    };
    let mut evidence: Vec<_> = cycle.iter().map(|at| waits[*at].evidence(0, context)).collect();
    let is_behind = |at: &usize| {
        let mut here = Some(*at);
        // No path is longer than there are waits.
        for _ in 0..=waits.len() {
            match here {
                Some(here) if cycle.contains(&here) => return true,
                Some(one) => here = next[one],
                None => return false,
            }
        }
        false
    };
    let behind: Vec<_> =
        (0..waits.len()).filter(|at| !cycle.contains(at)).filter(is_behind).collect();
    evidence.extend(behind.iter().take(MOST_BEHIND).map(|at| waits[*at].evidence(1, context)));
    if let Some(next) = behind.get(MOST_BEHIND) {
        let more = format!("and {} more", count((behind.len() - MOST_BEHIND) as u64));
        let mut more = context.evidence(more, waits[*next].began, None);
        more.depth = 1;
        evidence.push(more);
    }
    let mut title = title;
    if !behind.is_empty() {
        let (wait, many) = if behind.len() == 1 { ("waits", 1) } else { ("wait", behind.len()) };
        title += &format!("; {} more {wait} behind them", count(many as u64));
    }
    let score = Score::beyond(cycle.len() as f64, 0.0, Unit::Count)?;
    let mut finding = Finding::new("locks", title, score, evidence);
    finding.is_certain = is_certain;
    finding.events = vec!["lock_wait"];
    finding.of_locks = cycle.iter().chain(&behind).map(|at| waits[*at].lock).collect();
    Some(finding)
}

fn of_task(held: &Held, context: &ReportContext<'_>) -> String {
    held.task.map_or_else(String::new, |task| format!("task {}", task.told(context).label()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_found_once_and_what_leads_to_them_is_not_of_them() {
        assert_eq!(cycles(&[Some(1), Some(0)]), [[0, 1]]);
        assert_eq!(cycles(&[Some(0)]), [[0]]);
        assert_eq!(cycles(&[Some(1), Some(2), Some(1), None]), [[1, 2]]);
        assert_eq!(
            cycles(&[Some(1), Some(2), Some(0), Some(4), Some(3)]),
            [&[0, 1, 2][..], &[3, 4]]
        );
        assert!(cycles(&[Some(1), Some(2), None]).is_empty());
        assert!(cycles(&[]).is_empty());
    }
}
