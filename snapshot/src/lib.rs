#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "read")]
pub mod analysis;
#[cfg(feature = "read")]
pub mod export;
pub mod file;
pub mod format;
#[cfg(feature = "symbols")]
pub mod hangs;
#[cfg(feature = "read")]
mod read;
#[cfg(feature = "read")]
pub mod recover;
#[cfg(feature = "symbols")]
pub mod symbols;
pub mod wire;

#[cfg(feature = "read")]
pub use read::{
    DecodedGeneration, EndRecord, Event, EventKind, Events, Fields, Frame, GenerationEvents,
    GenerationInfo, HeapStack, HeapTotals, Lent, Level, Limits, LockHolder, Lost, Module, Omitted,
    OpenRange, OpenRegion, OwnedFrame, ReadError, Reason, RuntimeReading, Site, SpanStatus, Stack,
    StackEnd, StackReason, StackSource, SystemReading, TaskStatus, TaskType, Text, Thread,
    ThreadState, ThreadTimes, Trace, Value, Violation, WaitingTask, WaitsAt, WorkerId, text,
    validate, validate_with,
};
pub use wire::{
    CounterGroup, CounterUnit, LockKind, ProcessStacks, SpanId, SystemCounter, TaskId, TaskState,
    ThreadAt, Waits, WaitsOn,
};
