//! What is watched by its name: how long it took, how many are still open, and the slowest.

use super::Histogram;
use super::map::Map;
use super::names::Name;
use super::top::Top;
use crate::wire::Nanos;

/// How many of the slowest are kept of a name.
const SLOWEST: usize = 3;
/// Names beyond this many are not told apart.
const MOST_NAMES: usize = 1024;

/// Each name, and how many were of further ones.
pub(super) struct ByName<T> {
    pub(super) names: Map<Name, OfName<T>>,
    pub(super) others: u64,
}

/// What is known of one name.
pub(super) struct OfName<T> {
    /// Of those that ended.
    pub(super) lengths: Histogram,
    pub(super) open: u64,
    pub(super) slowest: Top<T, SLOWEST>,
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self { names: Map::default(), others: 0 }
    }
}

impl<T> Default for OfName<T> {
    fn default() -> Self {
        Self { lengths: Histogram::default(), open: 0, slowest: Top::default() }
    }
}

impl<T> ByName<T> {
    /// One that is over, or that is still open where the snapshot ends.
    pub(super) fn add(&mut self, name: Name, length: Nanos, open: bool, what: T) {
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
        of.slowest.add(length.0, what);
    }

    /// How many of this name are over.
    pub(super) fn ended(&self, name: Name) -> u64 {
        self.names.get(&name).map_or(0, |of| of.lengths.count())
    }
}
