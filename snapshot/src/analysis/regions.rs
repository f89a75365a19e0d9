//! Regions by name, and those that took far longer than others of their name.

use super::by_name::{ByName, Cause, OfName};
use super::map::Map;
use super::names::Name;
use super::scribe::Scribe;
use super::state::RegionDone;
use super::{
    Evidence, FEWEST_SPANS, Finding, Histogram, Moment, SLOW_SPAN, SLOW_SPAN_LEAST, Score, Section,
    ThreadRef, Unit,
};
use crate::wire::Nanos;
use crate::words::{count, counted, duration};

/// Regions, by name, those first that took most time in all.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Regions {
    /// Each name.
    pub names: Vec<RegionName>,
    /// Regions of further names, which were not looked at.
    pub others: u64,
}

/// The regions of one name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegionName {
    /// The name.
    pub name: String,
    /// How long they took: of those that ended, and whose begin is known.
    pub lengths: Histogram,
    /// How many were open when the snapshot ends.
    pub open: u64,
    /// The slowest, open ones included, slowest first.
    pub slowest: Vec<SlowRegion>,
}

/// One region.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowRegion {
    /// The thread that was in it.
    pub thread: ThreadRef,
    /// When it began.
    pub began: Moment,
    /// How long it took; up to the end of the snapshot, if it was still open.
    pub length: Nanos,
    /// It was still open.
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
    /// A region is over, or the snapshot is.
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

    /// How many regions of this name are over.
    pub(super) fn ended(&self, name: Name) -> u64 {
        self.watched.ended(name)
    }

    pub(super) fn finish(self, scribe: &Scribe<'_>) -> Section<Regions> {
        let mut section = Section::<Regions>::default();
        if self.uncertain > 0 {
            section.not_assessed.push(format!(
                "{} touch times from which events are missing: {}",
                counted(self.uncertain, "region"),
                scribe.world.doubts.because()
            ));
        }
        // What is around a slow region is slow, too: the innermost one tells it.
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
                found.extend(causes.filter_map(|cause| finding(cause, &of, *limit, scribe)));
            }
            let slowest = of.slowest.iter().map(|region| SlowRegion {
                thread: scribe.thread(region.thread),
                began: scribe.moment(region.began),
                length: region.length(),
                open: region.open,
                within: region.within.iter().map(|name| scribe.text(*name)).collect(),
            });
            section.table.names.push(RegionName {
                name: scribe.text(name),
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

/// So many findings are kept.
const MOST_FOUND: usize = 5;

/// From where on a region of a name is slow, if enough of them have ended to say so.
fn limit(lengths: &Histogram) -> Option<Nanos> {
    let median = lengths.percentile(0.5);
    (lengths.count() >= FEWEST_SPANS)
        .then(|| Nanos(median.0.saturating_mul(SLOW_SPAN)).max(SLOW_SPAN_LEAST))
}

/// One finding for all regions of a name that were slow for one reason, and the time that they cost.
fn finding(
    cause: &Cause<RegionDone>,
    of: &OfName<RegionDone>,
    limit: Nanos,
    scribe: &Scribe<'_>,
) -> Option<(Nanos, Finding)> {
    let region = cause.slowest.iter().next()?;
    let median = of.lengths.percentile(0.5);
    let length = region.length();
    let score = Score::beyond(length.0 as f64, limit.0 as f64, Unit::Nanos)?;
    let thread = scribe.thread(region.thread);
    let took = match region.open {
        true => "was still in region",
        false => "was in region",
    };
    let mut title = format!(
        "{} {took} `{}` {} {}, where the median of {} is {}",
        thread.label(),
        scribe.text(region.name),
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
        let (most, name) = (duration(inner.total), scribe.text(inner.name));
        title += &format!("; {most} of it in `{name}`{times}");
    }
    let slow = cause.slow(limit, median, RegionDone::length);
    if slow.many > 1 {
        let (more, lost) = (count(slow.many - 1), duration(slow.lost));
        title += &format!(" ({more} more like it, {lost} lost by all of them)");
    }
    let beyond = cause.slowest.iter().filter(|region| region.length() > limit);
    let evidence = beyond.map(|region| evidence(region, scribe)).collect();
    Some((slow.lost, Finding { analysis: "regions", title, score, evidence }))
}

fn evidence(region: &RegionDone, scribe: &Scribe<'_>) -> Evidence {
    let within: Vec<_> = region.within.iter().map(|name| scribe.text(*name)).collect();
    let inside = match within.as_slice() {
        [] => String::new(),
        within => format!(", inside of {}", within.join(" > ")),
    };
    let what = match region.open {
        true => format!("in it up to the end{inside}"),
        false => format!("in it for {}{inside}", duration(region.length())),
    };
    let until = (!region.open).then_some(region.ended);
    let mut evidence = scribe.evidence(what, region.began, until);
    evidence.thread = Some(scribe.thread(region.thread));
    evidence
}
