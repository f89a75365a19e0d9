//! Where the tasks of slow spans waited meanwhile.
//!
//! A recorder lists where tasks wait whenever a generation ends. So of a span that took as long as a generation or longer, it is
//! known where its task was at one moment of it at least, by file and line; of a shorter one only with luck.

use super::tasks::group_of;
use crate::analysis::{Evidence, Finding, Moment, Report, end_of};
use crate::read::Trace;
use crate::symbols::Symbolizer;
use crate::wire::{Nanos, TaskId};

/// At how many moments of one span it is looked.
const MOST_MOMENTS: usize = 3;

/// Adds the places to what is found about spans.
pub(super) fn add_places(
    trace: &Trace,
    report: &Report,
    findings: &mut [Finding],
    symbolizer: &mut Symbolizer,
) {
    let end = end_of(trace);
    // The span's own evidence comes first.
    let asked = |finding: &Finding| {
        let span = finding.evidence.first().filter(|_| finding.analysis == "spans")?;
        let task = span.task.as_ref()?.task;
        let length = span.until.map_or(span.before_end.0, |until| until.0.abs_diff(span.at.0));
        let ended = Nanos(span.before_end.0.saturating_sub(length));
        Some((task, ended..=span.before_end))
    };
    let wanted: Vec<_> = findings.iter().map(asked).collect();
    let mut looked_at = vec![0; findings.len()];
    for info in trace.generations().iter().rev().filter(|info| info.complete) {
        let ago = Nanos(end.0.saturating_sub(info.start.0.saturating_add(info.duration.0)));
        let here = wanted.iter().enumerate().filter_map(|(at, span)| {
            let (task, during) = span.as_ref()?;
            (looked_at[at] < MOST_MOMENTS && during.contains(&ago)).then_some((at, *task))
        });
        let here: Vec<(usize, TaskId)> = here.collect();
        let Some(generation) =
            (!here.is_empty()).then(|| trace.generation(info.number).ok()).flatten()
        else {
            continue;
        };
        for (at, _) in &here {
            looked_at[*at] += 1;
        }
        for waiting in generation.waiting() {
            for (at, _) in here.iter().filter(|(_, task)| *task == waiting.task) {
                let group = group_of(&waiting, symbolizer);
                let what = format!("waited for {}", group.in_words());
                add(&mut findings[*at], what, ago, report);
            }
        }
    }
}

/// Adds where the span's task was so long before the end, beneath the span itself.
fn add(finding: &mut Finding, what: String, ago: Nanos, report: &Report) {
    if finding.evidence.iter().any(|known| known.what == what) {
        return;
    }
    let Some(span) = finding.evidence.first() else { return };
    let since = i64::try_from(ago.0).unwrap_or(i64::MAX);
    let at = Moment(report.end.0.saturating_sub(since));
    let line = Evidence {
        what,
        at,
        until: Some(at),
        before_end: ago,
        depth: 1,
        span: None,
        ..span.clone()
    };
    finding.evidence.insert(1, line);
}
