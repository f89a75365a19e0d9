//! Writing records: a raw pointer that moves on.

use lookback_snapshot::wire::zigzag;

/// A place in a block with room enough for what is put there; whoever makes one sees to that.
///
/// # Safety of every method
/// There must be room for what is put: [`MAX_VARINT`](lookback_snapshot::wire::MAX_VARINT) bytes for
/// a number, else as many as are given.
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

    /// Puts a number. Short ones, which most are, take one test each.
    ///
    /// # Safety
    /// See the type.
    #[inline(always)]
    pub(crate) unsafe fn number(&mut self, mut value: u64) {
        // SAFETY: the caller has seen to it that there is room for ten bytes.
        unsafe {
            if value < 1 << 7 {
                return self.byte(value as u8);
            }
            if value < 1 << 14 {
                let both = (value & 0x7f) as u16 | 0x80 | ((value >> 7) as u16) << 8;
                self.0.cast::<[u8; 2]>().write(both.to_le_bytes());
                self.0 = self.0.add(2);
                return;
            }
            if value < 1 << 28 {
                // Seven bits to a byte, and the high bit on all but the last, without a loop: four bytes
                // are written, of which the number's own are kept.
                let bits = value as u32;
                let spread = bits & 0x7f
                    | (bits & 0x3f80) << 1
                    | (bits & 0x1f_c000) << 2
                    | (bits & 0xfe0_0000) << 3;
                let length = if bits < 1 << 21 { 3 } else { 4 };
                let more = 0x0080_8080 >> (8 * (4 - length));
                self.0.cast::<[u8; 4]>().write((spread | more).to_le_bytes());
                self.0 = self.0.add(length);
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
    ///
    /// # Safety
    /// See the type.
    pub(crate) unsafe fn text(&mut self, text: &str, limit: usize) {
        let whole = crate::text::cut(text, limit);
        let cut = u64::from(whole.len() < text.len());
        // SAFETY: as the caller promises.
        unsafe {
            self.number((whole.len() as u64) << 2 | cut << 1);
            self.bytes(whole.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_snapshot::wire::{get_varint, unzigzag};
    use proptest::prelude::*;

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
