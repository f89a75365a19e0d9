//! Permits that do not come back: tasks have waited for a while for those of a semaphore.
//!
//! Permits are Tokio's and do not say when they are dropped. But whoever waits for one permit shows that all are taken; and if the
//! one that was taken last had come back, then whoever waits had taken it. So who took the last one has it, has passed it on, or has
//! forgotten it. That is not so while somebody waits for several: some may be free, or kept for that one while others wait behind.

use super::waiters::Waiters;
use crate::analysis::lock_wait::{Wait, Waiter};
use crate::analysis::report_context::ReportContext;
use crate::analysis::{Finding, STANDS, Score, Unit};
use crate::format::{counted, duration};
use crate::wire::LockKind;
use std::collections::{BTreeMap, HashMap, HashSet};

/// So many are told at most.
const MOST: usize = 5;

/// Locks that are in a deadlock are told there.
pub(super) fn find(
    going_on: &HashMap<(u64, Waiter), Wait>,
    waiters: &BTreeMap<u64, Waiters>,
    told: &[Finding],
    context: &ReportContext<'_>,
) -> Vec<Finding> {
    let of_several = going_on.values().filter(|wait| wait.kind == Some(LockKind::SeveralPermits));
    let of_several: HashSet<u64> = of_several.map(|wait| wait.lock).collect();
    let mut longest: BTreeMap<u64, (&Wait, u64)> = BTreeMap::new();
    for wait in going_on.values().filter(|wait| wait.kind == Some(LockKind::Permits)) {
        let (known, count) = longest.entry(wait.lock).or_insert((wait, 0));
        *count += 1;
        if (wait.began, wait.waiter) < (known.began, known.waiter) {
            *known = wait;
        }
    }
    let is_told = |lock: &u64| told.iter().any(|finding| finding.of_locks.contains(lock));
    let is_shown = |lock: &u64| !is_told(lock) && !of_several.contains(lock);
    let mut longest: Vec<_> = longest.into_iter().filter(|(lock, _)| is_shown(lock)).collect();
    longest.sort_by_key(|(lock, (wait, _))| (wait.began, *lock));
    let each = longest.into_iter().take(MOST);
    let asks_again = |wait: &Wait| {
        let task = wait.held.as_ref().and_then(|held| held.task_id());
        task.is_some_and(|task| going_on.contains_key(&(wait.lock, Waiter::Task(task))))
    };
    each.filter_map(|(lock, (wait, many))| {
        finding(wait, (many, asks_again(wait)), waiters.get(&lock)?, context)
    })
    .collect()
}

fn finding(
    wait: &Wait,
    (many, asks_again): (u64, bool),
    waiters: &Waiters,
    context: &ReportContext<'_>,
) -> Option<Finding> {
    let score = Score::beyond(wait.length().0 as f64, STANDS.0 as f64, Unit::Nanos)?;
    let held = wait.held.as_ref()?;
    let at = held.at.map(|at| format!(" at {}", context.text(at))).unwrap_or_default();
    let live = context.live;
    let is_over =
        held.task_id().is_some_and(|task| !live.tasks.contains_key(&task) && !live.doubts.any());
    let then = if is_over {
        ", which has ended: its permit was forgotten, or is kept elsewhere"
    } else if asks_again {
        ", which now waits for one more: that permit was forgotten, passed on, or is kept meanwhile"
    } else {
        ", and has not come back"
    };
    let waits = if many == 1 { "waits" } else { "wait" };
    let title = format!(
        "All permits of a {} are taken, and {} {waits} for one at {}, for {}; the last was taken{at} by {}{then}",
        LockKind::Permits.name(),
        counted(many, "task"),
        context.text(wait.at),
        duration(wait.length()),
        held.who(context),
    );
    let mut evidence = vec![wait.evidence(0, context)];
    evidence.extend(waiters.evidence(1, context));
    let mut finding = Finding::new("locks", title, score, evidence);
    finding.events = vec!["lock_wait"];
    finding.of_locks = vec![wait.lock];
    finding.is_certain = is_over;
    if !is_over && !asks_again {
        finding.holders = waiters.holders(context);
    }
    Some(finding)
}
