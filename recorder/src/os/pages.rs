//! Memory for a copy of the arena: whole pages from the system, returned at once after use. An
//! allocator would keep many megabytes for good that are needed only for a moment.

#[cfg(target_os = "linux")]
use crate::os::memory_left;
use crate::os::mmap;
use std::io;
use std::ops::Deref;

/// From this many bytes on, check that there is memory. A smaller request does not kill a process.
#[cfg(target_os = "linux")]
const ASKED_FROM: usize = 4 << 20;

/// See the module. Initially empty.
#[derive(Debug)]
pub(crate) struct Pages {
    address: *mut u8,
    mapped: usize,
    used: usize,
}

// SAFETY: this object alone owns the mapping, and changes it only through `&mut`.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    pub(crate) fn new() -> Self {
        Self { address: std::ptr::null_mut(), mapped: 0, used: 0 }
    }

    /// A buffer of `length` bytes, in place of the present contents.
    ///
    /// # Errors
    /// There is not enough memory: a service that is short of it must not die of a snapshot.
    pub(crate) fn room(&mut self, length: usize) -> io::Result<&mut [u8]> {
        if length > self.mapped {
            *self = Self::new();
            let whole =
                length.checked_next_multiple_of(64 << 10).ok_or(io::ErrorKind::OutOfMemory)?;
            // Touching pages beyond a memory group's limit is no error: it kills the process.
            #[cfg(target_os = "linux")]
            if whole >= ASKED_FROM {
                memory_left::check(whole as u64)?;
            }
            (self.address, self.mapped) = (mmap::fresh(whole)?, whole);
        }
        self.used = length;
        if length == 0 {
            return Ok(&mut []);
        }
        // SAFETY: `length` bytes are mapped there, zeroed or written before, and belong to this
        // object.
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
            mmap::unreserve(self.address, self.mapped);
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
