//! What a generation says at its end of the process, its machine and its runtimes.
//!
//! Go's trace has a metric for memory that is alive. All else is user logs of a goroutine of its own.

use super::report::Origin::{Added, Recorded};
use super::state_machine::{StateMachine, ThreadAt};
use super::translate::Mapping;
use crate::read::DecodedGeneration;
use crate::wire::{CounterUnit, Nanos, SystemCounter};
use std::io::Write;

/// The name of the goroutine that says it.
const COUNTERS: &str = "counters of the machine and the runtimes";
const HEAP_ALLOC: u8 = 37;

impl<W: Write> Mapping<'_, W> {
    /// A generation has ended.
    pub(super) fn counters(&mut self, generation: &DecodedGeneration) {
        let of_machine = generation.system_counters();
        let of_runtimes = generation.runtime_counters();
        let resident = of_machine.iter().find(|one| one.counter == SystemCounter::Resident);
        let live = generation.heap().map(|heap| heap.live).or(resident.map(|one| one.value));
        if of_machine.is_empty() && of_runtimes.is_empty() && live.is_none() {
            return;
        }
        let info = generation.info();
        self.scheduler.machine.clock.advance(Nanos(info.start.0.saturating_add(info.duration.0)));
        let seat = self.scheduler.take_seat(COUNTERS, 0);
        self.scheduler.ensure(seat);
        if let Some(live) = live {
            let at = self.scheduler.seat(seat).at;
            self.scheduler.machine.heap(at, live);
        }
        let machine = of_machine.iter().map(|reading| (None, reading));
        let runtimes = of_runtimes.iter().map(|of| (Some(of.runtime), &of.reading));
        for (runtime, reading) in machine.chain(runtimes) {
            let unit = match reading.counter.unit() {
                CounterUnit::Count => String::new(),
                unit => format!(" {}", unit.name()),
            };
            let value = format!("{}{unit}", reading.value);
            match runtime {
                None => self.say(seat, 0, reading.counter.name(), &value, None, Recorded),
                Some(runtime) => {
                    let name = format!("r{runtime}.{}", reading.counter.name());
                    self.say(seat, 0, &name, &value, None, Recorded);
                }
            }
        }
        self.scheduler.leave_seat(seat, Added);
    }
}

impl<W: Write> StateMachine<W> {
    /// So many bytes of memory are alive.
    fn heap(&mut self, at: ThreadAt, bytes: u64) {
        // Its reader takes numbers up to this one.
        self.put(at, HEAP_ALLOC, &[bytes.min(i64::MAX as u64)]);
        self.count(|report| &mut report.metrics, Recorded);
    }
}
