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

//! # All spawns of a file
//!
//! This module has all that Tokio has, so a file that spawns with `tokio::spawn` is recorded by one more
//! line, and nothing else in it changes:
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
//! [`LocalSet`](::tokio::task::LocalSet) spawns stays as it was: [`spawn_on`] takes a handle, [`block_on`] a
//! runtime.

mod hooks;
mod join_set;
mod run;
mod spawn;
pub mod task;
#[cfg(tokio_unstable)]
mod unwrapped;

#[doc(no_inline)]
pub use ::tokio::*;
pub use hooks::{Hooks, Instrumented, instrument, instrument_with};
pub use join_set::JoinSetExt;
pub use lookback_macros::{main, test};
pub use run::run;
pub use spawn::{block_on, spawn, spawn_blocking, spawn_local, spawn_on};
pub use task::JoinSet;
