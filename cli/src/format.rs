//! Formats numbers and durations for people, and escapes texts so that no terminal takes them for commands.

use lookback::command::parse;
use lookback::read::format;
use lookback::read::wire::Nanos;
use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

/// The text on one line, harmless to a terminal: control characters are escaped.
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

/// The text as a field's value: in quotes if its end would not be clear otherwise.
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

/// Control characters, line ends, and characters that change the direction of writing.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

pub use lookback::read::format::{bytes, count, counted};

/// `203 ms`, `1.25 s`, `840 ns`.
pub fn duration(nanos: u64) -> String {
    format::duration(Nanos(nanos))
}

/// `1.234567`: seconds, to the microsecond.
pub fn seconds(nanos: u64) -> String {
    format::seconds(Nanos(nanos))
}

/// How much of the requested window is covered. It can be more: generations are whole, and a snapshot from
/// outside takes the entire arena.
pub fn covered_of(covered: u64, window: u64) -> String {
    let (all, asked) = (duration(covered), duration(window));
    if covered > window && all != asked {
        format!("{all}, more than the window of {asked}")
    } else {
        format!("{all} of a window of {asked}")
    }
}

/// The first non-empty line of a text, cut to a few lines of a terminal, and how many lines follow; `--json`
/// has the rest.
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

/// Parses `500ms`, `2s`, `1.5m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse::duration(text).map_err(|wrong| format!("{wrong}; write 500ms, 2s or 1.5m"))
}

/// A bar that fills this part of `width`, in eighths of a character.
pub fn bar(part: f64, width: usize) -> String {
    let eighths = (part.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut out = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        out.extend(char::from_u32(0x2590 - (eighths % 8) as u32));
    }
    out
}

/// An RFC 3339 time without its fraction of a second. UTC is always written `Z`.
pub fn without_fraction(time: &str) -> String {
    let (seconds, zone) = match time.split_once('.') {
        Some((seconds, rest)) => (seconds, rest.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => time.strip_suffix("+00:00").map_or((time, ""), |seconds| (seconds, "Z")),
    };
    let zone = if zone == "+00:00" { "Z" } else { zone };
    format!("{seconds}{zone}")
}

/// The path, quoted for a shell if necessary.
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
