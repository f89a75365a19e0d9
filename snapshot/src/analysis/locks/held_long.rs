//! Locks that were held for so long that a poll, a span or a task waited for most of its time: if nothing else was found about
//! who held one, this is, so that not only those are told that waited.

use super::waiters::Waiters;
use crate::analysis::lock_wait::called_in_short;
use crate::analysis::nanos_ext::Length;
use crate::analysis::report_context::ReportContext;
use crate::analysis::{Finding, LONG_POLL, LockWaiter, Score, Unit};
use crate::format::{count, duration};
use std::collections::BTreeMap;

/// So many are told at most.
const MOST: usize = 5;

/// `told` are the findings of all analyses in which somebody may have waited, and `own` those about locks.
pub(super) fn find(
    waiters: &BTreeMap<u64, Waiters>,
    told: &[&Finding],
    own: &[Finding],
    context: &ReportContext<'_>,
) -> Vec<Finding> {
    // By the lock and its holder: it may have been held for long more than once.
    let mut longest = BTreeMap::new();
    for victim in told {
        let Some(wait) = &victim.lock else { continue };
        let is_told = told.iter().copied().chain(own).any(|other| other.is_cause_of(victim));
        if is_told || wait.holder_in_words().is_none() {
            continue;
        }
        let (thread, task) = &wait.holder;
        let holder = (task.as_ref().map(|of| of.task), thread.as_ref().map(|of| of.number));
        let known: &mut &LockWaiter = longest.entry((wait.lock, holder)).or_insert(wait);
        if wait.length > known.length {
            *known = wait;
        }
    }
    let mut longest: Vec<_> = longest.into_values().collect();
    longest.sort_by_key(|wait| (std::cmp::Reverse(wait.length), wait.since));
    let found = longest.into_iter().take(MOST);
    found.filter_map(|wait| finding(wait, waiters.get(&wait.lock), context)).collect()
}

fn finding(
    wait: &LockWaiter,
    waiters: Option<&Waiters>,
    context: &ReportContext<'_>,
) -> Option<Finding> {
    let score = Score::beyond(wait.length.0 as f64, LONG_POLL.0 as f64, Unit::Nanos)?;
    let holder = wait.holder_in_words()?;
    let taken = wait.held_at.as_ref().map(|at| format!(", taken at {at},")).unwrap_or_default();
    let mut title = format!("A {}{taken} was held by {holder}", called_in_short(wait.kind));
    if let Some(held) = wait.held {
        let least = if wait.is_held_at_least { "at least " } else { "" };
        title += &format!(", for {least}{}", duration(held));
    }
    if wait.is_across_await {
        title += ", across an .await";
    }
    let waits = if wait.is_over { "waited for it for" } else { "still waits for it, after" };
    title += &format!("; {} {waits} {}", wait.who(), duration(wait.length));
    let until = wait.is_over.then(|| context.at(wait.since).plus(wait.length));
    let end = until.unwrap_or(context.end);
    let over = wait.hold_over.map(|over| context.at(over));
    let held_since = over.unwrap_or(end).since(wait.held.unwrap_or(wait.length));
    match waiters.map_or(0, |of| of.count_within(held_since, end)) {
        0 | 1 => {}
        2 => title += "; 1 more thread or task waited",
        many => title += &format!("; {} more threads or tasks waited", count(many - 1)),
    }
    // The first piece is about who held it.
    let taken = match &wait.held_at {
        Some(at) => format!("held, taken at {at}"),
        None => "held".to_owned(),
    };
    let mut first = context.evidence(taken, held_since, over.or(until));
    (first.thread, first.task) = wait.holder.clone();
    let mut evidence = vec![first];
    if let Some(waiters) = waiters {
        evidence.extend(waiters.evidence_within(held_since, end, 1, context));
    }
    let mut finding = Finding::new("locks", title, score, evidence);
    finding.events = vec![if wait.is_over { "contention" } else { "lock_wait" }];
    finding.of_locks = vec![wait.lock];
    let first = &finding.evidence[0];
    finding.hold = Some((first.at, first.until));
    Some(finding)
}
