//! Memory for a copy of the arena: whole pages from the system, which go back to it at once. An allocator
//! would keep them: many megabytes, from then on, for what is needed for a moment.

use crate::mapping;
#[cfg(target_os = "linux")]
use crate::memory_left;
use std::io;
use std::ops::Deref;

/// From so many bytes on it is asked whether there is memory: less is not what a process dies of.
#[cfg(target_os = "linux")]
const ASKED_FROM: usize = 4 << 20;

/// See the module. Empty at first.
#[derive(Debug)]
pub(crate) struct Pages {
    address: *mut u8,
    mapped: usize,
    used: usize,
}

// SAFETY: the mapping is this object's alone, and is changed through `&mut` alone.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    pub(crate) fn new() -> Self {
        Self { address: std::ptr::null_mut(), mapped: 0, used: 0 }
    }

    /// Room for so many bytes, in place of what it holds.
    ///
    /// # Errors
    /// There is no memory for it: a service that has none left must not die of a snapshot.
    pub(crate) fn room(&mut self, length: usize) -> io::Result<&mut [u8]> {
        if length > self.mapped {
            *self = Self::new();
            let whole = length
                .checked_next_multiple_of(64 << 10)
                .ok_or(io::ErrorKind::OutOfMemory)?;
            // To touch pages that a memory group has no room for is no error, but the end.
            #[cfg(target_os = "linux")]
            if whole >= ASKED_FROM {
                memory_left::check(whole as u64)?;
            }
            (self.address, self.mapped) = (mapping::fresh(whole)?, whole);
        }
        self.used = length;
        if length == 0 {
            return Ok(&mut []);
        }
        // SAFETY: so many bytes are mapped there, zeroed or written before, and they are this object's.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.address, length) })
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.used == 0 {
            return &[];
        }
        // SAFETY: as for `room`.
        unsafe { std::slice::from_raw_parts(self.address, self.used) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.mapped > 0 {
            mapping::unreserve(self.address, self.mapped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_and_more_room_can_be_had() {
        let mut pages = Pages::new();
        assert!(pages.is_empty());
        pages.room(3).unwrap().copy_from_slice(b"abc");
        assert_eq!(*pages, *b"abc");
        assert_eq!(pages.room(1 << 20).unwrap().len(), 1 << 20);
        pages.room(2).unwrap().copy_from_slice(b"de");
        assert_eq!(*pages, *b"de");
        assert!(pages.room(0).unwrap().is_empty() && pages.is_empty());
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        let mut pages = Pages::new();
        assert!(pages.room(usize::MAX).is_err());
        assert!(pages.room(1 << 60).is_err());
        assert!(pages.is_empty());
    }
}
