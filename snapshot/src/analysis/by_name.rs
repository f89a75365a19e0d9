//! Statistics by name: how long they took, how many are still open, and the slowest, grouped by what slowed
//! them down.

use super::Histogram;
use super::inner::Part;
use super::interner::Name;
use super::nanos_ext::Length;
use super::top_n::Top;
use crate::read::decode::fast_map::Map;
use crate::wire::Nanos;

/// How many of the slowest to keep for a name, and for each cause.
const SLOWEST: usize = 3;
/// The most names that are distinguished.
pub(super) const MOST_NAMES: usize = 1024;
/// The most causes that are distinguished for a name.
const MOST_CAUSES: usize = 6;

/// The names, and a count of those with further names.
pub(super) struct ByName<T> {
    pub(super) names: Map<Name, OfName<T>>,
    pub(super) others: u64,
}

/// The statistics of one name.
pub(super) struct OfName<T> {
    /// Of those that have ended.
    pub(super) lengths: Histogram,
    pub(super) open: u64,
    pub(super) slowest: Top<T, SLOWEST>,
    pub(super) causes: Vec<Cause<T>>,
}

/// Those of a name that spent most of their time in the same thing.
pub(super) struct Cause<T> {
    /// What took at least half of their time.
    pub(super) inside: Option<Name>,
    /// The longest of those things.
    pub(super) longest_inside: Nanos,
    lengths: Histogram,
    pub(super) slowest: Top<T, SLOWEST>,
}

/// How many took too long, and how much time that cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slow {
    pub(super) many: u64,
    pub(super) lost: Nanos,
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self { names: Map::default(), others: 0 }
    }
}

impl<T> Default for OfName<T> {
    fn default() -> Self {
        let (lengths, open, slowest, causes) = Default::default();
        Self { lengths, open, slowest, causes }
    }
}

impl<T: Clone> ByName<T> {
    /// Adds one that has ended, or is still open at the end of the snapshot, with what it was inside for most
    /// of the time.
    pub(super) fn add(
        &mut self,
        name: Name,
        length: Nanos,
        open: bool,
        inside: Option<Part>,
        what: T,
    ) {
        if self.names.len() >= MOST_NAMES && !self.names.contains_key(&name) {
            self.others += 1;
            return;
        }
        let of = self.names.entry(name).or_default();
        if open {
            of.open += 1;
        } else {
            of.lengths.add(length);
        }
        of.because(length, inside, &what);
        of.slowest.add(length.0, what);
    }

    /// Counts one that is open and of no further interest.
    pub(super) fn only_open(&mut self, name: Name, length: Nanos, what: T) {
        if self.names.len() < MOST_NAMES || self.names.contains_key(&name) {
            let of = self.names.entry(name).or_default();
            of.open += 1;
            of.slowest.add(length.0, what);
        }
    }

    /// How many of this name have ended.
    pub(super) fn ended(&self, name: Name) -> u64 {
        self.names.get(&name).map_or(0, |of| of.lengths.count())
    }
}

impl<T: Clone> OfName<T> {
    fn because(&mut self, length: Nanos, part: Option<Part>, what: &T) {
        let mut inside = part.map(|part| part.name);
        // Beyond the limit, they count as having no cause.
        if self.causes.len() >= MOST_CAUSES && !self.causes.iter().any(|c| c.inside == inside) {
            inside = None;
        }
        let at = self.causes.iter().position(|cause| cause.inside == inside);
        let at = at.unwrap_or_else(|| {
            let (lengths, slowest) = Default::default();
            self.causes.push(Cause { inside, longest_inside: Nanos(0), lengths, slowest });
            self.causes.len() - 1
        });
        let cause = &mut self.causes[at];
        cause.lengths.add(length);
        if let Some(part) = part.filter(|_| inside.is_some()) {
            cause.longest_inside = cause.longest_inside.max(part.longest);
        }
        if cause.slowest.wants(length.0) {
            cause.slowest.add(length.0, what.clone());
        }
    }
}

impl<T> Cause<T> {
    /// Those that took longer than `limit`, where `usual` is the usual length.
    pub(super) fn slow(&self, limit: Nanos, usual: Nanos, length: impl Fn(&T) -> Nanos) -> Slow {
        let known: Vec<_> = self.slowest.iter().map(length).filter(|took| *took > limit).collect();
        let lost =
            |all: &[Nanos]| all.iter().fold(Nanos(0), |sum, took| sum.plus(took.since(usual)));
        // With few of them, their lengths are exact.
        if known.len() < SLOWEST || self.lengths.count() <= SLOWEST as u64 {
            return Slow { many: known.len() as u64, lost: lost(&known) };
        }
        let (many, total) = self.lengths.beyond(limit);
        let usually = u128::from(usual.0) * u128::from(many);
        let all = u64::try_from(total.saturating_sub(usually)).unwrap_or(u64::MAX);
        Slow { many: many.max(known.len() as u64), lost: Nanos(all).max(lost(&known)) }
    }
}
