//! The wire format: what recorder and reader must agree on, byte by byte. `docs/format.md` is its
//! specification.

mod arena;
mod block;
mod chars;
mod clock;
mod crash;
mod kind;
mod level;
mod loss;
mod metadata;
mod name;
mod span;
mod task;
mod units;
mod varint;

pub use arena::{
    ARENA_MAGIC, ARENA_VERSION, ArenaHeader, FilterNote, GENERATION_SLOTS, GenerationEntry, offset,
};
pub use block::{
    BLOCK_GRANULE, BLOCK_HEADER, Block, BlockHeader, Blocks, MAX_TEXT, PADDING_MAGIC,
    pack_committed,
};
pub use chars::{ceil_char_boundary, floor_char_boundary};
pub use clock::{ClockKind, ClockRecord};
pub use crash::{CrashNote, crash_offset};
pub use kind::{
    Argument, Class, EVENT_TABLE, FileRow, Kind, Row, ValueType, decode_event_table,
    encode_event_table,
};
pub use level::Level;

/// The name of the region in which a thread of the host works for the recorder, or waits for it: while it
/// saves a snapshot, say. What happens there is no finding.
pub const OWN_REGION: &str = "lookback: saving a snapshot";

pub use loss::Loss;
pub use metadata::{Metadata, MetadataError, Value, key, needed_bytes};
pub use name::TypeName;
pub use span::{
    ListedFields, ListedSpan, MAX_SPAN_LIST_ITEM, SpanListItem, SpanListReader, SpanListWriter,
};
pub use task::{MAX_TASK_LIST_ITEM, TASK_WOKEN, TaskListItem, TaskState};
pub use units::{Generation, Nanos, Position, SpanId, TaskId, ThreadNumber, Ticks};
pub use varint::{
    MAX_VARINT, get_varint, put_varint, unzigzag, unzigzag_wide, zigzag, zigzag_wide,
};
