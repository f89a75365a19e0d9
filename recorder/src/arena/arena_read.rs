//! Reading an arena while writers write to it: this process's own, or another's.

#![forbid(unsafe_code)]

use crate::os::pages::Pages;
use lookback_snapshot::wire::offset;
use std::io;

/// An arena that can be read while it is written to.
pub(crate) trait Source {
    /// How many bytes of data it holds. This never changes.
    fn capacity(&self) -> u64;

    /// Reads into `into`, beginning at the offset `from`.
    fn read(&self, from: u64, into: &mut [u8]) -> io::Result<()>;

    /// The tail, read after the preceding copies: see
    /// [`Ring::tail_after_copy`](crate::protocol::ring::Ring::tail_after_copy).
    fn tail_after_copy(&self) -> io::Result<u64>;

    /// The ring's head.
    fn head(&self) -> io::Result<u64> {
        let mut word = [0; 8];
        self.read(offset::HEAD as u64, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    /// Checks, before any memory is allocated for them, that the arena can have this many bytes.
    fn check_room(&self, _length: u64) -> io::Result<()> {
        Ok(())
    }

    /// Replaces the content of `into` with `length` bytes, beginning at position `from`.
    fn copy(&self, from: u64, length: u64, into: &mut Pages) -> io::Result<()> {
        self.check_room(length)?;
        self.copy_to(from, into.room(length as usize)?)
    }

    /// Fills `into` from position `from` on; at most one whole lap.
    fn copy_to(&self, from: u64, into: &mut [u8]) -> io::Result<()> {
        let capacity = self.capacity();
        let at = from % capacity;
        let first = (into.len() as u64).min(capacity - at);
        let (first, second) = into.split_at_mut(first as usize);
        self.read(offset::DATA as u64 + at, first)?;
        if second.is_empty() { Ok(()) } else { self.read(offset::DATA as u64, second) }
    }

    /// A copy of the header.
    fn copy_header(&self) -> io::Result<Pages> {
        let mut header = Pages::new();
        self.read(0, header.room(offset::DATA)?)?;
        Ok(header)
    }
}
