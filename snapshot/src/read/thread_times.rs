//! How long threads ran, as the kernel tells.

#![forbid(unsafe_code)]

use crate::wire::{Nanos, ThreadNumber};

/// What the kernel says of a thread: see
/// [`DecodedGeneration::thread_times`](crate::DecodedGeneration::thread_times).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadTimes {
    /// The thread.
    pub thread: ThreadNumber,
    /// How long the time was that the others are about.
    pub time: Nanos,
    /// How long it ran.
    pub ran: Nanos,
    /// How long it wanted to run, and waited for a core.
    pub waited: Nanos,
    /// How often it got a core.
    pub slices: u64,
}
