//! Finds the end of a zstd frame without decompressing it.
//!
//! A frame consists of a header, blocks with a three-byte header each, and a checksum ([RFC 8878]). Walking
//! the block headers separates a file's generations where there is no index.
//!
//! [RFC 8878]: https://www.rfc-editor.org/rfc/rfc8878

use super::source::SourceWindow;
use crate::file::ZSTD_MAGIC;
use std::io;

/// The parts of a zstd frame's header that a reader needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// The length of the header.
    pub(crate) length: usize,
    /// The length of the content, as the header states it.
    pub(crate) content: u64,
    /// How much of the content a decompressor must keep.
    pub(crate) window: u64,
}

/// The longest header of a frame.
pub(crate) const MAX_HEAD: usize = 18;

impl FrameHead {
    /// Reads a header. Frames of lookback have a checksum and state their size; others are refused.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let cut = "its header is cut off";
        let magic = bytes.first_chunk().ok_or(cut)?;
        if u32::from_le_bytes(*magic) != ZSTD_MAGIC {
            return Err("it is no zstd frame");
        }
        let descriptor = *bytes.get(4).ok_or(cut)?;
        let single = descriptor & 0x20 != 0;
        if descriptor & 0x08 != 0 || descriptor & 0x03 != 0 {
            return Err("its header has bits that no frame of lookback has");
        }
        if descriptor & 0x04 == 0 {
            return Err("it has no checksum");
        }
        let mut at = 5;
        let mut window = 0;
        if !single {
            let byte = *bytes.get(at).ok_or(cut)?;
            let base = 1_u64 << (10 + (byte >> 3));
            window = base + base / 8 * u64::from(byte & 7);
            at += 1;
        }
        let size = match (descriptor >> 6, single) {
            (0, true) => 1,
            (0, false) => return Err("it does not say its size"),
            (1, _) => 2,
            (2, _) => 4,
            _ => 8,
        };
        let field = bytes.get(at..at + size).ok_or(cut)?;
        let mut raw = [0; 8];
        raw[..size].copy_from_slice(field);
        let content = u64::from_le_bytes(raw) + if size == 2 { 256 } else { 0 };
        Ok(Self { length: at + size, content, window: if single { content } else { window } })
    }
}

/// Where a frame ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It ends before this offset.
    Whole(FrameHead, u64),
    /// The file ends before the frame does.
    Cut,
    /// It is not one of our frames.
    Broken,
}

/// Walks the frame that begins at `start`, in a file of `length` bytes.
pub(crate) fn extent(window: &mut SourceWindow<'_>, start: u64, length: u64) -> io::Result<Extent> {
    let front = window.get(start, MAX_HEAD)?;
    let head = match FrameHead::parse(front) {
        Ok(head) => head,
        Err(_) if front.len() < MAX_HEAD => return Ok(Extent::Cut),
        Err(_) => return Ok(Extent::Broken),
    };
    let mut at = start + head.length as u64;
    loop {
        let Some(header) = window.get(at, 3)?.first_chunk::<3>() else {
            return Ok(Extent::Cut);
        };
        let header = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        at += 3 + match header >> 1 & 3 {
            1 => 1,
            3 => return Ok(Extent::Broken),
            _ => u64::from(header >> 3),
        };
        if at > length {
            return Ok(Extent::Cut);
        }
        if header & 1 != 0 {
            break;
        }
    }
    let end = at + 4;
    Ok(if end > length { Extent::Cut } else { Extent::Whole(head, end) })
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;
    use proptest::prelude::*;

    fn compress(content: &[u8], level: i32) -> Vec<u8> {
        let mut compressor = zstd::bulk::Compressor::new(level).unwrap();
        compressor.include_checksum(true).unwrap();
        compressor.compress(content).unwrap()
    }

    fn walk(bytes: Vec<u8>) -> Extent {
        let source = Source::Memory(bytes);
        extent(&mut SourceWindow::new(&source), 0, source.length()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_walk_ends_where_the_frame_ends(
            seed: Vec<u8>, repeat in 0_usize..3000, level in 1_i32..4, rest: Vec<u8>
        ) {
            let content = seed.repeat(repeat);
            let frame = compress(&content, level);
            let end = frame.len() as u64;
            let Extent::Whole(head, found) = walk([frame.clone(), rest].concat()) else {
                panic!("no whole frame")
            };
            prop_assert_eq!((head.content, found), (content.len() as u64, end));
            prop_assert_eq!(walk(frame[..frame.len() - 1].to_vec()), Extent::Cut);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = walk([&ZSTD_MAGIC.to_le_bytes()[..], &bytes].concat());
        }
    }
}
