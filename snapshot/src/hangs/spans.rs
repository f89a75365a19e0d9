//! Where the tasks of slow spans waited meanwhile.
//!
//! A recorder lists where tasks wait whenever a generation ends. So of a span that took as long as a generation or longer, it is
//! known where its task was at one moment of it at least, by file and line; of a shorter one only with luck.

use super::tasks::{WaitingGroup, group_of};
use crate::analysis::{Evidence, Finding, Moment, Report, end_of};
use crate::read::Trace;
use crate::symbols::{Awaited, Symbolizer};
use crate::wire::{Nanos, TaskId};
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// At how many moments of one span it is looked.
const MOST_MOMENTS: usize = 3;

/// A task, and from how long before the end of the snapshot to how long before it something took.
pub(super) type During = (TaskId, RangeInclusive<Nanos>);

/// Where each of these tasks waited at the last few moments of its time at which that is known, with how long before the end of
/// the snapshot those were.
pub(super) fn waits(
    trace: &Trace,
    wanted: &[Option<During>],
    symbolizer: &mut Symbolizer,
) -> Vec<Vec<(Nanos, WaitingGroup)>> {
    let end = end_of(trace);
    let mut looked_at = vec![0; wanted.len()];
    let mut waits = vec![Vec::new(); wanted.len()];
    for info in trace.generations().iter().rev().filter(|info| info.complete) {
        let ago = Nanos(end.0.saturating_sub(info.start.0.saturating_add(info.duration.0)));
        let mut here: HashMap<TaskId, Vec<usize>> = HashMap::new();
        for (at, span) in wanted.iter().enumerate() {
            let Some((task, during)) = span else { continue };
            if looked_at[at] < MOST_MOMENTS && during.contains(&ago) {
                here.entry(*task).or_default().push(at);
            }
        }
        let Some(generation) =
            (!here.is_empty()).then(|| trace.generation(info.number).ok()).flatten()
        else {
            continue;
        };
        for at in here.values().flatten() {
            looked_at[*at] += 1;
        }
        for waiting in generation.waiting() {
            // A task waits at one set of places. Should it be there again, that is damage.
            let Some(of_task) = here.remove(&waiting.task) else { continue };
            let group = group_of(&waiting, symbolizer);
            of_task.into_iter().for_each(|at| waits[at].push((ago, group.clone())));
        }
    }
    waits
}

/// Adds the places to what is found about spans, and leaves out those that go on and wait for the next thing to do.
pub(super) fn add_places(
    trace: &Trace,
    report: &Report,
    findings: &mut Vec<Finding>,
    symbolizer: &mut Symbolizer,
) {
    // The span's own evidence comes first.
    let asked = |finding: &Finding| {
        let span = finding.evidence.first().filter(|_| finding.analysis == "spans")?;
        let task = span.task.as_ref()?.task;
        let length = span.until.map_or(span.before_end.0, |until| until.0.abs_diff(span.at.0));
        let ended = Nanos(span.before_end.0.saturating_sub(length));
        Some((task, ended..=span.before_end))
    };
    let wanted: Vec<_> = findings.iter().map(asked).collect();
    let waits = waits(trace, &wanted, symbolizer);
    let is_shown: Vec<bool> = findings
        .iter()
        .zip(&waits)
        .map(|(finding, waits)| !finding.goes_on || is_no_conversation(waits))
        .collect();
    for (finding, waits) in findings.iter_mut().zip(waits) {
        for (ago, group) in waits {
            add(finding, format!("waited for {}", group.in_words()), ago, report);
        }
    }
    let mut is_shown = is_shown.into_iter();
    findings.retain(|_| is_shown.next().unwrap_or(true));
    put_below_pool(findings);
}

/// Spans that wait for the end of their closures come after the finding that these get no thread.
fn put_below_pool(findings: &mut Vec<Finding>) {
    let waits = format!("waited for {} ", Awaited::TaskEnd.in_words());
    let is_behind = |finding: &Finding| {
        finding.analysis == "spans"
            && finding.evidence.iter().any(|of| of.depth == 1 && of.what.starts_with(&waits))
    };
    let Some(pool) = findings.iter().position(|finding| finding.analysis == "blocking") else {
        return;
    };
    if let Some(first) = findings[..pool].iter().position(is_behind) {
        let pool = findings.remove(pool);
        findings.insert(first, pool);
    }
}

/// Whether a task that goes on does not wait for the other side to say something, as far as is known: then it is not known why it
/// takes so long.
fn is_no_conversation(waits: &[(Nanos, WaitingGroup)]) -> bool {
    !waits.is_empty() && waits.iter().any(|(_, group)| !group.waits_for_other_side())
}

/// Adds where the span's task was so long before the end, beneath the span itself.
fn add(finding: &mut Finding, what: String, ago: Nanos, report: &Report) {
    if finding.evidence.iter().any(|known| known.what == what) {
        return;
    }
    let Some(span) = finding.evidence.first() else { return };
    let line = line(span, what, ago, report);
    finding.evidence.insert(1, line);
}

/// Beneath the evidence of a span: what its task did so long before the end.
pub(super) fn line(span: &Evidence, what: String, ago: Nanos, report: &Report) -> Evidence {
    let since = i64::try_from(ago.0).unwrap_or(i64::MAX);
    let at = Moment(report.end.0.saturating_sub(since));
    Evidence { what, at, until: Some(at), before_end: ago, depth: 1, span: None, ..span.clone() }
}
