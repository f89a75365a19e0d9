//! Snapshots: a consistent copy of the last generations, and the file that it is saved to.

#![forbid(unsafe_code)]

use crate::error::Error;
use crate::{file, own_work};
use crate::source::Source;
use crate::stream::Stream;
use crate::window::Window;
use lookback_snapshot::file::FileWriter;
use lookback_snapshot::wire::{Metadata, key};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The last seconds, copied out of the arena. Cheap to clone; what it holds does not change.
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

    /// Writes the snapshot, compressed, and says how many bytes that took. Needs some 2 MiB of memory beyond
    /// the copy itself, which is no larger than `max_bytes`; both are given back to the system. (Who only wants
    /// a file does without the copy: [`Recorder::save`](crate::Recorder::save).)
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to<W: Write>(&self, out: W) -> Result<u64, Error> {
        write(out, &self.metadata, |writer| {
            for mut frame in self.window.frames() {
                writer.generation(&mut frame).map_err(Error::Write)?;
            }
            Ok(())
        })
    }

    /// Saves the snapshot to a file, which is there whole or not at all: it is written under
    /// another name, synced, and renamed. Only the owner may read a new one; one that is there is
    /// replaced, and keeps its mode, and its owner where this process may give files away. Links are
    /// followed. What is no file is written to as it is: a device, or a pipe, whose reader is waited for.
    ///
    /// # Errors
    /// Names the file, and says what the operating system refused. A directory is no place for it, and
    /// a file that this process must not write to is not replaced.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let _own = own_work::begin();
        file::save(path.as_ref(), |out| self.write_to(out).map(drop))
    }

    /// How far back the snapshot really goes.
    #[must_use]
    pub fn covered(&self) -> Duration {
        Duration::from_nanos(self.window.reach().map_or(0, |reach| reach.covered().0))
    }

    /// How large `max_bytes` would have to be for the whole window, at the rate at which was recorded.
    /// Nothing unless less than half of the window is covered although recording had begun before: then the
    /// arena is too small for the rate.
    #[must_use]
    pub fn needed_bytes(&self) -> Option<u64> {
        self.metadata.number(key::NEEDED_BYTES)
    }

    /// How many events it holds.
    #[must_use]
    pub fn events(&self) -> u64 {
        // Of an incomplete generation, some of those counted may lie beyond the cut.
        let blocks = self.window.frames();
        blocks.iter().flat_map(|f| &f.blocks).map(|b| u64::from(b.block.events)).sum()
    }

    /// The numbers of its generations, oldest first, and whether each is complete.
    pub fn generations(&self) -> impl Iterator<Item = (u64, bool)> {
        self.window.generations.iter().map(|part| (part.number.0, part.complete))
    }

    /// How many bytes were copied out of the arena.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.window.len()
    }

    /// Why it was taken.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.metadata.text(key::REASON).unwrap_or_default()
    }
}

/// A snapshot that is written straight out of the arena: it was taken when this was made, but for what is
/// overwritten before it is written.
pub(crate) struct Passing<'a, S> {
    pub(crate) stream: Stream<'a, S>,
    pub(crate) metadata: Metadata,
}

impl<S: Source> Passing<'_, S> {
    /// Writes it, compressed. How many bytes that took, and how long it took to read the arena.
    pub(crate) fn write_to<W: Write>(
        self,
        out: W,
        unreadable: impl Fn(io::Error) -> Error,
    ) -> Result<(u64, Duration), Error> {
        let mut reading = Duration::ZERO;
        let written = write(out, &self.metadata, |writer| {
            reading = self.stream.each(unreadable, |frame| writer.generation(frame).map_err(Error::Write))?;
            Ok(())
        });
        Ok((written?, reading))
    }
}

/// Writes a file with these generations. How many bytes that took.
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

/// Counts what is written.
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
