//! Snapshots: consistent copies of the last generations, and the files they are saved to.

#![forbid(unsafe_code)]

pub(crate) mod cut;
pub(crate) mod follow;
pub(crate) mod machine;
pub(crate) mod part;
pub(crate) mod single_flight;
pub(crate) mod sink;
pub(crate) mod snapshot_dir;
pub(crate) mod stream;
pub(crate) mod window;

use crate::arena::arena_read::Source;
use crate::error::Error;
use crate::os::atomic_file;
use crate::record::own_work;
use crate::snapshot::stream::Stream;
use crate::snapshot::window::Window;
use lookback_snapshot::file::FileWriter;
use lookback_snapshot::wire::{Metadata, ProcessStacks, key};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The last seconds of recording, copied out of the arena. Immutable, and cheap to clone.
///
/// ```no_run
/// let recorder = lookback_recorder::Recorder::builder().start()?;
/// let snapshot = recorder.snapshot()?;
/// println!("{:?} in {} events", snapshot.covered(), snapshot.events());
/// snapshot.save("incident.lbk")?;
/// # Ok::<(), lookback_recorder::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    window: Arc<Window>,
    metadata: Metadata,
}

impl Snapshot {
    pub(crate) fn new(window: Arc<Window>, metadata: Metadata) -> Self {
        Self { window, metadata }
    }

    /// Writes the snapshot, compressed, and returns the number of bytes written. Needs about 2 MiB
    /// of memory beyond the copy itself, which is no larger than `max_bytes`; both are returned to
    /// the system afterwards. (To get only a file, use [`Recorder::save`](crate::Recorder::save),
    /// which makes no copy.)
    ///
    /// # Errors
    /// The errors of `out`.
    pub fn write_to<W: Write>(&self, out: W) -> Result<u64, Error> {
        write(out, &self.metadata, |writer| {
            for mut frame in self.window.frames() {
                writer.generation(&mut frame).map_err(Error::Write)?;
            }
            Ok(())
        })
    }

    /// Saves the snapshot to a file. Readers find all of it or nothing: the snapshot is written
    /// under another name, synced, and renamed. A new file can be read only by its owner. An
    /// existing one is replaced, and keeps its mode, and its owner if this process may change
    /// owners. Symbolic links are followed. A path that is not a regular file, such as a device or
    /// a pipe, is written to directly; opening a pipe waits for its reader.
    ///
    /// # Errors
    /// Names the file, and the operating system's error. Fails for a directory, and for a file that
    /// this process must not write to.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let _own = own_work::begin();
        atomic_file::save(path.as_ref(), |out| self.write_to(out).map(drop))
    }

    /// How far back the snapshot actually reaches.
    #[must_use]
    pub fn covered(&self) -> Duration {
        Duration::from_nanos(self.window.reach().map_or(0, |reach| reach.covered().0))
    }

    /// How large `max_bytes` would have to be to cover the whole window at the observed rate of
    /// recording. `None` unless less than half of the window is covered and earlier records were
    /// overwritten: then the arena is too small for the rate.
    #[must_use]
    pub fn needed_bytes(&self) -> Option<u64> {
        self.metadata.number(key::NEEDED_BYTES)
    }

    /// The number of events in the snapshot.
    #[must_use]
    pub fn events(&self) -> u64 {
        // In an incomplete generation, some counted events may lie beyond the cut.
        let blocks = self.window.frames();
        blocks.iter().flat_map(|f| &f.blocks).map(|b| u64::from(b.block.events)).sum()
    }

    /// The numbers of the generations, oldest first, and whether each is complete.
    pub fn generations(&self) -> impl Iterator<Item = (u64, bool)> {
        self.window.generations.iter().map(|part| (part.number.0, part.complete))
    }

    /// The number of bytes copied out of the arena.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.window.len()
    }

    /// Why the snapshot was taken.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.metadata.text(key::REASON).unwrap_or_default()
    }
}

/// A snapshot that is written directly from the arena. It dates from the creation of this value,
/// minus whatever is overwritten before it is written.
pub(crate) struct Passing<'a, S> {
    pub(crate) stream: Stream<'a, S>,
    pub(crate) metadata: Metadata,
    /// Those of the process's threads, if they were taken.
    pub(crate) stacks: Option<&'a ProcessStacks>,
}

impl<S: Source> Passing<'_, S> {
    /// Writes the snapshot, compressed. Returns the bytes written, and the time spent reading the
    /// arena.
    pub(crate) fn write_to<W: Write>(
        self,
        out: W,
        unreadable: impl Fn(io::Error) -> Error,
    ) -> Result<(u64, Duration), Error> {
        let mut reading = Duration::ZERO;
        let written = write(out, &self.metadata, |writer| {
            reading = self
                .stream
                .each(unreadable, |frame| writer.generation(frame).map_err(Error::Write))?;
            self.stacks.map_or(Ok(()), |stacks| writer.stacks(stacks).map_err(Error::Write))
        });
        Ok((written?, reading))
    }
}

/// Writes a file with these generations, and returns the number of bytes.
fn write<W: Write>(
    out: W,
    metadata: &Metadata,
    generations: impl FnOnce(&mut FileWriter<Counting<W>>) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut writer = FileWriter::new(Counting { out, bytes: 0 }, metadata).map_err(Error::Write)?;
    generations(&mut writer)?;
    let mut out = writer.finish().map_err(Error::Write)?;
    out.flush().map_err(Error::Write)?;
    Ok(out.bytes)
}

/// Counts the bytes written.
struct Counting<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
