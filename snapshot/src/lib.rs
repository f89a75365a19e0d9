#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod file;
#[cfg(feature = "read")]
pub mod read;
pub mod wire;

#[cfg(feature = "read")]
pub use read::{
    DecodedGeneration, EndRecord, Event, EventKind, Events, Fields, GenerationEvents,
    GenerationInfo, Level, Limits, Lost, OpenRegion, ReadError, Reason, Site, Text, Thread,
    ThreadState, Trace, Value, Violation, validate, validate_with,
};
