//! The directory that snapshots are put into: it stays within its bounds, and what a predecessor left
//! half-written is cleared away.
//!
//! Only files that the recorder itself has named are ever deleted: those of this process's name, with a
//! number and a time behind it.

#![forbid(unsafe_code)]

use crate::error::Error;
use crate::file;
use crate::process;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

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
    pub(crate) fn new(path: PathBuf, bounds: Bounds, process: &str) -> Self {
        Self { path, bounds, process: file::safe(process) }
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

    /// Deletes the oldest files until the rest is within the bounds; never the newest one. What cannot
    /// be deleted (another process was faster) is left to the next time.
    pub(crate) fn prune(&self) {
        let mut files = self.files();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, _, length)| length).sum();
        let mut count = files.len();
        for (_, path, length) in files.iter().take(files.len().saturating_sub(1)) {
            if count <= self.bounds.files && bytes <= self.bounds.bytes {
                return;
            }
            let _ = fs::remove_file(path);
            count -= 1;
            bytes -= length;
        }
    }

    /// The snapshots of this process's name: when each was written, its path, its length.
    fn files(&self) -> Vec<(SystemTime, PathBuf, u64)> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let ours = entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            if !self.is_ours(name.to_str()?) {
                return None;
            }
            let metadata = fs::symlink_metadata(entry.path()).ok()?;
            metadata.is_file().then_some(())?;
            Some((metadata.modified().ok()?, entry.path(), metadata.len()))
        });
        ours.collect()
    }

    /// Whether a file of this name is a snapshot that a process of this name has named.
    fn is_ours(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.process).and_then(|rest| rest.strip_prefix('-'));
        let Some((pid, rest)) = rest.and_then(|rest| rest.split_once('-')) else { return false };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // As in 20260131T235959.123Z.
        let time = rest.get(..20).unwrap_or_default();
        let is_time = time.len() == 20
            && time.bytes().enumerate().all(|(at, byte)| match at {
                8 => byte == b'T',
                15 => byte == b'.',
                19 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            });
        digits(pid) && is_time && name.ends_with(".lbk")
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
        directory.prune();
        assert_eq!(names(place.path()), [name(5), name(4), name(3)]);
        make(place.path(), &name(6), 995, 1);
        directory.prune();
        assert_eq!(names(place.path()), [name(6)], "by bytes");
        make(place.path(), &name(7), 5000, 0);
        directory.prune();
        assert_eq!(names(place.path()), [name(7)], "however large it is");
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
        directory.prune();
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
