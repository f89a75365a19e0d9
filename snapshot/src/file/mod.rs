//! The container: a series of zstd frames, and its writer.
//!
//! A file holds, in this order: the metadata, one frame for each generation, and three skippable frames
//! (index, copy of the metadata, trailer). Each generation is a frame of its own, so that `zstd -d` reads the
//! file, a cut file is good up to the cut, a damaged frame costs only its own content, and generations can be
//! read one at a time. The index makes that fast and leads past damage; it repeats what the frames say.
//!
//! `docs/format.md` specifies every byte.

mod frame;
mod index;
mod place;
mod writer;

pub use frame::{FileBlock, GenerationFrame};
pub use place::{Temporary, write_own, write_whole};
pub use writer::FileWriter;

#[cfg(feature = "read")]
pub(crate) use frame::{BlockEntry, FrameHeader, FramePrefix};
#[cfg(feature = "read")]
pub(crate) use index::{
    INDEX_TAG, IndexEntry, METADATA_COPY_TAG, NAMES_TAG, STACKS_TAG, TRAILER_TAG, Trailer,
    checked as skippable_content, decode_index,
};
#[cfg(feature = "symbols")]
pub(crate) use index::{encode_names, encode_trailer};

/// The newest version of the file format, which writers use.
pub const FORMAT_VERSION: u16 = 3;

/// The first eight bytes of the metadata frame's content.
pub(crate) const FILE_MAGIC: [u8; 8] = *b"LOOKBACK";

/// The length of the fields before the metadata in its frame: magic, version, two reserved bytes.
pub(crate) const METADATA_FRONT: usize = 12;

/// The first bytes of the content of a generation's frame.
pub(crate) const GENERATION_TAG: [u8; 4] = *b"LBGN";

/// The largest window of a frame, as a power of two.
#[cfg(feature = "read")]
pub(crate) const MAX_WINDOW_LOG: u32 = 23;

/// The first bytes of a zstd frame, as a little-endian number.
#[cfg(feature = "read")]
pub(crate) const ZSTD_MAGIC: u32 = 0xfd2f_b528;

/// The first bytes of the skippable frames: of the index, the copy of the metadata, the trailer.
pub(crate) const SKIPPABLE: [u32; 3] = [0x184d_2a5b, 0x184d_2a5c, 0x184d_2a5d];

/// The first bytes of the skippable frame with stacks that were taken from outside.
pub(crate) const SKIPPABLE_STACKS: u32 = 0x184d_2a5e;

/// The first bytes of the skippable frame with names for addresses of code.
#[cfg(feature = "read")]
pub(crate) const SKIPPABLE_NAMES: u32 = 0x184d_2a5f;
