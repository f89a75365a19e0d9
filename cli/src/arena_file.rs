//! An arena in a file that may be anything: a black box, one that was cut, or something else.
//!
//! It is never mapped, only read: who truncates it meanwhile harms nobody. What is no regular file is
//! not opened at all.

use crate::process;
use crate::text::shell_word;
use anyhow::{Context, anyhow, bail};
use indicatif::ProgressBar;
use lookback::read::wire::{ARENA_MAGIC, ArenaHeader, offset};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The most that a recorder takes, with its header.
const MOST_BYTES: u64 = (16 << 30) + offset::DATA as u64;
/// So many bytes are read at once.
const PIECE: u64 = 4 << 20;
/// How a snapshot begins.
const SNAPSHOT_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// A file that begins like an arena.
pub struct ArenaFile {
    /// What it is called in messages.
    pub name: String,
    file: File,
}

/// Who writes to an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This process, which is alive.
    Alive(u32),
    /// Nobody any more.
    Gone,
}

/// Whether there is a regular file that begins like an arena.
pub fn is_arena(path: &Path) -> bool {
    ArenaFile::open(path).is_ok()
}

impl ArenaFile {
    /// Opens it. The error says what it is instead, and what to do.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = open_regular(path, &name)?;
        Self::of(file, name)
    }

    /// One that is open already.
    pub fn of(file: File, name: String) -> anyhow::Result<Self> {
        let metadata = file.metadata().with_context(|| format!("{name}: cannot be read"))?;
        if !metadata.is_file() {
            bail!("{name}: not a regular file, so no black box");
        }
        let mut front = [0; 8];
        let front = match file.read_at(&mut front, 0) {
            Ok(read) => &front[..read],
            Err(error) => return Err(anyhow!("{name}: cannot be read: {error}")),
        };
        if front.is_empty() {
            bail!("{name}: the file is empty: nothing was ever recorded in it");
        }
        if front.starts_with(&SNAPSHOT_MAGIC) {
            let file = shell_word(Path::new(&name));
            bail!("{name}: this is a snapshot already; try `lookback info {file}`");
        }
        if front.iter().all(|byte| *byte == 0) {
            bail!(
                "{name}: not a black box: it begins with zeroes, as after a crash of the machine; \
                 nothing can be recovered"
            );
        }
        if front != ARENA_MAGIC {
            bail!("{name}: not a black box: its first bytes are others");
        }
        Ok(Self { name, file })
    }

    /// What its header says, if it makes sense.
    pub fn header(&self) -> Option<ArenaHeader> {
        let mut front = vec![0; offset::DATA];
        self.file.read_exact_at(&mut front, 0).ok()?;
        ArenaHeader::parse(&front).ok()
    }

    /// Who writes to it, as far as that can be told from here.
    pub fn owner(&self, header: &ArenaHeader) -> Owner {
        if header.ended || header.boot_id != process::boot_id() {
            return Owner::Gone;
        }
        let alive = if header.pid_namespace == process::pid_namespace() {
            process::is_alive(header.pid, header.process_start)
        } else {
            // In another namespace its number means nothing to us; but it holds a lock.
            flock(&self.file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
        };
        if alive { Owner::Alive(header.pid) } else { Owner::Gone }
    }

    /// All of it, as far as it goes.
    pub fn read(&self) -> anyhow::Result<Vec<u8>> {
        let at = |error: io::Error| anyhow!("{}: cannot be read: {error}", self.name);
        let mut length = self.file.metadata().map_err(at)?.len();
        if let Some(whole) = self.header().and_then(|h| h.capacity.checked_add(offset::DATA as u64))
        {
            // What lies behind it is none of its.
            length = length.min(whole);
        }
        if length > MOST_BYTES {
            bail!("{}: {length} bytes are more than any black box has", self.name);
        }
        let progress = bar("reading", &self.name);
        progress.set_length(length);
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            let begin = bytes.len();
            bytes.resize(begin + PIECE.min(length - begin as u64) as usize, 0);
            // Not by the file's own offset: who handed a descriptor over shares that.
            let read = self.file.read_at(&mut bytes[begin..], begin as u64);
            bytes.truncate(begin + read.as_ref().copied().unwrap_or_default());
            // It may be shorter by now; then that is all there is.
            if read.map_err(at)? == 0 {
                break;
            }
            progress.set_position(bytes.len() as u64);
        }
        progress.finish_and_clear();
        Ok(bytes)
    }

    /// The file system that it lies in.
    pub fn file_system(&self) -> Option<rustix::fs::StatFs> {
        rustix::fs::fstatfs(&self.file).ok()
    }
}

/// Progress in bytes: on a terminal alone, and gone when it is done.
pub fn bar(what: &str, of: &str) -> ProgressBar {
    let template = format!("{what} {{msg}}  {{wide_bar}} {{bytes}}/{{total_bytes}}");
    let style = indicatif::ProgressStyle::with_template(&template);
    ProgressBar::new(0)
        .with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
        .with_message(crate::text::escape(of).to_string())
}

/// Opens a regular file for reading, and nothing else.
fn open_regular(path: &Path, name: &str) -> anyhow::Result<File> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!(
            "{name}: there is no such file; a black box lies where the service's `.black_box(path)` put it"
        ),
        io::ErrorKind::PermissionDenied => anyhow!(
            "{name}: permission denied; a black box can be read by the user that its service ran as"
        ),
        _ => anyhow!("{name}: cannot be read: {error}"),
    };
    let there = fs::symlink_metadata(path).map_err(explain)?.file_type();
    if there.is_symlink() {
        let target = fs::read_link(path).unwrap_or_default();
        bail!("{name}: a symbolic link, which is not followed; it leads to {}", target.display());
    }
    if there.is_dir() {
        bail!("{name}: a directory; name the black box in it");
    }
    if there.is_fifo() {
        bail!("{name}: a FIFO, not a regular file, so no black box");
    }
    if !there.is_file() {
        bail!("{name}: not a regular file, so no black box");
    }
    // It may be something else by now: no link is followed, and nobody is waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    options.open(path).map_err(explain)
}
