//! Makes a snapshot from the arena of a process that has ended or does not run.
//!
//! No process writes to such an arena any more, so everything committed counts: complete generations, and the
//! one or two that are not, which end with their last event.
//!
//! The arena may be damaged: cut by a power failure, or overwritten by another program. Then the blocks
//! themselves replace its header, and damage costs no more than the block that it is in.

mod crash_stack;
mod scan;
mod utc;

use self::crash_stack::CrashBlock;
use crate::file::{FileBlock, FileWriter, GenerationFrame};
use crate::read::{FrameContents, look_into};
use crate::wire::{
    ArenaHeader, Block, ClockRecord, CrashNote, Generation, Metadata, Nanos, Position, Ticks,
    encode_event_table, key, offset,
};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Why nothing can be recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Not an arena, or one of another version.
    #[error("at byte 0: {0}")]
    NoArena(&'static str),
    /// An arena without any generation.
    #[error(
        "at byte {}: no block of a generation is left, so there is nothing to recover",
        offset::DATA
    )]
    Empty,
}

/// The content of an arena.
#[derive(Debug)]
pub struct Recovered<'a> {
    header: ArenaHeader,
    metadata: Metadata,
    generations: Vec<GenerationFrame<'a>>,
    /// The stack of the thread that got the fatal signal, in the newest of these.
    crash: Option<CrashBlock>,
    damage: Vec<String>,
}

/// Reads an arena that no process writes to.
///
/// ```no_run
/// use lookback_snapshot::recover::recover;
/// let arena = std::fs::read("/dev/shm/my-service.lookback")?;
/// let mut recovered = recover(&arena)?;
/// println!("{}, {} ns of it", recovered.reason(), recovered.covered().0);
/// let reason = recovered.reason();
/// recovered.write_to(std::fs::File::create("incident.lbk")?, &reason, "recover")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Nothing can be recovered. Damage is not an error: see [`Recovered::damage`].
pub fn recover(arena: &[u8]) -> Result<Recovered<'_>, RecoverError> {
    let mut damage = Vec::new();
    let mut header = ArenaHeader::parse_damaged(arena, |what| damage.push(what.to_owned()))
        .map_err(RecoverError::NoArena)?;
    let data = &arena[offset::DATA..];
    let capacity = scan::capacity(data, header.capacity).ok_or(RecoverError::Empty)?;
    if capacity != header.capacity {
        damage.push(format!("the capacity in its header does not fit its {} bytes", arena.len()));
    } else if (data.len() as u64) < capacity {
        let whole = offset::DATA as u64 + capacity;
        damage.push(format!("it was cut at byte {} of {whole}", arena.len()));
    }
    let mut blocks = scan::blocks(data, capacity);
    let bounds = Bounds::of(&header, &blocks, &mut damage);
    if bounds.are_unknown() {
        // Do not trust its counts either.
        header.lost.clear();
        header.lost_untold.clear();
        header.nameless = 0;
        header.unshared_texts = 0;
        header.refused_barriers = 0;
    }
    blocks.retain(|block| bounds.hold(block));
    let mut found = BTreeMap::<Generation, Vec<Block<'_>>>::new();
    for block in blocks {
        found.entry(block.header.generation).or_default().push(block);
    }
    let mut generations: Vec<_> = found
        .into_iter()
        .map(|(number, blocks)| Part::new(number, blocks, &header, &mut damage))
        .collect();
    finish(&mut generations, &header);
    let mut generations: Vec<_> = generations.into_iter().map(|part| part.frame).collect();
    if generations.iter().any(|frame| frame.complete && frame.number > header.complete) {
        // The process died between a generation's end record and the note of its losses.
        header.lost_untold.clear();
    }
    if generations.is_empty() {
        return Err(RecoverError::Empty);
    }
    let metadata = Metadata::decode(&header.metadata).unwrap_or_else(|error| {
        damage.push(error.to_string());
        Metadata::default()
    });
    let crash = header.crash.as_ref().filter(|crash| !crash.survived);
    if let (Some(CrashNote { stack: Some(_), ticks, .. }), Some(last)) = (crash, generations.last())
        && last.complete
    {
        // Nothing more belongs to it: the process has died before the next one had a block.
        let (number, began) = (last.number.next(), last.ended);
        let ended = at(&began, (*ticks).max(began.ticks));
        let blocks = Vec::new();
        generations.push(GenerationFrame { number, complete: false, began, ended, blocks });
    }
    let crash = crash.and_then(|crash| CrashBlock::new(crash, &generations));
    Ok(Recovered { header, metadata, generations, crash, damage })
}

impl Recovered<'_> {
    /// The arena's header.
    #[must_use]
    pub fn header(&self) -> &ArenaHeader {
        &self.header
    }

    /// The damage, a line each.
    #[must_use]
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// The numbers of the generations, oldest first, and whether each is complete.
    pub fn generations(&self) -> impl Iterator<Item = (Generation, bool)> {
        self.generations.iter().map(|frame| (frame.number, frame.complete))
    }

    /// How far back the snapshot goes.
    #[must_use]
    pub fn covered(&self) -> Nanos {
        let ends = self.generations.first().zip(self.generations.last());
        ends.map_or(Nanos(0), |(first, last)| {
            Nanos(last.ended.monotonic.0.saturating_sub(first.began.monotonic.0))
        })
    }

    /// How the process ended, as far as the arena shows, in a few words.
    #[must_use]
    pub fn reason(&self) -> String {
        match &self.header.crash {
            Some(crash) if !crash.survived => crash.in_words(),
            _ if self.header.ended => "the recording was ended in order".to_owned(),
            _ => "the process was killed, or it exited without stopping its recorder".to_owned(),
        }
    }

    /// Writes a snapshot, and returns its length in bytes. `reason` and `trigger` say why it was taken.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to<W: Write>(&mut self, out: W, reason: &str, trigger: &str) -> io::Result<u64> {
        let mut writer = FileWriter::new(out, &self.describe(reason, trigger))?;
        let newest = self.generations.len().saturating_sub(1);
        for (index, frame) in self.generations.iter_mut().enumerate() {
            match self.crash.as_ref().filter(|_| index == newest) {
                Some(crash) => {
                    let mut frame = frame.clone();
                    frame.blocks.push(crash.block());
                    writer.generation(&mut frame)?;
                }
                None => writer.generation(frame)?,
            }
        }
        let bytes = writer.bytes_written();
        writer.finish()?;
        Ok(bytes)
    }

    fn describe(&self, reason: &str, trigger: &str) -> Metadata {
        let mut metadata = self.metadata.clone();
        metadata.add(key::COVERED, self.covered().0);
        metadata.add(key::REASON, reason);
        metadata.add(key::TRIGGER, trigger);
        metadata.add(key::WINDOW, self.header.window.0);
        metadata.add(key::MAX_BYTES, self.header.capacity.saturating_add(offset::DATA as u64));
        metadata.add(key::CLOCK, self.header.clock.name());
        if let Some(last) = self.generations.last() {
            metadata.add(key::TAKEN, utc::rfc3339(last.ended.wall));
            metadata.add(key::TAKEN_WALL, last.ended.wall.0);
            metadata.add(key::CLOCK_FREQUENCY, last.ended.frequency);
        }
        if let Some(crash) = self.header.crash.as_ref().filter(|crash| !crash.survived) {
            metadata.add(key::CRASH_SIGNAL, u64::from(crash.signal.unsigned_abs()));
            metadata.add(key::CRASH_ADDRESS, crash.address);
            metadata.add(key::CRASH_INSTRUCTION, crash.instruction);
            metadata.add(key::CRASH_THREAD, crash.thread.0);
            metadata.add(key::CRASH_OS_THREAD, crash.os_thread);
            metadata.add(key::CRASH_THREAD_NAME, crash.thread_name.as_str());
            metadata.add(key::CRASH_WALL, crash.wall.0);
        }
        self.header.add_losses_to(&mut metadata);
        metadata.add(key::EVENT_TABLE, encode_event_table());
        metadata
    }
}

/// The range of positions and generations of valid blocks: others are from earlier laps.
struct Bounds {
    tail: Position,
    head: Position,
    oldest: Generation,
    newest: Generation,
}

impl Bounds {
    const NONE: Self = Self {
        tail: Position(0),
        head: Position(u64::MAX),
        oldest: Generation(0),
        newest: Generation(u64::MAX),
    };

    fn of(header: &ArenaHeader, blocks: &[Block<'_>], damage: &mut Vec<String>) -> Self {
        let newest = header.running.max(header.complete);
        let sane = header.tail <= header.head
            && header.head - header.tail <= header.capacity
            && header.oldest <= newest
            && header.complete <= newest;
        // A generation is published after its number was written here. If a block lies behind the head, or
        // its generation does not exist yet, this header is damaged.
        let later = |block: &Block<'_>| {
            block.header.generation > newest || block.header.position >= header.head
        };
        if !sane || blocks.iter().any(later) {
            damage.push("its header contradicts its blocks, and is ignored".to_owned());
            return Self::NONE;
        }
        Self { tail: header.tail, head: header.head, oldest: header.oldest, newest }
    }

    fn are_unknown(&self) -> bool {
        self.newest == Self::NONE.newest
    }

    fn hold(&self, block: &Block<'_>) -> bool {
        scan::is_between(block, self.tail, self.head)
            && (self.oldest..=self.newest).contains(&block.header.generation)
    }
}

/// A generation found in the arena.
struct Part<'a> {
    frame: GenerationFrame<'a>,
    contents: FrameContents,
}

impl<'a> Part<'a> {
    fn new(
        number: Generation,
        mut blocks: Vec<Block<'a>>,
        header: &ArenaHeader,
        damage: &mut Vec<String>,
    ) -> Self {
        blocks.sort_by_key(|block| (block.header.slot, block.header.sequence));
        let before = blocks.len();
        blocks.dedup_by_key(|block| (block.header.slot, block.header.sequence));
        if blocks.len() < before {
            damage.push(format!("generation {number}: two blocks claim to be the same one"));
        }
        let began = header.entry(number).map(|entry| entry.began);
        let began = began.filter(|began| began.frequency != 0).unwrap_or_else(|| {
            // Without its entry, only the blocks of a generation have times.
            let ticks = blocks.iter().map(|block| block.header.base).min().unwrap_or_default();
            ClockRecord { ticks, ..ClockRecord::default() }
        });
        let cut = |block: Block<'a>| FileBlock { block, cut: block.records.len() as u32 };
        let mut frame = GenerationFrame {
            number,
            complete: false,
            began,
            ended: began,
            blocks: blocks.into_iter().map(cut).collect(),
        };
        let contents = look_into(&mut frame).unwrap_or_else(|what| {
            damage.push(format!("generation {number}: {what}"));
            FrameContents::default()
        });
        if contents.faults > 0 {
            damage.push(format!("generation {number}: {} damaged blocks", contents.faults));
        }
        // Slot 0 is the collector's, which counts the other slots' blocks.
        let blocks =
            frame.blocks.iter().filter(|block| block.block.header.slot != 0).count() as u64;
        frame.complete = contents.blocks == Some(blocks);
        if let Some(counted) = contents.blocks.filter(|_| !frame.complete) {
            damage.push(format!("generation {number}: {blocks} of {counted} blocks are there"));
        }
        Self { frame, contents }
    }
}

/// Sets the end of each generation, and the clock of those without one.
fn finish(parts: &mut [Part<'_>], header: &ArenaHeader) {
    // The first clock record stands in for missing ones.
    let known = parts.iter().map(|part| part.frame.began).find(|began| began.frequency != 0);
    let known = known.unwrap_or(ClockRecord { frequency: 1_000_000_000, ..ClockRecord::default() });
    for part in &mut *parts {
        if part.frame.began.frequency == 0 {
            part.frame.began = at(&known, part.frame.began.ticks);
        }
    }
    let newest = parts.last().map(|part| part.frame.number);
    for Part { frame, contents } in parts {
        let next = header.entry(frame.number.next()).map(|entry| entry.began);
        let next = next.filter(|next| frame.complete && next.frequency != 0);
        let is_newest = Some(frame.number) == newest;
        let crash = header.crash.as_ref().filter(|_| is_newest).map(|crash| crash.ticks);
        // An event at the very end still counts.
        let latest = contents.latest.max(crash).unwrap_or_default().max(frame.began.ticks);
        frame.ended = next.unwrap_or_else(|| at(&frame.began, latest));
    }
}

/// The instant of these ticks by all clocks, computed from a known instant.
fn at(known: &ClockRecord, ticks: Ticks) -> ClockRecord {
    let elapsed = i128::from(ticks.0) - i128::from(known.ticks.0);
    let nanos = elapsed * 1_000_000_000 / i128::from(known.frequency.max(1));
    let shifted = |nanos_then: Nanos| {
        Nanos(u64::try_from(i128::from(nanos_then.0) + nanos).unwrap_or(if nanos < 0 {
            0
        } else {
            u64::MAX
        }))
    };
    ClockRecord {
        ticks,
        monotonic: shifted(known.monotonic),
        wall: shifted(known.wall),
        frequency: known.frequency,
    }
}
