#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "tracing")]
pub mod tracing;

pub use lookback_recorder::{
    Armed, Barrier, Builder, ClockKind, Error, FileSink, Filter, Fired, GenerationFrame, Level,
    Loss, Metadata, Number, RecordExt, Recorded, Recorder, Region, Sink, Snapshot, SnapshotOnErr,
    Stats, Summary, Trigger, TriggerStats, Value, WaitingFor, Worker, counter, event, is_recording,
    log, region, save, set_filter, snapshot, stats, thread_name, worker,
};

#[cfg(target_os = "linux")]
#[doc(hidden)]
pub use lookback_recorder::peer_process;
#[cfg(target_os = "linux")]
pub use lookback_recorder::{OutsideArena, OutsideError, RUN_SOCKET, recorded_processes};

#[cfg(feature = "tokio")]
pub use lookback_macros::{main, test};

#[cfg(feature = "tokio")]
pub use self::tokio::{JoinSetExt, block_on, spawn, spawn_blocking, spawn_local, spawn_on};

#[doc(hidden)]
pub use lookback_recorder::__private;
#[cfg(any(debug_assertions, feature = "fault_injection"))]
#[doc(hidden)]
pub use lookback_recorder::fault_injection;

/// Reading snapshots back: with the feature `read`.
#[cfg(feature = "read")]
pub use lookback_snapshot as read;
#[cfg(feature = "read")]
pub use lookback_snapshot::Trace;
