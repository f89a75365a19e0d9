//! Room for an arena in a file: all of it allocated and touched when recording starts, or right afterwards
//! (see `growth`), so that nothing of it can be missing when it is written to.
//!
//! It is done in pieces, because a signal interrupts the calls, and the kernel then gives up what the call
//! has done: a profiler that sends a thousand signals a second must not keep a large arena from ever being
//! there. Between pieces the memory that is left is looked at, if the file lies in memory.

use crate::memory_left;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// How much is done at a time, unless signals come faster.
const PIECE: usize = 16 << 20;
/// How much of an arena there is before recording starts: that takes some ten milliseconds.
pub(crate) const AT_ONCE: usize = 32 << 20;
/// The least that is.
const LEAST: usize = 64 << 10;
/// How often in a row one piece may be interrupted: signals then come faster than a page can be had.
const INTERRUPTIONS: u32 = 100_000;

/// Makes the file `length` bytes long, with space for all of it. `EOPNOTSUPP` or `ENOSYS` if the file
/// system cannot do that.
pub(crate) fn allocate(file: &File, length: usize) -> io::Result<()> {
    let in_memory = lies_in_memory(file);
    in_pieces(length, |from, piece| {
        if in_memory {
            memory_left::check((length - from) as u64)?;
        }
        // SAFETY: the descriptor is open.
        let result =
            unsafe { libc::fallocate(file.as_raw_fd(), 0, from as i64, piece as i64) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// As [`allocate`] for a file in memory, but of a large one only its front, so that it takes no time: the rest
/// must be [populated](populate) before it is used. It is made sure that there is memory for all of it. How much
/// was allocated.
pub(crate) fn allocate_front(file: &File, length: usize) -> io::Result<usize> {
    if length <= AT_ONCE || !can_populate() {
        return allocate(file, length).map(|()| length);
    }
    memory_left::check(length as u64)?;
    file.set_len(length as u64)?;
    allocate(file, AT_ONCE).map(|()| AT_ONCE)
}

/// Touches all of a mapping of such a file; what is not allocated is. A kernel before 5.14 has no such advice:
/// then each page costs its first writer a fault.
///
/// # Safety
/// All of it must be a mapping.
pub(crate) unsafe fn populate(base: *mut u8, length: usize) -> io::Result<()> {
    in_pieces(length, |from, piece| {
        let place = base.wrapping_add(from).cast();
        // SAFETY: within the mapping, as the caller promises.
        let result = unsafe { libc::madvise(place, piece, libc::MADV_POPULATE_WRITE) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// Whether the kernel knows that advice: of nothing it can be had.
fn can_populate() -> bool {
    let page = [0_u8; 1].as_ptr().map_addr(|address| address & !0xffff);
    // SAFETY: nothing is asked for.
    unsafe { libc::madvise(page.cast_mut().cast(), 0, libc::MADV_POPULATE_WRITE) == 0 }
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

/// Whether the file's content is memory, which a group of processes may have too little of.
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
            // No piece of a mebibyte and more gets through.
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
        assert_eq!(in_pieces(1, |_, _| interrupted()).unwrap_err().raw_os_error(), Some(libc::EINTR));
    }
}
