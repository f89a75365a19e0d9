//! Copies the window out of the arena, as any reader would, inside the process or outside: all of
//! it at once, for callers that keep it. (`stream` writes it to a file without a copy.)
//!
//! The copy is sound from the tail's position after the copy on: see `ring`.

#![forbid(unsafe_code)]

use crate::arena::arena_read::Source;
use crate::os::mode::Mode;
use crate::os::pages::Pages;
use crate::snapshot::cut::{Attempt, Cut, Wanted};
use crate::snapshot::part::{Part, Reach};
use lookback_snapshot::file::GenerationFrame;
use lookback_snapshot::wire::{Blocks, Position};
use std::io;

/// A copy of some generations.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Pages,
    start: Position,
    pub(crate) generations: Vec<Part>,
    cut: Option<Cut>,
}

/// How many attempts to make while writers overtake every copy. Two writers fill a mebibyte in 2
/// ms, and an overloaded machine often takes a core away for longer than that.
pub(crate) const ATTEMPTS: usize = 32;

impl Window {
    /// An empty copy.
    pub(crate) fn empty() -> Self {
        let (bytes, generations) = (Pages::new(), Vec::new());
        Self { bytes, start: Position(0), generations, cut: None }
    }

    /// Copies the window. `None` if nothing of what is wanted exists (any more).
    pub(crate) fn copy(
        arena: &impl Source,
        mode: Mode,
        wanted: Wanted,
    ) -> io::Result<Option<Self>> {
        for _ in 0..ATTEMPTS {
            if let Attempt::Done(window) = Self::attempt(arena, mode, wanted)? {
                return Ok(window);
            }
        }
        Ok(None)
    }

    fn attempt(arena: &impl Source, mode: Mode, wanted: Wanted) -> io::Result<Attempt<Self>> {
        let cut = match Cut::make(arena, mode, wanted)? {
            Attempt::Done(Some(cut)) => cut,
            Attempt::Done(None) => return Ok(Attempt::Done(None)),
            Attempt::Overtaken => return Ok(Attempt::Overtaken),
        };
        let Some(start) = cut.extents.first().map(|first| first.start) else {
            return Ok(Attempt::Done(None));
        };
        // The second reading: everything, oldest first, because the oldest is given up first.
        let mut bytes = Pages::new();
        arena.copy(start.0, cut.end - start, &mut bytes)?;
        // The seqlock's check: bytes before the tail may have been overwritten during the copy.
        let tail = arena.tail_after_copy()?;
        let whole = cut.extents.iter().filter(|extent| extent.start.0 >= tail);
        let generations: Vec<_> = whole.map(|extent| extent.part).collect();
        if generations.is_empty() {
            return Ok(Attempt::Overtaken);
        }
        Ok(Attempt::Done(Some(Self { bytes, start, generations, cut: Some(cut) })))
    }

    /// The number of bytes copied.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The generations as a file holds them.
    pub(crate) fn frames(&self) -> Vec<GenerationFrame<'_>> {
        let mut frames: Vec<_> = self.generations.iter().map(Part::frame).collect();
        let Some(cut) = &self.cut else { return frames };
        for block in Blocks::new(&self.bytes, self.start) {
            let index = frames.binary_search_by_key(&block.header.generation, |frame| frame.number);
            if let Some(frame) = index.ok().and_then(|index| frames.get_mut(index)) {
                frame.blocks.extend(cut.counted(block, frame.complete));
            }
        }
        frames
    }

    /// The range of the copy; `None` if it is empty.
    pub(crate) fn reach(&self) -> Option<Reach> {
        Reach::of(&self.generations)
    }
}
