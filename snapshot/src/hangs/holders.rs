//! What the holders of a lock do while others wait for it: that is why these wait.
//!
//! A lock of futures, or a permit, is mostly held over an await. Where its holder waited is known if a generation ended meanwhile.

use super::slow_names::{is_same, most_common};
use super::spans::{During, line, waits};
use crate::analysis::{Finding, Moment, Report, TaskRef};
use crate::read::Trace;
use crate::symbols::Symbolizer;
use crate::wire::Nanos;

/// Adds it to what is found about locks.
pub(super) fn add(
    trace: &Trace,
    report: &Report,
    findings: &mut [Finding],
    symbolizer: &mut Symbolizer,
) {
    let during = |(task, since, until): &(TaskRef, Moment, Moment)| -> Option<During> {
        let ago = |at: &Moment| {
            Nanos(u64::try_from(report.end.0.saturating_sub(at.0)).unwrap_or_default())
        };
        Some((task.task, ago(until)..=ago(since)))
    };
    let wanted: Vec<_> =
        findings.iter().flat_map(|finding| finding.holders.iter().map(during)).collect();
    if wanted.is_empty() {
        return;
    }
    let mut waits = waits(trace, &wanted, symbolizer).into_iter();
    for finding in findings {
        let mine: Vec<_> = waits.by_ref().take(finding.holders.len()).collect();
        // Who waits for the same in turn is no answer.
        let told: Vec<_> = mine
            .iter()
            .zip(&finding.holders)
            .flat_map(|(waits, (task, ..))| waits.iter().map(move |(ago, at)| (task, *ago, at)))
            .filter(|(.., at)| !at.waits_for_others() && !at.functions.is_empty())
            .collect();
        let Some(most) = most_common(told.iter().map(|(.., at)| *at)) else { continue };
        let many = told.iter().filter(|(.., at)| is_same(at, most)).count();
        let Some((task, ago, at)) = told.iter().find(|(.., at)| is_same(at, most)) else {
            continue;
        };
        // A few times of many say little.
        if many * 2 < told.len() {
            continue;
        }
        finding.title += &format!("; who had it waited meanwhile for {}", at.in_words());
        let Some(first) = finding.evidence.first() else { continue };
        let what = format!("meanwhile who had it waited for {}", at.in_words());
        let mut one = line(first, what, *ago, report);
        (one.thread, one.task) = (None, Some((*task).clone()));
        finding.evidence.insert(1, one);
    }
}
