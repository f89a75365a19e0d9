//! The times between polls within a span: what its task waited for, who woke it, and who kept it from being polled then.

use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::state::{Gap, SpanDone};
use super::{Evidence, SpanGap};
use crate::format::duration;
use crate::wire::Nanos;

/// When a gap within a span began, when its task was woken, and when it was polled.
pub(super) fn times(gap: &Gap, span: &SpanDone) -> (Nanos, Option<Nanos>, Nanos) {
    let until = gap.polled.map_or(span.ended, |(polled, _)| polled);
    let began = gap.since.unwrap_or(span.began).max(span.began).min(until);
    (began, gap.runnable.map(|runnable| runnable.clamp(began, until)), until)
}

pub(super) fn told_gap(gap: &Gap, span: &SpanDone, context: &ReportContext<'_>) -> SpanGap {
    let (began, runnable, until) = times(gap, span);
    let woken = runnable.unwrap_or(until);
    let mut wakes = context.wakes(&gap.chain);
    let within = gap.chain.iter().take_while(|hop| hop.at >= span.began).count();
    wakes.truncate(within.max(1));
    SpanGap {
        began: context.moment(began),
        waiting: woken.since(began),
        runnable: until.since(woken),
        waits_for: gap.waits_for.map(|what| context.text(what)),
        wakes,
        polled_by: gap.polled.map(|(_, thread)| context.thread(thread)),
        blocker: gap.blocker.as_ref().map(|blocker| context.blocker(blocker)),
    }
}

/// The evidence of one gap: what the task waited for, back through the wakes during the span.
pub(super) fn chain(
    gap: &Gap,
    span: &SpanDone,
    context: &ReportContext<'_>,
    evidence: &mut Vec<Evidence>,
) {
    let (began, runnable, until) = times(gap, span);
    let told = told_gap(gap, span, context);
    let waited = match &told.waits_for {
        Some(what) => format!("waited for `{what}` for {}", duration(told.waiting)),
        None => format!("waited for {}", duration(told.waiting)),
    };
    let before = if span.open { "" } else { " before the span ended" };
    let mut wait = match (runnable, gap.polled) {
        (None, None) => {
            let what = format!("{waited}, and nobody woke it{before}");
            context.evidence(what, began, (!span.open).then_some(until))
        }
        (None, Some(_)) => {
            let what = match told.waits_for {
                Some(_) => format!("{waited}, until it was polled; who woke it is not known"),
                None => format!("not polled for {}; why is not known", duration(told.waiting)),
            };
            context.evidence(what, began, Some(until))
        }
        (Some(woken), _) => {
            let by = match told.wakes.first() {
                Some(wake) if wake.spawned => ", spawned by ".to_owned() + &wake.label(),
                Some(wake) => ", until woken by ".to_owned() + &wake.label(),
                None => String::new(),
            };
            let what = format!("{waited}{by}");
            context.evidence(what, began, Some(woken))
        }
    };
    wait.thread = told.wakes.first().map(|wake| wake.thread.clone());
    wait.task = span.task.map(|(task, name)| context.task(task, name));
    wait.depth = 1;
    evidence.push(wait);
    for (at, (hop, wake)) in gap.chain.iter().zip(&told.wakes).enumerate().skip(1) {
        let what = if wake.spawned { "spawned by" } else { "woken by" };
        let before = gap.chain[at - 1].task;
        let whom = before.map_or("?".to_owned(), |(task, name)| context.task(task, name).label());
        let mut one = context.evidence(format!("{whom} was {what} {}", wake.label()), hop.at, None);
        one.thread = Some(wake.thread.clone());
        one.task.clone_from(&wake.task);
        one.depth = (at + 1).min(200) as u8;
        evidence.push(one);
    }
    let Some(woken) = runnable else { return };
    // Next to the waiting this means nothing.
    if told.runnable.0 < 1_000_000 && told.runnable < told.waiting {
        return;
    }
    let mut what = format!("ready for {}", duration(told.runnable));
    match (&told.polled_by, &told.blocker) {
        (Some(thread), Some(blocker)) => {
            what += &format!(
                " until {} polled it, which was in a poll of {} for {}",
                thread.label(),
                blocker.task.label(),
                duration(blocker.length)
            );
        }
        (Some(thread), None) => what += &format!(" until {} polled it", thread.label()),
        (None, _) if span.open => what += ", and not polled up to the end",
        (None, _) => what += ", and not polled before the span ended",
    }
    let mut ready = context.evidence(what, woken, gap.polled.map(|(polled, _)| polled));
    ready.thread = told.polled_by;
    ready.task = told.blocker.map(|blocker| blocker.task);
    ready.depth = 1;
    evidence.push(ready);
}
