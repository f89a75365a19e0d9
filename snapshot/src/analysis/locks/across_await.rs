//! Locks of threads that were held across an `.await`: while the task that holds one is not polled, nobody else gets the lock,
//! and a thread that waits for it may be the one that should poll that task.

use super::OfPlace;
use crate::analysis::interner::Name;
use crate::analysis::lock_wait::{Waiter, called};
use crate::analysis::report_context::ReportContext;
use crate::analysis::{Finding, Score, Unit};
use crate::format::{counted, duration};
use crate::wire::Nanos;
use std::collections::{BTreeMap, HashSet};

/// A wait for such a lock is one if it is longer than this.
const WAIT: Nanos = Nanos(1_000_000);
/// So many are told at most.
const MOST: usize = 5;

/// Waits that are in a deadlock are told there.
pub(super) fn find(
    across: &BTreeMap<Name, OfPlace>,
    in_deadlocks: &HashSet<Waiter>,
    context: &ReportContext<'_>,
) -> Vec<Finding> {
    let each = across.iter();
    let mut found: Vec<_> =
        each.filter_map(|(at, of)| finding(*at, of, in_deadlocks, context)).collect();
    found.sort_by(|a, b| b.score.number().total_cmp(&a.score.number()));
    found.truncate(MOST);
    found
}

fn finding(
    at: Name,
    of: &OfPlace,
    in_deadlocks: &HashSet<Waiter>,
    context: &ReportContext<'_>,
) -> Option<Finding> {
    let longest = of.longest.as_ref().filter(|wait| !in_deadlocks.contains(&wait.waiter));
    let longest = longest.map(|wait| (wait, wait.length()));
    // If nobody waited for it, that was luck: a finding, but one that comes last.
    let score = match longest {
        Some((_, waited)) => Score::beyond(waited.0 as f64, WAIT.0 as f64, Unit::Nanos)?,
        None if of.times == 0 => return None,
        None => Score::beyond(1.0, 0.9, Unit::Count)?,
    };
    let mut title =
        format!("A {} is held across an .await, taken at {}", called(of.kind), context.text(at));
    if of.times > 0 {
        title += &format!(": {}", counted(of.times, "time"));
    }
    if let Some((wait, waited)) = longest {
        title += &format!(
            "; {} waited for it at {} meanwhile, for {}",
            wait.who(context),
            context.text(wait.at),
            duration(waited)
        );
    }
    let mut evidence = Vec::new();
    if let Some((wait, _)) = longest {
        evidence.push(wait.evidence(0, context));
        evidence.extend(of.waiters.evidence(1, context));
    }
    if let Some((last, task, thread)) = of.last {
        let polls = counted(of.most_polls, "poll");
        let what = format!("released in a later poll of the task; up to {polls} ended meanwhile");
        let mut released = context.evidence(what, last, Some(last));
        released.thread = Some(context.thread(thread));
        released.task = Some(context.task_of(task));
        evidence.push(released);
    }
    let mut finding = Finding::new("locks", title, score, evidence);
    // The first piece of evidence is of this kind.
    finding.events = vec![longest.map_or("lock_held", |(wait, _)| wait.kind_of_event())];
    finding.of_locks = of.waiters.locks();
    Some(finding)
}
