//! Where a copy of an arena comes from: this process's own, or another's.

#![forbid(unsafe_code)]

use crate::pages::Pages;
use lookback_snapshot::wire::offset;
use std::io;

/// An arena that can be read while it is written to.
pub(crate) trait Source {
    /// How many bytes of data it holds. Does not change.
    fn capacity(&self) -> u64;

    /// Reads from this offset on.
    fn read(&self, from: u64, into: &mut [u8]) -> io::Result<()>;

    /// Where the tail stands, read after whatever was copied before: see
    /// [`Ring::tail_after_copy`](crate::ring::Ring::tail_after_copy).
    fn tail_after_copy(&self) -> io::Result<u64>;

    /// Where the head stands.
    fn head(&self) -> io::Result<u64> {
        let mut word = [0; 8];
        self.read(offset::HEAD as u64, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    /// Whether it can be believed that there are so many bytes, before memory is taken for them.
    fn check_room(&self, _length: u64) -> io::Result<()> {
        Ok(())
    }

    /// Copies `length` bytes from position `from` on, in place of what `into` holds.
    fn copy(&self, from: u64, length: u64, into: &mut Pages) -> io::Result<()> {
        self.check_room(length)?;
        self.copy_to(from, into.room(length as usize)?)
    }

    /// Copies what lies from position `from` on, no more than all of it.
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
