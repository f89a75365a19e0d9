//! References that findings of several analyses share.

use super::{Moment, TaskRef, ThreadRef};
use crate::wire::Nanos;

/// A poll that kept a thread busy while another task was ready to run there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockerRef {
    /// The task that was polled.
    pub task: TaskRef,
    /// When the poll began.
    pub began: Moment,
    /// How long the poll took.
    pub length: Nanos,
}

/// What woke a task, or spawned it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WakeRef {
    /// When.
    pub at: Moment,
    /// The thread.
    pub thread: ThreadRef,
    /// The task that the thread was polling, if any.
    pub task: Option<TaskRef>,
    /// When that poll had begun.
    pub polled: Option<Moment>,
    /// Whether it was spawned rather than woken.
    pub spawned: bool,
}
