//! The statuses of everything silent in a generation, so that each generation can be read alone: of threads
//! that recorded nothing, and of tasks and spans to which nothing happened.

mod heap;
pub(crate) mod objects;
mod ranges;
mod stacks;
pub(crate) mod task_stacks;
pub(crate) mod threads;
