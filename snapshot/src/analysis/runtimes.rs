//! How executors' runtimes fared, by their own counters; and whether their queues grew.

use super::report_context::ReportContext;
use super::system::{Ranges, SystemRange};
use super::{Finding, Score, Section, Unit};
use crate::format::{count, duration, percent};
use crate::read::{RuntimeReading, SystemReading};
use crate::wire::{Nanos, SystemCounter};
use std::collections::BTreeMap;

/// So many tasks may be ready and wait in the queue of a runtime.
pub const LONG_QUEUE: u64 = 1000;
/// Of fewer readings, growth says little.
const LEAST_READINGS: u64 = 4;
const MOST_RUNTIMES: usize = 256;

/// The counters of each runtime that the recorder asked.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Runtimes {
    /// The runtimes, by their numbers.
    pub runtimes: Vec<RuntimeCounters>,
}

/// The counters of one runtime.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RuntimeCounters {
    /// Its number, as in `r0`.
    pub runtime: u64,
    /// Its counters, in the order of their codes.
    pub counters: Vec<SystemRange>,
}

impl RuntimeCounters {
    /// A counter's values, if it was read.
    #[must_use]
    pub fn of(&self, counter: SystemCounter) -> Option<&SystemRange> {
        self.counters.iter().find(|one| one.counter == counter)
    }
}

/// Watches the readings.
#[derive(Default)]
pub(super) struct RuntimeWatch(BTreeMap<u64, Ranges>);

impl RuntimeWatch {
    /// The readings of a generation that ended at this time.
    pub(super) fn read(&mut self, readings: &[RuntimeReading], at: Nanos) {
        for RuntimeReading { runtime, reading } in readings {
            if self.0.len() < MOST_RUNTIMES || self.0.contains_key(runtime) {
                let SystemReading { .. } = reading;
                self.0.entry(*runtime).or_default().read(reading, at);
            }
        }
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<Runtimes> {
        let mut section = Section::<Runtimes>::default();
        for (runtime, ranges) in self.0 {
            let (from, until) = (ranges.from.unwrap_or(context.first), ranges.until);
            let of = RuntimeCounters { runtime, counters: ranges.finish(context) };
            if let Some((score, title)) = queue(&of) {
                let evidence = vec![context.evidence("read by the recorder", from, Some(until))];
                section.findings.push(Finding::new("runtimes", title, score, evidence));
            }
            section.table.runtimes.push(of);
        }
        section.settle(3)
    }
}

/// A queue that became long and did not become short again.
fn queue(of: &RuntimeCounters) -> Option<(Score, String)> {
    let queue = of.of(SystemCounter::QueuedTasks)?;
    let grew =
        queue.readings >= LEAST_READINGS && queue.has_grown() && queue.last > queue.first * 2;
    let score =
        Score::beyond(queue.last as f64, LONG_QUEUE as f64, Unit::Count).filter(|_| grew)?;
    let workers = of.of(SystemCounter::Workers).map_or(0, |workers| workers.last);
    let busy =
        of.of(SystemCounter::WorkersBusy).map(|busy| busy.rate() / 1e9 / workers.max(1) as f64);
    let busy = busy.map_or_else(String::new, |busy| {
        format!("; its workers were busy for {} of the time", percent(busy.min(1.0)))
    });
    let title = format!(
        "The queue of runtime r{} grew from {} ready tasks to {} in {}{busy}: more was asked for than it can do",
        of.runtime,
        count(queue.first),
        count(queue.last),
        duration(queue.time),
    );
    Some((score, title))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::test_trace::{Script, ms};

    fn findings(depths: &[u64]) -> Vec<String> {
        let mut script = Script::new(depths.len() as u64, &[]);
        for (at, value) in depths.iter().enumerate() {
            let time = Nanos(1_000_000_000);
            let reading = |counter, value| SystemReading { counter, value, time };
            let all = [
                reading(SystemCounter::QueuedTasks, *value),
                reading(SystemCounter::Workers, 2),
                reading(SystemCounter::WorkersBusy, 1_900_000_000),
            ];
            let all = all.map(|reading| RuntimeReading { runtime: 3, reading });
            script.runtimes(&all, ms(1000.0 * (at + 1) as f64));
        }
        script.report().runtimes.findings.into_iter().map(|one| one.title).collect()
    }

    #[test]
    fn a_queue_that_grows_is_found_and_one_that_was_long_for_a_while_is_not() {
        assert_eq!(
            findings(&[10, 800, 1900, 2900, 4000]),
            [
                "The queue of runtime r3 grew from 10 ready tasks to 4,000 in 5 s; its workers were busy for 95 % of the \
                 time: more was asked for than it can do"
            ]
        );
        assert!(findings(&[10, 5000, 6000, 10, 0]).is_empty());
        assert!(findings(&[3000, 3000, 3100, 3000, 2900]).is_empty());
        assert!(findings(&[10, 800, 1900]).is_empty(), "too few to say");
    }
}
