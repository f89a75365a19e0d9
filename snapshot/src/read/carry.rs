//! What the threads of a generation were doing at its begin and at its end.
//!
//! A complete generation says all of it itself. An incomplete one has no statuses of threads that
//! were silent in it: those are as the generation before left them, and this is what is carried
//! over from there. Names go along as texts, because ids mean nothing outside of their generation.

use super::bytes::{Fault, Span};
use super::generation::Contents;
use super::regions::{Open, Regions};
use super::stream::{Record, Stream};
use super::survey::Survey;
use super::thread::{NO_THREAD, Thread};
use crate::wire::{MAX_TEXT, ThreadNumber, Ticks};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// A thread, and what is open on it.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) thread: u32,
    pub(super) regions: Regions,
    /// Told by the generation before.
    pub(super) carried: bool,
}

/// What a walk over all slots shows.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) begin: Vec<State>,
    pub(super) end: Vec<State>,
}

impl Walked {
    pub(super) fn new(of: &Contents) -> Self {
        let mut walked = Self::default();
        let mut mentioned = HashSet::new();
        for blocks in of.slots() {
            walked.slot(of, blocks, &mut mentioned);
        }
        for (thread, regions) in &of.carried {
            if !mentioned.contains(thread) {
                let state = State { thread: *thread, regions: regions.clone(), carried: true };
                walked.begin.push(state.clone());
                walked.end.push(state);
            }
        }
        let number = |state: &State| of.threads.get(state.thread).map(|thread| thread.number);
        walked.begin.sort_by_key(number);
        walked.end.sort_by_key(number);
        walked
    }

    fn slot(&mut self, of: &Contents, blocks: std::ops::Range<u32>, mentioned: &mut HashSet<u32>) {
        let collector = of.blocks[blocks.start as usize].slot == 0;
        let mut stream = Stream::new(blocks);
        // The statement that is being read, if it is the first mention of its thread.
        let mut statement: Option<State> = None;
        let mut known = NO_THREAD;
        while let Some(record) = stream.next(of) {
            match record {
                Record::Thread(thread) => {
                    self.state(&mut statement, collector);
                    if thread != NO_THREAD && mentioned.insert(thread) {
                        let regions = Regions::default();
                        statement = Some(State { thread, regions, carried: false });
                    }
                }
                Record::Region(open) => {
                    if let Some(state) = &mut statement {
                        state.regions.begin(open);
                    }
                }
                Record::Deeper(count) => {
                    if let Some(state) = &mut statement {
                        state.regions.begin_unknown(count);
                    }
                }
                Record::Event => {
                    let thread = stream.event.thread;
                    self.state(&mut statement, collector);
                    if thread != known
                        && thread != NO_THREAD
                        && mentioned.insert(thread)
                        && let Some(regions) = of.carried.get(&thread)
                    {
                        let regions = regions.clone();
                        self.begin.push(State { thread, regions, carried: true });
                    }
                    known = thread;
                }
                Record::Block(_) | Record::Lost(_) | Record::Fault(..) => {}
            }
        }
        self.state(&mut statement, collector);
        if !collector && stream.thread() != NO_THREAD {
            let (thread, regions) = (stream.thread(), stream.regions().clone());
            if mentioned.insert(thread) && of.carried.contains_key(&thread) {
                self.begin.push(State { thread, regions: regions.clone(), carried: true });
            }
            self.end.push(State { thread, regions, carried: false });
        }
    }

    /// A statement is over. The collector's are about threads that are silent: as they were, they
    /// still are at the end.
    fn state(&mut self, statement: &mut Option<State>, collector: bool) {
        if let Some(state) = statement.take() {
            if collector {
                self.end.push(state.clone());
            }
            self.begin.push(state);
        }
    }
}

/// The open regions of a thread. Prints the outermost few.
#[derive(Clone, Copy)]
pub(super) struct OpenRegions<'a> {
    named: &'a [CarriedRegion],
    deeper: u64,
}

impl OpenRegions<'_> {
    /// Whether both can be said of the same regions: of those that are deep, either may know less.
    pub(super) fn agrees_with(self, other: Self) -> bool {
        let depth = |regions: Self| regions.named.len() as u64 + regions.deeper;
        depth(self) == depth(other)
            && self.named.iter().zip(other.named).all(|(one, another)| one.is_like(another))
    }
}

impl fmt::Display for OpenRegions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        if self.named.is_empty() && self.deeper == 0 {
            return f.write_str("no open region");
        }
        f.write_str("open regions ")?;
        for (index, region) in self.named.iter().take(SHOWN).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{} ({}:{})", region.name, region.file, region.line)?;
        }
        match (self.named.len().saturating_sub(SHOWN) as u64).saturating_add(self.deeper) {
            0 => Ok(()),
            more => write!(f, " and {more} deeper ones"),
        }
    }
}

/// What a generation leaves to the next one.
#[derive(Default)]
pub(super) struct Carry {
    threads: Vec<(Thread, Vec<CarriedRegion>, u64)>,
}

struct CarriedRegion {
    name: Box<str>,
    file: Box<str>,
    line: u32,
    began: Ticks,
}

impl CarriedRegion {
    fn is_like(&self, other: &Self) -> bool {
        (&self.name, &self.file, self.line) == (&other.name, &other.file, other.line)
    }
}

impl Carry {
    /// What `of` leaves.
    pub(super) fn of(of: &Contents) -> Self {
        Self::from_states(of, &of.walked().end)
    }

    /// What `of` says that it found.
    pub(super) fn at_begin(of: &Contents) -> Self {
        Self::from_states(of, &of.walked().begin)
    }

    /// Each thread's number, and what is open on it.
    pub(super) fn threads(&self) -> impl Iterator<Item = (ThreadNumber, OpenRegions<'_>)> {
        self.threads
            .iter()
            .map(|(thread, named, deeper)| (thread.number, OpenRegions { named, deeper: *deeper }))
    }

    fn from_states(of: &Contents, states: &[State]) -> Self {
        let region = |open: &Open| {
            let site = of.site(open.site);
            CarriedRegion {
                name: site.map_or("?", |site| site.name).into(),
                file: site.map_or("?", |site| site.file).into(),
                line: site.map_or(0, |site| site.line),
                began: open.began,
            }
        };
        let threads = states.iter().filter_map(|state| {
            let thread = of.threads.get(state.thread)?.clone();
            let regions = state.regions.known().iter().map(region).collect();
            Some((thread, regions, state.regions.deeper()))
        });
        Self { threads: threads.collect() }
    }

    /// Gives the next generation's tables what is carried over; the open regions by thread.
    pub(super) fn put_into(
        &self,
        content: &mut Vec<u8>,
        survey: &mut Survey,
    ) -> Result<HashMap<u32, Regions>, Fault> {
        let mut carried = HashMap::new();
        let mut texts: HashMap<&str, Span> = HashMap::new();
        for (thread, open, deeper) in &self.threads {
            survey.threads.add(thread.clone(), &mut survey.tables)?;
            let mut regions = Regions::default();
            for region in open {
                if content.len() > u32::MAX as usize - 4 * MAX_TEXT {
                    return Err("it is too large");
                }
                let [name, file] = [&region.name, &region.file].map(|text| {
                    *texts.entry(text).or_insert_with(|| {
                        let start = content.len() as u32;
                        content.extend_from_slice(text.as_bytes());
                        debug_assert!(text.len() <= MAX_TEXT);
                        Span::new(start, text.len() as u32, false)
                    })
                });
                survey.tables.charge(256)?;
                let site = survey.tables.add_nameless(name, file, region.line);
                regions.begin(Open { site, began: region.began });
            }
            regions.begin_unknown(*deeper);
            carried.insert(survey.threads.index(thread.number), regions);
        }
        Ok(carried)
    }
}
