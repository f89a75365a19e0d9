//! Tokio: recorded tasks and workers, on stable Tokio, with no flag for the compiler.
//!
//! [`spawn`](crate::spawn) and its siblings are Tokio's own with a recorded future: what they return
//! is what Tokio returns. [`instrument`] makes the workers of a runtime known, and when they sleep.
//!
//! ```
//! let mut builder = tokio::runtime::Builder::new_multi_thread();
//! builder.worker_threads(2).enable_all();
//! lookback::tokio::instrument(&mut builder);
//! let runtime = builder.build()?;
//! let answer = lookback::block_on(&runtime, async {
//!     lookback::spawn(async { 42 }).await
//! });
//! assert_eq!(answer?, 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod hooks;
mod join_set;
mod spawn;
#[cfg(tokio_unstable)]
mod unwrapped;

pub use hooks::{Hooks, Instrumented, instrument, instrument_with};
pub use join_set::JoinSetExt;
pub use spawn::{block_on, spawn, spawn_blocking, spawn_local, spawn_on};
