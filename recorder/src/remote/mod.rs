//! Reads the arena of another process without its help: the process may be busy, hang, or be stopped.
//!
//! The arena is found among the process's descriptors, in `/proc/PID/fd`, and read as the process itself
//! would read it: a copy is sound from the position of the tail afterwards. A process that has closed its
//! descriptors still has the mapping; then its memory is read, if the kernel allows that.
//!
//! Another process's data is not trusted: every number is checked against the size of the file before it is
//! used, and no more memory is allocated than the file has bytes, or than its allocated bytes make likely. A
//! file system may belong to another user, and may never answer. So this module waits at most a second for
//! anything that is not an arena by its name, and does not even examine what else the process has open.

mod error;
mod follower;
mod mapped_file;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) mod stacks;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "no_stacks.rs"]
pub(crate) mod stacks;

pub use error::OutsideError;
pub use follower::Follower;

use crate::arena::arena_read::Source;
use crate::error::Error;
use crate::os::mode::Mode;
use crate::os::process;
use crate::snapshot::cut::Wanted;
use crate::snapshot::part::Reach;
use crate::snapshot::stream::Stream;
use crate::snapshot::window::Window;
use crate::snapshot::{Passing, Snapshot};
use lookback_snapshot::wire::{
    ARENA_MAGIC, ArenaHeader, ClockKind, Loss, Metadata, Nanos, ProcessStacks, encode_event_table,
    key, offset,
};
use mapped_file::{MappedFile, mapped_files, open_regular};
use std::fs::File;
use std::io;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// How to read an arena.
#[derive(Debug)]
enum Way {
    /// From a file: through a descriptor of the process, or a black box.
    File(File),
    /// From the process's memory: the address of the arena in it, and its length.
    Memory(File, u64, u64),
}

/// An arena that another process writes to, or has written to. Linux only.
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

/// Every process whose arena this one can read, by ID, with the arena. Other processes are left out.
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
    process::all()
        .into_iter()
        .filter_map(|pid| OutsideArena::of_process(pid).ok().map(|arena| (pid, arena)))
        .collect()
}

impl OutsideArena {
    /// The arena of a process; if it has several recorders, the first of
    /// [`all_of_process`](Self::all_of_process).
    ///
    /// # Errors
    /// The process does not exist or is not being recorded, or the kernel does not allow it.
    pub fn of_process(pid: u32) -> Result<Self, OutsideError> {
        let mut arenas = Self::all_of_process(pid)?;
        Ok(arenas.swap_remove(0))
    }

    /// The arenas of a process: one, unless the process has several recorders because a shared object has its
    /// own. Those in use come first, and of these the ones in memory. The order does not change while they
    /// exist.
    ///
    /// # Errors
    /// The process does not exist or is not being recorded, or the kernel does not allow it.
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
            // An arena may be mapped twice.
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

    /// Every arena that a process has mapped, whether its own or that of a parent that forked it: the header
    /// says whose it is. Damaged ones are left out.
    ///
    /// # Errors
    /// The process does not exist, or the kernel does not allow it.
    pub fn mapped_by(pid: u32) -> Result<Vec<Self>, OutsideError> {
        let mapped = mapped_files(pid)?;
        let mut answers = true;
        let mut open = |file: &MappedFile| match (file.anonymous || answers)
            .then(|| file.open_in_time(pid))?
        {
            Ok(arena) => arena,
            Err(error) => {
                answers &= !error.is_timeout();
                None
            }
        };
        Ok(mapped.iter().filter_map(&mut open).collect())
    }

    /// Whether it is read from the memory of the process, which has closed its descriptor.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        matches!(self.way, Way::Memory(..))
    }

    /// The arena in a file: a black box.
    ///
    /// # Errors
    /// It cannot be opened, or is not an arena.
    pub fn of_box(path: &Path) -> Result<Self, OutsideError> {
        let name = path.display().to_string();
        let file =
            open_regular(path).map_err(|error| OutsideError::Io { name: name.clone(), error })?;
        let found = Self::new(Way::File(file), name.clone(), Some(path.to_owned()))?;
        found.ok_or_else(|| OutsideError::Damaged { name, what: NO_ARENA.to_owned() })
    }

    /// An arena whose descriptor was handed over.
    ///
    /// # Errors
    /// It is not an arena.
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
        // A recorder allocates all of it; while it does, the header says how much there is.
        if length_now(&header) > most(there) {
            let (capacity, name) = (header.capacity, arena.name);
            let what = format!(
                "its header says {capacity} bytes, and only {there} of the file are allocated"
            );
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

    /// If the header says that the arena belongs to this process, whether its recording has ended; otherwise
    /// `None`, because a forked child has its parent's descriptors.
    fn of(&self, pid: u32) -> Option<bool> {
        let header = self.header().ok()?;
        // In another namespace the process has another ID.
        let is_it = header.pid == pid || namespace_pid(pid) == Some(header.pid);
        is_it.then_some(header.ended)
    }

    fn io(&self, error: io::Error) -> OutsideError {
        OutsideError::Io { name: self.name.clone(), error }
    }

    /// The path of the black box, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The present content of its header.
    ///
    /// # Errors
    /// It can no longer be read, or is damaged.
    pub fn header(&self) -> Result<ArenaHeader, OutsideError> {
        let bytes = self.copy_header().map_err(|error| self.io(error))?;
        ArenaHeader::parse(&bytes).map_err(|what| OutsideError::Damaged {
            name: self.name.clone(),
            what: what.to_owned(),
        })
    }

    /// Takes a snapshot of everything in it, whatever the process is doing. This is a copy, as large as the
    /// content; [`write_snapshot`](Self::write_snapshot) makes none.
    ///
    /// # Errors
    /// It can no longer be read, is damaged, or is being overwritten too fast.
    pub fn snapshot(&self, reason: &str, trigger: &str) -> Result<Snapshot, OutsideError> {
        let header = self.header()?;
        let window = Window::copy(self, self.mode(), Wanted::Last(Nanos(u64::MAX)))
            .map_err(|error| self.io(error))?
            .ok_or_else(|| OutsideError::Overtaken(self.name.clone()))?;
        let metadata = self.describe(&header, window.reach(), reason, trigger)?;
        Ok(Snapshot::new(Arc::new(window), metadata))
    }

    /// Writes such a snapshot directly to `out`, and returns its length in bytes. At most a quarter of the
    /// arena and 4 MiB are in memory at a time. What the process overwrites while this waits for `out` is
    /// missing; the newest part is there.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot), and those of `out`.
    pub fn write_snapshot<W: io::Write>(
        &self,
        reason: &str,
        trigger: &str,
        out: W,
    ) -> Result<u64, OutsideError> {
        self.write_snapshot_with(None, reason, trigger, out)
    }

    /// As [`write_snapshot`](Self::write_snapshot), with the stacks that were taken before. Not part of the public API.
    ///
    /// # Errors
    /// As there.
    #[doc(hidden)]
    pub fn write_snapshot_with<W: io::Write>(
        &self,
        stacks: Option<&ProcessStacks>,
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
        let written = Passing { stream, metadata, stacks }.write_to(out, unreadable);
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

    /// The metadata of a snapshot; `header` was read before the snapshot was taken.
    fn describe(
        &self,
        header: &ArenaHeader,
        reach: Option<Reach>,
        reason: &str,
        trigger: &str,
    ) -> Result<Metadata, OutsideError> {
        let mut metadata = self.about(header, reason, trigger);
        if let Some(reach) = &reach {
            reach.note(&mut metadata);
            metadata.add(key::CLOCK_FREQUENCY, reach.last.ended.frequency);
            reach.note_shortness(&mut metadata);
        }
        let mut after = self.header()?;
        if told(&after) != told(header) {
            // Losses that no end record had reported before have been reported since, inside the copy or
            // after it.
            after.lost_untold.clear();
        }
        after.add_losses_to(&mut metadata);
        Ok(metadata)
    }

    /// The metadata of any file that is made of it.
    fn about(&self, header: &ArenaHeader, reason: &str, trigger: &str) -> Metadata {
        let mut metadata = Metadata::decode(&header.metadata).unwrap_or_default();
        metadata.add(key::REASON, crate::redact::scrubbed_string(reason.to_owned()).as_str());
        metadata.add(key::TRIGGER, trigger);
        metadata.add(key::TAKEN, crate::os::process::local_time());
        metadata.add(key::WINDOW, header.window.0);
        metadata.add(key::MAX_BYTES, self.capacity + offset::DATA as u64);
        metadata.add(key::CLOCK, self.clock.name());
        metadata.add(key::EVENT_TABLE, encode_event_table());
        metadata
    }

    /// Reads each of its generations once, as soon as it is complete, beginning with those that exist
    /// already.
    #[must_use]
    pub fn follow(self) -> Follower {
        Follower::new(self)
    }

    /// All of its present bytes, header included: for an arena that no process writes to.
    ///
    /// # Errors
    /// It can no longer be read.
    pub fn bytes(&self) -> Result<Vec<u8>, OutsideError> {
        let mut bytes = Vec::new();
        let length = length_now(&self.header()?).min(self.capacity + offset::DATA as u64);
        self.check_room(length).map_err(|error| self.io(error))?;
        let length = length as usize;
        bytes.try_reserve_exact(length).map_err(|_| self.io(io::ErrorKind::OutOfMemory.into()))?;
        bytes.resize(length, 0);
        self.read(0, &mut bytes).map_err(|error| self.io(error))?;
        Ok(bytes)
    }

    /// Its length, and how many of its bytes are allocated.
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

/// The losses that end records have reported.
fn told(header: &ArenaHeader) -> u64 {
    let sum = |losses: &[(Loss, u64)]| {
        losses.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count))
    };
    sum(&header.lost).saturating_sub(sum(&header.lost_untold))
}

const NO_ARENA: &str = "at byte 0: not an arena of lookback: it starts with other bytes";

/// The largest arena: anything larger is not one.
const MOST_BYTES: u64 = crate::arena::MOST_BYTES as u64 + offset::DATA as u64;
/// A file may have this many bytes for each allocated one; small files are not checked.
const MOST_COMPRESSED: u64 = 8;
const SMALL: u64 = 64 << 20;

/// The present length of an arena, header included, according to the header.
fn length_now(header: &ArenaHeader) -> u64 {
    header.growing.unwrap_or(u64::MAX).min(header.capacity).saturating_add(offset::DATA as u64)
}

/// How many bytes of a file are credible if this many are allocated. A file system may compress a file, but
/// it does not make gigabytes out of nothing.
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
        // The kernel made the copies, on this processor: they stay before this.
        fence(Ordering::SeqCst);
        let mut word = [0; 8];
        self.read_exact(&mut word, offset::TAIL as u64)?;
        Ok(u64::from_le_bytes(word))
    }
}

/// The ID of a process in its innermost namespace.
fn namespace_pid(pid: u32) -> Option<u32> {
    process::status_line(pid, "NSpid:")?.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of 16 GiB with nothing behind it, which anybody can make, is not read into memory.
    #[test]
    fn what_is_not_allocated_is_not_believed() {
        let file = tempfile::tempfile().unwrap();
        let capacity = 16_u64 << 30;
        let mut header = vec![0; offset::DATA];
        header[..8].copy_from_slice(&ARENA_MAGIC);
        let mut put =
            |at: usize, value: u64| header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(offset::VERSION, 1 | (offset::DATA as u64) << 32);
        put(offset::CAPACITY, capacity);
        put(offset::HEAD, capacity);
        file.write_all_at(&header, 0).unwrap();
        file.set_len(capacity + offset::DATA as u64).unwrap();
        let error = OutsideArena::of_file(file, "sparse").unwrap_err().to_string();
        assert!(
            error.starts_with("sparse: its header says 17179869184 bytes, and only "),
            "{error}"
        );
    }
}
