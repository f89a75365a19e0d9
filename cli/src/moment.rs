//! Points in time on the command line: since the first event, before the end, or by the clock on the wall.

use crate::format::parse_duration;
use chrono::{DateTime, NaiveTime, Timelike};
use lookback::read::Trace;
use std::str::FromStr;

/// A point in time, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedMoment {
    /// So many nanoseconds after the first event.
    AfterFirst(u64),
    /// So many nanoseconds before the end of the snapshot.
    BeforeEnd(u64),
    /// So many nanoseconds after 1970 began, in UTC.
    Wall(u64),
    /// So many nanoseconds after a day began in UTC: of the snapshot's last day on which that was, or else nearest to it.
    OfDay(u64),
}

impl FromStr for AskedMoment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(wall) = wall(text) {
            return Ok(Self::Wall(wall));
        }
        if let Some(nanos) = of_day(text) {
            return Ok(Self::OfDay(nanos));
        }
        let (is_before, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let nanos = seconds(rest).or_else(|| {
            let length = parse_duration(rest).ok()?;
            u64::try_from(length.as_nanos()).ok()
        });
        match nanos {
            Some(nanos) if is_before => Ok(Self::BeforeEnd(nanos)),
            Some(nanos) => Ok(Self::AfterFirst(nanos)),
            None => Err(
                "write +1.204 (seconds since the first event, as `events` prints them), 500ms, -2s (before the end), \
                 15:41:17.5 (in UTC), or 2026-11-24T15:41:17.5Z; a length goes with --within"
                    .to_owned(),
            ),
        }
    }
}

impl AskedMoment {
    /// By the clock of the events. `first` is the time of the first one, `end` that of the snapshot's end.
    pub fn resolve(self, trace: &Trace, first: u64, end: u64) -> u64 {
        match self {
            Self::AfterFirst(nanos) => first.saturating_add(nanos),
            Self::BeforeEnd(nanos) => end.saturating_sub(nanos),
            Self::Wall(wall) => by_wall(trace, wall),
            Self::OfDay(nanos) => by_wall(trace, last_of_day(trace, nanos, end)),
        }
    }
}

/// The clock on the wall may be set; so the generation counts that had begun by then.
fn by_wall(trace: &Trace, wall: u64) -> u64 {
    let known = || trace.generations().iter().filter(|info| info.wall.0 != 0);
    let begun = known().take_while(|info| info.wall.0 <= wall).last().or_else(|| known().next());
    let Some(info) = begun else { return 0 };
    match wall.checked_sub(info.wall.0) {
        Some(after) => info.start.0.saturating_add(after),
        None => info.start.0.saturating_sub(info.wall.0 - wall),
    }
}

/// `1.204861`: exact to the nanosecond.
fn seconds(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole: u64 = digits(whole)?.parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(nanos(part)?)
}

/// The nanoseconds that these digits after the point are.
fn nanos(digits_of_it: &str) -> Option<u64> {
    if digits_of_it.is_empty() {
        return Some(0);
    }
    let part: String = digits(digits_of_it)?.chars().chain("000000000".chars()).take(9).collect();
    part.parse().ok()
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;

/// When it was last that late in a day while the snapshot went on; or else nearest to it.
fn last_of_day(trace: &Trace, nanos: u64, end: u64) -> u64 {
    let last = trace.generations().iter().rev().find(|info| info.wall.0 != 0);
    let Some(last) = last else { return nanos };
    let ended = last.wall.0.saturating_add(end.saturating_sub(last.start.0));
    let begun = trace.generations().iter().map(|info| info.wall.0).find(|wall| *wall != 0);
    of_day_near(nanos, begun.unwrap_or(ended), ended)
}

fn of_day_near(nanos: u64, begun: u64, ended: u64) -> u64 {
    let today = (ended - ended % DAY).saturating_add(nanos);
    let outside = |at: &u64| begun.saturating_sub(*at).max(at.saturating_sub(ended));
    let [tomorrow, yesterday] = [today.saturating_add(DAY), today.saturating_sub(DAY)];
    // Of those that are as near, the first.
    [tomorrow, today, yesterday].into_iter().min_by_key(outside).unwrap_or(today)
}

/// `15:41:17.5`, in nanoseconds.
fn of_day(text: &str) -> Option<u64> {
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").ok()?;
    let nanos = u64::from(time.nanosecond()).min(999_999_999);
    Some(u64::from(time.num_seconds_from_midnight()) * 1_000_000_000 + nanos)
}

/// An RFC 3339 time, in nanoseconds since 1970 began.
fn wall(text: &str) -> Option<u64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(time.timestamp_nanos_opt()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_events_print_them_and_as_people_say_them() {
        let after = |nanos| Ok(AskedMoment::AfterFirst(nanos));
        assert_eq!("+1.204861".parse(), after(1_204_861_000));
        assert_eq!("1.5".parse(), after(1_500_000_000));
        assert_eq!("7".parse(), after(7_000_000_000));
        assert_eq!("500ms".parse(), after(500_000_000));
        assert_eq!("-2s".parse(), Ok(AskedMoment::BeforeEnd(2_000_000_000)));
        assert_eq!("-0.25".parse(), Ok(AskedMoment::BeforeEnd(250_000_000)));
        assert_eq!("00:01:02.5".parse(), Ok(AskedMoment::OfDay(62_500_000_000)));
        assert_eq!("23:59:59".parse(), Ok(AskedMoment::OfDay(DAY - 1_000_000_000)));
        for wrong in [
            "",
            "soon",
            "24:00:00",
            "7:5",
            ":::",
            "12:60:00",
            "+",
            "-",
            "1.",
            "..",
            "1.2.3",
            "99999999999999999999",
            "1e9",
            "2026-11-24",
        ] {
            let read = wrong.parse::<AskedMoment>();
            assert!(read.is_err() || wrong == "1.", "{wrong}: {read:?}");
        }
    }

    #[test]
    fn a_time_of_day_is_the_last_within_the_snapshot_or_the_nearest_to_it() {
        const SECOND: u64 = 1_000_000_000;
        let midnight = 20_000 * DAY;
        let (before, after) = (midnight - 5 * SECOND, midnight + 5 * SECOND);
        let late = DAY - 10 * SECOND;
        // Across midnight.
        assert_eq!(of_day_near(DAY - 2 * SECOND, before, after), midnight - 2 * SECOND);
        assert_eq!(of_day_near(2 * SECOND, before, after), midnight + 2 * SECOND);
        assert_eq!(of_day_near(late, before, after), midnight - 10 * SECOND, "before it began");
        assert_eq!(of_day_near(9 * SECOND, before, after), midnight + 9 * SECOND);
        // All of it after midnight, or before.
        assert_eq!(of_day_near(late, midnight + SECOND, after), midnight - 10 * SECOND);
        assert_eq!(of_day_near(9 * SECOND, before, midnight - SECOND), midnight + 9 * SECOND);
        // Of several days the last.
        assert_eq!(of_day_near(3 * SECOND, before - 2 * DAY, after), midnight + 3 * SECOND);
        assert_eq!(of_day_near(9 * SECOND, before - 2 * DAY, after), midnight + 9 * SECOND - DAY);
    }

    #[test]
    fn the_clock_on_the_wall_is_read_with_its_zone() {
        let wall =
            |text: &str| wall(text).map(|nanos| (nanos / 1_000_000_000, nanos % 1_000_000_000));
        assert_eq!(wall("1970-01-01T00:00:00Z"), Some((0, 0)));
        assert_eq!(wall("2000-02-29T00:00:00Z"), Some((951_782_400, 0)));
        assert_eq!(wall("2026-11-24T15:51:17.5Z"), Some((1_795_535_477, 500_000_000)));
        assert_eq!(wall("2026-11-24T16:51:17+01:00"), Some((1_795_535_477, 0)));
        assert_eq!(wall("2026-11-24 10:21:17-05:30"), Some((1_795_535_477, 0)));
        assert_eq!(wall("2100-03-01T00:00:00Z"), Some((4_107_542_400, 0)));
        for wrong in [
            // More minutes than there are numbers.
            "2026-11-24T15:51:17+153722867280912930:59",
            "2026-13-24T15:51:17Z",
            "2026-11-24T25:51:17Z",
            "2026-11-24T15:51:17",
            "T",
            "2026-11-24TZ",
            "é-1-1T1:1:1Z",
        ] {
            assert_eq!(wall(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_of_day_is_the_last_one_in_the_snapshot_whatever_its_clock_says() {
        let (hour, at) = (DAY / 24, |day: u64, hours: u64| day * DAY + hours * DAY / 24);
        assert_eq!(of_day_near(5 * hour, at(9, 4), at(9, 6)), at(9, 5));
        assert_eq!(of_day_near(23 * hour, at(8, 22), at(9, 6)), at(8, 23));
        assert_eq!(of_day_near(23 * hour, at(9, 1), at(9, 6)), at(8, 23));
        assert_eq!(of_day_near(DAY - 1, u64::MAX, u64::MAX), u64::MAX);
    }
}
