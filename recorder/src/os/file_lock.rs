//! The lock on an open file. The kernel releases it when the process ends, whatever namespace that is in.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Tries to lock the file without waiting, and returns whether it succeeded. The lock lasts as long as the
/// open file, or a mapping of it.
///
/// # Errors
/// The operating system's: the file system may have no locks, for instance.
pub(crate) fn lock(file: &File) -> io::Result<bool> {
    // SAFETY: the descriptor is open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) }
}

/// Whether the file system has no such locks.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    let codes = [libc::ENOTSUP, libc::EOPNOTSUPP, libc::ENOLCK, libc::ENOSYS, libc::EINVAL];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_locks_is_told_from_a_lock_that_is_held() {
        for code in [libc::ENOTSUP, libc::ENOLCK, libc::ENOSYS, libc::EINVAL] {
            assert!(is_unsupported(&io::Error::from_raw_os_error(code)));
        }
        for code in [libc::EWOULDBLOCK, libc::EINTR, libc::EBADF] {
            assert!(!is_unsupported(&io::Error::from_raw_os_error(code)));
        }
    }
}
