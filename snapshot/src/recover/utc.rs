//! Formats an instant: a recovered snapshot says when its process ended.

use crate::wire::Nanos;

/// `2026-11-24T15:41:17Z`, from nanoseconds since 1970-01-01 UTC.
pub(super) fn rfc3339(wall: Nanos) -> String {
    let seconds = wall.0 / 1_000_000_000;
    let (days, within) = (seconds / 86_400, seconds % 86_400);
    // Years start in March, so that the leap day is the last one; eras of 400 years all have the same number
    // of days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let day = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (within / 3_600, within / 60 % 60, within % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_told_as_the_calendar_has_them() {
        let told = |seconds: u64| rfc3339(Nanos(seconds * 1_000_000_000));
        assert_eq!(told(0), "1970-01-01T00:00:00Z");
        assert_eq!(told(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(told(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(told(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(told(1_795_535_477), "2026-11-24T15:51:17Z");
        assert_eq!(told(4_107_542_400), "2100-03-01T00:00:00Z");
        assert!(!rfc3339(Nanos(u64::MAX)).is_empty());
    }
}
