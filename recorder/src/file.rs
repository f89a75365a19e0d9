//! Writing a file so that it is there whole or not at all.

#![forbid(unsafe_code)]

use crate::arena::{file_size_limit, too_large};
use crate::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Writes `path` under a temporary name beside it, which only the owner may read, syncs it and
/// renames it. On an error nothing is left behind, and what was there before still is.
pub(crate) fn atomically(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<Bounded>) -> Result<(), Error>,
) -> Result<(), Error> {
    let at = |error| Error::File { path: path.to_owned(), error };
    if path.file_name().is_none() {
        let reason = "this is not the name of a file";
        return Err(at(io::Error::new(io::ErrorKind::InvalidInput, reason)));
    }
    let (temporary, file) = open_beside(path).map_err(at)?;
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

/// Opens a new file under a temporary name beside `path`.
fn open_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut tries = 0;
    loop {
        // Short, whatever the name is: that may be as long as names can be.
        let temporary = path.with_file_name(format!(".lookback-{}.tmp", unique()));
        match options.open(&temporary) {
            // A predecessor of the same number, as in a container, has left it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < 100 => tries += 1,
            opened => return Ok((temporary, opened?)),
        }
    }
}

fn write_and_sync(
    file: File,
    write: impl FnOnce(&mut BufWriter<Bounded>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut file = BufWriter::with_capacity(1 << 18, Bounded { file, written: 0 });
    write(&mut file)?;
    file.flush()?;
    file.get_ref().file.sync_all()?;
    Ok(())
}

/// A file that is not written beyond the process's limit: that would be a fatal signal, to a service
/// that has done nothing wrong.
#[derive(Debug)]
pub(crate) struct Bounded {
    file: File,
    written: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.written + bytes.len() as u64;
        if let Some(limit) = file_size_limit().filter(|limit| after > *limit) {
            return Err(too_large(limit));
        }
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A name for a snapshot that nobody gave a name: the process, when, and what took it. No other one
/// of this process has it.
pub(crate) fn name(process: &str, trigger: &str) -> String {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = chrono::Utc::now().timestamp_millis();
    let (order, failure) = (Ordering::Relaxed, Ordering::Relaxed);
    let next = |last: i64| now.max(last + 1);
    let last = LAST.fetch_update(order, failure, |last| Some(next(last))).unwrap_or(now);
    let time = chrono::DateTime::from_timestamp_millis(next(last)).unwrap_or_default();
    let time = time.format("%Y%m%dT%H%M%S%.3fZ");
    format!("{process}-{}-{time}-{}.lbk", std::process::id(), safe(trigger))
}

/// The text, with nothing in it that a file's name must not have, and no longer than one should be.
pub(crate) fn safe(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    text.chars().take(100).map(safe).collect()
}

fn unique() -> String {
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
        assert_eq!(safe("a/b c\u{e4}"), "a-b-c-");
        let names: std::collections::BTreeSet<_> = (0..100).map(|_| name("a", "p/q")).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.starts_with("a-") && name.ends_with("Z-p-q.lbk")));
    }
}
