//! The limit on file sizes. Exceeding it is a fatal signal, so it is checked before every write.

use std::io;

/// The limit on the size of files that this process writes, if any.
pub(crate) fn limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: 0 };
    // SAFETY: `limit` is a valid place.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    #[allow(clippy::unnecessary_cast, reason = "FreeBSD has a signed number")]
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as u64)
}

/// The error for a file that would exceed the limit.
pub(crate) fn too_large(limit: u64) -> io::Error {
    let reason = format!("the limit on file sizes (RLIMIT_FSIZE) is {limit} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, reason)
}
