//! The time of a snapshot in slices of equal length, to see what goes on and what is over.

use crate::wire::Nanos;

/// How many slices there are.
pub(super) const SLICES: usize = 32;
/// What rises may fall by this part of its growth in between.
const FALL: f64 = 0.25;
/// Shorter ones say little.
const SHORTEST: u64 = 20_000_000;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slices {
    from: u64,
    length: u64,
}

impl Slices {
    /// Of the time between these.
    pub(super) fn between(from: Nanos, until: Nanos) -> Self {
        Self {
            from: from.0,
            length: (until.0.saturating_sub(from.0) / SLICES as u64).max(SHORTEST),
        }
    }

    /// The slice that this is in.
    pub(super) fn at(&self, at: Nanos) -> usize {
        let slice = at.0.saturating_sub(self.from) / self.length.max(1);
        usize::try_from(slice).map_or(SLICES - 1, |slice| slice.min(SLICES - 1))
    }

    /// When a slice begins.
    pub(super) fn begin(&self, slice: usize) -> Nanos {
        Nanos(self.from.saturating_add(self.length.saturating_mul(slice as u64)))
    }

    /// How long each is.
    pub(super) fn length(&self) -> Nanos {
        Nanos(self.length)
    }
}

/// The middle one of these numbers.
pub(super) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}

/// Whether a row of numbers rises: not less than `share` of the steps go up, it never falls by much, and its middle is well
/// above its beginning and below its end, so it is no single jump.
pub(super) fn rises(row: &[f64], share: f64) -> bool {
    let (Some(first), Some(last)) = (row.first(), row.last()) else { return false };
    let up = row.windows(2).filter(|pair| pair[1] > pair[0]).count();
    let (growth, middle) = (last - first, row[row.len() / 2] - first);
    let steps = row.len().saturating_sub(1);
    let (mut most, mut fall) = (*first, 0.0_f64);
    for value in row {
        most = most.max(*value);
        fall = fall.max(most - value);
    }
    steps >= 3
        && up as f64 >= share * steps as f64
        && growth > 0.0
        && fall <= FALL * growth
        && (0.15..=0.85).contains(&(middle / growth))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_in_one_slice() {
        let slices = Slices::between(Nanos(1_000_000_000), Nanos(33_000_000_000));
        let second = |second: u64| Nanos(second * 1_000_000_000);
        assert_eq!([0, 1, 2, 32, 40].map(|at| slices.at(second(at))), [0, 0, 1, 31, 31]);
        assert_eq!((slices.begin(1), slices.length()), (second(2), second(1)));
        let short = Slices::between(Nanos(5), Nanos(6));
        assert_eq!((short.at(Nanos(5)), short.at(Nanos(6))), (0, 0));
    }

    #[test]
    fn what_rises_all_the_time_rises_and_what_jumps_does_not() {
        assert!(rises(&[0.0, 10.0, 20.0, 30.0, 40.0], 0.75));
        assert!(!rises(&[0.0, 0.0, 0.0, 0.0, 40.0], 0.75));
        assert!(!rises(&[0.0, 40.0, 40.0, 40.0, 40.0], 0.75));
        assert!(!rises(&[40.0, 30.0, 20.0, 10.0, 0.0], 0.75));
        assert!(!rises(&[0.0, 10.0, 20.0, 30.0, 40.0, 5.0, 15.0, 25.0, 35.0], 0.75), "it drains");
        assert!(!rises(&[0.0, 40.0], 0.75));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
