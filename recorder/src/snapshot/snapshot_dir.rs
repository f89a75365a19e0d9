//! The directory for snapshots: keeps it within its bounds, even while a file is being written, and
//! removes files that a predecessor left half-written.
//!
//! File names determine which file is the oldest: they are made in order, whatever the clock says
//! (see [`atomic_file::name`]). Modification times are useless if a clock was set back: the newest
//! file would then be deleted first.
//!
//! Only files that the recorder itself has named are ever deleted: those with this process's name,
//! a number and a time.

#![forbid(unsafe_code)]

use crate::error::Error;
use crate::os::atomic_file;
use crate::os::file_lock;
use crate::os::process;
use crate::os::rights;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How old a file under a temporary name must be to count as left over.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// The limits on the directory.
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
    /// The process's name as it appears in file names.
    process: String,
    /// If set, only files of this trigger count, and may be deleted.
    only: Option<&'static str>,
}

/// The trigger in the names of what `lookback run` saves of dead processes.
const RUN: &str = "run";

/// Saves a snapshot of a dead process of this name and number for `lookback run`, within these limits on what such
/// commands have saved there of processes of this name. The files that the process's own recorder saved do not count,
/// and stay.
///
/// # Errors
/// The directory cannot be made, or the file cannot be written.
pub fn save_for_run(
    directory: &Path,
    (files, bytes): (usize, u64),
    (process, pid): (&str, u32),
    snapshot: &[u8],
) -> Result<PathBuf, Error> {
    let path = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let directory = Directory {
        path: path.to_owned(),
        bounds: Bounds { files, bytes },
        process: atomic_file::safe(process).trim_start_matches('.').to_owned(),
        only: Some(RUN),
    };
    directory.clear_left_over();
    directory.observe();
    let name = atomic_file::name_of(&directory.process, pid, RUN);
    let saved = directory.save(&name, |out| out.write_all(snapshot).map_err(Error::Write))?;
    Ok(saved.strip_prefix(".").map(Path::to_owned).unwrap_or(saved))
}

impl Directory {
    /// Opens the directory. New names sort after the existing ones.
    pub(crate) fn new(path: PathBuf, bounds: Bounds, process: &str) -> Self {
        let directory = Self { path, bounds, process: atomic_file::safe(process), only: None };
        directory.observe();
        directory
    }

    fn observe(&self) {
        self.there().iter().filter_map(|there| there.place).for_each(atomic_file::observe);
    }

    /// A name for a new file. Does not access the file system, so it takes no time.
    pub(crate) fn name(&self, trigger: &str) -> String {
        atomic_file::name(&self.process, trigger)
    }

    /// Why snapshots cannot be saved in this directory. Tries it: creates the directory if it is missing, and a file in
    /// it that has no name. The kernel alone knows: it lets root write to `/proc`, say, where nothing can be created.
    /// An operator should hear of that before there is a snapshot to save, and may repair it while the service runs.
    ///
    /// # Errors
    /// The path leads to something else than a directory.
    pub(crate) fn hindrance(path: &Path) -> Result<Option<Error>, Error> {
        let at = |error| Error::File { path: path.to_owned(), error };
        let no_directory = || at(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"));
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match fs::metadata(here) {
            Ok(metadata) if !metadata.is_dir() => return Err(no_directory()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Err(error) = fs::create_dir_all(here) {
                    let is_below_a_file = error.kind() == io::ErrorKind::NotADirectory;
                    return if is_below_a_file { Err(no_directory()) } else { Ok(Some(at(error))) };
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(no_directory());
            }
            Err(error) => return Ok(Some(at(error))),
        }
        Ok(rights::cannot_write(here).map(at))
    }

    /// Creates the directory if it does not exist.
    pub(crate) fn make(&self) -> Result<(), Error> {
        fs::create_dir_all(&self.path)
            .map_err(|error| Error::File { path: self.path.clone(), error })
    }

    /// Saves a snapshot under this name, or under the next one if the name is taken (by a process
    /// with the same name and number in another container, in the same millisecond). Makes room for
    /// it before the file is begun, and as it grows.
    pub(crate) fn save(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        self.make()?;
        let path = atomic_file::save_own(&self.path, name, |out| {
            let inode = out.get_ref().inode();
            // Even with a limit of one file, the previous one stays until this one is complete.
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

    /// The snapshots with this process's name, and all files under temporary names, oldest first.
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

    /// The file's position in name order, if a process with this name made it.
    fn place_of(&self, name: &str) -> Option<u64> {
        let rest = name.strip_prefix(&self.process)?.strip_prefix('-')?;
        let (pid, rest) = rest.split_once('-')?;
        let (stem, is_number) = (rest.strip_suffix(".lbk")?, process::is_number_in_names(pid));
        let is_counted = self.only.is_none_or(|trigger| atomic_file::is_of_trigger(stem, trigger));
        if is_number && is_counted { atomic_file::place_of(rest) } else { None }
    }

    /// Deletes temporary files of processes that are gone. A process with this process's number is
    /// gone, too: containers often reuse numbers. Containers that share a directory do not share
    /// numbers, but locks: a writer holds that of its file, which then stays.
    pub(crate) fn clear_left_over(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(temporary_of) else { continue };
            let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
            let is_old = age().is_some_and(|age| age > LEFT_OVER);
            let is_gone = || pid == std::process::id() || process::is_there(pid) == Some(false);
            if is_old && is_gone() && is_let_go(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// A file that counts towards the limits.
#[derive(Debug)]
struct There {
    /// Its position in name order; `None` if it is still being written.
    place: Option<u64>,
    path: PathBuf,
    bytes: u64,
    inode: u64,
}

/// Makes room for one file.
#[derive(Debug)]
struct Room<'a> {
    directory: &'a Directory,
    /// The file itself, which is never deleted, and is counted by the caller.
    inode: Option<u64>,
    /// The limit on files, including this one.
    files: usize,
    /// The size that this file may reach before room must be made again.
    bytes: u64,
}

impl Room<'_> {
    /// Deletes the oldest files until the directory is within its bounds with this file at `wanted`
    /// bytes, or nothing is left to delete. A file that cannot be deleted (because another process
    /// was faster) is left for the next time.
    fn make(&mut self, wanted: u64) {
        let limit = self.directory.bounds.bytes;
        let mut others = self.directory.there();
        others.retain(|there| Some(there.inode) != self.inode);
        let (mut files, mut bytes) =
            (others.len() + 1, others.iter().map(|there| there.bytes).sum());
        let is_over =
            |files: usize, bytes: u64| files > self.files || bytes.saturating_add(wanted) > limit;
        for there in others.iter().filter(|there| there.place.is_some()) {
            if !is_over(files, bytes) {
                break;
            }
            if fs::remove_file(&there.path).is_ok() {
                files -= 1;
                bytes -= there.bytes;
            }
        }
        // If everything deletable is gone, do not look again.
        self.bytes = if is_over(files, bytes) { u64::MAX } else { limit.saturating_sub(bytes) };
    }
}

/// Makes room for a file as it grows.
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

/// Whether no writer holds the lock of this file. Where the file system has no locks, its writer's number alone counts.
fn is_let_go(path: &Path) -> bool {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options.open(path).is_ok_and(|file| match file_lock::lock(&file) {
        Ok(is_let_go) => is_let_go,
        Err(error) => file_lock::is_unsupported(&error),
    })
}

/// The process that writes a file of this name, if it is a temporary one.
fn temporary_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(".lookback-")?.strip_suffix(".tmp")?;
    rest.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    use std::time::SystemTime;

    impl Directory {
        /// Prunes, as after saving a file of this name.
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

    /// Creates a file that is `age` seconds old.
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
            // The file system says that it is older than all the others.
            make(place.path(), &new, 10, 10_000);
            directory.prune(&new);
            kept.push(new);
            kept.remove(0);
            let mut expected = kept.clone();
            expected.sort();
            assert_eq!(names(place.path()), expected);
        }
        // A file just written stays, wherever its name sorts.
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
    fn what_run_saves_is_bounded_for_itself() {
        let place = tempfile::tempdir().unwrap();
        let others = [
            "shop-7-20200101T000000.000Z-panic.lbk",
            "shop-7-20200101T000000.000Z-dry-run.lbk",
            "shop-7-20200101T000000.000Z-run-x.lbk",
            "shop-7-20200101T000000.000Z-0001.lbk",
            "shop-7-20200101T000000.000Z.lbk",
            "cart-7-20200101T000000.000Z-run.lbk",
        ];
        others.iter().for_each(|name| make(place.path(), name, 100, 100));
        let first = "shop-7-20200101T000000.000Z.2-run-2.lbk";
        make(place.path(), first, 100, 100);
        let save = |limits, length| {
            super::save_for_run(place.path(), limits, ("shop", 7), &vec![0; length]).unwrap()
        };
        let saved: Vec<_> = (0..5).map(|_| save((3, 1000), 10)).collect();
        let left = names(place.path());
        assert!(others.iter().all(|name| left.iter().any(|left| left == name)), "{left:?}");
        assert_eq!(left.len(), others.len() + 3, "{left:?}");
        assert!(saved[2..].iter().all(|path| path.exists()), "the newest stay: {left:?}");
        let large = save((3, 1000), 995);
        assert!(large.exists());
        assert_eq!(names(place.path()).len(), others.len() + 1, "by bytes");
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

    const HELD: &str = "LOOKBACK_TEST_HELD";

    /// Writes to a file, as another process does, until its input ends.
    fn hold(path: &Path) {
        atomic_file::hold_for_tests(path, || {
            println!("\nheld by {}", process::number_in_names());
            let _ = io::stdin().read(&mut [0]);
        });
    }

    /// What numbers of processes mean elsewhere: nothing.
    #[test]
    fn what_a_process_of_another_namespace_is_writing_to_is_not_cleared_away() {
        if let Some(path) = std::env::var_os(HELD) {
            return hold(Path::new(&path));
        }
        let (place, directory) = directory(1, 1);
        let mut dead = Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        // By its number here it is this very process, or one that is gone.
        for number in [std::process::id(), dead.id()] {
            let name = format!(".lookback-{number}-0.tmp");
            make(place.path(), &name, 1, 100);
            let test = "snapshot::snapshot_dir::tests::\
                what_a_process_of_another_namespace_is_writing_to_is_not_cleared_away";
            let may = Command::new("unshare").args(["--pid", "--fork", "true"]).status();
            let mut held = if may.is_ok_and(|status| status.success()) {
                let mut unshare = Command::new("unshare");
                unshare
                    .args(["--pid", "--fork", "--kill-child"])
                    .arg(std::env::current_exe().unwrap());
                unshare
            } else {
                println!(
                    "::no namespace of its own is to be had here: the number alone is another's"
                );
                Command::new(std::env::current_exe().unwrap())
            };
            held.args([test, "--exact", "--nocapture", "--test-threads=1"]);
            held.env(HELD, place.path().join(&name)).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut held = held.spawn().unwrap();
            let output = BufReader::new(held.stdout.take().unwrap());
            let mut output = output.lines().map_while(Result::ok);
            let is_held = output.any(|line| line.starts_with("held by "));
            assert!(is_held, "it holds the file");
            directory.clear_left_over();
            assert_eq!(names(place.path()), std::slice::from_ref(&name), "a process writes to it");
            drop(held.stdin.take());
            output.for_each(drop);
            held.wait().unwrap();
            directory.clear_left_over();
            assert!(names(place.path()).is_empty(), "nobody does any more");
        }
    }

    #[test]
    fn a_directory_in_which_nothing_can_be_saved_is_known_before() {
        let place = tempfile::tempdir().unwrap();
        let known = |name: &str| Directory::hindrance(&place.path().join(name));
        assert!(known("").unwrap().is_none() && known("to/be/made").unwrap().is_none());
        fs::write(place.path().join("file"), "x").unwrap();
        for name in ["file", "file/below"] {
            let error = known(name).expect_err("not a directory").to_string();
            assert!(error.ends_with(&format!("{name}: not a directory")), "{error}");
        }
        assert!(Directory::hindrance(Path::new("")).unwrap().is_none());
        // Nobody can create anything there, whatever the rights of root are.
        if cfg!(target_os = "linux") {
            for path in ["/proc", "/proc/nope", "/proc/nope/below"] {
                assert!(Directory::hindrance(Path::new(path)).unwrap().is_some(), "{path}");
            }
        }
    }

    #[test]
    fn a_directory_that_is_tried_stays_empty() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("to/be/made");
        assert!(Directory::hindrance(&path).unwrap().is_none());
        assert!(path.is_dir() && names(&path).is_empty());
    }
}
