//! Functions in the stacks of samples: whose share of CPU time or of allocations has changed.

use super::compare::{Asked, Thing, asked};
use super::lines::without_lines;
use super::series::Series;
use super::side::{DiffSide, Key};
use super::statistic::{Observed, rates};
use super::{Function, Kind, LEAST_RATIO, Numbers, What};
use std::collections::{BTreeMap, HashMap};

/// What is less than this part of all samples on both sides is not asked about.
const LEAST_SHARE: f64 = 0.01;
/// A function is not listed if a function that it calls explains so much of its change.
const EXPLAINED: f64 = 0.8;
/// CPU seconds, and bytes, a second that matter.
const LEAST_CPU: f64 = 0.005;
const LEAST_BYTES: f64 = 65_536.0;

/// So many functions are asked about: those with the most samples.
const MOST_FUNCTIONS: usize = 200;

/// The names of functions, numbered for both sides.
#[derive(Default)]
struct Names {
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Names {
    fn number(&mut self, text: String) -> u32 {
        let next = self.texts.len() as u32;
        let number = *self.numbers.entry(text.clone()).or_insert(next);
        if number == next {
            self.texts.push(text);
        }
        number
    }
}

/// A side's stacks of a kind: the functions, innermost first, each once, and the samples.
type Stacks<'a> = Vec<(Vec<u32>, &'a Series)>;

pub(super) fn things(kind: Kind, good: &DiffSide, bad: &DiffSide, no_lines: bool) -> Vec<Thing> {
    let sides = [good, bad];
    let is_own = |side: &DiffSide| side.stacks.functions.iter().any(|function| function.is_own);
    let has_own = sides.iter().any(|side| is_own(side));
    let mut names = Names::default();
    let stacks = sides.map(|side| stacks(kind, side, has_own, no_lines, &mut names));
    let total = |of: &Stacks<'_>| of.iter().map(|(_, series)| series.times.total()).sum::<f64>();
    let mut parts: BTreeMap<u32, f64> = BTreeMap::new();
    for of in &stacks {
        let all = total(of).max(1.0);
        let mut here: BTreeMap<u32, f64> = BTreeMap::new();
        for (functions, series) in of {
            for function in functions {
                *here.entry(*function).or_default() += series.times.total() / all;
            }
        }
        for (function, share) in here {
            let known = parts.entry(function).or_default();
            *known = known.max(share);
        }
    }
    let mut parts: Vec<_> = parts.into_iter().filter(|(_, share)| *share >= LEAST_SHARE).collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    parts.truncate(MOST_FUNCTIONS);
    let numbers: Vec<u32> = parts.into_iter().map(|(function, _)| function).collect();
    let thing =
        |number: &u32| thing(kind, (*number, &names.texts[*number as usize]), sides, &stacks);
    let mut things: Vec<Thing> = numbers.iter().map(thing).collect();
    leave_out_explained(&mut things, &numbers, sides, &stacks);
    things
}

fn stacks<'a>(
    kind: Kind,
    side: &'a DiffSide,
    only_own: bool,
    no_lines: bool,
    names: &mut Names,
) -> Stacks<'a> {
    let of = side.stacks.samples.iter().filter(|((of, _), _)| *of == kind);
    let mut all: Vec<_> = of.map(|((_, stack), series)| (stack, series)).collect();
    // The order of a map is another one each time.
    all.sort_by(|a, b| a.0.cmp(b.0));
    let mut numbers = |function: &Function| {
        let text = if no_lines { without_lines(&function.name) } else { function.name.clone() };
        names.number(text)
    };
    let functions = side.stacks.functions.iter();
    let known: Vec<_> = functions
        .map(|function| (function.is_own || !only_own).then(|| numbers(function)))
        .collect();
    let list = |stack: &Vec<u32>| {
        let mut list: Vec<u32> = Vec::new();
        for number in stack.iter().filter_map(|at| known.get(*at as usize).copied().flatten()) {
            if !list.contains(&number) {
                list.push(number);
            }
        }
        list
    };
    all.into_iter().map(|(stack, series)| (list(stack), series)).collect()
}

/// The samples that have this function in their stacks, and how much they stand for, in a second.
fn observed(kind: Kind, of: u32, side: &DiffSide, stacks: &Stacks<'_>) -> (Observed, f64) {
    let (exposures, of_a_file) = (side.exposures.clone(), side.of_a_file);
    let mut found = Observed { counts: vec![0.0; exposures.len()], exposures, of_a_file };
    let mut weight = 0.0;
    for (functions, series) in stacks {
        if functions.contains(&of) {
            for (unit, many) in &series.times.0 {
                found.counts[*unit as usize] += many;
            }
            weight += series.weight;
        }
    }
    (found, weight * per_second(kind, side))
}

/// What a sample of weight 1 stands for, in a second.
fn per_second(kind: Kind, side: &DiffSide) -> f64 {
    let hertz = side.about.cpu_samples.iter().next_back().copied().unwrap_or(1) as f64;
    let each = if kind == Kind::Cpu { 1.0 / hertz } else { 1.0 };
    each / side.exposures.iter().sum::<f64>().max(1e-9)
}

fn thing(
    kind: Kind,
    (number, name): (u32, &str),
    sides: [&DiffSide; 2],
    stacks: &[Stacks<'_>; 2],
) -> Thing {
    let both = [0, 1].map(|side| observed(kind, number, sides[side], &stacks[side]));
    let values = [both[0].1, both[1].1];
    let numbers = both.each_ref().map(|(of, value)| Numbers {
        count: of.total().0,
        per_second: *value,
        ..Numbers::default()
    });
    let (weight, least) = match kind {
        Kind::Cpu => (0.8, LEAST_CPU),
        _ => (0.7, LEAST_BYTES),
    };
    let weight = if values[1] > values[0] { weight } else { weight / 2.0 };
    let p = rates(&both[0].0, &both[1].0);
    let mut asked: Asked = asked(What::Rate, values, p, weight, LEAST_RATIO);
    asked.matters &= (values[1] - values[0]).abs() >= least;
    let [good, bad] = numbers;
    let key = Key { kind, name: name.to_owned(), within: String::new() };
    Thing { key, asked: vec![asked], good, bad }
}

/// A function changes with those that it calls: keeps the innermost one that explains the change.
fn leave_out_explained(
    things: &mut [Thing],
    numbers: &[u32],
    sides: [&DiffSide; 2],
    stacks: &[Stacks<'_>; 2],
) {
    let has_changed = |thing: &Thing| thing.asked.first().is_some_and(|asked| asked.matters);
    let mut changed: Vec<_> = things.iter_mut().zip(numbers).collect();
    changed.retain(|(thing, _)| has_changed(thing));
    let places: HashMap<u32, usize> =
        changed.iter().enumerate().map(|(at, (_, number))| (**number, at)).collect();
    let together = Together::of(&places, stacks);
    for (outer, (thing, _)) in changed.iter_mut().enumerate() {
        let change = thing.bad.per_second - thing.good.per_second;
        let kind = thing.key.kind;
        let is_explained = together.of_outer(outer).any(|pair| {
            let [good, bad] = [0, 1].map(|side| pair.weights[side] * per_second(kind, sides[side]));
            pair.inside > pair.around && (bad - good) / change >= EXPLAINED
        });
        if is_explained {
            thing.asked[0].matters = false;
        }
    }
}

/// The stacks that have both of two functions: what their samples stand for on each side, and how many have the first one
/// inside of the second one, or around it.
#[derive(Clone, Copy, Default)]
struct Pair {
    weights: [f64; 2],
    inside: f64,
    around: f64,
}

/// All pairs of so many functions.
struct Together(usize, Vec<Pair>);

impl Together {
    fn of(places: &HashMap<u32, usize>, stacks: &[Stacks<'_>; 2]) -> Self {
        let many = places.len();
        let mut pairs = vec![Pair::default(); many * many];
        for (side, stacks) in stacks.iter().enumerate() {
            for (functions, series) in stacks {
                let here: Vec<usize> =
                    functions.iter().filter_map(|number| places.get(number).copied()).collect();
                let samples = series.times.total();
                for (at, inner) in here.iter().enumerate() {
                    for outer in &here[at + 1..] {
                        let pair = &mut pairs[outer * many + inner];
                        pair.weights[side] += series.weight;
                        pair.inside += samples;
                        let pair = &mut pairs[inner * many + outer];
                        pair.weights[side] += series.weight;
                        pair.around += samples;
                    }
                }
            }
        }
        Self(many, pairs)
    }

    /// Those whose second function is this one.
    fn of_outer(&self, outer: usize) -> impl Iterator<Item = &Pair> {
        self.1[outer * self.0..][..self.0].iter()
    }
}
