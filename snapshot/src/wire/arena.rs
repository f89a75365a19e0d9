//! The arena's header: what an outside reader needs to know, at fixed places of the mapping.
//!
//! The header is followed by the data, which is a ring: position `p` lies at
//! `header_length + p % capacity`.

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
    /// u32, the process that writes.
    pub const PID: usize = 24;
    /// u32, the [`ClockKind`](super::ClockKind).
    pub const CLOCK_KIND: usize = 28;
    /// u64, when the process began, in the kernel's clock ticks since boot.
    pub const PROCESS_START: usize = 32;
    /// 16 bytes, the identity of this boot of the machine.
    pub const BOOT_ID: usize = 40;
    /// u64, the window asked for, in nanoseconds.
    pub const WINDOW: usize = 56;
    /// u64, the identity of the process's namespace of process numbers, 0 where there is none.
    pub const PID_NAMESPACE: usize = 64;
    /// u64, how many bytes of data have memory behind them by now, while the arena is being made; 0 once all have.
    pub const GROWING: usize = 72;
    /// u64, the head: where the next block is carved.
    pub const HEAD: usize = 128;
    /// u64, the tail: what lies before may be overwritten at any time.
    pub const TAIL: usize = 192;
    /// u64, the oldest generation that is kept.
    pub const OLDEST: usize = 200;
    /// u64, the newest generation that is complete.
    pub const COMPLETE: usize = 256;
    /// u64, the running generation, 0 when tracing is off.
    pub const RUNNING: usize = 264;
    /// u64, 1 once the recording was ended in order. 0 in the box of a process that died.
    pub const ENDED: usize = 272;
    /// 512 bytes for the note of a crash: see [`CrashNote`](super::CrashNote).
    pub const CRASH_NOTE: usize = 320;
    /// u64 for each cause of loss, at eight times its code: events lost since the recording began.
    pub const LOST: usize = 832;
    /// As [`LOST`], but only those that the end record of a generation tells of.
    pub const LOST_AND_TOLD: usize = 928;
    /// u64, how many texts were written out because the table of texts was full.
    pub const UNSHARED_TEXTS: usize = 1008;
    /// u64, how many callsites and kinds of tasks had no place in the recorder's table.
    pub const NAMELESS: usize = 1016;
    /// u32, the length of the metadata, then the metadata itself, up to the filter.
    pub const METADATA: usize = 1024;
    /// A [`FilterNote`](super::FilterNote): its word, then its text, up to the table.
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
    const _: () = assert!(FILTER + 8 + super::FilterNote::ROOM == GENERATIONS);
}

/// An entry of the generation table: eight u64, in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenerationEntry {
    /// Its number. Written last.
    pub number: Generation,
    /// No block of the generation lies before this position.
    pub start: Position,
    /// No block of the generation lies at or after this position, if it is [complete](Self::is_complete).
    pub end: Position,
    /// When it began; as the frequency was known then.
    pub began: ClockRecord,
    /// How many events it holds, if it is complete.
    pub events: u64,
}

impl GenerationEntry {
    /// Whether the generation is complete: what was silent in it was listed when it was over. One that is
    /// not may be over all the same.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end > self.start
    }
}

/// An arena's header, read from a copy of its first [`offset::DATA`] bytes.
#[derive(Clone, Debug)]
pub struct ArenaHeader {
    /// How many bytes of data there are.
    pub capacity: u64,
    /// The process that writes, or wrote.
    pub pid: u32,
    /// Its clock.
    pub clock: ClockKind,
    /// When the process began, in the kernel's clock ticks since boot.
    pub process_start: u64,
    /// The identity of the boot.
    pub boot_id: [u8; 16],
    /// The identity of the process's namespace of process numbers, 0 where there is none.
    pub pid_namespace: u64,
    /// The window asked for.
    pub window: Nanos,
    /// Whether the recording was ended in order.
    pub ended: bool,
    /// What the process noted of a fatal signal.
    pub crash: Option<CrashNote>,
    /// Events lost since the recording began, by cause; causes that did not occur are left out.
    pub lost: Vec<(Loss, u64)>,
    /// Of each of these causes, how many no generation's end record tells of. That may be none.
    pub lost_untold: Vec<(Loss, u64)>,
    /// How many callsites and kinds of tasks had no place.
    pub nameless: u64,
    /// How many texts were written out because the table of texts was full; at least so many.
    pub unshared_texts: u64,
    /// What is recorded of `tracing` and of the `log` crate.
    pub filters: Vec<String>,
    /// How many bytes of data have memory behind them by now; none said once all have.
    pub growing: Option<u64>,
    /// Where the next block is carved.
    pub head: Position,
    /// What lies before may be overwritten at any time.
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
    /// Says in words what is wrong with it: no arena, a later version, impossible fields.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut wrong = None;
        let header = Self::parse_damaged(bytes, |what| {
            wrong.get_or_insert(what);
        })?;
        wrong.map_or(Ok(header), Err)
    }

    /// Reads a header that may be damaged: each field that is impossible is told to `complain` and read
    /// as 0, the clock as the processor's counter.
    ///
    /// # Errors
    /// It is no arena's, or that of a version which this program does not know.
    pub fn parse_damaged(
        bytes: &[u8],
        mut complain: impl FnMut(&'static str),
    ) -> Result<Self, &'static str> {
        if bytes.len() < offset::DATA {
            return Err("shorter than an arena's header");
        }
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if bytes[..8] != ARENA_MAGIC {
            return Err("not an arena of lookback: its first bytes are others");
        }
        if u32_at(offset::VERSION) != ARENA_VERSION {
            return Err("an arena of a version that this program does not know");
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
            crash: CrashNote::parse(&bytes[offset::CRASH_NOTE..offset::LOST]),
            lost,
            lost_untold,
            nameless: u64_at(offset::NAMELESS),
            unshared_texts: u64_at(offset::UNSHARED_TEXTS),
            filters: FilterNote::read(&bytes[offset::FILTER..offset::GENERATIONS]),
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

    /// Says in the metadata of a snapshot what was lost, and what was recorded at all.
    pub fn add_losses_to(&self, metadata: &mut Metadata) {
        self.filters.iter().for_each(|filter| metadata.add(key::FILTER, filter.as_str()));
        if self.nameless > 0 {
            metadata.add(key::NAMELESS, self.nameless);
        }
        if self.unshared_texts > 0 {
            metadata.add(key::UNSHARED_TEXTS, self.unshared_texts);
        }
        for (prefix, losses) in [(key::LOST, &self.lost), (key::LOST_UNTOLD, &self.lost_untold)] {
            for (cause, count) in losses {
                metadata.add(&format!("{prefix}{cause}"), *count);
            }
        }
    }

    /// Every entry of the table that was ever used, by ascending number.
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

/// What is recorded of `tracing` and of the `log` crate, as the arena's header has it: a word of its length
/// (the low half) and of the CRC-32 of its bytes, and those: UTF-8, a line for each filter.
#[derive(Clone, Debug)]
pub struct FilterNote(String);

impl FilterNote {
    /// So many bytes of it are kept.
    pub const ROOM: usize = 248;

    /// The note of these filters, as many as there is room for.
    #[must_use]
    pub fn of(filters: &[String]) -> Self {
        let mut note = filters.join("\n");
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

    /// Its word; 0 if there is nothing in it.
    #[must_use]
    pub fn word(&self) -> u64 {
        word_of(self.bytes())
    }

    /// The filters of a note; none if it is being written, or damaged.
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
    fn a_note_of_filters_is_read_whole_or_not_at_all() {
        let mut room = [0_u8; 8 + FilterNote::ROOM];
        let put = |room: &mut [u8], note: &FilterNote| {
            room[..8].copy_from_slice(&note.word().to_le_bytes());
            room[8..][..note.bytes().len()].copy_from_slice(note.bytes());
        };
        assert!(FilterNote::read(&room).is_empty());
        let filters = ["info,hyper=warn".to_owned(), "trace".to_owned()];
        put(&mut room, &FilterNote::of(&filters));
        assert_eq!(FilterNote::read(&room), filters);
        room[9] ^= 1;
        assert!(FilterNote::read(&room).is_empty());
        put(&mut room, &FilterNote::of(&["ä".repeat(300)]));
        let read = FilterNote::read(&room);
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
