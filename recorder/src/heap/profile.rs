//! What the end of a generation says of the heap: the totals, and what is alive by stack.

#![forbid(unsafe_code)]

use crate::heap::counters::{self, Totals};
use crate::heap::samples;
use crate::os::clock;
use crate::stack::trie::StackId;
use lookback_snapshot::wire::StackSource;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// It is not worth to look more often.
const LEAST: Duration = Duration::from_millis(50);
/// Looking takes this part of the time at most.
const SHARE: u32 = 1000;

/// What all of the heap did since the generation before that said so, and what is alive now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heap {
    pub(crate) time: Duration,
    pub(crate) change: Totals,
    pub(crate) live: u64,
    pub(crate) live_objects: u64,
    pub(crate) peak: u64,
}

/// What is alive of what one stack has allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfStack {
    pub(crate) stack: Option<StackId>,
    pub(crate) source: StackSource,
    pub(crate) samples: u64,
    pub(crate) objects: f64,
    pub(crate) bytes: f64,
    /// Seconds since the first of them was allocated.
    pub(crate) age: u64,
}

/// What a generation's end is to list.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) heap: Heap,
    /// Those with the most bytes first.
    pub(crate) stacks: Vec<OfStack>,
}

impl Listed {
    /// With what an earlier one has counted, which was not listed.
    pub(crate) fn after(mut self, before: &Self) -> Self {
        self.heap.time += before.heap.time;
        self.heap.change = self.heap.change.and(&before.heap.change);
        self.heap.peak = self.heap.peak.max(before.heap.peak);
        self
    }
}

/// See the module.
pub(crate) struct Profile {
    looked: Instant,
    /// How much CPU time that took.
    cost: Duration,
    before: Totals,
}

impl Profile {
    pub(crate) fn new() -> Self {
        Self { looked: Instant::now(), cost: Duration::ZERO, before: counters::totals() }
    }

    /// What is due to be listed; `None` if nothing is, or the program has no [`Alloc`](super::alloc::Alloc).
    pub(crate) fn look(&mut self) -> Option<Listed> {
        (self.looked.elapsed() >= LEAST.max(self.cost * SHARE)).then(|| self.last()).flatten()
    }

    /// What is to be listed, due or not.
    pub(crate) fn last(&mut self) -> Option<Listed> {
        if !counters::are_used() {
            return None;
        }
        let began = Instant::now();
        let time = began.duration_since(self.looked);
        self.looked = began;
        let used = clock::of_this_thread();
        let now = counters::totals();
        let live = now.allocated.wrapping_sub(now.freed);
        let change = now.since(&self.before);
        self.before = now;
        let heap = Heap {
            time,
            change,
            live,
            live_objects: now.allocations.wrapping_sub(now.frees),
            peak: counters::take_peak(live),
        };
        let stacks = by_stack();
        self.cost = clock::of_this_thread().saturating_sub(used);
        Some(Listed { heap, stacks })
    }
}

/// What is alive, by stack. Samples for which there is no memory are left out.
fn by_stack() -> Vec<OfStack> {
    let now = clock::monotonic().0 / 1_000_000_000;
    let mut found: HashMap<(Option<StackId>, u8), OfStack> = HashMap::new();
    for sample in samples::alive() {
        if found.try_reserve(1).is_err() {
            break;
        }
        // The probability that an object of this size is a sample.
        let probability = -(-(sample.size as f64) / sample.interval.max(1) as f64).exp_m1();
        if probability <= 0.0 {
            continue;
        }
        let of = found.entry((sample.stack, sample.source as u8)).or_insert(OfStack {
            stack: sample.stack,
            source: sample.source,
            samples: 0,
            objects: 0.0,
            bytes: 0.0,
            age: 0,
        });
        of.samples += 1;
        of.objects += 1.0 / probability;
        of.bytes += sample.size as f64 / probability;
        of.age = of.age.max(now.saturating_sub(sample.second.into()));
    }
    let mut stacks = Vec::new();
    if stacks.try_reserve_exact(found.len()).is_ok() {
        stacks.extend(found.into_values());
        stacks.sort_unstable_by(|one, other| other.bytes.total_cmp(&one.bytes));
    }
    stacks
}
