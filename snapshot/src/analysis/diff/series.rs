//! What is kept of one thing (a span of this name, a message of this shape) on one side.

use super::statistic::{InUnit, Observed};
use crate::analysis::Histogram;
use crate::wire::Nanos;

/// How many lengths of a thing are kept as they were, each as likely as any other.
const KEPT: usize = 512;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    /// How often it happened.
    pub(super) count: f64,
    /// The same where the covered time is counted: not where events were lost.
    pub(super) times: Sums,
    /// Those that failed; of polls, those that were long.
    pub(super) marked: Sums,
    /// What each stands for, together: bytes, nanoseconds.
    pub(super) weight: f64,
    pub(super) lengths: Histogram,
    pub(super) sample: Vec<(u64, u32)>,
    /// How much of the lengths tasks spent in polls.
    pub(super) polled: u128,
    /// Sums and numbers of values of a level.
    pub(super) level: Sums,
    pub(super) readings: Sums,
    /// By how much it rose, and whether it ever fell.
    pub(super) risen: Sums,
    pub(super) has_fallen: bool,
    pub(super) last: Option<f64>,
}

impl Series {
    pub(super) fn count(&mut self, unit: Option<u32>, many: f64) {
        self.count += many;
        if let Some(unit) = unit {
            self.times.add(unit, many);
        }
    }

    pub(super) fn length(&mut self, unit: u32, length: Nanos, dice: &mut Dice) {
        self.lengths.add(length);
        if self.sample.len() < KEPT {
            self.sample.push((length.0, unit));
        } else if let Some(kept) = self.sample.get_mut(dice.below(self.lengths.count()) as usize) {
            *kept = (length.0, unit);
        }
    }

    pub(super) fn level(&mut self, unit: u32, value: f64) {
        self.level.add(unit, value);
        self.readings.add(unit, 1.0);
        if let Some(last) = self.last.replace(value) {
            self.has_fallen |= value < last;
            self.risen.add(unit, (value - last).max(0.0));
        }
    }

    /// The mean level in each unit that has one.
    pub(super) fn levels(&self) -> Vec<InUnit> {
        let readings = self.readings.0.iter();
        let means = self.level.0.iter().zip(readings);
        means.map(|((unit, sum), (_, many))| (sum / many.max(1.0), *unit)).collect()
    }

    /// Adds what another thing had that counts as the same.
    pub(super) fn merge(&mut self, other: &Self, dice: &mut Dice) {
        let (ours, theirs) = (self.lengths.count(), other.lengths.count());
        self.count += other.count;
        self.weight += other.weight;
        self.polled += other.polled;
        self.has_fallen |= other.has_fallen;
        self.times.merge(&other.times);
        self.marked.merge(&other.marked);
        self.level.merge(&other.level);
        self.readings.merge(&other.readings);
        self.risen.merge(&other.risen);
        self.lengths.merge(&other.lengths);
        // Each length stays as likely to be kept as any other.
        let (mut mine, mut more) = (std::mem::take(&mut self.sample), other.sample.clone());
        let (mut ours, mut theirs) = (ours, theirs);
        while self.sample.len() < KEPT && !(mine.is_empty() && more.is_empty()) {
            let is_mine = dice.below((ours + theirs).max(1)) < ours;
            let from = if (is_mine && !mine.is_empty()) || more.is_empty() {
                &mut mine
            } else {
                &mut more
            };
            let at = dice.below(from.len() as u64) as usize;
            self.sample.push(from.swap_remove(at));
            if is_mine { ours = ours.saturating_sub(1) } else { theirs = theirs.saturating_sub(1) }
        }
    }
}

/// Sums by unit of time, in the order of units.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums(pub(super) Vec<(u32, f64)>);

impl Sums {
    pub(super) fn add(&mut self, unit: u32, more: f64) {
        match self.0.last_mut() {
            Some((last, sum)) if *last == unit => *sum += more,
            Some((last, _)) if *last > unit => {
                match self.0.binary_search_by_key(&unit, |one| one.0) {
                    Ok(at) => self.0[at].1 += more,
                    Err(at) => self.0.insert(at, (unit, more)),
                }
            }
            _ => self.0.push((unit, more)),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(unit, more)| self.add(*unit, *more));
    }

    pub(super) fn total(&self) -> f64 {
        self.0.iter().map(|(_, sum)| sum).sum()
    }

    /// One count for each of these units.
    pub(super) fn observed(&self, exposures: &[f64], of_a_file: usize) -> Observed {
        let mut counts = vec![0.0; exposures.len()];
        for (unit, sum) in &self.0 {
            if let Some(count) = counts.get_mut(*unit as usize) {
                *count += sum;
            }
        }
        Observed { counts, exposures: exposures.to_vec(), of_a_file }
    }
}

/// Pseudo-random numbers, the same ones each time: splitmix64.
#[derive(Clone, Debug, Default)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(mixed ^ (mixed >> 31)) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_things_that_count_as_one_each_length_is_as_likely_to_be_kept() {
        let mut dice = Dice::default();
        let mut of = |length: u64, many: u32| {
            let mut series = Series::default();
            (0..many).for_each(|_| series.length(0, Nanos(length), &mut dice));
            series
        };
        let (mut first, second) = (of(1, 9000), of(2, 3000));
        first.merge(&second, &mut Dice::default());
        let seconds = first.sample.iter().filter(|(length, _)| *length == 2).count();
        assert_eq!((first.sample.len(), first.lengths.count()), (KEPT, 12_000));
        assert!((90..170).contains(&seconds), "a quarter of {KEPT}: {seconds}");
    }

    #[test]
    fn sums_stay_in_order_whenever_they_come() {
        let mut sums = Sums::default();
        for unit in [3, 1, 3, 2, 5, 1] {
            sums.add(unit, 1.0);
        }
        assert_eq!(sums.0, [(1, 2.0), (2, 1.0), (3, 2.0), (5, 1.0)]);
        assert_eq!(sums.observed(&[1.0; 4], 4).counts, [0.0, 2.0, 1.0, 2.0]);
    }
}
