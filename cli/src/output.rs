//! A file that a command makes: there whole, or not at all.

use anyhow::{Context, bail};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Where to write to: a path, or `-` for the standard output.
pub struct Output<'a> {
    path: &'a Path,
}

impl<'a> Output<'a> {
    /// Into this path, made out of this file.
    ///
    /// # Errors
    /// It is a terminal, a directory, or the very file that is read.
    pub fn new(path: &'a Path, input: &Path) -> anyhow::Result<Self> {
        let output = Self { path };
        if output.is_stdout() {
            if io::stdout().is_terminal() {
                bail!("-o -: this is not for a terminal; name a file, or pipe it somewhere");
            }
            return Ok(output);
        }
        if path.is_dir() {
            bail!("{}: a directory; name a file in it", path.display());
        }
        let same = |path: &Path| path.canonicalize().ok();
        if same(path).is_some_and(|path| Some(path) == same(input)) {
            bail!("{}: this is the snapshot itself", path.display());
        }
        Ok(output)
    }

    /// Whether it is the standard output, which then has no room for anything else.
    pub fn is_stdout(&self) -> bool {
        self.path.as_os_str() == "-"
    }

    /// Writes it. A file that is there is replaced when the new one is whole; what is no file (a pipe,
    /// say) is written to as it is.
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
        let written = match fs::metadata(self.path) {
            Ok(there) if !there.is_file() => {
                OpenOptions::new().write(true).open(self.path).and_then(|file| fill(file, write))
            }
            _ => self.replace(write),
        };
        written.with_context(|| format!("{}: cannot be written", self.path.display()))
    }

    fn replace<T>(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
        // Behind a link, what it leads to is replaced.
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.to_owned());
        let temporary =
            Temporary(path.with_file_name(format!(".lookback-{}.tmp", std::process::id())));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // It tells as much as the snapshot, which only its owner may read.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&temporary.0)?;
        let written = fill(file, write)?;
        fs::rename(&temporary.0, &path)?;
        std::mem::forget(temporary);
        Ok(written)
    }
}

fn fill<T>(file: File, write: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
    let mut out = BufWriter::with_capacity(256 << 10, file);
    let written = write(&mut out)?;
    out.flush()?;
    Ok(written)
}

/// A file that is taken away again, unless it was given its name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
