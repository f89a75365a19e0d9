//! Files in which the kernel says how the process and the machine fare.
//!
//! They are opened for each reading and closed after it. A descriptor that stayed open would save a microsecond, and be one that
//! a service counts, that it may close (daemons close all) so that the number is soon another file's, and that keeps a mount busy.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

fn open(path: &Path) -> io::Result<File> {
    // After a change of root, anything may have this name. A pipe must not hold up the collector.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Reads the beginning of a file, as much as fits. Returns how much that was.
pub(crate) fn read(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    open(path)?.read_at(buffer, 0)
}

/// Reads at most so much of a file.
pub(crate) fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn checked(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What the kernel has counted for this process.
pub(crate) fn usage() -> io::Result<libc::rusage> {
    let mut usage = MaybeUninit::uninit();
    // SAFETY: there is room for the answer.
    checked(unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded.
    Ok(unsafe { usage.assume_init() })
}

/// How many descriptors may be open; `None` if there is no limit.
pub(crate) fn descriptor_limit() -> io::Result<Option<u64>> {
    let mut limit = MaybeUninit::uninit();
    // SAFETY: there is room for the answer.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded.
    let limit: libc::rlimit = unsafe { limit.assume_init() };
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur))
}

/// A constant of the system, if it makes sense.
fn constant(name: libc::c_int) -> Option<u64> {
    // SAFETY: a name that is not known is an error.
    u64::try_from(unsafe { libc::sysconf(name) }).ok().filter(|value| *value > 0)
}

/// Bytes in a page.
pub(crate) fn page_size() -> u64 {
    constant(libc::_SC_PAGESIZE).unwrap_or(4096)
}

/// Ticks in a second, where the kernel counts in ticks.
pub(crate) fn ticks_a_second() -> u64 {
    constant(libc::_SC_CLK_TCK).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_are_read_as_far_as_there_is_room_and_an_error_says_why() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) = (place.path().join("one"), place.path().join("two"));
        fs::write(&one, "12 34\n").unwrap();
        let mut buffer = [0; 4];
        assert_eq!(read(&one, &mut buffer).unwrap(), 4);
        assert_eq!((&buffer, read_at_most(&one, 3).unwrap()), (b"12 3", b"12 ".to_vec()));
        let missing = read(&two, &mut buffer).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        assert!(read(place.path(), &mut buffer).is_err(), "it is a directory");
    }

    #[test]
    fn a_pipe_of_that_name_holds_up_nobody() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pipe");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the name ends with a zero.
        if unsafe { libc::mkfifo(name.as_ptr(), 0o600) } != 0 {
            return println!("skipped: no pipe can be made here: {}", io::Error::last_os_error());
        }
        assert!(read(&path, &mut [0; 4]).is_err());
        assert_eq!(read_at_most(&path, 4).unwrap_or_default(), []);
    }
}
