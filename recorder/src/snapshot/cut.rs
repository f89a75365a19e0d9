//! The cut: which generations are copied out of the arena, and which of their contents count.
//!
//! A generation that is still being written is cut consistently: first the reader reads every
//! block's `committed` word, then it copies everything. Events count only up to the first reading,
//! definitions and statuses wherever they are. A definition is committed before its id is
//! published, so every event of the first reading finds its definition in the second.
//!
//! The first reading takes a while, so by itself it could include an event without the one that
//! caused it. Therefore the copy ends at a time taken before the first reading, and later events do
//! not count. If an event that counts was caused by another, that one was earlier, too, and was
//! committed when its call returned, before the first reading began.
//!
//! So the second reading may come as late as necessary, and go generation by generation: what
//! counts stays the same, as long as it is not overwritten.

#![forbid(unsafe_code)]

use crate::arena::arena_read::Source;
use crate::fault::{self, Point};
use crate::os::clock;
use crate::os::mode::Mode;
use crate::snapshot::part::Part;
use lookback_snapshot::file::FileBlock;
use lookback_snapshot::wire::{
    ArenaHeader, BLOCK_GRANULE, Block, BlockHeader, ClockRecord, Generation, GenerationEntry,
    Nanos, Position,
};
use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;

/// See the module.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Oldest first; at least one.
    pub(crate) extents: Vec<Extent>,
    /// The end of the last generation.
    pub(crate) end: Position,
    /// Where events end in the blocks of incomplete generations, by position.
    cuts: Vec<(Position, u32)>,
}

/// The extent of a generation in the arena.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) part: Part,
    /// Its start, and the start of the next one.
    pub(crate) start: Position,
    pub(crate) next: Position,
    /// Blocks that stragglers have written after `next`.
    pub(crate) beyond: Beyond,
}

/// Which blocks of a generation lie after the start of the next one.
#[derive(Debug)]
pub(crate) enum Beyond {
    /// All of them lie before this.
    Until(Position),
    /// These, with their lengths.
    Blocks(Vec<(Position, u32)>),
}

/// The outcome of reading what writers may overwrite.
pub(crate) enum Attempt<T> {
    /// Done: the result, or `None` if there was nothing to read.
    Done(Option<T>),
    /// Writers were faster: choose again from what is left.
    Overtaken,
}

impl<T> Attempt<T> {
    /// The generations wanted are not in the table. A single generation may be gone for good, but
    /// something of the window always remains.
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
    /// This much of the past, and the running generation.
    Last(Nanos),
    /// This generation, which is over.
    Only(Generation),
}

impl Cut {
    /// Makes the cut: does the first reading.
    pub(crate) fn make(
        arena: &impl Source,
        mode: Mode,
        wanted: Wanted,
    ) -> io::Result<Attempt<Self>> {
        // Taken before reading anything: events recorded later do not count.
        let ended = clock::instant(mode, 0);
        fault::point(Point::Look);
        let header = read_header(arena)?;
        let Some(numbers) = choose(&header, wanted, &ended) else {
            return Ok(Attempt::none(wanted));
        };
        let each = || (numbers.start().0..=numbers.end().0).map(Generation);
        let is_complete = |number| header.entry(number).is_some_and(GenerationEntry::is_complete);
        // The first reading: where events end in incomplete generations.
        let mut cuts = Vec::new();
        let mut stray: HashMap<Generation, Vec<(Position, u32)>> = HashMap::new();
        if let Some(entry) =
            each().find(|number| !is_complete(*number)).and_then(|n| header.entry(n))
        {
            if !is_range(&header, entry.start, header.head) {
                return Ok(Attempt::Overtaken);
            }
            walk(arena, entry.start, header.head, |block, records| {
                cuts.push((block.position, records));
                let next = header.entry(block.generation.next());
                if next.is_some_and(|next| block.position >= next.start) {
                    stray.entry(block.generation).or_default().push((block.position, block.length));
                }
            })?;
        }
        // Generations given up so far are left out here, those given up from now on after the copy.
        let now = read_header(arena)?;
        // An entry that reads the same twice was not overwritten in between.
        let entry = |number: Generation| {
            let (before, after) = (header.entry(number)?, now.entry(number)?);
            let is_same = before.start == after.start && before.began == after.began;
            (is_same && before.start >= now.tail).then_some(before)
        };
        let mut extents: Vec<Extent> = Vec::new();
        for entry in each().filter_map(entry) {
            let (number, complete) = (entry.number, entry.is_complete());
            let behind = header.entry(number.next());
            let ended = match behind {
                Some(next) if complete => next.began,
                _ => end_of(&entry.began, ended),
            };
            let part = Part { number, complete, began: entry.began, ended };
            let next = behind.map_or(now.head, |next| next.start);
            let beyond = match complete {
                true => Beyond::Until(entry.end),
                false => Beyond::Blocks(stray.remove(&number).unwrap_or_default()),
            };
            extents.push(Extent { part, start: entry.start, next, beyond });
        }
        let Some(first) = extents.first() else { return Ok(Attempt::none(wanted)) };
        let end = match (wanted, extents.last()) {
            (Wanted::Only(_), Some(Extent { beyond: Beyond::Until(end), .. })) => *end,
            _ => now.head,
        };
        let in_order = extents.windows(2).all(|pair| pair[0].next <= pair[1].start);
        let in_range = |e: &Extent| {
            e.start <= e.next && e.next <= end && e.until().is_none_or(|until| until <= end)
        };
        if !in_order || !is_range(&now, first.start, end) || !extents.iter().all(in_range) {
            return Ok(Attempt::Overtaken);
        }
        Ok(Attempt::Done(Some(Self { extents, end, cuts })))
    }

    /// A block as a file holds it; `None` if nothing in it counts.
    pub(crate) fn counted<'a>(&self, block: Block<'a>, complete: bool) -> Option<FileBlock<'a>> {
        let whole = block.records.len() as u32;
        let cut =
            if complete { whole } else { whole.min(self.first_reading(block.header.position)) };
        (whole > 0).then_some(FileBlock { block, cut })
    }

    /// How many bytes of records the first reading found in the block at this position.
    fn first_reading(&self, position: Position) -> u32 {
        let found = self.cuts.binary_search_by_key(&position, |(position, _)| *position);
        found.map_or(0, |index| self.cuts[index].1)
    }
}

impl Extent {
    fn until(&self) -> Option<Position> {
        match self.beyond {
            Beyond::Until(end) => Some(end),
            Beyond::Blocks(_) => None,
        }
    }

    /// The number of bytes from its start to that of the next generation.
    pub(crate) fn length(&self) -> u64 {
        self.next - self.start
    }
}

/// How many bytes to read at a time when looking for block headers.
const LOOK: u64 = 4096;

/// Visits the blocks in this range without reading their contents: passes each header, and the
/// number of committed bytes of records.
pub(crate) fn walk(
    arena: &impl Source,
    from: Position,
    to: Position,
    mut each: impl FnMut(&BlockHeader, u32),
) -> io::Result<()> {
    let mut bytes = [0; LOOK as usize];
    let mut at = from;
    while at < to && to - at >= BLOCK_GRANULE as u64 {
        let read = &mut bytes[..LOOK.min(to - at) as usize];
        arena.copy_to(at.0, read)?;
        let end = at + read.len() as u64;
        while at < end && end - at >= BLOCK_GRANULE as u64 {
            let front = Block::front(&read[read.len() - (end - at) as usize..], at);
            let length =
                front.as_ref().map_or(BLOCK_GRANULE as u64, |(header, _)| u64::from(header.length));
            if length > to - at {
                return Ok(());
            }
            if let Some((header, Some(records))) = front {
                each(&header, records);
            }
            at = at + length;
        }
    }
    Ok(())
}

/// The end of a generation that is still being written, which is cut there. The clocks of two
/// threads differ by the time between two readings of one of them.
fn end_of(began: &ClockRecord, ended: ClockRecord) -> ClockRecord {
    let monotonic = ended.monotonic.max(began.monotonic);
    ClockRecord { monotonic, frequency: began.frequency, ..ended }
}

fn read_header(arena: &impl Source) -> io::Result<ArenaHeader> {
    let mut header = ArenaHeader::parse(&arena.copy_header()?).map_err(io::Error::other)?;
    // Blocks beyond this have been carved but not written.
    header.head = header.head.min(header.growing.map_or(header.head, Position));
    if header.capacity != arena.capacity() {
        return Err(io::Error::other("the arena's capacity has changed"));
    }
    Ok(header)
}

/// Whether these positions can be a range of the arena. A header is not read atomically.
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
            let there =
                number >= header.oldest && number < header.running.max(header.complete.next());
            return there.then_some(number..=number);
        }
        Wanted::Last(window) => window,
    };
    let begin = now.monotonic.0.saturating_sub(window.0);
    // A generation in the table that is not over is being written, or was about to be.
    let mut last = header.complete;
    if header.running.0 != 0 {
        last = header.running.max(header.complete);
    }
    // A generation that began after the end has no events that count.
    while header.entry(last)?.began.ticks > now.ticks && last > header.oldest {
        last = Generation(last.0 - 1);
    }
    // Everything in the arena began after the end: the reader was held up for that long.
    if header.entry(last)?.began.ticks > now.ticks {
        return None;
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
