//! Saves files atomically: a file appears whole or not at all, and never replaces anything but a file.
//!
//! The library and the command save in the same way. An existing file is replaced once the new one is whole,
//! and the new one gets its mode and its owner. Links are followed, even dangling ones. A device, a pipe, or
//! a descriptor under `/proc` or `/dev` is written to directly: replacing `/dev/null` by a file would break
//! the machine.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many links are followed, as on Linux.
const MOST_LINKS: u32 = 40;
/// How many temporary names are tried.
const MOST_TRIES: u32 = 1000;

/// Writes `path`. A regular or new file is written under a temporary name beside it, synced and renamed: on
/// an error nothing is left behind, and the old file stays. A new file is readable by its owner only; an
/// existing one keeps its mode, its owner and its group. Anything but a file is opened and written to
/// directly; a pipe waits for its reader.
///
/// # Errors
/// Those of `write`, or of the operating system: `path` is a directory, or not writable, for instance.
///
/// # Examples
/// ```
/// use std::io::{self, Write};
/// # let directory = std::env::temp_dir().join(format!("lookback-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// let path = directory.join("incident.lbk");
/// lookback_snapshot::file::write_whole(&path, |mut file| file.write_all(b"all of it"))?;
/// assert_eq!(std::fs::read(&path)?, b"all of it");
/// let failed = lookback_snapshot::file::write_whole(&path, |mut file| {
///     file.write_all(b"half of")?;
///     Err::<(), _>(io::Error::other("no more"))
/// });
/// assert!(failed.is_err());
/// assert_eq!(std::fs::read(&path)?, b"all of it");
/// # std::fs::remove_dir_all(directory)?;
/// # Ok::<(), io::Error>(())
/// ```
pub fn write_whole<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&File) -> Result<T, E>,
) -> Result<T, E> {
    let (target, before) = match Target::of(path)? {
        Target::Stream => {
            // A descriptor may lead to a file with content.
            let file = OpenOptions::new().append(true).open(path)?;
            return write(&file);
        }
        Target::File(target, before) => (target, before),
    };
    let (temporary, file) = Temporary::beside(&target)?;
    let written = write(&file)?;
    if let Some(before) = before {
        before.pass_on(&file)?;
    }
    file.sync_all()?;
    temporary.become_file(&target)?;
    Ok(written)
}

/// Writes a new file of this name into `directory`, like [`write_whole`], but follows no link and replaces
/// nothing: if the name exists (another container may have created it in the same millisecond), the file is
/// `name-2.lbk`, and so on. For generated names, in a directory that others may write to. Returns the path of
/// the file.
///
/// # Errors
/// Those of `write`, or of the operating system.
pub fn write_own<E: From<io::Error>>(
    directory: &Path,
    name: &str,
    write: impl FnOnce(&File) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let (temporary, file) = Temporary::beside(&directory.join(name))?;
    write(&file)?;
    file.sync_all()?;
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending)) => (stem, format!(".{ending}")),
        None => (name, String::new()),
    };
    for number in 1..MOST_TRIES {
        let target = match number {
            1 => directory.join(name),
            _ => directory.join(format!("{stem}-{number}{ending}")),
        };
        match fs::hard_link(temporary.path(), &target) {
            Ok(()) => {
                let _ = fs::remove_file(temporary.path());
                temporary.has_become(&target)?;
                return Ok(target);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // The file system may have no hard links: check whether the name exists.
            Err(_) if fs::symlink_metadata(&target).is_ok() => {}
            Err(_) => {
                temporary.become_file(&target)?;
                return Ok(target);
            }
        }
    }
    Err(io::Error::other("1,000 files of that name exist; remove some").into())
}

/// The target of a path.
enum Target {
    /// Not a file: written to directly.
    Stream,
    /// A file, and what to keep if it exists.
    File(PathBuf, Option<Kept>),
}

impl Target {
    fn of(path: &Path) -> io::Result<Self> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            if path.file_name().is_none() {
                return Err(io::Error::new(
                    io::ErrorKind::IsADirectory,
                    "this is a directory; name a file in it",
                ));
            }
            let there = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Self::File(path, None));
                }
                there => there?,
            };
            let kind = there.file_type();
            if kind.is_symlink() {
                if is_descriptor(&path) {
                    return Ok(Self::Stream);
                }
                let next = fs::read_link(&path)?;
                path = path.parent().map_or_else(|| next.clone(), |parent| parent.join(&next));
                continue;
            }
            if kind.is_dir() {
                return Err(io::Error::new(
                    io::ErrorKind::IsADirectory,
                    "this is a directory; name a file in it",
                ));
            }
            if !kind.is_file() {
                return Ok(Self::Stream);
            }
            // A user who may not write to a file must not replace it either, even if its directory would
            // allow that.
            OpenOptions::new().write(true).open(&path)?;
            return Ok(Self::File(path, Some(Kept::of(&there))));
        }
        Err(io::Error::other("too many symbolic links lead to one another"))
    }
}

/// Whether this link stands for an open descriptor: its target may be a file opened for appending, or
/// deleted.
fn is_descriptor(path: &Path) -> bool {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    parent.canonicalize().is_ok_and(|parent| parent.starts_with("/proc"))
}

/// What the new file keeps of the old one.
#[cfg(unix)]
struct Kept {
    mode: u32,
    owner: (u32, u32),
}

#[cfg(unix)]
impl Kept {
    fn of(there: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { mode: there.mode() & 0o777, owner: (there.uid(), there.gid()) }
    }

    fn pass_on(&self, file: &File) -> io::Result<()> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let ours = file.metadata()?;
        let mut mode = self.mode;
        if (ours.uid(), ours.gid()) != self.owner {
            let (owner, group) = (Some(self.owner.0), Some(self.owner.1));
            // Only the superuser can give files away; a group of the process can be set.
            if fchown(file, owner, group).is_err() && fchown(file, None, group).is_err() {
                // Rights of another group must not pass to this one.
                mode &= !0o070;
            }
        }
        file.set_permissions(fs::Permissions::from_mode(mode))
    }
}

#[cfg(not(unix))]
struct Kept(fs::Permissions);

#[cfg(not(unix))]
impl Kept {
    fn of(there: &fs::Metadata) -> Self {
        Self(there.permissions())
    }

    fn pass_on(&self, file: &File) -> io::Result<()> {
        file.set_permissions(self.0.clone())
    }
}

/// A file under a temporary name, which is deleted again unless it gets its own.
#[derive(Debug)]
#[must_use = "it is deleted when it is dropped"]
pub struct Temporary(Option<PathBuf>);

impl Temporary {
    /// A new file beside `path`, readable by its owner only.
    ///
    /// # Errors
    /// The operating system's.
    pub fn beside(path: &Path) -> io::Result<(Self, File)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        for _ in 0..MOST_TRIES {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            // Short, because the final name may be as long as names can be.
            let name = format!(".lookback-{}-{number}.tmp", std::process::id());
            let temporary = path.with_file_name(name);
            match options.open(&temporary) {
                Ok(file) => return Ok((Self(Some(temporary)), file)),
                // A killed process left it: process 1 of a container has the same ID each time.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("all temporary names are taken"))
    }

    /// Its current path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    /// Renames it, replacing an existing file.
    ///
    /// # Errors
    /// The operating system's; the file is then deleted.
    pub fn become_file(self, path: &Path) -> io::Result<()> {
        fs::rename(self.path(), path)?;
        self.has_become(path)
    }

    /// Keeps it: it got its name by other means.
    ///
    /// # Errors
    /// The directory could not be synced, so a power cut may lose the name.
    pub fn has_become(mut self, path: &Path) -> io::Result<()> {
        self.0 = None;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // So that the name survives a power cut, too. A directory may be writable but not readable; and not
        // every file system can sync one.
        let Ok(directory) = File::open(directory) else { return Ok(()) };
        match directory.sync_all() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Processes of two containers may have the same name, number and millisecond.
    #[test]
    fn what_has_the_name_already_is_not_replaced() {
        let place = tempfile::tempdir().unwrap();
        let write = |text: &'static [u8]| {
            write_own(place.path(), "shop-7-now.lbk", |mut file| file.write_all(text)).unwrap()
        };
        let texts = [&b"one"[..], b"two", b"three"];
        let all: Vec<_> = texts.into_iter().map(|text| (write(text), text)).collect();
        for (path, text) in &all {
            assert_eq!(fs::read(path).unwrap(), *text, "{path:?}");
        }
        assert_eq!(all[1].0, place.path().join("shop-7-now-2.lbk"));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3, "nothing else is left");
    }
}
