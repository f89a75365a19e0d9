//! Copying the window out of the arena, as any reader would, inside the process or outside.
//!
//! # The cut
//!
//! A generation that is still being written is cut where it makes sense: first every block's
//! `committed` is read, then everything is copied. Events count up to the first reading, definitions
//! and statuses wherever they stand: a definition is committed before its id is published, so every
//! event of the first reading finds its definition in the second.
//!
//! The first reading takes a while, so it alone could hold an event and not the one that caused it.
//! That is why the copy has an end in time, from before the first reading, and later events do not
//! count. If an event that counts was caused by another, that one was earlier, too, and was committed
//! when its call returned, before the first reading began.
//!
//! The copy is sound from wherever the tail stands when it is done: see `ring`.

#![forbid(unsafe_code)]

use crate::clock;
use crate::control::Mode;
use crate::pages::Pages;
use crate::source::Source;
use lookback_snapshot::file::{FileBlock, GenerationFrame};
use lookback_snapshot::wire::{
    ArenaHeader, Block, Blocks, ClockRecord, Generation, GenerationEntry, Metadata, Nanos, Position,
    key, needed_bytes,
};
use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;

/// A copy of some generations.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Pages,
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
    /// Copied; or there is nothing to copy.
    Done(Option<Window>),
    /// Writers were faster: what is left is to be chosen anew.
    Overtaken,
}

impl Attempt {
    /// What is wanted is not in the table: one generation may be gone for good, but of the window
    /// there is always something.
    fn none(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Last(_) => Self::Overtaken,
            Wanted::Only(_) => Self::Done(None),
        }
    }
}

/// Which generations to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// So much of the past, and all that is running.
    Last(Nanos),
    /// This one, which is over.
    Only(Generation),
}

impl Window {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        let (bytes, generations) = (Pages::new(), Vec::new());
        Self { bytes, start: Position(0), generations, cuts: HashMap::new() }
    }

    /// Copies. `None` if there is nothing of what is wanted (any more).
    pub(crate) fn copy(arena: &impl Source, mode: Mode, wanted: Wanted) -> io::Result<Option<Self>> {
        for _ in 0..ATTEMPTS {
            if let Attempt::Done(window) = Self::attempt(arena, mode, wanted)? {
                return Ok(window);
            }
        }
        Ok(None)
    }

    fn attempt(arena: &impl Source, mode: Mode, wanted: Wanted) -> io::Result<Attempt> {
        // Before anything is read: what is recorded later than this does not count.
        let ended = clock::instant(mode, 0);
        let header = read_header(arena)?;
        let numbers = match choose(&header, wanted, &ended) {
            Some(numbers) => numbers,
            None => return Ok(Attempt::none(wanted)),
        };
        // The first reading: where events end in what is not complete.
        let mut bytes = Pages::new();
        let mut cuts = HashMap::new();
        let is_complete = |number| header.entry(number).is_some_and(GenerationEntry::is_complete);
        let mut each = (numbers.start().0..=numbers.end().0).map(Generation);
        if let Some(entry) = each.find(|number| !is_complete(*number)).and_then(|n| header.entry(n)) {
            if !is_range(&header, entry.start, header.head) {
                return Ok(Attempt::Overtaken);
            }
            arena.copy(entry.start.0, header.head - entry.start, &mut bytes)?;
            cuts = Blocks::new(&bytes, entry.start)
                .map(|block| (block.header.position, block.records.len() as u32))
                .collect();
        }
        // The second reading: everything, oldest first, because the oldest is given up first.
        let now = read_header(arena)?;
        // What was given up since then is left out now, what is given up from now on afterwards.
        let kept = |number: &Generation| {
            now.entry(*number).is_some_and(|entry| entry.start >= now.tail)
        };
        let first = (numbers.start().0..=numbers.end().0).map(Generation).find(kept);
        let ends = first.and_then(|first| now.entry(first).zip(now.entry(*numbers.end())));
        let Some((first, last)) = ends else { return Ok(Attempt::none(wanted)) };
        let start = first.start;
        let end = match wanted {
            Wanted::Last(_) => now.head,
            Wanted::Only(_) if last.is_complete() => last.end,
            // Stragglers may have written into the space of later ones.
            Wanted::Only(_) => now.head,
        };
        if !is_range(&now, start, end) {
            return Ok(Attempt::Overtaken);
        }
        arena.copy(start.0, end - start, &mut bytes)?;
        let ended = ClockRecord { frequency: last.began.frequency, ..ended };
        // An entry that was read twice alike was not overwritten while it was read.
        let entry = |number: Generation| {
            let (before, after) = (header.entry(number)?, now.entry(number)?);
            (before.start == after.start && before.began == after.began).then_some(before)
        };
        // The seqlock's check: what lies before this may have been overwritten while it was copied.
        let tail = arena.tail_after_copy()?;
        let generations = (first.number.0..=numbers.end().0)
            .map(Generation)
            .filter_map(|number| Some((number, entry(number)?)))
            .filter(|(_, entry)| entry.start.0 >= tail)
            .map(|(number, entry)| {
                let next = header.entry(number.next()).map(|next| next.began);
                let complete = is_complete(number);
                let ended = next.filter(|_| complete).unwrap_or(ended);
                Part { number, complete, began: entry.began, ended }
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

    /// Notes in the metadata of a snapshot how large the arena would have to be, where much less of the
    /// window is covered than was asked for, and what was recorded before is gone.
    pub(crate) fn note_shortness(&self, metadata: &mut Metadata) {
        let number = |name| metadata.number(name).unwrap_or_default();
        let (begin, window) = (number(key::FIRST_GENERATION), Nanos(number(key::WINDOW)));
        let is_all = self.generations.first().is_none_or(|first| first.number.0 <= begin);
        let covered = self.covered();
        if !is_all && covered.0 < window.0 / 2 {
            let needed = needed_bytes(number(key::MAX_BYTES), window, covered);
            metadata.add(key::NEEDED_BYTES, needed);
        }
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

fn read_header(arena: &impl Source) -> io::Result<ArenaHeader> {
    let header = ArenaHeader::parse(&arena.copy_header()?).map_err(io::Error::other)?;
    if header.capacity != arena.capacity() {
        return Err(io::Error::other("the arena's capacity changes"));
    }
    Ok(header)
}

/// Whether these positions can be a piece of the arena: a header is not read at one instant.
fn is_range(header: &ArenaHeader, start: Position, end: Position) -> bool {
    start <= end && end - start <= header.capacity
}

fn choose(
    header: &ArenaHeader,
    wanted: Wanted,
    now: &ClockRecord,
) -> Option<RangeInclusive<Generation>> {
    let window = match wanted {
        Wanted::Only(number) => {
            let there = number >= header.oldest && number < header.running.max(header.complete.next());
            return there.then_some(number..=number);
        }
        Wanted::Last(window) => window,
    };
    let begin = now.monotonic.0.saturating_sub(window.0);
    // A generation that is registered and not over is being written, or nearly was.
    let mut last = header.complete;
    if header.running.0 != 0 {
        last = header.running.max(header.complete);
    }
    // One that began meanwhile has nothing in it yet that counts.
    while header.entry(last)?.began.ticks > now.ticks && last > header.oldest {
        last = Generation(last.0 - 1);
    }
    let mut first = last;
    while first > header.oldest
        && header.entry(first).is_some_and(|e| e.began.monotonic.0 > begin)
        && header.entry(Generation(first.0 - 1)).is_some_and(|entry| entry.start >= header.tail)
    {
        first = Generation(first.0 - 1);
    }
    Some(first..=last)
}
