//! From ticks to nanoseconds.

use crate::wire::{ClockRecord, Nanos, Ticks};

/// The line through the clock records of one generation.
///
/// If they are at least a millisecond apart, time is interpolated between them and beyond. So the line meets
/// the next generation's, whose first record is this one's last. Closer records say little about the clock's
/// speed; then its frequency is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    ticks: u64,
    monotonic: u64,
    /// Nanoseconds per tick, times 2^32.
    rate: u64,
}

const MILLISECOND: u64 = 1_000_000;

impl Timeline {
    pub(crate) fn new(began: &ClockRecord, ended: &ClockRecord) -> Self {
        let ticks = ended.ticks.0.saturating_sub(began.ticks.0);
        let nanos = ended.monotonic.0.saturating_sub(began.monotonic.0);
        let rate = if ticks > 0 && nanos >= MILLISECOND {
            (u128::from(nanos) << 32) / u128::from(ticks)
        } else {
            (1_000_000_000_u128 << 32) / u128::from(began.frequency.max(1))
        };
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        Self { ticks: began.ticks.0, monotonic: began.monotonic.0, rate }
    }

    /// The instant, in nanoseconds of the monotonic clock. Instants before its zero become zero.
    #[inline]
    pub(crate) fn at(&self, ticks: Ticks) -> Nanos {
        let since = i128::from(ticks.0.wrapping_sub(self.ticks).cast_signed());
        let nanos = (since * i128::from(self.rate)) >> 32;
        let sum = i128::from(self.monotonic) + nanos;
        Nanos(u64::try_from(sum.max(0)).unwrap_or(u64::MAX))
    }

    /// A duration.
    pub(crate) fn length(&self, from: Ticks, to: Ticks) -> Nanos {
        let ticks = to.0.saturating_sub(from.0);
        let nanos = (u128::from(ticks) * u128::from(self.rate)) >> 32;
        Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(ticks: u64, monotonic: u64, frequency: u64) -> ClockRecord {
        ClockRecord { ticks: Ticks(ticks), monotonic: Nanos(monotonic), frequency, wall: Nanos(0) }
    }

    #[test]
    fn time_meets_both_clock_records() {
        let (began, ended) = (record(1000, 5_000_000, 9), record(188_501_000, 1_005_000_000, 9));
        let line = Timeline::new(&began, &ended);
        assert_eq!(line.at(began.ticks), began.monotonic);
        assert!(line.at(ended.ticks).0.abs_diff(ended.monotonic.0) <= 1);
        assert_eq!(line.at(Ticks(0)).0, 5_000_000 - 5305 - 1);
    }

    #[test]
    fn records_too_close_together_leave_it_to_the_frequency() {
        let line = Timeline::new(&record(0, 100, 1_000_000), &record(9, 999_999, 1_000_000));
        assert_eq!(line.at(Ticks(2)), Nanos(2100));
    }

    proptest! {
        #[test]
        fn any_clock_is_survived(
            began: (u64, u64, u64), ended: (u64, u64, u64), ticks: u64, other: u64
        ) {
            let line = Timeline::new(
                &record(began.0, began.1, began.2),
                &record(ended.0, ended.1, ended.2),
            );
            let _ = (line.at(Ticks(ticks)), line.length(Ticks(ticks), Ticks(other)));
        }
    }
}
