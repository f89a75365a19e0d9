//! Numbers and texts as people read them, and texts that no terminal takes for commands.

use lookback::read::wire::Nanos;
use lookback::read::words;
use std::borrow::Cow;
use std::path::Path;
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

pub use lookback::read::words::{bytes, count, counted};

/// `203 ms`, `1.25 s`, `840 ns`.
pub fn duration(nanos: u64) -> String {
    words::duration(Nanos(nanos))
}

/// `1.234567`: seconds, to the microsecond.
pub fn seconds(nanos: u64) -> String {
    words::seconds(Nanos(nanos))
}

/// How much is covered of the window that was asked for. It can be more: generations are whole, and from
/// outside all that is in the arena is taken.
pub fn covered_of(covered: u64, window: u64) -> String {
    let (all, asked) = (duration(covered), duration(window));
    if covered > window && all != asked {
        format!("{all}, more than the window of {asked}")
    } else {
        format!("{all} of a window of {asked}")
    }
}

/// The first line of a text that has something on it, no longer than a few lines of a terminal, and how
/// much there is beside it: the rest is for whoever asks.
pub fn first_line(text: &str) -> String {
    const MOST: usize = 400;
    let text = text.trim();
    let (line, rest) =
        text.split_once(['\n', '\r']).map_or((text, ""), |(line, rest)| (line.trim_end(), rest));
    let cut = line.char_indices().nth(MOST).map_or(line.len(), |(at, _)| at);
    let mut out = line[..cut].to_owned();
    if cut < line.len() {
        out.push('…');
    }
    match rest.lines().filter(|line| !line.trim().is_empty()).count() as u64 {
        0 => {}
        more => out += &format!(" … ({}, see --json)", counted(more, "more line")),
    }
    out
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

/// A time as RFC 3339 has it, to the second. Universal time is `Z`, whoever wrote it.
pub fn without_fraction(time: &str) -> String {
    let (seconds, zone) = match time.split_once('.') {
        Some((seconds, rest)) => (seconds, rest.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => time.strip_suffix("+00:00").map_or((time, ""), |seconds| (seconds, "Z")),
    };
    let zone = if zone == "+00:00" { "Z" } else { zone };
    format!("{seconds}{zone}")
}

/// The path as a shell understands it.
pub fn shell_word(path: &Path) -> Cow<'_, str> {
    let text = path.to_string_lossy();
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "/._-+:@%".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
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
    fn of_a_text_of_many_lines_the_first_is_shown_and_the_others_are_counted() {
        assert_eq!(first_line("panic at x: no room"), "panic at x: no room");
        assert_eq!(first_line("\nleft\r\n  right\n\nend\n"), "left … (2 more lines, see --json)");
        assert_eq!(first_line("a\nb"), "a … (1 more line, see --json)");
        assert_eq!(first_line(&"ü".repeat(1000)).chars().count(), 401);
        assert_eq!(first_line(""), "");
    }

    #[test]
    fn universal_time_has_one_form() {
        for time in ["2026-11-24T15:41:17Z", "2026-11-24T15:41:17.5Z", "2026-11-24T15:41:17+00:00"]
        {
            assert_eq!(without_fraction(time), "2026-11-24T15:41:17Z");
        }
        assert_eq!(without_fraction("2026-11-24T15:41:17.123+00:00"), "2026-11-24T15:41:17Z");
        assert_eq!(without_fraction("2026-11-24T15:41:17.1+01:00"), "2026-11-24T15:41:17+01:00");
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
