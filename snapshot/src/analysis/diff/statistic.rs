//! Whether a difference is more than chance, with small numbers, with events that come in bursts, and with many questions asked.
//!
//! Every test takes the units of time of both sides (slices of the covered time) and asks how much the units of one side
//! differ among themselves: what comes in bursts differs more than independent events would, and the test believes it
//! less. Bursts can be longer than a unit, so this is asked again with longer units; the least certain answer counts.

/// The counts of each unit of time of a side, and how long each unit was observed.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub(super) counts: Vec<f64>,
    /// In seconds, or in trials; units of 0 count for nothing.
    pub(super) exposures: Vec<f64>,
    /// How many consecutive units are of one file.
    pub(super) of_a_file: usize,
}

impl Observed {
    pub(super) fn total(&self) -> (f64, f64) {
        (self.counts.iter().sum(), self.exposures.iter().sum())
    }

    /// The same in units that are so many times as long; a unit is of one file.
    fn folded(&self, by: usize) -> Vec<(f64, f64)> {
        let by = by.clamp(1, self.of_a_file.max(1));
        let pairs = self.counts.chunks(by).zip(self.exposures.chunks(by));
        let sums = pairs.map(|(counts, long)| (counts.iter().sum(), long.iter().sum()));
        sums.filter(|(_, long): &(f64, f64)| *long > 0.0).collect()
    }
}

/// Fewer files say nothing of how files differ.
const FEWEST_FILES: usize = 5;
/// How many units a longer one has.
const LONGER: usize = 4;

/// How many times the variance that is expected independent events have in one of a hundred cases, if that is based on so
/// many degrees of freedom: the quantile of chi-squared, by Wilson and Hilferty's approximation. What has more comes in bursts.
fn burst(degrees: f64) -> f64 {
    let part = 2.0 / (9.0 * degrees.max(1.0));
    (1.0 - part + 2.326 * part.sqrt()).powi(3)
}

/// The lengths of units to look at: as they are, longer ones, and whole files if there are enough.
fn scales(of_a_file: [usize; 2], units: [usize; 2]) -> Vec<[usize; 2]> {
    let mut scales = vec![[1, 1]];
    if of_a_file.iter().all(|many| *many >= LONGER) {
        scales.push([LONGER, LONGER]);
    }
    let files = [0, 1].map(|side| units[side] / of_a_file[side].max(1));
    if files.iter().all(|many| *many >= FEWEST_FILES) && of_a_file.iter().any(|many| *many > 1) {
        scales.push(of_a_file);
    }
    scales
}

/// How likely counts differ as much by chance if both sides have the same rate: the exact conditional test of two Poisson
/// counts (mid-p, two-sided), of counts that are divided by how much more the units differ than Poisson's would.
pub(super) fn rates(good: &Observed, bad: &Observed) -> f64 {
    let ((n1, e1), (n2, e2)) = (good.total(), bad.total());
    if e1 <= 0.0 || e2 <= 0.0 || n1 + n2 <= 0.0 {
        return 1.0;
    }
    let share = e2 / (e1 + e2);
    let mut worst = 0.0_f64;
    let mut finest = 1.0;
    let lengths = [good.counts.len(), bad.counts.len()];
    for (at, by) in scales([good.of_a_file, bad.of_a_file], lengths).into_iter().enumerate() {
        let (spread, degrees) = dispersion(&good.folded(by[0]), &bad.folded(by[1]));
        if at > 0 && spread < burst(degrees) * finest {
            continue;
        }
        finest = spread.max(finest);
        let exact = mid_p(n2 / spread, n1 / spread, share);
        let p = if spread > burst(degrees) { student(deviate(exact), degrees) } else { exact };
        worst = worst.max(p);
    }
    worst
}

/// How many times as much the units of each side differ as independent events would (1 at least), and on how many degrees
/// of freedom that is based.
fn dispersion(good: &[(f64, f64)], bad: &[(f64, f64)]) -> (f64, f64) {
    let (mut squares, mut degrees) = (0.0, 0.0);
    for side in [good, bad] {
        let (all, long) = side.iter().fold((0.0, 0.0), |(n, e), unit| (n + unit.0, e + unit.1));
        if all <= 0.0 || side.len() < 2 {
            continue;
        }
        let expected = |long_here: f64| all / long * long_here;
        squares += side.iter().map(|(n, e)| (n - expected(*e)).powi(2) / expected(*e)).sum::<f64>();
        degrees += side.len() as f64 - 1.0;
    }
    if degrees < 1.0 { (1.0, 1.0) } else { ((squares / degrees).max(1.0), degrees) }
}

/// A value, and the unit that it was observed in.
pub(super) type InUnit = (f64, u32);

/// How likely ranks differ as much by chance: Mann and Whitney's test, whose variance is that between units where that is
/// greater than that of independent values. Also returns how often a value of the second side is the greater one.
pub(super) fn ranks(
    good: &[InUnit],
    bad: &[InUnit],
    of_a_file: [usize; 2],
    units: [usize; 2],
) -> (f64, f64) {
    let both = good.len() + bad.len();
    if good.len() < 2 || bad.len() < 2 {
        return (1.0, 0.5);
    }
    let mut all: Vec<(f64, bool, u32)> =
        good.iter().map(|(value, unit)| (*value, false, *unit)).collect();
    all.extend(bad.iter().map(|(value, unit)| (*value, true, *unit)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ridits: [Vec<InUnit>; 2] = Default::default();
    let mut at = 0;
    while at < all.len() {
        let same = all[at..].iter().take_while(|one| one.0 == all[at].0).count();
        let rank = (at as f64 + same as f64 / 2.0) / both as f64;
        for (_, is_bad, unit) in &all[at..at + same] {
            ridits[usize::from(*is_bad)].push((rank, *unit));
        }
        at += same;
    }
    let [first, second] = ridits.each_ref().map(|side| mean(side));
    // The mean ranks lie apart by half of that.
    let greater = 0.5 + (second - first);
    (of_means(&ridits, of_a_file, units), greater)
}

/// How likely the means of two sides differ as much by chance; see [`ranks`] for the variance.
fn of_means(sides: &[Vec<InUnit>; 2], of_a_file: [usize; 2], units: [usize; 2]) -> f64 {
    let [n1, n2] = sides.each_ref().map(|side| side.len() as f64);
    let means = sides.each_ref().map(|side| mean(side));
    let squares = |at: usize| sides[at].iter().map(|(r, _)| (r - means[at]).powi(2)).sum::<f64>();
    let plain = (squares(0) + squares(1)) / (n1 + n2 - 2.0).max(1.0) * (1.0 / n1 + 1.0 / n2);
    let apart = (means[1] - means[0]).abs();
    if apart <= 0.0 {
        return 1.0;
    }
    let mut worst = student(apart / plain.max(1e-300).sqrt(), n1 + n2 - 2.0);
    let mut finest = plain;
    for (at, by) in scales(of_a_file, units).into_iter().enumerate() {
        let (first, of_first) = between(&sides[0], means[0], by[0]);
        let (second, of_second) = between(&sides[1], means[1], by[1]);
        let degrees = welch(first, of_first, second, of_second);
        let more = if at == 0 { 1.0 } else { burst(degrees) };
        if first + second < more * finest {
            continue;
        }
        finest = finest.max(first + second);
        worst = worst.max(student(apart / (first + second).sqrt(), degrees));
    }
    worst
}

fn mean(of: &[InUnit]) -> f64 {
    of.iter().map(|(value, _)| value).sum::<f64>() / of.len().max(1) as f64
}

/// The variance of a side's mean by how its units differ, and the number of units that have values.
fn between(side: &[InUnit], mean: f64, by: usize) -> (f64, f64) {
    let mut sums: std::collections::BTreeMap<u32, f64> = std::collections::BTreeMap::new();
    for (value, unit) in side {
        *sums.entry(unit / by.max(1) as u32).or_default() += value - mean;
    }
    let many = sums.len() as f64;
    if many < 2.0 {
        return (0.0, 1.0);
    }
    let squares = sums.values().map(|sum| sum * sum).sum::<f64>();
    (squares / (side.len() as f64).powi(2) * many / (many - 1.0), many)
}

fn welch(first: f64, of_first: f64, second: f64, of_second: f64) -> f64 {
    let part = |variance: f64, many: f64| variance * variance / (many - 1.0).max(1.0);
    let below = part(first, of_first) + part(second, of_second);
    if below > 0.0 { (first + second).powi(2) / below } else { 1.0 }
}

/// How likely levels (one value for each unit that has one) differ as much by chance. A level stays as it is for a while, which
/// longer units show. No level is known better than to a hundredth.
pub(super) fn levels(good: &[InUnit], bad: &[InUnit], of_a_file: [usize; 2]) -> f64 {
    let apart = (mean(bad) - mean(good)).abs();
    let (mut worst, mut finest) = (0.0_f64, 0.0_f64);
    for by in [1, LONGER, 2 * LONGER] {
        let sides = [(good, of_a_file[0]), (bad, of_a_file[1])]
            .map(|(side, most)| blocks(side, by.min(most.max(1))));
        if sides.iter().any(|side| side.len() < 3) {
            continue;
        }
        let [first, second] = sides.each_ref().map(|side| {
            let many = side.len() as f64;
            let mean = side.iter().sum::<f64>() / many;
            let squares = side.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
            (squares / (many - 1.0)).max((mean / 100.0).powi(2)) / many
        });
        let degrees = welch(first, sides[0].len() as f64, second, sides[1].len() as f64);
        if by > 1 && first + second < burst(degrees) * finest {
            continue;
        }
        finest = finest.max(first + second);
        worst = worst.max(student(apart / (first + second).max(1e-300).sqrt(), degrees));
    }
    if worst == 0.0 && (good.len() < 3 || bad.len() < 3) { 1.0 } else { worst }
}

/// The means of so many consecutive units.
fn blocks(side: &[InUnit], by: usize) -> Vec<f64> {
    let mut found: Vec<(u32, f64, f64)> = Vec::new();
    for (value, unit) in side {
        let block = unit / by as u32;
        match found.last_mut() {
            Some((last, sum, many)) if *last == block => {
                (*sum, *many) = (*sum + value, *many + 1.0)
            }
            _ => found.push((block, *value, 1.0)),
        }
    }
    found.iter().map(|(_, sum, many)| sum / many).collect()
}

/// Which of these probabilities stay below their share of `most`, the expected part of false ones among those that do:
/// Benjamini and Hochberg.
pub(super) fn few_false(all: &[f64], most: f64) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    let many = sorted.len().max(1) as f64;
    let limit =
        sorted.iter().enumerate().rev().find(|(at, p)| **p <= (*at + 1) as f64 / many * most);
    limit.map_or(-1.0, |(_, p)| *p)
}

/// Of `ours + theirs` events, each ours with this probability: how likely `ours` is as far from what is expected, in either
/// direction, with half the probability of the very number. The numbers need not be whole.
fn mid_p(ours: f64, theirs: f64, share: f64) -> f64 {
    let at_least = if ours <= 0.0 { 1.0 } else { beta(ours, theirs + 1.0, share) };
    let more = if theirs <= 0.0 { 0.0 } else { beta(ours + 1.0, theirs, share) };
    let upper = f64::midpoint(at_least, more);
    let at_most = if theirs <= 0.0 { 1.0 } else { beta(theirs, ours + 1.0, 1.0 - share) };
    let fewer = if ours <= 0.0 { 0.0 } else { beta(theirs + 1.0, ours, 1.0 - share) };
    (2.0 * upper.min(f64::midpoint(at_most, fewer))).min(1.0)
}

/// How likely Student's t with so many degrees of freedom is at least this far from 0.
fn student(t: f64, degrees: f64) -> f64 {
    if !t.is_finite() {
        return 0.0;
    }
    let degrees = degrees.clamp(1.0, 1e6);
    beta(degrees / 2.0, 0.5, degrees / (degrees + t * t))
}

/// How far from 0 a standard normal variable is with this probability: the inverse of `student` with many degrees of freedom.
fn deviate(p: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 40.0_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if student(middle, 1e6) > p { low = middle } else { high = middle }
    }
    low
}

/// The regularized incomplete beta function, by its continued fraction (modified Lentz's method).
fn beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    // The fraction converges fast below the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return (1.0 - beta_below(b, a, 1.0 - x)).clamp(0.0, 1.0);
    }
    beta_below(a, b, x).clamp(0.0, 1.0)
}

fn beta_below(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..2000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-12 {
            break;
        }
    }
    front.exp() * fraction / a
}

/// The logarithm of the gamma function of a positive number: Stirling's series, far enough out.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 0.0);
    while x < 12.0 {
        below += x.ln();
        x += 1.0;
    }
    let one = 1.0 / x;
    let two = one * one;
    let series = one * (1.0 / 12.0 - two * (1.0 / 360.0 - two * (1.0 / 1260.0 - two / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - below
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, right: f64) {
        assert!((found - right).abs() <= 1e-6 + 1e-4 * right, "{found} is not {right}");
    }

    fn steady(each: f64, units: usize) -> Observed {
        Observed { counts: vec![each; units], exposures: vec![1.0; units], of_a_file: units }
    }

    #[test]
    fn the_functions_are_those_of_the_tables() {
        near(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln());
        near(ln_gamma(10.0), 362_880.0_f64.ln());
        near(student(2.228_139, 10.0), 0.05);
        near(student(1.96, 1e6), 0.049_996);
        near(deviate(0.05), 1.959_96);
        // Of 10 fair coins, 8 or more, or 2 or less, with half the probability of 8 and of 2.
        near(mid_p(8.0, 2.0, 0.5), 2.0 * (45.0 / 2.0 + 10.0 + 1.0) / 1024.0);
        near(mid_p(0.0, 5.0, 0.5), 1.0 / 32.0);
        near(mid_p(5.0, 5.0, 0.5), 1.0);
    }

    #[test]
    fn a_burst_is_one_event_and_not_many() {
        let (mut burst, none) = (steady(0.0, 32), steady(0.0, 32));
        burst.counts[7] = 100.0;
        assert!(rates(&none, &burst) > 0.1);
        assert!(rates(&none, &steady(3.0, 32)) < 1e-9);
    }

    #[test]
    fn chi_squared_is_that_of_the_tables() {
        assert!(
            (burst(7.0) - 18.475 / 7.0).abs() < 0.02 && (burst(31.0) - 52.19 / 31.0).abs() < 0.01
        );
    }

    #[test]
    fn bursts_that_are_longer_than_a_unit_are_seen() {
        let long = |from: usize| {
            let mut of = steady(1.0, 32);
            of.counts[from..from + 8].fill(9.0);
            of
        };
        let mut quiet = steady(1.0, 32);
        quiet.counts[0] = 2.0;
        assert!(rates(&quiet, &long(8)) > 1e-3, "{}", rates(&quiet, &long(8)));
    }

    #[test]
    fn values_that_belong_together_count_less() {
        let values = |base: f64, together: bool| -> Vec<InUnit> {
            let one = |at: u32| {
                let unit = at / 16;
                let by = if together { f64::from(unit % 3) } else { f64::from(at % 3) };
                (base + by + f64::from(at % 7) / 100.0, unit)
            };
            (0..256).map(one).collect()
        };
        let of =
            |together| ranks(&values(0.0, together), &values(0.4, together), [32, 32], [32, 32]).0;
        assert!(of(false) < 1e-4 && of(true) > 100.0 * of(false), "{} {}", of(false), of(true));
    }

    #[test]
    fn of_many_questions_few_answers_are_false() {
        let mut all: Vec<f64> = (1..=100).map(|at| f64::from(at) / 100.0).collect();
        assert!(few_false(&all, 0.005) < 0.0);
        all.push(1e-6);
        near(few_false(&all, 0.005), 1e-6);
    }
}
