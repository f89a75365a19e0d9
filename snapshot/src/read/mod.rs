//! The reader: from a file to events in one order.
//!
//! Three folders, each built on the one before it:
//!
//! * `container`: from a file to frames. A file is opened by its index (`catalog`), or, where that is missing
//!   or damaged, by a scan (`frame_scan`).
//! * `decode`: from a generation's frame to records. `first_pass` finds its definitions and the state it
//!   begins with; `stream` then decodes the records of each slot.
//! * `replay`: from records to one order. `merge` merges the slots, by what may happen next to tasks, spans
//!   and workers (a file for each), and by time where that leaves a choice.
//!
//! Nothing is held but one generation at a time, and an [`Event`] holds on to the generation that it is of.
//! [`Events::lend`] lends events instead, together with what their threads are inside of ([`ThreadState`]).
//! [`validate`] takes the same order and tells what cannot be; [`text`] is a file's content in words.
//!
//! A reader survives any input: damage is an error that says where it is, and costs no more than the
//! generation it is in; memory is bounded by [`Limits`]. `docs/format.md` has the rules.

pub(crate) mod container;
pub(crate) mod decode;
mod error;
mod event;
mod event_kind;
mod generation;
mod heap_stack;
mod heap_totals;
mod limits;
mod lock_holder;
mod open_range;
pub(crate) mod replay;
mod stack;
pub(crate) mod status;
mod system_reading;
mod task_type;
pub mod text;
mod thread_times;
mod trace;
mod validate;
mod waiting;

pub use crate::wire::{Level, StackEnd, StackReason, StackSource};
pub use decode::contents::{EndRecord, GenerationInfo};
pub use decode::fields::{Fields, Omitted};
pub use decode::lost::Lost;
pub(crate) use decode::peek::{FrameOutline as FrameContents, look_into};
pub use decode::threads::Thread;
pub use decode::value::{Site, Text, Value};
pub use decode::workers::WorkerId;
pub use error::{ReadError, Reason};
pub use event::Event;
pub use event_kind::EventKind;
pub use generation::{DecodedGeneration, GenerationEvents, Lent};
pub use heap_stack::HeapStack;
pub use heap_totals::HeapTotals;
pub use limits::Limits;
pub use lock_holder::LockHolder;
pub use open_range::OpenRange;
pub use stack::{Frame, Module, OwnedFrame, Stack};
pub use status::{OpenRegion, SpanStatus, TaskStatus, ThreadState};
pub use system_reading::{RuntimeReading, SystemReading};
pub use task_type::TaskType;
pub use thread_times::ThreadTimes;
pub use trace::{Events, Trace};
pub use validate::{Violation, validate, validate_with};
pub use waiting::{WaitingTask, WaitsAt};
