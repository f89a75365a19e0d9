//! The end of a file: index, copy of the metadata, trailer.
//!
//! All three are skippable frames, so that zstd skips them. Each holds a tag, its content, and a CRC-32 over
//! both. The trailer has a fixed size: a reader finds it from the file's end.

use super::{METADATA_FRONT, SKIPPABLE, SKIPPABLE_STACKS};
use crate::wire::{Generation, Nanos, ProcessStacks, put_varint};

pub(crate) const INDEX_TAG: [u8; 4] = *b"LBIX";
pub(crate) const METADATA_COPY_TAG: [u8; 4] = *b"LBMD";
pub(crate) const TRAILER_TAG: [u8; 4] = *b"LBND";
pub(crate) const STACKS_TAG: [u8; 4] = *b"LBST";
#[cfg(feature = "read")]
pub(crate) const NAMES_TAG: [u8; 4] = *b"LBNM";

/// The entry of a generation in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) number: Generation,
    /// The offset of its frame in the file, and the frame's length.
    pub(crate) offset: u64,
    pub(crate) compressed: u64,
    /// The length of the content.
    pub(crate) content: u64,
    pub(crate) flags: u64,
    pub(crate) began: Nanos,
    pub(crate) ended: Nanos,
    pub(crate) events: u64,
}

/// Appends the frame of the index to `out`.
pub(super) fn encode_index(out: &mut Vec<u8>, entries: &[IndexEntry]) {
    skippable(out, SKIPPABLE[0], INDEX_TAG, |out| {
        put_varint(out, entries.len() as u64);
        for entry in entries {
            for value in [
                entry.number.0,
                entry.offset,
                entry.compressed,
                entry.content,
                entry.flags,
                entry.began.0,
                entry.ended.0,
                entry.events,
            ] {
                put_varint(out, value);
            }
        }
    });
}

/// Appends the frame of stacks that were taken from outside to `out`.
pub(super) fn encode_stacks(out: &mut Vec<u8>, stacks: &ProcessStacks) {
    skippable(out, SKIPPABLE_STACKS, STACKS_TAG, |out| stacks.encode(out));
}

/// Appends the frame of names to `out`: `compressed` is a zstd frame.
#[cfg(feature = "symbols")]
pub(crate) fn encode_names(out: &mut Vec<u8>, compressed: &[u8]) {
    skippable(out, super::SKIPPABLE_NAMES, NAMES_TAG, |out| out.extend_from_slice(compressed));
}

/// Appends the frame of the metadata's copy to `out`.
pub(super) fn encode_metadata_copy(out: &mut Vec<u8>, content: &[u8]) {
    debug_assert!(content.len() >= METADATA_FRONT);
    skippable(out, SKIPPABLE[1], METADATA_COPY_TAG, |out| out.extend_from_slice(content));
}

/// Appends the frame of the trailer to `out`: where the other two begin.
pub(crate) fn encode_trailer(out: &mut Vec<u8>, index: u64, metadata: u64) {
    skippable(out, SKIPPABLE[2], TRAILER_TAG, |out| {
        out.extend(index.to_le_bytes());
        out.extend(metadata.to_le_bytes());
    });
}

fn skippable(out: &mut Vec<u8>, magic: u32, tag: [u8; 4], put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(magic.to_le_bytes());
    out.extend([0; 4]);
    out.extend(tag);
    put(out);
    let check = crc32fast::hash(&out[start + 8..]);
    out.extend(check.to_le_bytes());
    let length = (out.len() - start - 8) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
}

#[cfg(feature = "read")]
pub(crate) use decode::{Trailer, checked, decode_index};

#[cfg(feature = "read")]
mod decode {
    use super::{Generation, INDEX_TAG, IndexEntry, Nanos, SKIPPABLE, TRAILER_TAG};
    use crate::wire::get_varint;

    /// Where index and copy of the metadata begin.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Trailer {
        pub(crate) index: u64,
        pub(crate) metadata: u64,
    }

    impl Trailer {
        /// The length of the trailer's frame.
        pub(crate) const LENGTH: usize = 32;

        /// Reads the last bytes of a file.
        pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
            let u32_at = |at: usize| -> Option<u32> {
                Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
            };
            let whole = bytes.len() == Self::LENGTH
                && u32_at(0)? == SKIPPABLE[2]
                && u32_at(4)? as usize == Self::LENGTH - 8;
            let payload = whole.then(|| checked(&bytes[8..], TRAILER_TAG))??;
            let (index, metadata) = payload.split_first_chunk()?;
            Some(Self {
                index: u64::from_le_bytes(*index),
                metadata: u64::from_le_bytes(*metadata.first_chunk()?),
            })
        }
    }

    /// The content of one of these skippable frames, if its tag and its CRC are right.
    pub(crate) fn checked(content: &[u8], tag: [u8; 4]) -> Option<&[u8]> {
        let (said, check) = content.split_last_chunk::<4>()?;
        let right = crc32fast::hash(said) == u32::from_le_bytes(*check);
        right.then(|| said.strip_prefix(&tag))?
    }

    /// Reads an index from its frame, without the eight bytes of the frame's header.
    pub(crate) fn decode_index(content: &[u8]) -> Option<Vec<IndexEntry>> {
        let mut rest = checked(content, INDEX_TAG)?;
        let mut next = || {
            let (value, length) = get_varint(rest)?;
            rest = &rest[length..];
            Some(value)
        };
        let count = next()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(IndexEntry {
                number: Generation(next()?),
                offset: next()?,
                compressed: next()?,
                content: next()?,
                flags: next()?,
                began: Nanos(next()?),
                ended: Nanos(next()?),
                events: next()?,
            });
        }
        Some(entries)
    }
}
