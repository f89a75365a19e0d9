//! The black box: an arena in a file, so that it outlives its process.
//!
//! # What is never overwritten
//!
//! The box of a predecessor that died is moved aside before a new one takes its name. A process that moves a
//! box holds the lock on *that file* (`flock`), and has checked after locking that the path still leads to
//! it. A process that comes second finds the lock held, or another file at the path, and looks again. A new
//! box is completed under a temporary name and then renamed, which fails if its own name is taken. So no
//! process ever sees half a box.
//!
//! A lock belongs to an open file, and a forked child keeps it after its parent has died. So where a lock is
//! held, the header tells which process holds it: its ID and start, the machine's boot, and the namespace of
//! the ID. The lock is ignored only if that process is known to be gone or has noted that its recording is
//! over.

use crate::arena::room;
use crate::error::Error;
use crate::os::file_lock::lock;
use crate::os::process;
use lookback_snapshot::wire::{ARENA_MAGIC, ArenaHeader, Generation, offset};
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::linux::fs::MetadataExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often to look again at a path that changes meanwhile.
const ATTEMPTS: usize = 16;
/// The prefix of a box's temporary name.
const TEMPORARY: &str = ".lookback-box-";
/// Unfinished boxes older than this are deleted.
const LEFT: Duration = Duration::from_secs(60);
/// How much to write at a time if the file system cannot allocate.
const PIECE: usize = 1 << 20;

/// A new, empty box, locked, with all of its space allocated.
#[derive(Debug)]
pub(crate) struct NewBox {
    pub(crate) file: File,
    path: PathBuf,
    temporary: PathBuf,
    /// Where the box of a predecessor that died was moved.
    pub(crate) predecessor: Option<PathBuf>,
}

/// What is at a box's path.
enum Found {
    Nothing,
    /// The box of a process that died: the open file, locked if possible.
    Died(File, Option<Box<ArenaHeader>>),
    /// A file that may be replaced: an empty one, or a box whose recording was ended in order.
    Over(File),
    /// The path has changed meanwhile.
    Changed,
}

impl NewBox {
    /// Makes a box of `length` bytes for `path`. Moves aside what a predecessor left, and keeps the last
    /// `kept` of such boxes.
    pub(crate) fn create(path: &Path, length: usize, kept: usize) -> Result<Self, Error> {
        let at = |error| Error::BlackBox { path: path.to_owned(), error };
        if path.file_name().is_none() {
            return Err(at(invalid("not the name of a file; name one")));
        }
        let mut predecessor = None;
        for _ in 0..ATTEMPTS {
            match look(path).map_err(at)? {
                Found::Nothing => {
                    discard_old(path, kept);
                    let temporary = temporary_beside(path);
                    let file = make(&temporary, length).map_err(at)?;
                    return Ok(Self { file, path: path.to_owned(), temporary, predecessor });
                }
                Found::Died(file, header) => {
                    predecessor = move_aside(path, &file, header.as_deref()).map_err(at)?;
                }
                Found::Over(file) => {
                    if is_at(path, &file) {
                        take_away(path, &file).map_err(at)?;
                    }
                }
                Found::Changed => {}
            }
        }
        Err(at(io::Error::other(
            "other processes keep changing it; give each process a path of its own",
        )))
    }

    /// Gives the box its own name, once it is readable.
    pub(crate) fn publish(self) -> Result<Option<PathBuf>, Error> {
        let at = |error| Error::BlackBox { path: self.path.clone(), error };
        // Try a rename first: then `/proc` shows the mapping under the new name, and so do outside readers.
        let named = match rename_no_replace(&self.temporary, &self.path) {
            Err(error) if is_unsupported(&error) => fs::hard_link(&self.temporary, &self.path),
            renamed => renamed,
        };
        let linked = named.or_else(|error| {
            let no_links = matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP));
            if no_links && !self.path.exists() {
                return fs::rename(&self.temporary, &self.path);
            }
            Err(if error.kind() == io::ErrorKind::AlreadyExists {
                io::Error::new(error.kind(), "another process has just created its own there; give each process a path of its own")
            } else {
                error
            })
        });
        let _ = fs::remove_file(&self.temporary);
        linked.map_err(at)?;
        Ok(self.predecessor)
    }

    /// Deletes the box again: recording could not begin.
    pub(crate) fn abandon(self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

fn temporary_beside(path: &Path) -> PathBuf {
    // Two containers may share a directory and have processes with the same ID.
    let (pid, namespace) = (std::process::id(), process::pid_namespace());
    path.with_file_name(format!("{TEMPORARY}{pid}-{namespace}.tmp"))
}

/// Looks at the path without following a link or waiting for anything.
fn look(path: &Path) -> io::Result<Found> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(invalid("this is a symbolic link, which is not followed; name its target"));
        }
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            return Err(invalid("not a regular file; name another path"));
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(invalid("not a regular file; name another path"));
    }
    // SAFETY: the call has no preconditions.
    if metadata.st_uid() != unsafe { libc::geteuid() } {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to another user; remove it, or name another path",
        ));
    }
    let locked = lock(&file)?;
    let header = read_header(&file);
    if locked {
        if !is_at(path, &file) {
            return Ok(Found::Changed);
        }
        return match header {
            Head::Empty => Ok(Found::Over(file)),
            Head::Other => Err(invalid(
                "this is not a black box, and is not overwritten: move it away, or name another path",
            )),
            Head::Damaged => Ok(Found::Died(file, None)),
            Head::Box(header) if header.ended && !died(&header) => Ok(Found::Over(file)),
            Head::Box(header) => Ok(Found::Died(file, Some(header))),
        };
    }
    match header {
        // A forked child has the lock, or a stuck writer has the mapping.
        Head::Box(header) if header.ended && !died(&header) => Ok(Found::Over(file)),
        Head::Box(header) if header.ended || is_gone(&header) => {
            Ok(Found::Died(file, Some(header)))
        }
        Head::Box(header) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("process {} records into it; give each process a path of its own", header.pid),
        )),
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process has locked it; give each process a path of its own",
        )),
    }
}

/// Whether its process noted a crash that no handler resolved.
fn died(header: &ArenaHeader) -> bool {
    header.crash.as_ref().is_some_and(|crash| !crash.survived)
}

/// Whether the process that wrote this header is known to be gone. Less is known where one of the two has no
/// `/proc`, or the kernel hides processes.
fn is_gone(header: &ArenaHeader) -> bool {
    let (boot, namespace) = (process::boot_id(), process::pid_namespace());
    let is_known = ![boot, header.boot_id].contains(&[0; 16]);
    if is_known && header.boot_id != boot {
        return true;
    }
    if namespace == 0 || header.pid_namespace != namespace {
        return false;
    }
    process::is_alive(header.pid, header.process_start)
        .map_or_else(|| is_nobody(header.pid), |is_alive| !is_alive)
}

/// Whether no process has this ID.
fn is_nobody(pid: u32) -> bool {
    // SAFETY: signal 0 is never delivered: the call only says whether the process exists.
    let answer = unsafe { libc::kill(pid.cast_signed(), 0) };
    answer != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// What the beginning of a file says.
enum Head {
    Empty,
    Other,
    Damaged,
    Box(Box<ArenaHeader>),
}

fn read_header(file: &File) -> Head {
    let mut bytes = vec![0; offset::DATA];
    let mut read = 0;
    while let Ok(more @ 1..) = file.read_at(&mut bytes[read..], read as u64) {
        read += more;
    }
    if read == 0 {
        Head::Empty
    } else if !bytes.starts_with(&ARENA_MAGIC) {
        Head::Other
    } else {
        match ArenaHeader::parse(&bytes) {
            Ok(header) if read == offset::DATA => Head::Box(Box::new(header)),
            _ => Head::Damaged,
        }
    }
}

/// Whether the path still leads to this file.
fn is_at(path: &Path, file: &File) -> bool {
    let there = fs::symlink_metadata(path);
    there.ok().zip(file.metadata().ok()).is_some_and(|(there, file)| {
        (there.st_dev(), there.st_ino()) == (file.st_dev(), file.st_ino())
    })
}

/// Deletes a box whose recording is over. Another process may hold its lock, so the path may lead to a newer
/// box by now. The check after the rename reveals that, and the newer box gets its name back.
fn take_away(path: &Path, file: &File) -> io::Result<()> {
    let taken = temporary_beside(path);
    match fs::rename(path, &taken) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if is_at(&taken, file) { fs::remove_file(&taken) } else { rename_to_new(&taken, path) }
}

/// Moves a box aside, to a name with its time. `None` if it is no longer at its path.
fn move_aside(
    path: &Path,
    file: &File,
    header: Option<&ArenaHeader>,
) -> io::Result<Option<PathBuf>> {
    let entries =
        header.map(|header| header.generations().into_iter().copied().collect::<Vec<_>>());
    let last = entries.unwrap_or_default().into_iter().max_by_key(|entry| entry.number);
    let wall = last.filter(|entry| entry.number != Generation(0)).map(|entry| entry.began.wall.0);
    let time = wall
        .and_then(|nanos| i64::try_from(nanos).ok())
        .map(chrono::DateTime::from_timestamp_nanos)
        .unwrap_or_else(chrono::Utc::now)
        .format("%Y%m%dT%H%M%SZ");
    for number in 1..100 {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{time}"));
        if number > 1 {
            name.push(format!("-{number}"));
        }
        let aside = PathBuf::from(name);
        if !is_at(path, file) {
            return Ok(None);
        }
        match rename_to_new(path, &aside) {
            Ok(()) => return Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("a hundred black boxes of that second are beside it; remove some"))
}

/// Renames, unless the new name is taken.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match rename_no_replace(from, to) {
        Err(error) if is_unsupported(&error) && !to.exists() => fs::rename(from, to),
        renamed => renamed,
    }
}

/// Like [`rename_to_new`], where kernel and file system can do it in one step.
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    let c_string = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (old, new) = (c_string(from)?, c_string(to)?);
    // SAFETY: both strings end with a zero.
    let renamed = unsafe {
        let (at, flags) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
        libc::syscall(libc::SYS_renameat2, at, old.as_ptr(), at, new.as_ptr(), flags)
    };
    if renamed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))
}

/// Deletes the oldest boxes that were moved aside, beyond `kept`, and unfinished ones. A failure to delete is
/// ignored: it is no reason not to record.
fn discard_old(path: &Path, kept: usize) {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let Ok(entries) = directory.read_dir() else { return };
    let front = path.file_name().unwrap_or_default();
    let mut aside = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        if is_aside(&name, front) {
            aside.push(entry.path());
        } else if name.as_bytes().starts_with(TEMPORARY.as_bytes()) && was_left(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    aside.sort();
    let surplus = aside.len().saturating_sub(kept);
    for old in aside.drain(..surplus) {
        let _ = fs::remove_file(old);
    }
}

/// Whether no process is still making this box.
fn was_left(path: &Path) -> bool {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let Ok(file) = options.open(path) else { return false };
    let age = file.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
    age.is_ok_and(|age| age.is_ok_and(|age| age > LEFT)) && lock(&file).unwrap_or(false)
}

/// Whether a name is `front`, a dot, and a time such as `20261124T145012Z`, with or without a number.
fn is_aside(name: &OsStr, front: &OsStr) -> bool {
    let Some(rest) = name.as_bytes().strip_prefix(front.as_bytes()) else { return false };
    let Some((b'.', time)) = rest.split_first() else { return false };
    let Some((time, number)) = time.split_at_checked(16) else { return false };
    let digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    digits(&time[..8])
        && time[8] == b'T'
        && digits(&time[9..15])
        && time[15] == b'Z'
        && (number.is_empty() || (number[0] == b'-' && number.len() > 1 && digits(&number[1..])))
}

/// A new file that only its owner may read, locked, with every byte allocated.
fn make(path: &Path, length: usize) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    // A file of that name is left from a dead process that had this ID.
    let _ = fs::remove_file(path);
    let file = options.create_new(true).open(path)?;
    let made = (|| {
        if !lock(&file)? {
            return Err(io::Error::other("a new file is locked already"));
        }
        allocate(&file, length)
    })();
    match made {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(if error.kind() == io::ErrorKind::StorageFull {
                let need = length >> 10;
                let words = format!(
                    "no room for {need} KiB there; free some, or set a smaller `max_bytes`"
                );
                io::Error::new(error.kind(), words)
            } else {
                error
            })
        }
    }
}

/// Makes the file `length` bytes long and allocates all of them, so that a full disk is an error now and not
/// a fatal signal later.
fn allocate(file: &File, length: usize) -> io::Result<()> {
    match room::allocate(file, length) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {}
        done => return done,
    }
    let zeroes = vec![0; PIECE];
    for at in (0..length).step_by(PIECE) {
        file.write_all_at(&zeroes[..PIECE.min(length - at)], at as u64)?;
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_snapshot::wire::ARENA_VERSION;

    #[test]
    fn only_a_process_that_is_known_to_be_gone_is_gone() {
        let mut bytes = vec![0; offset::DATA];
        bytes[..8].copy_from_slice(&ARENA_MAGIC);
        bytes[offset::VERSION..][..4].copy_from_slice(&ARENA_VERSION.to_le_bytes());
        bytes[offset::HEADER_LENGTH..][..4].copy_from_slice(&(offset::DATA as u32).to_le_bytes());
        bytes[offset::CAPACITY..][..8].copy_from_slice(&(1_u64 << 20).to_le_bytes());
        let mut ours = ArenaHeader::parse(&bytes).unwrap();
        ours.pid = std::process::id();
        ours.process_start = process::start_time();
        ours.boot_id = process::boot_id();
        ours.pid_namespace = process::pid_namespace();
        let gone = |change: fn(&mut ArenaHeader)| {
            let mut header = ours.clone();
            change(&mut header);
            is_gone(&header)
        };
        assert!(!gone(|_| {}));
        assert!(gone(|header| header.process_start += 1));
        assert!(gone(|header| header.pid = i32::MAX.cast_unsigned()));
        assert!(gone(|header| header.boot_id[0] ^= 1));
        assert!(!gone(|header| header.boot_id = [0; 16]), "it had no /proc");
        let elsewhere = |header: &mut ArenaHeader| {
            header.pid = i32::MAX.cast_unsigned();
            header.pid_namespace = 0;
        };
        assert!(!gone(elsewhere), "its number means nothing here");
    }

    #[test]
    fn a_box_that_was_moved_aside_is_known_by_its_name() {
        let known = |name: &str| is_aside(OsStr::new(name), OsStr::new("a.box"));
        assert!(known("a.box.20261124T145012Z") && known("a.box.20261124T145012Z-12"));
        for other in ["a.box", "a.box.", "a.box.20261124T145012", "a.box.20261124T145012Z-", "b"] {
            assert!(!known(other), "{other}");
        }
    }
}
