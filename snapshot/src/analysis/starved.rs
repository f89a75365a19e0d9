//! Whether threads wanted to run and others had the cores: as the kernel counts for each thread, and what the machine says.

use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::system::System;
use super::{Finding, Score, Section, Unit};
use crate::format::{duration, percent};
use crate::read::ThreadTimes;
use crate::wire::{Nanos, SystemCounter};

/// The largest part of the time in which threads want to run that they may wait for a core.
pub const STARVED_SHARE: f64 = 0.25;
/// The largest part of the time of the cores that the hypervisor may give to other machines.
pub const STOLEN_SHARE: f64 = 0.1;

/// Threads that waited for less of the snapshot's time, added up, hardly wanted to run.
const LITTLE: f64 = 0.1;
/// A process that uses this part of the cores competes with itself.
const OWN_SHARE: f64 = 0.85;

/// What the kernel said of threads.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Starved {
    /// How long threads ran, added up.
    pub ran: Nanos,
    /// How long they wanted to run and waited for a core.
    pub waited: Nanos,
    /// The time that this is of.
    pub time: Nanos,
    /// How many cores the process may use, if that is known.
    pub cores: Option<u64>,
    /// How much of them it used, if that is known.
    pub used: Option<f64>,
}

/// Adds it up.
#[derive(Default)]
pub(super) struct StarvedWatch {
    ran: Nanos,
    waited: Nanos,
    time: Nanos,
    from: Option<Nanos>,
    until: Nanos,
}

impl StarvedWatch {
    /// What the kernel said at the end of a generation, at this time.
    pub(super) fn read(&mut self, times: &[ThreadTimes], at: Nanos) {
        let Some(longest) = times.iter().map(|of| of.time).max() else { return };
        for of in times {
            self.ran.grow(of.ran);
            self.waited.grow(of.waited);
        }
        // One that was silent for long is told of for all of that; the time has passed but once.
        let since = self.from.map_or(longest, |_| longest.min(at.since(self.until)));
        self.time.grow(since);
        self.from.get_or_insert(Nanos(at.0.saturating_sub(longest.0)));
        self.until = self.until.max(at);
    }

    pub(super) fn finish(
        self,
        cores: Option<u64>,
        system: &System,
        context: &ReportContext<'_>,
    ) -> Section<Starved> {
        let cpu = [SystemCounter::UserTime, SystemCounter::SystemTime];
        let cpu: Option<f64> = cpu.iter().map(|one| Some(system.of(*one)?.rate() / 1e9)).sum();
        let used = cpu.zip(cores).map(|(cpu, cores)| (cpu / cores.max(1) as f64).min(1.0));
        let table = Starved { ran: self.ran, waited: self.waited, time: self.time, cores, used };
        let mut section = Section { table, ..Section::default() };
        let from = self.from.unwrap_or(context.first);
        let evidence = |what: String| vec![context.evidence(what, from, Some(self.until))];
        if let Some((score, title)) = stolen(system, cores) {
            let evidence = evidence("read by the recorder".to_owned());
            section.findings.push(Finding::new("starved", title, score, evidence));
        }
        let wanted = self.ran.plus(self.waited);
        if self.from.is_none() || wanted.0 == 0 {
            section
                .not_assessed
                .push("the kernel does not say how long threads waited for a core".into());
            return section;
        }
        let share = self.waited.0 as f64 / wanted.0 as f64;
        let is_much = self.waited.0 as f64 >= LITTLE * self.time.0 as f64;
        let score = Score::beyond(share, STARVED_SHARE, Unit::Share).filter(|_| is_much);
        let (Some(score), Some(used)) = (score, used) else {
            if score.is_some() {
                let because =
                    "how many cores the process has, and how much of them it used, is not known";
                section.not_assessed.push(because.to_owned());
            }
            return section;
        };
        if used >= OWN_SHARE {
            return section;
        }
        let title = format!(
            "Threads waited for a core for {} of the time in which they wanted to run ({} in {}), though the process used \
             only {} of its cores: others had them",
            percent(share),
            duration(self.waited),
            duration(self.time),
            percent(used),
        );
        let mut what = "counted by the kernel for each thread".to_owned();
        for (counter, words) in [
            (SystemCounter::CgroupCpuSome, "tasks of the control group waited for a core"),
            (SystemCounter::CpuSome, "tasks of the machine waited for a core"),
        ] {
            if let Some(of) = system.of(counter) {
                let share = (of.sum as f64 / of.time.0.max(1) as f64).min(1.0);
                what += &format!("; {words} for {} of the time", percent(share));
            }
        }
        section.findings.push(Finding::new("starved", title, score, evidence(what)));
        section.settle(2)
    }
}

fn stolen(system: &System, cores: Option<u64>) -> Option<(Score, String)> {
    let steal = system.of(SystemCounter::Steal)?;
    let share = steal.sum as f64 / steal.time.0.max(1) as f64 / cores?.max(1) as f64;
    let score = Score::beyond(share.min(1.0), STOLEN_SHARE, Unit::Share)?;
    let title = format!(
        "The hypervisor ran others instead of this machine for {} in {}, added up over cores",
        duration(Nanos(steal.sum)),
        duration(steal.time),
    );
    Some((score, title))
}

#[cfg(test)]
mod tests {
    use crate::analysis::test_trace::{Script, ms};
    use crate::read::{SystemReading, ThreadTimes};
    use crate::wire::{Nanos, SystemCounter, ThreadNumber};

    const SECOND: Nanos = Nanos(1_000_000_000);

    /// Two threads that ran and waited for so many milliseconds a second each, on two cores.
    fn findings(ran: u64, waited: u64, steal: u64) -> Vec<String> {
        let mut script = Script::new(3, &[]);
        script.cores(2);
        for second in 1..=3 {
            let at = ms(1000.0 * f64::from(second));
            let reading = |counter, value| SystemReading { counter, value, time: SECOND };
            let of = |thread| ThreadTimes {
                thread: ThreadNumber(thread),
                time: SECOND,
                ran: Nanos(ran * 1_000_000),
                waited: Nanos(waited * 1_000_000),
                slices: 9,
            };
            script.thread_times(&[of(1), of(2)], at);
            script.system(
                &[
                    reading(SystemCounter::UserTime, 2 * ran * 1_000_000),
                    reading(SystemCounter::SystemTime, 0),
                    reading(SystemCounter::CpuSome, 700_000_000),
                    reading(SystemCounter::Steal, steal * 1_000_000),
                ],
                at,
            );
        }
        script.report().starved.findings.into_iter().map(|one| one.title).collect()
    }

    #[test]
    fn threads_that_others_keep_from_running_are_found() {
        assert_eq!(
            findings(400, 600, 0),
            [
                "Threads waited for a core for 60 % of the time in which they wanted to run (3.6 s in 3 s), though the \
                 process used only 40 % of its cores: others had them"
            ]
        );
        assert!(findings(900, 100, 0).is_empty());
        assert!(findings(10, 40, 0).is_empty(), "they hardly wanted to run");
        // More threads than cores, and nobody else.
        assert!(findings(950, 900, 0).is_empty());
        assert_eq!(
            findings(900, 100, 500),
            [
                "The hypervisor ran others instead of this machine for 1.5 s in 3 s, added up over cores"
            ]
        );
    }
}
