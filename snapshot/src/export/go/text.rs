//! Texts and values, as Go shows them.

use crate::read::Value;
use crate::wire::floor_char_boundary;
use std::borrow::Cow;
use std::fmt::Write;

/// The longest text that Go reads, in bytes.
const MAX_TEXT: usize = 1024;

/// As much of a text as fits, up to a character's end, and then a mark if it was cut.
pub(super) fn cut(text: &str) -> Cow<'_, str> {
    const MARK: &str = "…";
    if text.len() <= MAX_TEXT {
        return Cow::Borrowed(text);
    }
    let front = &text[..floor_char_boundary(text, MAX_TEXT - MARK.len())];
    Cow::Owned(format!("{front}{MARK}"))
}

/// Appends `name=value` for each field, until the limit is reached.
pub(super) fn append<'a>(out: &mut String, fields: impl Iterator<Item = (&'a str, Value<'a>)>) {
    for (name, value) in fields {
        if out.len() > MAX_TEXT {
            return;
        }
        let space = if out.is_empty() { "" } else { " " };
        let mark = match value {
            Value::Text(text) | Value::Error(text) if text.cut => "…",
            _ => "",
        };
        let _ = match value {
            Value::Text(text) | Value::Error(text) if !is_clear(&text) => {
                write!(out, "{space}{name}={:?}{mark}", &*text)
            }
            Value::Text(text) | Value::Error(text) => {
                write!(out, "{space}{name}={}{mark}", &*text)
            }
            value => write!(out, "{space}{name}={value}"),
        };
    }
}

/// Appends `name=…` for each field whose value found no room.
pub(super) fn append_omitted<'a>(out: &mut String, names: impl Iterator<Item = &'a str>) {
    for name in names {
        if out.len() <= MAX_TEXT {
            let _ = write!(out, " {name}=…");
        }
    }
}

/// Whether the end of the text is clear without quotes.
fn is_clear(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "\"\\=".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Text;

    #[test]
    fn a_text_is_cut_at_the_end_of_a_character() {
        assert_eq!(cut("short"), "short");
        let long = "x".repeat(1020) + "üüü";
        assert_eq!(cut(&long), "x".repeat(1020) + "…");
        assert_eq!(cut(&"ü".repeat(512)), "ü".repeat(512));
        assert_eq!(cut(&"ü".repeat(600)), "ü".repeat(510) + "…");
    }

    #[test]
    fn values_stand_behind_their_names() {
        let mut out = String::from("done");
        let text = |text| Value::Text(Text { text, cut: false });
        let fields = [("n", Value::Unsigned(7)), ("path", text("/a")), ("why", text("no room"))];
        append(&mut out, fields.into_iter());
        assert_eq!(out, "done n=7 path=/a why=\"no room\"");
    }

    #[test]
    fn no_more_is_put_together_than_is_shown() {
        let mut out = String::new();
        append(&mut out, (0..1_000_000).map(|_| ("name", Value::Bool(true))));
        assert!(out.len() < MAX_TEXT + 16);
    }
}
