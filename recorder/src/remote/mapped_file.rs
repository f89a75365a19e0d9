//! Finds arenas among the files that a process has mapped, and opens them.

use super::{OutsideArena, OutsideError, Way};
use crate::os::own_thread;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// The name of arenas that have no name in the file system, as `/proc` shows it.
const ANONYMOUS: &[u8] = b"/memfd:lookback";

/// A file that a process has mapped shared and writable from its beginning, as arenas are.
#[derive(Clone, Debug)]
pub(super) struct MappedFile {
    base: u64,
    length: u64,
    pub(super) device: u64,
    pub(super) inode: u64,
    path: PathBuf,
    pub(super) anonymous: bool,
}

pub(super) fn mapped_files(pid: u32) -> Result<Vec<MappedFile>, OutsideError> {
    let maps = fs::read(format!("/proc/{pid}/maps")).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OutsideError::NoProcess(pid),
        _ if error.raw_os_error() == Some(libc::ESRCH) => OutsideError::NoProcess(pid),
        _ => OutsideError::Denied { pid, what: "the list of its mappings", error },
    })?;
    let mut files: Vec<_> =
        maps.split(|byte| *byte == b'\n').filter_map(MappedFile::parse).collect();
    // Anonymous ones first: most arenas are.
    files.sort_by_key(|file| !file.anonymous);
    Ok(files)
}

impl MappedFile {
    /// A line of `/proc/PID/maps`: `from-to rw-s offset major:minor inode path`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut rest = line;
        let mut field = || {
            let trimmed = rest.trim_ascii_start();
            let end = trimmed.iter().position(|byte| *byte == b' ').unwrap_or(trimmed.len());
            let (field, behind) = trimmed.split_at(end);
            rest = behind;
            std::str::from_utf8(field).ok()
        };
        let (range, rights, offset) = (field()?, field()?, field()?);
        let (device, inode) = (field()?, field()?);
        let path = rest.trim_ascii_start();
        if rights != "rw-s" || u64::from_str_radix(offset, 16) != Ok(0) || path.is_empty() {
            return None;
        }
        let (base, end) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        let (base, end) = (address(base)?, address(end)?);
        let (major, minor) = device.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        Some(Self {
            base,
            length: end.checked_sub(base)?,
            device: libc::makedev(number(major)?, number(minor)?),
            inode: inode.parse().ok()?,
            path: PathBuf::from(std::ffi::OsStr::from_bytes(path)),
            anonymous: path.starts_with(ANONYMOUS),
        })
    }

    /// The arena in it, if it is one. For a file with a name in a file system, waits only for a limited time.
    pub(super) fn open_in_time(&self, pid: u32) -> Result<Option<OutsideArena>, OutsideError> {
        if self.anonymous {
            return self.open(pid);
        }
        let file = self.clone();
        within(PATIENCE, move || file.open(pid)).unwrap_or_else(|| {
            let name = format!("process {pid}: {}", self.path.display());
            let error = io::Error::new(io::ErrorKind::TimedOut, "its file system does not answer");
            Err(OutsideError::Io { name, error })
        })
    }

    /// The arena in it, if it is one.
    fn open(&self, pid: u32) -> Result<Option<OutsideArena>, OutsideError> {
        let path = (!self.anonymous).then(|| self.path.clone());
        let file = match self.find(pid) {
            Ok(Some(file)) => file,
            // Anything else that a process has mapped is none of our business.
            Ok(None) if !self.anonymous => return Ok(None),
            Err(_) if !self.anonymous => return Ok(None),
            Ok(None) => return self.open_memory(pid, None),
            Err(error) => return self.open_memory(pid, Some(error)),
        };
        OutsideArena::new(Way::File(file), format!("process {pid}"), path)
    }

    /// The process's descriptor of it.
    fn find(&self, pid: u32) -> io::Result<Option<File>> {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let path = entry?.path();
            // The kernel itself knows where a link leads; examining the target could block on a file system
            // that never answers.
            let Ok(to) = fs::read_link(&path) else { continue };
            let is_it = match self.anonymous {
                true => to.as_os_str().as_bytes().starts_with(ANONYMOUS),
                false => to == self.path,
            };
            if !is_it {
                continue;
            }
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_file()
                && (metadata.st_dev(), metadata.st_ino()) == (self.device, self.inode)
            {
                return open_regular_through(&path).map(Some);
            }
        }
        if self.anonymous {
            return Ok(None);
        }
        // The path as the process sees it, in its own root directory.
        let inside = self.path.strip_prefix("/").unwrap_or(&self.path);
        let path = PathBuf::from(format!("/proc/{pid}/root")).join(inside);
        let file = open_regular(&path)?;
        let metadata = file.metadata()?;
        let same = (metadata.st_dev(), metadata.st_ino()) == (self.device, self.inode);
        Ok(same.then_some(file))
    }

    /// Without a descriptor there is still the mapping, if this process may read the other's memory.
    fn open_memory(
        &self,
        pid: u32,
        refused: Option<io::Error>,
    ) -> Result<Option<OutsideArena>, OutsideError> {
        let denied = |error: io::Error| match error.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT) => OutsideError::NoProcess(pid),
            _ => OutsideError::Denied { pid, what: "its memory", error },
        };
        let memory = File::open(format!("/proc/{pid}/mem"))
            .map_err(|error| denied(refused.unwrap_or(error)))?;
        OutsideArena::new(
            Way::Memory(memory, self.base, self.length),
            format!("process {pid}"),
            None,
        )
    }
}

/// How long to wait for a file system.
const PATIENCE: Duration = Duration::from_secs(1);

/// Does work that another user's file system may block forever; returns `None` if it takes longer than that,
/// and leaves the thread behind.
fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, is_done) = mpsc::channel();
    own_thread::spawn("lookback-look", move || done.send(work())).ok()?;
    is_done.recv_timeout(patience).ok()
}

/// Opens a regular file for reading, without following a link and without waiting. Anything else is not
/// opened at all, because opening a device may have side effects.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let found = options.open(path)?;
    let kind = found.metadata()?.file_type();
    if kind.is_symlink() {
        let reason = "this is a symbolic link, which is not followed; name its target";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    if !kind.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file; name a black box",
        ));
    }
    open_regular_through(&PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd())))
}

/// Like [`open_regular`], through one of the links in `/proc`.
fn open_regular_through(link: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    options.open(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a"), directory.path().join("link"));
        fs::write(&file, "a").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(open_regular(&file).is_ok());
        let refused = |path: &Path| open_regular(path).unwrap_err().to_string();
        assert!(refused(&link).contains("a symbolic link"));
        assert!(refused(directory.path()).contains("not a regular file"));
        assert!(refused(Path::new("/dev/null")).contains("not a regular file"));
        assert!(refused(&directory.path().join("none")).contains("No such file"));
    }

    #[test]
    fn nobody_is_waited_for_longer_than_that() {
        assert_eq!(within(Duration::from_secs(600), || 7), Some(7));
        let (_held, waits) = mpsc::channel::<()>();
        assert!(within(Duration::from_millis(10), move || waits.recv()).is_none());
    }

    /// A file system whose server never answers: nothing examines what the process has open there.
    #[test]
    fn a_descriptor_of_a_file_system_that_does_not_answer_holds_nobody_up() {
        use std::os::fd::{FromRawFd, OwnedFd};
        let Ok(server) = File::options().read(true).write(true).open("/dev/fuse") else {
            println!("skipped: there is no /dev/fuse");
            return;
        };
        let place = tempfile::tempdir().unwrap();
        let path = std::ffi::CString::new(place.path().as_os_str().as_bytes()).unwrap();
        let number = server.as_raw_fd();
        // Mounted where only this thread sees it; its root is known without an answer from the server.
        let root = std::thread::spawn(move || {
            let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0\0");
            // SAFETY: valid strings; a namespace of this thread's own.
            unsafe {
                if libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) != 0
                    || libc::mount(
                        c"none".as_ptr(),
                        c"/".as_ptr(),
                        std::ptr::null(),
                        libc::MS_REC | libc::MS_PRIVATE,
                        std::ptr::null(),
                    ) != 0
                    || libc::mount(
                        c"lookback".as_ptr(),
                        path.as_ptr(),
                        c"fuse".as_ptr(),
                        0,
                        options.as_ptr().cast(),
                    ) != 0
                {
                    return None;
                }
                let root = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                (root >= 0).then(|| OwnedFd::from_raw_fd(root))
            }
        });
        let Some(root) = root.join().unwrap() else {
            println!("skipped: nothing can be mounted here");
            return;
        };
        let mapped = MappedFile {
            base: 0,
            length: 0,
            device: 1,
            inode: 1,
            path: "/memfd:lookback (deleted)".into(),
            anonymous: true,
        };
        let found =
            within(Duration::from_secs(20), move || mapped.find(std::process::id()).is_ok());
        // Without its server, waiting threads continue.
        drop(server);
        assert_eq!(found, Some(true));
        drop(root);
    }

    #[test]
    fn a_line_of_mappings_is_read() {
        let line =
            b"7f0000000000-7f0002000000 rw-s 00000000 00:01 1027   /memfd:lookback (deleted)";
        let file = MappedFile::parse(line).unwrap();
        assert_eq!((file.base, file.inode, file.anonymous), (0x7f00_0000_0000, 1027, true));
        let spaces = b"1000-2000 rw-s 00000000 08:01 5 /dev/shm/a name with spaces";
        let file = MappedFile::parse(spaces).unwrap();
        assert_eq!(file.path, Path::new("/dev/shm/a name with spaces"));
        assert!(!file.anonymous);
        for other in [
            &b""[..],
            b"1000-2000 r--s 00000000 08:01 5 /a",
            b"1000-2000 rw-s 00001000 08:01 5 /a",
            b"1000-2000 rw-p 00000000 00:00 0",
            b"x-y rw-s 00000000 08:01 5 /a",
        ] {
            assert!(MappedFile::parse(other).is_none());
        }
    }
}
