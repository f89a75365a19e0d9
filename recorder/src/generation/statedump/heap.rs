//! What the heap did in the generation, and what is alive by stack.

use crate::generation::statedump::stacks::Known;
use crate::generation::statedump::threads::Statuses;
use crate::heap::profile::{Heap, Listed, OfStack};
use crate::stack::trie::Trie;
use lookback_snapshot::wire::{Kind, MAX_VARINT};

/// The most that these take.
const TOTALS_SIZE: usize = 1 + 8 * MAX_VARINT;
const STACK_SIZE: usize = 1 + 6 * MAX_VARINT;
/// So many stacks are listed at most, those with the most bytes alive.
const STACKS: usize = 256;

impl Statuses<'_> {
    /// What is to be listed of the heap, as far as there is room for it.
    pub(crate) fn heap(&mut self, Listed { heap, stacks }: &Listed, known: &mut Known) {
        if !self.leaves_room(TOTALS_SIZE) {
            return;
        }
        let Heap { time, change, live, live_objects, peak } = *heap;
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.numbers(
            Kind::HeapTotals,
            &[
                time,
                change.allocated,
                change.allocations,
                change.freed,
                change.frees,
                live,
                live_objects,
                peak,
            ],
        );
        // Room for what says how much is left out is kept.
        self.pending = TOTALS_SIZE;
        let listed = stacks.iter().take(STACKS).take_while(|of| self.heap_stack(of, known)).count();
        self.pending = 0;
        let rest = &stacks[listed..];
        if !rest.is_empty() {
            let samples = rest.iter().map(|of| of.samples).sum();
            let bytes = rest.iter().map(|of| of.bytes).sum::<f64>() as u64;
            self.numbers(Kind::HeapStacksOmitted, &[samples, bytes]);
        }
    }

    /// Lists one. `false` if there is no room for it.
    fn heap_stack(&mut self, of: &OfStack, known: &mut Known) -> bool {
        let stack = match (of.stack, Trie::get()) {
            (Some(stack), Some(trie)) => match self.stack(trie, stack, known) {
                Some(id) => id,
                None => return false,
            },
            _ => 0,
        };
        let is_room = self.leaves_room(STACK_SIZE);
        if is_room {
            let (objects, bytes) = (of.objects.round() as u64, of.bytes.round() as u64);
            let numbers = [stack.into(), of.source as u64, of.samples, objects, bytes, of.age];
            self.numbers(Kind::HeapStack, &numbers);
        }
        is_room
    }
}
