//! Where the process's CPU time went, by the samples of its threads: equal stacks added up.

use super::frame_numbers::FrameNumbers;
use crate::read::{Event, EventKind, OwnedFrame, ReadError, StackEnd, StackSource, Trace};
use crate::wire::{Nanos, key};
use std::collections::{HashMap, HashSet};

/// The most different stacks that are told apart.
const MOST_STACKS: usize = 20_000;
/// The most bytes of names of threads.
const MOST_BYTES: usize = 1 << 20;

/// See [`CpuProfile::of`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CpuProfile {
    /// How many samples a thread takes for each second of CPU time; 0 if the file does not say, or no samples were taken.
    pub per_second: u64,
    /// All samples, by weight: a sample counts as often as its interval had passed.
    pub weight: u64,
    /// When the first and the last were taken.
    pub span: Option<(Nanos, Nanos)>,
    /// The stacks, heaviest first, once [`sort`](Self::sort) was called.
    pub stacks: Vec<CpuStack>,
    /// The weight of samples without a stack, by why there is none.
    pub unplaced: Vec<(Option<StackSource>, u64)>,
    /// The weight of samples with further stacks, for which there was no room.
    pub left_out: u64,
    frames: FrameNumbers,
    known: HashMap<(u32, Vec<u32>), usize>,
    /// The names of threads, as stacks refer to them.
    names: Vec<Box<str>>,
    names_known: HashMap<Box<str>, u32>,
    threads: HashSet<u64>,
    bytes: usize,
}

/// Equal stacks of threads of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuStack {
    /// Indices among [`CpuProfile::frames`], innermost first.
    pub frames: Vec<u32>,
    /// How often the interval had passed.
    pub weight: u64,
    /// Why there are no more frames, if known.
    pub end: Option<StackEnd>,
    name: u32,
}

impl CpuProfile {
    /// The samples of a whole snapshot. `noted` is told what cannot be read.
    ///
    /// ```
    /// # fn print(trace: &lookback_snapshot::Trace) {
    /// let profile = lookback_snapshot::analysis::CpuProfile::of(trace, |error| eprintln!("{error}"));
    /// println!("{} ns of CPU time in {} stacks", profile.nanos(profile.weight), profile.stacks.len());
    /// # }
    /// ```
    #[must_use]
    pub fn of(trace: &Trace, mut noted: impl FnMut(ReadError)) -> Self {
        let mut profile = Self::new(trace);
        let mut events = trace.events();
        while let Some(next) = events.lend() {
            match next {
                Ok(lent) => profile.add(lent.event),
                Err(error) => noted(error),
            }
        }
        profile.sort();
        profile
    }

    /// Without samples yet: of events of this snapshot.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        let per_second = trace.metadata().number(key::CPU_SAMPLES).unwrap_or_default();
        Self { per_second, ..Self::default() }
    }

    /// Adds an event, if it is a sample.
    pub fn add(&mut self, event: &Event) {
        let EventKind::CpuSample { thread, weight, source, ago } = event.kind() else { return };
        let at = Nanos(event.time().0.saturating_sub(ago.0));
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
        self.weight = self.weight.saturating_add(weight);
        if self.threads.len() < MOST_STACKS {
            self.threads.insert(thread.0);
        }
        let Some(stack) = event.stack() else {
            match self.unplaced.iter_mut().find(|(known, _)| *known == source) {
                Some((_, sum)) => *sum = sum.saturating_add(weight),
                None => self.unplaced.push((source, weight)),
            }
            return;
        };
        let name = self.name(event.name());
        let frames = stack.frames().map(|frame| self.frames.number(OwnedFrame::from(frame)));
        let frames: Option<Vec<_>> = frames.collect();
        let (Some(name), Some(frames)) = (name, frames) else {
            self.left_out = self.left_out.saturating_add(weight);
            return;
        };
        let key = (name, frames);
        if let Some(known) = self.known.get(&key).and_then(|at| self.stacks.get_mut(*at)) {
            known.weight = known.weight.saturating_add(weight);
        } else if self.stacks.len() < MOST_STACKS {
            let frames = key.1.clone();
            self.stacks.push(CpuStack { frames, weight, end: stack.end(), name });
            self.known.insert(key, self.stacks.len() - 1);
        } else {
            self.left_out = self.left_out.saturating_add(weight);
        }
    }

    /// Puts the heaviest stacks first. No event may be added after that.
    pub fn sort(&mut self) {
        self.known.clear();
        self.stacks.sort_by(|a, b| b.weight.cmp(&a.weight).then(a.frames.cmp(&b.frames)));
        self.unplaced.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    }

    /// How much CPU time this weight stands for; 0 if that is unknown.
    #[must_use]
    pub fn nanos(&self, weight: u64) -> u64 {
        let nanos = u128::from(weight) * 1_000_000_000 / u128::from(self.per_second.max(1));
        if self.per_second == 0 { 0 } else { u64::try_from(nanos).unwrap_or(u64::MAX) }
    }

    /// The different frames, to which the stacks refer.
    #[must_use]
    pub fn frames(&self) -> &[OwnedFrame] {
        self.frames.frames()
    }

    /// How many threads were sampled.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// The name of a stack's threads; empty if they have none.
    #[must_use]
    pub fn thread_name(&self, stack: &CpuStack) -> &str {
        self.names.get(stack.name as usize).map_or("", |name| name)
    }

    fn name(&mut self, name: &str) -> Option<u32> {
        if let Some(known) = self.names_known.get(name) {
            return Some(*known);
        }
        // The name is here twice.
        let bytes = self.bytes.saturating_add(2 * name.len());
        if bytes > MOST_BYTES {
            return None;
        }
        self.bytes = bytes;
        self.names.push(name.into());
        let number = self.names.len() as u32 - 1;
        self.names_known.insert(name.into(), number);
        Some(number)
    }
}
