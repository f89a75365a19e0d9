//! Numbers with their unit in the type, so that none can be mistaken for another.

use std::fmt;
use std::ops::{Add, Sub};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The number of a generation. The first is 1; 0 means that tracing is off.
    Generation
}
number! {
    /// A position in the arena, in bytes since recording began. It only grows: its offset in memory is its
    /// remainder modulo the arena's capacity.
    Position
}
number! {
    /// An instant of the recorder's clock, in its own unit (see [`ClockRecord::frequency`]).
    ///
    /// [`ClockRecord::frequency`]: super::ClockRecord::frequency
    Ticks
}
number! {
    /// A time or a duration, in nanoseconds.
    Nanos
}
number! {
    /// A thread, numbered by the recorder from 1 in the order of first events. Never reused, unlike
    /// the operating system's ID. 0 means "no thread".
    ThreadNumber
}

macro_rules! place {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            /// The entry in the recorder's table, which is reused after its holder has ended.
            pub index: u32,
            /// How often the entry has been used, including this time.
            pub incarnation: u32,
        }

        impl $name {
            /// Both in one number, unique in its process: the incarnation in the high half.
            #[must_use]
            pub const fn number(self) -> u64 {
                (self.incarnation as u64) << 32 | self.index as u64
            }

            /// The inverse of [`number`](Self::number).
            #[must_use]
            pub const fn from_number(number: u64) -> Self {
                Self { index: number as u32, incarnation: (number >> 32) as u32 }
            }
        }

        /// `7` for the first use of entry 7, `7.2` for the second.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.incarnation {
                    0 | 1 => f.pad(&self.index.to_string()),
                    incarnation => f.pad(&format!("{}.{incarnation}", self.index)),
                }
            }
        }
    };
}

place! {
    /// A task of the recorded process.
    TaskId
}
place! {
    /// A span of the recorded process. Entries of spans count from 1.
    SpanId
}

impl TaskId {
    /// No task, or one that is not known.
    pub const NONE: Self = Self { index: 0, incarnation: 0 };
}

impl SpanId {
    /// No span, or one that is not known.
    pub const NONE: Self = Self { index: 0, incarnation: 0 };
}

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl Add<u64> for Position {
    type Output = Self;
    fn add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl Sub for Position {
    type Output = u64;
    fn sub(self, earlier: Self) -> u64 {
        self.0.wrapping_sub(earlier.0)
    }
}
