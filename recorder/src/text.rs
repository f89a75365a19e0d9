//! Texts: cutting them to the format's limit, and formatting them without allocating.

use lookback_snapshot::wire::{MAX_TEXT, floor_char_boundary};
use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;

/// The longest prefix of `text` of at most `limit` bytes that ends at a character boundary.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit { text } else { &text[..floor_char_boundary(text, limit)] }
}

/// The text on one line, or the first `most` characters of it.
pub(crate) fn front(text: &str, most: usize) -> String {
    let mut front: String = text.chars().take(most).flat_map(char::escape_debug).collect();
    if text.chars().nth(most).is_some() {
        front.push('…');
    }
    front
}

/// The beginning of the text, on one line, in quotes: for errors.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", front(text, 60))
}

/// A buffer on the stack for formatting a text. It is not initialized, because clearing a kilobyte
/// takes longer than most formatting; and it is separate from the text's length, because a
/// structure with both would be cleared.
pub struct TextBuf(MaybeUninit<[u8; CAPACITY]>);

impl fmt::Debug for TextBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TextBuf")
    }
}

impl Default for TextBuf {
    #[inline(always)]
    fn default() -> Self {
        Self::new()
    }
}

impl TextBuf {
    /// An empty buffer.
    #[inline(always)]
    #[must_use]
    pub const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// The first `length` bytes, which a [`StackText`] has written here.
    ///
    /// # Safety
    /// They must be exactly a text that was formatted into this buffer.
    pub(crate) unsafe fn text(&self, length: usize) -> &str {
        let start = self.0.as_ptr().cast::<u8>();
        // SAFETY: as the caller promises.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start, length)) }
    }
}

/// A text that is formatted into a buffer on the stack. The buffer is slightly larger than the
/// longest text, so that a text cut off here is still seen to be cut off when it is written.
pub struct StackText<'a> {
    room: &'a mut TextBuf,
    length: usize,
}

const CAPACITY: usize = MAX_TEXT + 4;

impl fmt::Debug for StackText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<'a> StackText<'a> {
    /// An empty text.
    #[inline(always)]
    #[must_use]
    pub fn new(room: &'a mut TextBuf) -> Self {
        Self { room, length: 0 }
    }

    /// Formats into `room`, up to the limit. Formatting runs the user's code, which may itself
    /// record or panic, so call this before an event begins.
    #[must_use]
    pub fn format(room: &'a mut TextBuf, arguments: fmt::Arguments<'_>) -> Self {
        let mut text = Self::new(room);
        // An error means that the buffer is full or that the user's code failed; keep what was
        // written.
        let _ = fmt::Write::write_fmt(&mut text, arguments);
        text
    }

    /// The text so far.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        // SAFETY: `length` bytes were written, always whole texts or texts cut at a character
        // boundary.
        unsafe { self.room.text(self.length) }
    }

    /// Appends an error's message and those of its sources: `a: b: c`. Skips a source whose message
    /// the text already contains, because the error includes it in its own.
    pub fn write_error(&mut self, error: &dyn Error) {
        /// A longer chain is assumed to be endless.
        const DEEPEST: usize = 64;
        if fmt::Write::write_fmt(self, format_args!("{error}")).is_err() {
            return;
        }
        let mut next = error.source();
        for _ in 0..DEEPEST {
            let Some(source) = next else { return };
            next = source.source();
            let mut room = TextBuf::new();
            let said = StackText::format(&mut room, format_args!("{source}"));
            if self.as_str().ends_with(said.as_str()) {
                continue;
            }
            if fmt::Write::write_fmt(self, format_args!(": {}", said.as_str())).is_err() {
                return;
            }
        }
    }

    /// The text, with the buffer's lifetime.
    #[must_use]
    pub(crate) fn into_str(self) -> &'a str {
        let start = self.room.0.as_ptr().cast::<u8>();
        // SAFETY: as for `as_str`; the room stays borrowed.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start, self.length)) }
    }

    /// Fills the text up, so that its length alone tells that something is missing.
    pub(crate) fn fill(&mut self) {
        while self.length < CAPACITY {
            self.append(" ");
        }
    }

    /// Replaces the text by another one, which must fit.
    pub(crate) fn replace(&mut self, text: &str) {
        self.length = 0;
        self.append(text);
    }

    /// Appends a text, which must fit.
    fn append(&mut self, text: &str) {
        assert!(self.length + text.len() <= CAPACITY);
        let start = self.room.0.as_mut_ptr().cast::<u8>();
        // SAFETY: the text fits, and the memory belongs to this object alone.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), start.add(self.length), text.len());
        }
        self.length += text.len();
    }
}

impl fmt::Write for StackText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let whole = cut(text, CAPACITY - self.length);
        self.append(whole);
        if whole.len() < text.len() {
            self.fill();
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
        let mut room = TextBuf::new();
        let text =
            StackText::format(&mut room, format_args!("{}{}", "a".repeat(1020), "ü".repeat(9)));
        assert!(text.as_str().len() > MAX_TEXT);
        assert!(text.as_str().starts_with("aaaa"));
        assert_eq!(StackText::format(&mut room, format_args!("{}-{}", 1, 2)).as_str(), "1-2");
    }
}
