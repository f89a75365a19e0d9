//! Spans by name, and where the time of the slowest went: to polls, to waiting for a wake, or to waiting for
//! a thread.

use super::by_name::{ByName, Cause, MOST_NAMES, OfName};
use super::inner::Part;
use super::interner::Name;
use super::nanos_ext::Length;
use super::outcomes::{Failures, Outcomes, SpanOutcomes};
use super::report_context::ReportContext;
use super::span_gaps::{chain, times, told_gap};
use super::state::{Holder, SpanDone};
use super::{
    BlockerRef, Finding, Histogram, LockWaiter, Moment, Score, Section, SpanRef, TaskRef,
    ThreadRef, Unit, WakeRef,
};
use crate::format::{count, counted, duration};
use crate::read::decode::fast_map::Map;
use crate::wire::Nanos;

/// A span is slow if it takes longer than this many times the median of its name, …
pub const SLOW_SPAN: u64 = 10;
/// … and longer than this.
pub const SLOW_SPAN_LEAST: Nanos = Nanos(10_000_000);
/// With fewer spans of a name than this, no median is computed.
pub const FEWEST_SPANS: u64 = 8;

/// Spans by name; the names that took most time in all come first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Spans {
    /// The names.
    pub names: Vec<SpanName>,
    /// Spans of further names, which were not analyzed.
    pub others: u64,
}

/// The spans of one name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SpanName {
    /// The name.
    pub name: String,
    /// The name with what distinguishes these from others of the name, such as the method and the route of a
    /// request (fields `http.route`, `route`, `rpc.method`). Without such a field, the name alone.
    pub group: String,
    /// How long they took: those that closed.
    pub lengths: Histogram,
    /// How many were open at the end of the snapshot.
    pub open: u64,
    /// How many failed or were cancelled, as far as their fields say so.
    pub outcomes: SpanOutcomes,
    /// The slowest, open ones included, slowest first.
    pub slowest: Vec<SlowSpan>,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SlowSpan {
    /// The span.
    pub span: SpanRef,
    /// When it began.
    pub began: Moment,
    /// How long it took, up to the end of the snapshot if it was still open.
    pub length: Nanos,
    /// Whether it was still open.
    pub open: bool,
    /// Whether it was known from a status, so what happened in it before is not known.
    pub before: bool,
    /// The thread that created it; none if that was before the snapshot.
    pub thread: Option<ThreadRef>,
    /// The task that it ran in.
    pub task: Option<TaskRef>,
    /// How long threads had it entered; none if events are missing.
    pub inside: Option<Nanos>,
    /// The lock that it waited for most of the time, if one did; the length is that of the longest wait.
    pub lock: Option<LockWaiter>,
    /// What its task did during it; none if it ran in no task, or events are missing.
    pub spent: Option<SpanTime>,
}

/// The time of a span, by what its task did. The four parts add up to its length, or, if it began before the
/// snapshot, to the time since the snapshot begins.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpanTime {
    /// The task was being polled.
    pub polling: Nanos,
    /// The task waited to be woken.
    pub waiting: Nanos,
    /// The task had been woken, and was not polled yet.
    pub runnable: Nanos,
    /// The task was not polled, and its waker is not known; or its task was not known yet, or had ended.
    pub unknown: Nanos,
    /// The reasons to wait that the task gave, and how much of `waiting` each took.
    pub reasons: Vec<(String, Nanos)>,
    /// Whether other tasks entered the span, too; what they did is not included.
    pub shared: bool,
    /// The longest times between polls, in chronological order.
    pub gaps: Vec<SpanGap>,
}

impl SpanTime {
    /// Where the time went, in words, longest first.
    #[must_use]
    pub fn split(&self) -> String {
        let known = self.waiting.plus(self.runnable).plus(self.polling);
        // Next to what is known a little means nothing.
        let unknown = if self.unknown.0 > known.0 / 100 { self.unknown } else { Nanos(0) };
        let named = self.reasons.iter().fold(Nanos(0), |sum, (_, length)| sum.plus(*length));
        let parts = [
            (self.waiting.since(named), "waiting to be woken".to_owned()),
            (self.runnable, "ready but not polled".to_owned()),
            (unknown, "unaccounted for".to_owned()),
            (self.polling, "being polled".to_owned()),
        ];
        let reasons = self.reasons.iter();
        let reasons = reasons.map(|(what, length)| (*length, format!("waiting for `{what}`")));
        let parts = parts.into_iter().chain(reasons);
        let mut parts: Vec<_> = parts.filter(|(length, _)| length.0 > 0).collect();
        parts.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        let parts = parts.iter().map(|(length, what)| format!("{} {what}", duration(*length)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// A time between two polls.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpanGap {
    /// When it began, but not before the span did.
    pub began: Moment,
    /// The time until the task was woken, or until the end if it was not.
    pub waiting: Nanos,
    /// The time from there to its poll, or to the end.
    pub runnable: Nanos,
    /// What the task waited for, if it said so.
    pub waits_for: Option<String>,
    /// The waker, then that one's waker, and so on, as far back as the span goes. Empty if unknown, or if
    /// nothing woke the task.
    pub wakes: Vec<WakeRef>,
    /// The thread that polled it then; none if it was not polled.
    pub polled_by: Option<ThreadRef>,
    /// What that thread did for most of the time that the task was ready.
    pub blocker: Option<BlockerRef>,
}

/// Watches spans.
#[derive(Default)]
pub(super) struct SpanWatch {
    watched: ByName<SpanDone>,
    /// All that closed, by name: for groups with few spans.
    by_name: Map<Name, Histogram>,
    /// Open spans that go on: what they do may take as long as it likes.
    ongoing: ByName<SpanDone>,
    /// Open spans in which nothing happens, by group: how many, and the one that has been open longest.
    held: Map<Name, (u64, SpanDone)>,
    /// How they ended, by group.
    outcomes: Map<Name, Outcomes>,
    uncertain: u64,
}

impl SpanWatch {
    /// A span has ended, or the snapshot has.
    pub(super) fn done(&mut self, span: SpanDone) {
        // The span's id is its own, so its length is right even where events are missing; but then it is not
        // known whether it is still open.
        if span.open && !span.certain {
            self.uncertain += 1;
            return;
        }
        let (group, length, open) = (span.label.group, span.length(), span.open);
        // One that is still open may have failed already.
        if let Some(outcome) = span.outcome
            && (self.outcomes.len() < MOST_NAMES || self.outcomes.contains_key(&group))
        {
            let before = self.watched.ended(group);
            self.outcomes.entry(group).or_default().add(outcome, &span, before);
        }
        if !open && group != span.label.name {
            self.note(span.label.name, length);
        }
        if span.holder.is_some() {
            let held = self.held.entry(group).or_insert_with(|| (0, span.clone()));
            held.0 += 1;
            if length > held.1.length() {
                held.1 = span.clone();
            }
            self.watched.only_open(group, length, span);
            return;
        }
        let goes_on = span.goes_on();
        // What waited is not like what kept others waiting.
        let waits = span.lock.as_ref().map(|time| Part {
            name: time.wait.at,
            count: 1,
            total: time.waited,
            longest: time.waited,
        });
        let inner = span.inner.or(waits);
        if goes_on {
            self.watched.only_open(group, length, span.clone());
            self.ongoing.add(group, length, open, inner, span);
            return;
        }
        self.watched.add(group, length, open, inner, span);
    }

    /// A span of this name has closed. Names may be made up for each span, so their number is bounded.
    fn note(&mut self, name: Name, length: Nanos) {
        if self.by_name.len() < MOST_NAMES || self.by_name.contains_key(&name) {
            self.by_name.entry(name).or_default().add(length);
        }
    }

    /// The groups whose spans failed or were cancelled: first those in `reasons`, for whose failures the snapshot
    /// was taken, then by how many.
    pub(super) fn failures(
        &self,
        reasons: &[Name],
        context: &ReportContext<'_>,
    ) -> Section<Failures> {
        let mut section = Section::<Failures>::default();
        let mut found = Vec::new();
        for (group, outcomes) in &self.outcomes {
            section.table.failed += outcomes.failed;
            section.table.cancelled += outcomes.cancelled;
            let of = self.watched.names.get(group);
            let all = of.map_or(0, |of| of.lengths.count().saturating_add(of.open));
            let all = all.max(outcomes.failed.saturating_add(outcomes.cancelled));
            let is_reason = reasons.contains(group);
            let findings = outcomes.findings(*group, all, is_reason, context);
            found.extend(findings.into_iter().map(|(many, finding)| (is_reason, many, finding)));
        }
        found.sort_by(|(reason, many, one), (other_reason, other_many, other)| {
            (other_reason, other_many)
                .cmp(&(reason, many))
                .then_with(|| one.title.cmp(&other.title))
        });
        section.findings =
            found.into_iter().map(|(.., finding)| finding).take(MOST_FOUND).collect();
        section
    }

    /// How many spans of this group have closed, or of this name in all.
    pub(super) fn closed(&self, group: Name, name: Name) -> u64 {
        let of_name = self.by_name.get(&name).map_or(0, Histogram::count);
        self.watched.ended(group).max(of_name)
    }

    /// How long spans of this group usually take, if enough have closed to tell; otherwise those of its name.
    fn usual(&self, group: Name, name: Name) -> Option<Usual> {
        let of = self.watched.names.get(&group).map(|of| &of.lengths);
        let lengths = [of, self.by_name.get(&name)];
        let enough = |lengths: &&Histogram| lengths.count() >= FEWEST_SPANS;
        lengths
            .into_iter()
            .flatten()
            .find(enough)
            .map(|lengths| Usual { count: lengths.count(), median: lengths.percentile(0.5) })
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<Spans> {
        let mut section = Section::<Spans>::default();
        if self.uncertain > 0 {
            section.not_assessed.push(format!(
                "{} may be open or not: {}",
                counted(self.uncertain, "span"),
                context.live.doubts.because()
            ));
        }
        let usual = |group: &Name, of: &OfName<SpanDone>| {
            let span = of.slowest.iter().next()?;
            self.usual(*group, span.label.name)
        };
        let usual: Map<Name, Usual> = self
            .watched
            .names
            .iter()
            .filter_map(|(group, of)| usual(group, of).map(|usual| (*group, usual)))
            .collect();
        let mut found = Vec::new();
        let mut few = 0;
        for (group, of) in &self.watched.names {
            match usual.get(group) {
                Some(mine) => {
                    let causes = of.causes.iter().filter(|cause| !is_explained(cause, &usual));
                    found.extend(causes.filter_map(|cause| finding(cause, mine, context)));
                }
                None => {
                    few += u64::from(of.slowest.iter().any(|span| span.length() > SLOW_SPAN_LEAST));
                }
            }
        }
        for (group, of) in &self.ongoing.names {
            let Some(mine) = usual.get(group) else { continue };
            let told = of.causes.iter().filter_map(|cause| finding(cause, mine, context));
            found.extend(told.map(|(lost, finding)| (lost, Finding { goes_on: true, ..finding })));
        }
        // What cost most comes first: a span that is a hundred times too slow may have cost nothing.
        found.sort_by_key(|(lost, _)| std::cmp::Reverse(*lost));
        section.findings.extend(found.into_iter().take(MOST_FOUND).map(|(_, finding)| finding));
        let mut held: Vec<_> = self.held.iter().collect();
        held.sort_by_key(|(_, (_, span))| (std::cmp::Reverse(span.length()), span.label.span));
        let is_outer =
            |span: &SpanDone| span.inner.is_some_and(|inner| self.held.contains_key(&inner.name));
        let held = held.into_iter().filter(|(_, (_, span))| !is_outer(span));
        let held = held.filter_map(|(group, (many, span))| {
            held_finding(*many, span, usual.get(group)?, context)
        });
        section.findings.extend(held.take(MOST_HELD));
        for (group, of) in self.watched.names {
            let slowest: Vec<_> = of.slowest.iter().map(|span| told(span, context)).collect();
            let outcomes = self.outcomes.get(&group);
            let group = context.text(group);
            let name = slowest.first().map_or_else(|| group.clone(), |span| span.span.name.clone());
            let (lengths, open) = (of.lengths, of.open);
            let outcomes = outcomes.map(|of| of.told(context)).unwrap_or_default();
            section.table.names.push(SpanName { name, group, lengths, open, outcomes, slowest });
        }
        let total = |name: &SpanName| name.lengths.total().0;
        section
            .table
            .names
            .sort_by(|a, b| total(b).cmp(&total(a)).then_with(|| a.group.cmp(&b.group)));
        section.table.others = self.watched.others;
        if few > 0 {
            let names = counted(few, "name");
            section.not_assessed.push(format!(
                "of {names} fewer than {FEWEST_SPANS} spans closed: too few to say which of them is slow"
            ));
        }
        section
    }
}

/// The most findings, and the most for spans that are merely held.
const MOST_FOUND: usize = 5;
const MOST_HELD: usize = 2;

/// How long spans of a name take, and how many spans this is based on.
#[derive(Clone, Copy)]
struct Usual {
    count: u64,
    median: Nanos,
}

impl Usual {
    /// The length from which a span is slow.
    fn limit(self) -> Nanos {
        Nanos(self.median.0.saturating_mul(SLOW_SPAN)).max(SLOW_SPAN_LEAST)
    }
}

/// Whether something inside these is too slow itself: then that is the cause.
fn is_explained(cause: &Cause<SpanDone>, usual: &Map<Name, Usual>) -> bool {
    let inside = cause.inside.and_then(|inside| usual.get(&inside));
    inside.is_some_and(|inside| cause.longest_inside > inside.limit())
}

fn told(span: &SpanDone, context: &ReportContext<'_>) -> SlowSpan {
    let thread = (span.thread.0 > 0).then(|| context.thread(span.thread));
    let spent = (span.task.is_some() && span.certain).then(|| {
        let spent = &span.spent;
        let mut gaps: Vec<_> = spent.gaps.iter().map(|gap| told_gap(gap, span, context)).collect();
        gaps.sort_by_key(|gap| gap.began);
        SpanTime {
            polling: spent.polling,
            waiting: spent.waiting,
            runnable: spent.runnable,
            unknown: spent.unknown,
            reasons: spent
                .reasons
                .iter()
                .map(|(what, much)| (context.text(*what), *much))
                .collect(),
            shared: span.shared,
            gaps,
        }
    });
    SlowSpan {
        span: context.span(&span.label),
        began: context.moment(span.began),
        length: span.length(),
        open: span.open,
        before: span.before,
        thread,
        task: span.task.map(|(task, name)| context.task(task, name)),
        inside: span.certain.then_some(span.inside),
        lock: span.lock.as_ref().map(|time| time.wait.told(context)),
        spent,
    }
}

/// One finding for all spans of a group that were slow for the same reason, with the time that they cost.
fn finding(
    cause: &Cause<SpanDone>,
    usual: &Usual,
    context: &ReportContext<'_>,
) -> Option<(Nanos, Finding)> {
    let (limit, median) = (usual.limit(), usual.median);
    let span = cause.slowest.iter().next()?;
    let told = &told(span, context);
    let score = Score::beyond(told.length.0 as f64, limit.0 as f64, Unit::Nanos)?;
    let took = if told.open { "was still open after" } else { "took" };
    let mut title = format!(
        "Span {} {took} {}, where the median of {} is {}",
        told.span.label(),
        duration(told.length),
        count(usual.count),
        duration(median)
    );
    if let Some(spent) = &told.spent {
        let part = if told.before { " since the snapshot begins" } else { "" };
        title += &format!(": {}{part}", spent.split());
    }
    if let Some(inner) = &span.inner {
        let (most, name) = (duration(inner.longest), context.text(inner.name));
        title += &format!("; {most} of it in span `{name}`");
    }
    if let Some(lock) = &span.lock {
        title += &format!("; it {}", lock.in_words(told.length, context));
    }
    let slow = cause.slow(limit, median, SpanDone::length);
    if slow.many > 1 {
        let (more, lost) = (count(slow.many - 1), duration(slow.lost));
        title += &format!(" ({more} more like it, {lost} lost by all of them)");
    }
    let mut whole = context.evidence("the span", span.began, (!span.open).then_some(span.ended));
    whole.thread.clone_from(&told.thread);
    whole.task.clone_from(&told.task);
    whole.span = Some(told.span.clone());
    let mut evidence = vec![whole];
    evidence.extend(span.lock.as_ref().map(|lock| lock.wait.evidence(1, context)));
    if told.spent.is_some() {
        let mut gaps: Vec<_> = span.spent.gaps.iter().collect();
        gaps.sort_by_key(|gap| times(gap, span).0);
        for gap in gaps {
            let (began, _, until) = times(gap, span);
            if until.since(began).0 >= told.length.0 / 20 {
                chain(gap, span, context, &mut evidence);
            }
        }
    }
    for other in cause.slowest.iter().skip(1).filter(|other| other.length() > limit) {
        let what = format!("another one, of {}", duration(other.length()));
        let mut one = context.evidence(what, other.began, (!other.open).then_some(other.ended));
        one.thread = (other.thread.0 > 0).then(|| context.thread(other.thread));
        one.span = Some(context.span(&other.label));
        evidence.push(one);
    }
    let mut finding = Finding::new("spans", title, score, evidence);
    let wanted = told.spent.as_ref().map_or(Nanos(0), |of| of.polling.plus(of.runnable));
    finding.wants_core = span.lock.is_none() && wanted.0 > told.length.0 / 2;
    finding.lock.clone_from(&told.lock);
    Some((slow.lost, finding))
}

/// Spans that are open because they are held: nothing is slow there, but something is not released.
fn held_finding(
    many: u64,
    span: &SpanDone,
    usual: &Usual,
    context: &ReportContext<'_>,
) -> Option<Finding> {
    let length = span.length();
    let score = Score::beyond(length.0 as f64, usual.limit().0 as f64, Unit::Nanos)?;
    let task = span.task.map(|(task, name)| context.task(task, name));
    let whose = task
        .as_ref()
        .map_or_else(|| "its task".to_owned(), |task| format!("its task {}", task.label()));
    let why = match span.holder? {
        Holder::NeverEntered => "nothing has ever entered it".to_owned(),
        Holder::TaskOver => format!("{whose} is over"),
        Holder::TaskGoesOn(polls, left) => format!(
            "{whose} has not entered it for {}, in {}",
            duration(context.end.since(left)),
            counted(polls, "poll")
        ),
    };
    let more = match many {
        1 => String::new(),
        many => format!(" ({} more like it)", count(many - 1)),
    };
    let title = format!(
        "Span {} has been open for {} with no thread inside it: {why}, and something still holds the span{more}",
        context.span(&span.label).label(),
        duration(length)
    );
    let mut evidence = context.evidence("the span", span.began, None);
    evidence.thread = (span.thread.0 > 0).then(|| context.thread(span.thread));
    evidence.task = task;
    evidence.span = Some(context.span(&span.label));
    Some(Finding::new("spans", title, score, vec![evidence]))
}

#[cfg(test)]
mod tests {
    use super::super::interner::Names;
    use super::*;

    #[test]
    fn names_that_are_made_up_for_each_span_take_bounded_memory() {
        let (mut names, mut watch) = (Names::default(), SpanWatch::default());
        for number in 0..10 * MOST_NAMES {
            watch.note(names.name(&number.to_string()), Nanos(1));
        }
        watch.note(names.name("7"), Nanos(1));
        assert_eq!(watch.by_name.len(), MOST_NAMES);
        assert_eq!(watch.by_name[&names.name("7")].count(), 2);
    }
}
