//! Texts: cut to the format's limit, and formatted without allocating.

#![forbid(unsafe_code)]

use lookback_snapshot::wire::MAX_TEXT;
use std::fmt;

/// The longest front of `text` of at most `limit` bytes that ends with a character.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit { text } else { &text[..text.floor_char_boundary(limit)] }
}

/// A text that is formatted into a place on the stack. One byte more than a text may have, so that
/// what was cut off here is seen to be cut off when it is written.
pub(crate) struct StackText {
    bytes: [u8; MAX_TEXT + 4],
    length: usize,
}

impl StackText {
    /// Formats, as far as the limit allows. The formatting is the user's code, which may itself
    /// record, or panic: it runs before anything is begun.
    pub(crate) fn format(arguments: fmt::Arguments<'_>) -> Self {
        let mut text = Self { bytes: [0; MAX_TEXT + 4], length: 0 };
        // An error means that it is full, or that the user's code gave up: what there is, stands.
        let _ = fmt::Write::write_fmt(&mut text, arguments);
        text
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only whole texts and texts cut at a boundary are appended.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Write for StackText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.length;
        let whole = cut(text, room);
        self.bytes[self.length..][..whole.len()].copy_from_slice(whole.as_bytes());
        self.length += whole.len();
        if whole.len() < text.len() {
            // Fill up, so that the length alone says that something is missing.
            while self.length < self.bytes.len() {
                self.bytes[self.length] = b' ';
                self.length += 1;
            }
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_on_a_boundary() {
        assert_eq!(cut("naïve", 3), "na");
        assert_eq!(cut("naïve", 4), "naï");
        assert_eq!(cut("naïve", 99), "naïve");
    }

    #[test]
    fn a_formatted_text_that_is_too_long_is_seen_to_be_cut() {
        let text = StackText::format(format_args!("{}{}", "a".repeat(1020), "ü".repeat(9)));
        assert!(text.as_str().len() > MAX_TEXT);
        assert!(text.as_str().starts_with("aaaa"));
        assert_eq!(StackText::format(format_args!("{}-{}", 1, 2)).as_str(), "1-2");
    }
}
