//! Bounds on reading.

use crate::file::MAX_WINDOW_LOG;

/// Bounds on what reading may take, whatever a file claims.
///
/// One generation is in memory at a time: its content, of at most `frame_bytes`, and tables with the same
/// bound. Memory is allocated as data actually arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that one frame may expand to. The default is 1 GiB, the maximum 4 GiB.
    pub frame_bytes: u64,
    /// The largest window that a frame may need, as a power of two. The default is 23.
    pub window_log: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame_bytes: 1 << 30, window_log: MAX_WINDOW_LOG }
    }
}

impl Limits {
    /// The most bytes of a frame: offsets in it fit into 32 bits with room to spare.
    pub(crate) fn content_bytes(&self) -> u64 {
        self.frame_bytes.min(u64::from(u32::MAX) - (1 << 20))
    }

    pub(crate) fn window_bytes(&self) -> u64 {
        1 << self.window_log.min(31)
    }
}
