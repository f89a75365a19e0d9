//! Following an arena: each of its generations is read once, as soon as it is complete.

#![forbid(unsafe_code)]

use super::{OutsideArena, OutsideError};
use crate::snapshot::follow::Follow;
use lookback_snapshot::file::GenerationFrame;
use lookback_snapshot::wire::{Metadata, key};
use std::io;

/// Reads each generation of another process's arena once. See [`OutsideArena::follow`].
///
/// ```no_run
/// use lookback_recorder::OutsideArena;
/// let mut follower = OutsideArena::of_process(4711)?.follow();
/// loop {
///     follower.read("followed", "outside", |_metadata, generation| {
///         println!("generation {}: {} blocks", generation.number, generation.blocks.len());
///         Ok(())
///     })?;
///     std::thread::sleep(std::time::Duration::from_millis(250));
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), lookback_recorder::OutsideError>(())
/// ```
#[derive(Debug)]
pub struct Follower {
    arena: OutsideArena,
    follow: Follow,
}

impl Follower {
    pub(super) fn new(arena: OutsideArena) -> Self {
        Self { arena, follow: Follow::from_oldest() }
    }

    /// Passes on every generation that has been completed since the last call, oldest first, with the
    /// metadata of a file that begins with it. Returns how many there were. The recorded process notices
    /// nothing. No more than one generation is in memory.
    ///
    /// # Errors
    /// The arena can no longer be read, or is damaged; or `take` failed, which is [`OutsideError::Write`].
    pub fn read(
        &mut self,
        reason: &str,
        trigger: &str,
        mut take: impl FnMut(&Metadata, &mut GenerationFrame<'_>) -> io::Result<()>,
    ) -> Result<u64, OutsideError> {
        let (arena, mode) = (&self.arena, self.arena.mode());
        let mut metadata = None;
        self.follow.hand_over(
            arena,
            mode,
            |error| arena.io(error),
            |frame| {
                if metadata.is_none() {
                    let mut about = arena.about(&arena.header()?, reason, trigger);
                    about.add(key::CLOCK_FREQUENCY, frame.ended.frequency);
                    metadata = Some(about);
                }
                metadata
                    .as_ref()
                    .map_or(Ok(()), |metadata| take(metadata, frame))
                    .map_err(OutsideError::Write)
            },
        )
    }

    /// How many generations were overwritten before they were read, or never became complete.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.follow.lost()
    }

    /// The arena that it reads.
    #[must_use]
    pub fn arena(&self) -> &OutsideArena {
        &self.arena
    }
}
