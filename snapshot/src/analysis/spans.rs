//! Spans by name, and where the time of the slowest went: in polls, in waiting for somebody, or in
//! waiting for a thread.

use super::by_name::{ByName, Cause, MOST_NAMES, OfName};
use super::length::Length;
use super::map::Map;
use super::names::Name;
use super::scribe::Scribe;
use super::state::{Gap, Holder, SpanDone};
use super::{
    BlockerRef, Evidence, Finding, Histogram, Moment, Score, Section, SpanRef, TaskRef, ThreadRef,
    Unit, WakeRef,
};
use crate::wire::Nanos;
use crate::words::{count, counted, duration};

/// A span is slow if it takes longer than so many times the median of its name, …
pub const SLOW_SPAN: u64 = 10;
/// … and longer than this.
pub const SLOW_SPAN_LEAST: Nanos = Nanos(10_000_000);
/// Of fewer spans of a name than this no median is taken.
pub const FEWEST_SPANS: u64 = 8;

/// Spans, by name, those first that took most time in all.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Spans {
    /// Each name.
    pub names: Vec<SpanName>,
    /// Spans of further names, which were not looked at.
    pub others: u64,
}

/// The spans of one name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SpanName {
    /// The name.
    pub name: String,
    /// The name with what tells these from others of the name: the method and the route of a request, say
    /// (fields `http.route`, `route`, `rpc.method`). Else the name alone.
    pub group: String,
    /// How long they took: of those that closed.
    pub lengths: Histogram,
    /// How many were open when the snapshot ends.
    pub open: u64,
    /// The slowest, open ones included, slowest first.
    pub slowest: Vec<SlowSpan>,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SlowSpan {
    /// Which.
    pub span: SpanRef,
    /// When it began.
    pub began: Moment,
    /// How long it took; up to the end of the snapshot, if it was still open.
    pub length: Nanos,
    /// It was still open.
    pub open: bool,
    /// It was known from a status, so what happened in it before is not.
    pub before: bool,
    /// The thread that created it; none if that was before the snapshot.
    pub thread: Option<ThreadRef>,
    /// The task that it ran in.
    pub task: Option<TaskRef>,
    /// How long threads were inside of it; none if events are missing.
    pub inside: Option<Nanos>,
    /// What its task did in its time; none if it ran in no task, or events are missing.
    pub spent: Option<SpanTime>,
}

/// The time of a span, by what its task did. What is left of its length was before the task was
/// known, or after it ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpanTime {
    /// It was polled.
    pub polling: Nanos,
    /// It waited for somebody to wake it.
    pub waiting: Nanos,
    /// It had been woken, and was not polled yet.
    pub runnable: Nanos,
    /// It was not polled, and who woke it is not known.
    pub unknown: Nanos,
    /// What it said that it waited for, and how much of `waiting` that was.
    pub reasons: Vec<(String, Nanos)>,
    /// Other tasks entered the span too; what they did is not in here.
    pub shared: bool,
    /// The longest times between polls, in the order of time.
    pub gaps: Vec<SpanGap>,
}

impl SpanTime {
    /// Where the time went, in words, the longest first.
    #[must_use]
    pub fn split(&self) -> String {
        let named = self.reasons.iter().fold(Nanos(0), |sum, (_, length)| sum.plus(*length));
        let parts = [
            (self.waiting.since(named), "waiting to be woken".to_owned()),
            (self.runnable, "ready but not polled".to_owned()),
            (self.unknown, "waiting for what is not known".to_owned()),
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
    /// When it began; not before the span did.
    pub began: Moment,
    /// Until the task was woken; or until the end, if nobody did.
    pub waiting: Nanos,
    /// From there to its poll, or the end.
    pub runnable: Nanos,
    /// What it waited for, if it said so.
    pub waits_for: Option<String>,
    /// Who woke it, latest first, and who had woken those, as far back as the span goes. Empty if
    /// that is not known, or nobody did.
    pub wakes: Vec<WakeRef>,
    /// Who polled it then; none if nobody did.
    pub polled_by: Option<ThreadRef>,
    /// What that thread was doing for most of the time that the task might have run.
    pub blocker: Option<BlockerRef>,
}

/// Watches spans.
#[derive(Default)]
pub(super) struct SpanWatch {
    watched: ByName<SpanDone>,
    /// All that closed, by name: for groups of which there are few.
    by_name: Map<Name, Histogram>,
    /// Open spans in which nobody works, by group: how many, and the one that is open for longest.
    held: Map<Name, (u64, SpanDone)>,
    uncertain: u64,
}

impl SpanWatch {
    /// A span is over, or the snapshot is.
    pub(super) fn done(&mut self, span: SpanDone) {
        // Its id is its own, so its length is right even where events are missing; but whether it
        // is still open is not known then.
        if span.open && !span.certain {
            self.uncertain += 1;
            return;
        }
        let (group, length, open) = (span.label.group, span.length(), span.open);
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
        let inner = span.inner;
        self.watched.add(group, length, open, inner, span);
    }

    /// One of this name has closed. Names may be made up for each span: there is an end to how many are kept.
    fn note(&mut self, name: Name, length: Nanos) {
        if self.by_name.len() < MOST_NAMES || self.by_name.contains_key(&name) {
            self.by_name.entry(name).or_default().add(length);
        }
    }

    /// How many spans of this group, or of this name in all, have closed.
    pub(super) fn closed(&self, group: Name, name: Name) -> u64 {
        let of_name = self.by_name.get(&name).map_or(0, Histogram::count);
        self.watched.ended(group).max(of_name)
    }

    /// What a span of this group usually takes, if enough have closed to say so; else what one of its
    /// name takes, if so.
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

    pub(super) fn finish(self, scribe: &Scribe<'_>) -> Section<Spans> {
        let mut section = Section::<Spans>::default();
        if self.uncertain > 0 {
            section.not_assessed.push(format!(
                "{} may be open or not: {}",
                counted(self.uncertain, "span"),
                scribe.world.doubts.because()
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
                    found.extend(causes.filter_map(|cause| finding(cause, mine, scribe)));
                }
                None => {
                    few += u64::from(of.slowest.iter().any(|span| span.length() > SLOW_SPAN_LEAST));
                }
            }
        }
        // What cost most comes first: one that is a hundred times too slow may have cost nothing.
        found.sort_by_key(|(lost, _)| std::cmp::Reverse(*lost));
        section.findings.extend(found.into_iter().take(MOST_FOUND).map(|(_, finding)| finding));
        let mut held: Vec<_> = self.held.iter().collect();
        held.sort_by_key(|(_, (_, span))| (std::cmp::Reverse(span.length()), span.label.span));
        let is_outer =
            |span: &SpanDone| span.inner.is_some_and(|inner| self.held.contains_key(&inner.name));
        let held = held.into_iter().filter(|(_, (_, span))| !is_outer(span));
        let held = held.filter_map(|(group, (many, span))| {
            held_finding(*many, span, usual.get(group)?, scribe)
        });
        section.findings.extend(held.take(MOST_HELD));
        for (group, of) in self.watched.names {
            let slowest: Vec<_> = of.slowest.iter().map(|span| told(span, scribe)).collect();
            let group = scribe.text(group);
            let name = slowest.first().map_or_else(|| group.clone(), |span| span.span.name.clone());
            let (lengths, open) = (of.lengths, of.open);
            section.table.names.push(SpanName { name, group, lengths, open, slowest });
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

/// So many findings are kept, and so many of spans that somebody only holds.
const MOST_FOUND: usize = 5;
const MOST_HELD: usize = 2;

/// What spans of a name take, and of how many that is known.
#[derive(Clone, Copy)]
struct Usual {
    count: u64,
    median: Nanos,
}

impl Usual {
    /// From here on one is slow.
    fn limit(self) -> Nanos {
        Nanos(self.median.0.saturating_mul(SLOW_SPAN)).max(SLOW_SPAN_LEAST)
    }
}

/// Whether what is inside of these is too slow itself: that tells the cause.
fn is_explained(cause: &Cause<SpanDone>, usual: &Map<Name, Usual>) -> bool {
    let inside = cause.inside.and_then(|inside| usual.get(&inside));
    inside.is_some_and(|inside| cause.longest_inside > inside.limit())
}

fn told(span: &SpanDone, scribe: &Scribe<'_>) -> SlowSpan {
    let thread = (span.thread.0 > 0).then(|| scribe.thread(span.thread));
    let spent = (span.task.is_some() && span.certain).then(|| {
        let spent = &span.spent;
        let mut gaps: Vec<_> = spent.gaps.iter().map(|gap| told_gap(gap, span, scribe)).collect();
        gaps.sort_by_key(|gap| gap.began);
        SpanTime {
            polling: spent.polling,
            waiting: spent.waiting,
            runnable: spent.runnable,
            unknown: spent.unknown,
            reasons: spent.reasons.iter().map(|(what, much)| (scribe.text(*what), *much)).collect(),
            shared: span.shared,
            gaps,
        }
    });
    SlowSpan {
        span: scribe.span(&span.label),
        began: scribe.moment(span.began),
        length: span.length(),
        open: span.open,
        before: span.before,
        thread,
        task: span.task.map(|(task, name)| scribe.task(task, name)),
        inside: span.certain.then_some(span.inside),
        spent,
    }
}

/// When a gap of a span began, when its task was woken, and when it was polled.
fn times(gap: &Gap, span: &SpanDone) -> (Nanos, Option<Nanos>, Nanos) {
    let until = gap.polled.map_or(span.ended, |(polled, _)| polled);
    let began = gap.since.unwrap_or(span.began).max(span.began).min(until);
    (began, gap.runnable.map(|runnable| runnable.clamp(began, until)), until)
}

fn told_gap(gap: &Gap, span: &SpanDone, scribe: &Scribe<'_>) -> SpanGap {
    let (began, runnable, until) = times(gap, span);
    let woken = runnable.unwrap_or(until);
    let mut wakes = scribe.wakes(&gap.chain);
    let within = gap.chain.iter().take_while(|hop| hop.at >= span.began).count();
    wakes.truncate(within.max(1));
    SpanGap {
        began: scribe.moment(began),
        waiting: woken.since(began),
        runnable: until.since(woken),
        waits_for: gap.waits_for.map(|what| scribe.text(what)),
        wakes,
        polled_by: gap.polled.map(|(_, thread)| scribe.thread(thread)),
        blocker: gap.blocker.as_ref().map(|blocker| scribe.blocker(blocker)),
    }
}

/// One finding for all spans of a group that were slow for one reason, and the time that they cost.
fn finding(
    cause: &Cause<SpanDone>,
    usual: &Usual,
    scribe: &Scribe<'_>,
) -> Option<(Nanos, Finding)> {
    let (limit, median) = (usual.limit(), usual.median);
    let span = cause.slowest.iter().next()?;
    let told = &told(span, scribe);
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
        let (most, name) = (duration(inner.longest), scribe.text(inner.name));
        title += &format!("; {most} of it in span `{name}`");
    }
    let slow = cause.slow(limit, median, SpanDone::length);
    if slow.many > 1 {
        let (more, lost) = (count(slow.many - 1), duration(slow.lost));
        title += &format!(" ({more} more like it, {lost} lost by all of them)");
    }
    let mut whole = scribe.evidence("the span", span.began, (!span.open).then_some(span.ended));
    whole.thread.clone_from(&told.thread);
    whole.task.clone_from(&told.task);
    whole.span = Some(told.span.clone());
    let mut evidence = vec![whole];
    if told.spent.is_some() {
        let mut gaps: Vec<_> = span.spent.gaps.iter().collect();
        gaps.sort_by_key(|gap| times(gap, span).0);
        for gap in gaps {
            let (began, _, until) = times(gap, span);
            if until.since(began).0 >= told.length.0 / 20 {
                chain(gap, span, scribe, &mut evidence);
            }
        }
    }
    for other in cause.slowest.iter().skip(1).filter(|other| other.length() > limit) {
        let what = format!("another one, of {}", duration(other.length()));
        let mut one = scribe.evidence(what, other.began, (!other.open).then_some(other.ended));
        one.thread = (other.thread.0 > 0).then(|| scribe.thread(other.thread));
        one.span = Some(scribe.span(&other.label));
        evidence.push(one);
    }
    Some((slow.lost, Finding { analysis: "spans", title, score, evidence }))
}

/// Spans that are open because somebody holds them: nothing is slow there, but something is not let go.
fn held_finding(many: u64, span: &SpanDone, usual: &Usual, scribe: &Scribe<'_>) -> Option<Finding> {
    let length = span.length();
    let score = Score::beyond(length.0 as f64, usual.limit().0 as f64, Unit::Nanos)?;
    let task = span.task.map(|(task, name)| scribe.task(task, name));
    let whose = task
        .as_ref()
        .map_or_else(|| "its task".to_owned(), |task| format!("its task {}", task.label()));
    let why = match span.holder? {
        Holder::NeverEntered => "nobody has entered it".to_owned(),
        Holder::TaskOver => format!("{whose} is over"),
        Holder::TaskGoesOn(polls, left) => format!(
            "{whose} has not entered it for {}, in {}",
            duration(scribe.end.since(left)),
            counted(polls, "poll")
        ),
    };
    let more = match many {
        1 => String::new(),
        many => format!(" ({} more like it)", count(many - 1)),
    };
    let title = format!(
        "Span {} is open for {}, and no thread is inside of it: {why}; somebody still holds it{more}",
        scribe.span(&span.label).label(),
        duration(length)
    );
    let mut evidence = scribe.evidence("the span", span.began, None);
    evidence.thread = (span.thread.0 > 0).then(|| scribe.thread(span.thread));
    evidence.task = task;
    evidence.span = Some(scribe.span(&span.label));
    Some(Finding { analysis: "spans", title, score, evidence: vec![evidence] })
}

/// The evidence of one gap: who the task waited for, back through the wakes within the span's time.
fn chain(gap: &Gap, span: &SpanDone, scribe: &Scribe<'_>, evidence: &mut Vec<Evidence>) {
    let (began, runnable, until) = times(gap, span);
    let told = told_gap(gap, span, scribe);
    let waited = match &told.waits_for {
        Some(what) => format!("waited for `{what}` for {}", duration(told.waiting)),
        None => format!("waited for {}", duration(told.waiting)),
    };
    let mut wait = match (runnable, gap.polled) {
        (None, None) => scribe.evidence(format!("{waited}, and nobody woke it"), began, None),
        (None, Some(_)) => {
            let what = match told.waits_for {
                Some(_) => format!("{waited}, until it was polled; who woke it is not known"),
                None => format!("not polled for {}; why is not known", duration(told.waiting)),
            };
            scribe.evidence(what, began, Some(until))
        }
        (Some(woken), _) => {
            let by = match told.wakes.first() {
                Some(wake) if wake.spawned => ", spawned by ".to_owned() + &wake.label(),
                Some(wake) => ", until woken by ".to_owned() + &wake.label(),
                None => String::new(),
            };
            let what = format!("{waited}{by}");
            scribe.evidence(what, began, Some(woken))
        }
    };
    wait.thread = told.wakes.first().map(|wake| wake.thread.clone());
    wait.task = span.task.map(|(task, name)| scribe.task(task, name));
    wait.depth = 1;
    evidence.push(wait);
    for (at, (hop, wake)) in gap.chain.iter().zip(&told.wakes).enumerate().skip(1) {
        let what = if wake.spawned { "spawned by" } else { "woken by" };
        let before = gap.chain[at - 1].task;
        let whom = before.map_or("?".to_owned(), |(task, name)| scribe.task(task, name).label());
        let mut one = scribe.evidence(format!("{whom} was {what} {}", wake.label()), hop.at, None);
        one.thread = Some(wake.thread.clone());
        one.task.clone_from(&wake.task);
        one.depth = (at + 1).min(200) as u8;
        evidence.push(one);
    }
    let Some(woken) = runnable else { return };
    // Next to the waiting this says nothing.
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
        (None, _) => what += ", and not polled up to the end",
    }
    let mut ready = scribe.evidence(what, woken, gap.polled.map(|(polled, _)| polled));
    ready.thread = told.polled_by;
    ready.task = told.blocker.map(|blocker| blocker.task);
    ready.depth = 1;
    evidence.push(ready);
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
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
