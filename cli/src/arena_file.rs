//! Reads an arena from a file that may be anything: a black box, a truncated one, or something else.
//!
//! The file is read and never mapped, so a process that truncates it meanwhile does no harm. Anything but a
//! regular file is not opened at all.

use crate::format::shell_word;
use crate::process;
use anyhow::{Context, anyhow, bail};
use indicatif::ProgressBar;
use lookback::read::wire::{ARENA_MAGIC, ArenaHeader, offset};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The largest arena, header included.
const MOST_BYTES: u64 = (16 << 30) + offset::DATA as u64;
/// How many bytes are read at once.
const PIECE: u64 = 4 << 20;
/// How to find a black box.
const WHERE: &str =
    "name the file that the service passes to `.black_box(path)` or LOOKBACK_BLACK_BOX";
/// The first bytes of a snapshot.
const SNAPSHOT_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// An open file that starts like an arena.
pub struct ArenaFile {
    /// Its name in messages.
    pub name: String,
    file: File,
}

/// The process that writes to an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It is alive, and has this ID.
    Alive(u32),
    /// It has ended.
    Gone,
}

/// Whether `path` is a regular file that starts like an arena.
pub fn is_arena(path: &Path) -> bool {
    ArenaFile::open(path).is_ok()
}

impl ArenaFile {
    /// Opens it. The error says what the file is instead, and what to do.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = open_regular(path, &name)?;
        Self::of(file, name)
    }

    /// Takes a file that is open already.
    pub fn of(file: File, name: String) -> anyhow::Result<Self> {
        let metadata = file.metadata().with_context(|| format!("{name}: cannot be read"))?;
        if !metadata.is_file() {
            bail!("{name}: not a regular file, so not a black box; {WHERE}");
        }
        let mut front = [0; 8];
        let front = match file.read_at(&mut front, 0) {
            Ok(read) => &front[..read],
            Err(error) => return Err(anyhow!("{name}: cannot be read: {error}")),
        };
        if front.is_empty() {
            bail!(
                "{name}: the file is empty: nothing was recorded in it, so there is nothing to recover"
            );
        }
        if front.starts_with(&SNAPSHOT_MAGIC) {
            let file = shell_word(Path::new(&name));
            bail!("{name}: this is a snapshot already; `lookback info {file}` shows what is in it");
        }
        if front.iter().all(|byte| *byte == 0) {
            bail!(
                "{name}: not a black box: it starts with zeroes, as a file does after a machine crash; \
                 nothing can be recovered"
            );
        }
        if front != ARENA_MAGIC {
            bail!("{name}: not a black box: it starts with other bytes; {WHERE}");
        }
        Ok(Self { name, file })
    }

    /// Another descriptor of it.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Its header, if that is valid.
    pub fn header(&self) -> Option<ArenaHeader> {
        let mut front = vec![0; offset::DATA];
        self.file.read_exact_at(&mut front, 0).ok()?;
        ArenaHeader::parse(&front).ok()
    }

    /// The process that writes to it, as far as this process can tell.
    pub fn owner(&self, header: &ArenaHeader) -> Owner {
        if header.ended || header.boot_id != process::boot_id() {
            return Owner::Gone;
        }
        let alive = if header.pid_namespace == process::pid_namespace() {
            process::is_alive(header.pid, header.process_start)
        } else {
            // A process ID of another namespace means nothing here; but a live owner holds a lock.
            flock(&self.file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
        };
        if alive { Owner::Alive(header.pid) } else { Owner::Gone }
    }

    /// The whole arena, or as much as the file has.
    pub fn read(&self) -> anyhow::Result<Vec<u8>> {
        let at = |error: io::Error| anyhow!("{}: cannot be read: {error}", self.name);
        let mut length = self.file.metadata().map_err(at)?.len();
        if let Some(whole) = self.header().and_then(|h| h.capacity.checked_add(offset::DATA as u64))
        {
            // Anything behind that is not part of the arena.
            length = length.min(whole);
        }
        if length > MOST_BYTES {
            bail!("{}: its {length} bytes are more than any black box has; {WHERE}", self.name);
        }
        let progress = bar("reading", &self.name);
        progress.set_length(length);
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            let begin = bytes.len();
            bytes.resize(begin + PIECE.min(length - begin as u64) as usize, 0);
            // By position: the process that handed the descriptor over shares the file's offset.
            let read = self.file.read_at(&mut bytes[begin..], begin as u64);
            bytes.truncate(begin + read.as_ref().copied().unwrap_or_default());
            // The file may be shorter by now.
            if read.map_err(at)? == 0 {
                break;
            }
            progress.set_position(bytes.len() as u64);
        }
        progress.finish_and_clear();
        Ok(bytes)
    }

    /// The file system that holds it.
    pub fn file_system(&self) -> Option<rustix::fs::StatFs> {
        rustix::fs::fstatfs(&self.file).ok()
    }
}

/// A progress bar in bytes: shown on a terminal only, and removed at the end.
pub fn bar(what: &str, of: &str) -> ProgressBar {
    let template = format!("{what} {{msg}}  {{wide_bar}} {{bytes}}/{{total_bytes}}");
    let style = indicatif::ProgressStyle::with_template(&template);
    ProgressBar::new(0)
        .with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
        .with_message(crate::format::escape(of).to_string())
}

/// Opens a regular file for reading; refuses anything else.
fn open_regular(path: &Path, name: &str) -> anyhow::Result<File> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!("{name}: no such file; {WHERE}"),
        io::ErrorKind::PermissionDenied => anyhow!(
            "{name}: permission denied; read it as the user that its service ran as, or as root"
        ),
        _ => anyhow!("{name}: cannot be read: {error}"),
    };
    let there = fs::symlink_metadata(path).map_err(explain)?.file_type();
    if there.is_symlink() {
        let target = fs::read_link(path).unwrap_or_default();
        bail!(
            "{name}: this is a symbolic link, which is not followed; name its target, {}",
            target.display()
        );
    }
    if there.is_dir() {
        bail!("{name}: this is a directory; name the black box in it");
    }
    if there.is_fifo() {
        bail!("{name}: a FIFO, not a regular file, so not a black box; {WHERE}");
    }
    if !there.is_file() {
        bail!("{name}: not a regular file, so not a black box; {WHERE}");
    }
    // The path may be something else by now: do not follow a link, and do not block.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    options.open(path).map_err(explain)
}
