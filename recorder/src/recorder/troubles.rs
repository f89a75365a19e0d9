//! Ranges that the recorder finds by its counters: storms of page faults, and memory that the kernel reclaims.
//!
//! What a reading says is of the time since the one before. So a range begins where that time begins, when it is first noticed,
//! and ends with the last reading that says so, when it is over; only while others record something, too. It is open in between: each generation says so, also
//! that in which the process is killed for want of memory.

#![forbid(unsafe_code)]

use crate::generation::system_counters::Readings;
use crate::os::clock;
use crate::record::control::Control;
use crate::record::emit::is_recording;
use crate::record::ranges::{self, Range};
use crate::record::site::Site;
use crate::record::slot::Slot;
use lookback_snapshot::wire::{FAULTS_RANGE, RECLAIM_RANGE, SystemCounter};
use std::time::Duration;

static FAULTS: Site = Site::new(FAULTS_RANGE, &[], file!(), line!());
static RECLAIM: Site = Site::new(RECLAIM_RANGE, &[], file!(), line!());

/// So many faults a second that need no storage are a storm: of pages of 4 KiB, 800 MB a second.
const MINOR_STORM: u64 = 200_000;
/// And so many that read from storage.
const MAJOR_STORM: u64 = 500;
/// Of a shorter time, a rate says little.
const SHORT: Duration = Duration::from_millis(100);

/// What is watched.
#[derive(Default)]
pub(crate) struct Troubles {
    /// Whether what is found is recorded.
    is_told: bool,
    faults: Watched,
    reclaim: Watched,
    /// How many events had been recorded after the last look.
    recorded: u64,
}

#[derive(Default)]
struct Watched {
    /// When it was looked at last, in ticks.
    looked: u64,
    range: Option<Range>,
}

impl Troubles {
    pub(crate) fn new(is_told: bool) -> Self {
        Self { is_told, ..Self::default() }
    }

    /// The counters were read.
    pub(crate) fn look(&mut self, control: &Control, readings: &Readings) {
        if !self.is_told {
            return;
        }
        // A process that hangs would slowly overwrite its last events.
        if recorded(control) == self.recorded {
            return;
        }
        let now = clock::now(control.mode());
        self.faults.look(&FAULTS, now, storms(readings));
        self.reclaim.look(&RECLAIM, now, reclaims(readings));
        self.recorded = recorded(control);
    }

    /// The recording ends: what is open is no longer watched.
    pub(crate) fn end(&mut self, control: &Control) {
        let now = clock::now(control.mode());
        for watched in [&mut self.faults, &mut self.reclaim] {
            if let Some(range) = watched.range.take() {
                range.end_late(now.saturating_sub(watched.looked));
            }
        }
    }
}

fn recorded(control: &Control) -> u64 {
    control.slots().map(Slot::recorded).sum()
}

impl Watched {
    /// Whether it was so since the look before; `None` if nothing says.
    fn look(&mut self, site: &'static Site, now: u64, is_so: Option<bool>) {
        let Some(is_so) = is_so else { return };
        let ago = now.saturating_sub(self.looked);
        match (is_so, self.range.take()) {
            (true, None) if is_recording() => {
                // Before the first look there was none to compare with.
                let ago = if self.looked == 0 { 0 } else { ago };
                self.range = Some(ranges::begin(site, ago));
            }
            (false, Some(range)) => range.end_late(ago),
            (_, range) => self.range = range,
        }
        self.looked = now;
    }
}

fn storms(readings: &Readings) -> Option<bool> {
    let rate = |counter| {
        let (added, time) = readings.of(counter)?;
        (time >= SHORT).then(|| u128::from(added) * 1_000_000_000 / time.as_nanos())
    };
    let (minor, major) = (rate(SystemCounter::MinorFaults)?, rate(SystemCounter::MajorFaults)?);
    Some(minor >= u128::from(MINOR_STORM) || major >= u128::from(MAJOR_STORM))
}

/// At the limit, or above what slows its threads down. The kernel counts both each time.
fn reclaims(readings: &Readings) -> Option<bool> {
    let counters = [SystemCounter::LimitEvents, SystemCounter::HighEvents];
    let added = counters.into_iter().filter_map(|counter| readings.of(counter));
    added.map(|(added, _)| added).reduce(|a, b| a.saturating_add(b)).map(|added| added > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(of: &[(SystemCounter, u64)], millis: u64) -> Readings {
        Readings::of_these(of, Duration::from_millis(millis))
    }

    #[test]
    fn many_faults_are_a_storm() {
        let of = |minor, major, millis| {
            let of = [(SystemCounter::MinorFaults, minor), (SystemCounter::MajorFaults, major)];
            storms(&readings(&of, millis))
        };
        assert_eq!(of(200_000, 0, 1000), Some(true));
        assert_eq!(of(100_000, 0, 1000), Some(false));
        assert_eq!(of(100_000, 0, 250), Some(true));
        assert_eq!(of(0, 500, 1000), Some(true));
        assert_eq!(of(200_000, 0, 10), None);
        assert_eq!(storms(&readings(&[], 1000)), None);
    }

    #[test]
    fn a_group_at_its_limit_reclaims() {
        let limit = |added| reclaims(&readings(&[(SystemCounter::LimitEvents, added)], 1000));
        assert_eq!((limit(3), limit(0)), (Some(true), Some(false)));
        assert_eq!(reclaims(&readings(&[(SystemCounter::HighEvents, 1)], 1000)), Some(true));
        assert_eq!(reclaims(&readings(&[], 1000)), None);
    }
}
