//! Reading the arena of another process, with no help from it: it may be busy, hang, or be stopped.
//!
//! The arena is found among the descriptors of the process, in `/proc/PID/fd`, and read as the process
//! itself would read it: what was copied is sound from wherever the tail stands afterwards. A process
//! that has closed its descriptors still has the mapping; then its memory is read, if the kernel
//! allows that.
//!
//! What another process has is not believed: every number is checked against the size of the file
//! before it is used, and no more memory is taken than the file has bytes, nor much more than there are behind it.
//! A file system may be another user's, and may never answer: what is not an arena by its name is waited for no
//! longer than a second, and nothing else that the process has open is even asked what it is.

use crate::own_thread;
use crate::control::Mode;
use crate::cut::Wanted;
use crate::error::Error;
use crate::part::Reach;
use crate::snapshot::{Passing, Snapshot};
use crate::source::Source;
use crate::stream::Stream;
use crate::window::Window;
use lookback_snapshot::wire::{
    ARENA_MAGIC, ArenaHeader, ClockKind, Loss, Metadata, Nanos, encode_event_table, key, offset,
};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// The name of the arenas that have none in the file system, as `/proc` shows it.
const ANONYMOUS: &[u8] = b"/memfd:lookback";

/// Why an arena of another process cannot be read. One line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutsideError {
    /// There is no such process.
    #[error("process {0}: there is no such process")]
    NoProcess(u32),
    /// It is there, and does not record.
    #[error(
        "process {0}: it is not being recorded: no recorder was started in it, or it was stopped"
    )]
    NotRecorded(u32),
    /// The kernel does not let us look.
    #[error(
        "process {pid}: {what} cannot be read ({error}): it belongs to another user, is not dumpable, or has \
         capabilities that this command lacks; run it as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, or \
         give the service a black box, which needs neither"
    )]
    Denied {
        /// The process.
        pid: u32,
        /// What was to be read.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// Its arena, or what passes for it, makes no sense.
    #[error("{name}: {what}")]
    Damaged {
        /// Of which process or file.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// What it was to be written to failed.
    #[error("writing the snapshot: {0}")]
    Write(io::Error),
    /// Writers were faster than the copy, every time.
    #[error("{0}: it was overwritten faster than it could be copied")]
    Overtaken(String),
    /// It could not be read.
    #[error("{name}: {error}")]
    Io {
        /// Which process or file.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
}

impl OutsideError {
    fn is_timeout(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::TimedOut)
    }
}

/// How an arena is reached.
#[derive(Debug)]
enum Way {
    /// A file: a descriptor of the process, or a black box.
    File(File),
    /// The memory of the process, where the arena is mapped in it, and how many bytes of it.
    Memory(File, u64, u64),
}

/// An arena that another process writes to, or wrote to. Linux only.
///
/// ```no_run
/// use lookback_recorder::OutsideArena;
/// let arena = OutsideArena::of_process(4711)?;
/// println!("{} bytes of data", arena.header()?.capacity);
/// arena.snapshot("it hangs", "outside")?.save("hang.lbk")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OutsideArena {
    way: Way,
    capacity: u64,
    clock: ClockKind,
    /// `process 17`, or the path of a file.
    name: String,
    path: Option<PathBuf>,
}

/// Every process whose arena this one can look at, with the arena, by number. Those that cannot be looked
/// at are left out.
///
/// ```
/// let recorder = lookback_recorder::Recorder::builder().max_bytes(1 << 20).start()?;
/// let recorded = lookback_recorder::recorded_processes();
/// assert!(recorded.iter().any(|(pid, _)| *pid == std::process::id()));
/// # drop(recorder);
/// # Ok::<(), lookback_recorder::Error>(())
/// ```
#[must_use]
pub fn recorded_processes() -> Vec<(u32, OutsideArena)> {
    let entries = fs::read_dir("/proc").map(|entries| entries.filter_map(Result::ok).collect());
    let entries: Vec<fs::DirEntry> = entries.unwrap_or_default();
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let mut pids: Vec<u32> = entries.into_iter().filter_map(number).collect();
    pids.sort_unstable();
    pids.into_iter()
        .filter_map(|pid| OutsideArena::of_process(pid).ok().map(|arena| (pid, arena)))
        .collect()
}

impl OutsideArena {
    /// The arena of a process; of one that has several recorders, the first of
    /// [`all_of_process`](Self::all_of_process).
    ///
    /// # Errors
    /// There is no such process, it is not being recorded, or the kernel does not let us look.
    pub fn of_process(pid: u32) -> Result<Self, OutsideError> {
        let mut arenas = Self::all_of_process(pid)?;
        Ok(arenas.swap_remove(0))
    }

    /// The arenas of a process: one, unless there are several recorders in it, because a shared object has
    /// one of its own. Those that are being recorded into come first, and of those the ones in memory. The
    /// order stays as it is while they are there.
    ///
    /// # Errors
    /// There is no such process, it is not being recorded, or the kernel does not let us look.
    ///
    /// ```no_run
    /// for arena in lookback_recorder::OutsideArena::all_of_process(4711)? {
    ///     println!("{} bytes of data", arena.header()?.capacity);
    /// }
    /// # Ok::<(), lookback_recorder::OutsideError>(())
    /// ```
    pub fn all_of_process(pid: u32) -> Result<Vec<Self>, OutsideError> {
        if !Path::new("/proc").join(pid.to_string()).exists() {
            return Err(OutsideError::NoProcess(pid));
        }
        let mapped = mapped_files(pid)?;
        let (mut arenas, mut seen, mut wrong) = (Vec::new(), Vec::new(), None);
        let mut answers = true;
        for candidate in mapped.iter() {
            if !candidate.anonymous && !answers {
                continue;
            }
            // One may be mapped twice.
            let which = (candidate.device, candidate.inode);
            if seen.contains(&which) {
                continue;
            }
            match candidate.open_in_time(pid) {
                Ok(Some(arena)) => {
                    if let Some(ended) = arena.of(pid) {
                        seen.push(which);
                        arenas.push((ended, arena));
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    answers &= !error.is_timeout();
                    wrong = Some(error);
                }
            }
        }
        arenas.sort_by_key(|(ended, _)| *ended);
        match arenas.is_empty() {
            true => Err(wrong.unwrap_or(OutsideError::NotRecorded(pid))),
            false => Ok(arenas.into_iter().map(|(_, arena)| arena).collect()),
        }
    }

    /// Every arena that a process has mapped, be it its own or that of a parent which forked it: the
    /// header says whose. What is damaged is left out.
    ///
    /// # Errors
    /// There is no such process, or the kernel does not let us look.
    pub fn mapped_by(pid: u32) -> Result<Vec<Self>, OutsideError> {
        let mapped = mapped_files(pid)?;
        let mut answers = true;
        let mut open = |file: &MappedFile| match (file.anonymous || answers).then(|| file.open_in_time(pid))? {
            Ok(arena) => arena,
            Err(error) => {
                answers &= !error.is_timeout();
                None
            }
        };
        Ok(mapped.iter().filter_map(&mut open).collect())
    }

    /// Whether it is read out of the memory of the process, which has closed its descriptor.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        matches!(self.way, Way::Memory(..))
    }

    /// The arena in a file: a black box.
    ///
    /// # Errors
    /// It cannot be opened, or is no arena.
    pub fn of_box(path: &Path) -> Result<Self, OutsideError> {
        let name = path.display().to_string();
        let file =
            open_regular(path).map_err(|error| OutsideError::Io { name: name.clone(), error })?;
        let found = Self::new(Way::File(file), name.clone(), Some(path.to_owned()))?;
        found.ok_or_else(|| OutsideError::Damaged { name, what: NO_ARENA.to_owned() })
    }

    /// An arena whose descriptor somebody has handed over.
    ///
    /// # Errors
    /// It is no arena.
    pub fn of_file(file: File, name: impl Into<String>) -> Result<Self, OutsideError> {
        let name = name.into();
        Self::new(Way::File(file), name.clone(), None)?
            .ok_or_else(|| OutsideError::Damaged { name, what: NO_ARENA.to_owned() })
    }

    /// `None` if it does not begin like an arena.
    fn new(way: Way, name: String, path: Option<PathBuf>) -> Result<Option<Self>, OutsideError> {
        let mut arena = Self { way, capacity: 0, clock: ClockKind::Tsc, name, path };
        let mut magic = [0; 8];
        if arena.read_exact(&mut magic, 0).is_err() || magic != ARENA_MAGIC {
            return Ok(None);
        }
        let header = arena.header()?;
        let (length, there) = arena.size().map_err(|error| arena.io(error))?;
        let whole = header.capacity.checked_add(offset::DATA as u64);
        // A recorder allocates all of it; while it does, the header says how far it is.
        if length_now(&header) > most(there) {
            let (capacity, name) = (header.capacity, arena.name);
            let what = format!("its header says {capacity} bytes, and only {there} of the file are allocated");
            return Err(OutsideError::Damaged { name, what });
        }
        if whole.is_none_or(|whole| whole > length || whole > MOST_BYTES) {
            let (capacity, name) = (header.capacity, arena.name);
            let what = format!("its header says {capacity} bytes, and the file has {length}");
            return Err(OutsideError::Damaged { name, what });
        }
        arena.capacity = header.capacity;
        arena.clock = header.clock;
        Ok(Some(arena))
    }

    /// Whether it says of itself that it is of this process. A forked child has its parent's descriptors.
    /// If it is of this process, whether its recording has ended.
    fn of(&self, pid: u32) -> Option<bool> {
        let header = self.header().ok()?;
        // In another namespace the process has another number there.
        let is_it = header.pid == pid || namespace_pid(pid) == Some(header.pid);
        is_it.then_some(header.ended)
    }

    fn io(&self, error: io::Error) -> OutsideError {
        OutsideError::Io { name: self.name.clone(), error }
    }

    /// The path of the black box that it lies in, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What its header says at this moment.
    ///
    /// # Errors
    /// It cannot be read any more, or is damaged.
    pub fn header(&self) -> Result<ArenaHeader, OutsideError> {
        let bytes = self.copy_header().map_err(|error| self.io(error))?;
        ArenaHeader::parse(&bytes).map_err(|what| OutsideError::Damaged {
            name: self.name.clone(),
            what: what.to_owned(),
        })
    }

    /// A snapshot of all that is there, taken while the process does whatever it does. It is a copy, as large
    /// as what is there; [`write_snapshot`](Self::write_snapshot) does without.
    ///
    /// # Errors
    /// It cannot be read any more, is damaged, or is being overwritten too fast.
    pub fn snapshot(&self, reason: &str, trigger: &str) -> Result<Snapshot, OutsideError> {
        let header = self.header()?;
        let window = Window::copy(self, self.mode(), Wanted::Last(Nanos(u64::MAX)))
            .map_err(|error| self.io(error))?
            .ok_or_else(|| OutsideError::Overtaken(self.name.clone()))?;
        let metadata = self.describe(&header, window.reach(), reason, trigger)?;
        Ok(Snapshot::new(Arc::new(window), metadata))
    }

    /// Writes such a snapshot straight to `out`, and says how many bytes that took. No more than a fourth of
    /// the arena is in memory at a time, and 4 MiB. What the process overwrites while this waits for `out`
    /// is not in it; the newest is.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot), and those of `out`.
    pub fn write_snapshot<W: io::Write>(
        &self,
        reason: &str,
        trigger: &str,
        out: W,
    ) -> Result<u64, OutsideError> {
        let header = self.header()?;
        let stream = Stream::begin(self, self.mode(), Wanted::Last(Nanos(u64::MAX)))
            .map_err(|error| self.io(error))?
            .ok_or_else(|| OutsideError::Overtaken(self.name.clone()))?;
        let metadata = self.describe(&header, stream.reach(), reason, trigger)?;
        let unreadable = |error| Error::Read { path: None, error };
        let written = Passing { stream, metadata }.write_to(out, unreadable);
        match written {
            Ok((bytes, _)) => Ok(bytes),
            Err(Error::Read { error, .. }) => Err(self.io(error)),
            Err(Error::Write(error)) => Err(OutsideError::Write(error)),
            Err(other) => Err(OutsideError::Write(io::Error::other(other.to_string()))),
        }
    }

    fn mode(&self) -> Mode {
        Mode::new(self.clock, false)
    }

    /// What is said of a snapshot; `header` is from before it was taken.
    fn describe(
        &self,
        header: &ArenaHeader,
        reach: Option<Reach>,
        reason: &str,
        trigger: &str,
    ) -> Result<Metadata, OutsideError> {
        let mut metadata = Metadata::decode(&header.metadata).unwrap_or_default();
        if let Some(reach) = &reach {
            reach.note(&mut metadata);
            metadata.add(key::CLOCK_FREQUENCY, reach.last.ended.frequency);
        }
        metadata.add(key::REASON, crate::redact::scrubbed_string(reason.to_owned()).as_str());
        metadata.add(key::TRIGGER, trigger);
        metadata.add(key::TAKEN, crate::process::local_time());
        metadata.add(key::WINDOW, header.window.0);
        metadata.add(key::MAX_BYTES, self.capacity + offset::DATA as u64);
        metadata.add(key::CLOCK, self.clock.name());
        if let Some(reach) = &reach {
            reach.note_shortness(&mut metadata);
        }
        let mut after = self.header()?;
        if told(&after) != told(header) {
            // What nobody had told of before has been told by now, in the copy or behind it.
            after.lost_untold.clear();
        }
        after.add_losses_to(&mut metadata);
        metadata.add(key::EVENT_TABLE, encode_event_table());
        Ok(metadata)
    }

    /// All of its bytes, header included, as they are at this moment: for an arena that nobody writes to.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub fn bytes(&self) -> Result<Vec<u8>, OutsideError> {
        let mut bytes = Vec::new();
        let length = length_now(&self.header()?).min(self.capacity + offset::DATA as u64);
        self.check_room(length).map_err(|error| self.io(error))?;
        let length = length as usize;
        bytes
            .try_reserve_exact(length)
            .map_err(|_| self.io(io::ErrorKind::OutOfMemory.into()))?;
        bytes.resize(length, 0);
        self.read(0, &mut bytes).map_err(|error| self.io(error))?;
        Ok(bytes)
    }

    /// How long it is, and how many bytes of that are allocated.
    fn size(&self) -> io::Result<(u64, u64)> {
        match &self.way {
            Way::File(file) => {
                let metadata = file.metadata()?;
                Ok((metadata.len(), metadata.st_blocks().saturating_mul(512)))
            }
            Way::Memory(_, _, length) => Ok((*length, *length)),
        }
    }

    fn read_exact(&self, into: &mut [u8], from: u64) -> io::Result<()> {
        match &self.way {
            Way::File(file) => file.read_exact_at(into, from),
            Way::Memory(file, base, _) => file.read_exact_at(into, base.wrapping_add(from)),
        }
    }
}

/// How much end records have told of losses.
fn told(header: &ArenaHeader) -> u64 {
    let sum = |losses: &[(Loss, u64)]| losses.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    sum(&header.lost).saturating_sub(sum(&header.lost_untold))
}

const NO_ARENA: &str = "at byte 0: not an arena of lookback: its first bytes are others";

/// An arena is no larger: what says so is none.
const MOST_BYTES: u64 = crate::settings::MOST_BYTES as u64 + offset::DATA as u64;
/// A file has no more bytes than this for one that is allocated; of small ones it is not asked.
const MOST_COMPRESSED: u64 = 8;
const SMALL: u64 = 64 << 20;

/// How much of an arena there is by now, its header included, as that says.
fn length_now(header: &ArenaHeader) -> u64 {
    header.growing.unwrap_or(u64::MAX).min(header.capacity).saturating_add(offset::DATA as u64)
}

/// How many bytes of a file can be believed, so many of which are allocated. A file system may compress it; but it
/// makes no gigabytes out of nothing.
fn most(allocated: u64) -> u64 {
    allocated.saturating_mul(MOST_COMPRESSED).max(SMALL)
}

impl Source for OutsideArena {
    fn check_room(&self, length: u64) -> io::Result<()> {
        let (_, there) = self.size()?;
        if length <= most(there) {
            return Ok(());
        }
        Err(io::Error::other(format!("of {length} bytes only {there} are allocated")))
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn read(&self, from: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact(into, from)
    }

    fn tail_after_copy(&self) -> io::Result<u64> {
        // The copies were made by the kernel, on this processor: they stay before this.
        fence(Ordering::SeqCst);
        let mut word = [0; 8];
        self.read_exact(&mut word, offset::TAIL as u64)?;
        Ok(u64::from_le_bytes(word))
    }
}

/// A file that a process has mapped shared and writable from its begin on, as arenas are.
#[derive(Clone, Debug)]
struct MappedFile {
    base: u64,
    length: u64,
    device: u64,
    inode: u64,
    path: PathBuf,
    anonymous: bool,
}

fn mapped_files(pid: u32) -> Result<Vec<MappedFile>, OutsideError> {
    let maps = fs::read(format!("/proc/{pid}/maps")).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OutsideError::NoProcess(pid),
        _ if error.raw_os_error() == Some(libc::ESRCH) => OutsideError::NoProcess(pid),
        _ => OutsideError::Denied { pid, what: "the list of its mappings", error },
    })?;
    let mut files: Vec<_> =
        maps.split(|byte| *byte == b'\n').filter_map(MappedFile::parse).collect();
    // The anonymous ones first: most arenas are.
    files.sort_by_key(|file| !file.anonymous);
    Ok(files)
}

impl MappedFile {
    /// A line of `/proc/PID/maps`: `from-to rw-s offset major:minor inode path`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut rest = line;
        let mut field = || {
            let trimmed = rest.trim_ascii_start();
            let end = trimmed.iter().position(|byte| *byte == b' ').unwrap_or(trimmed.len());
            let (field, behind) = trimmed.split_at(end);
            rest = behind;
            std::str::from_utf8(field).ok()
        };
        let (range, rights, offset) = (field()?, field()?, field()?);
        let (device, inode) = (field()?, field()?);
        let path = rest.trim_ascii_start();
        if rights != "rw-s" || u64::from_str_radix(offset, 16) != Ok(0) || path.is_empty() {
            return None;
        }
        let (base, end) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        let (base, end) = (address(base)?, address(end)?);
        let (major, minor) = device.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        Some(Self {
            base,
            length: end.checked_sub(base)?,
            device: libc::makedev(number(major)?, number(minor)?),
            inode: inode.parse().ok()?,
            path: PathBuf::from(std::ffi::OsStr::from_bytes(path)),
            anonymous: path.starts_with(ANONYMOUS),
        })
    }

    /// The arena in it, if it is one. What has a name in a file system is waited for so long and no longer.
    fn open_in_time(&self, pid: u32) -> Result<Option<OutsideArena>, OutsideError> {
        if self.anonymous {
            return self.open(pid);
        }
        let file = self.clone();
        within(PATIENCE, move || file.open(pid)).unwrap_or_else(|| {
            let name = format!("process {pid}: {}", self.path.display());
            let error = io::Error::new(io::ErrorKind::TimedOut, "its file system does not answer");
            Err(OutsideError::Io { name, error })
        })
    }

    /// The arena in it, if it is one.
    fn open(&self, pid: u32) -> Result<Option<OutsideArena>, OutsideError> {
        let path = (!self.anonymous).then(|| self.path.clone());
        let file = match self.find(pid) {
            Ok(Some(file)) => file,
            // Whatever else a process has mapped is none of our business.
            Ok(None) if !self.anonymous => return Ok(None),
            Err(_) if !self.anonymous => return Ok(None),
            Ok(None) => return self.open_memory(pid, None),
            Err(error) => return self.open_memory(pid, Some(error)),
        };
        OutsideArena::new(Way::File(file), format!("process {pid}"), path)
    }

    /// The descriptor of the process that leads to it.
    fn find(&self, pid: u32) -> io::Result<Option<File>> {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let path = entry?.path();
            // Where it leads to says the kernel by itself; what it is, a file system that may never answer.
            let Ok(to) = fs::read_link(&path) else { continue };
            let is_it = match self.anonymous {
                true => to.as_os_str().as_bytes().starts_with(ANONYMOUS),
                false => to == self.path,
            };
            if !is_it {
                continue;
            }
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_file()
                && (metadata.st_dev(), metadata.st_ino()) == (self.device, self.inode)
            {
                return open_regular_through(&path).map(Some);
            }
        }
        if self.anonymous {
            return Ok(None);
        }
        // The path as the process sees it, in its own root.
        let inside = self.path.strip_prefix("/").unwrap_or(&self.path);
        let path = PathBuf::from(format!("/proc/{pid}/root")).join(inside);
        let file = open_regular(&path)?;
        let metadata = file.metadata()?;
        let same = (metadata.st_dev(), metadata.st_ino()) == (self.device, self.inode);
        Ok(same.then_some(file))
    }

    /// Without a descriptor there is still the mapping, for who may look into the process's memory.
    fn open_memory(
        &self,
        pid: u32,
        refused: Option<io::Error>,
    ) -> Result<Option<OutsideArena>, OutsideError> {
        let denied = |error| OutsideError::Denied { pid, what: "its memory", error };
        let memory = File::open(format!("/proc/{pid}/mem"))
            .map_err(|error| denied(refused.unwrap_or(error)))?;
        OutsideArena::new(Way::Memory(memory, self.base, self.length), format!("process {pid}"), None)
    }
}

/// How long a file system is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Does what a file system that belongs to somebody else may hold up for ever; nothing if it takes longer than that.
/// The thread that waits for it is left behind then.
fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, is_done) = mpsc::channel();
    own_thread::spawn("lookback-look", move || done.send(work())).ok()?;
    is_done.recv_timeout(patience).ok()
}

/// Opens a regular file for reading, without following a link and without waiting for anybody. What
/// is none (a device may do something when it is opened) is not opened at all.
fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let found = options.open(path)?;
    let kind = found.metadata()?.file_type();
    if kind.is_symlink() {
        let reason = "a symbolic link, which is not followed";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    if !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    open_regular_through(&PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd())))
}

/// As [`open_regular`], through one of the links in `/proc`.
fn open_regular_through(link: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    options.open(link)
}

/// The number of a process in its innermost namespace.
fn namespace_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a"), directory.path().join("link"));
        fs::write(&file, "a").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(open_regular(&file).is_ok());
        let refused = |path: &Path| open_regular(path).unwrap_err().to_string();
        assert!(refused(&link).contains("a symbolic link"));
        assert!(refused(directory.path()).contains("not a regular file"));
        assert!(refused(Path::new("/dev/null")).contains("not a regular file"));
        assert!(refused(&directory.path().join("none")).contains("No such file"));
    }

    #[test]
    fn nobody_is_waited_for_longer_than_that() {
        assert_eq!(within(Duration::from_secs(600), || 7), Some(7));
        let (_held, waits) = mpsc::channel::<()>();
        assert!(within(Duration::from_millis(10), move || waits.recv()).is_none());
    }

    /// A file of 16 GiB with nothing behind it, as anybody can make one, is not read into memory.
    #[test]
    fn what_is_not_allocated_is_not_believed() {
        let file = tempfile::tempfile().unwrap();
        let capacity = 16_u64 << 30;
        let mut header = vec![0; offset::DATA];
        header[..8].copy_from_slice(&ARENA_MAGIC);
        let mut put = |at: usize, value: u64| header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(offset::VERSION, 1 | (offset::DATA as u64) << 32);
        put(offset::CAPACITY, capacity);
        put(offset::HEAD, capacity);
        file.write_all_at(&header, 0).unwrap();
        file.set_len(capacity + offset::DATA as u64).unwrap();
        let error = OutsideArena::of_file(file, "sparse").unwrap_err().to_string();
        assert!(error.starts_with("sparse: its header says 17179869184 bytes, and only "), "{error}");
    }

    /// A file system whose server never answers: nothing that the process has open there is asked what it is.
    #[test]
    fn a_descriptor_of_a_file_system_that_does_not_answer_holds_nobody_up() {
        use std::os::fd::{FromRawFd, OwnedFd};
        let Ok(server) = File::options().read(true).write(true).open("/dev/fuse") else {
            println!("skipped: there is no /dev/fuse");
            return;
        };
        let place = tempfile::tempdir().unwrap();
        let path = std::ffi::CString::new(place.path().as_os_str().as_bytes()).unwrap();
        let number = server.as_raw_fd();
        // Mounted where this thread alone sees it; its root is known without a word from the server.
        let root = std::thread::spawn(move || {
            let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0\0");
            // SAFETY: valid strings; a namespace of this thread's own.
            unsafe {
                if libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) != 0
                    || libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) != 0
                    || libc::mount(c"lookback".as_ptr(), path.as_ptr(), c"fuse".as_ptr(), 0, options.as_ptr().cast()) != 0
                {
                    return None;
                }
                let root = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                (root >= 0).then(|| OwnedFd::from_raw_fd(root))
            }
        });
        let Some(root) = root.join().unwrap() else {
            println!("skipped: nothing can be mounted here");
            return;
        };
        let mapped = MappedFile {
            base: 0,
            length: 0,
            device: 1,
            inode: 1,
            path: "/memfd:lookback (deleted)".into(),
            anonymous: true,
        };
        let found = within(Duration::from_secs(20), move || mapped.find(std::process::id()).is_ok());
        // Without its server whoever waits goes on.
        drop(server);
        assert_eq!(found, Some(true));
        drop(root);
    }

    #[test]
    fn a_line_of_mappings_is_read() {
        let line =
            b"7f0000000000-7f0002000000 rw-s 00000000 00:01 1027   /memfd:lookback (deleted)";
        let file = MappedFile::parse(line).unwrap();
        assert_eq!((file.base, file.inode, file.anonymous), (0x7f00_0000_0000, 1027, true));
        let spaces = b"1000-2000 rw-s 00000000 08:01 5 /dev/shm/a name with spaces";
        let file = MappedFile::parse(spaces).unwrap();
        assert_eq!(file.path, Path::new("/dev/shm/a name with spaces"));
        assert!(!file.anonymous);
        for other in [
            &b""[..],
            b"1000-2000 r--s 00000000 08:01 5 /a",
            b"1000-2000 rw-s 00001000 08:01 5 /a",
            b"1000-2000 rw-p 00000000 00:00 0",
            b"x-y rw-s 00000000 08:01 5 /a",
        ] {
            assert!(MappedFile::parse(other).is_none());
        }
    }
}
