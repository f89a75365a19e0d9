//! What Go's reader knows about one goroutine.

use super::tables::{Root, StackId, StringId};

/// A goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GoId(pub(super) u64);

/// What a goroutine is doing; the number is Go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Runnable = 1,
    Running = 2,
    Waiting = 4,
}

/// A region that a goroutine is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenRegion {
    /// Identifies the region; never reused.
    pub(super) token: Token,
    /// The user task that it is part of, 0 for none.
    pub(super) task: u64,
    pub(super) name: StringId,
    pub(super) stack: StackId,
    /// It ended while the goroutine was not running, and must be ended when it runs.
    pub(super) is_over: bool,
}

/// A region, unique in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(pub(super) u64);

/// See the module.
#[derive(Debug)]
pub(super) struct Goroutine {
    pub(super) status: Status,
    /// How often it has been started and unblocked.
    pub(super) sequence: u64,
    /// Its name, and the stack that it always has.
    pub(super) root: Root,
    /// Innermost last.
    pub(super) regions: Vec<OpenRegion>,
}

impl Goroutine {
    pub(super) fn new(status: Status, root: Root) -> Self {
        Self { status, sequence: 0, root, regions: Vec::new() }
    }

    /// The number of its next start or unblock.
    pub(super) fn count(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}
