//! The fields of a span or of a log, encoded before anything is begun: what encodes them is other
//! people's code, which may itself record, or panic.

use crate::cursor::Cursor;
use crate::limits::{Limits, MOST_FIELDS};
use crate::redact;
use crate::text::{StackText, TextRoom};
use crate::value::{put_duration, put_wide, put_wide_signed};
use lookback_snapshot::wire::{MAX_VARINT, ValueType};
use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many bytes of a span's fields are kept, to restate them.
pub(crate) const KEPT: usize = 240;
/// How many bytes the fields of one event may take.
const ROOM: usize = 1792;
/// So many bytes of one text are taken.
const TEXT: usize = 768;
/// So many bytes of that are no text's: what is short finds room behind what is long.
const SHORT: usize = 224;
/// Room behind them to say which fields are omitted: so many bytes each, with an index below 2^11.
const MARK: usize = 3;
const MARKS: usize = MARK * MOST_FIELDS;
/// All of it: a number is written in a place where the longest one has room.
const WHOLE: usize = ROOM + MARKS + MAX_VARINT;

/// How many fields were omitted for want of room.
static OMITTED: AtomicU64 = AtomicU64::new(0);

/// How many fields were omitted since the process began.
pub(crate) fn omitted() -> u64 {
    OMITTED.load(Ordering::Relaxed)
}

/// Where fields are put: on the stack, not initialized, and never moved.
pub struct Room(MaybeUninit<[u8; WHOLE]>);

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

impl Default for Room {
    #[inline(always)]
    fn default() -> Self {
        Self::new()
    }
}

impl Room {
    /// An empty room.
    #[inline(always)]
    #[must_use]
    pub const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }
}

/// See the module. Some fields of a callsite, each with its index and its type.
pub struct Fields<'a> {
    room: &'a mut Room,
    length: usize,
    count: u32,
    /// How many there may be.
    most: u32,
    /// How many bytes at the end are marks of what is omitted.
    marks: usize,
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields").field("count", &self.count).finish_non_exhaustive()
    }
}

impl<'a> Fields<'a> {
    /// None yet.
    #[inline(always)]
    #[must_use]
    pub fn new(room: &'a mut Room) -> Self {
        Self { room, length: 0, count: 0, most: Limits::now().fields as u32, marks: 0 }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the field of this index, whose value takes `size` bytes at most. One for which there is
    /// no room is omitted.
    #[inline(always)]
    fn add(&mut self, index: usize, kind: ValueType, size: usize, put: impl FnOnce(&mut Cursor)) {
        // Marks have their own room.
        if self.length - self.marks + 2 * MAX_VARINT + size > ROOM || self.count >= self.most {
            return self.omit(index);
        }
        let start = self.room.0.as_mut_ptr().cast::<u8>();
        let mut cursor = Cursor::at(start.wrapping_add(self.length));
        // SAFETY: there is room for two numbers and for `size` bytes.
        unsafe {
            if (kind as u8) < ValueType::Any as u8 {
                cursor.number((index as u64) << 3 | kind as u64);
            } else {
                cursor.number((index as u64) << 3 | ValueType::Any as u64);
                cursor.byte(kind as u8);
            }
        }
        put(&mut cursor);
        self.length = cursor.bytes_since(start);
        self.count += 1;
    }

    /// Says that the field of this index had a value, and that there was no room for it.
    #[cold]
    pub fn omit(&mut self, index: usize) {
        OMITTED.fetch_add(1, Ordering::Relaxed);
        if self.marks + MARK > MARKS || index >= 1 << 11 {
            return;
        }
        let start = self.room.0.as_mut_ptr().cast::<u8>();
        let mut cursor = Cursor::at(start.wrapping_add(self.length));
        // SAFETY: values end within their room, and behind that there is room for these marks.
        unsafe {
            cursor.number((index as u64) << 3 | ValueType::Any as u64);
            cursor.byte(ValueType::Omitted as u8);
        }
        let length = cursor.bytes_since(start);
        self.marks += length - self.length;
        self.length = length;
        self.count += 1;
    }

    /// Adds a number.
    #[inline]
    pub fn unsigned(&mut self, index: usize, value: u64) {
        // SAFETY: there is room for a number.
        self.add(index, ValueType::Unsigned, MAX_VARINT, |cursor| unsafe { cursor.number(value) });
    }

    /// Adds a signed number.
    #[inline]
    pub fn signed(&mut self, index: usize, value: i64) {
        // SAFETY: there is room for a number.
        self.add(index, ValueType::Signed, MAX_VARINT, |cursor| unsafe { cursor.signed(value) });
    }

    /// Adds a number with a fraction.
    #[inline]
    pub fn float(&mut self, index: usize, value: f64) {
        // SAFETY: there is room for eight bytes.
        self.add(index, ValueType::Float, 8, |cursor| unsafe { cursor.bytes(&value.to_le_bytes()) });
    }

    /// Adds a number of 128 bits.
    pub fn wide(&mut self, index: usize, value: u128) {
        // SAFETY: there is room for two numbers.
        self.add(index, ValueType::Wide, 2 * MAX_VARINT, |cursor| unsafe { put_wide(cursor, value) });
    }

    /// Adds a signed number of 128 bits.
    pub fn wide_signed(&mut self, index: usize, value: i128) {
        self.add(index, ValueType::WideSigned, 2 * MAX_VARINT, |cursor| {
            // SAFETY: there is room for two numbers.
            unsafe { put_wide_signed(cursor, value) };
        });
    }

    /// Adds a length of time.
    pub fn duration(&mut self, index: usize, value: Duration) {
        self.add(index, ValueType::Duration, 2 * MAX_VARINT, |cursor| {
            // SAFETY: there is room for two numbers.
            unsafe { put_duration(cursor, value) };
        });
    }

    /// Adds a yes or no.
    #[inline]
    pub fn flag(&mut self, index: usize, value: bool) {
        // SAFETY: there is room for a byte.
        self.add(index, ValueType::Bool, 1, |cursor| unsafe { cursor.byte(u8::from(value)) });
    }

    /// Adds a text, cut off where it is too long.
    #[inline]
    pub fn text(&mut self, index: usize, value: &str) {
        self.put_text(index, ValueType::Text, value);
    }

    /// Adds what an error says of itself, and what its sources say: `a: b: c`.
    pub fn error(&mut self, index: usize, value: &dyn Error) {
        let mut room = TextRoom::new();
        let mut text = StackText::new(&mut room);
        text.write_error(value);
        self.put_text(index, ValueType::Error, text.as_str());
    }

    /// Adds what is known of an error that cannot be asked for its sources.
    pub fn failure(&mut self, index: usize, value: fmt::Arguments<'_>) {
        let mut room = TextRoom::new();
        self.put_text(index, ValueType::Error, StackText::format(&mut room, value).as_str());
    }

    /// Adds a text that is formatted now.
    pub fn formatted(&mut self, index: usize, value: fmt::Arguments<'_>) {
        let mut room = TextRoom::new();
        self.put_text(index, ValueType::Text, StackText::format(&mut room, value).as_str());
    }

    fn put_text(&mut self, index: usize, kind: ValueType, text: &str) {
        let mut room = TextRoom::new();
        let text = redact::scrubbed(text, &mut room);
        let used = self.length - self.marks + 2 * MAX_VARINT;
        let left = if text.len() <= 16 { ROOM } else { ROOM - SHORT }.saturating_sub(used + MAX_VARINT);
        let limit = TEXT.min(Limits::now().text).min(left);
        if limit < text.len().min(16) {
            return self.omit(index);
        }
        self.add(index, kind, MAX_VARINT + text.len().min(limit), |cursor| {
            // SAFETY: there is room for a number and a text of this limit.
            unsafe { cursor.text(text, limit) };
        });
    }

    /// All of them, encoded.
    pub(crate) fn bytes(&self) -> &[u8] {
        let start = self.room.0.as_ptr().cast::<u8>();
        // SAFETY: so many bytes were put.
        unsafe { std::slice::from_raw_parts(start, self.length) }
    }

    /// How many bytes [`put`](Self::put) takes at most.
    #[inline(always)]
    pub(crate) fn size(&self) -> usize {
        MAX_VARINT + self.length
    }

    /// Puts all of them.
    ///
    /// # Safety
    /// There must be room for [`size`](Self::size) bytes.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, cursor: &mut Cursor) {
        // SAFETY: as the caller promises.
        unsafe {
            cursor.number(u64::from(self.count));
            if self.count != 0 {
                cursor.bytes(self.bytes());
            }
        }
    }

    /// How many there are, those included that are only said to be omitted.
    #[inline(always)]
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Whether some are only said to be omitted.
    #[inline(always)]
    pub(crate) fn is_part(&self) -> bool {
        self.marks > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given::{Given, Values};

    #[test]
    fn what_does_not_fit_is_cut_or_omitted_and_said_to_be() {
        let mut room = Room::new();
        let mut fields = Fields::new(&mut room);
        for index in 0..60 {
            fields.text(index, &"x".repeat(900));
        }
        assert!(fields.length <= ROOM + MARKS);
        let given: Vec<_> = Values(fields.bytes()).collect();
        assert_eq!(given.len(), 60);
        let texts: Vec<_> = given.iter().filter_map(Given::text).collect();
        assert!(texts.len() >= 2 && texts.iter().all(|(text, cut)| *cut && text.len() >= 16));
        let omitted = given.iter().filter(|given| given.kind == ValueType::Omitted);
        assert_eq!(omitted.count() + texts.len(), 60);
    }

    #[test]
    fn no_number_of_fields_overruns_the_room() {
        let mut room = Room::new();
        let mut fields = Fields::new(&mut room);
        for index in 0..10_000 {
            fields.wide_signed(index, i128::MIN);
            fields.omit(index);
        }
        assert!(fields.length <= ROOM + MARKS);
        assert_eq!(Values(fields.bytes()).count(), fields.count as usize);
    }
}
