//! Copying the window out of the arena, as any reader would, inside the process or outside: all of it at once, for
//! callers that keep it. (`stream` only writes it to a file.)
//!
//! The copy is sound from wherever the tail stands when it is done: see `ring`.

#![forbid(unsafe_code)]

use crate::control::Mode;
use crate::cut::{Attempt, Cut, Wanted};
use crate::pages::Pages;
use crate::part::{Part, Reach};
use crate::source::Source;
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

/// How often a copy is tried that is overtaken by writers every time. Two of them fill a mebibyte in 2 ms, and a
/// machine that has more to do than it can takes a core away for longer than that, often.
pub(crate) const ATTEMPTS: usize = 32;

impl Window {
    /// Nothing.
    pub(crate) fn empty() -> Self {
        let (bytes, generations) = (Pages::new(), Vec::new());
        Self { bytes, start: Position(0), generations, cut: None }
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
        // The seqlock's check: what lies before this may have been overwritten while it was copied.
        let tail = arena.tail_after_copy()?;
        let whole = cut.extents.iter().filter(|extent| extent.start.0 >= tail);
        let generations: Vec<_> = whole.map(|extent| extent.part).collect();
        if generations.is_empty() {
            return Ok(Attempt::Overtaken);
        }
        Ok(Attempt::Done(Some(Self { bytes, start, generations, cut: Some(cut) })))
    }

    /// How many bytes were copied.
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

    /// From when to when it is; `None` of nothing.
    pub(crate) fn reach(&self) -> Option<Reach> {
        Reach::of(&self.generations)
    }
}
