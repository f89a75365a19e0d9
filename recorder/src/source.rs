//! Where a copy of an arena comes from: this process's own, or another's.

#![forbid(unsafe_code)]

use lookback_snapshot::wire::offset;
use std::io;

/// An arena that can be read while it is written to.
pub(crate) trait Source {
    /// How many bytes of data it holds. Does not change.
    fn capacity(&self) -> u64;

    /// Appends `length` bytes from this offset on.
    fn append(&self, from: u64, length: usize, into: &mut Vec<u8>) -> io::Result<()>;

    /// Where the tail stands, read after whatever was copied before: see
    /// [`Ring::tail_after_copy`](crate::ring::Ring::tail_after_copy).
    fn tail_after_copy(&self) -> io::Result<u64>;

    /// Copies `length` bytes from position `from` on to the end of `into`.
    fn copy(&self, from: u64, length: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let capacity = self.capacity();
        crate::arena::reserve(into, length as usize)?;
        let at = from % capacity;
        let first = length.min(capacity - at);
        self.append(offset::DATA as u64 + at, first as usize, into)?;
        self.append(offset::DATA as u64, (length - first) as usize, into)
    }

    /// Copies the header to the end of `into`.
    fn copy_header(&self, into: &mut Vec<u8>) -> io::Result<()> {
        self.append(0, offset::DATA, into)
    }
}
