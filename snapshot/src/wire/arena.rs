//! The arena's header: what an outside reader needs, at fixed offsets of the mapping.
//!
//! The data follows the header as a ring: position `p` lies at `header_length + p % capacity`.

use super::{
    ClockKind, ClockRecord, CrashNote, Generation, Loss, Metadata, Nanos, Position, Ticks, key,
};

/// The first eight bytes of an arena.
pub const ARENA_MAGIC: [u8; 8] = *b"LBARENA\n";

/// The version of the arena's layout.
pub const ARENA_VERSION: u32 = 1;

/// How many generations the table holds. Generation `g` has entry `g % GENERATION_SLOTS`.
pub const GENERATION_SLOTS: usize = 1024;

/// Offsets of the header's fields, in bytes.
pub mod offset {
    /// [`ARENA_MAGIC`](super::ARENA_MAGIC).
    pub const MAGIC: usize = 0;
    /// u32, the version of the layout.
    pub const VERSION: usize = 8;
    /// u32, where the data begins.
    pub const HEADER_LENGTH: usize = 12;
    /// u64, how many bytes of data there are.
    pub const CAPACITY: usize = 16;
    /// u32, the ID of the writing process.
    pub const PID: usize = 24;
    /// u32, the [`ClockKind`](super::ClockKind).
    pub const CLOCK_KIND: usize = 28;
    /// u64, when the process started, in the kernel's clock ticks since boot.
    pub const PROCESS_START: usize = 32;
    /// 16 bytes, the machine's boot ID.
    pub const BOOT_ID: usize = 40;
    /// u64, the configured window, in nanoseconds.
    pub const WINDOW: usize = 56;
    /// u64, the process's PID namespace, 0 where there is none.
    pub const PID_NAMESPACE: usize = 64;
    /// u64, how many bytes of data have memory behind them, while the arena grows; 0 once all have.
    pub const GROWING: usize = 72;
    /// u64, the head: where the next block is carved.
    pub const HEAD: usize = 128;
    /// u64, the tail: data before it may be overwritten at any time.
    pub const TAIL: usize = 192;
    /// u64, the oldest generation that is kept.
    pub const OLDEST: usize = 200;
    /// u64, the newest generation that is complete.
    pub const COMPLETE: usize = 256;
    /// u64, the running generation, 0 when tracing is off.
    pub const RUNNING: usize = 264;
    /// u64, 1 once the recording was ended in order. 0 in the box of a process that died.
    pub const ENDED: usize = 272;
    /// u64, how often the kernel refused `membarrier` to a thread that writes.
    pub const REFUSED_BARRIERS: usize = 280;
    /// u64, how often the whole process was stopped for a while.
    pub const STOPS: usize = 288;
    /// u64, how many snapshots of triggers could not be saved.
    pub const FAILED_SAVES: usize = 296;
    /// 512 bytes for the note of a crash: see [`CrashNote`](super::CrashNote).
    pub const CRASH_NOTE: usize = 320;
    /// u64 for each cause of loss, at eight times its code: events lost since the recording began.
    pub const LOST: usize = 832;
    /// Like [`LOST`], but only losses that the end record of a generation reports.
    pub const LOST_AND_TOLD: usize = 928;
    /// u64, how many texts were written out because the table of texts was full.
    pub const UNSHARED_TEXTS: usize = 1008;
    /// u64, how many callsites and kinds of tasks found the recorder's table full.
    pub const NAMELESS: usize = 1016;
    /// u32, the length of the metadata, then the metadata itself, up to the note of saves. Behind the metadata lie the
    /// files of a crash's stack: see [`CrashStack`](crate::wire::CrashStack).
    pub const METADATA: usize = 1024;
    /// A [`TextNote`](super::TextNote): why snapshots cannot be saved, up to the filter.
    pub const SAVES: usize = 3584;
    /// A [`TextNote`](super::TextNote): the filters, a line each, up to the table.
    pub const FILTER: usize = 3840;
    /// The generation table.
    pub const GENERATIONS: usize = 4096;
    /// The size of an entry of the table.
    pub const ENTRY: usize = 64;
    /// Where the data begins in this version.
    pub const DATA: usize = GENERATIONS + ENTRY * super::GENERATION_SLOTS;

    const COUNTS: usize = 8 * (super::Loss::ALL.len() + 1);
    const _: () =
        assert!(LOST + COUNTS <= LOST_AND_TOLD && LOST_AND_TOLD + COUNTS <= UNSHARED_TEXTS);
    const _: () = assert!(SAVES + 8 + super::TextNote::ROOM == FILTER);
    const _: () = assert!(FILTER + 8 + super::TextNote::ROOM == GENERATIONS);
}

/// An entry of the generation table: eight u64, in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GenerationEntry {
    /// Its generation number. Written last.
    pub number: Generation,
    /// No block of the generation lies before this position.
    pub start: Position,
    /// No block of the generation lies at or after this position, if it is [complete](Self::is_complete).
    pub end: Position,
    /// When it began, with the clock frequency known then.
    pub began: ClockRecord,
    /// How many events it holds, if it is complete.
    pub events: u64,
}

impl GenerationEntry {
    /// Whether the generation is complete: the collector listed everything silent in it at its end. A
    /// generation that is not complete may have ended all the same.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end > self.start
    }
}

/// An arena's header, read from a copy of its first [`offset::DATA`] bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ArenaHeader {
    /// How many bytes of data there are.
    pub capacity: u64,
    /// The ID of the process that writes, or wrote.
    pub pid: u32,
    /// Its clock.
    pub clock: ClockKind,
    /// When the process started, in the kernel's clock ticks since boot.
    pub process_start: u64,
    /// The machine's boot ID.
    pub boot_id: [u8; 16],
    /// The process's PID namespace, 0 where there is none.
    pub pid_namespace: u64,
    /// The configured window.
    pub window: Nanos,
    /// Whether the recording was ended in order.
    pub ended: bool,
    /// The note of a fatal signal, if there is one.
    pub crash: Option<CrashNote>,
    /// Events lost since the recording began, by cause; causes that did not occur are left out.
    pub lost: Vec<(Loss, u64)>,
    /// For each of these causes, the losses that no end record reports; may be 0.
    pub lost_untold: Vec<(Loss, u64)>,
    /// How many callsites and kinds of tasks found the table full.
    pub nameless: u64,
    /// How many texts, at least, were written out because the table of texts was full.
    pub unshared_texts: u64,
    /// How often the kernel refused `membarrier` to a thread that writes.
    pub refused_barriers: u64,
    /// How often the whole process was stopped for a while.
    pub stops: u64,
    /// How many snapshots of triggers could not be saved.
    pub failed_saves: u64,
    /// Why they could not, or cannot be, as far as that is known.
    pub saves: Option<String>,
    /// What is recorded of `tracing` and of the `log` crate.
    pub filters: Vec<String>,
    /// How many bytes of data have memory behind them while the arena grows; `None` once all have.
    pub growing: Option<u64>,
    /// Where the next block is carved.
    pub head: Position,
    /// Data before this position may be overwritten at any time.
    pub tail: Position,
    /// The oldest generation kept.
    pub oldest: Generation,
    /// The newest complete generation.
    pub complete: Generation,
    /// The running generation, 0 when off.
    pub running: Generation,
    /// The encoded metadata.
    pub metadata: Vec<u8>,
    entries: Vec<GenerationEntry>,
}

impl ArenaHeader {
    /// Reads a header.
    ///
    /// # Errors
    /// Says in words what is wrong: not an arena, another version, impossible fields.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut wrong = None;
        let header = Self::parse_damaged(bytes, |what| {
            wrong.get_or_insert(what);
        })?;
        wrong.map_or(Ok(header), Err)
    }

    /// Reads a header that may be damaged: passes each impossible field to `complain` and reads it as 0, an
    /// unknown clock as the processor's counter.
    ///
    /// # Errors
    /// The bytes are not an arena's header, or of a version that this program does not know.
    pub fn parse_damaged(
        bytes: &[u8],
        mut complain: impl FnMut(&'static str),
    ) -> Result<Self, &'static str> {
        if bytes.len() < offset::DATA {
            return Err("shorter than an arena's header, so there is nothing to read");
        }
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if bytes[..8] != ARENA_MAGIC {
            return Err("not an arena of lookback: it starts with other bytes");
        }
        if u32_at(offset::VERSION) != ARENA_VERSION {
            return Err("an arena of another version; use the `lookback` of the service's version");
        }
        if u32_at(offset::HEADER_LENGTH) as usize != offset::DATA {
            complain("an arena whose header has an impossible length");
        }
        let mut capacity = u64_at(offset::CAPACITY);
        if capacity == 0 || !capacity.is_multiple_of(super::BLOCK_GRANULE as u64) {
            complain("an arena with an impossible capacity");
            capacity = 0;
        }
        let clock = ClockKind::from_code(u32_at(offset::CLOCK_KIND)).unwrap_or_else(|| {
            complain("an arena with a clock that this program does not know");
            ClockKind::Tsc
        });
        let entries = (0..GENERATION_SLOTS)
            .map(|index| {
                let word = |n: usize| u64_at(offset::GENERATIONS + index * offset::ENTRY + n * 8);
                GenerationEntry {
                    number: Generation(word(0)),
                    start: Position(word(1)),
                    end: Position(word(2)),
                    began: ClockRecord {
                        ticks: Ticks(word(3)),
                        monotonic: Nanos(word(4)),
                        wall: Nanos(word(5)),
                        frequency: word(6),
                    },
                    events: word(7),
                }
            })
            .collect();
        let length = u32_at(offset::METADATA) as usize;
        let room = &bytes[offset::METADATA + 4..offset::GENERATIONS];
        let metadata = room.get(..length).unwrap_or_else(|| {
            complain("an arena whose metadata has an impossible length");
            &[]
        });
        let lost = Loss::ALL.map(|cause| (cause, u64_at(offset::LOST + 8 * cause as usize)));
        let lost: Vec<_> = lost.into_iter().filter(|(_, count)| *count > 0).collect();
        let untold = |(cause, count): &(Loss, u64)| {
            let told = u64_at(offset::LOST_AND_TOLD + 8 * *cause as usize);
            (*cause, count.saturating_sub(told))
        };
        let lost_untold = lost.iter().map(untold).collect();
        Ok(Self {
            capacity,
            pid: u32_at(offset::PID),
            clock,
            process_start: u64_at(offset::PROCESS_START),
            boot_id: std::array::from_fn(|i| bytes[offset::BOOT_ID + i]),
            pid_namespace: u64_at(offset::PID_NAMESPACE),
            window: Nanos(u64_at(offset::WINDOW)),
            ended: u64_at(offset::ENDED) == 1,
            crash: CrashNote::parse(bytes),
            lost,
            lost_untold,
            nameless: u64_at(offset::NAMELESS),
            unshared_texts: u64_at(offset::UNSHARED_TEXTS),
            refused_barriers: u64_at(offset::REFUSED_BARRIERS),
            stops: u64_at(offset::STOPS),
            failed_saves: u64_at(offset::FAILED_SAVES),
            saves: TextNote::read(&bytes[offset::SAVES..offset::FILTER]).into_iter().next(),
            filters: TextNote::read(&bytes[offset::FILTER..offset::GENERATIONS]),
            growing: Some(u64_at(offset::GROWING)).filter(|there| *there != 0),
            head: Position(u64_at(offset::HEAD)),
            tail: Position(u64_at(offset::TAIL)),
            oldest: Generation(u64_at(offset::OLDEST)),
            complete: Generation(u64_at(offset::COMPLETE)),
            running: Generation(u64_at(offset::RUNNING)),
            metadata: metadata.to_vec(),
            entries,
        })
    }

    /// Adds losses and filters to the metadata of a snapshot.
    pub fn add_losses_to(&self, metadata: &mut Metadata) {
        self.filters.iter().for_each(|filter| metadata.add(key::FILTER, filter.as_str()));
        if self.nameless > 0 {
            metadata.add(key::NAMELESS, self.nameless);
        }
        if self.unshared_texts > 0 {
            metadata.add(key::UNSHARED_TEXTS, self.unshared_texts);
        }
        if self.refused_barriers > 0 {
            metadata.add(key::REFUSED_BARRIERS, self.refused_barriers);
        }
        if self.stops > 0 {
            metadata.add(key::STOPS, self.stops);
        }
        for (prefix, losses) in [(key::LOST, &self.lost), (key::LOST_UNTOLD, &self.lost_untold)] {
            for (cause, count) in losses {
                metadata.add(&format!("{prefix}{cause}"), *count);
            }
        }
    }

    /// Every used entry of the table, by ascending number.
    #[must_use]
    pub fn generations(&self) -> Vec<&GenerationEntry> {
        let mut used: Vec<_> = self.entries.iter().filter(|entry| entry.number.0 != 0).collect();
        used.sort_by_key(|entry| entry.number);
        used
    }

    /// The table's entry for `generation`, if it is still there.
    #[must_use]
    pub fn entry(&self, generation: Generation) -> Option<&GenerationEntry> {
        let entry = &self.entries[(generation.0 % GENERATION_SLOTS as u64) as usize];
        (entry.number == generation && generation.0 != 0).then_some(entry)
    }
}

/// Lines of text in the arena's header: a word with the text's length (low half) and its CRC-32 (high half),
/// then the text in UTF-8. It holds the filters of `tracing` and of the `log` crate, or why snapshots cannot
/// be saved.
#[derive(Clone, Debug)]
pub struct TextNote(String);

impl TextNote {
    /// How many bytes of text are kept.
    pub const ROOM: usize = 248;

    /// The note of these lines, as many as fit.
    #[must_use]
    pub fn of(lines: &[String]) -> Self {
        let mut note = lines.join("\n");
        if note.len() > Self::ROOM {
            note.truncate(super::floor_char_boundary(&note, Self::ROOM - "…".len()));
            note.push('…');
        }
        Self(note)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Its word; 0 if it is empty.
    #[must_use]
    pub fn word(&self) -> u64 {
        word_of(self.bytes())
    }

    /// The lines of a note; empty if it is being written, or damaged.
    fn read(note: &[u8]) -> Vec<String> {
        let Some((word, text)) = note.split_first_chunk() else { return Vec::new() };
        let word = u64::from_le_bytes(*word);
        let text = text.get(..word as u32 as usize).filter(|text| word_of(text) == word);
        let text = text.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn word_of(bytes: &[u8]) -> u64 {
    if bytes.is_empty() { 0 } else { u64::from(crc32fast::hash(bytes)) << 32 | bytes.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn losses_are_told_from_those_that_nobody_tells() {
        let mut bytes = vec![0_u8; offset::DATA];
        bytes[..8].copy_from_slice(&ARENA_MAGIC);
        bytes[offset::VERSION] = 1;
        bytes[offset::LOST + 8 * Loss::ArenaFull as usize] = 9;
        bytes[offset::LOST_AND_TOLD + 8 * Loss::ArenaFull as usize] = 7;
        bytes[offset::LOST + 8 * Loss::NoPlace as usize] = 1;
        bytes[offset::LOST_AND_TOLD + 8 * Loss::NoPlace as usize] = 2;
        let header = ArenaHeader::parse_damaged(&bytes, |_| ()).unwrap();
        assert_eq!(header.lost, [(Loss::ArenaFull, 9), (Loss::NoPlace, 1)]);
        assert_eq!(header.lost_untold, [(Loss::ArenaFull, 2), (Loss::NoPlace, 0)]);
        let mut metadata = Metadata::default();
        header.add_losses_to(&mut metadata);
        assert_eq!(metadata.number("lost.arena_full"), Some(9));
        assert_eq!(metadata.number("lost_untold.arena_full"), Some(2));
        assert_eq!(metadata.number("lost_untold.no_place"), Some(0));
    }

    #[test]
    fn a_note_is_read_whole_or_not_at_all() {
        let mut room = [0_u8; 8 + TextNote::ROOM];
        let put = |room: &mut [u8], note: &TextNote| {
            room[..8].copy_from_slice(&note.word().to_le_bytes());
            room[8..][..note.bytes().len()].copy_from_slice(note.bytes());
        };
        assert!(TextNote::read(&room).is_empty());
        let filters = ["info,hyper=warn".to_owned(), "trace".to_owned()];
        put(&mut room, &TextNote::of(&filters));
        assert_eq!(TextNote::read(&room), filters);
        room[9] ^= 1;
        assert!(TextNote::read(&room).is_empty());
        put(&mut room, &TextNote::of(&["ä".repeat(300)]));
        let read = TextNote::read(&room);
        assert!(read.len() == 1 && read[0].ends_with("ä…"), "{read:?}");
    }

    proptest! {
        #[test]
        fn a_damaged_header_is_survived(damage: Vec<(u16, u8)>) {
            let mut bytes = vec![0_u8; offset::DATA];
            bytes[..8].copy_from_slice(&ARENA_MAGIC);
            bytes[offset::VERSION] = 1;
            bytes[offset::HEADER_LENGTH..][..4].copy_from_slice(&(offset::DATA as u32).to_le_bytes());
            bytes[offset::CAPACITY + 1] = 16;
            prop_assert!(ArenaHeader::parse(&bytes).is_ok());
            for (at, byte) in damage {
                bytes[at as usize] = byte;
            }
            let _ = ArenaHeader::parse(&bytes);
        }
    }
}
