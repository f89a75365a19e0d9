//! How long the recorder's own work took: histograms, for `stats()` and for the end records.

#![forbid(unsafe_code)]

use hdrhistogram::Histogram;
use lookback_snapshot::wire::put_varint;
use std::time::Duration;

/// The longest time that the histograms distinguish.
const LONGEST: u64 = 60_000_000_000;
/// The most buckets of one histogram in an end record; the largest times keep their own.
const BUCKETS: usize = 24;

/// One kind of work: since the start, and since the last end record.
#[derive(Debug)]
pub(crate) struct Timing {
    total: Histogram<u64>,
    interval: Histogram<u64>,
}

impl Timing {
    fn new() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, LONGEST, 2).expect("the bounds are in order");
        Self { total: histogram(), interval: histogram() }
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = (time.as_nanos() as u64).clamp(1, LONGEST);
        self.total.saturating_record(nanos);
        self.interval.saturating_record(nanos);
    }

    /// What was recorded since the last call, as the pairs of an end record.
    pub(crate) fn take_interval(&mut self) -> Vec<(u64, u64)> {
        let mut pairs: Vec<_> = self
            .interval
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
            .collect();
        if pairs.len() > BUCKETS {
            let surplus = pairs.len() - BUCKETS;
            let merged = pairs[..=surplus].iter().map(|(_, count)| count).sum();
            pairs[surplus].1 = merged;
            pairs.drain(..surplus);
        }
        self.interval.reset();
        pairs
    }

    pub(crate) fn summary(&self) -> DurationSummary {
        let at = |quantile: f64| Duration::from_nanos(self.total.value_at_quantile(quantile));
        DurationSummary {
            count: self.total.len(),
            median: at(0.5),
            p99: at(0.99),
            longest: Duration::from_nanos(self.total.max()),
        }
    }
}

/// How long some kind of work has taken since recording started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DurationSummary {
    /// How often it was done.
    pub count: u64,
    /// Half of them took no longer.
    pub median: Duration,
    /// 99 % of them took no longer.
    pub p99: Duration,
    /// The longest of them.
    pub longest: Duration,
}

/// Everything that is timed.
#[derive(Debug)]
pub(crate) struct Timings {
    /// Whole advances.
    pub(crate) advances: Timing,
    /// The part of an advance that waits for writers.
    pub(crate) waits: Timing,
    /// Copying a window out of the arena.
    pub(crate) snapshots: Timing,
}

impl Timings {
    pub(crate) fn new() -> Self {
        Self { advances: Timing::new(), waits: Timing::new(), snapshots: Timing::new() }
    }
}

/// Appends pairs in the file's format.
pub(crate) fn put_pairs(out: &mut Vec<u8>, pairs: &[(u64, u64)]) {
    put_varint(out, pairs.len() as u64);
    for (first, second) in pairs {
        put_varint(out, *first);
        put_varint(out, *second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_few_buckets_and_counts_everything() {
        let mut timing = Timing::new();
        for micros in 1..1000 {
            timing.record(Duration::from_micros(micros));
        }
        let pairs = timing.take_interval();
        assert!(pairs.len() <= BUCKETS);
        assert_eq!(pairs.iter().map(|(_, count)| count).sum::<u64>(), 999);
        assert!(timing.take_interval().is_empty());
        assert_eq!(timing.summary().count, 999);
    }
}
