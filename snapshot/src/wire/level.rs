//! How important a message is.

use std::fmt;

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// The finest detail.
    Trace = 1,
    /// For debugging.
    Debug = 2,
    /// The ordinary course of things; the default of `log!`.
    Info = 3,
    /// Something unexpected that was handled.
    Warn = 4,
    /// Something failed.
    Error = 5,
}

impl Level {
    /// The level of this code; the nearest one if there is none.
    #[must_use]
    pub const fn from_code(code: u64) -> Self {
        match code {
            0 | 1 => Self::Trace,
            2 => Self::Debug,
            3 => Self::Info,
            4 => Self::Warn,
            _ => Self::Error,
        }
    }

    /// Its name, such as `warn`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
