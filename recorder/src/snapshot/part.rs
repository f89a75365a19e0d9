//! Describes the generations in a copy, and how far back they reach.

#![forbid(unsafe_code)]

use lookback_snapshot::file::GenerationFrame;
use lookback_snapshot::wire::{ClockRecord, Generation, Metadata, Nanos, key, needed_bytes};

/// A generation in a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) number: Generation,
    pub(crate) complete: bool,
    pub(crate) began: ClockRecord,
    pub(crate) ended: ClockRecord,
}

impl Part {
    /// The generation as a file holds it, without blocks.
    pub(crate) fn frame(&self) -> GenerationFrame<'static> {
        let Self { number, complete, began, ended } = *self;
        GenerationFrame { number, complete, began, ended, blocks: Vec::new() }
    }
}

/// The range from the oldest part to the newest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) first: Part,
    pub(crate) last: Part,
}

impl Reach {
    pub(crate) fn of(parts: &[Part]) -> Option<Self> {
        Some(Self { first: *parts.first()?, last: *parts.last()? })
    }

    /// How far back the range reaches.
    pub(crate) fn covered(&self) -> Nanos {
        Nanos(self.last.ended.monotonic.0.saturating_sub(self.first.began.monotonic.0))
    }

    /// Records in a snapshot's metadata how far back it reaches, and when it was taken.
    pub(crate) fn note(&self, metadata: &mut Metadata) {
        metadata.add(key::COVERED, self.covered().0);
        metadata.add(key::TAKEN_WALL, self.last.ended.wall.0);
    }

    /// Records in a snapshot's metadata how large the arena would have to be, if the copy covers
    /// much less of the window than requested and earlier records were overwritten.
    pub(crate) fn note_shortness(&self, metadata: &mut Metadata) {
        let number = |name| metadata.number(name).unwrap_or_default();
        let (begin, window) = (number(key::FIRST_GENERATION), Nanos(number(key::WINDOW)));
        let covered = self.covered();
        if self.first.number.0 > begin && covered.0 < window.0 / 2 {
            let needed = needed_bytes(number(key::MAX_BYTES), window, covered);
            metadata.add(key::NEEDED_BYTES, needed);
        }
    }
}
