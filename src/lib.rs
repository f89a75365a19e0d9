#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "axum")]
pub mod axum;
pub mod sync;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "tracing")]
pub mod tracing;

pub use lookback_recorder::{
    Alloc, ArenaHeader, Armed, Barrier, Builder, ClockKind, CounterGroup, CpuSampleStats,
    DurationSummary, Error, FileSink, Filter, Fired, GenerationFrame, HeapStats, Level, LockKind,
    Loss, Metadata, Number, Pressure, Range, RecordExt, Recorded, Recorder, Region, Sink, Snapshot,
    SnapshotOnErr, StackStats, Stats, SystemCounterStats, Trigger, TriggerStats, UnwindTables,
    Value, WaitingFor, Worker, counter, event, is_recording, log, range, region, save, set_filter,
    set_thread_name, snapshot, stats, worker,
};

#[cfg(target_os = "linux")]
pub use lookback_recorder::{Follower, OutsideArena, OutsideError, recorded_processes};

#[cfg(feature = "tokio")]
pub use lookback_macros::{main, test};

#[cfg(feature = "tokio")]
pub use self::tokio::{JoinSetExt, block_on, spawn, spawn_blocking, spawn_local, spawn_on};

#[cfg(any(debug_assertions, feature = "fault_injection"))]
#[doc(hidden)]
pub use lookback_recorder::fault_injection;
#[doc(hidden)]
pub use lookback_recorder::{__private, command};

/// Reading snapshots back: with the feature `read`.
#[cfg(feature = "read")]
pub use lookback_snapshot as read;
#[cfg(feature = "read")]
pub use lookback_snapshot::Trace;
