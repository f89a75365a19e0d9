//! The public items of this crate.

pub use crate::error::Error;
pub use crate::generation::timing::DurationSummary;
pub use crate::heap::alloc::Alloc;
pub use crate::os::barrier::Barrier;
pub use crate::record::emit::{Region, is_recording};
pub use crate::record::filter::Filter;
pub use crate::record::named_worker::{Worker, worker};
pub use crate::record::ranges::Range;
pub use crate::record::task::recorded::{RecordExt, Recorded, WaitingFor};
pub use crate::record::thread::set_thread_name;
pub use crate::record::value::{Number, Value};
pub use crate::recorder::Recorder;
pub use crate::recorder::builder::Builder;
pub use crate::recorder::running::{save, set_filter, snapshot, stats};
pub use crate::recorder::stats::{
    CpuSampleStats, HeapStats, StackStats, Stats, SystemCounterStats,
};
pub use crate::recorder::trigger::{
    Armed, Fired, Pressure, SnapshotOnErr, Stats as TriggerStats, Trigger,
};
#[cfg(target_os = "linux")]
pub use crate::remote::{Follower, OutsideArena, OutsideError, recorded_processes};
pub use crate::snapshot::Snapshot;
pub use crate::snapshot::sink::{FileSink, Sink};
pub use crate::stack::modules::UnwindTables;
pub use lookback_snapshot::file::GenerationFrame;
pub use lookback_snapshot::wire::{
    ArenaHeader, ClockKind, CounterGroup, Level, LockKind, Loss, Metadata,
};

/// Locks like those of the standard library, which say who waits for whom: `lookback::sync`.
pub mod locks {
    pub use crate::lock::condvar::Condvar;
    pub use crate::lock::mutex::{Mutex, MutexGuard};
    #[cfg(feature = "lock_api")]
    pub use crate::lock::raw::{RawMutex, RawRwLock};
    pub use crate::lock::rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
}

/// What the macros expand to. Not part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use crate::os::clock::counter as clock_instruction;
    pub use crate::record::emit::{begin_region, counter, encoded, log, typed_event};
    pub use crate::record::field_name::{name_bytes, name_length, name_of};
    pub use crate::record::ranges::begin_range;
    pub use crate::record::site::Site;
    pub use crate::record::site_registry::longest_way;
    pub use crate::record::stacks::StackRate;
    pub use crate::record::value::{debug, display};
    // A program may have its own modules and crates with these names.
    pub extern crate core;
}

/// Points where tests can hold threads up. Not part of the public API.
#[cfg(any(debug_assertions, feature = "fault_injection"))]
#[doc(hidden)]
pub mod fault_injection {
    pub use crate::fault::{Point, hold, leave_the_collector_alone};
}

/// What the command `lookback` shares with the recorder. Not part of the public API.
#[doc(hidden)]
pub mod command {
    pub use crate::arena::fd_handoff::SOCKET as RUN_SOCKET;
    #[cfg(target_os = "linux")]
    pub use crate::arena::fd_handoff::peer_process;
    pub use crate::os::atomic_file::stem_from_outside;
    pub use crate::os::process;
    pub use crate::recorder::environment::values as parse;
    #[cfg(target_os = "linux")]
    pub use crate::remote::stacks::{stacks_of_process, write_stacks_alone};
    pub use crate::snapshot::snapshot_dir::save_for_run;
}

/// Building blocks for integrations with `tracing` and with executors. Not part of the public API.
#[doc(hidden)]
pub mod integration {
    /// Locks of tasks.
    pub mod lock {
        pub use crate::lock::owned::{Exclusive, Lends, Owned, Shared};
        pub use crate::lock::waiting::{Waiting, taken_by_thread, taken_for_task};
        pub use crate::lock::words::LockWords;
    }
    pub use crate::record::fields::{FieldBuf, Fields};
    pub use crate::record::filter::Judge;
    pub use crate::record::passing::log_passing;
    pub use crate::record::site::{Passing, Site};
    pub use crate::record::site_registry::{callsite, mix, site_of_hash};
    pub use crate::recorder::running::on_change;
    pub use crate::recorder::saved::{SnapshotFile, open_regular, open_snapshot, snapshots};
    pub use crate::redact::{ABOUT, ABOUT_FIRST, REDACTED, SECRETS};
    /// Spans, by their names.
    pub mod span {
        pub use crate::record::span::said::{follows, log, record};
        pub use crate::record::span::span_ops::{
            add_reference, create, current, current_name, enter, exit, give_up, site_of,
        };
        pub use crate::record::span::{Name, Parent};
    }
    pub use crate::record::runtimes::{
        Ask, AskedRuntime, NotWatched, RuntimeFigures, WatchedRuntime, watch_runtime,
    };
    pub use crate::record::task::BlockingTask;
    pub use crate::record::task::hooked_task::HookedTask;
    pub use crate::record::thread::introduce as introduce_thread;
    pub use crate::record::worker::{Runtime, drive_runtime, leave_runtime};
    pub use crate::text::{StackText, TextBuf};
}
