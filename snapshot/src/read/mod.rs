//! The reader: from a file to events in one order.
//!
//! A file is opened by its index (`catalog`), or, where that is missing or damaged, by a `walk`.
//! A generation is read in two passes: `survey` finds its definitions and what it says of its begin,
//! `stream` then reads each slot's records, and `order` merges the slots: by what may happen next to
//! tasks, spans and workers (`happening`, with a file for each), and by time where that leaves a
//! choice. Nothing is held but one generation at a time, and an [`Event`] holds on to the generation
//! that it is of. [`validate`] takes the same order and tells what cannot be; [`text`] is a file's
//! content in words.
//!
//! A reader survives any input: damage is an error that says where, and costs no more than the
//! generation that it is in; memory is bounded by [`Limits`]. `docs/format.md` has the rules.

mod begin;
mod bytes;
mod carry;
mod catalog;
mod chain;
mod error;
mod event;
mod event_kind;
mod extent;
mod fields;
mod foreign;
mod generation;
mod happening;
mod inside;
mod last;
mod limits;
mod line;
mod lost;
mod mention;
mod order;
mod otel;
mod owned;
mod places;
mod plan;
mod regions;
mod source;
mod spans;
mod standing;
mod stream;
mod survey;
mod tables;
mod tasks;
pub mod text;
mod thread;
mod time;
mod trace;
mod unpack;
mod validate;
mod value;
mod waiting;
mod walk;
mod walked;
mod workers;

pub use crate::wire::Level;
pub use begin::WorkerId;
pub use error::{ReadError, Reason};
pub use event::Event;
pub use event_kind::EventKind;
pub use fields::{Fields, Omitted};
pub use generation::{DecodedGeneration, EndRecord, GenerationEvents, GenerationInfo};
pub(crate) use last::{Contents as FrameContents, look_into};
pub use limits::Limits;
pub use lost::Lost;
pub use standing::{OpenRegion, SpanStatus, TaskStatus, ThreadState};
pub use thread::Thread;
pub use trace::{Events, Trace};
pub use validate::{Violation, validate, validate_with};
pub use value::{Site, Text, Value};
