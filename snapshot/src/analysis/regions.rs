//! Regions by name, and those that took far longer than others of their name.

use super::by_name::{ByName, OfName};
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
        if !region.certain {
            self.uncertain += 1;
            return;
        }
        let (name, length, open) = (region.name, region.length(), region.open);
        self.watched.add(name, length, open, region);
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
        let mut found: Vec<(RegionDone, Finding)> = Vec::new();
        for (name, of) in self.watched.names {
            if let Some(worst) = of.slowest.iter().next() {
                let finding = finding(worst, &of, scribe);
                found.extend(finding.map(|finding| (worst.clone(), finding)));
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
        // What is around a slow region is slow, too: the innermost tells it.
        let explained = |outer: &RegionDone| {
            found.iter().any(|(inner, _)| {
                inner.thread == outer.thread
                    && inner.within.len() > outer.within.len()
                    && inner.began >= outer.began
                    && inner.ended <= outer.ended
                    && inner.length().0 >= outer.length().0 / 2
            })
        };
        let kept = found.iter().filter(|(region, _)| !explained(region));
        section.findings = kept.map(|(_, finding)| finding.clone()).collect();
        let total = |name: &RegionName| name.lengths.total().0;
        section
            .table
            .names
            .sort_by(|a, b| total(b).cmp(&total(a)).then_with(|| a.name.cmp(&b.name)));
        section.table.others = self.watched.others;
        section.settle(5)
    }
}

fn finding(region: &RegionDone, of: &OfName<RegionDone>, scribe: &Scribe<'_>) -> Option<Finding> {
    let lengths = &of.lengths;
    if lengths.count() < FEWEST_SPANS {
        return None;
    }
    let median = lengths.percentile(0.5);
    let limit = Nanos(median.0.saturating_mul(SLOW_SPAN)).max(SLOW_SPAN_LEAST);
    let length = region.length();
    let score = Score::beyond(length.0 as f64, limit.0 as f64, Unit::Nanos)?;
    let thread = scribe.thread(region.thread);
    let took = match region.open {
        true => "was still in region",
        false => "was in region",
    };
    let title = format!(
        "{} {took} `{}` {} {}, where the median of {} is {}",
        thread.label(),
        scribe.text(region.name),
        if region.open { "after" } else { "for" },
        duration(length),
        count(lengths.count()),
        duration(median)
    );
    let beyond = of.slowest.iter().filter(|region| region.length() > limit);
    let evidence = beyond.map(|region| evidence(region, scribe)).collect();
    Some(Finding { analysis: "regions", title, score, evidence })
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
