#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "read")]
pub mod analysis;
#[cfg(feature = "read")]
pub mod export;
pub mod file;
#[cfg(feature = "read")]
pub mod read;
#[cfg(feature = "read")]
pub mod recover;
pub mod wire;
pub mod words;

#[cfg(feature = "read")]
pub use read::{
    DecodedGeneration, EndRecord, Event, EventKind, Events, Fields, GenerationEvents,
    GenerationInfo, Level, Limits, Lost, OpenRegion, ReadError, Reason, Site, SpanStatus,
    TaskStatus, Text, Thread, ThreadState, Trace, Value, Violation, WorkerId, validate,
    validate_with,
};
pub use wire::{SpanId, TaskId, TaskState};
