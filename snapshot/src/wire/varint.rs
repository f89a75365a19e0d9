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
    let mut value = u64::from(first & 0x7f);
    for (index, &byte) in bytes.iter().enumerate().take(MAX_VARINT).skip(1) {
        let bits = u64::from(byte & 0x7f);
        if index == MAX_VARINT - 1 && byte > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_beyond_64_bits_is_refused() {
        assert_eq!(get_varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), None);
        assert_eq!(get_varint(&[0x80; 11]), None);
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
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            if let Some((_, length)) = get_varint(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
