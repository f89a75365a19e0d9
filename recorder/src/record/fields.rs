//! The fields of a span or a log, encoded before the event begins, because encoding runs foreign
//! code, which may itself record or panic.

use crate::record::cursor::Reserved;
use crate::record::limits::{Limits, MOST_FIELDS};
use crate::record::value::{put_duration, put_wide, put_wide_signed};
use crate::redact;
use crate::text::{StackText, TextBuf};
use lookback_snapshot::wire::{MAX_VARINT, ValueType};
use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many bytes of a span's fields are kept for restating them.
pub(crate) const KEPT: usize = 240;
/// How many bytes the fields of one event may take.
const ROOM: usize = 1792;
/// The most bytes of one text.
const TEXT: usize = 768;
/// How many bytes texts may not use, so that short values fit after long texts.
const SHORT: usize = 224;
/// Room at the end to mark omitted fields: this many bytes each, for indices below 2^11.
const MARK: usize = 3;
const MARKS: usize = MARK * MOST_FIELDS;
/// The whole buffer: a number is written where the longest one would fit.
const WHOLE: usize = ROOM + MARKS + MAX_VARINT;

/// How many fields were omitted for lack of room.
static OMITTED: AtomicU64 = AtomicU64::new(0);

/// How many fields were omitted since the process started.
pub(crate) fn omitted() -> u64 {
    OMITTED.load(Ordering::Relaxed)
}

/// A buffer for fields: on the stack, not initialized, and never moved.
pub struct FieldBuf(MaybeUninit<[u8; WHOLE]>);

impl fmt::Debug for FieldBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FieldBuf")
    }
}

impl Default for FieldBuf {
    #[inline(always)]
    fn default() -> Self {
        Self::new()
    }
}

impl FieldBuf {
    /// An empty buffer.
    #[inline(always)]
    #[must_use]
    pub const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }
}

/// See the module. Some fields of a callsite, each with index and type.
pub struct Fields<'a> {
    room: &'a mut FieldBuf,
    length: usize,
    count: u32,
    /// The most fields that are allowed.
    most: u32,
    /// How many bytes at the end mark omitted fields.
    marks: usize,
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields").field("count", &self.count).finish_non_exhaustive()
    }
}

impl<'a> Fields<'a> {
    /// No fields yet.
    #[inline(always)]
    #[must_use]
    pub fn new(room: &'a mut FieldBuf) -> Self {
        Self { room, length: 0, count: 0, most: Limits::now().fields as u32, marks: 0 }
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the field with this index, whose value takes at most `size` bytes. Omits it if there is
    /// no room.
    #[inline(always)]
    fn add(&mut self, index: usize, kind: ValueType, size: usize, put: impl FnOnce(&mut Reserved)) {
        // Marks have room of their own.
        if self.length - self.marks + 2 * MAX_VARINT + size > ROOM || self.count >= self.most {
            return self.omit(index);
        }
        let start = self.room.0.as_mut_ptr().cast::<u8>();
        // SAFETY: the room ends behind what values and marks take at most, and a number more.
        let mut cursor =
            unsafe { Reserved::new(start.wrapping_add(self.length), WHOLE - self.length) };
        if (kind as u8) < ValueType::Any as u8 {
            cursor.number((index as u64) << 3 | kind as u64);
        } else {
            cursor.number((index as u64) << 3 | ValueType::Any as u64);
            cursor.byte(kind as u8);
        }
        put(&mut cursor);
        self.length = cursor.bytes_since(start);
        self.count += 1;
    }

    /// Records that the field with this index had a value for which there was no room.
    #[cold]
    pub fn omit(&mut self, index: usize) {
        OMITTED.fetch_add(1, Ordering::Relaxed);
        if self.marks + MARK > MARKS || index >= 1 << 11 {
            return;
        }
        let start = self.room.0.as_mut_ptr().cast::<u8>();
        // SAFETY: the room ends behind what values and marks take at most, and a number more.
        let mut cursor =
            unsafe { Reserved::new(start.wrapping_add(self.length), WHOLE - self.length) };
        cursor.number((index as u64) << 3 | ValueType::Any as u64);
        cursor.byte(ValueType::Omitted as u8);
        let length = cursor.bytes_since(start);
        self.marks += length - self.length;
        self.length = length;
        self.count += 1;
    }

    /// Adds a number.
    #[inline]
    pub fn unsigned(&mut self, index: usize, value: u64) {
        self.add(index, ValueType::Unsigned, MAX_VARINT, |cursor| cursor.number(value));
    }

    /// Adds a signed number.
    #[inline]
    pub fn signed(&mut self, index: usize, value: i64) {
        self.add(index, ValueType::Signed, MAX_VARINT, |cursor| cursor.signed(value));
    }

    /// Adds a floating-point number.
    #[inline]
    pub fn float(&mut self, index: usize, value: f64) {
        self.add(index, ValueType::Float, 8, |cursor| cursor.bytes(&value.to_le_bytes()));
    }

    /// Adds a 128-bit number.
    pub fn wide(&mut self, index: usize, value: u128) {
        self.add(index, ValueType::Wide, 2 * MAX_VARINT, |cursor| put_wide(cursor, value));
    }

    /// Adds a signed 128-bit number.
    pub fn wide_signed(&mut self, index: usize, value: i128) {
        self.add(index, ValueType::WideSigned, 2 * MAX_VARINT, |cursor| {
            put_wide_signed(cursor, value);
        });
    }

    /// Adds a duration.
    pub fn duration(&mut self, index: usize, value: Duration) {
        self.add(index, ValueType::Duration, 2 * MAX_VARINT, |cursor| {
            put_duration(cursor, value);
        });
    }

    /// Adds a boolean.
    #[inline]
    pub fn flag(&mut self, index: usize, value: bool) {
        self.add(index, ValueType::Bool, 1, |cursor| cursor.byte(u8::from(value)));
    }

    /// Adds a text, cut if it is too long.
    #[inline]
    pub fn text(&mut self, index: usize, value: &str) {
        self.put_text(index, ValueType::Text, value);
    }

    /// Adds an error's message and those of its sources: `a: b: c`.
    pub fn error(&mut self, index: usize, value: &dyn Error) {
        let mut room = TextBuf::new();
        let mut text = StackText::new(&mut room);
        text.write_error(value);
        self.put_text(index, ValueType::Error, text.as_str());
    }

    /// Adds an error that cannot be asked for its sources, by its message.
    pub fn failure(&mut self, index: usize, value: fmt::Arguments<'_>) {
        let mut room = TextBuf::new();
        self.put_text(index, ValueType::Error, StackText::format(&mut room, value).as_str());
    }

    /// Adds a text, which is formatted now.
    pub fn formatted(&mut self, index: usize, value: fmt::Arguments<'_>) {
        let mut room = TextBuf::new();
        self.put_text(index, ValueType::Text, StackText::format(&mut room, value).as_str());
    }

    fn put_text(&mut self, index: usize, kind: ValueType, text: &str) {
        let mut room = TextBuf::new();
        let text = redact::scrubbed(text, &mut room);
        let used = self.length - self.marks + 2 * MAX_VARINT;
        let left =
            if text.len() <= 16 { ROOM } else { ROOM - SHORT }.saturating_sub(used + MAX_VARINT);
        let limit = TEXT.min(Limits::now().text).min(left);
        if limit < text.len().min(16) {
            return self.omit(index);
        }
        self.add(index, kind, MAX_VARINT + text.len().min(limit), |cursor| {
            cursor.text(text, limit);
        });
    }

    /// All fields, encoded.
    pub(crate) fn bytes(&self) -> &[u8] {
        let start = self.room.0.as_ptr().cast::<u8>();
        // SAFETY: `length` bytes were put.
        unsafe { std::slice::from_raw_parts(start, self.length) }
    }

    /// The most bytes that [`put`](Self::put) writes.
    #[inline(always)]
    pub(crate) fn size(&self) -> usize {
        MAX_VARINT + self.length
    }

    /// Puts all fields.
    ///
    /// There must be room for [`size`](Self::size) bytes.
    #[inline(always)]
    pub(crate) fn put(&self, cursor: &mut Reserved) {
        cursor.number(u64::from(self.count));
        if self.count != 0 {
            cursor.bytes(self.bytes());
        }
    }

    /// The number of fields, including omitted ones.
    #[inline(always)]
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Whether some fields were omitted.
    #[inline(always)]
    pub(crate) fn is_part(&self) -> bool {
        self.marks > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sparse_fields::{FieldValue, Values};

    #[test]
    fn what_does_not_fit_is_cut_or_omitted_and_said_to_be() {
        let mut room = FieldBuf::new();
        let mut fields = Fields::new(&mut room);
        for index in 0..60 {
            fields.text(index, &"x".repeat(900));
        }
        assert!(fields.length <= ROOM + MARKS);
        let given: Vec<_> = Values(fields.bytes()).collect();
        assert_eq!(given.len(), 60);
        let texts: Vec<_> = given.iter().filter_map(FieldValue::text).collect();
        assert!(texts.len() >= 2 && texts.iter().all(|(text, cut)| *cut && text.len() >= 16));
        let omitted = given.iter().filter(|given| given.kind == ValueType::Omitted);
        assert_eq!(omitted.count() + texts.len(), 60);
    }

    #[test]
    fn no_number_of_fields_overruns_the_room() {
        let mut room = FieldBuf::new();
        let mut fields = Fields::new(&mut room);
        for index in 0..10_000 {
            fields.wide_signed(index, i128::MIN);
            fields.omit(index);
        }
        assert!(fields.length <= ROOM + MARKS);
        assert_eq!(Values(fields.bytes()).count(), fields.count as usize);
    }
}
