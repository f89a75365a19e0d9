//! Finding the file that has a module's names, of the same build.
//!
//! It tries, in this order: the recorded file itself, if it has debug information; the file that it names
//! (`.gnu_debuglink`), beside it, in `.debug` and in the system's directory; the file that the build id names,
//! in the system's directory and in the given ones; and finally the recorded file, which may still have its
//! symbols.
//!
//! The paths come from a snapshot, which anybody may have written. So only regular files are really opened:
//! no pipe blocks the reader, and opening no device has side effects.

use addr2line::Loader;
use object::read::{Object, ObjectSection, ReadCache};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Where systems keep debug information.
const SYSTEM: &str = "/usr/lib/debug";

/// Larger files are not read.
const LARGEST: u64 = 8 << 30;

/// Why there are no names for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// There is no such file.
    File,
    /// All files found are of other builds.
    OtherBuild,
    /// The file cannot be read.
    Unreadable(String),
    /// It has none: its symbols were stripped.
    Stripped,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("not here; name its directory with --symbols"),
            Self::OtherBuild => f.write_str(
                "of another build than the recorded one; name the directory of that one with --symbols",
            ),
            Self::Unreadable(why) => f.write_str(why),
            Self::Stripped => f.write_str(
                "no symbols, it is stripped; name the directory of the unstripped build with --symbols",
            ),
        }
    }
}

/// Opens the file with the names for the module of this path and build.
pub(super) fn open(path: &Path, build_id: &[u8], folders: &[PathBuf]) -> Result<Loader, Missing> {
    find(path, build_id, folders).and_then(|file| load(&file))
}

/// The build id of a file, empty if it has none; `None` if it is no object file.
pub(super) fn build_id(path: &Path) -> Option<Vec<u8>> {
    look(path).map(|found| found.build_id)
}

/// The file with the names for the module of this path and build.
pub(super) fn find(path: &Path, build_id: &[u8], folders: &[PathBuf]) -> Result<PathBuf, Missing> {
    let mut missing = Missing::File;
    let mut last = None;
    for candidate in candidates(path, build_id, folders) {
        let Some(found) = look(&candidate) else { continue };
        // Without an id builds cannot be told apart; then a file of the same name has to do.
        if found.build_id != build_id && !(build_id.is_empty() && found.build_id.is_empty()) {
            missing = Missing::OtherBuild;
            continue;
        }
        if found.has_lines {
            return Ok(candidate);
        }
        last.get_or_insert(candidate);
    }
    last.ok_or(missing)
}

fn load(path: &Path) -> Result<Loader, Missing> {
    let file = regular(path).ok_or(Missing::File)?;
    // The file that was examined, whatever has its name by now.
    #[cfg(target_os = "linux")]
    let path = &PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
    let loaded = Loader::new(path).map_err(|why| Missing::Unreadable(why.to_string()));
    drop(file);
    loaded
}

/// Opens a file, if it is a regular one of a sensible size.
pub(super) fn regular(path: &Path) -> Option<File> {
    // A watchdog's device starts to watch when it is opened.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // The standard library closes it on exec.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path).ok()?;
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && metadata.len() <= LARGEST).then_some(file)
}

fn candidates(path: &Path, build_id: &[u8], folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    let name = path.file_name().unwrap_or_default();
    found.extend(folders.iter().map(|folder| folder.join(name)));
    if let (Some(link), Some(folder)) = (look(path).and_then(|of| of.link), path.parent()) {
        let inside = folder.strip_prefix("/").unwrap_or(folder);
        found.extend([
            folder.join(&link),
            folder.join(".debug").join(&link),
            Path::new(SYSTEM).join(inside).join(&link),
        ]);
        found.extend(folders.iter().map(|folder| folder.join(&link)));
    }
    if let Some((first, rest)) = build_id.split_first() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let name = format!(".build-id/{first:02x}/{}.debug", hex(rest));
        found.extend(folders.iter().map(|folder| folder.join(&name)));
        found.push(Path::new(SYSTEM).join(name));
    }
    found
}

/// What a file shows without its debug information.
struct Found {
    build_id: Vec<u8>,
    has_lines: bool,
    /// The name of the file with its debug information.
    link: Option<String>,
}

/// `None` if this is no object file.
fn look(path: &Path) -> Option<Found> {
    let file = BufReader::new(regular(path)?);
    let cache = ReadCache::new(file);
    let object = object::File::parse(&cache).ok()?;
    let build_id = object.build_id().ok().flatten().unwrap_or_default().to_vec();
    let has_lines = object.section_by_name(".debug_line").is_some_and(|lines| lines.size() > 0)
        || object.section_by_name(".zdebug_line").is_some();
    let link = object.gnu_debuglink().ok().flatten();
    let link = link.and_then(|(name, _)| String::from_utf8(name.to_vec()).ok());
    // A bare name, which cannot lead out of the folders.
    let link = link.filter(|name| !name.contains('/') && !name.is_empty());
    Some(Found { build_id, has_lines, link })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_found_by_its_build_and_no_other() {
        let path = std::env::current_exe().unwrap();
        let build_id = look(&path).unwrap().build_id;
        assert!(open(&path, &build_id, &[]).is_ok());
        assert_eq!(open(&path, b"another", &[]).err(), Some(Missing::OtherBuild));
        let elsewhere = Path::new("/elsewhere").join(path.file_name().unwrap());
        assert_eq!(open(&elsewhere, &build_id, &[]).err(), Some(Missing::File));
        let folder = path.parent().unwrap().to_owned();
        assert!(open(&elsewhere, &build_id, &[folder]).is_ok(), "in a folder that is named");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_and_a_device_are_no_files_and_nobody_waits_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
            assert!(look(path).is_none());
            assert_eq!(open(path, b"", &[]).err(), Some(Missing::File));
            assert_eq!(load(path).err(), Some(Missing::File));
        }
    }

    /// Who opens a pipe to write to it waits for somebody who opens it to read.
    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_not_even_opened() {
        use std::os::unix::fs::OpenOptionsExt;
        use std::sync::atomic::{AtomicBool, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let is_opened = AtomicBool::new(false);
        let mut reader = None;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _writer = OpenOptions::new().write(true).open(&pipe).unwrap();
                is_opened.store(true, Ordering::SeqCst);
            });
            for _ in 0..1000 {
                assert!(open(&pipe, b"", &[]).is_err() && load(&pipe).is_err());
            }
            let was_opened = is_opened.load(Ordering::SeqCst);
            // Lets the other thread end.
            reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).ok();
            assert!(!was_opened);
        });
        assert!(reader.is_some());
    }

    #[test]
    fn files_of_any_bytes_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken");
        for length in [0, 4, 64, 300] {
            let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
            bytes.resize(length.max(7), 0xff);
            std::fs::write(&path, bytes).unwrap();
            assert!(open(&path, b"id", &[]).is_err());
        }
    }
}
