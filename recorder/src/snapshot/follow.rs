//! Reading each generation once, as soon as it is complete: the common part of a sink in the process and a
//! follower outside it.

#![forbid(unsafe_code)]

use crate::arena::arena_read::Source;
use crate::os::mode::Mode;
use crate::snapshot::cut::Wanted;
use crate::snapshot::stream::Stream;
use lookback_snapshot::file::GenerationFrame;
use lookback_snapshot::wire::{GENERATION_SLOTS, Generation, offset};
use std::io;

/// How far the reading of an arena's generations has come.
#[derive(Debug)]
pub(crate) struct Follow {
    next: Generation,
    lost: u64,
}

impl Follow {
    /// `first` is the first generation to pass on; if it is gone by then, the next ones are.
    pub(crate) fn new(first: Generation) -> Self {
        Self { next: first, lost: 0 }
    }

    /// Begins with the oldest existing generation.
    pub(crate) fn from_oldest() -> Self {
        Self::new(Generation(0))
    }

    /// How many generations were overwritten before they were read, or never became complete.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Passes on every generation that has been completed since the last call, oldest first. Returns how many
    /// there were.
    pub(crate) fn hand_over<S: Source, E>(
        &mut self,
        arena: &S,
        mode: Mode,
        unreadable: impl Fn(io::Error) -> E,
        mut take: impl FnMut(&mut GenerationFrame<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        // `complete` first: a generation that was complete then still is, or is gone.
        let complete = word(arena, offset::COMPLETE).map_err(&unreadable)?;
        let oldest = word(arena, offset::OLDEST).map_err(&unreadable)?;
        if complete.saturating_sub(oldest) > GENERATION_SLOTS as u64 {
            let what = "its header is damaged: it names more generations than it has entries for";
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        if self.next.0 < oldest {
            let is_first = self.next == Generation(0);
            let lost = if is_first { 0 } else { oldest - self.next.0 };
            self.lost = self.lost.saturating_add(lost);
            self.next = Generation(oldest);
        }
        let mut handed = 0;
        while self.next.0 <= complete {
            match Stream::begin(arena, mode, Wanted::Only(self.next)).map_err(&unreadable)? {
                Some(generation) => {
                    generation.each(&unreadable, &mut take)?;
                    handed += 1;
                }
                None => self.lost = self.lost.saturating_add(1),
            }
            self.next = self.next.next();
        }
        Ok(handed)
    }
}

fn word(arena: &impl Source, at: usize) -> io::Result<u64> {
    let mut word = [0; 8];
    arena.read(at as u64, &mut word)?;
    Ok(u64::from_le_bytes(word))
}
