//! How the process, its control group and the machine fared: their counters, and the limits that took effect.

use super::report_context::ReportContext;
use super::{Finding, Moment, Score, Section, Unit};
use crate::format::{count, counted, duration, percent};
use crate::read::SystemReading;
use crate::wire::{Nanos, SystemCounter};
use std::collections::BTreeMap;

/// The largest share of its periods in which a control group's CPU limit may stop it.
pub const THROTTLED_SHARE: f64 = 0.1;
/// Of fewer periods, a share says little.
const LEAST_PERIODS: u64 = 10;
/// The largest share of the descriptors that may be open.
pub const DESCRIPTORS_SHARE: f64 = 0.9;
/// The largest share of the time for which some threads may wait for memory.
pub const MEMORY_SHARE: f64 = 0.1;

/// The counters that the recorder read, in the order of their codes.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct System {
    /// The counters.
    pub counters: Vec<SystemRange>,
}

/// The values of one counter, one from each reading. Of one that [is an increase](SystemCounter::is_increase), each is what
/// was added since the reading before.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SystemRange {
    /// Which counter.
    pub counter: SystemCounter,
    /// How often it was read.
    pub readings: u64,
    /// Its first value.
    pub first: u64,
    /// Its last value.
    pub last: u64,
    /// Its least value.
    pub least: u64,
    /// Its greatest value.
    pub most: u64,
    /// The end of the generation that had it first.
    pub most_at: Moment,
    /// All values together.
    pub sum: u64,
    /// The times between readings together.
    pub time: Nanos,
    /// How many values were greater than the one before.
    pub rises: u64,
}

impl SystemRange {
    /// Whether a level rose most of the time.
    pub(super) fn has_grown(&self) -> bool {
        3 * self.rises >= 2 * self.readings.saturating_sub(1)
    }

    /// What was added in a second, or, of a time, as a share of the time that passed.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.sum as f64 / (self.time.0.max(1) as f64 / 1e9)
    }
}

impl System {
    /// A counter's values, if it was read.
    #[must_use]
    pub fn of(&self, counter: SystemCounter) -> Option<&SystemRange> {
        self.counters.iter().find(|one| one.counter == counter)
    }

    fn sum(&self, counter: SystemCounter) -> u64 {
        self.of(counter).map_or(0, |one| one.sum)
    }
}

/// Watches the readings.
#[derive(Default)]
pub(super) struct SystemWatch(Ranges);

/// The counters of one thing.
#[derive(Default)]
pub(super) struct Ranges {
    counters: BTreeMap<SystemCounter, Range>,
    /// When the time began that they are about, and when it ended.
    pub(super) from: Option<Nanos>,
    pub(super) until: Nanos,
}

#[derive(Clone, Copy)]
struct Range {
    readings: u64,
    first: u64,
    last: u64,
    least: u64,
    most: (u64, Nanos),
    sum: u64,
    time: u64,
    rises: u64,
}

impl Ranges {
    /// A reading of a generation that ended at this time.
    pub(super) fn read(&mut self, reading: &SystemReading, at: Nanos) {
        let SystemReading { counter, value, time } = reading;
        let new = Range {
            readings: 0,
            first: *value,
            last: *value,
            least: *value,
            most: (*value, at),
            sum: 0,
            time: 0,
            rises: 0,
        };
        let range = self.counters.entry(*counter).or_insert(new);
        range.readings += 1;
        range.rises += u64::from(*value > range.last);
        range.last = *value;
        range.least = range.least.min(*value);
        if *value > range.most.0 {
            range.most = (*value, at);
        }
        range.sum = range.sum.saturating_add(*value);
        range.time = range.time.saturating_add(time.0);
        let from = Nanos(at.0.saturating_sub(time.0));
        self.from = Some(self.from.map_or(from, |known| known.min(from)));
        self.until = self.until.max(at);
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Vec<SystemRange> {
        self.counters
            .into_iter()
            .map(|(counter, range)| SystemRange {
                counter,
                readings: range.readings,
                first: range.first,
                last: range.last,
                least: range.least,
                most: range.most.0,
                most_at: context.moment(range.most.1),
                sum: range.sum,
                time: Nanos(range.time),
                rises: range.rises,
            })
            .collect()
    }
}

impl SystemWatch {
    /// The readings of a generation that ended at this time.
    pub(super) fn read(&mut self, readings: &[SystemReading], at: Nanos) {
        readings.iter().for_each(|reading| self.0.read(reading, at));
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<System> {
        let (from, until) = (self.0.from, self.0.until);
        let counters = self.0.finish(context);
        // An older recorder reads none, and a short snapshot has none: that is no gap in what it says.
        let Some(from) = from else { return Section::default() };
        let table = System { counters };
        let findings = [throttled(&table), descriptors(&table), killed(&table), memory(&table)];
        let findings = findings.into_iter().flatten().map(|(score, title)| {
            let evidence = vec![context.evidence("read by the recorder", from, Some(until))];
            Finding::new("system", title, score, evidence)
        });
        Section { findings: findings.collect(), table, ..Section::default() }.settle(4)
    }
}

fn throttled(system: &System) -> Option<(Score, String)> {
    let periods = system.sum(SystemCounter::Periods);
    let stopped = system.sum(SystemCounter::ThrottledPeriods);
    let time = system.of(SystemCounter::ThrottledTime)?;
    if periods < LEAST_PERIODS {
        return None;
    }
    let share = stopped as f64 / periods.max(1) as f64;
    let score = Score::beyond(share.min(1.0), THROTTLED_SHARE, Unit::Share)?;
    let title = format!(
        "The CPU limit of the process's control group stopped it in {} of {}, for {} in {}, added up over cores",
        count(stopped),
        counted(periods, "period"),
        duration(Nanos(time.sum)),
        duration(time.time)
    );
    Some((score, title))
}

fn descriptors(system: &System) -> Option<(Score, String)> {
    let open = system.of(SystemCounter::Descriptors)?;
    let limit = system.of(SystemCounter::DescriptorLimit)?.last;
    let share = open.most as f64 / limit.max(1) as f64;
    let score = Score::beyond(share.min(1.0), DESCRIPTORS_SHARE, Unit::Share)?;
    let title = format!(
        "The process had {} open of the {} that it may have (`ulimit -n`), {} at the end",
        counted(open.most, "descriptor"),
        count(limit),
        count(open.last)
    );
    Some((score, title))
}

fn killed(system: &System) -> Option<(Score, String)> {
    let kills = system.sum(SystemCounter::OomKills);
    let score = Score::beyond(kills as f64, 0.0, Unit::Count)?;
    let killed = counted(kills, "process");
    let title = format!("The kernel killed {killed} of the control group for want of memory");
    Some((score, title))
}

/// What the control group says, if it says anything; otherwise the machine.
fn memory(system: &System) -> Option<(Score, String)> {
    let of_group = system.of(SystemCounter::CgroupMemorySome);
    let pressed = of_group.or(system.of(SystemCounter::MemorySome))?;
    let share = pressed.sum as f64 / pressed.time.0.max(1) as f64;
    let score = Score::beyond(share.min(1.0), MEMORY_SHARE, Unit::Share)?;
    let whose = if of_group.is_some() { "the control group" } else { "the machine" };
    let title = format!(
        "Threads of {whose} waited for memory for {} in {} ({})",
        duration(Nanos(pressed.sum)),
        duration(pressed.time),
        percent(share.min(1.0))
    );
    Some((score, title))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::test_trace::{Script, ms};

    const SECOND: Nanos = Nanos(1_000_000_000);

    fn findings(readings: &[&[(SystemCounter, u64)]]) -> Vec<String> {
        let mut script = Script::new(3, &[]);
        for (at, generation) in readings.iter().enumerate() {
            let of = |(counter, value): &(SystemCounter, u64)| SystemReading {
                counter: *counter,
                value: *value,
                time: SECOND,
            };
            let readings: Vec<_> = generation.iter().map(of).collect();
            script.system(&readings, ms(1000.0 * (at + 1) as f64));
        }
        let report = script.report();
        report.system.findings.iter().map(|one| one.title.clone()).collect()
    }

    #[test]
    fn a_cpu_limit_that_takes_effect_is_found_and_one_that_hardly_does_is_not() {
        let of = |stopped, time| {
            let one = [
                (SystemCounter::Periods, 10),
                (SystemCounter::ThrottledPeriods, stopped),
                (SystemCounter::ThrottledTime, time),
            ];
            findings(&[&one, &one])
        };
        assert_eq!(
            of(4, 250_000_000),
            [
                "The CPU limit of the process's control group stopped it in 8 of 20 periods, for 500 ms in 2 s, added up over \
              cores"
            ]
        );
        assert!(of(1, 250_000_000).is_empty());
        assert!(of(0, 0).is_empty());
        let few = [
            (SystemCounter::Periods, 9),
            (SystemCounter::ThrottledPeriods, 9),
            (SystemCounter::ThrottledTime, 9),
        ];
        assert!(findings(&[&few]).is_empty(), "too few to say");
    }

    /// While a process is held up, whole generations pass without an event.
    #[test]
    fn generations_without_events_count() {
        let code = |counter: SystemCounter| counter as u64;
        let mut text = String::new();
        for number in 1..=3_u64 {
            let clock = |second: u64| {
                let nanos = second * SECOND.0;
                format!("{nanos}:{nanos}:{nanos}:1000000000")
            };
            let times = format!("began={} ended={}", clock(number), clock(number + 1));
            text += &format!("generation {number} complete {times}\n");
            if number == 2 {
                text +=
                    "block slot=1 thread=1\n  @10 thread_start thread=1 os_thread=7 name=\"one\"\n";
            }
            let pairs = [
                (SystemCounter::Periods, 10),
                (SystemCounter::ThrottledPeriods, 3 + number),
                (SystemCounter::ThrottledTime, 1_000_000),
            ];
            let pairs = pairs.map(|(counter, value)| format!("{}:{value}", code(counter)));
            text += &format!(
                "block slot=0 thread=0\n  system_counters time=1000000000 counters=[{}]\n",
                pairs.join(", ")
            );
        }
        let trace = crate::Trace::from_bytes(crate::text::from_text(&text).unwrap()).unwrap();
        let report = crate::analysis::Report::of(&trace);
        let stopped = report.system.table.of(SystemCounter::ThrottledPeriods).unwrap();
        assert_eq!((stopped.readings, stopped.first, stopped.last), (3, 4, 6));
        let title = &report.system.findings[0].title;
        assert!(title.contains("in 15 of 30 periods"), "{title}");
    }

    #[test]
    fn descriptors_that_run_out_and_processes_that_are_killed_are_found() {
        let few = [(SystemCounter::Descriptors, 500), (SystemCounter::DescriptorLimit, 1024)];
        let many = [(SystemCounter::Descriptors, 1000), (SystemCounter::DescriptorLimit, 1024)];
        assert!(findings(&[&few, &few]).is_empty());
        assert_eq!(
            findings(&[&many, &few]),
            [
                "The process had 1,000 descriptors open of the 1,024 that it may have (`ulimit -n`), 500 at the end"
            ]
        );
        let none = [(SystemCounter::OomKills, 0)];
        assert!(findings(&[&none]).is_empty());
        let one = [(SystemCounter::OomKills, 1)];
        assert_eq!(
            findings(&[&none, &one]),
            ["The kernel killed 1 process of the control group for want of memory"]
        );
    }

    #[test]
    fn the_groups_own_memory_pressure_counts_before_the_machines() {
        let machine = [(SystemCounter::MemorySome, 400_000_000)];
        assert_eq!(
            findings(&[&machine]),
            ["Threads of the machine waited for memory for 400 ms in 1 s (40 %)"]
        );
        let group =
            [(SystemCounter::MemorySome, 400_000_000), (SystemCounter::CgroupMemorySome, 0)];
        assert!(findings(&[&group]).is_empty());
    }

    #[test]
    fn a_counter_has_its_range() {
        let mut script = Script::new(3, &[]);
        for (value, at) in [(5, 1000.0), (9, 2000.0), (7, 3000.0)] {
            let one = SystemReading { counter: SystemCounter::MinorFaults, value, time: SECOND };
            script.system(&[one], ms(at));
        }
        let report = script.report();
        let faults = report.system.table.of(SystemCounter::MinorFaults).unwrap();
        assert_eq!((faults.readings, faults.first, faults.last), (3, 5, 7));
        assert_eq!((faults.least, faults.most, faults.sum, faults.rate()), (5, 9, 21, 7.0));
        let none = Script::new(3, &[]).report();
        assert!(none.system.table.counters.is_empty());
    }
}
