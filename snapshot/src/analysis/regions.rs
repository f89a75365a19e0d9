//! Regions by name, and those that took far longer than others of the same name.

use super::by_name::{ByName, Cause, OfName};
use super::interner::Name;
use super::report_context::ReportContext;
use super::state::RegionDone;
use super::{
    Evidence, FEWEST_SPANS, Finding, Histogram, Moment, SLOW_SPAN, SLOW_SPAN_LEAST, Score, Section,
    ThreadRef, Unit,
};
use crate::format::{count, counted, duration};
use crate::read::decode::fast_map::Map;
use crate::wire::Nanos;

/// Regions by name; the names that took most time in all come first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Regions {
    /// The names.
    pub names: Vec<RegionName>,
    /// Regions of further names, which were not analyzed.
    pub others: u64,
}

/// The regions of one name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegionName {
    /// The name.
    pub name: String,
    /// How long they took: those that ended and whose beginning is known.
    pub lengths: Histogram,
    /// How many were open at the end of the snapshot.
    pub open: u64,
    /// The slowest, open ones included, slowest first.
    pub slowest: Vec<SlowRegion>,
}

/// One region.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowRegion {
    /// Its thread.
    pub thread: ThreadRef,
    /// When it began.
    pub began: Moment,
    /// How long it took, up to the end of the snapshot if it was still open.
    pub length: Nanos,
    /// Whether it was still open.
    pub open: bool,
    /// The names of the regions around it, outermost first.
    pub within: Vec<String>,
}

/// Watches regions.
#[derive(Default)]
pub(super) struct RegionWatch {
    watched: ByName<RegionDone>,
    uncertain: u64,
}

impl RegionWatch {
    /// A region has ended, or the snapshot has.
    pub(super) fn done(&mut self, region: RegionDone) {
        if region.name == Name::OWN {
            return;
        }
        if !region.certain {
            self.uncertain += 1;
            return;
        }
        let (name, length, open) = (region.name, region.length(), region.open);
        let inner = region.inner;
        self.watched.add(name, length, open, inner, region);
    }

    /// How many regions of this name have ended.
    pub(super) fn ended(&self, name: Name) -> u64 {
        self.watched.ended(name)
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<Regions> {
        let mut section = Section::<Regions>::default();
        if self.uncertain > 0 {
            section.not_assessed.push(format!(
                "{} touch times from which events are missing: {}",
                counted(self.uncertain, "region"),
                context.live.doubts.because()
            ));
        }
        // Whatever is around a slow region is slow, too: only the innermost one is reported.
        let limits: Map<Name, Nanos> = self
            .watched
            .names
            .iter()
            .filter_map(|(name, of)| limit(&of.lengths).map(|limit| (*name, limit)))
            .collect();
        let is_explained = |cause: &Cause<RegionDone>| {
            let inside = cause.inside.and_then(|inside| limits.get(&inside));
            inside.is_some_and(|limit| cause.longest_inside > *limit)
        };
        let mut found: Vec<(Nanos, Finding)> = Vec::new();
        for (name, of) in self.watched.names {
            if let Some(limit) = limits.get(&name) {
                let causes = of.causes.iter().filter(|cause| !is_explained(cause));
                found.extend(causes.filter_map(|cause| finding(cause, &of, *limit, context)));
            }
            let slowest = of.slowest.iter().map(|region| SlowRegion {
                thread: context.thread(region.thread),
                began: context.moment(region.began),
                length: region.length(),
                open: region.open,
                within: region.within.iter().map(|name| context.text(*name)).collect(),
            });
            section.table.names.push(RegionName {
                name: context.text(name),
                slowest: slowest.collect(),
                lengths: of.lengths,
                open: of.open,
            });
        }
        // What cost most comes first.
        found.sort_by_key(|(lost, _)| std::cmp::Reverse(*lost));
        section.findings = found.into_iter().take(MOST_FOUND).map(|(_, finding)| finding).collect();
        let total = |name: &RegionName| name.lengths.total().0;
        section
            .table
            .names
            .sort_by(|a, b| total(b).cmp(&total(a)).then_with(|| a.name.cmp(&b.name)));
        section.table.others = self.watched.others;
        section
    }
}

/// The most findings.
const MOST_FOUND: usize = 5;

/// The length from which a region of this name is slow, if enough have ended to tell.
fn limit(lengths: &Histogram) -> Option<Nanos> {
    let median = lengths.percentile(0.5);
    (lengths.count() >= FEWEST_SPANS)
        .then(|| Nanos(median.0.saturating_mul(SLOW_SPAN)).max(SLOW_SPAN_LEAST))
}

/// One finding for all regions of a name that were slow for the same reason, with the time that they cost.
fn finding(
    cause: &Cause<RegionDone>,
    of: &OfName<RegionDone>,
    limit: Nanos,
    context: &ReportContext<'_>,
) -> Option<(Nanos, Finding)> {
    let region = cause.slowest.iter().next()?;
    let median = of.lengths.percentile(0.5);
    let length = region.length();
    let score = Score::beyond(length.0 as f64, limit.0 as f64, Unit::Nanos)?;
    let thread = context.thread(region.thread);
    let took = match region.open {
        true => "was still in region",
        false => "was in region",
    };
    let mut title = format!(
        "{} {took} `{}` {} {}, where the median of {} is {}",
        thread.label(),
        context.text(region.name),
        if region.open { "after" } else { "for" },
        duration(length),
        count(of.lengths.count()),
        duration(median)
    );
    if let Some(inner) = &region.inner {
        let times = match inner.count {
            1 => String::new(),
            many => format!(", {} times", count(many)),
        };
        let (most, name) = (duration(inner.total), context.text(inner.name));
        title += &format!("; {most} of it in `{name}`{times}");
    }
    let slow = cause.slow(limit, median, RegionDone::length);
    if slow.many > 1 {
        let (more, lost) = (count(slow.many - 1), duration(slow.lost));
        title += &format!(" ({more} more like it, {lost} lost by all of them)");
    }
    let beyond = cause.slowest.iter().filter(|region| region.length() > limit);
    let evidence = beyond.map(|region| evidence(region, context)).collect();
    Some((slow.lost, Finding::new("regions", title, score, evidence)))
}

fn evidence(region: &RegionDone, context: &ReportContext<'_>) -> Evidence {
    let within: Vec<_> = region.within.iter().map(|name| context.text(*name)).collect();
    let inside = match within.as_slice() {
        [] => String::new(),
        within => format!(", inside of {}", within.join(" > ")),
    };
    let what = match region.open {
        true => format!("in it up to the end{inside}"),
        false => format!("in it for {}{inside}", duration(region.length())),
    };
    let until = (!region.open).then_some(region.ended);
    let mut evidence = context.evidence(what, region.began, until);
    evidence.thread = Some(context.thread(region.thread));
    evidence
}
