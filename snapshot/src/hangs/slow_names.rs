//! Spans of a name that are all slow: none is slower than the others, so their median says nothing.
//!
//! In a full outage each request takes as long as any other. What is too long for them depends on what they wait for: a tenth of a
//! second is much for whatever the service has itself, such as a lock, a connection of its pool or room in a channel, and no
//! service knows how long another one takes. Where they wait is known of those during which a generation ended.

use super::spans::{During, line, waits};
use super::tasks::WaitingGroup;
use super::{Found, finding};
use crate::analysis::{Evidence, FEWEST_SPANS, Finding, Report, Score, SlowSpan, SpanName, Unit};
use crate::format::{count, duration};
use crate::read::Trace;
use crate::symbols::{Awaited, Symbolizer};
use crate::wire::Nanos;

/// How many names are looked at, and how many are told.
const MOST_NAMES: usize = 16;
const MOST_FINDINGS: usize = 3;
/// For how much of a span its task waits, at least, where that is the cause.
const MOST_OF_IT: f64 = 0.5;

/// How long a span may take that waits for the service's own things, …
pub const SLOW_FOR_OWN: Nanos = Nanos(100_000_000);
/// … and one that waits for somebody who answers.
pub const SLOW_FOR_OTHERS: Nanos = Nanos(1_000_000_000);

/// From which median on spans that wait for this are slow, and whose fault that is; none if nobody can tell.
const fn limit(awaited: Awaited) -> Option<(Nanos, &'static str)> {
    match awaited {
        Awaited::Room => Some((SLOW_FOR_OWN, "whoever receives from the channel does not keep up")),
        Awaited::Pooled => {
            Some((SLOW_FOR_OWN, "the pool has too little, or who has of it keeps it too long"))
        }
        Awaited::Permit => {
            Some((SLOW_FOR_OWN, "there are too few permits, or who has one keeps it too long"))
        }
        Awaited::Mutex | Awaited::RwLock => Some((SLOW_FOR_OWN, "all of them wait for one lock")),
        Awaited::Answer | Awaited::TaskEnd => {
            Some((SLOW_FOR_OTHERS, "the task that is to answer takes that long"))
        }
        Awaited::Data => Some((SLOW_FOR_OTHERS, "whoever is to answer takes that long")),
        Awaited::Connect => Some((SLOW_FOR_OTHERS, "whoever is at the other end does not accept")),
        Awaited::Writable => Some((SLOW_FOR_OTHERS, "whoever is at the other end does not read")),
        _ => None,
    }
}

/// Adds what is found about them. What others have found about the same tasks is not told twice.
pub(super) fn find(
    trace: &Trace,
    report: &Report,
    groups: &[WaitingGroup],
    symbolizer: &mut Symbolizer,
    found: &mut Found,
) {
    let is_slow = |name: &&SpanName| {
        name.lengths.count() >= FEWEST_SPANS && name.lengths.percentile(0.5) > SLOW_FOR_OWN
    };
    let waits_most = |span: &&SlowSpan| {
        span.spent
            .as_ref()
            .is_some_and(|spent| spent.waiting.0 as f64 >= MOST_OF_IT * span.length.0 as f64)
    };
    let names = report.spans.table.names.iter().filter(is_slow).take(MOST_NAMES);
    let names = names.map(|name| (name, name.slowest.iter().filter(waits_most).collect()));
    let names: Vec<(&SpanName, Vec<&SlowSpan>)> = names.collect();
    // Of all at once, as generations are read for it.
    let wanted: Vec<_> =
        names.iter().flat_map(|(_, spans)| spans).map(|span| during(span, report)).collect();
    if wanted.is_empty() {
        return;
    }
    let mut waits = waits(trace, &wanted, symbolizer).into_iter();
    let before = found.findings.len();
    for (name, spans) in names {
        if found.findings.len() - before >= MOST_FINDINGS {
            return;
        }
        let waits: Vec<_> = waits.by_ref().take(spans.len()).collect();
        let told: Vec<_> = groups.iter().filter(|group| group.is_told(found)).collect();
        if let Some(finding) = of_name(name, spans, &waits, report, &told) {
            found.findings.push(finding);
        }
    }
}

fn of_name(
    name: &SpanName,
    spans: Vec<&SlowSpan>,
    waits: &[Vec<(Nanos, WaitingGroup)>],
    report: &Report,
    told: &[&WaitingGroup],
) -> Option<Finding> {
    let places: Vec<_> = spans
        .iter()
        .zip(waits)
        .flat_map(|(span, waits)| waits.iter().map(move |(ago, group)| (*span, *ago, group)))
        .collect();
    let most = most_common(places.iter().map(|(.., group)| *group))?;
    let (least, cause) = limit(most.awaited?)?;
    let alike: Vec<_> = places.iter().filter(|(.., group)| is_same(group, most)).collect();
    // What they wait for half of the time may be another thing each time.
    if alike.len() * 2 <= places.len() || most.functions.is_empty() {
        return None;
    }
    // Others still wait there, and have a finding.
    if told.iter().any(|group| is_same(group, most)) {
        return None;
    }
    let median = name.lengths.percentile(0.5);
    let score = Score::beyond(median.0 as f64, least.0 as f64, Unit::Nanos)?;
    let title = format!(
        "Spans `{}` take {}, the median of {}, and wait for {}: {cause}",
        name.group,
        duration(median),
        count(name.lengths.count()),
        most.in_words(),
    );
    let mut told: Vec<Evidence> = Vec::new();
    for span in spans {
        let whole = of_span(span, report);
        let mine = alike.iter().filter(|(other, ..)| std::ptr::eq(*other, span));
        let lines: Vec<_> = mine
            .map(|(_, ago, group)| {
                line(&whole, format!("waited for {}", group.in_words()), *ago, report)
            })
            .collect();
        told.push(whole);
        told.extend(lines);
    }
    Some(finding(title, score, told))
}

/// When a span was open, before the end.
fn during(span: &SlowSpan, report: &Report) -> Option<During> {
    let task = span.task.as_ref()?.task;
    let began = before_end(span, report);
    let ended = Nanos(if span.open { 0 } else { began.0.saturating_sub(span.length.0) });
    Some((task, ended..=began))
}

fn before_end(span: &SlowSpan, report: &Report) -> Nanos {
    Nanos(u64::try_from(report.end.0.saturating_sub(span.began.0)).unwrap_or_default())
}

fn of_span(span: &SlowSpan, report: &Report) -> Evidence {
    let until = i64::try_from(span.length.0).unwrap_or(i64::MAX);
    Evidence {
        what: format!("one of {}", duration(span.length)),
        at: span.began,
        until: (!span.open).then(|| crate::analysis::Moment(span.began.0.saturating_add(until))),
        before_end: before_end(span, report),
        thread: span.thread.clone(),
        task: span.task.clone(),
        span: Some(span.span.clone()),
        depth: 0,
    }
}

pub(super) fn is_same(a: &WaitingGroup, b: &WaitingGroup) -> bool {
    a.awaited == b.awaited && a.functions.first() == b.functions.first()
}

pub(super) fn most_common<'g>(
    groups: impl Iterator<Item = &'g WaitingGroup>,
) -> Option<&'g WaitingGroup> {
    let groups: Vec<_> = groups.collect();
    let alike = |one: &WaitingGroup| groups.iter().filter(|other| is_same(one, other)).count();
    // Of those that are as common as others, the first.
    groups.iter().rev().max_by_key(|group| alike(group)).copied()
}
