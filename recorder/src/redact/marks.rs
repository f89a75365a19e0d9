//! Finds the bytes at which a secret may begin: `=`, `:` and others. Skips everything else, sixteen
//! bytes at a time, because most texts hold no secrets, and every recorded text is scanned.

/// The first mark at or after `at`. May also report bytes that differ from a mark in a single bit.
#[inline]
pub(super) fn first(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(piece) = bytes.get(at..)?.first_chunk::<16>() {
        let marks = of_piece(u128::from_le_bytes(*piece));
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize);
        }
        at += 16;
    }
    let rest = bytes.get(at..)?;
    let marks = of_end(rest);
    (marks != 0).then(|| at + marks.trailing_zeros() as usize)
}

/// The marks in fewer than sixteen bytes, one bit each: combines the front and the back, which
/// overlap.
#[inline]
fn of_end(bytes: &[u8]) -> u32 {
    let length = bytes.len();
    if let (Some(front), Some(back)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let both = u128::from(u64::from_le_bytes(*back)) << 64;
        let marks = of_piece(both | u128::from(u64::from_le_bytes(*front)));
        return marks & 0xff | marks >> 8 << (length - 8);
    }
    if let (Some(front), Some(back)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let both = u64::from(u32::from_le_bytes(*back)) << 32;
        let marks = of_piece(u128::from(both | u64::from(u32::from_le_bytes(*front))));
        return marks & 0xf | (marks >> 4) << (length - 4);
    }
    let is_mark = |byte: &u8| of_piece(u128::from(*byte));
    bytes.iter().enumerate().fold(0, |marks, (at, byte)| marks | is_mark(byte) << at)
}

/// The marks, in lower case.
const MARKS: [u8; 7] = *b"=:%,-bj";

/// One bit for each of these bytes that is a mark.
#[inline(always)]
fn of_piece(bytes: u128) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
            _mm_setzero_si128,
        };
        // SAFETY: every x86-64 processor has these instructions, and they touch no memory.
        unsafe {
            let bytes = _mm_set_epi64x((bytes >> 64) as i64, bytes as i64);
            let small = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
            let found = MARKS.iter().fold(_mm_setzero_si128(), |found, mark| {
                _mm_or_si128(found, _mm_cmpeq_epi8(small, _mm_set1_epi8(mark.cast_signed())))
            });
            _mm_movemask_epi8(found).cast_unsigned()
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    by_bytes(bytes)
}

/// [`of_piece`] for any processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn by_bytes(bytes: u128) -> u32 {
    const IS_MARK: [bool; 256] = {
        let mut is_mark = [false; 256];
        let mut index = 0;
        while index < MARKS.len() {
            is_mark[MARKS[index] as usize] = true;
            is_mark[(MARKS[index] & !0x20) as usize] = true;
            index += 1;
        }
        is_mark
    };
    let bytes = bytes.to_le_bytes();
    let is_mark = |byte: &u8| u32::from(IS_MARK[usize::from(*byte)]);
    bytes.iter().enumerate().fold(0, |marks, (at, byte)| marks | is_mark(byte) << at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Byte by byte, ignoring the bit that distinguishes lower case.
    fn right(bytes: &[u8], at: usize) -> Option<usize> {
        (at..bytes.len()).find(|at| MARKS.contains(&(bytes[*at] | 0x20)))
    }

    #[test]
    fn a_mark_is_found_at_every_place_of_a_text_of_every_length() {
        for length in 0..80 {
            let mut bytes = vec![b'x'; length];
            assert_eq!(first(&bytes, 0), None);
            for place in 0..length {
                for mark in b"=:%,-bBJ" {
                    bytes[place] = *mark;
                    for at in 0..=length {
                        let found = (at <= place).then_some(place);
                        assert_eq!(first(&bytes, at), found, "{length} {place} {at}");
                    }
                }
                bytes[place] = b'x';
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_the_first_mark(bytes: Vec<u8>, at in 0_usize..40) {
            prop_assert_eq!(first(&bytes, at), right(&bytes, at));
        }

        #[test]
        fn processors_agree(bytes: u128) {
            prop_assert_eq!(of_piece(bytes), by_bytes(bytes));
        }
    }
}
