//! Variable-length integers: little-endian base 128 ([LEB128]), seven bits a byte, the high bit set
//! on all but the last. Signed numbers go through the zigzag mapping first.
//!
//! [LEB128]: https://dwarfstd.org/doc/DWARF5.pdf

/// The most bytes that a 64-bit number takes.
pub const MAX_VARINT: usize = 10;

/// Appends `value`.
///
/// ```
/// let mut bytes = Vec::new();
/// lookback_snapshot::wire::put_varint(&mut bytes, 300);
/// assert_eq!(bytes, [0xac, 0x02]);
/// ```
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a number from the front of `bytes`: its value and its length in bytes. `None` if it is cut
/// off or does not fit 64 bits.
///
/// ```
/// assert_eq!(lookback_snapshot::wire::get_varint(&[0xac, 0x02, 9]), Some((300, 2)));
/// assert_eq!(lookback_snapshot::wire::get_varint(&[0xac]), None);
/// ```
#[inline]
pub fn get_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((u64::from(first), 1));
    }
    // Widths vary, so a branch on each byte is mispredicted. Load eight bytes at once: the first one without
    // its high bit ends the number; then compact the bits.
    let Some(word) = bytes.first_chunk().map(|chunk| u64::from_le_bytes(*chunk)) else {
        return by_bytes(bytes);
    };
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return by_bytes(bytes);
    }
    let own = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
    Some((together(own), ends.trailing_zeros() as usize / 8 + 1))
}

/// Numbers of more than eight bytes, and those at the end of the input.
fn by_bytes(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().enumerate().take(MAX_VARINT) {
        if index == MAX_VARINT - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Compacts seven bits of each byte: in pairs of bytes, then pairs of those, then of those.
#[inline]
fn together(bytes: u64) -> u64 {
    let pairs = bytes & 0x007f_007f_007f_007f | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4
}

/// Maps signed to unsigned so that small magnitudes stay small: 0, -1, 1, -2 become 0, 1, 2, 3.
#[inline]
#[must_use]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
#[must_use]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Like [`zigzag`], for 128 bits.
#[inline]
#[must_use]
pub const fn zigzag_wide(value: i128) -> u128 {
    ((value << 1) ^ (value >> 127)).cast_unsigned()
}

/// The inverse of [`zigzag_wide`].
#[inline]
#[must_use]
pub const fn unzigzag_wide(value: u128) -> i128 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_beyond_64_bits_is_refused() {
        assert_eq!(get_varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), None);
        assert_eq!(get_varint(&[0x80; 11]), None);
    }

    #[test]
    fn a_number_of_any_width_is_got_wherever_the_bytes_end_behind_it() {
        for value in (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, u64::MAX >> bit]) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let length = bytes.len();
            for cut in 0..length {
                assert_eq!(get_varint(&bytes[..cut]), None, "{value:#x}, cut at {cut}");
            }
            for behind in [0x00, 0x7f, 0x80, 0xff] {
                for more in 0..=MAX_VARINT {
                    bytes.resize(length + more, behind);
                    assert_eq!(get_varint(&bytes), Some((value, length)), "{more} of {behind}");
                }
                bytes.truncate(length);
            }
        }
    }

    #[test]
    fn superfluous_bytes_are_accepted() {
        for zeroes in 1..MAX_VARINT {
            let mut bytes = vec![0x85];
            bytes.extend(std::iter::repeat_n(0x80, zeroes - 1));
            bytes.extend([0x00, 0xff, 0xff]);
            assert_eq!(get_varint(&bytes), Some((5, zeroes + 1)));
        }
    }

    proptest! {
        #[test]
        fn what_is_put_is_got(value: u64, rest: Vec<u8>) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let length = bytes.len();
            bytes.extend(rest);
            prop_assert_eq!(get_varint(&bytes), Some((value, length)));
        }

        #[test]
        fn zigzag_goes_both_ways(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
            let wide = i128::from(value) << 60;
            prop_assert_eq!(unzigzag_wide(zigzag_wide(wide)), wide);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            if let Some((_, length)) = get_varint(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
