//! Numbers and texts as people read them, and texts that no terminal takes for commands.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// The text, on one line, and harmless to a terminal: control characters are spelled out.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_harmful(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// The text as the value of a field: in quotes where it would not be clear where it ends.
pub fn quote(text: &str) -> Cow<'_, str> {
    let clear = |character: char| !character.is_whitespace() && !"\"\\=".contains(character);
    if !text.is_empty() && text.chars().all(clear) {
        return escape(text);
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            _ if is_harmful(character) => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out.push('"');
    Cow::Owned(out)
}

/// Control characters, line ends, and what turns the direction of writing.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `12,345`.
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
pub fn counted(number: u64, what: &str) -> String {
    let ending = match what.ends_with('s') {
        _ if number == 1 => "",
        true => "es",
        false => "s",
    };
    format!("{} {what}{ending}", count(number))
}

/// `412 B`, `1.5 KiB`, `33 MiB`.
pub fn bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut value = number as f64;
    while value >= 1023.5 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value, unit > 0), units[unit])
}

/// `203 ms`, `1.25 s`, `840 ns`.
pub fn duration(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000 => (nanos as f64, "ns"),
        1_000..1_000_000 => (nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value, nanos >= 1_000))
}

fn three_digits(value: f64, fraction: bool) -> String {
    let places = match value {
        _ if !fraction => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let mut text = String::new();
    let _ = write!(text, "{value:.places$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text
}

/// `1.234567`: seconds, to the microsecond.
pub fn seconds(nanos: u64) -> String {
    format!("{}.{:06}", nanos / 1_000_000_000, nanos / 1_000 % 1_000_000)
}

/// Reads `500ms`, `2s`, `1.5m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time; say 500ms, 2s or 1.5m");
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let value: f64 = digits.parse().map_err(|_| wrong())?;
    let unit = match text[digits.len()..].trim() {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(value * unit).map_err(|_| wrong())
}

/// A bar of this part of a width, in eighths of a character.
pub fn bar(part: f64, width: usize) -> String {
    let eighths = (part.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut out = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        out.extend(char::from_u32(0x2590 - (eighths % 8) as u32));
    }
    out
}

/// A time as RFC 3339 has it, to the second.
pub fn without_fraction(time: &str) -> String {
    let Some((seconds, rest)) = time.split_once('.') else { return time.to_owned() };
    format!("{seconds}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_stay_on_the_line_and_do_nothing() {
        assert_eq!(escape("a\nb\u{1b}[31m\u{202e}\u{85}"), r"a\nb\u{1b}[31m\u{202e}\u{85}");
        assert!(matches!(escape("grün \\ 7 %"), Cow::Borrowed(_)));
    }

    #[test]
    fn values_are_quoted_where_it_matters() {
        assert_eq!(quote("GET"), "GET");
        assert_eq!(quote("/items/7"), "/items/7");
        assert_eq!(quote(""), r#""""#);
        assert_eq!(quote("two words"), r#""two words""#);
        assert_eq!(quote("a=\"b\"\n"), r#""a=\"b\"\n""#);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            (count(0), count(999), count(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!(
            (bytes(0), bytes(1023), bytes(1024)),
            ("0 B".into(), "1023 B".into(), "1 KiB".into())
        );
        assert_eq!((bytes(1536), bytes(33 << 20)), ("1.5 KiB".into(), "33 MiB".into()));
        assert_eq!((duration(7), duration(1_250_000_000)), ("7 ns".into(), "1.25 s".into()));
        assert_eq!(duration(203_400_000), "203 ms");
        assert_eq!(seconds(2_043_118_204), "2.043118");
        assert_eq!(bytes(u64::MAX), "16384 PiB");
    }

    #[test]
    fn lengths_of_time_are_read() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5 s"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "5", "ms", "-1s", "1e400s", "nan", "1 week", "1.2.3s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bars_have_eighths() {
        assert_eq!(
            (bar(0.0, 4), bar(0.5, 4), bar(1.0, 4)),
            (String::new(), "██".into(), "████".into())
        );
        assert_eq!(bar(1.0 / 8.0, 1), "▏");
        assert_eq!(bar(7.0, 2), "██");
    }
}
