//! What the machine offers the hot path.

#![forbid(unsafe_code)]

use lookback_snapshot::wire::ClockKind;

/// How the hot path must behave on this machine: two bits, loaded once per event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(u32);

impl Mode {
    const FENCED: u32 = 1;
    const NO_COUNTER: u32 = 2;

    pub(crate) fn new(clock: ClockKind, fenced: bool) -> Self {
        let no_counter = if clock == ClockKind::Monotonic { Self::NO_COUNTER } else { 0 };
        Self(no_counter | if fenced { Self::FENCED } else { 0 })
    }

    /// From the word in the control block.
    #[inline(always)]
    pub(crate) fn of_word(word: u32) -> Self {
        Self(word)
    }

    pub(crate) fn word(self) -> u32 {
        self.0
    }

    /// Whether writers must fence between flag and generation.
    #[inline(always)]
    pub(crate) fn is_fenced(self) -> bool {
        self.0 & Self::FENCED != 0
    }

    /// Whether the processor's counter is reliable.
    #[inline(always)]
    pub(crate) fn has_counter(self) -> bool {
        self.0 & Self::NO_COUNTER == 0
    }
}
