//! One side of a comparison: what is kept of its snapshots.

use super::series::{Dice, Series, Sums};
use super::{Function, Kind};
use crate::read::decode::fast_map::Map;
use crate::read::{Frame, Trace};
use crate::wire::{Generation, Nanos, key};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How many units of time a side has at most, and a file.
const MOST_UNITS: usize = 512;
const MOST_OF_A_FILE: usize = 32;
/// So many things of a kind are told apart.
pub(super) const MOST_NAMES: usize = 4096;
/// So many generations are known, so that none counts twice.
const MOST_GENERATIONS: usize = 1 << 20;

/// One side of a comparison: what is kept of its snapshots. Its size is bounded, however many and large they are.
///
/// ```no_run
/// use lookback_snapshot::analysis::DiffSide;
/// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
/// let mut side = DiffSide::of_files(1);
/// side.add(&trace, None);
/// # Ok::<(), lookback_snapshot::ReadError>(())
/// ```
#[derive(Debug, Default)]
pub struct DiffSide {
    pub(super) things: HashMap<Key, Series>,
    /// How often there was no room for another thing of a kind.
    pub(super) left_out: BTreeMap<Kind, u64>,
    /// How many things there are of each kind.
    many: BTreeMap<Kind, usize>,
    /// How often it was listed which tasks there are, and where they wait, in each unit.
    pub(super) listings: Sums,
    pub(super) stacks: Stacks,
    /// How much time each unit has that counts, in seconds.
    pub(super) exposures: Vec<f64>,
    pub(super) of_a_file: usize,
    pub(super) dice: Dice,
    pub(super) about: About,
    /// By when it began, too: in a container, the next process has the same ID, and its generations the same numbers.
    known: HashSet<(u64, Generation, Nanos)>,
    processes: HashMap<String, u64>,
}

/// What the snapshots say about themselves.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) files: u64,
    pub(super) programs: BTreeSet<String>,
    pub(super) builds: BTreeSet<String>,
    pub(super) filters: BTreeSet<String>,
    pub(super) cores: BTreeSet<u64>,
    pub(super) cpu_samples: BTreeSet<u64>,
    pub(super) events: u64,
    pub(super) generations: u64,
    /// Those in which events were lost.
    pub(super) lossy: u64,
    /// Those that another file had, too.
    pub(super) again: u64,
    /// What is recorded at all.
    pub(super) has_heap: bool,
    pub(super) has_waits: bool,
    pub(super) has_locks: bool,
    pub(super) damaged: bool,
}

/// What a thing is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// What else distinguishes it: its file, its category.
    pub(super) within: String,
}

/// Stacks of samples, as lists of functions.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    pub(super) functions: Vec<Function>,
    numbers: HashMap<Function, u32>,
    /// By kind, and the functions, innermost first: the samples, and what they stand for.
    pub(super) samples: HashMap<(Kind, Vec<u32>), Series>,
    pub(super) left_out: u64,
    /// Whether there were frames without the name of a function.
    pub(super) nameless: bool,
}

/// So many stacks and functions are told apart, and bytes of names kept.
const MOST_STACKS: usize = 20_000;
const MOST_FUNCTIONS: usize = 50_000;

impl Stacks {
    pub(super) fn number(&mut self, function: Function) -> Option<u32> {
        if let Some(known) = self.numbers.get(&function) {
            return Some(*known);
        }
        if self.functions.len() >= MOST_FUNCTIONS {
            return None;
        }
        let number = self.functions.len() as u32;
        self.functions.push(function.clone());
        self.numbers.insert(function, number);
        Some(number)
    }

    pub(super) fn series(&mut self, kind: Kind, stack: Vec<u32>) -> Option<&mut Series> {
        let key = (kind, stack);
        if self.samples.len() >= MOST_STACKS && !self.samples.contains_key(&key) {
            self.left_out += 1;
            return None;
        }
        Some(self.samples.entry(key).or_default())
    }
}

/// Names the functions of a frame, innermost first: those that were inlined, and the one that they were inlined into.
pub(super) type NameFrame<'a> = &'a mut dyn FnMut(&Frame<'_>) -> Vec<Function>;

/// The units of time of one file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Units {
    from: u64,
    long: u64,
    first: u32,
    many: u32,
}

impl Units {
    pub(super) fn at(&self, at: Nanos) -> u32 {
        let unit = at.0.saturating_sub(self.from) / self.long.max(1);
        self.first + u32::try_from(unit).unwrap_or(u32::MAX).min(self.many.saturating_sub(1))
    }
}

impl DiffSide {
    /// Without snapshots yet, for so many.
    #[must_use]
    pub fn of_files(files: usize) -> Self {
        // A power of two, so that units can be added up.
        let most = (MOST_UNITS / files.max(1)).clamp(1, MOST_OF_A_FILE);
        Self { of_a_file: 1 << most.ilog2(), ..Self::default() }
    }

    /// Adds a snapshot. Generations that an earlier one had, too, do not count again: snapshots of one process overlap.
    /// `names` names functions in stacks; without it, stacks are compared by offsets.
    pub fn add(&mut self, trace: &Trace, names: Option<NameFrame<'_>>) {
        super::collect::add(self, trace, names);
    }

    /// How much time counts, without that in which events were lost.
    #[must_use]
    pub fn covered(&self) -> Nanos {
        Nanos((self.exposures.iter().sum::<f64>() * 1e9) as u64)
    }

    /// How many snapshots were added.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.about.files
    }

    /// How many events they have, without those that another one had, too.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.about.events
    }

    /// The names of the programs.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.about.programs.iter().map(String::as_str)
    }

    /// Prepares for another file: which of its generations count, and its units of time.
    pub(super) fn begin(
        &mut self,
        trace: &Trace,
        counted: impl Fn(Nanos) -> Nanos,
    ) -> (Map<Generation, bool>, Units) {
        let about = &mut self.about;
        let metadata = trace.metadata();
        let text = |name| metadata.text(name).unwrap_or_default().to_owned();
        about.files += 1;
        about.programs.insert(text(key::PROCESS_NAME));
        about.builds.insert(text(key::PROCESS_BUILD_ID));
        let filters: Vec<_> = metadata.texts(key::FILTER).collect();
        about.filters.insert(filters.join(" "));
        about.cores.extend(metadata.number(key::HOST_CORES));
        about.cpu_samples.extend(metadata.number(key::CPU_SAMPLES).filter(|hertz| *hertz > 0));
        about.has_locks |= metadata.number(key::LOCK_WAITS).is_some();
        about.damaged |= !trace.damage().is_empty();
        let process =
            format!("{} {} {}", text(key::BOOT_ID), text(key::HOST_NAME), text(key::PROCESS_PID));
        let pid = metadata.number(key::PROCESS_PID).unwrap_or_default();
        let is_known = metadata.text(key::BOOT_ID).is_some();
        let next = self.processes.len() as u64;
        let process = *self.processes.entry(format!("{process} {pid}")).or_insert(next);
        let infos = trace.generations();
        let times = infos.iter().map(|info| {
            let ended = Nanos(info.start.0.saturating_add(info.duration.0));
            (counted(info.start), counted(ended))
        });
        let times: Vec<_> = times.collect();
        let from = times.iter().map(|(began, _)| began.0).min().unwrap_or_default();
        let until = times.iter().map(|(_, ended)| ended.0).max().unwrap_or_default();
        let first = self.exposures.len() as u32;
        let many = self.of_a_file as u64;
        let units =
            Units { from, long: until.saturating_sub(from) / many + 1, first, many: many as u32 };
        self.exposures.resize(self.exposures.len() + self.of_a_file, 0.0);
        let mut counts = Map::default();
        for (info, (began, ended)) in infos.iter().zip(times) {
            self.about.generations += 1;
            let is_new = !is_known
                || self.known.len() >= MOST_GENERATIONS
                || self.known.insert((process, info.number, info.start));
            let is_lossy = info.lost.iter().any(|lost| lost.count > 0) || info.damage.is_some();
            self.about.again += u64::from(!is_new);
            self.about.lossy += u64::from(is_new && is_lossy);
            counts.insert(info.number, is_new);
            if is_new && !is_lossy {
                self.expose(&units, began, ended);
            }
        }
        (counts, units)
    }

    /// Adds what is kept of a thing.
    pub(super) fn put(&mut self, key: Key, series: &Series, dice: &mut Dice) {
        if let Some(known) = self.things.get_mut(&key) {
            return known.merge(series, dice);
        }
        let many = self.many.entry(key.kind).or_default();
        if *many >= MOST_NAMES {
            *self.left_out.entry(key.kind).or_default() += (series.count as u64).max(1);
            return;
        }
        *many += 1;
        self.things.insert(key, series.clone());
    }

    /// This time counts.
    fn expose(&mut self, units: &Units, began: Nanos, ended: Nanos) {
        for unit in units.at(began)..=units.at(ended) {
            let at = u64::from(unit - units.first);
            let from = units.from.saturating_add(at.saturating_mul(units.long));
            let until = from.saturating_add(units.long);
            let long = ended.0.min(until).saturating_sub(began.0.max(from));
            self.exposures[unit as usize] += long as f64 / 1e9;
        }
    }
}
