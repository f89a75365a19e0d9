//! Readings of the counters of the process, its control group, the machine and its runtimes.

#![forbid(unsafe_code)]

use crate::wire::{Nanos, SystemCounter};

/// A counter's value at the end of a generation or shortly before: see
/// [`DecodedGeneration::system_counters`](crate::DecodedGeneration::system_counters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SystemReading {
    /// Which counter.
    pub counter: SystemCounter,
    /// What was there; or, if the counter [is an increase](SystemCounter::is_increase), what was added within `time`.
    pub value: u64,
    /// The time since the reading before.
    pub time: Nanos,
}

/// A counter of a runtime at the end of a generation or shortly before: see
/// [`DecodedGeneration::runtime_counters`](crate::DecodedGeneration::runtime_counters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuntimeReading {
    /// The runtime, numbered by the recorder as in [`WorkerId`](crate::WorkerId).
    pub runtime: u64,
    /// Its counter.
    pub reading: SystemReading,
}
