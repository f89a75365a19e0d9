//! The code that runs on the recording thread: from the macros' calls ([`emit`]) to bytes in a
//! block.
//!
//! Ordinary events take the [`fast_path`]. All others, such as the first of a block, go through the
//! [`writer`], which enters the gate of the thread's [`slot`], carves blocks, and restates what is
//! open when it meets a new generation ([`restate`]). [`value`] and [`fields`] encode values. A
//! [`site`] is a place in the source; [`site_registry`] holds sites that are not statics.
//!
//! Slots, tasks and spans refer to each other: a writer that meets a new generation states which
//! task it polls and which spans it is inside, and tasks and spans are written through a slot.

pub(crate) mod abandoned;
pub(crate) mod block;
pub(crate) mod carver;
pub(crate) mod control;
pub(crate) mod cursor;
pub(crate) mod emit;
pub(crate) mod fast_path;
pub(crate) mod field_name;
pub(crate) mod fields;
pub(crate) mod filter;
pub(crate) mod format_fields;
#[cfg(target_os = "linux")]
pub(crate) mod growth;
#[cfg(not(target_os = "linux"))]
#[path = "grown.rs"]
pub(crate) mod growth;
pub(crate) mod hooks;
pub(crate) mod limits;
pub(crate) mod named_worker;
pub(crate) mod nesting;
pub(crate) mod own_work;
pub(crate) mod panic_seen;
pub(crate) mod passing;
pub(crate) mod publish;
pub(crate) mod ranges;
pub(crate) mod restate;
pub(crate) mod runtimes;
pub(crate) mod samples;
pub(crate) mod site;
pub(crate) mod site_registry;
pub(crate) mod slab;
pub(crate) mod slot;
pub(crate) mod span;
pub(crate) mod sparse_fields;
pub(crate) mod stacks;
pub(crate) mod strings;
pub(crate) mod task;
pub(crate) mod thread;
pub(crate) mod thresholds;
pub(crate) mod value;
pub(crate) mod worker;
pub(crate) mod writer;
