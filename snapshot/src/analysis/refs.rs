//! What findings of several analyses refer to.

use super::{Moment, TaskRef, ThreadRef};
use crate::wire::Nanos;

/// A poll that kept a thread busy while somebody might have run there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockerRef {
    /// The task that was polled.
    pub task: TaskRef,
    /// When that began.
    pub began: Moment,
    /// How long it took.
    pub length: Nanos,
}

/// Who woke a task, or spawned it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WakeRef {
    /// When.
    pub at: Moment,
    /// The thread that did.
    pub thread: ThreadRef,
    /// The task that was polled there, if one was.
    pub task: Option<TaskRef>,
    /// When that poll had begun.
    pub polled: Option<Moment>,
    /// It was not woken, but spawned.
    pub spawned: bool,
}
