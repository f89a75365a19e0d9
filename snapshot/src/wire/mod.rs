//! The wire format: the bytes on which recorder and reader must agree. `docs/format.md` specifies them.

mod arena;
mod block;
mod chars;
mod clock;
#[cfg(feature = "symbols")]
mod code_names;
mod crash;
mod crash_stack;
mod event_table;
mod level;
mod lock;
mod loss;
mod metadata;
mod name;
mod outcome;
mod process_stacks;
#[cfg(feature = "read")]
mod rest;
mod span;
mod stack;
mod system_counter;
mod task;
mod task_stacks;
mod units;
mod varint;

pub use arena::{ArenaHeader, GenerationEntry};
pub use clock::{ClockKind, ClockRecord};
pub use crash::CrashNote;
pub use crash_stack::{CrashFile, CrashFrame, CrashStack};
pub use level::Level;
pub use lock::{LockFlags, LockKind};
pub use loss::Loss;
pub use metadata::{Metadata, MetadataError, Value, key};
pub use process_stacks::{
    CodeFile, CodeFrame, MOST_THREADS, ProcessStacks, ThreadAt, Waits, WaitsOn,
};
pub use stack::{StackEnd, StackReason, StackSource};
pub use system_counter::{CounterGroup, CounterUnit, SystemCounter};
pub use task::{HOOKED_TASK, TaskState};
pub use units::{Generation, Nanos, Position, SpanId, TaskId, ThreadNumber, Ticks};

#[cfg(feature = "symbols")]
pub(crate) use code_names::{
    CodeName, CodeNames, CodeNamesWriter, MOST_ENCODED as MOST_CODE_NAMES,
};
#[cfg(feature = "read")]
pub(crate) use event_table::event_table;

// The bytes themselves, for the recorder and the command. Not part of the public API.
#[doc(hidden)]
pub use arena::{ARENA_MAGIC, ARENA_VERSION, GENERATION_SLOTS, TextNote, offset};
#[doc(hidden)]
pub use block::{
    BLOCK_GRANULE, BLOCK_HEADER, Block, BlockHeader, Blocks, MAX_TEXT, PADDING_MAGIC,
    pack_committed,
};
#[doc(hidden)]
pub use chars::{ceil_char_boundary, floor_char_boundary};
#[doc(hidden)]
pub use crash::crash_offset;
#[doc(hidden)]
pub use crash_stack::crash_stack_offset;
#[doc(hidden)]
pub use event_table::{
    Argument, Class, EVENT_TABLE, FileRow, Kind, Row, ValueType, decode_event_table,
    encode_event_table,
};
#[doc(hidden)]
pub use metadata::needed_bytes;
#[doc(hidden)]
pub use name::TypeName;
#[doc(hidden)]
pub use outcome::{Outcome, Told};
#[cfg(feature = "read")]
#[doc(hidden)]
pub use process_stacks::get_wait;
#[doc(hidden)]
pub use process_stacks::put_wait;
#[doc(hidden)]
pub use span::{
    ListedFields, ListedSpan, MAX_SPAN_LIST_ITEM, SpanListItem, SpanListReader, SpanListWriter,
};
#[doc(hidden)]
pub use task::{MAX_TASK_LIST_ITEM, TASK_WOKEN, TaskListItem};
#[doc(hidden)]
pub use task_stacks::{
    ListedStack, MAX_LISTED_STACKS, MAX_TASK_STACKS_ITEM, TaskStacks, TaskStacksReader,
    TaskStacksWriter,
};
#[doc(hidden)]
pub use varint::{
    MAX_VARINT, get_varint, put_varint, unzigzag, unzigzag_wide, zigzag, zigzag_wide,
};

/// The name of the region in which a thread of the host works for the recorder or waits for it, to save a
/// snapshot, for instance. Analyses do not report time in it.
pub const OWN_REGION: &str = "lookback: saving a snapshot";

/// The name of the event by which the recorder's thread says that the whole process was stopped: by SIGSTOP, in a frozen
/// control group, or with its machine. It had overslept without having waited for a processor. It records the event
/// right after the stop, with [`STOPPED_AT_LEAST`] and [`STOPPED_AT_MOST`] as bounds. No thread recorded anything
/// during the stop, so the stop is the longest silence within the bounds; if that is too short, there was none.
pub const STOPPED_EVENT: &str = "lookback: the process was stopped";
/// The name of the range in which the whole process was stopped, as [`STOPPED_EVENT`] says it, at least.
pub const STOPPED_RANGE: &str = "lookback: the process was stopped";
/// The name of the range in which the recorder's thread wanted to run and got no core, as other threads will not have.
pub const STARVED_RANGE: &str = "lookback: no core for the recorder";
/// The name of the range in which page faults took much of the process's time.
pub const FAULTS_RANGE: &str = "lookback: storm of page faults";
/// The name of the range in which the control group was at its limit of memory, so that the kernel reclaimed some.
pub const RECLAIM_RANGE: &str = "lookback: memory of the control group is reclaimed";
/// The name of the event that the recorder's thread records right before the one of a trigger that it fires for a condition that
/// lasts. Its fields `thread`, the recorder's number or 0, and `span`, as every view shows it or empty, say what it is about.
pub const TRIGGER_ABOUT: &str = "trigger_about";
/// Its field: the nanoseconds since the thread should have woken.
pub const STOPPED_AT_LEAST: &str = "at_least_ns";
/// Its field: the nanoseconds since the thread went to sleep.
pub const STOPPED_AT_MOST: &str = "at_most_ns";
/// Shorter stops are not reported.
pub const SHORTEST_STOP: Nanos = Nanos(250_000_000);
