//! Passing the window on to a file straight out of the arena, a generation at a time, so that no copy of
//! all of it is ever in memory.
//!
//! What a generation holds is the same whenever it is read ([`cut`](crate::cut)), as long as it is still
//! there. What is overwritten while the generations before it are compressed and written is the oldest; so
//!
//! * the newest are read first, and kept until it is their turn: they are in the file whatever happens;
//! * the others are read oldest first, as the file wants them, as far ahead as there is room;
//! * where writers are faster than that, it begins so late that they do not catch up with it, going by how
//!   fast they are while the newest is read. If they do all the same, it leaps: the file has a gap there, which
//!   readers know from the numbers of generations.
//!
//! So what it costs in window is what is overwritten between the call and when all was read. Nothing, where
//! writers are slower than the compressor and the file; at full speed some part of the oldest.
//!
//! **Memory**: 3/16 of the arena are held at most, but a mebibyte in any case, or the newest generation and one more. A generation is ended
//! when it takes a sixteenth, two if the collector is late; up to a quarter where much is alive (see `pace`).

#![forbid(unsafe_code)]

use crate::control::Mode;
use crate::cut::{Attempt, Beyond, Cut, Extent, Wanted, walk};
use crate::pages::Pages;
use crate::part::{Part, Reach};
use crate::source::Source;
use crate::window::ATTEMPTS;
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
    /// Which is read next, oldest first, and which is the first that is not, because it has been.
    next: usize,
    newest_from: usize,
    ahead: VecDeque<Piece>,
    newest: VecDeque<Piece>,
    /// So many bytes are held, and may be.
    held: u64,
    most: u64,
    /// Memory that was used and can be used again.
    spare: Option<Pages>,
    began: Instant,
    /// How fast writers were at first, in bytes a nanosecond, and where the tail was then.
    writing: f64,
    tail: u64,
    /// How much was passed on.
    passed: u64,
    reading: Duration,
}

/// A generation that was read.
#[derive(Debug)]
struct Piece {
    part: Part,
    bytes: Pages,
    start: Position,
    /// Blocks of it that lie elsewhere: their positions, and where each begins in these bytes.
    stray: Pages,
    strays: Vec<(Position, usize)>,
}

/// What became of the newest generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    Read,
    /// The last one was read, and the one before it was overwritten.
    Torn,
    Gone,
}

/// So much may always be held: a small arena is filled in the time that a thread may have to wait for a core.
const LEAST_HELD: u64 = 1 << 20;

/// How fast generations are passed on, in bytes a nanosecond, as long as nobody knows: a compressor on one core
/// does half as much again, a build for debugging a quarter.
const PASSING: f64 = if cfg!(debug_assertions) { 0.05 } else { 0.2 };

impl<'a, S: Source> Stream<'a, S> {
    /// Reads the newest, and some of the oldest. `None` if there is nothing of what is wanted (any more), or
    /// writers were faster every time.
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
            // Held up for so long that all but what began last is gone: there is newer by now.
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

    /// From when to when it is, as far as one can tell by now.
    pub(crate) fn reach(&self) -> Option<Reach> {
        let last = self.newest.back()?.part;
        let first = self.ahead.front().or(self.newest.front())?.part;
        Some(Reach { first, last })
    }

    /// Hands each generation over, the oldest first. How long reading them took.
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

    /// Reads the last generation, and those before it that it is one with as a part of the arena: two
    /// sixteenths in all.
    fn read_newest(&mut self) -> io::Result<Newest> {
        while let Some(index) = self.newest_from.checked_sub(1) {
            let length = self.cut.extents.get(index).map_or(0, Extent::length);
            if !self.newest.is_empty() && self.held + length > self.most / 3 * 2 {
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

    /// What there is where the generation before the last one is gone.
    fn left_over(&self) -> Newest {
        if self.newest.is_empty() { Newest::Gone } else { Newest::Torn }
    }

    /// Reads as many of the oldest as there is room for.
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

    /// Leaves out what will be overwritten before it is read, and what is: all that begins before `tail`.
    fn leap(&mut self, tail: u64) {
        let nanos = self.began.elapsed().as_nanos() as f64;
        let (mut writing, mut passing) = (self.writing, PASSING);
        // What lies in front of the one that is in danger, until the tail is there.
        let mut free = self.arena.capacity().saturating_sub(self.cut.end.0.saturating_sub(self.tail)) / 4 * 3;
        if tail > self.tail {
            (writing, free) = ((tail - self.tail) as f64 / nanos, 0);
        }
        if self.passed > 0 {
            passing = self.passed as f64 / nanos;
        }
        // What begins at `p` is reached after (p - from) / passing, and overwritten when so much was written
        // that the tail is there. Where writers are faster, the last of them is the one in danger.
        let end = self.cut.extents.get(self.newest_from).map_or(self.cut.end, |newest| newest.start).0;
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
        // The seqlock's check: what lies before this may have been overwritten while it was copied.
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
        let stray = |(position, at): &(Position, usize)| Block::find(self.stray.get(*at..)?, *position)?.0;
        let blocks = Blocks::new(&self.bytes, self.start).chain(self.strays.iter().filter_map(stray));
        blocks.filter(|block| block.header.generation == self.part.number)
    }

    /// As a file holds it.
    fn frame(&self, cut: &Cut) -> GenerationFrame<'_> {
        let counted = |block| cut.counted(block, self.part.complete);
        // Their notes are counted first: growing them would take three times as much for a moment.
        let mut blocks: Vec<FileBlock<'_>> = Vec::with_capacity(self.blocks().filter_map(counted).count());
        blocks.extend(self.blocks().filter_map(counted));
        GenerationFrame { blocks, ..self.part.frame() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::control::control;
    use crate::emit::counter;
    use crate::recorder::{Recorder, current};
    use crate::site::Site;
    use lookback_snapshot::wire::Nanos;
    use std::cell::Cell;

    static SITE: Site = Site::new("counted", &[], file!(), line!());
    const ARENA: u64 = 256 << 10;

    /// Its reader is held up for a lap before the second generation was looked at.
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

    /// More than once.
    fn fill() {
        (0..ARENA / 2).for_each(|number| counter(&SITE, &number));
    }

    #[test]
    fn a_reading_that_was_held_up_for_a_lap_begins_again() {
        let name = "stream::tests::a_reading_that_was_held_up_for_a_lap_begins_again";
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
}
