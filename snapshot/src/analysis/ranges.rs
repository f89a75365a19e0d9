//! Ranges of the whole process: how often there was one, and for how long.

use super::interner::{Name, Names};
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::{Finding, Moment, Score, Section, Unit};
use crate::format::{counted, duration, percent};
use crate::read::OpenRange;
use crate::read::decode::fast_map::Map;
use crate::wire::{FAULTS_RANGE, Nanos, RECLAIM_RANGE, STARVED_RANGE, STOPPED_RANGE};
use std::collections::BTreeMap;

/// The largest part of the time in which memory may be reclaimed, page faults may storm, or the recorder's thread may have no
/// core.
pub const TROUBLED_SHARE: f64 = 0.1;

const MOST_NAMES: usize = 1024;
/// More ranges than a recorder lets be open.
const MOST_OPEN: usize = 4096;

/// Ranges, by name.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Ranges {
    /// The names, those that took the most time first.
    pub names: Vec<RangeName>,
    /// Ranges of further names, which were not analyzed.
    pub others: u64,
}

/// The ranges of one name.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RangeName {
    /// The name.
    pub name: String,
    /// How many there were, open ones included.
    pub count: u64,
    /// How many were still open at the end.
    pub open: u64,
    /// How long all of them took together, within the snapshot.
    pub total: Nanos,
    /// How long the longest took, which may have begun before the snapshot.
    pub longest: Nanos,
    /// When that one began.
    pub longest_at: Moment,
}

/// Watches ranges.
#[derive(Default)]
pub(super) struct RangeWatch {
    /// By their numbers: the name and the begin.
    open: BTreeMap<u64, (Name, Nanos)>,
    names: Map<Name, Seen>,
    others: u64,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    count: u64,
    open: u64,
    total: u64,
    longest: Nanos,
    longest_at: Nanos,
    /// When the last of them ended.
    until: Nanos,
}

impl RangeWatch {
    /// These are open at the end of a generation that begins, those that end or begin in it aside. If they are not `all`, there
    /// may be others.
    pub(super) fn list<'a>(
        &mut self,
        listed: impl Iterator<Item = (OpenRange<'a>, Nanos)>,
        all: bool,
        names: &mut Names,
    ) {
        if all {
            self.open.clear();
        }
        for (range, began) in listed {
            self.begin(range.range, names.name(range.site.name), began);
        }
    }

    pub(super) fn begin(&mut self, range: u64, name: Name, began: Nanos) {
        if self.open.len() < MOST_OPEN {
            self.open.entry(range).or_insert((name, began));
        }
    }

    pub(super) fn end(
        &mut self,
        range: u64,
        name: Name,
        (began, ended): (Nanos, Nanos),
        from: Nanos,
    ) {
        self.open.remove(&range);
        self.add(name, (began, ended), from, false);
    }

    fn add(&mut self, name: Name, (began, ended): (Nanos, Nanos), from: Nanos, is_open: bool) {
        if self.names.len() >= MOST_NAMES && !self.names.contains_key(&name) {
            self.others += 1;
            return;
        }
        let seen = self.names.entry(name).or_default();
        seen.count += 1;
        seen.open += u64::from(is_open);
        seen.total = seen.total.saturating_add(ended.since(began.max(from)).0);
        let length = ended.since(began);
        if length >= seen.longest {
            (seen.longest, seen.longest_at) = (length, began);
        }
        seen.until = seen.until.max(ended);
    }

    pub(super) fn finish(mut self, context: &ReportContext<'_>) -> Section<Ranges> {
        for (name, began) in std::mem::take(&mut self.open).into_values() {
            self.add(name, (began, context.end.max(began)), context.first, true);
        }
        // A stop is told by itself, and all times leave it out.
        let is_told = |name: &Name| context.live.names.text(*name) == STOPPED_RANGE;
        self.names.retain(|name, _| !is_told(name));
        let covered = context.end.since(context.first);
        let findings = self.names.iter().filter_map(|(name, seen)| {
            let score = seen.total as f64 / covered.0.max(1) as f64;
            let score = Score::beyond(score.min(1.0), TROUBLED_SHARE, Unit::Share)?;
            let title = title(context.live.names.text(*name), seen, covered)?;
            let evidence = context.evidence(
                format!("{}, the longest", counted(seen.count, "range")),
                seen.longest_at,
                Some(seen.longest_at.plus(seen.longest)),
            );
            Some(Finding::new("ranges", title, score, vec![evidence]))
        });
        let findings = findings.collect();
        let names = self.names.iter().map(|(name, seen)| RangeName {
            name: context.text(*name),
            count: seen.count,
            open: seen.open,
            total: Nanos(seen.total),
            longest: seen.longest,
            longest_at: context.moment(seen.longest_at),
        });
        let mut names: Vec<_> = names.collect();
        names.sort_by(|a, b| b.total.cmp(&a.total).then(a.name.cmp(&b.name)));
        let table = Ranges { names, others: self.others };
        Section { table, findings, ..Section::default() }.settle(3)
    }
}

/// What a range says that the recorder itself has found.
fn title(name: &str, seen: &Seen, covered: Nanos) -> Option<String> {
    let (total, share) =
        (duration(Nanos(seen.total)), percent(seen.total as f64 / covered.0.max(1) as f64));
    Some(match name {
        FAULTS_RANGE => format!(
            "Page faults stormed for {total} ({share} of the time): memory that is touched for the first time, given back \
             and taken again, or read from storage"
        ),
        RECLAIM_RANGE => format!(
            "The control group was at its limit of memory for {total} ({share} of the time): the kernel reclaimed memory \
             while threads waited"
        ),
        STARVED_RANGE => format!(
            "The recorder's thread had no core for {total} ({share} of the time), so others will have had none either"
        ),
        _ => return None,
    })
}
