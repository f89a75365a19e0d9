//! The files of recordings to disk that are over.
//!
//! A file of a process that is alive is not among them. In another container a process's number means nothing, so a
//! recording also holds the lock of the file that it writes.

use rustix::fs::{FlockOperation, flock};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The files in this directory of recordings with the same name as this one, and their sizes, oldest first. Names are
/// `NAME-PID-TIME-NUMBER.lbk`, and a stem is the part before the number.
pub fn files(directory: &Path, stem: &str) -> VecDeque<(PathBuf, u64)> {
    let Some(ours) = Parts::of(stem) else { return VecDeque::new() };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (stem, number) = name.strip_suffix(".lbk")?.rsplit_once('-')?;
        let parts = Parts::of(stem)?;
        let is_number = number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
        let is_earlier = is_number && parts.name == ours.name && stem != ours.stem;
        let is_over = parts.pid == ours.pid || crate::process::Stat::of(parts.pid).is_none();
        let metadata = entry.metadata().ok()?;
        let counts = is_earlier && is_over && metadata.is_file() && !is_kept(&entry.path());
        counts.then(|| ((parts.time.to_owned(), name.clone()), entry.path(), metadata.len()))
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    found.into_iter().map(|(_, path, bytes)| (path, bytes)).collect()
}

/// Shows other recordings that this file is being written, until it is closed. Some file systems have no locks.
pub fn keep(file: &File) {
    let _ = flock(file, FlockOperation::NonBlockingLockExclusive);
}

fn is_kept(path: &Path) -> bool {
    let lock = |file: File| flock(&file, FlockOperation::NonBlockingLockShared);
    File::open(path).is_ok_and(|file| lock(file) == Err(rustix::io::Errno::WOULDBLOCK))
}

/// The parts of a stem.
struct Parts<'a> {
    stem: &'a str,
    name: &'a str,
    pid: u32,
    time: &'a str,
}

impl<'a> Parts<'a> {
    fn of(stem: &'a str) -> Option<Self> {
        let (rest, time) = stem.rsplit_once('-')?;
        let (name, pid) = rest.rsplit_once('-')?;
        let is_time = time.len() == "20260101T000000.000Z".len()
            && time.ends_with('Z')
            && time.as_bytes()[8] == b'T';
        let pid = pid.parse().ok().filter(|_| is_time)?;
        Some(Self { stem, name, pid, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_recordings_that_are_over_are_found_oldest_first() {
        let place = tempfile::tempdir().unwrap();
        let (parent, gone) = (std::os::unix::process::parent_id(), u32::MAX >> 1);
        let stem =
            |name: &str, pid: u32, day: u32| format!("{name}-{pid}-202601{day:02}T000000.000Z");
        let ours = stem("a-shop", 7, 9);
        let old = [
            stem("a-shop", gone, 1) + "-0001.lbk",
            stem("a-shop", gone, 1) + "-0002.lbk",
            stem("a-shop", 7, 2) + "-0001.lbk",
            stem("a-shop", gone, 3) + "-10000.lbk",
        ];
        let others = [
            ours.clone() + "-0001.lbk",
            stem("shop", gone, 1) + "-0001.lbk",
            stem("a-shop", parent, 1) + "-0001.lbk",
            stem("a-shop", gone, 1) + "-run.lbk",
            stem("a-shop", gone, 1) + "-2.lbk",
            stem("a-shop", gone, 1) + ".lbk",
            "notes".to_owned(),
        ];
        for name in old.iter().rev().chain(&others) {
            fs::write(place.path().join(name), "12345").unwrap();
        }
        let held = place.path().join(stem("a-shop", gone, 4) + "-0001.lbk");
        let file = File::create(&held).unwrap();
        keep(&file);
        let expected = old.map(|name| (place.path().join(name), 5));
        assert_eq!(files(place.path(), &ours), expected);
        drop(file);
        assert_eq!(files(place.path(), &ours).len(), expected.len() + 1);
    }
}
