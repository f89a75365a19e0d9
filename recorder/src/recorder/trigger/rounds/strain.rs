//! Memory and pressure, from the counters that each generation has anyway.

#![forbid(unsafe_code)]

use super::latch::Latch;
use super::sliding::{Sliding, Sums};
use super::{About, CALM};
use crate::generation::system_counters::Readings;
use crate::recorder::trigger::Armed;
use crate::recorder::trigger::dispatch::Active;
use crate::recorder::trigger::lasting::{MemoryLimit, Pressure};
use lookback_snapshot::wire::SystemCounter;
use std::fs;
use std::time::Duration;

/// What a trigger asks for: how much memory.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) limit: MemoryLimit,
    pub(crate) armed: Armed,
}

/// What a trigger asks for: how much pressure.
#[derive(Clone, Debug)]
pub(crate) struct Pressed {
    pub(crate) of: Pressure,
    pub(crate) share: f64,
    pub(crate) over: Duration,
    pub(crate) armed: Armed,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Strain {
    memory: Vec<Latch>,
    /// What the machine has.
    machine: Option<u64>,
    resident: Option<u64>,
    /// What the control group may have.
    group: Option<u64>,
    pressure: Vec<(Sliding, Latch)>,
}

impl Strain {
    /// `None` if no trigger needs it.
    pub(super) fn new(active: &Active) -> Option<Self> {
        let memory: Vec<_> = active.lasting.memory.iter().map(|_| Latch::default()).collect();
        let pressed = active.lasting.pressure.iter();
        let pressure: Vec<_> =
            pressed.map(|one| (Sliding::new(one.over), Latch::default())).collect();
        (!memory.is_empty() || !pressure.is_empty()).then(|| Self {
            memory,
            machine: machine(),
            resident: None,
            group: None,
            pressure,
        })
    }

    /// The counters were read.
    pub(super) fn look(&mut self, active: &Active, readings: &Readings) {
        let level = |counter| readings.of(counter).map(|(value, _)| value);
        self.resident = level(SystemCounter::Resident).or(self.resident);
        self.group = level(SystemCounter::CgroupMemoryLimit).or(self.group);
        for (memory, latch) in active.lasting.memory.iter().zip(&mut self.memory) {
            if let Some(resident) = self.resident {
                look_at_memory(memory, latch, resident, (self.group, self.machine));
            }
        }
        for (pressed, (window, latch)) in active.lasting.pressure.iter().zip(&mut self.pressure) {
            look_at_pressure(pressed, window, latch, readings);
        }
    }
}

fn look_at_memory(
    memory: &Memory,
    latch: &mut Latch,
    resident: u64,
    (group, machine): (Option<u64>, Option<u64>),
) {
    // A control group without a limit may have what the machine has.
    let whole = group.into_iter().chain(machine).min();
    let limit = match memory.limit {
        MemoryLimit::Bytes(bytes) => bytes as f64,
        MemoryLimit::Share(share) => match whole {
            Some(whole) => whole as f64 * share,
            None => return,
        },
    };
    if resident as f64 > limit {
        latch.holds(&memory.armed, |armed| {
            About::default().record();
            let reason = || match (memory.limit, whole) {
                (MemoryLimit::Share(share), Some(whole)) => {
                    let of = if group == Some(whole) { "control group" } else { "machine" };
                    let found = 100.0 * resident as f64 / whole.max(1) as f64;
                    format!(
                        "resident memory is {}, {found:.0} % of the {} that the {of} has, more than {:.0} %",
                        bytes(resident),
                        bytes(whole),
                        share * 100.0
                    )
                }
                _ => format!("resident memory is {}, more than {}", bytes(resident), bytes(limit as u64)),
            };
            armed.go(false, reason, Vec::new());
        });
    } else if resident as f64 <= limit * CALM {
        latch.is_over();
    }
}

fn look_at_pressure(
    pressed: &Pressed,
    window: &mut Sliding,
    latch: &mut Latch,
    readings: &Readings,
) {
    let (own, machine, what) = match pressed.of {
        Pressure::Cpu => (SystemCounter::CgroupCpuSome, SystemCounter::CpuSome, "a core"),
        Pressure::Memory => (SystemCounter::CgroupMemorySome, SystemCounter::MemorySome, "memory"),
        Pressure::Io => (SystemCounter::CgroupIoSome, SystemCounter::IoSome, "storage"),
    };
    let (of, found) = match readings.of(own) {
        Some(found) => ("control group", found),
        None => match readings.of(machine) {
            Some(found) => ("machine", found),
            None => return,
        },
    };
    let (bad, time) = found;
    let sums = window.add(Sums { time, bad, ..Sums::default() });
    // What was short is no condition that lasts.
    if sums.time < pressed.over / 2 {
        return;
    }
    let share = sums.bad as f64 / (sums.time.as_nanos() as f64).max(1.0);
    if share > pressed.share {
        latch.holds(&pressed.armed, |armed| {
            About::default().record();
            let reason = || {
                let (time, limit) = (sums.time.min(pressed.over), pressed.share * 100.0);
                let found = share * 100.0;
                format!(
                    "tasks of the {of} waited for {what} in {found:.0} % of the last {time:.1?}, more than {limit:.0} %"
                )
            };
            armed.go(false, reason, Vec::new());
        });
    } else if share <= pressed.share * CALM {
        latch.is_over();
    }
}

/// The machine's memory.
fn machine() -> Option<u64> {
    let said = fs::read_to_string("/proc/meminfo").ok()?;
    let line = said.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1 << 10)
}

fn bytes(bytes: u64) -> String {
    const MIB: f64 = 1048576.0;
    match bytes as f64 / MIB {
        many if many >= 10_240.0 => format!("{:.1} GiB", many / 1024.0),
        many => format!("{many:.1} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::trigger::Trigger;

    const GIB: u64 = 1 << 30;

    /// Of each reading, whether it fired.
    fn fires<const N: usize>(triggers: &[Trigger], readings: [Readings; N]) -> [bool; N] {
        let active = Active::new(triggers);
        let mut strain = Strain::new(&active).unwrap();
        let mut fired = false;
        readings.map(|readings| {
            strain.look(&active, &readings);
            let all = strain.memory.iter().chain(strain.pressure.iter().map(|(_, latch)| latch));
            let is_on = all.copied().any(Latch::has_fired);
            std::mem::replace(&mut fired, is_on) != is_on && is_on
        })
    }

    fn at_once(trigger: Trigger) -> [Trigger; 1] {
        [trigger.cool_down(Duration::ZERO).per_hour(u32::MAX)]
    }

    #[test]
    fn memory_fires_above_its_limit_once_until_it_is_well_below() {
        let resident =
            |bytes| Readings::of_these(&[(SystemCounter::Resident, bytes)], Duration::from_secs(1));
        let levels = [GIB, GIB + 1, 2 * GIB, GIB, GIB + 2, GIB * 8 / 10, GIB + 1].map(resident);
        let expected = [false, true, false, false, false, false, true];
        assert_eq!(fires(&at_once(Trigger::memory(GIB)), levels), expected);
    }

    #[test]
    fn a_share_is_of_the_control_groups_limit_and_no_limit_is_the_machines_memory() {
        let of = |resident, limit| {
            let of =
                [(SystemCounter::Resident, resident), (SystemCounter::CgroupMemoryLimit, limit)];
            Readings::of_these(&of, Duration::from_secs(1))
        };
        let half = || at_once(Trigger::memory_share(0.5));
        assert_eq!(
            fires(&half(), [of(GIB / 8, GIB / 4 + 2), of(GIB / 8, GIB / 4 - 2)]),
            [false, true]
        );
        let whole = machine().expect("it is Linux");
        let none = u64::MAX;
        assert_eq!(fires(&half(), [of(whole / 3, none), of(whole / 3 * 2, none)]), [false, true]);
    }

    #[test]
    fn pressure_counts_over_its_window_and_the_groups_counts_before_the_machines() {
        let of = |machine: u64, group: Option<u64>| {
            let mut of = vec![(SystemCounter::MemorySome, machine * 1_000_000)];
            of.extend(group.map(|group| (SystemCounter::CgroupMemorySome, group * 1_000_000)));
            Readings::of_these(&of, Duration::from_secs(1))
        };
        let trigger =
            || at_once(Trigger::pressure(Pressure::Memory, 0.2).over(Duration::from_secs(4)));
        let readings = [of(900, None), of(900, None), of(0, None), of(0, None), of(0, None)];
        assert_eq!(fires(&trigger(), readings), [false, true, false, false, false]);
        let readings = [of(900, Some(0)), of(900, Some(0)), of(0, Some(900)), of(0, Some(900))];
        assert_eq!(fires(&trigger(), readings), [false, false, true, false]);
    }
}
