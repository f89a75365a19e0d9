//! Tokio: recorded tasks and workers, on stable Tokio, without compiler flags.
//!
//! [`spawn`](crate::spawn) and its siblings call Tokio's with a recorded future, and return what Tokio
//! returns. [`instrument`] records the workers of a runtime, and when they sleep.
//!
//! ```
//! let mut builder = tokio::runtime::Builder::new_multi_thread();
//! builder.worker_threads(2).enable_all();
//! let _ = lookback::tokio::instrument(&mut builder); // says which hooks were set already, and stay
//! let runtime = builder.build()?;
//! let answer = lookback::block_on(&runtime, async {
//!     lookback::spawn(async { 42 }).await
//! });
//! assert_eq!(answer?, 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

//! # All spawns of a file
//!
//! This module re-exports all of Tokio, so one more line records a file that spawns with `tokio::spawn`;
//! nothing else in it changes:
//!
//! ```
//! use lookback::tokio;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() {
//!     let mut set = tokio::task::JoinSet::new();
//!     set.spawn(async { 40 });
//!     set.spawn(async { 2 });
//!     let task = tokio::spawn(set.join_all());
//!     assert_eq!(task.await.unwrap().into_iter().sum::<i32>(), 42);
//! }
//! ```
//!
//! What a [`Handle`](::tokio::runtime::Handle), a [`Runtime`](::tokio::runtime::Runtime) or a
//! [`LocalSet`](::tokio::task::LocalSet) spawns is not recorded: [`spawn_on`] takes a handle, [`block_on`] a
//! runtime.

mod hooks;
mod join_set;
mod metrics;
mod run;
mod spawn;
pub mod sync;
pub mod task;
#[cfg(tokio_unstable)]
mod task_hooks;

#[doc(no_inline)]
pub use ::tokio::*;
pub use hooks::{Hooks, Instrumented, instrument, instrument_with};
pub use join_set::JoinSetExt;
pub use lookback_macros::{main, test};
pub use run::run;
pub use spawn::{block_on, spawn, spawn_blocking, spawn_local, spawn_on};
pub use task::JoinSet;
