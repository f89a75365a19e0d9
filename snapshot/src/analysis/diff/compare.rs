//! Asks what differs about each thing, and keeps what is both unlikely to be chance and large enough to matter.

use super::comparable::Comparable;
use super::functions;
use super::lines::without_lines;
use super::series::{Dice, Series};
use super::side::{DiffSide, Key};
use super::statistic::{InUnit, Observed, few_false, levels, ranks, rates};
use super::{
    Change, Diff, Difference, FALSE_SHARE, Kind, LEAST_LENGTH, LEAST_RATIO, LEAST_TAIL_RATIO,
    LEAST_TIME, Numbers, UNCERTAIN, UNCERTAIN_RATIO, What,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Fewer events in all cannot be told from chance by any test, so nothing is asked.
const FEWEST_EVENTS: f64 = 6.0;
/// Fewer lengths on a side say nothing of what is usual, and fewer than that nothing of the slowest.
const FEWEST_LENGTHS: usize = 5;
const FEWEST_FOR_A_TAIL: usize = 40;
/// What a twentieth of both sides exceeds is slow.
const SLOW: f64 = 0.95;
/// Fewer units with a level say nothing of how it varies.
const FEWEST_LEVELS: usize = 4;
/// A share of failures below this does not matter.
const LEAST_FAILURES: f64 = 0.001;
/// So many of those that are too rare are listed.
const MOST_RARE: usize = 50;

/// The things of a side, by what they are known by on both.
type Things<'a> = BTreeMap<Key, Cow<'a, Series>>;

/// One question, and its answer.
pub(super) struct Asked {
    pub(super) change: Change,
    /// Whether it is large enough to matter, if it is not chance.
    pub(super) matters: bool,
}

/// What one thing was asked.
pub(super) struct Thing {
    pub(super) key: Key,
    pub(super) asked: Vec<Asked>,
    pub(super) good: Numbers,
    pub(super) bad: Numbers,
}

pub(super) fn compare(good: &DiffSide, bad: &DiffSide, any_program: bool) -> Diff {
    let comparable = Comparable::of(good, bad, any_program);
    if !comparable.any {
        return Diff { not_comparable: comparable.told, ..Diff::default() };
    }
    let sides = [things(good, &comparable), things(bad, &comparable)];
    let keys: BTreeSet<&Key> = sides.iter().flat_map(BTreeMap::keys).collect();
    let asks = Asks { sides: [good, bad], shares: Shares::of(&sides, [good, bad]) };
    let none = Series::default();
    let mut found = Vec::new();
    for key in keys {
        let series = [0, 1].map(|side| sides[side].get(key).map_or(&none, |of| &**of));
        if is_known(key, &sides, [good, bad], &comparable) {
            found.push(asks.thing(key, series));
        }
    }
    for kind in [Kind::Cpu, Kind::Allocation] {
        if comparable.has(kind) {
            found.extend(functions::things(kind, good, bad, !comparable.same_build));
        }
    }
    let all: Vec<f64> =
        found.iter().flat_map(|thing| &thing.asked).map(|asked| asked.change.p).collect();
    let limit = few_false(&all, FALSE_SHARE);
    let mut diff =
        Diff { not_comparable: comparable.told, asked: all.len() as u64, ..Diff::default() };
    for thing in found {
        diff.sort_in(thing, limit);
    }
    diff.order();
    diff
}

/// Whether both sides would know the thing if they had it.
fn is_known(
    key: &Key,
    sides: &[Things<'_>; 2],
    of: [&DiffSide; 2],
    comparable: &Comparable,
) -> bool {
    let is_filtered = matches!(key.kind, Kind::Span | Kind::ErrorLog | Kind::WarnLog | Kind::Log);
    let missing = (0..2).find(|side| !sides[*side].contains_key(key));
    let is_on_both = missing.is_none();
    comparable.has(key.kind)
        && (is_on_both || comparable.same_filters || !is_filtered)
        && missing.is_none_or(|side| !of[side].left_out.contains_key(&key.kind))
}

/// A side's things; without lines, if the builds differ. What has no known place is taken for what has one, if that is
/// the only one of its name.
fn things<'a>(side: &'a DiffSide, comparable: &Comparable) -> Things<'a> {
    let mut dice = Dice::default();
    let mut things: Things<'a> = BTreeMap::new();
    let mut put = |key: Key, series: &'a Series| match things.entry(key) {
        std::collections::btree_map::Entry::Vacant(new) => {
            new.insert(Cow::Borrowed(series));
        }
        std::collections::btree_map::Entry::Occupied(mut known) => {
            known.get_mut().to_mut().merge(series, &mut dice)
        }
    };
    let mut sorted: Vec<_> = side.things.iter().collect();
    sorted.sort_by_key(|(key, _)| *key);
    for (key, series) in sorted {
        let mut key = key.clone();
        if !comparable.same_build {
            (key.name, key.within) = (without_lines(&key.name), without_lines(&key.within));
        }
        put(key, series);
    }
    things
}

/// How large a part of its kind a thing is.
struct Shares(BTreeMap<Kind, f64>);

impl Shares {
    fn of(sides: &[Things<'_>; 2], of: [&DiffSide; 2]) -> Self {
        let mut most: BTreeMap<Kind, f64> = BTreeMap::new();
        for (side, of) in sides.iter().zip(of) {
            for (key, series) in side {
                let known = most.entry(key.kind).or_default();
                *known = known.max(Self::size(key.kind, series, of));
            }
        }
        Self(most)
    }

    /// How much of it there is: its time, or how often it happens.
    fn size(kind: Kind, series: &Series, of: &DiffSide) -> f64 {
        let covered = of.exposures.iter().sum::<f64>().max(1e-9);
        match kind {
            _ if series.lengths.count() > 0 => series.lengths.total().0 as f64 / covered,
            Kind::Wait | Kind::AliveTasks => series.level.total() / of.listings.total().max(1.0),
            _ => series.times.total() / covered,
        }
    }

    /// A thing that is a tenth of the largest of its kind matters about half as much.
    fn weight(&self, kind: Kind, sizes: [f64; 2]) -> f64 {
        if kind.is_trouble() {
            return 1.0;
        }
        let most = self.0.get(&kind).copied().unwrap_or_default();
        let size = sizes[0].max(sizes[1]);
        if most <= 0.0 || size <= 0.0 { 1.0 } else { (size / most).powf(0.25) }
    }
}

/// What is asked.
struct Asks<'a> {
    sides: [&'a DiffSide; 2],
    shares: Shares,
}

impl Asks<'_> {
    fn thing(&self, key: &Key, series: [&Series; 2]) -> Thing {
        let numbers = [0, 1].map(|side| self.numbers(key.kind, series[side], self.sides[side]));
        let mut asked = Vec::new();
        match key.kind {
            Kind::Counter
            | Kind::System
            | Kind::Runtime
            | Kind::Machine
            | Kind::Wait
            | Kind::AliveTasks => {
                asked.extend(self.level(key.kind, series));
            }
            Kind::Poll => {
                asked.extend(self.length(series, &numbers));
                asked.extend(self.tail(series, &numbers));
                asked.extend(self.long_polls(series));
            }
            _ => {
                asked.extend(self.rate(series, &numbers));
                asked.extend(self.length(series, &numbers));
                asked.extend(self.tail(series, &numbers));
                asked.extend(self.failures(series, &numbers));
            }
        }
        let sizes = [0, 1].map(|side| Shares::size(key.kind, series[side], self.sides[side]));
        let weight = self.shares.weight(key.kind, sizes);
        asked.iter_mut().for_each(|one| one.change.score *= weight);
        Thing { key: key.clone(), asked, good: numbers[0], bad: numbers[1] }
    }

    fn numbers(&self, kind: Kind, of: &Series, side: &DiffSide) -> Numbers {
        let covered = side.exposures.iter().sum::<f64>().max(1e-9);
        let length = |part| of.lengths.percentile(part).0 as f64;
        let total = of.lengths.total().0 as f64;
        let levels = self.levels(kind, of, side);
        Numbers {
            count: of.count,
            per_second: of.times.total() / covered,
            failures: of.marked.total() / of.times.total().max(1.0),
            p50: length(0.5),
            p90: length(0.9),
            p99: length(0.99),
            most: of.lengths.most().0 as f64,
            time: total / 1e9 / covered,
            polled: of.polled as f64 / total.max(1.0),
            level: levels.iter().map(|(value, _)| value).sum::<f64>() / levels.len().max(1) as f64,
        }
    }

    fn observed(
        &self,
        series: [&Series; 2],
        of: fn(&Series) -> &super::series::Sums,
    ) -> [Observed; 2] {
        [0, 1].map(|side| {
            let all = self.sides[side];
            of(series[side]).observed(&all.exposures, all.of_a_file)
        })
    }

    fn units(&self) -> ([usize; 2], [usize; 2]) {
        (self.sides.map(|side| side.of_a_file), self.sides.map(|side| side.exposures.len()))
    }

    fn rate(&self, series: [&Series; 2], numbers: &[Numbers; 2]) -> Option<Asked> {
        let [good, bad] = self.observed(series, |of| &of.times);
        if good.total().0 + bad.total().0 < FEWEST_EVENTS {
            return None;
        }
        let [before, after] = [numbers[0].per_second, numbers[1].per_second];
        // What is more often is more likely a cause than what is rarer, and what is new, most.
        let weight = match before {
            0.0 => 1.0,
            _ if after > before => 0.8,
            _ if after == 0.0 => 0.9,
            _ => 0.5,
        };
        Some(asked(What::Rate, [before, after], rates(&good, &bad), weight, LEAST_RATIO))
    }

    fn length(&self, series: [&Series; 2], numbers: &[Numbers; 2]) -> Option<Asked> {
        if series.iter().any(|of| of.sample.len() < FEWEST_LENGTHS) {
            return None;
        }
        let (of_a_file, units) = self.units();
        let [good, bad] = series.map(lengths);
        let (p, _) = ranks(&good, &bad, of_a_file, units);
        let [before, after] = [numbers[0].p50, numbers[1].p50];
        let weight = if after > before { 1.0 } else { 0.5 };
        let mut asked = asked(What::Length, [before, after], p, weight, LEAST_RATIO);
        asked.matters &= (after - before).abs() >= LEAST_LENGTH
            || (after - before).abs() / 1e9 * numbers[0].per_second.min(numbers[1].per_second)
                >= LEAST_TIME;
        Some(asked)
    }

    /// Whether more of them are slow.
    fn tail(&self, series: [&Series; 2], numbers: &[Numbers; 2]) -> Option<Asked> {
        if series.iter().any(|of| of.sample.len() < FEWEST_FOR_A_TAIL) {
            return None;
        }
        let mut all: Vec<u64> =
            series.iter().flat_map(|of| &of.sample).map(|(length, _)| *length).collect();
        all.sort_unstable();
        let limit = all[(all.len() as f64 * SLOW) as usize];
        let [good, bad] = [0, 1].map(|side| {
            let all = self.sides[side];
            let mut of = Observed {
                counts: vec![0.0; all.exposures.len()],
                exposures: vec![0.0; all.exposures.len()],
                of_a_file: all.of_a_file,
            };
            for (length, unit) in &series[side].sample {
                let unit = *unit as usize;
                of.exposures[unit] += 1.0;
                of.counts[unit] += f64::from(u8::from(*length > limit));
            }
            of
        });
        let [before, after] = [numbers[0].p99, numbers[1].p99];
        let weight = if after > before { 0.8 } else { 0.4 };
        let mut asked =
            asked(What::Tail, [before, after], rates(&good, &bad), weight, LEAST_TAIL_RATIO);
        let share = |of: &Observed| of.total().0 / of.total().1.max(1.0);
        let more = (share(&bad) + 1e-3) / (share(&good) + 1e-3);
        // Both have to say the same.
        asked.matters &= (after - before).abs() >= LEAST_LENGTH && (more > 1.0) == (after > before);
        Some(asked)
    }

    fn failures(&self, series: [&Series; 2], numbers: &[Numbers; 2]) -> Option<Asked> {
        if series.iter().all(|of| of.marked.total() == 0.0)
            || series.iter().any(|of| of.times.total() == 0.0)
        {
            return None;
        }
        let failed = self.observed(series, |of| &of.marked);
        let all = self.observed(series, |of| &of.times);
        let [good, bad] = [0, 1]
            .map(|side| Observed { exposures: all[side].counts.clone(), ..failed[side].clone() });
        let [before, after] = [numbers[0].failures, numbers[1].failures];
        let weight = if after > before { 1.0 } else { 0.5 };
        let mut asked =
            asked(What::Failures, [before, after], rates(&good, &bad), weight, LEAST_RATIO);
        asked.matters &= before.max(after) >= LEAST_FAILURES;
        Some(asked)
    }

    fn long_polls(&self, series: [&Series; 2]) -> Option<Asked> {
        let [good, bad] = self.observed(series, |of| &of.marked);
        if good.total().0 + bad.total().0 < FEWEST_EVENTS {
            return None;
        }
        let per_second = [&good, &bad].map(|of| of.total().0 / of.total().1.max(1e-9));
        let weight = if per_second[1] > per_second[0] { 1.0 } else { 0.5 };
        Some(asked(What::LongPolls, per_second, rates(&good, &bad), weight, LEAST_RATIO))
    }

    fn levels(&self, kind: Kind, of: &Series, side: &DiffSide) -> Vec<InUnit> {
        if !matches!(kind, Kind::Wait | Kind::AliveTasks) {
            return of.levels();
        }
        // Where none was listed, there was none.
        let found: BTreeMap<u32, f64> = of.level.0.iter().copied().collect();
        let listings = side.listings.0.iter();
        listings
            .map(|(unit, many)| {
                (found.get(unit).copied().unwrap_or_default() / many.max(1.0), *unit)
            })
            .collect()
    }

    fn level(&self, kind: Kind, series: [&Series; 2]) -> Option<Asked> {
        let of_a_file = self.sides.map(|side| side.of_a_file);
        let mut what = What::Level;
        let mut values = [0, 1].map(|side| self.levels(kind, series[side], self.sides[side]));
        let is_total =
            |of: &Series| !of.has_fallen && of.risen.total() > 0.0 && of.readings.total() >= 4.0;
        if kind == Kind::Counter && series.iter().all(|of| is_total(of)) {
            what = What::Growth;
            values = [0, 1].map(|side| growth(series[side], self.sides[side]));
        }
        if values.iter().any(|side| side.len() < FEWEST_LEVELS) {
            return None;
        }
        let [before, after] = values
            .each_ref()
            .map(|side| side.iter().map(|(value, _)| value).sum::<f64>() / side.len() as f64);
        let mut p = levels(&values[0], &values[1], of_a_file);
        let least = match kind {
            Kind::Wait | Kind::AliveTasks => {
                // However often it is listed, a task that waits is one task.
                let one =
                    |many: f64| Observed { counts: vec![many], exposures: vec![1.0], of_a_file: 1 };
                p = p.max(rates(&one(before), &one(after)));
                LEAST_RATIO
            }
            Kind::Counter => LEAST_RATIO,
            _ => LEAST_TAIL_RATIO,
        };
        // Where more wait than before, more is wrong than where fewer do.
        let weight = match kind {
            Kind::Wait if after > before => 0.7,
            Kind::Wait | Kind::AliveTasks if after < before => 0.4,
            _ => 0.6,
        };
        let mut asked = asked(what, [before, after], p, weight, least);
        asked.matters &= is_enough(kind, (after - before).abs());
        Some(asked)
    }
}

/// Whether a level of what the recorder reads changed by enough: by values of so many in a second, for it is not known what
/// it counts.
fn is_enough(kind: Kind, by: f64) -> bool {
    match kind {
        Kind::System | Kind::Runtime | Kind::Machine => by >= 10.0,
        _ => by > 0.0,
    }
}

/// How much a counter that never falls rises in a second, in each unit in which it was sampled.
fn growth(of: &Series, side: &DiffSide) -> Vec<InUnit> {
    let long = |unit: u32| side.exposures.get(unit as usize).copied().filter(|long| *long > 0.0);
    of.risen.0.iter().filter_map(|(unit, risen)| Some((risen / long(*unit)?, *unit))).collect()
}

/// The lengths that are kept.
fn lengths(of: &Series) -> Vec<InUnit> {
    of.sample.iter().map(|(length, unit)| (*length as f64, *unit)).collect()
}

/// A change by less than this factor does not matter.
pub(super) fn asked(what: What, [good, bad]: [f64; 2], p: f64, weight: f64, least: f64) -> Asked {
    let (low, high) = (good.min(bad), good.max(bad));
    // Of numbers below zero, the ratio means nothing.
    let part = if low < 0.0 {
        (high - low) / high.abs().max(low.abs())
    } else {
        1.0 - low / high.max(1e-300)
    };
    let part = part.clamp(0.0, 1.0);
    let change = Change { what, good, bad, p, score: part * weight };
    Asked { change, matters: part >= 1.0 - 1.0 / least }
}

impl Diff {
    /// Puts what was asked about a thing where it belongs.
    fn sort_in(&mut self, thing: Thing, limit: f64) {
        let Thing { key, asked, good, bad } = thing;
        let Key { kind, name, within } = key;
        let mut changes: Vec<Change> = Vec::new();
        let mut doubtful: Vec<Change> = Vec::new();
        for Asked { change, matters } in asked {
            let ratio = change.ratio();
            let is_time = matches!(change.what, What::Length | What::Tail | What::LongPolls);
            let is_less = ratio <= 1.0 / UNCERTAIN_RATIO && !is_time;
            let is_large = ratio >= UNCERTAIN_RATIO || is_less;
            match change.p {
                p if matters && p <= limit => changes.push(change),
                p if matters && is_large && p <= UNCERTAIN => doubtful.push(change),
                _ => {}
            }
        }
        let is_difference = !changes.is_empty();
        if !is_difference {
            changes = doubtful;
        }
        // If all take longer, so do the slowest.
        if changes.iter().any(|change| change.what == What::Length) {
            changes.retain(|change| change.what != What::Tail);
        }
        changes.sort_by(|a, b| b.score.total_cmp(&a.score));
        let is_on_one_side = (good.count == 0.0) != (bad.count == 0.0);
        let score = changes.first().map_or(0.0, |change| change.score);
        let is_large = !changes.is_empty();
        let difference = Difference { kind, name, within, changes, good, bad, score };
        match kind {
            Kind::Machine if is_difference => self.around.push(difference),
            _ if is_difference => self.differences.push(difference),
            Kind::Machine => {}
            _ if is_large => self.uncertain.push(difference),
            _ if is_on_one_side => self.rare.push(difference),
            _ => {}
        }
    }

    fn order(&mut self) {
        let by_score = |a: &Difference, b: &Difference| {
            b.score
                .total_cmp(&a.score)
                .then_with(|| (a.kind, &a.name, &a.within).cmp(&(b.kind, &b.name, &b.within)))
        };
        self.differences.sort_by(by_score);
        self.around.sort_by(by_score);
        self.uncertain.sort_by(by_score);
        self.uncertain.truncate(MOST_RARE);
        self.rare.sort_by(|a, b| {
            let rank = |of: &Difference| (!of.kind.is_trouble(), of.bad.count == 0.0);
            let many = |of: &Difference| of.bad.count.max(of.good.count);
            rank(a)
                .cmp(&rank(b))
                .then(many(b).total_cmp(&many(a)))
                .then_with(|| (a.kind, &a.name).cmp(&(b.kind, &b.name)))
        });
        self.rare.truncate(MOST_RARE);
    }
}
