//! One instant, read from several clocks at once.

use super::{Nanos, Ticks};

/// The clock that [`Ticks`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum ClockKind {
    /// The operating system's monotonic clock; a tick is a nanosecond.
    Monotonic = 0,
    /// The invariant time stamp counter of x86-64, shifted right by four bits.
    Tsc = 1,
    /// The virtual counter of 64-bit ARM.
    CounterTimer = 2,
}

impl ClockKind {
    /// The clock of this code.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        [Self::Monotonic, Self::Tsc, Self::CounterTimer].into_iter().find(|k| *k as u32 == code)
    }

    /// The name that tools print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monotonic => "monotonic",
            Self::Tsc => "tsc",
            Self::CounterTimer => "cntvct",
        }
    }

    /// The clock of this [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Monotonic, Self::Tsc, Self::CounterTimer].into_iter().find(|k| k.name() == name)
    }

    /// How many units of the counter a tick is: the counter's frequency is that many times the frequency of
    /// ticks.
    ///
    /// ```
    /// assert_eq!(lookback_snapshot::wire::ClockKind::Tsc.divisor(), 16);
    /// ```
    #[must_use]
    pub const fn divisor(self) -> u64 {
        match self {
            Self::Tsc => 1 << Self::TSC_SHIFT,
            Self::Monotonic | Self::CounterTimer => 1,
        }
    }

    /// How far the time stamp counter is shifted right: a unit of 4 to 8 ns is as fine as the instruction is
    /// long, and the bits below are noise that no compressor removes.
    pub const TSC_SHIFT: u32 = 4;
}

/// One instant on three clocks. A generation holds two, for its beginning and its end, and so can convert its
/// own times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockRecord {
    /// The recorder's clock.
    pub ticks: Ticks,
    /// The monotonic clock of the operating system, nanoseconds since boot.
    pub monotonic: Nanos,
    /// The wall clock, nanoseconds since 1970-01-01 UTC.
    pub wall: Nanos,
    /// Ticks a second, as known at this instant.
    pub frequency: u64,
}
