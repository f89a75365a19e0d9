#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use lookback_recorder::{
    Barrier, Builder, ClockKind, Error, FileSink, GenerationFrame, Level, Loss, Metadata, Number,
    Recorder, Region, Sink, Snapshot, Stats, Summary, Value, counter, event, is_recording, log,
    region, save, snapshot,
};

#[doc(hidden)]
pub use lookback_recorder::__private;

/// Reading snapshots back: with the feature `read`.
#[cfg(feature = "read")]
pub use lookback_snapshot as read;
#[cfg(feature = "read")]
pub use lookback_snapshot::Trace;
