//! A control group with a limit of memory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// See the module.
pub struct Group {
    path: PathBuf,
    is_own: bool,
}

impl Group {
    /// A new one, whose processes may have so many bytes; or why there is none.
    pub fn new(name: &str, bytes: u64) -> Result<Self, String> {
        let of_first = Path::new("/sys/fs/cgroup/memory");
        let is_first = of_first.join("memory.limit_in_bytes").exists();
        let above = if is_first { of_first } else { Path::new("/sys/fs/cgroup") };
        let path = above.join(format!("lookback-test-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let this = Self { path, is_own: true };
        let limit = bytes.to_string();
        if is_first {
            this.write("memory.limit_in_bytes", &limit)?;
        } else {
            this.write("memory.max", &limit)?;
            // What has no swap has no such file.
            let _ = this.write("memory.swap.max", "0");
        }
        Ok(this)
    }

    /// One that somebody else has made.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), is_own: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves this process into it.
    pub fn enter(&self) -> Result<(), String> {
        self.write("cgroup.procs", "0")
    }

    fn write(&self, name: &str, what: &str) -> Result<(), String> {
        let path = self.path.join(name);
        // Not created: what only looks like a control group has no such file.
        let file = File::options().write(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(what.as_bytes()));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has just ended may still be in it.
        for _ in 0..100 {
            if !self.is_own || fs::remove_dir(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
