//! The fields of a span or of a log, encoded before anything is begun: what encodes them is other
//! people's code, which may itself record, or panic.

use crate::cursor::Cursor;
use crate::text::{StackText, TextRoom};
use lookback_snapshot::wire::{MAX_VARINT, ValueType};
use std::fmt;
use std::mem::MaybeUninit;

/// How many bytes of a span's fields are kept, to restate them.
pub(crate) const KEPT: usize = 248;
/// How many bytes the fields of one event may take.
const ROOM: usize = 1792;
/// So many bytes of one text are taken.
const TEXT: usize = 768;

/// Where fields are put: on the stack, not initialized, and never moved.
pub struct Room(MaybeUninit<[u8; ROOM]>);

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
    /// Where the last field ends that is within the first [`KEPT`] bytes, and how many end there.
    kept: (u16, u16),
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
        Self { room, length: 0, count: 0, kept: (0, 0) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the field of this index, whose value takes `size` bytes at most. One for which there is
    /// no room is left out.
    #[inline(always)]
    fn add(&mut self, index: usize, kind: ValueType, size: usize, put: impl FnOnce(&mut Cursor)) {
        if self.length + MAX_VARINT + size > ROOM {
            return;
        }
        let start = self.room.0.as_mut_ptr().cast::<u8>();
        let mut cursor = Cursor::at(start.wrapping_add(self.length));
        // SAFETY: there is room for a number and for `size` bytes.
        unsafe { cursor.number((index as u64) << 3 | kind as u64) };
        put(&mut cursor);
        self.length = cursor.bytes_since(start);
        self.count += 1;
        if self.length <= KEPT {
            self.kept = (self.length as u16, self.count as u16);
        }
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

    /// Adds what an error says of itself.
    pub fn error(&mut self, index: usize, value: fmt::Arguments<'_>) {
        let mut room = TextRoom::new();
        self.put_text(index, ValueType::Error, StackText::format(&mut room, value).as_str());
    }

    /// Adds a text that is formatted now.
    pub fn formatted(&mut self, index: usize, value: fmt::Arguments<'_>) {
        let mut room = TextRoom::new();
        self.put_text(index, ValueType::Text, StackText::format(&mut room, value).as_str());
    }

    fn put_text(&mut self, index: usize, kind: ValueType, text: &str) {
        let left = ROOM.saturating_sub(self.length + 2 * MAX_VARINT);
        let limit = TEXT.min(left);
        if limit < text.len().min(16) {
            return;
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

    /// Whether so many of the first ones are all of them.
    #[inline(always)]
    pub(crate) fn is_front(&self, count: u32) -> bool {
        count == self.count
    }

    /// As many of the first ones as fit `room` bytes, which are [`KEPT`] at most: how many, and
    /// their bytes. Where not all of those that could be kept fit, none is.
    #[inline(always)]
    pub(crate) fn front(&self, room: usize) -> (u32, &[u8]) {
        let (length, count) = self.kept;
        let length = usize::from(length);
        if length <= room { (u32::from(count), &self.bytes()[..length]) } else { (0, &[]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_cut_between_two_fields() {
        let mut room = Room::new();
        let mut fields = Fields::new(&mut room);
        fields.unsigned(0, 7);
        fields.text(1, "abc");
        assert_eq!(fields.front(KEPT), (2, fields.bytes()));
        assert_eq!(fields.front(6), (0, &[][..]));
        fields.text(2, &"x".repeat(KEPT));
        fields.flag(3, true);
        assert_eq!(fields.front(KEPT), (2, &fields.bytes()[..7]));
    }

    #[test]
    fn what_does_not_fit_is_cut_or_left_out() {
        let mut room = Room::new();
        let mut fields = Fields::new(&mut room);
        for index in 0..100 {
            fields.text(index, &"x".repeat(900));
            fields.signed(index, -1);
        }
        assert!(fields.length <= ROOM);
        assert!(fields.count >= 3);
    }
}
