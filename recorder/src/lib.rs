#![doc = include_str!("../README.md")]
#![cfg_attr(loom, allow(dead_code, reason = "the model uses a part of what is left"))]

mod protocol;
mod sync;

// The model leaves out everything but the protocols, because the rest depends on the real machine.
#[cfg(not(loom))]
mod arena;
#[cfg(not(loom))]
mod crash;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod exports;
#[cfg(not(loom))]
mod fault;
#[cfg(not(loom))]
mod generation;
#[cfg(not(loom))]
mod heap;
#[cfg(not(loom))]
mod lock;
#[cfg(not(loom))]
mod macros;
#[cfg(not(loom))]
mod os;
#[cfg(not(loom))]
mod record;
#[cfg(not(loom))]
mod recorder;
#[cfg(not(loom))]
mod redact;
#[cfg(all(not(loom), target_os = "linux"))]
mod remote;
#[cfg(not(loom))]
mod snapshot;
#[cfg(not(loom))]
mod stack;
#[cfg(all(not(loom), test))]
mod testing;
#[cfg(not(loom))]
mod text;

#[cfg(not(loom))]
pub use exports::*;
