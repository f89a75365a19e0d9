//! From a generation's frame to its definitions and records, without any order between slots.

pub(crate) mod bytes;
pub(crate) mod carried;
pub(crate) mod codec;
pub(crate) mod contents;
pub(crate) mod decode_plan;
pub(crate) mod definitions;
pub(crate) mod fast_map;
pub(crate) mod fields;
pub(crate) mod first_pass;
pub(crate) mod initial_state;
pub(crate) mod lost;
pub(crate) mod named_spans;
pub(crate) mod otel;
pub(crate) mod owned_value;
pub(crate) mod peek;
pub(crate) mod regions;
pub(crate) mod sparse_vec;
pub(crate) mod stacks;
pub(crate) mod stream;
pub(crate) mod thread_context;
pub(crate) mod thread_states;
pub(crate) mod threads;
pub(crate) mod timeline;
pub(crate) mod value;
pub(crate) mod workers;
