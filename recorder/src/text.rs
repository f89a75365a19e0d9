//! Texts: cut to the format's limit, and formatted without allocating.

use lookback_snapshot::wire::{MAX_TEXT, floor_char_boundary};
use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;

/// The longest front of `text` of at most `limit` bytes that ends with a character.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit { text } else { &text[..floor_char_boundary(text, limit)] }
}

/// Where a text is formatted to: on the stack. Not initialized: to clear a kilobyte takes longer than
/// most formatting. And apart from the text's length: in one structure with it, all is cleared.
pub struct TextRoom(MaybeUninit<[u8; CAPACITY]>);

impl fmt::Debug for TextRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TextRoom")
    }
}

impl Default for TextRoom {
    #[inline(always)]
    fn default() -> Self {
        Self::new()
    }
}

impl TextRoom {
    /// An empty room.
    #[inline(always)]
    #[must_use]
    pub const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// The first so many bytes, which a [`StackText`] has written here.
    ///
    /// # Safety
    /// They must be all of a text that was formatted into this room.
    pub(crate) unsafe fn text(&self, length: usize) -> &str {
        let start = self.0.as_ptr().cast::<u8>();
        // SAFETY: as the caller promises.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start, length)) }
    }
}

/// A text that is formatted into a place on the stack. There is room for a little more than a text may
/// have, so that what was cut off here is seen to be cut off when it is written.
pub struct StackText<'a> {
    room: &'a mut TextRoom,
    length: usize,
}

const CAPACITY: usize = MAX_TEXT + 4;

impl fmt::Debug for StackText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<'a> StackText<'a> {
    /// Nothing yet.
    #[inline(always)]
    #[must_use]
    pub fn new(room: &'a mut TextRoom) -> Self {
        Self { room, length: 0 }
    }

    /// Formats, as far as the limit allows. The formatting is the user's code, which may itself
    /// record, or panic: it runs before anything is begun.
    #[must_use]
    pub fn format(room: &'a mut TextRoom, arguments: fmt::Arguments<'_>) -> Self {
        let mut text = Self::new(room);
        // An error means that it is full, or that the user's code gave up: what there is, stands.
        let _ = fmt::Write::write_fmt(&mut text, arguments);
        text
    }

    /// What there is of it.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        // SAFETY: so many bytes were written; only whole texts and texts cut at a boundary are.
        unsafe { self.room.text(self.length) }
    }

    /// Appends what an error says of itself and of its sources: `a: b: c`. A source that the text says
    /// already, because the error includes it in its own words, is not said again.
    pub fn write_error(&mut self, error: &dyn Error) {
        /// A chain that is longer is taken for one that does not end.
        const DEEPEST: usize = 64;
        if fmt::Write::write_fmt(self, format_args!("{error}")).is_err() {
            return;
        }
        let mut next = error.source();
        for _ in 0..DEEPEST {
            let Some(source) = next else { return };
            next = source.source();
            let mut room = TextRoom::new();
            let said = StackText::format(&mut room, format_args!("{source}"));
            if self.as_str().ends_with(said.as_str()) {
                continue;
            }
            if fmt::Write::write_fmt(self, format_args!(": {}", said.as_str())).is_err() {
                return;
            }
        }
    }

    /// Takes secrets out of it.
    pub(crate) fn scrub(&mut self) {
        let mut room = TextRoom::new();
        if let Some(text) = crate::redact::changed(self.as_str(), &mut room) {
            self.length = 0;
            self.append(text);
        }
    }

    /// The text, for as long as its room is there.
    #[must_use]
    pub(crate) fn into_str(self) -> &'a str {
        let start = self.room.0.as_ptr().cast::<u8>();
        // SAFETY: as for `as_str`; the room stays borrowed.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start, self.length)) }
    }

    /// Fills it up, so that the length alone says that something is missing.
    pub(crate) fn fill(&mut self) {
        while self.length < CAPACITY {
            self.append(" ");
        }
    }

    /// Appends a text, of which there must be room for all.
    fn append(&mut self, text: &str) {
        assert!(self.length + text.len() <= CAPACITY);
        let start = self.room.0.as_mut_ptr().cast::<u8>();
        // SAFETY: there is room for it, in memory of this object alone.
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
        let mut room = TextRoom::new();
        let text = StackText::format(&mut room, format_args!("{}{}", "a".repeat(1020), "ü".repeat(9)));
        assert!(text.as_str().len() > MAX_TEXT);
        assert!(text.as_str().starts_with("aaaa"));
        assert_eq!(StackText::format(&mut room, format_args!("{}-{}", 1, 2)).as_str(), "1-2");
    }
}
