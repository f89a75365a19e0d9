//! The rights that this process runs with.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Whether this program runs with more rights than the user who started it and set its environment.
/// Compares the ids and asks the kernel, which also knows about capabilities of the executable.
pub(crate) fn are_raised() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: no preconditions.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return true;
    }
    // SAFETY: no preconditions.
    unsafe { libc::getuid() != libc::geteuid() || libc::getgid() != libc::getegid() }
}

/// Why this process cannot create files in this directory. Asks the kernel about its rights, and then creates an empty
/// file without leaving it there. Whether there is room for more, only writing tells.
pub(crate) fn cannot_write(directory: &Path) -> Option<io::Error> {
    let path = CString::new(directory.as_os_str().as_bytes()).ok()?;
    // SAFETY: the path ends with a zero.
    if unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } != 0 {
        // A filter of system calls that refuses the question says nothing of the answer.
        let error = io::Error::last_os_error();
        if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EROFS)) {
            return Some(error);
        }
    }
    create_in(directory).err()
}

/// Creates an empty file and deletes it: one without a name, where the file system has such.
fn create_in(directory: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    #[cfg(target_os = "linux")]
    {
        let unnamed = options.clone().custom_flags(libc::O_TMPFILE).open(directory);
        let has_none = |error: &io::Error| {
            let known = [libc::EOPNOTSUPP, libc::EISDIR, libc::EINVAL, libc::ENOENT, libc::ENOSYS];
            error.raw_os_error().is_some_and(|error| known.contains(&error))
        };
        match unnamed {
            Err(error) if has_none(&error) => {}
            other => return other.map(drop),
        }
    }
    // The form of a temporary snapshot: if the process dies here, its successor deletes the file.
    let path = directory.join(format!(".lookback-{}-start.tmp", std::process::id()));
    match options.create_new(true).open(&path) {
        // A process that died here left it, or one of another container is here.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(_) => fs::remove_file(&path),
    }
}
