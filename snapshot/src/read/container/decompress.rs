//! Decompression with a bound.
//!
//! A frame states the size of its content. The reader trusts that as far as the compressed bytes that are
//! present make it likely; beyond that, it allocates memory piece by piece, as content arrives.

use super::zstd_frame::FrameHead;
use crate::read::error::Reason;
use crate::read::limits::Limits;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// The highest compression ratio at which the content gets all of its memory at once.
const LIKELY_RATIO: u64 = 64;
/// The first piece of memory, and the size that is always trusted.
const PIECE: usize = 1 << 20;

/// The content of the frame in `bytes`, which must begin with `tag`.
pub(crate) fn unpack(bytes: &[u8], tag: &[u8], limits: &Limits) -> Result<Vec<u8>, Reason> {
    let head = check_head(bytes, limits)?;
    let size = head.content as usize;
    let content = if head.content <= bytes.len() as u64 * LIKELY_RATIO {
        let mut content = Vec::with_capacity(size);
        zstd::bulk::Decompressor::new()
            .and_then(|mut all| all.decompress_to_buffer(bytes, &mut content))
            .map_err(|error| damage(&error))?;
        content
    } else {
        in_pieces(bytes, tag, size, limits)?
    };
    if content.len() != size {
        return Err(Reason::Frame("its size is not the one that it says".to_owned()));
    }
    if !content.starts_with(tag) {
        return Err(Reason::Frame("it holds something else".to_owned()));
    }
    Ok(content)
}

/// The head of the frame in `bytes`, if the limits allow it.
pub(crate) fn check_head(bytes: &[u8], limits: &Limits) -> Result<FrameHead, Reason> {
    let head = FrameHead::parse(bytes).map_err(|what| Reason::Frame(what.to_owned()))?;
    let (size, limit) = (head.content, limits.content_bytes());
    if size > limit {
        return Err(Reason::TooLarge { size, limit });
    }
    let (size, limit) = (head.window, limits.window_bytes());
    if size > limit {
        return Err(Reason::WindowTooLarge { size, limit });
    }
    Ok(head)
}

/// The first bytes of the content of the frame in `bytes`: up to `length` of them.
pub(crate) fn peek(bytes: &[u8], length: usize, limits: &Limits) -> Result<Vec<u8>, Reason> {
    let mut content = vec![0; length];
    let mut decoder = decoder(limits).map_err(|error| damage(&error))?;
    let mut input = InBuffer::around(bytes);
    let mut filled = 0;
    while filled < length {
        let mut output = OutBuffer::around(&mut content[filled..]);
        let before = (input.pos(), output.pos());
        let left = decoder.run(&mut input, &mut output).map_err(|error| damage(&error))?;
        let stuck = before == (input.pos(), output.pos());
        filled += output.pos();
        if left == 0 || stuck {
            break;
        }
    }
    content.truncate(filled);
    Ok(content)
}

fn decoder(limits: &Limits) -> std::io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(limits.window_log.clamp(10, 31)))?;
    Ok(decoder)
}

fn in_pieces(bytes: &[u8], tag: &[u8], size: usize, limits: &Limits) -> Result<Vec<u8>, Reason> {
    let mut decoder = decoder(limits).map_err(|error| damage(&error))?;
    let mut input = InBuffer::around(bytes);
    // One more byte of room detects a frame that is larger than it says.
    let room = size + 1;
    let mut content = Vec::with_capacity(PIECE.min(room));
    loop {
        let filled = content.len();
        if filled > size {
            return Err(Reason::Frame("it is larger than it says".to_owned()));
        }
        if filled == content.capacity() {
            content.reserve_exact(filled.min(room - filled));
        }
        let mut output = OutBuffer::around_pos(&mut content, filled);
        let left = decoder.run(&mut input, &mut output).map_err(|error| damage(&error))?;
        let now = output.pos();
        if now >= tag.len() && !content.starts_with(tag) {
            return Err(Reason::Frame("it holds something else".to_owned()));
        }
        if left == 0 {
            return Ok(content);
        }
        if now == filled && input.pos() == bytes.len() {
            return Err(Reason::Frame("it is cut off".to_owned()));
        }
    }
}

fn damage(error: &std::io::Error) -> Reason {
    let words = error.to_string();
    if words.contains("checksum") { Reason::Checksum } else { Reason::Frame(words) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compress(content: &[u8]) -> Vec<u8> {
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        compressor.include_checksum(true).unwrap();
        compressor.compress(content).unwrap()
    }

    #[test]
    fn a_bomb_is_refused_by_what_it_says_and_by_what_it_does() {
        let limits = Limits { frame_bytes: 1 << 20, ..Limits::default() };
        let bomb = compress(&vec![0; 64 << 20]);
        assert!(bomb.len() < 16 << 10);
        let refused = unpack(&bomb, b"", &limits);
        assert_eq!(refused, Err(Reason::TooLarge { size: 64 << 20, limit: 1 << 20 }));
        // The same frame with a smaller size in its header: 4 bytes, after the window's byte.
        let mut liar = bomb;
        assert_eq!(liar[4] >> 6, 2);
        liar[6..10].copy_from_slice(&(1_u32 << 19).to_le_bytes());
        assert!(matches!(unpack(&liar, b"", &limits), Err(Reason::Frame(_))));
    }

    #[test]
    fn a_frame_of_something_else_is_given_up_early() {
        let zeros = compress(&vec![0; 64 << 20]);
        let refused = unpack(&zeros, b"LBGN", &Limits::default());
        assert_eq!(refused, Err(Reason::Frame("it holds something else".to_owned())));
    }

    #[test]
    fn a_flipped_checksum_is_called_one() {
        let mut frame = compress(b"LBGN and more");
        *frame.last_mut().unwrap() ^= 1;
        assert_eq!(unpack(&frame, b"LBGN", &Limits::default()), Err(Reason::Checksum));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn content_survives_either_way(seed in prop::collection::vec(any::<u8>(), 1..40), repeat in 1_usize..200_000) {
            let content = seed.repeat(repeat);
            let frame = compress(&content);
            let limits = Limits::default();
            prop_assert_eq!(&unpack(&frame, b"", &limits).unwrap(), &content);
            prop_assert_eq!(&in_pieces(&frame, b"", content.len(), &limits).unwrap(), &content);
            let front = peek(&frame, 100, &limits).unwrap();
            prop_assert_eq!(&front[..], &content[..content.len().min(100)]);
        }
    }
}
