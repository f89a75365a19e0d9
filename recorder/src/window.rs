//! Copying the window out of the arena, as any reader would, inside the process or outside.
//!
//! # The cut
//!
//! A generation that is still being written is cut where it makes sense: first every block's
//! `committed` is read, then everything is copied. Events count up to the first reading, definitions
//! and statuses wherever they stand: a definition is committed before its id is published, so every
//! event of the first reading finds its definition in the second.
//!
//! The copy is sound from wherever the tail stands when it is done: see `ring`.

use crate::arena::Arena;
use crate::clock;
use crate::control::Mode;
use lookback_snapshot::file::{FileBlock, GenerationFrame};
use lookback_snapshot::wire::{
    ArenaHeader, Block, Blocks, ClockRecord, Generation, Nanos, Position,
};
use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;

/// A copy of some generations.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    start: Position,
    pub(crate) generations: Vec<Part>,
    cuts: HashMap<Position, u32>,
}

/// What a copy holds of one generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) number: Generation,
    pub(crate) complete: bool,
    pub(crate) began: ClockRecord,
    pub(crate) ended: ClockRecord,
}

/// How often a copy is tried that is overtaken by writers every time.
const ATTEMPTS: usize = 8;

enum Attempt {
    Done(Option<Window>),
    Overtaken,
}

/// Which generations to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// So much of the past, and all that is running.
    Last(Nanos),
    /// This one, if it is complete.
    Only(Generation),
}

impl Window {
    /// Copies. `None` if there is nothing of what is wanted (any more).
    pub(crate) fn copy(arena: &Arena, mode: Mode, wanted: Wanted) -> io::Result<Option<Self>> {
        for _ in 0..ATTEMPTS {
            if let Attempt::Done(window) = Self::attempt(arena, mode, wanted)? {
                return Ok(window);
            }
        }
        Ok(None)
    }

    fn attempt(arena: &Arena, mode: Mode, wanted: Wanted) -> io::Result<Attempt> {
        let nothing = Attempt::Done(None);
        let header = read_header(arena)?;
        let Some(numbers) = choose(&header, wanted) else { return Ok(nothing) };
        let newest_complete = header.complete;
        // The first reading: where events end in what is not complete.
        let mut cuts = HashMap::new();
        let mut bytes = Vec::new();
        if numbers.end().0 > newest_complete.0
            && let Some(entry) = header.entry(newest_complete.next())
        {
            arena.copy(entry.start.0, header.head - entry.start, &mut bytes)?;
            cuts = Blocks::new(&bytes, entry.start)
                .map(|block| (block.header.position, block.records.len() as u32))
                .collect();
            bytes.clear();
        }
        // The second reading: everything, oldest first, because the oldest is given up first.
        let now = read_header(arena)?;
        let Some(first) = header.entry(*numbers.start()) else { return Ok(nothing) };
        let start = first.start;
        let end = match wanted {
            Wanted::Last(_) => now.head,
            Wanted::Only(number) => match now.entry(number) {
                Some(entry) => entry.end,
                None => return Ok(nothing),
            },
        };
        if end - start > header.capacity || now.tail > start {
            // Overtaken while the table was read: what is left is chosen anew.
            return Ok(Attempt::Overtaken);
        }
        arena.copy(start.0, end - start, &mut bytes)?;
        let frequency = header.entry(*numbers.end()).map_or(0, |entry| entry.began.frequency);
        let ended_now = clock::instant(mode, frequency);
        let generations = (numbers.start().0..=numbers.end().0)
            .map(Generation)
            .filter_map(|number| Some((number, header.entry(number)?)))
            .filter(|(_, entry)| arena.ring().still_holds(entry.start.0))
            .map(|(number, entry)| Part {
                number,
                complete: number <= newest_complete,
                began: entry.began,
                ended: header.entry(number.next()).map_or(ended_now, |next| next.began),
            })
            .collect::<Vec<_>>();
        if generations.is_empty() {
            return Ok(Attempt::Overtaken);
        }
        Ok(Attempt::Done(Some(Self { bytes, start, generations, cuts })))
    }

    /// How many bytes were copied.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        Blocks::new(&self.bytes, self.start)
    }

    /// The generations as a file holds them.
    pub(crate) fn frames(&self) -> Vec<GenerationFrame<'_>> {
        let mut frames: Vec<_> = self
            .generations
            .iter()
            .map(|part| GenerationFrame {
                number: part.number,
                complete: part.complete,
                began: part.began,
                ended: part.ended,
                blocks: Vec::new(),
            })
            .collect();
        let Some(first) = frames.first().map(|frame| frame.number.0) else { return frames };
        for block in self.blocks() {
            let index = block.header.generation.0.wrapping_sub(first);
            let Some(frame) = usize::try_from(index).ok().and_then(|i| frames.get_mut(i)) else {
                continue;
            };
            if block.records.is_empty() {
                continue;
            }
            let whole = block.records.len() as u32;
            let cut = if frame.complete {
                whole
            } else {
                self.cuts.get(&block.header.position).map_or(0, |cut| whole.min(*cut))
            };
            frame.blocks.push(FileBlock { block, cut });
        }
        frames
    }

    /// How far back the copy goes.
    pub(crate) fn covered(&self) -> Nanos {
        match (self.generations.first(), self.generations.last()) {
            (Some(first), Some(last)) => {
                Nanos(last.ended.monotonic.0.saturating_sub(first.began.monotonic.0))
            }
            _ => Nanos(0),
        }
    }
}

fn read_header(arena: &Arena) -> io::Result<ArenaHeader> {
    let mut bytes = Vec::new();
    arena.copy_header(&mut bytes)?;
    ArenaHeader::parse(&bytes).map_err(io::Error::other)
}

fn choose(header: &ArenaHeader, wanted: Wanted) -> Option<RangeInclusive<Generation>> {
    let window = match wanted {
        Wanted::Only(number) => {
            let there = number >= header.oldest && number <= header.complete;
            return there.then_some(number..=number);
        }
        Wanted::Last(window) => window,
    };
    // A generation that is registered but not complete is being written, or nearly was.
    let mut last = header.complete;
    if header.running.0 != 0 {
        last = header.running.max(header.complete);
    }
    let now = clock::monotonic();
    let mut first = last;
    header.entry(first)?;
    while first > header.oldest
        && header.entry(first).is_some_and(|e| e.began.monotonic.0 > now.0.saturating_sub(window.0))
        && header.entry(Generation(first.0 - 1)).is_some_and(|entry| entry.start >= header.tail)
    {
        first = Generation(first.0 - 1);
    }
    Some(first..=last)
}
