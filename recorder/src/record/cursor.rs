//! Writes records through a raw pointer that moves forward.

use lookback_snapshot::wire::{MAX_VARINT, zigzag};
use std::num::NonZero;

/// A stretch of memory that is reserved for a record, and how far it is filled.
///
/// Putting something is safe, because [`new`](Self::new) is not: its caller answers for the size of all that is put.
/// Debug builds check it. A number takes [`MAX_VARINT`] bytes if it may be 128 or more, else one; all else takes
/// as many bytes as it has.
#[derive(Clone, Copy)]
pub struct Reserved {
    at: *mut u8,
    #[cfg(debug_assertions)]
    end: *mut u8,
}

impl Reserved {
    /// The `size` bytes from `place` on.
    ///
    /// # Safety
    /// They must be memory that no other thread reads or writes until they are committed. What is put, by this and
    /// its copies, must take no more than `size` bytes, as the type counts them.
    #[inline(always)]
    pub(crate) unsafe fn new(place: *mut u8, size: usize) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = size;
        Self {
            at: place,
            #[cfg(debug_assertions)]
            end: place.wrapping_add(size),
        }
    }

    /// Checks in debug builds that `size` bytes are left.
    #[inline(always)]
    fn check(self, size: usize) {
        #[cfg(debug_assertions)]
        assert!(self.end as usize - self.at as usize >= size, "more is put than was reserved");
        #[cfg(not(debug_assertions))]
        let _ = size;
    }

    /// The number of bytes from `start` to here.
    #[inline(always)]
    pub(crate) fn bytes_since(self, start: *mut u8) -> usize {
        self.at as usize - start as usize
    }

    /// Puts one byte.
    #[inline(always)]
    pub(crate) fn byte(&mut self, byte: u8) {
        self.check(1);
        // SAFETY: the caller ensures that there is room.
        unsafe {
            self.at.write(byte);
            self.at = self.at.add(1);
        }
    }

    /// Puts a number of any width, almost without branches on the width: a branch that varies would
    /// be mispredicted, which costs more than everything else. Only two cases branch: numbers of
    /// one byte, and numbers of more than eight bytes, which hardly anything but hashes has.
    ///
    /// It may store beyond the number's end, but within ten bytes.
    #[inline(always)]
    pub(crate) fn number(&mut self, value: u64) {
        // SAFETY: the caller ensures that there is room for ten bytes.
        unsafe {
            if value < 1 << 7 {
                self.byte(value as u8);
            } else if value < 1 << 56 {
                self.check(MAX_VARINT);
                // Stores eight bytes and keeps the number's own. Their count is computed in
                // parallel with the spreading, not after it, because the position of the next value
                // depends on it.
                let highest = 63 - NonZero::new_unchecked(value).leading_zeros();
                let length = (highest * 9 + 73) >> 6;
                let more =
                    CONTINUED >> (length.wrapping_mul(8).wrapping_neg().wrapping_add(8) & 63);
                self.at.cast::<[u8; 8]>().write((spread(value) | more).to_le_bytes());
                self.at = self.at.add(length as usize);
            } else {
                self.check(MAX_VARINT);
                // The ninth byte continues if bit 63 is set, which then makes the tenth byte.
                let spread = spread(value & ((1 << 56) - 1));
                let top = value >> 63;
                let high = (value >> 56) as u16 | (top as u16) << 8;
                self.at.cast::<[u8; 8]>().write((spread | CONTINUED).to_le_bytes());
                self.at.add(8).cast::<[u8; 2]>().write(high.to_le_bytes());
                self.at = self.at.add(9 + top as usize);
            }
        }
    }

    /// Puts a number that nearly always takes one byte, such as an id or the time since the last
    /// event: one test for those, and no branch on the width for most others.
    #[inline(always)]
    pub(crate) fn short(&mut self, mut value: u64) {
        // SAFETY: the caller ensures that there is room for ten bytes.
        unsafe {
            if value < 1 << 7 {
                return self.byte(value as u8);
            }
            if value < 1 << 28 {
                self.check(4);
                let bits = value as u32;
                let pairs = bits + 3 * (bits & 0x0fff_c000);
                let spread = pairs + (pairs & 0x3f80_3f80);
                let unused = spread.leading_zeros() & !7;
                let more = 0x0080_8080 >> unused;
                self.at.cast::<[u8; 4]>().write((spread | more).to_le_bytes());
                self.at = self.at.add(4 - unused as usize / 8);
                return;
            }
            while value >= 0x80 {
                self.byte(value as u8 | 0x80);
                value >>= 7;
            }
            self.byte(value as u8);
        }
    }

    /// Puts a signed number.
    #[inline(always)]
    pub(crate) fn signed(&mut self, value: i64) {
        self.number(zigzag(value));
    }

    /// Puts bytes as they are.
    #[inline(always)]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.check(bytes.len());
        // SAFETY: the caller ensures that there is room; a block does not overlap `bytes`.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at, bytes.len());
            self.at = self.at.add(bytes.len());
        }
    }

    /// Puts a text, cut at `limit` bytes on a character boundary, and marked if cut. Its tag takes
    /// two bytes at most; what the tag stores beyond them, the text overwrites.
    pub(crate) fn text(&mut self, text: &str, limit: usize) {
        let whole = crate::text::cut(text, limit);
        let cut = u64::from(whole.len() < text.len());
        self.short((whole.len() as u64) << 2 | cut << 1);
        self.bytes(whole.as_bytes());
    }
}

/// The high bit of each byte.
const CONTINUED: u64 = 0x8080_8080_8080_8080;

/// Spreads 56 bits to seven per byte: moves up the upper half of the bits, then of each half, then
/// of each quarter, by adding a multiple of it. Does not use `pdep`, which not every x86-64 has,
/// and which was slow microcode when AMD first had it.
#[inline(always)]
fn spread(low: u64) -> u64 {
    let halves = low + 15 * (low & 0x00ff_ffff_f000_0000);
    let quarters = halves + 3 * (halves & 0x0fff_c000_0fff_c000);
    quarters + (quarters & 0x3f80_3f80_3f80_3f80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_snapshot::wire::{MAX_TEXT, get_varint, put_varint, unzigzag};
    use proptest::prelude::*;

    /// Fills the space after the room, which must not be touched.
    const UNTOUCHED: u8 = 0xa5;

    /// Numbers of every width, and both ends of each.
    fn of_every_width() -> impl Iterator<Item = u64> {
        (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1, u64::MAX >> bit])
    }

    #[test]
    fn a_number_of_any_width_is_what_the_format_says_and_stays_within_ten_bytes() {
        for value in of_every_width() {
            let mut right = Vec::new();
            put_varint(&mut right, value);
            for short in [false, true] {
                let mut room = [UNTOUCHED; 2 * MAX_VARINT];
                // SAFETY: the array is there, and as long as that.
                let mut cursor = unsafe { Reserved::new(room.as_mut_ptr(), room.len()) };
                if short {
                    cursor.short(value)
                } else {
                    cursor.number(value)
                };
                let length = cursor.bytes_since(room.as_mut_ptr());
                assert_eq!(&room[..length], right, "{value:#x}, short: {short}");
                assert_eq!(room[MAX_VARINT..], [UNTOUCHED; MAX_VARINT], "{value:#x}");
                assert!(value >= 128 || room[1] == UNTOUCHED, "{value:#x} needs one byte");
            }
        }
    }

    #[test]
    fn a_text_needs_no_more_room_than_itself_and_two_bytes() {
        let text = "x".repeat(2000);
        for length in 0..=MAX_TEXT + 1 {
            let mut room = [UNTOUCHED; MAX_TEXT + 20];
            // SAFETY: the array is there, and as long as that.
            let mut cursor = unsafe { Reserved::new(room.as_mut_ptr(), room.len()) };
            cursor.text(&text[..length], MAX_TEXT);
            let end = length.min(MAX_TEXT) + 2;
            assert!(cursor.bytes_since(room.as_mut_ptr()) <= end);
            assert!(room[end..].iter().all(|byte| *byte == UNTOUCHED), "{length}");
        }
    }

    proptest! {
        #[test]
        fn the_reader_gets_what_was_put(value: u64, shift in 0_u32..64, signed: i64) {
            let value = value >> shift;
            let mut room = [0_u8; 20];
            // SAFETY: the array is there, and as long as that.
            let mut cursor = unsafe { Reserved::new(room.as_mut_ptr(), room.len()) };
            cursor.number(value);
                cursor.signed(signed);
            let length = cursor.bytes_since(room.as_mut_ptr());
            let (first, used) = get_varint(&room).unwrap();
            let (second, rest) = get_varint(&room[used..]).unwrap();
            prop_assert_eq!((first, unzigzag(second), used + rest), (value, signed, length));
        }
    }
}
