//! Why an event was lost.

use std::fmt;

/// The cause of a loss. Its number is the code in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Loss {
    /// Incomplete generations filled the arena, so nothing could be reclaimed.
    ArenaFull = 1,
    /// The thread was in the middle of another event: a signal handler or an allocator hook.
    Reentrant = 2,
    /// More threads at once than the recorder has slots, or an event of a thread that has ended.
    NoSlot = 3,
    /// More definitions in one generation than its ids can number.
    NoId = 4,
    /// More tasks or spans at once than the recorder has entries.
    NoPlace = 5,
}

impl Loss {
    /// Every cause, in the order of the codes.
    pub const ALL: [Self; 5] =
        [Self::ArenaFull, Self::Reentrant, Self::NoSlot, Self::NoId, Self::NoPlace];

    /// The cause of this code.
    #[must_use]
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| *cause as u64 == code)
    }

    /// The name that tools print and that `--json` uses as a key.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ArenaFull => "arena_full",
            Self::Reentrant => "reentrant",
            Self::NoSlot => "no_slot",
            Self::NoId => "no_id",
            Self::NoPlace => "no_place",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
