//! Notices that the whole process was stopped: by SIGSTOP, in a frozen control group, or with its machine.
//!
//! The collector sleeps until a deadline. If it wakes much later without having waited for a processor, which the
//! kernel counts for each thread, then no thread of the process ran. It records that at once, as an event with a
//! reserved name ([`STOPPED_EVENT`]) and two bounds: the process was stopped at least since the deadline, and at most
//! since the collector went to sleep. Only the trace tells the exact time: no thread recorded anything
//! meanwhile. So a reader can also refute the event, for example if a page fault delayed the collector alone.
//!
//! Other threads resume together with the collector, and one may take a snapshot at once, because something took so
//! long. Snapshots therefore give the collector a moment to record the event first.
//!
//! While the machine is suspended, the monotonic clock stands still, so the collector does not wake late by that clock. What
//! another clock of the kernel adds to it meanwhile is how long that was. The trace's own clock may have run on or not: if
//! not, there is no silence, and no time that anybody could be blamed for.
//!
//! A stop while the collector works, which is a small part of its time, goes unnoticed.

use crate::os::clock::{self, monotonic, suspended};
use crate::os::thread::waited_for_a_processor;
use crate::record::control::control;
use crate::record::emit::{encoded, is_recording, typed_event};
use crate::record::ranges;
use crate::record::site::Site;
use lookback_snapshot::wire::{
    SHORTEST_STOP, STARVED_RANGE, STOPPED_AT_LEAST, STOPPED_AT_MOST, STOPPED_EVENT, STOPPED_RANGE,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static STOPPED: Site =
    Site::new(STOPPED_EVENT, &[STOPPED_AT_LEAST, STOPPED_AT_MOST], file!(), line!());

static STOPPED_FOR: Site = Site::new(STOPPED_RANGE, &[], file!(), line!());
static STARVED_FOR: Site = Site::new(STARVED_RANGE, &[], file!(), line!());

/// The shortest time, in nanoseconds, between two questions to the kernel how long the collector has waited
/// for processors.
const ASKED: u64 = 1_000_000_000;
/// How many milliseconds a snapshot waits for the collector to record a stop.
const PATIENCE: u32 = 20;

/// The collector's deadline.
#[derive(Debug, Default)]
pub(crate) struct Standstill {
    /// In nanoseconds of the monotonic clock; 0 while the collector is awake. Stored with release, so a thread that
    /// sees the 0 (acquire) sees the event, too.
    wakes: AtomicU64,
}

/// What the collector remembers.
#[derive(Debug)]
pub(crate) struct Sleeper {
    /// Whether what it notices is recorded.
    is_told: bool,
    /// How long it had waited for processors, and when it asked.
    waited: Option<(u64, u64)>,
}

impl Standstill {
    /// Sleeps for this long, or until another thread wakes the collector; then records a stop, if there was
    /// one.
    pub(crate) fn sleep(&self, sleeper: &mut Sleeper, time: Duration) {
        let began = monotonic().0;
        if sleeper.waited.is_none_or(|(_, asked)| began - asked.min(began) >= ASKED) {
            sleeper.waited = waited_for_a_processor().map(|waited| (waited, began));
        }
        let wakes = began.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let before = suspended().0;
        let ticks = clock::now(control().mode());
        self.wakes.store(wakes, Ordering::Release);
        std::thread::park_timeout(time);
        let now = monotonic().0;
        let sleep = Sleep { began, wakes, now, suspended: suspended().0.saturating_sub(before) };
        if sleep.may_be_a_stop() {
            let ticks = clock::now(control().mode()).saturating_sub(ticks);
            sleeper.overslept(&sleep, ticks);
        }
        self.wakes.store(0, Ordering::Release);
    }

    /// If the collector has missed its deadline, gives it a moment to record why.
    pub(crate) fn let_it_be_told(&self) {
        let is_late = || {
            let wakes = self.wakes.load(Ordering::Acquire);
            wakes != 0 && monotonic().0.saturating_sub(wakes) >= SHORTEST_STOP.0
        };
        for _ in 0..PATIENCE {
            if !is_late() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Sleeper {
    pub(crate) fn new(is_told: bool) -> Self {
        Self { is_told, waited: None }
    }

    /// The sleep took so many ticks of the trace's clock.
    fn overslept(&mut self, sleep: &Sleep, ticks: u64) {
        let after = waited_for_a_processor();
        let waited =
            self.waited.zip(after).map(|((before, _), after)| after.saturating_sub(before));
        self.waited = after.map(|after| (after, sleep.now));
        if let Some((at_least, at_most)) = sleep.stop(waited) {
            control().stops.fetch_add(1, Ordering::Relaxed);
            if !self.is_told {
                return;
            }
            typed_event(&STOPPED, (encoded(&at_least), encoded(&at_most)));
            over(&STOPPED_FOR, sleep.ticks(ticks, at_least));
        }
        if let Some(starved) = sleep.starved(waited).filter(|_| self.is_told) {
            over(&STARVED_FOR, sleep.ticks(ticks, starved));
        }
    }
}

/// Records a range of so many ticks that is over now.
fn over(site: &'static Site, ticks: u64) {
    if is_recording() {
        drop(ranges::begin(site, ticks));
    }
}

/// A sleep of the collector, in nanoseconds of the monotonic clock.
#[derive(Debug)]
struct Sleep {
    began: u64,
    /// When it should have ended.
    wakes: u64,
    now: u64,
    /// For how long the machine was suspended meanwhile, by another clock.
    suspended: u64,
}

impl Sleep {
    fn may_be_a_stop(&self) -> bool {
        self.now.saturating_sub(self.wakes) + self.suspended >= SHORTEST_STOP.0
    }

    /// For how long the process was stopped at least, and at most, if that is long enough. `waited` is for how long the
    /// collector has waited for a processor, if that is known.
    fn stop(&self, waited: Option<u64>) -> Option<(u64, u64)> {
        let late = self.now.saturating_sub(self.wakes);
        let stood = waited.map_or(0, |waited| late.saturating_sub(waited));
        let (at_least, at_most) = (stood + self.suspended, self.now - self.began + self.suspended);
        (at_least >= SHORTEST_STOP.0).then_some((at_least, at_most))
    }

    /// How many ticks so many nanoseconds of it are, if all of it took `ticks`.
    fn ticks(&self, ticks: u64, nanos: u64) -> u64 {
        let all = self.now.saturating_sub(self.began).saturating_add(self.suspended).max(1);
        let part = u128::from(ticks) * u128::from(nanos) / u128::from(all);
        u64::try_from(part).unwrap_or(ticks).min(ticks)
    }

    /// For how long the collector had no processor although it wanted one, if that is long enough.
    fn starved(&self, waited: Option<u64>) -> Option<u64> {
        let late = self.now.saturating_sub(self.wakes);
        waited.map(|waited| waited.min(late)).filter(|starved| *starved >= SHORTEST_STOP.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn stop(late: u64, suspended: u64, waited: Option<u64>) -> Option<(u64, u64)> {
        let sleep =
            Sleep { began: 5 * SECOND, wakes: 6 * SECOND, now: 6 * SECOND + late, suspended };
        assert!(sleep.may_be_a_stop() || sleep.stop(Some(0)).is_none());
        sleep.stop(waited)
    }

    #[test]
    fn a_collector_that_wakes_late_was_stopped_unless_it_waited_for_a_processor() {
        assert_eq!(stop(2 * SECOND, 0, Some(0)), Some((2 * SECOND, 3 * SECOND)));
        assert_eq!(stop(2 * SECOND, 0, Some(SECOND)), Some((SECOND, 3 * SECOND)));
        assert_eq!(stop(2 * SECOND, 0, Some(2 * SECOND)), None);
        assert_eq!(stop(2 * SECOND, 0, None), None, "why it was late is not known");
        assert_eq!(stop(SECOND / 5, 0, Some(0)), None, "too short");
    }

    #[test]
    fn a_collector_that_waited_for_a_processor_was_starved() {
        let late = |late, waited| {
            let now = 6 * SECOND + late;
            Sleep { began: 5 * SECOND, wakes: 6 * SECOND, now, suspended: 0 }.starved(waited)
        };
        assert_eq!(late(2 * SECOND, Some(SECOND)), Some(SECOND));
        // It waited before it slept, too.
        assert_eq!(late(SECOND, Some(9 * SECOND)), Some(SECOND));
        assert_eq!(late(2 * SECOND, Some(SECOND / 5)), None);
        assert_eq!(late(2 * SECOND, None), None);
    }

    #[test]
    fn a_suspended_machine_is_a_stop_that_the_monotonic_clock_does_not_know() {
        assert_eq!(stop(0, 60 * SECOND, Some(0)), Some((60 * SECOND, 61 * SECOND)));
        assert_eq!(stop(0, 60 * SECOND, None), Some((60 * SECOND, 61 * SECOND)));
        assert_eq!(stop(SECOND, 60 * SECOND, Some(SECOND)), Some((60 * SECOND, 62 * SECOND)));
        assert_eq!(stop(0, 0, None), None);
    }
}
