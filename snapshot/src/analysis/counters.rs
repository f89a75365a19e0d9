//! Counters: between which values they moved.

use super::map::Map;
use super::names::Name;
use super::scribe::Scribe;
use super::{Moment, Section};
use crate::read::Value;
use crate::wire::Nanos;
use crate::words::counted;

const MOST_NAMES: usize = 1024;

/// Counters, by name.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Each of them.
    pub counters: Vec<CounterRange>,
    /// Samples of further counters, which were not looked at.
    pub others: u64,
    /// Samples that are no finite numbers, which are in no range.
    pub not_finite: u64,
}

/// One counter. Values are as `f64`: those beyond 2^53 are rounded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CounterRange {
    /// Its name.
    pub name: String,
    /// How often it was sampled.
    pub samples: u64,
    /// Its first value in the snapshot.
    pub first: f64,
    /// Its last one.
    pub last: f64,
    /// The least.
    pub least: f64,
    /// When it had that, the first time.
    pub least_at: Moment,
    /// The greatest.
    pub most: f64,
    /// When it had that, the first time.
    pub most_at: Moment,
    /// The mean of the samples.
    pub mean: f64,
}

/// Watches counters.
#[derive(Default)]
pub(super) struct CounterWatch {
    counters: Map<Name, Range>,
    others: u64,
    /// Samples that are no finite numbers.
    not_finite: u64,
}

#[derive(Clone, Copy)]
struct Range {
    samples: u64,
    first: f64,
    last: f64,
    least: (f64, Nanos),
    most: (f64, Nanos),
    sum: f64,
}

impl CounterWatch {
    pub(super) fn sample(&mut self, name: Name, value: Value<'_>, at: Nanos) {
        let value = match value {
            Value::Unsigned(value) => value as f64,
            Value::Signed(value) => value as f64,
            Value::Float(value) if value.is_finite() => value,
            _ => {
                self.not_finite += 1;
                return;
            }
        };
        if self.counters.len() >= MOST_NAMES && !self.counters.contains_key(&name) {
            self.others += 1;
            return;
        }
        let (least, most) = ((value, at), (value, at));
        let new = Range { samples: 0, first: value, last: value, least, most, sum: 0.0 };
        let range = self.counters.entry(name).or_insert(new);
        range.samples += 1;
        range.last = value;
        range.sum += value;
        if value < range.least.0 {
            range.least = (value, at);
        }
        if value > range.most.0 {
            range.most = (value, at);
        }
    }

    pub(super) fn finish(self, scribe: &Scribe<'_>) -> Section<Counters> {
        let counters = self.counters.into_iter().map(|(name, range)| CounterRange {
            name: scribe.text(name),
            samples: range.samples,
            first: range.first,
            last: range.last,
            least: range.least.0,
            least_at: scribe.moment(range.least.1),
            most: range.most.0,
            most_at: scribe.moment(range.most.1),
            mean: range.sum / range.samples.max(1) as f64,
        });
        let mut counters: Vec<_> = counters.collect();
        counters.sort_by(|a, b| a.name.cmp(&b.name));
        let not_finite = self.not_finite;
        let unknown = (not_finite > 0).then(|| {
            let samples = counted(not_finite, "sample");
            let are = if not_finite == 1 {
                "is no finite number (NaN,"
            } else {
                "are no finite numbers (NaN,"
            };
            format!("{samples} of counters {are} infinite), and not in their ranges")
        });
        if let (true, Some(unknown)) = (counters.is_empty(), &unknown) {
            return Section::nothing(unknown.clone());
        }
        if counters.is_empty() {
            return Section::nothing("no counter is recorded: `lookback::counter!` samples one");
        }
        let table = Counters { counters, others: self.others, not_finite };
        Section { table, not_assessed: unknown.into_iter().collect(), ..Section::default() }
    }
}
