//! How the process, its control group and the machine fare: memory, faults, pressure, limits, as the kernel counts them.
//!
//! The collector reads them before it ends a generation, and the generation's end lists what was read: levels as they are,
//! and what was added since the reading before to counts that only grow. So a generation needs no other.
//!
//! **What it costs.** Files are read a group at a time. Each group has its share of a thousandth of a core: one that is dear
//! on this machine (`/proc/stat` with hundreds of cores) is read less often than once a generation, by the CPU time that it
//! took last; and one for which the kernel makes the collector wait is read less often, too. Hardly anything is allocated once
//! all groups have been read.
//!
//! What cannot be read is left out, and [`Troubles`] says why: the file may appear later, so each reading tries again.

#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod parse;
mod runtimes;
#[cfg(target_os = "linux")]
mod sources;
#[cfg(not(target_os = "linux"))]
#[path = "sources_unsupported.rs"]
mod sources;

use crate::os::clock;
use crate::record::control::Control;
use lookback_snapshot::wire::{CounterGroup, Kind, MAX_VARINT, SystemCounter, put_varint};
use sources::Sources;
pub(crate) use sources::troubles;
use std::time::{Duration, Instant};

const GROUPS: usize = CounterGroup::ALL.len();
/// Counters in a group at most.
const MOST: usize = 12;
/// Of so many runtimes readings are kept while no generation can list them, those that came last. Without a bound they would
/// be ever more where runtimes come and go and the collector is outrun.
const MOST_RUNTIMES: usize = 64;
/// One more than the largest code.
const CODES: usize = 128;
/// It is not worth to look more often.
const LEAST: Duration = Duration::from_millis(50);
/// All groups together take this part of the CPU time at most.
const SHARE: u32 = 1000;
/// And each this part of the time: where the kernel makes the collector wait, for a lock say, it does not come back at once.
/// Time in which others have the processor counts too, so it is a larger part.
const SHARE_OF_TIME: u32 = 20;

/// Which groups are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Groups(u16);

impl Groups {
    pub(crate) const ALL: Self = Self((1 << GROUPS) - 1);
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn with(self, group: CounterGroup) -> Self {
        Self(self.0 | 1 << group as u8)
    }

    pub(crate) fn contains(self, group: CounterGroup) -> bool {
        self.0 & 1 << group as u8 != 0
    }

    fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// How long a group rests whose reading took this CPU time and this time.
    fn rest(self, used: Duration, took: Duration) -> Duration {
        let share = used.saturating_mul(SHARE).saturating_mul(self.count());
        LEAST.max(share).max(took.saturating_mul(SHARE_OF_TIME))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = CounterGroup> {
        CounterGroup::ALL.into_iter().filter(move |group| self.contains(*group))
    }
}

/// What was read of a group.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Since the reading before.
    time: Duration,
    counters: Values,
}

/// Counters with their values.
#[derive(Clone, Copy, Debug)]
struct Values {
    of: [(SystemCounter, u64); MOST],
    count: usize,
}

impl Values {
    const NONE: Self = Self { of: [(SystemCounter::Resident, 0); MOST], count: 0 };

    fn add(&mut self, counter: SystemCounter, value: u64) {
        if let Some(place) = self.of.get_mut(self.count) {
            *place = (counter, value);
            self.count += 1;
        }
    }

    fn all(&self) -> &[(SystemCounter, u64)] {
        &self.of[..self.count]
    }

    fn of(&self, counter: SystemCounter) -> Option<u64> {
        self.all().iter().find(|(one, _)| *one == counter).map(|(_, value)| *value)
    }
}

impl Reading {
    /// The most bytes of its record.
    const SIZE: usize = 1 + 3 * MAX_VARINT + MOST * (1 + MAX_VARINT);

    /// With what an earlier one has counted, which no generation has listed.
    fn after(mut self, before: &Self) -> Self {
        self.time += before.time;
        for (counter, value) in &mut self.counters.of[..self.counters.count] {
            if counter.is_increase() {
                *value = value.saturating_add(before.counters.of(*counter).unwrap_or(0));
            }
        }
        self
    }

    fn put(&self, runtime: Option<u32>, out: &mut Vec<u8>) {
        match runtime {
            None => out.push(Kind::SystemCounters as u8),
            Some(number) => {
                out.push(Kind::RuntimeCounters as u8);
                put_varint(out, number.into());
            }
        }
        put_varint(out, u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX));
        put_varint(out, self.counters.count as u64);
        for (counter, value) in self.counters.all() {
            put_varint(out, *counter as u64);
            put_varint(out, *value);
        }
    }
}

/// What was read of each group, and of each runtime.
#[derive(Debug)]
pub(crate) struct Readings {
    groups: [Option<Reading>; GROUPS],
    runtimes: Vec<(u32, Reading)>,
}

impl Readings {
    pub(crate) const NONE: Self = Self { groups: [None; GROUPS], runtimes: Vec::new() };

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.iter().all(Option::is_none) && self.runtimes.is_empty()
    }

    /// A counter, and the time since the reading before.
    pub(crate) fn of(&self, counter: SystemCounter) -> Option<(u64, Duration)> {
        let reading = self.groups[counter.group() as usize]?;
        Some((reading.counters.of(counter)?, reading.time))
    }

    /// For tests: these, all within the same time.
    #[cfg(test)]
    pub(crate) fn of_these(counters: &[(SystemCounter, u64)], time: Duration) -> Self {
        let mut readings = Self::NONE;
        for (counter, value) in counters {
            let of = &mut readings.groups[counter.group() as usize];
            let of = of.get_or_insert(Reading { time, counters: Values::NONE });
            of.counters.add(*counter, *value);
        }
        readings
    }

    /// Adds newer ones.
    pub(crate) fn add(&mut self, newer: &Self) {
        for (before, now) in self.groups.iter_mut().zip(&newer.groups) {
            if let Some(now) = now {
                *before = Some(before.map_or(*now, |before| now.after(&before)));
            }
        }
        for (runtime, now) in &newer.runtimes {
            if let Some((_, before)) = self.runtimes.iter_mut().find(|(known, _)| known == runtime)
            {
                *before = now.after(before);
                continue;
            }
            if self.runtimes.len() >= MOST_RUNTIMES {
                self.runtimes.remove(0);
            }
            self.runtimes.push((*runtime, *now));
        }
    }

    /// Adds the records for which there is room.
    pub(crate) fn put(&self, out: &mut Vec<u8>, room: usize) {
        let of_groups = self.groups.iter().flatten().map(|reading| (None, reading));
        let of_runtimes = self.runtimes.iter().map(|(runtime, reading)| (Some(*runtime), reading));
        for (runtime, reading) in of_groups.chain(of_runtimes) {
            if out.len() + Reading::SIZE > room {
                break;
            }
            reading.put(runtime, out);
        }
    }
}

/// See the module.
pub(crate) struct SystemCounters {
    control: &'static Control,
    groups: Groups,
    sources: Sources,
    /// For each group: when it was read, and how long it then rests.
    read: [Option<(Instant, Duration)>; GROUPS],
    /// What was read last, by code, of counters that only grow.
    before: [Option<u64>; CODES],
}

impl SystemCounters {
    /// Reads what later readings are compared with.
    pub(crate) fn new(control: &'static Control, groups: Groups) -> Self {
        let mut counters = Self {
            control,
            groups,
            sources: Sources::new(groups),
            read: [None; GROUPS],
            before: [None; CODES],
        };
        counters.look();
        counters
    }

    /// Reads the groups that are due.
    pub(crate) fn look(&mut self) -> Readings {
        let mut readings = Readings::NONE;
        if self.groups == Groups::NONE {
            return readings;
        }
        let mut now = Instant::now();
        let mut used = clock::of_this_thread();
        for (at, group) in CounterGroup::ALL.into_iter().enumerate() {
            let is_due = |(read, rest): (Instant, Duration)| now.duration_since(read) >= rest;
            if !self.groups.contains(group) || !self.read[at].is_none_or(is_due) {
                continue;
            }
            let since = self.read[at].map(|(read, _)| now.duration_since(read));
            let mut found = Values::NONE;
            let mut of_runtimes = Vec::new();
            match group {
                CounterGroup::Runtime => of_runtimes = runtimes::read(self.control),
                _ => self.sources.read(group, &mut found),
            }
            let (until, used_until) = (Instant::now(), clock::of_this_thread());
            let cost = used_until.saturating_sub(used);
            self.read[at] = Some((now, self.groups.rest(cost, until.duration_since(now))));
            (now, used) = (until, used_until);
            let counters = self.since_before(group, &found);
            // The first reading is what others are compared with.
            if let Some(time) = since.filter(|_| counters.count > 0) {
                readings.groups[at] = Some(Reading { time, counters });
            }
            if let Some(time) = since {
                let reading = |(runtime, counters)| (runtime, Reading { time, counters });
                readings.runtimes = of_runtimes.into_iter().map(reading).collect();
            }
        }
        self.sources.tell();
        readings
    }

    /// What was added to those that only grow. One that has become less has begun anew: in another control group, say.
    /// One that could not be read begins anew, too: what was added meanwhile is not of the time since the last reading.
    fn since_before(&mut self, group: CounterGroup, found: &Values) -> Values {
        for counter in SystemCounter::ALL.iter().filter(|counter| counter.group() == group) {
            if found.of(*counter).is_none() {
                self.before[*counter as usize] = None;
            }
        }
        let mut counters = Values::NONE;
        for (counter, value) in found.all() {
            if !counter.is_increase() {
                counters.add(*counter, *value);
                continue;
            }
            let before = self.before[*counter as usize].replace(*value);
            if let Some(added) = before.and_then(|before| value.checked_sub(before)) {
                counters.add(*counter, added);
            }
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::control::control;

    fn reading(time: u64, counters: &[(SystemCounter, u64)]) -> Readings {
        let mut values = Values::NONE;
        counters.iter().for_each(|(counter, value)| values.add(*counter, *value));
        let mut readings = Readings::NONE;
        readings.groups[0] = Some(Reading { time: Duration::from_secs(time), counters: values });
        readings
    }

    #[test]
    fn a_group_has_room_for_its_counters_and_every_code_has_a_place() {
        for group in CounterGroup::ALL {
            let of = SystemCounter::ALL.iter().filter(|counter| counter.group() == group);
            assert!(of.count() <= MOST, "{group:?}");
        }
        assert!(SystemCounter::ALL.iter().all(|counter| (*counter as usize) < CODES));
    }

    #[test]
    fn what_was_added_while_nothing_could_be_read_is_not_of_the_last_reading() {
        let mut counters = SystemCounters::new(control(), Groups::NONE);
        let mut since = |read: Option<u64>| {
            let mut found = Values::NONE;
            read.iter().for_each(|value| found.add(SystemCounter::CpuSome, *value));
            let group = SystemCounter::CpuSome.group();
            counters.since_before(group, &found).of(SystemCounter::CpuSome)
        };
        let readings = [Some(10), Some(30), None, Some(500), Some(510)];
        assert_eq!(readings.map(&mut since), [None, Some(20), None, None, Some(10)]);
    }

    #[test]
    fn what_no_generation_has_listed_is_listed_with_what_follows() {
        let mut readings =
            reading(1, &[(SystemCounter::Resident, 70), (SystemCounter::MinorFaults, 3)]);
        readings
            .add(&reading(2, &[(SystemCounter::Resident, 50), (SystemCounter::MinorFaults, 4)]));
        readings.add(&Readings::NONE);
        let sum = readings.groups[0].unwrap();
        assert_eq!(sum.time, Duration::from_secs(3));
        assert_eq!(sum.counters.of(SystemCounter::Resident), Some(50));
        assert_eq!(sum.counters.of(SystemCounter::MinorFaults), Some(7));
        let mut out = Vec::new();
        readings.put(&mut out, Reading::SIZE - 1);
        assert!(out.is_empty(), "there was no room");
        readings.put(&mut out, Reading::SIZE);
        assert_eq!((out[0], out.len() < Reading::SIZE), (Kind::SystemCounters as u8, true));
    }

    #[test]
    fn runtimes_that_no_generation_has_listed_are_bounded_and_the_newest_are_kept() {
        let mut readings = Readings::NONE;
        let counters = Values::NONE;
        for runtime in 0..1000 {
            let mut newer = Readings::NONE;
            newer.runtimes.push((runtime, Reading { time: Duration::from_secs(1), counters }));
            readings.add(&newer);
            readings.add(&newer);
        }
        assert_eq!(readings.runtimes.len(), MOST_RUNTIMES);
        assert_eq!(readings.runtimes.last().map(|(runtime, _)| *runtime), Some(999));
        assert!(readings.runtimes.iter().all(|(_, of)| of.time == Duration::from_secs(2)));
    }

    #[test]
    fn increases_are_told_from_the_second_reading_on_and_not_across_a_new_beginning() {
        let mut counters = SystemCounters::new(control(), Groups::NONE);
        let mut faults = |value| {
            let mut found = Values::NONE;
            found.add(SystemCounter::MinorFaults, value);
            counters
                .since_before(SystemCounter::MinorFaults.group(), &found)
                .of(SystemCounter::MinorFaults)
        };
        assert_eq!([faults(10), faults(17), faults(5), faults(5)], [None, Some(7), None, Some(0)]);
    }

    #[test]
    fn a_group_that_is_dear_or_slow_is_read_less_often() {
        let rest = |groups: Groups, used, took| {
            groups.rest(Duration::from_micros(used), Duration::from_micros(took))
        };
        let one = Groups::NONE.with(CounterGroup::Process);
        assert_eq!(rest(one, 50, 60), LEAST);
        assert_eq!(rest(one, 2000, 2000), Duration::from_secs(2));
        assert_eq!(rest(Groups::ALL, 2000, 2000), Duration::from_secs(18));
        assert_eq!(rest(one, 10, 3_000_000), Duration::from_secs(60));
        let far = Duration::MAX;
        assert_eq!(one.rest(far, far), far);
    }

    #[test]
    fn a_group_that_rests_is_not_read() {
        let mut counters = SystemCounters::new(control(), Groups::NONE.with(CounterGroup::Process));
        let at = CounterGroup::Process as usize;
        let Some((read, _)) = counters.read[at] else { panic!("it was read at the start") };
        counters.read[at] = Some((read, Duration::MAX));
        assert!(counters.look().is_empty());
        assert_eq!(counters.read[at], Some((read, Duration::MAX)));
        counters.read[at] = Some((read, Duration::ZERO));
        counters.look();
        assert_ne!(counters.read[at], Some((read, Duration::ZERO)));
    }

    /// Not a test, but a measurement: prints the CPU time that readings take.
    #[test]
    #[ignore = "prints figures"]
    fn what_a_reading_costs() {
        const ROUNDS: u32 = 2000;
        let all = CounterGroup::ALL.into_iter().map(|group| Groups::NONE.with(group));
        for groups in std::iter::once(Groups::ALL).chain(all) {
            let mut counters = SystemCounters::new(control(), groups);
            let used = clock::of_this_thread();
            for _ in 0..ROUNDS {
                counters.read = [None; GROUPS];
                counters.look();
            }
            let used = clock::of_this_thread().saturating_sub(used) / ROUNDS;
            let names: Vec<_> = groups.iter().map(CounterGroup::name).collect();
            println!("{:>8} ns a reading of {}", used.as_nanos(), names.join(", "));
        }
    }
}
