//! The directory that snapshots are put into: it stays within its bounds, also while a file is being
//! written, and what a predecessor left half-written is cleared away.
//!
//! Which file is the oldest, its name says: names are made in order, whatever the clock is set to (see
//! [`file::name`]). When a file was written, as the file system has it, says nothing where a clock was set
//! back: the newest would then be the first to go.
//!
//! Only files that the recorder itself has named are ever deleted: those of this process's name, with a
//! number and a time behind it.

#![forbid(unsafe_code)]

use crate::error::Error;
use crate::file;
use crate::process;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// How long nobody must have written to a file under a temporary name for it to be left over.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// How much there may be in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) bounds: Bounds,
    /// The process's name, as it stands in names of files.
    process: String,
}

impl Directory {
    /// This directory. Names are made after those that are in it.
    pub(crate) fn new(path: PathBuf, bounds: Bounds, process: &str) -> Self {
        let directory = Self { path, bounds, process: file::safe(process) };
        directory.observe();
        directory
    }

    fn observe(&self) {
        self.there().iter().filter_map(|there| there.place).for_each(file::observe);
    }

    /// A name for a new file. Nothing is asked of the file system, so it takes no time.
    pub(crate) fn name(&self, trigger: &str) -> String {
        file::name(&self.process, trigger)
    }

    /// Makes the directory, if it is not there.
    pub(crate) fn make(&self) -> Result<(), Error> {
        fs::create_dir_all(&self.path)
            .map_err(|error| Error::File { path: self.path.clone(), error })
    }

    /// Saves a snapshot under this name, or the next one if something has that (a process of the same name and
    /// number in another container has made it in the same millisecond), and makes room for it: before its file is
    /// begun, and as it grows.
    pub(crate) fn save(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        self.make()?;
        let path = file::save_own(&self.path, name, |out| {
            let inode = out.get_ref().inode();
            // Of one file, the one before stays until this one is whole.
            let files = self.bounds.files.max(2);
            let mut room = Room { directory: self, inode, files, bytes: 0 };
            room.make(0);
            write(&mut Growing { out, room, written: 0 })
        })?;
        let inode = fs::symlink_metadata(&path).ok().map(|metadata| metadata.ino());
        Room { directory: self, inode, files: self.bounds.files, bytes: 0 }
            .make(fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len()));
        self.observe();
        Ok(path)
    }

    /// The snapshots of this process's name, and whatever is under a temporary name, the oldest first.
    fn there(&self) -> Vec<There> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let there = entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            let place = self.place_of(name);
            if place.is_none() && temporary_of(name).is_none() {
                return None;
            }
            let metadata = fs::symlink_metadata(entry.path()).ok()?;
            metadata.is_file().then_some(())?;
            let (bytes, inode) = (metadata.len(), metadata.ino());
            Some(There { place, path: entry.path(), bytes, inode })
        });
        let mut there: Vec<_> = there.collect();
        there.sort_by(|a, b| (a.place, &a.path).cmp(&(b.place, &b.path)));
        there
    }

    /// The place in the order of a file of this name, if a process of this name has named it.
    fn place_of(&self, name: &str) -> Option<u64> {
        let rest = name.strip_prefix(&self.process)?.strip_prefix('-')?;
        let (pid, rest) = rest.split_once('-')?;
        let digits = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
        if digits && name.ends_with(".lbk") { file::place_of(rest) } else { None }
    }

    /// Deletes files under temporary names that a process left which is gone. One of the same number
    /// as this process is gone, too: that is usual in a container.
    pub(crate) fn clear_left_over(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(temporary_of) else { continue };
            let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
            let is_old = age().is_some_and(|age| age > LEFT_OVER);
            if is_old && (pid == std::process::id() || process::is_there(pid) == Some(false)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// A file that counts.
#[derive(Debug)]
struct There {
    /// Its place in the order; `None` if it is being written.
    place: Option<u64>,
    path: PathBuf,
    bytes: u64,
    inode: u64,
}

/// The room for one file.
#[derive(Debug)]
struct Room<'a> {
    directory: &'a Directory,
    /// The file itself, which is never deleted, and counted by who asks.
    inode: Option<u64>,
    /// How many files there may be with it.
    files: usize,
    /// How many bytes it may have before room must be made again.
    bytes: u64,
}

impl Room<'_> {
    /// Deletes the oldest files until the rest is within the bounds with this one of so many bytes, or
    /// nothing is left that can go. What cannot be deleted (another process was faster) is left to the
    /// next time.
    fn make(&mut self, wanted: u64) {
        let limit = self.directory.bounds.bytes;
        let mut others = self.directory.there();
        others.retain(|there| Some(there.inode) != self.inode);
        let (mut files, mut bytes) = (others.len() + 1, others.iter().map(|there| there.bytes).sum());
        let is_over = |files: usize, bytes: u64| {
            files > self.files || bytes.saturating_add(wanted) > limit
        };
        for there in others.iter().filter(|there| there.place.is_some()) {
            if !is_over(files, bytes) {
                break;
            }
            if fs::remove_file(&there.path).is_ok() {
                files -= 1;
                bytes -= there.bytes;
            }
        }
        // Where everything that can go is gone, it need not be looked for again.
        self.bytes = if is_over(files, bytes) { u64::MAX } else { limit.saturating_sub(bytes) };
    }
}

/// A file for which room is made as it grows.
struct Growing<'a, W> {
    out: W,
    room: Room<'a>,
    written: u64,
}

impl<W: Write> Write for Growing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wanted = self.written + bytes.len() as u64;
        if wanted > self.room.bytes {
            self.room.make(wanted);
        }
        let written = self.out.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The process that writes to a file of this name, if that is a temporary one.
fn temporary_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(".lookback-")?.strip_suffix(".tmp")?;
    rest.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::path::Path;
    use std::time::SystemTime;

    impl Directory {
        /// As after a file of this name was saved.
        fn prune(&self, name: &str) {
            let metadata = fs::metadata(self.path.join(name)).unwrap();
            let (inode, files) = (Some(metadata.ino()), self.bounds.files);
            Room { directory: self, inode, files, bytes: 0 }.make(metadata.len());
        }
    }

    fn directory(files: usize, bytes: u64) -> (tempfile::TempDir, Directory) {
        let place = tempfile::tempdir().unwrap();
        let bounds = Bounds { files, bytes };
        let directory = Directory::new(place.path().to_owned(), bounds, "shop");
        (place, directory)
    }

    /// Makes a file that is so many seconds old.
    fn make(place: &Path, name: &str, length: usize, age: u64) {
        fs::write(place.join(name), vec![0; length]).unwrap();
        let when = SystemTime::now() - Duration::from_secs(age);
        File::options().append(true).open(place.join(name)).unwrap().set_modified(when).unwrap();
    }

    fn names(place: &Path) -> Vec<String> {
        let entries = fs::read_dir(place).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_go_first_and_the_newest_never() {
        let (place, directory) = directory(3, 1000);
        let name = |n: u64| format!("shop-{}-20260101T00000{n}.000Z-panic.lbk", 90 - n);
        (1..=5).for_each(|n| make(place.path(), &name(n), 10, 100 - n));
        directory.prune(&name(5));
        assert_eq!(names(place.path()), [name(5), name(4), name(3)]);
        make(place.path(), &name(6), 995, 1);
        directory.prune(&name(6));
        assert_eq!(names(place.path()), [name(6)], "by bytes");
        make(place.path(), &name(7), 5000, 0);
        directory.prune(&name(7));
        assert_eq!(names(place.path()), [name(7)], "however large it is");
    }

    #[test]
    fn where_the_clock_was_set_back_the_oldest_go_first_all_the_same() {
        let (place, directory) = directory(3, 1000);
        // The predecessor's clock was a year ahead.
        let old = |n: u64| format!("shop-7-2027010{n}T000000.000Z-panic.lbk");
        (1..=3).for_each(|n| make(place.path(), &old(n), 10, 0));
        let directory = Directory { process: "shop".to_owned(), ..directory };
        directory.observe();
        let mut kept = vec![old(1), old(2), old(3)];
        for _ in 0..5 {
            let new = directory.name("panic");
            // By the file system it is older than all the others.
            make(place.path(), &new, 10, 10_000);
            directory.prune(&new);
            kept.push(new);
            kept.remove(0);
            let mut expected = kept.clone();
            expected.sort();
            assert_eq!(names(place.path()), expected);
        }
        // What was just written stays, wherever its name stands in the order.
        let oldest = "shop-7-20200101T000000.000Z-panic.lbk".to_owned();
        make(place.path(), &oldest, 10, 0);
        directory.prune(&oldest);
        assert!(names(place.path()).contains(&oldest));
    }

    #[test]
    fn what_is_being_written_counts_and_is_never_deleted() {
        let (place, directory) = directory(3, 1000);
        let name = |n: u64| format!("shop-7-20260101T00000{n}.000Z-panic.lbk");
        (1..=3).for_each(|n| make(place.path(), &name(n), 10, 0));
        make(place.path(), ".lookback-7-0.tmp", 500, 0);
        directory.prune(&name(3));
        assert_eq!(names(place.path()), [".lookback-7-0.tmp".to_owned(), name(2), name(3)]);
        make(place.path(), ".lookback-7-1.tmp", 600, 0);
        directory.prune(&name(3));
        assert_eq!(
            names(place.path()),
            [".lookback-7-0.tmp".to_owned(), ".lookback-7-1.tmp".to_owned(), name(3)]
        );
    }

    #[test]
    fn what_the_recorder_did_not_name_is_left_alone() {
        let (place, directory) = directory(1, 1);
        let others = [
            "incident.lbk",
            "shop-incident.lbk",
            "shop-api-7-20260101T000000.000Z.lbk",
            "shop-7-20260101T000000.000Z.lbk.bak",
            "shop-7-yesterday-at-noon.lbk",
            "shop-x-20260101T000000.000Z.lbk",
        ];
        others.iter().for_each(|name| make(place.path(), name, 100, 100));
        make(place.path(), "shop-7-20260101T000000.000Z.lbk", 100, 50);
        make(place.path(), "shop-7-20260101T000001.000Z-slow_span-2.lbk", 100, 40);
        directory.prune("shop-7-20260101T000001.000Z-slow_span-2.lbk");
        let left = names(place.path());
        assert_eq!(left.len(), others.len() + 1, "{left:?}");
        assert!(others.iter().all(|name| left.iter().any(|left| left == name)));
    }

    #[test]
    fn what_a_dead_process_left_half_written_is_cleared_away() {
        let (place, directory) = directory(1, 1);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = format!(".lookback-{}-0.tmp", child.id());
        let same = format!(".lookback-{}-9.tmp", std::process::id());
        let parent = std::os::unix::process::parent_id();
        let alive = format!(".lookback-{parent}-0.tmp");
        let young = format!(".lookback-{}-1.tmp", child.id());
        for (name, age) in [(&dead, 100), (&same, 100), (&alive, 100), (&young, 1)] {
            make(place.path(), name, 1, age);
        }
        directory.clear_left_over();
        let mut expected = [alive, young];
        expected.sort();
        assert_eq!(names(place.path()), expected);
    }
}
