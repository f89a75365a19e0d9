//! Writing records: a raw pointer that moves on.

use lookback_snapshot::wire::zigzag;
use std::num::NonZero;

/// A place in a block with room enough for what is put there; whoever makes one sees to that.
///
/// # Safety of every method
/// There must be room for what is put: [`MAX_VARINT`](lookback_snapshot::wire::MAX_VARINT) bytes for
/// a number that may be 128 or more, else as many as are given.
#[derive(Clone, Copy)]
pub struct Cursor(*mut u8);

impl Cursor {
    /// A cursor at `place`.
    pub(crate) fn at(place: *mut u8) -> Self {
        Self(place)
    }

    /// How many bytes lie between `start` and here.
    #[inline(always)]
    pub(crate) fn bytes_since(self, start: *mut u8) -> usize {
        self.0 as usize - start as usize
    }

    /// Puts one byte.
    ///
    /// # Safety
    /// See the type.
    #[inline(always)]
    pub(crate) unsafe fn byte(&mut self, byte: u8) {
        // SAFETY: the caller has seen to it that there is room.
        unsafe {
            self.0.write(byte);
            self.0 = self.0.add(1);
        }
    }

    /// Puts a number of any width, hardly with a branch on the width: one that varies would be
    /// mispredicted, and that costs more than all of the rest. Only what takes one byte is told apart,
    /// and what takes more than eight, as a hash does and hardly anything else.
    ///
    /// What is stored may be longer than what is put; it stays within the ten bytes.
    ///
    /// # Safety
    /// See the type.
    #[inline(always)]
    pub(crate) unsafe fn number(&mut self, value: u64) {
        // SAFETY: the caller has seen to it that there is room for ten bytes.
        unsafe {
            if value < 1 << 7 {
                self.byte(value as u8);
            } else if value < 1 << 56 {
                // Eight bytes are stored, of which the number's own are kept. How many those are is
                // found beside the spreading, not behind it: where the next value goes depends on it.
                let highest = 63 - NonZero::new_unchecked(value).leading_zeros();
                let length = (highest * 9 + 73) >> 6;
                let more = CONTINUED >> (length.wrapping_mul(8).wrapping_neg().wrapping_add(8) & 63);
                self.0.cast::<[u8; 8]>().write((spread(value) | more).to_le_bytes());
                self.0 = self.0.add(length as usize);
            } else {
                // The ninth byte goes on if the 64th bit is set, which is then the tenth.
                let spread = spread(value & ((1 << 56) - 1));
                let top = value >> 63;
                let high = (value >> 56) as u16 | (top as u16) << 8;
                self.0.cast::<[u8; 8]>().write((spread | CONTINUED).to_le_bytes());
                self.0.add(8).cast::<[u8; 2]>().write(high.to_le_bytes());
                self.0 = self.0.add(9 + top as usize);
            }
        }
    }

    /// Puts a number that takes one byte nearly always, as ids do, and the time since the event
    /// before: one test for those, and no branch on the width of most others.
    ///
    /// # Safety
    /// See the type.
    #[inline(always)]
    pub(crate) unsafe fn short(&mut self, mut value: u64) {
        // SAFETY: the caller has seen to it that there is room for ten bytes.
        unsafe {
            if value < 1 << 7 {
                return self.byte(value as u8);
            }
            if value < 1 << 28 {
                let bits = value as u32;
                let pairs = bits + 3 * (bits & 0x0fff_c000);
                let spread = pairs + (pairs & 0x3f80_3f80);
                let unused = spread.leading_zeros() & !7;
                let more = 0x0080_8080 >> unused;
                self.0.cast::<[u8; 4]>().write((spread | more).to_le_bytes());
                self.0 = self.0.add(4 - unused as usize / 8);
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
    ///
    /// # Safety
    /// See the type.
    #[inline(always)]
    pub(crate) unsafe fn signed(&mut self, value: i64) {
        // SAFETY: as the caller promises.
        unsafe { self.number(zigzag(value)) };
    }

    /// Puts bytes as they are.
    ///
    /// # Safety
    /// See the type.
    #[inline(always)]
    pub(crate) unsafe fn bytes(&mut self, bytes: &[u8]) {
        // SAFETY: the caller has seen to it that there is room; a block is no part of `bytes`.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0, bytes.len());
            self.0 = self.0.add(bytes.len());
        }
    }

    /// Puts a text as it is, cut off at `limit` bytes on a character's boundary, and marked then.
    /// Its tag takes two bytes at most, and what is stored for it beyond them the text stores again.
    ///
    /// # Safety
    /// There must be room for the text and two bytes.
    pub(crate) unsafe fn text(&mut self, text: &str, limit: usize) {
        let whole = crate::text::cut(text, limit);
        let cut = u64::from(whole.len() < text.len());
        // SAFETY: as the caller promises.
        unsafe {
            self.short((whole.len() as u64) << 2 | cut << 1);
            self.bytes(whole.as_bytes());
        }
    }
}

/// The high bit of each byte.
const CONTINUED: u64 = 0x8080_8080_8080_8080;

/// 56 bits, seven to a byte: the upper half of the bits, of each half, of each quarter moves up, by
/// adding it to itself so and so many times. No `pdep`: that is not in every x86-64, and is slow
/// microcode where AMD first had it.
#[inline(always)]
fn spread(low: u64) -> u64 {
    let halves = low + 15 * (low & 0x00ff_ffff_f000_0000);
    let quarters = halves + 3 * (halves & 0x0fff_c000_0fff_c000);
    quarters + (quarters & 0x3f80_3f80_3f80_3f80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_snapshot::wire::{MAX_TEXT, MAX_VARINT, get_varint, put_varint, unzigzag};
    use proptest::prelude::*;

    /// What stands behind the room, and must not be touched.
    const UNTOUCHED: u8 = 0xa5;

    /// Numbers of every width, and the ends of each.
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
                let mut cursor = Cursor::at(room.as_mut_ptr());
                // SAFETY: a number takes ten bytes at most.
                unsafe { if short { cursor.short(value) } else { cursor.number(value) } };
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
            let mut cursor = Cursor::at(room.as_mut_ptr());
            // SAFETY: there is room for the longest text.
            unsafe { cursor.text(&text[..length], MAX_TEXT) };
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
            let mut cursor = Cursor::at(room.as_mut_ptr());
            // SAFETY: two numbers take twenty bytes at most.
            unsafe {
                cursor.number(value);
                cursor.signed(signed);
            }
            let length = cursor.bytes_since(room.as_mut_ptr());
            let (first, used) = get_varint(&room).unwrap();
            let (second, rest) = get_varint(&room[used..]).unwrap();
            prop_assert_eq!((first, unzigzag(second), used + rest), (value, signed, length));
        }
    }
}
