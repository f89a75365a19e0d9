//! Convoys: many wait for one lock, again and again, so that they go one after the other.

use super::waiters::Waiters;
use super::{OfLock, places};
use crate::analysis::lock_wait::called;
use crate::analysis::nanos_ext::Length;
use crate::analysis::report_context::ReportContext;
use crate::analysis::{Finding, Score, Unit};
use crate::format::{count, counted, duration};
use crate::wire::Nanos;
use std::collections::BTreeMap;

/// How long was waited for one lock, together: less is no finding.
pub const LONG_WAITS: Nanos = Nanos(100_000_000);
/// And so often.
pub const FEWEST_WAITS_FOR_LOCK: u64 = 10;
/// By so many different threads and tasks.
pub const FEWEST_WAITERS: u64 = 3;
/// So many are told at most.
const MOST: usize = 5;
const MOST_PLACES: usize = 2;

pub(super) fn find(
    locks: &BTreeMap<u64, OfLock>,
    waiters: &BTreeMap<u64, Waiters>,
    context: &ReportContext<'_>,
) -> Vec<Finding> {
    let with_waiters = |(lock, of)| Some((of, waiters.get(lock)?));
    let is_one = |(of, waiters): &(&OfLock, &Waiters)| {
        of.waits >= FEWEST_WAITS_FOR_LOCK && waiters.count() >= FEWEST_WAITERS
    };
    let mut found: Vec<_> = locks.iter().filter_map(with_waiters).filter(is_one).collect();
    found.sort_by_key(|(of, _)| std::cmp::Reverse(of.waited));
    found.into_iter().take(MOST).filter_map(|(of, by)| finding(of, by, context)).collect()
}

fn finding(of: &OfLock, waiters: &Waiters, context: &ReportContext<'_>) -> Option<Finding> {
    let score = Score::beyond(of.waited.0 as f64, LONG_WAITS.0 as f64, Unit::Nanos)?;
    let (asked, held) = (places(&of.places, context), places(&of.held_at, context));
    let holder = match held.first() {
        Some((at, ..)) => format!(", mostly while it was held by who took it at {at}"),
        None => String::new(),
    };
    let time = of.last.since(of.first);
    let title = format!(
        "Lock convoy: {} waited {} for one {}, {} in all within {}, at {}{holder}",
        counted(waiters.count(), "thread or task").replace("thread or tasks", "threads or tasks"),
        counted(of.waits, "time"),
        called(of.kind),
        duration(of.waited),
        duration(time),
        asked.first().map_or("an unknown place", |(at, ..)| at),
    );
    let mut evidence = vec![of.longest.evidence(0, context)];
    let longest = &mut evidence[0];
    longest.what = format!("the longest wait: {}", longest.what);
    evidence.extend(waiters.evidence(1, context));
    let all = |list: &[(String, u64, Nanos)], what: &str| {
        let lines = list.iter().take(MOST_PLACES).map(|(at, waits, waited)| {
            let text = format!("{what} {at}: {}, {}", counted(*waits, "wait"), duration(*waited));
            let mut evidence = context.evidence(text, of.first, Some(of.last));
            evidence.depth = 1;
            evidence
        });
        lines.collect::<Vec<_>>()
    };
    evidence.extend(all(&held, "held by who took it at"));
    evidence.extend(all(&asked, "asked for at"));
    if of.most_at_once > 1 {
        let text = format!("{} waited at once, at most", count(of.most_at_once));
        let mut most = context.evidence(text, of.first, Some(of.last));
        most.depth = 1;
        evidence.push(most);
    }
    let mut finding = Finding::new("locks", title, score, evidence);
    finding.events = vec!["contention"];
    finding.of_locks = vec![of.longest.lock];
    finding.holders = waiters.holders(context);
    Some(finding)
}
