//! Locks: what kinds there are, and what is said of a wait for one.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $code:literal $kind:ident $name:literal,)*) => {
        /// What is waited for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum LockKind { $($(#[$doc])* $kind = $code,)* }

        impl LockKind {
            /// All of them, by code.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The kind of this code, if this version knows it.
            #[must_use]
            pub const fn from_code(code: u64) -> Option<Self> {
                match code { $($code => Some(Self::$kind),)* _ => None }
            }

            /// Its name, as tools print it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// A mutex like the standard library's.
    1 Mutex "Mutex",
    /// A reader-writer lock like the standard library's, to be read.
    2 Read "RwLock, to read",
    /// The same, to be written.
    3 Write "RwLock, to write",
    /// A mutex of `lock_api`, such as that of `parking_lot`.
    4 RawMutex "lock_api Mutex",
    /// A reader-writer lock of `lock_api`, to be read.
    5 RawRead "lock_api RwLock, to read",
    /// The same, to be written.
    6 RawWrite "lock_api RwLock, to write",
    /// A mutex of Tokio.
    8 TaskMutex "tokio Mutex",
    /// A reader-writer lock of Tokio, to be read.
    9 TaskRead "tokio RwLock, to read",
    /// The same, to be written.
    10 TaskWrite "tokio RwLock, to write",
    /// Permits of a semaphore of Tokio.
    11 Permits "tokio Semaphore",
    /// Several permits of such a semaphore at once: whoever waits for them shows only that there are too few.
    12 SeveralPermits "tokio Semaphore, several permits",
}

impl LockKind {
    /// Whether tasks hold it, and not threads: a task that waits does not hold its thread up.
    #[must_use]
    pub const fn is_of_tasks(self) -> bool {
        matches!(self, Self::TaskMutex) || !self.has_certain_holder()
    }

    /// Whether who is named as the holder certainly holds it. Otherwise that is who took it last, which may have released it
    /// while others still hold it.
    #[must_use]
    pub const fn has_certain_holder(self) -> bool {
        !matches!(self, Self::TaskRead | Self::TaskWrite | Self::Permits | Self::SeveralPermits)
    }
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What else is said of a wait, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockFlags(pub u64);

impl LockFlags {
    /// The holder has held it for longer than is said: that is only when somebody first saw it.
    pub const AT_LEAST: u64 = 1;
    /// The wait was given up.
    pub const GIVEN_UP: u64 = 2;
    /// A thread holds it for a task that nobody polls now.
    pub const ACROSS_AWAIT: u64 = 4;

    /// Whether it has this bit.
    #[must_use]
    pub const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }
}
