//! The snapshots in the snapshot directory: lists them, and opens one by name.
//!
//! Names come from outside. So only plain names are accepted, and only regular files in the
//! directory itself are opened: links are not followed, and opening a pipe does not block.

#![forbid(unsafe_code)]

use crate::error::Error;
use crate::os::atomic_file;
use crate::recorder;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

/// The extension of snapshots.
const EXTENSION: &str = ".lbk";
/// The longest file name on any file system.
const LONGEST_NAME: usize = 255;

/// A snapshot in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The file's name in the directory.
    pub name: String,
    /// The file's length.
    pub bytes: u64,
    /// When the file was written.
    pub when: SystemTime,
}

impl SnapshotFile {
    /// When the file was written, in UTC, by RFC 3339.
    #[must_use]
    pub fn when(&self) -> String {
        let when = chrono::DateTime::<chrono::Utc>::from(self.when);
        when.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    }
}

/// The snapshots in the running recorder's directory, newest first.
///
/// # Errors
/// No recorder is running, or the directory cannot be read. If it does not exist yet, the list is
/// empty.
pub fn snapshots() -> Result<Vec<SnapshotFile>, Error> {
    list(&recorder::current()?.settings.snapshot_dir)
}

/// Opens the snapshot with this name in the running recorder's directory, and returns its length,
/// too. `None` if there is none.
///
/// # Errors
/// No recorder is running, or the file cannot be opened.
pub fn open_snapshot(name: &str) -> Result<Option<(File, u64)>, Error> {
    open(&recorder::current()?.settings.snapshot_dir, name)
}

fn list(directory: &Path) -> Result<Vec<SnapshotFile>, Error> {
    let at = |error| Error::File { path: directory.to_owned(), error };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at)?,
    };
    let shelved = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok().filter(|name| is_name(name))?;
        // The metadata of the entry itself, not of a link's target.
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(SnapshotFile { name, bytes: metadata.len(), when: metadata.modified().ok()? })
    };
    let mut all: Vec<_> = entries.flatten().filter_map(shelved).collect();
    all.sort_by_cached_key(|shelved| std::cmp::Reverse((order(shelved), shelved.name.clone())));
    Ok(all)
}

fn open(directory: &Path, name: &str) -> Result<Option<(File, u64)>, Error> {
    if !is_name(name) {
        return Ok(None);
    }
    let path = directory.join(name);
    let opened = open_regular(&path).and_then(|file| {
        let Some(file) = file else { return Ok(None) };
        let length = file.metadata()?.len();
        Ok(Some((file, length)))
    });
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map_err(|error| Error::File { path, error }),
    }
}

/// Opens a regular file for reading. Does not follow a link, and does not block, as opening a pipe
/// would. Checks the opened file, not what the path referred to before.
///
/// # Errors
/// As for opening any file.
pub fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let opened = options.open(path).and_then(|file| Ok((file.metadata()?.is_file(), file)));
    match opened {
        Ok((is_file, file)) => Ok(is_file.then_some(file)),
        // A link or a socket.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A snapshot's position in the order of creation: from its name if the recorder made it, else from
/// the time it was written.
fn order(shelved: &SnapshotFile) -> u64 {
    let since = shelved.when.duration_since(SystemTime::UNIX_EPOCH);
    let written = since.map_or(0, |since| since.as_millis() as u64);
    atomic_file::place_in(&shelved.name).unwrap_or(written)
}

/// Whether this is a plain snapshot name.
fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.len() > EXTENSION.len()
        && name.ends_with(EXTENSION)
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    #[test]
    fn the_newest_is_listed_first_wherever_the_clock_was_set_to() {
        let place = tempfile::tempdir().unwrap();
        // In the order of creation; their modification times are in reverse order.
        let names = [
            "a-1-20990101T000000.000Z-panic.lbk",
            "a-2-20200101T000000.000Z.1-panic.lbk",
            "a-2-20200101T000001.000Z.1-checkout-7-failed.lbk",
            "a-b-3-20200101T000002.000Z.1-panic.lbk",
        ];
        for (age, name) in names.iter().enumerate() {
            let path = place.path().join(name);
            fs::write(&path, "x").unwrap();
            let when = SystemTime::now() - std::time::Duration::from_secs(age as u64 * 100);
            File::options().append(true).open(&path).unwrap().set_modified(when).unwrap();
        }
        let listed: Vec<_> = list(place.path()).unwrap().into_iter().map(|s| s.name).collect();
        assert_eq!(listed, names.iter().rev().copied().collect::<Vec<_>>());
    }

    #[test]
    fn only_regular_files_of_the_directory_itself_are_snapshots() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("snapshots");
        assert_eq!(list(&directory).unwrap(), []);
        assert!(open(&directory, "a.lbk").unwrap().is_none());
        fs::create_dir_all(directory.join("directory.lbk")).unwrap();
        fs::write(place.path().join("secret.lbk"), "outside").unwrap();
        fs::write(directory.join("a.lbk"), "inside").unwrap();
        fs::write(directory.join(".hidden.lbk"), "x").unwrap();
        fs::write(directory.join("notes.txt"), "x").unwrap();
        symlink(place.path().join("secret.lbk"), directory.join("link.lbk")).unwrap();
        symlink("nowhere", directory.join("dangling.lbk")).unwrap();
        // Through its descriptor where possible: the path itself may be too long for a socket.
        let opened = File::open(&directory).unwrap();
        let through = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        let short = if through.is_dir() { &through } else { &directory };
        let socket = std::os::unix::net::UnixListener::bind(short.join("socket.lbk")).unwrap();
        let pipe = directory.join("pipe.lbk");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let names: Vec<_> = list(&directory).unwrap().into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["a.lbk"]);
        let (_, length) = open(&directory, "a.lbk").unwrap().unwrap();
        assert_eq!(length, 6);
        let absolute = place.path().join("secret.lbk");
        let others = [
            "link.lbk",
            "dangling.lbk",
            "socket.lbk",
            "pipe.lbk",
            "directory.lbk",
            ".hidden.lbk",
            "notes.txt",
            "../secret.lbk",
            "..",
            ".",
            "",
            ".lbk",
            "a.lbk/",
            "a.lbk\0",
            "..\\secret.lbk",
            absolute.to_str().unwrap(),
            &format!("{}.lbk", "x".repeat(5000)),
        ];
        for other in others {
            assert!(open(&directory, other).unwrap().is_none(), "{other:?}");
        }
        drop(socket);
    }
}
