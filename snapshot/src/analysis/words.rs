//! Numbers in sentences.

use crate::wire::Nanos;

/// `203 ms`, `1.25 s`, `840 ns`: three digits.
pub(super) fn duration(length: Nanos) -> String {
    let (value, unit) = match length.0 {
        nanos @ 0..1_000 => return format!("{nanos} ns"),
        nanos @ 1_000..999_500 => (nanos as f64 / 1e3, "µs"),
        nanos @ 999_500..999_500_000 => (nanos as f64 / 1e6, "ms"),
        nanos => (nanos as f64 / 1e9, "s"),
    };
    let places = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let text = format!("{value:.places$}");
    let short = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{short} {unit}")
}

/// `1 task`, `12,345 tasks`.
pub(super) fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

/// `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `93 %`, `0.4 %`.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value > 0.0 && value < 10.0 { format!("{value:.1} %") } else { format!("{value:.0} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(duration(Nanos(999_999_950)), "1 s");
        let lengths = [7, 1_500, 99_960, 203_400_000, 1_250_000_000].map(|n| duration(Nanos(n)));
        assert_eq!(lengths, ["7 ns", "1.5 µs", "100 µs", "203 ms", "1.25 s"]);
        assert_eq!(
            (counted(1, "task"), counted(12_345, "task")),
            ("1 task".into(), "12,345 tasks".into())
        );
        assert_eq!(
            (percent(0.931), percent(0.004), percent(0.0)),
            ("93 %".into(), "0.4 %".into(), "0 %".into())
        );
    }
}
