//! One instant, read from several clocks at once.

use super::{Nanos, Ticks};

/// What clock [`Ticks`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
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

    /// How many units of the counter itself a tick is: its frequency is so many times that of the ticks.
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

    /// The time stamp counter is shifted right by so much: a unit of 4 to 8 ns is as fine as the
    /// instruction itself is long, and the bits below are noise that no compressor takes out.
    pub const TSC_SHIFT: u32 = 4;
}

/// The same instant by three clocks. A generation holds two of them, for its begin and its end, and
/// so converts its own times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockRecord {
    /// The recorder's clock.
    pub ticks: Ticks,
    /// The monotonic clock of the operating system, nanoseconds since boot.
    pub monotonic: Nanos,
    /// The wall clock, nanoseconds since 1970-01-01 UTC.
    pub wall: Nanos,
    /// Ticks a second, as far as it was known at this instant.
    pub frequency: u64,
}
