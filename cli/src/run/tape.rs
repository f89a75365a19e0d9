//! Recording to disk: each generation of an arena is written once, into a sequence of files.
//!
//! A new file begins when the next generation does not fit into the last one. A generation can be read without
//! the others, and so can each file. Nothing is buffered: if this command is killed, everything written so far
//! can be read.

use super::{earlier, say};
use crate::exit::complain;
use crate::format::{bytes as in_bytes, counted};
use lookback::read::file::{FileWriter, GenerationFrame};
use lookback::read::wire::Metadata;
use lookback::{Follower, OutsideArena};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What to record to disk: where, the size of a file, and the size of all of them.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub file_bytes: u64,
    pub max_bytes: u64,
}

/// See the module.
pub struct Tape {
    follower: Follower,
    files: Files,
    generations: u64,
}

/// The files of a recording.
struct Files {
    stem: String,
    directory: PathBuf,
    bounds: Bounds,
    open: Option<Open>,
    /// The files of recordings of this name that are over, with their sizes, oldest first; `None` before they are looked
    /// for. They count, too: a service that is started again and again must not fill the disk.
    earlier: Option<VecDeque<(PathBuf, u64)>>,
    /// The complete files with their sizes, oldest first.
    full: VecDeque<(PathBuf, u64)>,
    begun: u32,
    deleted: u32,
    bytes: u64,
}

/// The file that is being written.
struct Open {
    path: PathBuf,
    file: File,
    writer: FileWriter<File>,
    generations: u64,
}

impl Tape {
    /// Names files `STEM-0001.lbk` and so on.
    pub fn new(arena: OutsideArena, directory: &Path, stem: String, bounds: Bounds) -> Self {
        Self {
            follower: arena.follow(),
            files: Files {
                stem,
                directory: directory.to_owned(),
                bounds,
                open: None,
                earlier: None,
                full: VecDeque::new(),
                begun: 0,
                deleted: 0,
                bytes: 0,
            },
            generations: 0,
        }
    }

    /// Writes the generations that have been completed since the last call. Deletes the oldest files to make
    /// room.
    fn turn(&mut self) -> anyhow::Result<()> {
        let Self { follower, files, generations, .. } = self;
        let read = follower.read("recorded to disk", "record", |metadata, generation| {
            let written = files.write(metadata, generation);
            let written = match written {
                Err(error) if error.kind() == io::ErrorKind::StorageFull && files.make_room() => {
                    files.write(metadata, generation)
                }
                other => other,
            };
            *generations += u64::from(written.is_ok());
            written
        });
        read.map(drop).map_err(Into::into)
    }

    /// Whether the recording has ended in order.
    fn is_over(&self) -> bool {
        self.follower.arena().header().is_ok_and(|header| header.ended)
    }

    /// Writes the rest, unless an earlier write failed, and ends the last file. Returns whether everything
    /// succeeded.
    fn finish(mut self, whose: &str, error: Option<anyhow::Error>) -> bool {
        let ended = match error {
            Some(error) => Err(error),
            None => self.turn(),
        };
        let ended = ended.and(self.files.end_last().map_err(Into::into));
        let is_whole = ended.is_ok();
        if let Err(error) = ended {
            complain(&format!("{whose}: {error:#}; it is no longer recorded to disk"));
        }
        self.files.delete_oldest();
        let lost = match self.follower.lost() {
            0 => String::new(),
            lost => format!(
                "; {} were overwritten before they could be read",
                counted(lost, "generation")
            ),
        };
        let deleted = match self.files.deleted {
            0 => String::new(),
            deleted => format!(", of which the oldest {deleted} were deleted"),
        };
        say(&format!(
            "{}: {whose}: {} in {}{deleted}, {}{lost}",
            self.files.directory.join(format!("{}-*.lbk", self.files.stem)).display(),
            counted(self.generations, "generation"),
            counted(u64::from(self.files.begun), "file"),
            in_bytes(self.files.bytes),
        ));
        is_whole
    }
}

/// Records an arena to disk on a thread of its own: a disk that is slow or hangs does not block this command.
pub struct Recording {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<bool>,
}

/// How often to look at an arena. A generation takes a second, or a sixteenth of the arena.
const INTERVAL: Duration = Duration::from_millis(100);

impl Recording {
    /// Starts to record; messages call the process `whose`.
    pub fn start(mut tape: Tape, whose: String) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_over);
        let run = move || {
            let error = loop {
                // Checked first: everything recorded before this check is written after it.
                let is_over = asked.load(Ordering::Acquire) || tape.is_over();
                match tape.turn() {
                    Err(error) => break Some(error),
                    Ok(()) if is_over => break None,
                    Ok(()) => std::thread::park_timeout(INTERVAL),
                }
            };
            tape.finish(&whose, error)
        };
        let thread = std::thread::Builder::new().name("recording".to_owned()).spawn(run)?;
        Ok(Self { is_over, thread })
    }

    /// Tells the thread to write the rest and to end. Does not wait for it.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread's end. Returns whether everything readable was written.
    pub fn wait(self) -> bool {
        self.thread.join().unwrap_or(false)
    }
}

impl Files {
    /// Writes a generation, in a new file if the last one is full.
    fn write(
        &mut self,
        metadata: &Metadata,
        generation: &mut GenerationFrame<'_>,
    ) -> io::Result<()> {
        let is_full = |open: &mut Open| open.writer.bytes_written() >= self.bounds.file_bytes;
        if self.open.as_mut().is_some_and(is_full) {
            self.end_last()?;
            self.delete_oldest();
        }
        if self.earlier.is_none() {
            self.earlier = Some(earlier::files(&self.directory, &self.stem));
            self.delete_oldest();
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let _ = fs::create_dir_all(&self.directory);
                let path = self.directory.join(format!("{}-{:04}.lbk", self.stem, self.begun + 1));
                let mut options = OpenOptions::new();
                let file = options.write(true).create_new(true).mode(0o600).open(&path)?;
                earlier::keep(&file);
                let begun = file.try_clone().and_then(|file| FileWriter::new(file, metadata));
                let writer = match begun {
                    Ok(writer) => writer,
                    Err(error) => {
                        let _ = fs::remove_file(path);
                        return Err(error);
                    }
                };
                self.begun += 1;
                none.insert(Open { path, file, writer, generations: 0 })
            }
        };
        let whole = open.writer.bytes_written();
        let written = open.writer.generation(generation);
        match written {
            Ok(()) => open.generations += 1,
            // Cut off what is half-written: the file ends with its last whole generation, and has no index.
            Err(_) => self.cut_off(whole),
        }
        written
    }

    /// Closes the last file as it is, up to `whole`; deletes it if it holds nothing.
    fn cut_off(&mut self, whole: u64) {
        let Some(open) = self.open.take() else { return };
        if open.generations == 0 {
            let _ = fs::remove_file(open.path);
            self.begun -= 1;
            return;
        }
        let _ = open.file.set_len(whole);
        self.bytes += whole;
        self.full.push_back((open.path, whole));
    }

    /// Ends the last file in order.
    fn end_last(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let whole = open.writer.bytes_written();
        let ended = open.writer.finish().and_then(|mut file| file.flush());
        if ended.is_err() {
            let _ = open.file.set_len(whole);
        }
        let length = fs::metadata(&open.path).map_or(whole, |metadata| metadata.len());
        self.bytes += length;
        self.full.push_back((open.path, length));
        ended
    }

    /// Deletes the oldest files, until there is room for one more. One complete file of this recording stays.
    fn delete_oldest(&mut self) {
        while self.is_over() && (self.has_earlier() || self.full.len() > 1) {
            self.make_room();
        }
    }

    fn is_over(&self) -> bool {
        let complete = self.earlier.iter().flatten().chain(&self.full);
        let bytes: u64 = complete.map(|(_, bytes)| bytes).sum();
        bytes + self.bounds.file_bytes > self.bounds.max_bytes
    }

    fn has_earlier(&self) -> bool {
        self.earlier.as_ref().is_some_and(|earlier| !earlier.is_empty())
    }

    /// Deletes the oldest file. Returns whether there was one.
    fn make_room(&mut self) -> bool {
        // Another process may have deleted it.
        if let Some((path, _)) = self.earlier.as_mut().and_then(VecDeque::pop_front) {
            let _ = fs::remove_file(path);
            return true;
        }
        let Some((path, _)) = self.full.pop_front() else { return false };
        let _ = fs::remove_file(path);
        self.deleted += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::test_arena::{empty, put};
    use lookback::read::wire::offset;

    #[test]
    fn a_header_that_names_generations_without_end_is_an_error_and_no_endless_loop() {
        let file = empty(0);
        put(&file, offset::OLDEST, &1_u64.to_le_bytes());
        put(&file, offset::COMPLETE, &u64::MAX.to_le_bytes());
        let mut follower = OutsideArena::of_file(file, "made").unwrap().follow();
        let error = follower.read("a test", "test", |_, _| Ok(())).unwrap_err().to_string();
        assert!(error.contains("more generations than it has entries"), "{error}");
    }
}
