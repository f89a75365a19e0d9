//! Points in time on the command line: since the first event, before the end, or by the clock on the wall.

use crate::format::parse_duration;
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
}

impl FromStr for AskedMoment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(wall) = wall(text) {
            return Ok(Self::Wall(wall));
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
                "write +1.204 (seconds since the first event, as `events` prints them), 500ms, -2s (before the end), or \
                 2026-11-24T15:41:17.5Z"
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
        }
    }
}

/// The clock on the wall may be set; so the generation counts that had begun by then.
fn by_wall(trace: &Trace, wall: u64) -> u64 {
    let mut found = None;
    for info in trace.generations() {
        let Ok(generation) = trace.generation(info.number) else { continue };
        let began = generation.began();
        if found.is_some() && began.wall.0 > wall {
            break;
        }
        found = Some(began);
    }
    let Some(began) = found else { return 0 };
    let (at, there) = (began.monotonic.0, began.wall.0);
    match wall.checked_sub(there) {
        Some(after) => at.saturating_add(after),
        None => at.saturating_sub(there - wall),
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

/// An RFC 3339 time, in nanoseconds since 1970 began.
fn wall(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.split('-').map(|part| digits(part)?.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, offset) = match time.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => {
            let at = time.rfind(['+', '-'])?;
            let (hours, minutes) = time[at + 1..].split_once(':')?;
            let hours = digits(hours)?.parse::<i64>().ok()?.checked_mul(60)?;
            let minutes = hours.checked_add(digits(minutes)?.parse::<i64>().ok()?)?;
            (&time[..at], if time[at..].starts_with('-') { -minutes } else { minutes })
        }
    };
    let (time, part) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.split(':').map(|part| digits(part)?.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let is_one = date.next().is_none()
        && time.next().is_none()
        && (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && offset.abs() < 24 * 60;
    if !is_one {
        return None;
    }
    // Years start in March, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second - offset * 60;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?.checked_add(nanos(part)?)
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
        for wrong in
            ["", "soon", "+", "-", "1.", "..", "1.2.3", "99999999999999999999", "1e9", "2026-11-24"]
        {
            let read = wrong.parse::<AskedMoment>();
            assert!(read.is_err() || wrong == "1.", "{wrong}: {read:?}");
        }
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
}
