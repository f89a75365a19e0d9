//! Counts durations in buckets that are a thirty-second of their value wide.

use crate::wire::Nanos;

/// The number of buckets per octave, as a power of two.
const FINE: u32 = 5;

/// A histogram of durations. Its percentiles are too high by 3.2 % at most; the least and the greatest value
/// are exact.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: Vec<u32>,
    count: u64,
    total: u128,
    least: u64,
    most: u64,
}

impl Histogram {
    /// Adds a duration.
    pub(super) fn add(&mut self, length: Nanos) {
        let at = bucket(length.0);
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] = self.buckets[at].saturating_add(1);
        self.least = if self.count == 0 { length.0 } else { self.least.min(length.0) };
        self.most = self.most.max(length.0);
        self.count += 1;
        self.total += u128::from(length.0);
    }

    /// Adds all that another one counts.
    pub(super) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum = sum.saturating_add(*more);
        }
        self.least = if self.count == 0 { other.least } else { self.least.min(other.least) };
        self.most = self.most.max(other.most);
        self.count += other.count;
        self.total += other.total;
    }

    /// Where a duration is counted: of two durations, the longer one is not counted before the shorter one.
    pub(super) fn bucket_of(length: Nanos) -> usize {
        bucket(length.0)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    #[must_use]
    pub fn total(&self) -> Nanos {
        Nanos(u64::try_from(self.total).unwrap_or(u64::MAX))
    }

    /// The shortest; zero if there is none.
    #[must_use]
    pub fn least(&self) -> Nanos {
        Nanos(self.least)
    }

    /// The longest; zero if there is none.
    #[must_use]
    pub fn most(&self) -> Nanos {
        Nanos(self.most)
    }

    /// How many are longer than this, and their sum. By buckets: up to 3.2 % too long, and without those in
    /// the limit's own bucket.
    pub(super) fn beyond(&self, limit: Nanos) -> (u64, u128) {
        let (mut many, mut total) = (0_u64, 0_u128);
        for (at, count) in self.buckets.iter().enumerate().skip(bucket(limit.0) + 1) {
            many += u64::from(*count);
            total += u128::from(*count) * u128::from(upper(at).min(self.most));
        }
        (many, total)
    }

    /// What this fraction of them (0 to 1) does not exceed; zero if there is none.
    #[must_use]
    pub fn percentile(&self, part: f64) -> Nanos {
        let rank = (self.count as f64 * part.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, many) in self.buckets.iter().enumerate() {
            seen += u64::from(*many);
            if seen >= rank {
                return Nanos(upper(at).clamp(self.least, self.most));
            }
        }
        Nanos(self.most)
    }
}

fn bucket(value: u64) -> usize {
    if value < 1 << FINE {
        return value as usize;
    }
    let octave = value.ilog2() - FINE;
    ((octave as usize) << FINE) + (value >> octave) as usize
}

/// The greatest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let octave = (bucket >> FINE).saturating_sub(1);
    let first = (bucket - (octave << FINE)) as u64;
    ((u128::from(first + 1) << octave) - 1).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_of_a_ramp_are_near() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.add(Nanos(value * 1000)));
        for (part, right) in [(0.5, 500_000), (0.9, 900_000), (0.99, 990_000)] {
            let found = histogram.percentile(part).0;
            assert!((right..right + right / 31).contains(&found), "{part}: {found}");
        }
        assert_eq!((histogram.least(), histogram.most()), (Nanos(1000), Nanos(1_000_000)));
        assert_eq!(histogram.percentile(1.0), Nanos(1_000_000));
        assert_eq!(histogram.percentile(0.0).0 / 100, 10);
    }

    #[test]
    fn what_is_beyond_a_limit_is_counted_and_added_up() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.add(Nanos(value * 1000)));
        let (many, total) = histogram.beyond(Nanos(900_000));
        let right: u128 = (901..=1000).map(|value| value * 1000).sum();
        assert!((70..=100).contains(&many), "{many}");
        assert!(total <= right + right / 31 && total >= right * 7 / 10, "{total} of {right}");
        assert_eq!(histogram.beyond(Nanos(1_000_000)), (0, 0));
        assert_eq!(histogram.beyond(Nanos(0)).0, 1000);
    }

    #[test]
    fn of_nothing_all_is_zero() {
        let none = Histogram::default();
        assert_eq!((none.percentile(0.5), none.most(), none.count()), (Nanos(0), Nanos(0), 0));
    }

    proptest! {
        #[test]
        fn a_value_is_in_its_bucket(value: u64) {
            let at = bucket(value);
            prop_assert!(value <= upper(at));
            prop_assert!(at == 0 || value > upper(at - 1));
            prop_assert!(upper(at) - value <= value / 32);
        }
    }
}
