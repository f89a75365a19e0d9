//! Writes output files atomically: a file appears whole or not at all.

use anyhow::{Context, bail};
use lookback::read::file::{Temporary, write_whole};
use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Where to write: a path, or `-` for standard output.
pub struct Output<'a> {
    path: &'a Path,
}

impl<'a> Output<'a> {
    /// Writes to `path` what a command makes of `input`.
    ///
    /// # Errors
    /// `path` is a terminal, a directory, or the input itself.
    pub fn new(path: &'a Path, input: &Path) -> anyhow::Result<Self> {
        let output = Self { path };
        if output.is_stdout() {
            if io::stdout().is_terminal() {
                bail!(
                    "-o -: the output is binary and standard output is a terminal; name a file, or pipe it"
                );
            }
            return Ok(output);
        }
        if path.is_dir() {
            bail!("{}: this is a directory; name a file in it", path.display());
        }
        let same = |path: &Path| path.canonicalize().ok();
        if same(path).is_some_and(|path| Some(path) == same(input)) {
            bail!("{}: this is the input file; name another file for the output", path.display());
        }
        Ok(output)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Whether it is standard output, which then must carry nothing else.
    pub fn is_stdout(&self) -> bool {
        self.path.as_os_str() == "-"
    }

    /// Writes it. An existing file is replaced once the new one is whole; anything but a regular file (a
    /// pipe, for instance) is written to directly.
    pub fn write<T>(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
    ) -> anyhow::Result<T> {
        if self.is_stdout() {
            let mut out = BufWriter::new(io::stdout().lock());
            let written = write(&mut out)?;
            out.flush()?;
            return Ok(written);
        }
        let written: io::Result<T> = write_whole(self.path, |file| {
            let mut out = BufWriter::with_capacity(256 << 10, file);
            let written = write(&mut out)?;
            out.flush()?;
            Ok(written)
        });
        written.with_context(|| format!("{}: cannot be written", self.path.display()))
    }
}

/// Writes a new file, `stem.lbk` in a directory or, if that exists, `stem-2.lbk` and so on, and returns its
/// path. The file is synced before it gets its name.
pub fn write_new(directory: &Path, stem: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let first = directory.join(format!("{stem}.lbk"));
    let written = (|| {
        let (temporary, mut file) = Temporary::beside(&first)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        for number in 1..MOST_OF_A_NAME {
            let path = match number {
                1 => first.clone(),
                _ => directory.join(format!("{stem}-{number}.lbk")),
            };
            match rename_to_new(temporary.path(), &path) {
                Ok(()) => {
                    temporary.has_become(&path)?;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(
            "1,000 files of that name exist; remove some, or name another file with -o",
        ))
    })();
    written.with_context(|| format!("{}: cannot be written", first.display()))
}

/// How many files may share a stem.
const MOST_OF_A_NAME: u32 = 1000;

/// Renames, unless the new name exists.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_of_this_number_left_is_in_nobodys_way() {
        let directory = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        for number in 0..100 {
            fs::File::create(directory.path().join(format!(".lookback-{pid}-{number}.tmp")))
                .unwrap();
        }
        let path = write_new(directory.path(), "shop", b"whole").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"whole");
    }
}
