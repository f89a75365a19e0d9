//! Why a task runs: what woke it, what woke that, and so on, a few hops back.

use crate::analysis::interner::Name;
use crate::wire::{Nanos, TaskId, ThreadNumber};

/// One wake: the waker, when, and since when the waker was being polled itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hop {
    /// The waking task; none if its thread woke outside tasks.
    pub(crate) task: Option<(TaskId, Name)>,
    pub(crate) thread: ThreadNumber,
    pub(crate) at: Nanos,
    /// When the poll began in which it woke.
    pub(crate) polled: Option<Nanos>,
    /// Whether it was a spawn, not a wake.
    pub(crate) spawned: bool,
}

/// Hops, latest first. Their number is bounded however long the chain is: tasks may wake each other in a
/// circle as long as the process lives.
pub(crate) type Chain = Box<[Hop]>;

const LONGEST: usize = 6;

/// The chain that begins with this hop and continues with the cause of the waker's poll.
pub(super) fn chain(first: Hop, cause: Option<&[Hop]>) -> Chain {
    let rest = cause.unwrap_or_default();
    std::iter::once(first).chain(rest.iter().copied()).take(LONGEST).collect()
}
