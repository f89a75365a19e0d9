//! The memory of an arena in a file. All of it is allocated and touched when recording starts, or right
//! afterwards (see `growth`), so that none can be missing when a thread writes to it.
//!
//! This happens in pieces, because a signal interrupts the calls, and the kernel then undoes what the call
//! has done: a profiler that sends a thousand signals a second must not prevent a large arena forever.
//! Between pieces the recorder checks the remaining memory, if the file lies in memory.

use crate::os::memory_left;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The size of a piece, unless signals come faster.
const PIECE: usize = 16 << 20;
/// How much of an arena is allocated before recording starts: that takes some ten milliseconds.
pub(crate) const AT_ONCE: usize = 32 << 20;
/// The smallest piece.
const LEAST: usize = 64 << 10;
/// How often in a row one piece may be interrupted. Beyond that, signals come faster than a page can be
/// allocated.
const INTERRUPTIONS: u32 = 100_000;

/// Makes the file `length` bytes long and allocates all of it. Fails with `EOPNOTSUPP` or `ENOSYS` if the
/// file system cannot do that.
pub(crate) fn allocate(file: &File, length: usize) -> io::Result<()> {
    let in_memory = lies_in_memory(file);
    in_pieces(length, |from, piece| {
        if in_memory {
            memory_left::check((length - from) as u64)?;
        }
        // SAFETY: the descriptor is open.
        let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, from as i64, piece as i64) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// Like [`allocate`], for a file in memory, but allocates only the front of a large one, so that it takes
/// little time: the rest must be [populated](populate) before it is used. Checks that there is memory for all
/// of it. Returns how much was allocated.
pub(crate) fn allocate_front(file: &File, length: usize) -> io::Result<usize> {
    if length <= AT_ONCE || !can_populate() {
        return allocate(file, length).map(|()| length);
    }
    memory_left::check(length as u64)?;
    file.set_len(length as u64)?;
    allocate(file, AT_ONCE).map(|()| AT_ONCE)
}

/// Touches all of a mapping of such a file and allocates what is not allocated yet. A kernel before 5.14 does
/// not know this advice: then each page costs its first writer a fault.
///
/// # Safety
/// The whole range must be mapped.
pub(crate) unsafe fn populate(base: *mut u8, length: usize) -> io::Result<()> {
    in_pieces(length, |from, piece| {
        let place = base.wrapping_add(from).cast();
        // SAFETY: within the mapping, as the caller promises.
        let result = unsafe { libc::madvise(place, piece, libc::MADV_POPULATE_WRITE) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// Whether the kernel knows that advice. It is asked about a page, because some emulators of Linux accept any advice
/// for an empty range, and refuse this one for every other.
fn can_populate() -> bool {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 1, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: the mapping was just made, and nothing refers to it.
    unsafe {
        let is_known = libc::madvise(page, 1, libc::MADV_POPULATE_WRITE) == 0;
        libc::munmap(page, 1);
        is_known
    }
}

fn in_pieces(
    length: usize,
    mut work: impl FnMut(usize, usize) -> io::Result<()>,
) -> io::Result<()> {
    let (mut from, mut piece, mut interrupted) = (0, PIECE, 0);
    while from < length {
        let now = piece.min(length - from);
        match work(from, now) {
            Ok(()) => {
                from += now;
                interrupted = 0;
            }
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {
                interrupted += 1;
                if interrupted > INTERRUPTIONS {
                    return Err(error);
                }
                piece = (piece / 2).max(LEAST);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the file's content is memory, which a cgroup may limit.
fn lies_in_memory(file: &File) -> bool {
    let mut about = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the descriptor is open, the place is valid, and zeroes are a value.
    unsafe {
        libc::fstatfs(file.as_raw_fd(), about.as_mut_ptr()) == 0
            && about.assume_init().f_type == libc::TMPFS_MAGIC
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_interrupted_is_done_again_in_smaller_pieces() {
        let (mut done, mut calls) = (Vec::new(), 0);
        in_pieces((33 << 20) + 5, |from, piece| {
            calls += 1;
            // No piece of a mebibyte or more gets through.
            if piece >= 1 << 20 {
                return Err(io::Error::from_raw_os_error(libc::EINTR));
            }
            assert_eq!(from, done.iter().sum::<usize>());
            done.push(piece);
            Ok(())
        })
        .unwrap();
        assert_eq!(done.iter().sum::<usize>(), (33 << 20) + 5);
        assert!(calls < 100, "{calls}");
    }

    #[test]
    fn who_is_always_interrupted_gives_up() {
        let error = in_pieces(1, |_, _| Err(io::ErrorKind::Interrupted.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        let interrupted = || Err(io::Error::from_raw_os_error(libc::EINTR));
        assert_eq!(
            in_pieces(1, |_, _| interrupted()).unwrap_err().raw_os_error(),
            Some(libc::EINTR)
        );
    }
}
