//! How the heap grew, and when it was allocated from much more than usual; and which stacks did that.
//!
//! Needs a program that declares the recorder's allocator. Stacks are estimates by samples.

use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::slices::median;
use super::{Finding, Score, Section, Unit};
use crate::format::{bytes, counted, duration};
use crate::read::{DecodedGeneration, EventKind, OwnedFrame, Stack};
use crate::wire::{Generation, Nanos};
use std::collections::{HashMap, VecDeque};

/// So much more may be alive at the end than was at the beginning.
pub const GROWN_BYTES: u64 = 32 << 20;
/// And so many times as much.
pub const GROWN_RATIO: f64 = 1.25;
/// So much may be allocated in one generation.
pub const BURST_BYTES: u64 = 64 << 20;
/// And so many times as much, for its length, as in the others.
pub const BURST_RATIO: f64 = 8.0;

/// Of fewer readings, growth says little.
const LEAST_READINGS: usize = 4;
/// How many stacks are told.
const MOST_STACKS: usize = 3;
/// A recorder writes no more frames.
const MOST_FRAMES: usize = 256;
/// Memory is told of so many readings.
const MOST_READINGS: usize = 1 << 16;
/// A recorder looks at its heap less often than it ends generations if that takes long: then a reading is of several. The samples
/// of so many are told.
const MOST_GENERATIONS: usize = 32;

/// How the heap changed.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HeapGrowth {
    /// How many bytes were alive at the end of the first generation that says so, and of the last one.
    pub live: Option<(u64, u64)>,
    /// The most that were alive at a time.
    pub peak: u64,
    /// Allocated in all, in bytes.
    pub allocated: u64,
    /// The stacks of which more is alive at the end, by how much more, if growth is a finding.
    pub growing: Vec<HeapStackChange>,
    /// The stacks that allocated the most in a burst, if there was one.
    pub burst: Vec<HeapStackChange>,
}

/// What one stack has changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HeapStackChange {
    /// Its frames, innermost first; none if the stack is not known.
    pub stack: Vec<OwnedFrame>,
    /// By so many bytes, as the samples say.
    pub bytes: u64,
    /// So many samples say so.
    pub samples: u64,
}

/// Watches what generations say of the heap.
#[derive(Default)]
pub(super) struct HeapWatch {
    readings: Vec<Reading>,
    peak: u64,
    allocated: u64,
    first: Option<DecodedGeneration>,
    last: Option<DecodedGeneration>,
    /// The reading with the most for its length.
    busiest: Option<Busiest>,
    /// From the one with the reading before on: it has gone on after that. Only their numbers: they are read again if need be,
    /// one after the other.
    since: VecDeque<Generation>,
}

struct Busiest {
    rate: f64,
    reading: usize,
    /// What it is of.
    generations: Vec<Generation>,
    /// When that ended, by the clock of events, which goes on while the process is stopped.
    ended: u64,
}

#[derive(Clone, Copy)]
struct Reading {
    at: Nanos,
    time: Nanos,
    live: u64,
    allocated: u64,
}

impl Reading {
    /// Bytes a second.
    fn rate(&self) -> f64 {
        self.allocated as f64 / (self.time.0.max(1) as f64 / 1e9)
    }
}

impl HeapWatch {
    /// A generation that ended at this time.
    pub(super) fn read(&mut self, generation: &DecodedGeneration, at: Nanos) {
        if self.readings.len() >= MOST_READINGS {
            return;
        }
        if self.since.len() == MOST_GENERATIONS {
            self.since.pop_front();
        }
        self.since.push_back(generation.number());
        let Some(totals) = generation.heap() else { return };
        let (time, live, allocated) = (totals.time, totals.live, totals.allocated);
        let reading = Reading { at, time, live, allocated };
        self.peak = self.peak.max(totals.peak);
        self.allocated = self.allocated.saturating_add(allocated);
        let rate = reading.rate();
        if self.busiest.as_ref().is_none_or(|most| rate > most.rate) {
            let info = generation.info();
            self.busiest = Some(Busiest {
                rate,
                reading: self.readings.len(),
                generations: self.since.iter().copied().collect(),
                ended: info.start.0.saturating_add(info.duration.0),
            });
        }
        self.since.drain(..self.since.len() - 1);
        self.readings.push(reading);
        self.first.get_or_insert_with(|| generation.clone());
        self.last = Some(generation.clone());
    }

    /// `read` reads a generation once more.
    pub(super) fn finish(
        self,
        context: &ReportContext<'_>,
        read: impl Fn(Generation) -> Option<DecodedGeneration>,
    ) -> Section<HeapGrowth> {
        let (Some(first), Some(last)) = (self.readings.first(), self.readings.last()) else {
            return Section::nothing(
                "the program does not count what it allocates: `lookback::Alloc` does",
            );
        };
        let mut section = Section::<HeapGrowth>::default();
        section.table.live = Some((first.live, last.live));
        (section.table.peak, section.table.allocated) = (self.peak, self.allocated);
        if self.readings.len() < LEAST_READINGS {
            let many = counted(self.readings.len() as u64, "generation");
            let because = format!("only {many} of the snapshot says what was allocated");
            section.not_assessed.push(because);
            return section;
        }
        if let Some(score) = self.growth(first, last) {
            section.table.growing = self.growing();
            let title = format!(
                "Memory grew from {} to {} in {}, all the while",
                bytes(first.live),
                bytes(last.live),
                duration(last.at.since(first.at)),
            );
            let evidence =
                context.evidence(samples(&section.table.growing), first.at, Some(last.at));
            section.findings.push(Finding::new("heap", title, score, vec![evidence]));
        }
        if let Some((score, usual, reading)) = self.burst() {
            section.table.burst = self.bursting(read);
            let title = format!(
                "A burst of allocations: {} within {}, otherwise about {} a second",
                bytes(reading.allocated),
                duration(reading.time),
                bytes(usual as u64),
            );
            let began = Nanos(reading.at.0.saturating_sub(reading.time.0));
            let evidence = context.evidence(samples(&section.table.burst), began, Some(reading.at));
            section.findings.push(Finding::new("heap", title, score, vec![evidence]));
        }
        section.settle(2)
    }

    fn growth(&self, first: &Reading, last: &Reading) -> Option<Score> {
        let grown = last.live.saturating_sub(first.live);
        let score = Score::beyond(grown as f64, GROWN_BYTES as f64, Unit::Bytes)?;
        let up = self.readings.windows(2).filter(|pair| pair[1].live > pair[0].live).count();
        let is_rising = 3 * up >= 2 * (self.readings.len() - 1);
        // A single jump is no growth: the middle lies between.
        let middle = self.readings[self.readings.len() / 2].live.saturating_sub(first.live);
        let is_spread = (0.15..=0.85).contains(&(middle as f64 / grown as f64));
        let is_much = last.live as f64 >= GROWN_RATIO * first.live as f64;
        (is_rising && is_spread && is_much).then_some(score)
    }

    fn burst(&self) -> Option<(Score, f64, Reading)> {
        let busiest = self.busiest.as_ref()?;
        let (rate, at) = (busiest.rate, busiest.reading);
        let reading = *self.readings.get(at)?;
        let others = self.readings.iter().enumerate().filter(|(other, _)| *other != at);
        let usual = median(others.map(|(_, reading)| reading.rate()).collect());
        // What would be usual for the time.
        let limit = (BURST_BYTES as f64).max(BURST_RATIO * usual * reading.allocated as f64 / rate);
        let score = Score::beyond(reading.allocated as f64, limit, Unit::Bytes)?;
        Some((score, usual, reading))
    }

    /// The stacks of which more is alive in the last generation than in the first.
    fn growing(&self) -> Vec<HeapStackChange> {
        let (Some(first), Some(last)) = (&self.first, &self.last) else { return Vec::new() };
        let mut before: HashMap<Vec<OwnedFrame>, u64> = HashMap::new();
        for of in first.heap_stacks() {
            *before.entry(frames(of.stack)).or_default() += of.bytes;
        }
        let mut after: HashMap<Vec<OwnedFrame>, (u64, u64)> = HashMap::new();
        for of in last.heap_stacks() {
            let (bytes, samples) = after.entry(frames(of.stack)).or_default();
            *bytes = bytes.saturating_add(of.bytes);
            *samples = samples.saturating_add(of.samples);
        }
        let changes = after.into_iter().map(|(stack, (bytes, samples))| {
            let bytes = bytes.saturating_sub(before.get(&stack).copied().unwrap_or_default());
            HeapStackChange { stack, bytes, samples }
        });
        most(changes.collect())
    }

    /// The stacks that allocated the most in the time of the busiest reading.
    fn bursting(
        &self,
        read: impl Fn(Generation) -> Option<DecodedGeneration>,
    ) -> Vec<HeapStackChange> {
        let Some(busiest) = &self.busiest else { return Vec::new() };
        let began = busiest.ended.saturating_sub(self.readings[busiest.reading].time.0);
        let mut all: HashMap<Vec<OwnedFrame>, (f64, u64)> = HashMap::new();
        for generation in busiest.generations.iter().filter_map(|number| read(*number)) {
            for event in generation.events().flatten() {
                if event.measured().0 < began {
                    continue;
                }
                let EventKind::AllocationSample { size, interval, .. } = event.kind() else {
                    continue;
                };
                let probability = -(-(size as f64) / interval.max(1) as f64).exp_m1();
                if probability > 0.0 {
                    let (bytes, samples) = all.entry(frames(event.stack())).or_default();
                    *bytes += size as f64 / probability;
                    *samples += 1;
                }
            }
        }
        let changes = all.into_iter().map(|(stack, (bytes, samples))| HeapStackChange {
            stack,
            bytes: bytes as u64,
            samples,
        });
        most(changes.collect())
    }
}

fn frames(stack: Option<Stack<'_>>) -> Vec<OwnedFrame> {
    let frames = stack.map(|stack| stack.frames()).into_iter().flatten();
    frames.take(MOST_FRAMES).map(OwnedFrame::from).collect()
}

/// The few with the most bytes.
fn most(mut changes: Vec<HeapStackChange>) -> Vec<HeapStackChange> {
    changes.retain(|change| change.bytes > 0);
    changes.sort_by_key(|change| std::cmp::Reverse((change.bytes, change.samples)));
    changes.truncate(MOST_STACKS);
    changes
}

/// What the evidence is.
fn samples(changes: &[HeapStackChange]) -> String {
    match changes {
        [] => "no sample says which stacks".to_owned(),
        changes => {
            let many = changes.iter().map(|change| change.samples).sum();
            format!("{} of the stacks below", counted(many, "sample"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn no_generation_stays_in_memory_that_says_nothing_of_the_heap() {
        let text: String = (1..=4_u64)
            .map(|number| {
                let clock = |at: u64| format!("{0}:{0}:{0}:1000000000", at * 1_000_000_000);
                let (began, ended) = (clock(number), clock(number + 1));
                format!("generation {number} complete began={began} ended={ended}\n")
            })
            .collect();
        let bytes = crate::text::from_text(&text).unwrap();
        let trace = crate::Trace::from_bytes(bytes).unwrap();
        let mut watch = HeapWatch::default();
        for info in trace.generations() {
            let generation = trace.generation(info.number).unwrap();
            let held = Arc::strong_count(&generation.contents);
            watch.read(&generation, info.start);
            assert_eq!(Arc::strong_count(&generation.contents), held);
        }
        assert_eq!(watch.since.len(), 4);
    }
}
