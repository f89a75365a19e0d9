//! Writes the window to a file directly from the arena, one generation at a time, so that memory
//! never holds a copy of all of it.
//!
//! A generation has the same contents whenever it is read ([`cut`](crate::snapshot::cut)), as long
//! as it is still in the arena. While generations are compressed and written, writers overwrite the
//! oldest ones. Therefore
//!
//! * the newest generations are read first, and kept until their turn: the file always contains
//!   them;
//! * the others are read oldest first, in file order, as far ahead as memory allows;
//! * if writers are faster than that, the stream starts so late that they do not catch up, judging
//!   by their speed while the newest generations were read. If they catch up all the same, the
//!   stream skips ahead: the file then has a gap, which readers see in the generation numbers.
//!
//! So the window loses what is overwritten between the call and the last read: nothing, if writers
//! are slower than the compressor and the file; some of the oldest part, if they run at full speed.
//!
//! **Memory**: the stream holds at most 3/16 of the arena, or 1 MiB if that is more, or the newest
//! generation and one other; one more if the newest has only just begun. A generation ends at a
//! sixteenth of the arena, or at two if the collector is late, and at up to a quarter where listing
//! what is alive takes long (see `pace`).

#![forbid(unsafe_code)]

use crate::arena::arena_read::Source;
use crate::os::mode::Mode;
use crate::os::pages::Pages;
use crate::snapshot::cut::{Attempt, Beyond, Cut, Extent, Wanted, walk};
use crate::snapshot::part::{Part, Reach};
use crate::snapshot::window::ATTEMPTS;
use lookback_snapshot::file::{FileBlock, GenerationFrame};
use lookback_snapshot::wire::{Block, Blocks, Position};
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Stream<'a, S> {
    arena: &'a S,
    cut: Cut,
    /// The generation to read next, oldest first, and the first one that was read already.
    next: usize,
    newest_from: usize,
    ahead: VecDeque<Piece>,
    newest: VecDeque<Piece>,
    /// How many bytes are held, and how many may be.
    held: u64,
    most: u64,
    /// Used memory, for reuse.
    spare: Option<Pages>,
    began: Instant,
    /// The writers' initial speed, in bytes per nanosecond, and the tail at that time.
    writing: f64,
    tail: u64,
    /// How many bytes were passed on.
    passed: u64,
    reading: Duration,
}

/// A generation that was read.
#[derive(Debug)]
struct Piece {
    part: Part,
    bytes: Pages,
    start: Position,
    /// Its blocks that lie elsewhere, and their positions and offsets in these bytes.
    stray: Pages,
    strays: Vec<(Position, usize)>,
}

/// The outcome of reading the newest generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    Read,
    /// The last one was read; the one before it was overwritten.
    Torn,
    Gone,
}

/// The stream may always hold this much: a small arena fills up while a thread waits for a core.
const LEAST_HELD: u64 = 1 << 20;

/// How fast generations are passed on, in bytes per nanosecond, until measured. A compressor on one
/// core reaches 1.5 times this; a debug build is assumed to reach a quarter of it.
const PASSING: f64 = if cfg!(debug_assertions) { 0.05 } else { 0.2 };

impl<'a, S: Source> Stream<'a, S> {
    /// Reads the newest generations, and some of the oldest. `None` if nothing of what is wanted
    /// exists (any more), or writers were faster every time.
    pub(crate) fn begin(arena: &'a S, mode: Mode, wanted: Wanted) -> io::Result<Option<Self>> {
        for attempt in 1..=ATTEMPTS {
            let began = Instant::now();
            let cut = match Cut::make(arena, mode, wanted)? {
                Attempt::Done(Some(cut)) => cut,
                Attempt::Done(None) => return Ok(None),
                Attempt::Overtaken => continue,
            };
            let cut_at = Instant::now();
            let mut stream = Self {
                arena,
                next: 0,
                newest_from: cut.extents.len(),
                cut,
                ahead: VecDeque::new(),
                newest: VecDeque::new(),
                held: 0,
                most: (arena.capacity() / 16 * 3).max(LEAST_HELD),
                spare: None,
                began,
                writing: 0.0,
                tail: arena.tail_after_copy()?,
                passed: 0,
                reading: Duration::ZERO,
            };
            let found = stream.read_newest()?;
            // This thread was held up until all but the last generation was gone: by now there is a
            // newer one.
            if found == Newest::Torn && attempt < ATTEMPTS {
                continue;
            }
            if found != Newest::Gone {
                let written = arena.head()?.saturating_sub(stream.cut.end.0);
                stream.writing = written as f64 / cut_at.elapsed().as_nanos().max(1) as f64;
                stream.leap(0);
                stream.read_ahead()?;
                stream.reading = began.elapsed();
                return Ok(Some(stream));
            }
        }
        Ok(None)
    }

    /// The range of the stream, as far as known by now.
    pub(crate) fn reach(&self) -> Option<Reach> {
        let last = self.newest.back()?.part;
        let first = self.ahead.front().or(self.newest.front())?.part;
        Some(Reach { first, last })
    }

    /// Passes on each generation, the oldest first. Returns how long reading them took.
    pub(crate) fn each<E>(
        mut self,
        unreadable: impl Fn(io::Error) -> E,
        mut take: impl FnMut(&mut GenerationFrame<'_>) -> Result<(), E>,
    ) -> Result<Duration, E> {
        while let Some(piece) = self.ahead.pop_front().or_else(|| self.newest.pop_front()) {
            take(&mut piece.frame(&self.cut))?;
            self.passed += piece.length();
            self.held -= piece.length();
            self.spare = Some(piece.bytes);
            let began = Instant::now();
            self.read_ahead().map_err(&unreadable)?;
            self.reading += began.elapsed();
        }
        Ok(self.reading)
    }

    /// Reads the last generation, and as many of those before it as fit into two sixteenths of the
    /// arena; at least as many as it takes to hold one sixteenth: the last one may have just begun.
    fn read_newest(&mut self) -> io::Result<Newest> {
        let least = self.arena.capacity() / 16;
        while let Some(index) = self.newest_from.checked_sub(1) {
            let length = self.cut.extents.get(index).map_or(0, Extent::length);
            if self.held >= least && self.held + length > self.most / 3 * 2 {
                break;
            }
            let Some(piece) = self.read(index)? else {
                return Ok(if self.newest.len() > 1 { Newest::Read } else { self.left_over() });
            };
            self.held += piece.length();
            self.newest.push_front(piece);
            self.newest_from = index;
        }
        Ok(Newest::Read)
    }

    /// The outcome when the generation before the last one is gone.
    fn left_over(&self) -> Newest {
        if self.newest.is_empty() { Newest::Gone } else { Newest::Torn }
    }

    /// Reads as many of the oldest generations as there is room for.
    fn read_ahead(&mut self) -> io::Result<()> {
        while self.next < self.newest_from {
            let length = self.cut.extents[self.next].length();
            if !self.ahead.is_empty() && self.held + length > self.most {
                break;
            }
            match self.read(self.next)? {
                Some(piece) => {
                    self.held += piece.length();
                    self.ahead.push_back(piece);
                    self.next += 1;
                }
                None => {
                    let tail = self.arena.tail_after_copy()?;
                    self.leap(tail);
                }
            }
        }
        self.spare = None;
        Ok(())
    }

    /// Skips what is overwritten, which is everything before `tail`, and what will be before it is
    /// read.
    fn leap(&mut self, tail: u64) {
        let nanos = self.began.elapsed().as_nanos() as f64;
        let (mut writing, mut passing) = (self.writing, PASSING);
        // The writers' distance to the threatened generation.
        let mut free =
            self.arena.capacity().saturating_sub(self.cut.end.0.saturating_sub(self.tail)) / 4 * 3;
        if tail > self.tail {
            (writing, free) = ((tail - self.tail) as f64 / nanos, 0);
        }
        if self.passed > 0 {
            passing = self.passed as f64 / nanos;
        }
        // Position `p` is read after (p - from) / passing, and overwritten once the tail reaches
        // it. If writers are faster, the last generation is the threatened one.
        let end =
            self.cut.extents.get(self.newest_from).map_or(self.cut.end, |newest| newest.start).0;
        let first = self.cut.extents.get(self.next).map_or(end, |next| next.start.0).max(tail);
        let room = end.saturating_sub(self.tail.max(tail)) + free;
        let from = match writing > passing {
            true => end.saturating_sub((room as f64 * passing / writing) as u64),
            false => first,
        };
        let from = from.max(first);
        let gone = |extent: &Extent| extent.start.0 < from;
        let within = &self.cut.extents[self.next..self.newest_from];
        self.next += within.iter().take_while(|extent| gone(extent)).count();
    }

    /// Reads a generation. `None` if it was overwritten.
    fn read(&mut self, index: usize) -> io::Result<Option<Piece>> {
        let Extent { part, start, next, beyond } = &self.cut.extents[index];
        let mut bytes = self.spare.take().unwrap_or_else(Pages::new);
        self.arena.copy(start.0, *next - *start, &mut bytes)?;
        let mut found = Vec::new();
        let blocks = match beyond {
            Beyond::Until(end) => {
                walk(self.arena, *next, *end, |block, _| {
                    if block.generation == part.number {
                        found.push((block.position, block.length));
                    }
                })?;
                &found
            }
            Beyond::Blocks(blocks) => blocks,
        };
        let (mut stray, mut strays, mut at) = (Pages::new(), Vec::new(), 0);
        let room = stray.room(blocks.iter().map(|(_, length)| *length as usize).sum())?;
        for (position, length) in blocks {
            self.arena.copy_to(position.0, &mut room[at..][..*length as usize])?;
            strays.push((*position, at));
            at += *length as usize;
        }
        // The seqlock's check: bytes before the tail may have been overwritten during the copy.
        if self.arena.tail_after_copy()? > start.0 {
            self.spare = Some(bytes);
            return Ok(None);
        }
        Ok(Some(Piece { part: *part, bytes, start: *start, stray, strays }))
    }
}

impl Piece {
    fn length(&self) -> u64 {
        (self.bytes.len() + self.stray.len()) as u64
    }

    fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        let stray =
            |(position, at): &(Position, usize)| Block::find(self.stray.get(*at..)?, *position)?.0;
        let blocks =
            Blocks::new(&self.bytes, self.start).chain(self.strays.iter().filter_map(stray));
        blocks.filter(|block| block.header.generation == self.part.number)
    }

    /// The generation as a file holds it.
    fn frame(&self, cut: &Cut) -> GenerationFrame<'_> {
        let counted = |block| cut.counted(block, self.part.complete);
        // Count the blocks first: a growing vector would briefly take three times as much memory.
        let mut blocks: Vec<FileBlock<'_>> =
            Vec::with_capacity(self.blocks().filter_map(counted).count());
        blocks.extend(self.blocks().filter_map(counted));
        GenerationFrame { blocks, ..self.part.frame() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::record::control::control;
    use crate::record::emit::counter;
    use crate::record::site::Site;
    use crate::recorder::{Recorder, current};
    use lookback_snapshot::wire::Nanos;
    use std::cell::Cell;
    use std::sync::atomic::Ordering;

    static SITE: Site = Site::new("counted", &[], file!(), line!());
    const ARENA: u64 = 256 << 10;

    /// A source whose reader is held up for a lap before it reads the second generation.
    struct HeldUp<'a> {
        arena: &'a Arena,
        looks: Cell<u32>,
    }

    impl Source for HeldUp<'_> {
        fn capacity(&self) -> u64 {
            self.arena.capacity()
        }

        fn read(&self, from: u64, into: &mut [u8]) -> io::Result<()> {
            self.arena.read(from, into)
        }

        fn tail_after_copy(&self) -> io::Result<u64> {
            self.looks.set(self.looks.get() + 1);
            // After the cut, after the newest, after the one before that.
            if self.looks.get() == 3 {
                fill();
            }
            self.arena.tail_after_copy()
        }
    }

    /// Fills the arena more than once.
    fn fill() {
        (0..ARENA / 2).for_each(|number| counter(&SITE, &number));
    }

    #[test]
    fn a_reading_that_was_held_up_for_a_lap_begins_again() {
        let name = "snapshot::stream::tests::a_reading_that_was_held_up_for_a_lap_begins_again";
        crate::testing::alone(name, || {
            let recorder = Recorder::builder().max_bytes(ARENA as usize).start().unwrap();
            fill();
            let shared = current().unwrap();
            let source = HeldUp { arena: shared.arena(), looks: Cell::new(0) };
            let wanted = Wanted::Last(Nanos(u64::MAX / 2));
            let stream = Stream::begin(&source, control().mode(), wanted).unwrap().unwrap();
            assert!(source.looks.get() > 3);
            let held = stream.newest.len() + stream.ahead.len();
            assert!(held > 4, "{held} generations");
            drop(recorder);
        });
    }

    /// A generation takes up to a quarter of the arena. If it ends right before the call, the newest
    /// events are in it, not in the one that has just begun.
    #[test]
    fn the_newest_is_held_though_its_generation_is_large_and_over() {
        let name =
            "snapshot::stream::tests::the_newest_is_held_though_its_generation_is_large_and_over";
        crate::testing::alone(name, || {
            let capacity = 16 * ARENA;
            let hour = Duration::from_secs(3600);
            let builder = Recorder::builder().max_bytes(capacity as usize).window(hour);
            let recorder = builder.generation_period(hour).start().unwrap();
            let (shared, control) = (current().unwrap(), control());
            (0..capacity).for_each(|number| counter(&SITE, &number));
            for share in [&control.early_advance, &control.late_advance] {
                share.store(u64::MAX, Ordering::Relaxed);
            }
            recorder.advance();
            for share in [&control.early_advance, &control.late_advance] {
                share.store(u64::MAX, Ordering::Relaxed);
            }
            let begin = shared.arena().head().unwrap();
            while shared.arena().head().unwrap() - begin < capacity / 4 {
                counter(&SITE, &0_u64);
            }
            recorder.advance();
            counter(&SITE, &0_u64);
            let stream =
                Stream::begin(shared.arena(), control.mode(), Wanted::Last(Nanos(u64::MAX / 2)))
                    .unwrap()
                    .unwrap();
            let held: u64 = stream.newest.iter().map(Piece::length).sum();
            assert!(held >= capacity / 4, "{held} bytes of the newest of {capacity}");
            drop(recorder);
        });
    }
}
