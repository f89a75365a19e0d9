//! Where the heap is, and where it grows, by the samples of allocations: equal stacks added up.

use super::frame_numbers::{StackNumber, StackNumbers};
use crate::read::{
    DecodedGeneration, Event, EventKind, HeapTotals, OwnedFrame, ReadError, Stack, StackEnd,
    StackSource, Trace,
};
use crate::wire::Nanos;

/// See [`HeapProfile::of`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct HeapProfile {
    /// What the newest generation says that says anything; `None` if none does: the program has no
    /// [`Alloc`](https://docs.rs/lookback).
    pub totals: Option<HeapTotals>,
    /// When that generation ended.
    pub at: Nanos,
    /// Allocated and freed, in bytes and in objects, and the time that this was within: over all generations that say so.
    pub covered: HeapTotals,
    /// The stacks, those with the most bytes alive first, once [`sort`](Self::sort) was called.
    pub stacks: Vec<AllocatingStack>,
    /// How many samples of allocations were read.
    pub samples: u64,
    /// Of how many allocated bytes one is a sample, on average, as the last of them says; 0 if there is none.
    pub interval: u64,
    /// How many of the samples that are alive, and of the bytes that they stand for, are not among the stacks.
    pub left_out: (u64, u64),
    numbers: StackNumbers,
}

/// What one stack has allocated.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AllocatingStack {
    /// Indices among [`HeapProfile::frames`], innermost first. None if the stack is unknown: then `source` says why.
    pub frames: Vec<u32>,
    /// Why there are no more frames, if known.
    pub end: Option<StackEnd>,
    /// How the stack was obtained, or why there is none.
    pub source: Option<StackSource>,
    /// What was alive of it at [`HeapProfile::at`]: by how many samples, and how many objects and bytes they stand for.
    pub live_samples: u64,
    /// Objects.
    pub live_objects: u64,
    /// Bytes.
    pub live_bytes: u64,
    /// How many seconds before [`HeapProfile::at`] the oldest of those samples was allocated.
    pub age: u64,
    /// What it allocated within the snapshot, alike.
    pub samples: u64,
    /// Objects.
    pub objects: f64,
    /// Bytes.
    pub allocated: f64,
}

impl HeapProfile {
    /// The profile of a whole snapshot. `noted` is told what cannot be read.
    ///
    /// ```
    /// # fn print(trace: &lookback_snapshot::Trace) {
    /// let profile = lookback_snapshot::analysis::HeapProfile::of(trace, |error| eprintln!("{error}"));
    /// for stack in profile.stacks.iter().take(10) {
    ///     println!("{} bytes are alive", stack.live_bytes);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn of(trace: &Trace, mut noted: impl FnMut(ReadError)) -> Self {
        let mut profile = Self::default();
        let mut newest = None;
        for info in trace.generations() {
            let Ok(generation) = trace.generation(info.number) else { continue };
            if let Some(totals) = generation.heap() {
                profile.covers(totals);
                newest = Some(generation);
            }
        }
        if let Some(newest) = &newest {
            profile.live(newest);
        }
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

    fn covers(&mut self, totals: &HeapTotals) {
        let sum = &mut self.covered;
        sum.time = Nanos(sum.time.0.saturating_add(totals.time.0));
        for (sum, more) in [
            (&mut sum.allocated, totals.allocated),
            (&mut sum.allocations, totals.allocations),
            (&mut sum.freed, totals.freed),
            (&mut sum.frees, totals.frees),
        ] {
            *sum = sum.saturating_add(more);
        }
        (sum.live, sum.live_objects) = (totals.live, totals.live_objects);
        sum.peak = sum.peak.max(totals.peak);
    }

    /// Adds what was alive at the end of a generation.
    fn live(&mut self, generation: &DecodedGeneration) {
        self.totals = generation.heap().copied();
        self.at = generation.ended().monotonic;
        self.left_out = generation.heap_left_out();
        for of in generation.heap_stacks() {
            let Some(stack) = self.stack(of.stack, of.source) else {
                let (samples, bytes) = &mut self.left_out;
                *samples = samples.saturating_add(of.samples);
                *bytes = bytes.saturating_add(of.bytes);
                continue;
            };
            stack.live_samples = stack.live_samples.saturating_add(of.samples);
            stack.live_objects = stack.live_objects.saturating_add(of.objects);
            stack.live_bytes = stack.live_bytes.saturating_add(of.bytes);
            stack.age = stack.age.max(of.age);
        }
    }

    /// Adds an event, if it is a sample.
    pub fn add(&mut self, event: &Event) {
        let EventKind::AllocationSample { size, interval, source } = event.kind() else { return };
        self.samples += 1;
        self.interval = interval;
        // The probability that an object of this size is a sample.
        let probability = -(-(size as f64) / interval.max(1) as f64).exp_m1();
        if probability > 0.0
            && let Some(stack) = self.stack(event.stack(), source)
        {
            stack.samples += 1;
            stack.objects += 1.0 / probability;
            stack.allocated += size as f64 / probability;
        }
    }

    /// Puts the stacks with the most bytes alive first, and of those with none the ones that allocated the most. No event
    /// may be added after that.
    pub fn sort(&mut self) {
        self.numbers.close();
        self.stacks.sort_by(|a, b| {
            let by_live = b.live_bytes.cmp(&a.live_bytes);
            by_live.then(b.allocated.total_cmp(&a.allocated)).then(a.frames.cmp(&b.frames))
        });
    }

    /// The different frames, to which the stacks refer.
    #[must_use]
    pub fn frames(&self) -> &[OwnedFrame] {
        self.numbers.frames()
    }

    /// The place of a stack; `None` if there are too many.
    fn stack(
        &mut self,
        stack: Option<Stack<'_>>,
        source: Option<StackSource>,
    ) -> Option<&mut AllocatingStack> {
        match self.numbers.number(stack, source)? {
            StackNumber::Known(at) => self.stacks.get_mut(at),
            StackNumber::New(frames) => {
                let end = stack.and_then(|stack| stack.end());
                let new = AllocatingStack { frames, end, source, ..AllocatingStack::default() };
                self.stacks.push(new);
                self.stacks.last_mut()
            }
        }
    }
}
