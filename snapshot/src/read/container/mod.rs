//! From a file to frames: finding them, with or without the index, and decompressing them.

pub(crate) mod catalog;
pub(crate) mod decompress;
pub(crate) mod frame_scan;
pub(crate) mod sniff;
pub(crate) mod source;
#[cfg(feature = "symbols")]
pub(crate) mod splice;
pub(crate) mod zstd_frame;
