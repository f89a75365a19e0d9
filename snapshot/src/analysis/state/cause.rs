//! Why a task runs: who woke it, who woke that one, and so on for a few hops back.

use super::super::names::Name;
use crate::wire::{Nanos, TaskId, ThreadNumber};

/// One wake: who, when, and since when that one was being polled itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hop {
    /// The task that woke; none if its thread did so outside of any.
    pub(crate) task: Option<(TaskId, Name)>,
    pub(crate) thread: ThreadNumber,
    pub(crate) at: Nanos,
    /// When the poll began from within which it woke.
    pub(crate) polled: Option<Nanos>,
    /// It did not wake, but spawn it.
    pub(crate) spawned: bool,
}

/// Hops, latest first. Never longer than this, however long a chain is: a chain may go round in a
/// circle for as long as the process lives.
pub(crate) type Chain = Box<[Hop]>;

const LONGEST: usize = 6;

/// The chain that begins with this hop, and goes on with what caused the poll that it came from.
pub(super) fn chain(first: Hop, cause: Option<&[Hop]>) -> Chain {
    let rest = cause.unwrap_or_default();
    std::iter::once(first).chain(rest.iter().copied()).take(LONGEST).collect()
}
