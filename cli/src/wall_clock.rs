//! When events happened by the clock on the wall.

use chrono::{DateTime, SecondsFormat, Utc};
use lookback::read::wire::Generation;
use lookback::read::{Event, Trace};
use std::collections::HashMap;

/// When an event happened: since the first one, and by the clock on the wall, if that is to be told; both in nanoseconds.
#[derive(Clone, Copy)]
pub struct When {
    pub since: u64,
    pub wall: Option<u64>,
}

/// See the module. The clock may be set meanwhile, so it is read at the beginning of each generation.
pub struct WallClock(HashMap<Generation, (u64, u64)>);

impl WallClock {
    pub fn of(trace: &Trace) -> Self {
        let known = trace.generations().iter().filter(|info| info.wall.0 != 0);
        Self(known.map(|info| (info.number, (info.start.0, info.wall.0))).collect())
    }

    /// When that was, in nanoseconds since 1970 began; `None` if its generation's begin cannot be read.
    pub fn at(&self, event: &Event) -> Option<u64> {
        let (start, wall) = self.0.get(&event.generation())?;
        let time = event.time().0;
        Some(match time.checked_sub(*start) {
            Some(after) => wall.saturating_add(after),
            None => wall.saturating_sub(start - time),
        })
    }
}

fn utc(wall: u64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(i64::try_from(wall).unwrap_or(i64::MAX))
}

/// `15:41:17.204861`, in UTC.
pub fn time_of_day(wall: u64) -> String {
    utc(wall).format("%H:%M:%S%.6f").to_string()
}

/// `2026-11-24T15:41:17.204861345Z`.
pub fn rfc3339(wall: u64) -> String {
    utc(wall).to_rfc3339_opts(SecondsFormat::Nanos, true)
}
