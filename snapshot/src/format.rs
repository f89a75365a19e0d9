//! Formats numbers for people: three digits and a unit. All output uses this module, so that a duration looks
//! the same in a finding, in a table and in an error.

use crate::wire::Nanos;

/// `203 ms`, `1.25 s`, `840 ns`: at most three digits up to 1,000 s, without trailing zeroes.
///
/// ```
/// use lookback_snapshot::{wire::Nanos, format::duration};
/// assert_eq!(duration(Nanos(203_400_000)), "203 ms");
/// assert_eq!(duration(Nanos(999_950)), "1 ms");
/// ```
#[must_use]
pub fn duration(length: Nanos) -> String {
    scaled(length.0 as f64, 1000.0, &["ns", "µs", "ms", "s"])
}

/// `412 B`, `1.5 KiB`, `33 MiB`.
///
/// ```
/// assert_eq!(lookback_snapshot::format::bytes(1536), "1.5 KiB");
/// ```
#[must_use]
pub fn bytes(number: u64) -> String {
    scaled(number as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// `12,345`.
///
/// ```
/// assert_eq!(lookback_snapshot::format::count(12_345), "12,345");
/// ```
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 thread`, `2 threads`, `2 processes`.
///
/// ```
/// use lookback_snapshot::format::counted;
/// assert_eq!((counted(1, "task"), counted(2, "status")), ("1 task".into(), "2 statuses".into()));
/// ```
#[must_use]
pub fn counted(number: u64, what: &str) -> String {
    let ending = match what.ends_with('s') {
        _ if number == 1 => "",
        true => "es",
        false => "s",
    };
    format!("{} {what}{ending}", count(number))
}

/// A part of a whole, 0 to 1: `93 %`, `0.4 %`.
///
/// ```
/// assert_eq!(lookback_snapshot::format::percent(0.931), "93 %");
/// ```
#[must_use]
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value > 0.0 && value < 9.95 { format!("{value:.1} %") } else { format!("{value:.0} %") }
}

/// `1.234567`: seconds, to the microsecond.
///
/// ```
/// use lookback_snapshot::{wire::Nanos, format::seconds};
/// assert_eq!(seconds(Nanos(2_043_118_204)), "2.043118");
/// ```
#[must_use]
pub fn seconds(time: Nanos) -> String {
    format!("{}.{:06}", time.0 / 1_000_000_000, time.0 / 1_000 % 1_000_000)
}

/// The value in the greatest unit in which it *prints* as at least 1: a value that rounds up to the next unit
/// uses that.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while unit + 1 < units.len() && rounded(value, unit) >= step {
        value /= step;
        unit += 1;
    }
    let places = places(value, unit);
    let text = format!("{value:.places$}");
    let short = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{short} {}", units[unit])
}

/// Digits after the point, so that there are three in all. The smallest unit has no fraction.
fn places(value: f64, unit: usize) -> usize {
    match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    }
}

/// The value as printed.
fn rounded(value: f64, unit: usize) -> f64 {
    let power = 10_f64.powi(places(value, unit) as i32);
    (value * power).round() / power
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_short() {
        let lengths = [0, 7, 1_500, 99_960, 999_950, 203_400_000, 999_999_950, 1_250_000_000];
        let lengths = lengths.map(|nanos| duration(Nanos(nanos)));
        assert_eq!(
            lengths,
            ["0 ns", "7 ns", "1.5 µs", "100 µs", "1 ms", "203 ms", "1 s", "1.25 s"]
        );
        assert_eq!(
            [0, 1023, 1024, 1536, 33 << 20, (1 << 20) - 1, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1 KiB", "1.5 KiB", "33 MiB", "1 MiB", "16384 PiB"]
        );
        assert_eq!([0, 999, 1_234_567].map(count), ["0", "999", "1,234,567"]);
        assert_eq!([0.931, 0.004, 0.0, 0.0996].map(percent), ["93 %", "0.4 %", "0 %", "10 %"]);
        assert_eq!(counted(12_345, "task"), "12,345 tasks");
    }

    /// Parses a text independently of the code that wrote it.
    fn read(text: &str, units: &[(&str, u128)]) -> (String, u128, u128) {
        let (digits, unit) = text.split_once(' ').unwrap();
        let (_, unit) = units.iter().find(|(name, _)| *name == unit).unwrap();
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let power = 10_u128.pow(part.len() as u32);
        let value = format!("{whole}{part}").parse::<u128>().unwrap() * unit / power;
        (digits.to_owned(), value, *unit)
    }

    proptest! {
        #[test]
        fn a_length_has_three_digits_and_is_right_to_half_of_the_last(
            mantissa in 0_u64..10_000, zeroes in 0_u32..16, less in 0_u64..100
        ) {
            let nanos = (mantissa * 10_u64.pow(zeroes)).saturating_sub(less);
            let units = [("ns", 1), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
            let (digits, value, unit) = read(&duration(Nanos(nanos)), &units);
            let many = digits.chars().filter(char::is_ascii_digit).count();
            prop_assert!(many <= 3 || unit == 1_000_000_000, "{digits}");
            prop_assert!(unit == 1_000_000_000 || value < unit * 1000, "{digits}");
            prop_assert!(unit == 1 || value >= unit, "{digits}");
            // Half of the third digit of the value, or of a second.
            let last = if value >= unit * 100 { unit } else { (unit / 100).max(1) };
            let last = if (unit * 10..unit * 100).contains(&value) { (unit / 10).max(1) } else { last };
            prop_assert!(u128::from(nanos).abs_diff(value) <= last / 2 + 1, "{nanos} as {digits}");
        }

        #[test]
        fn an_amount_is_less_than_a_whole_one_of_the_next_unit(number: u64, shift in 0_u32..64) {
            let number = number >> shift;
            let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
            let units: Vec<_> = units.iter().zip(0..).map(|(name, at)| (*name, 1_u128 << (10 * at))).collect();
            let (digits, value, unit) = read(&bytes(number), &units);
            prop_assert!(unit == 1 || value >= unit, "{digits}");
            prop_assert!(unit == 1 << 50 || value < unit * 1024, "{digits}");
            prop_assert!(u128::from(number).abs_diff(value) <= value / 180 + 1, "{number}: {digits}");
        }
    }
}
