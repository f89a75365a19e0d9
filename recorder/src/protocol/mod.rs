//! The protocols between the writing threads and the thread that ends generations. They are pure
//! atomics, without unsafe code or system calls, so `loom` runs the code that ships (`model`).
//!
//! How an event gets into the arena: [`gate`] gives its generation, and [`ring`] carves its block.
//! [`task_state`] and [`span_generations`] decide which generation holds the status of a task or a
//! span. [`intern`] gives equal stacks one number. [`address_table`] knows the objects that are samples of the heap.
//! [`lock_cell`] has who waits for a lock.

pub(crate) mod address_table;
#[cfg(not(loom))]
pub(crate) mod definition_ids;
pub(crate) mod frame;
pub(crate) mod gate;
pub(crate) mod intern;
pub(crate) mod lock_cell;
#[cfg(all(test, loom))]
mod model;
pub(crate) mod owner;
pub(crate) mod references;
pub(crate) mod ring;
pub(crate) mod span_generations;
pub(crate) mod task_state;
