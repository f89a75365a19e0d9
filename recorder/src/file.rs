//! Writing a file so that it is there whole or not at all.

#![forbid(unsafe_code)]

use crate::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes `path` under a temporary name beside it, which only the owner may read, syncs it and
/// renames it. On an error nothing is left behind, and what was there before still is.
pub(crate) fn atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>,
) -> Result<(), Error> {
    let at = |error| Error::File { path: path.to_owned(), error };
    if path.file_name().is_none() {
        let reason = "this is not the name of a file";
        return Err(at(io::Error::new(io::ErrorKind::InvalidInput, reason)));
    }
    // Short, whatever the name is: that may be as long as names can be.
    let temporary = path.with_file_name(format!(".lookback-{}.tmp", unique()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&temporary).map_err(at)?;
    let written = write_and_sync(file, write).and_then(|()| {
        fs::rename(&temporary, path)?;
        // So that the name outlives a power cut, too.
        match path.parent() {
            Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }?;
        Ok(())
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        match error {
            Error::Write(error) => at(error),
            other => other,
        }
    })
}

fn write_and_sync(
    file: File,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut file = BufWriter::with_capacity(1 << 18, file);
    write(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok(())
}

/// A name for a snapshot that nobody gave a name: the process, and when.
pub(crate) fn name_in(directory: &Path, process: &str) -> PathBuf {
    let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let process: String = process.chars().map(safe).collect();
    let now = chrono::Utc::now().format("%Y%m%dT%H%M%S%.3fZ");
    let pid = std::process::id();
    let first = directory.join(format!("{process}-{pid}-{now}.lbk"));
    if !first.exists() {
        return first;
    }
    directory.join(format!("{process}-{pid}-{now}-{}.lbk", unique()))
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.lbk");
        atomically(&path, |out| Ok(out.write_all(b"first")?)).unwrap();
        let failed = atomically(&path, |out| {
            out.write_all(b"second")?;
            Err(io::Error::other("the disk is full").into())
        });
        let message = failed.unwrap_err().to_string();
        assert!(message.contains("a.lbk") && message.contains("the disk is full"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.lbk");
        atomically(&path, |out| Ok(out.write_all(b"x")?)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_name_is_safe_and_new() {
        let directory = tempfile::tempdir().unwrap();
        let name = name_in(directory.path(), "a/b c");
        assert!(name.file_name().unwrap().to_str().unwrap().starts_with("a-b-c-"));
        fs::write(&name, "").unwrap();
        assert_ne!(name_in(directory.path(), "a/b c"), name);
    }
}
