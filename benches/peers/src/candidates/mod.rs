//! The ways to run a task: bare, and recorded by each recorder as its documentation recommends.
#![forbid(unsafe_code)]

mod bare;
mod dial9;
#[cfg(feature = "lookback")]
mod lookback;

pub use bare::Bare;
pub use dial9::Dial9;
#[cfg(feature = "lookback")]
pub use lookback::Lookback;

use std::future::Future;
use tokio::runtime::{Builder, Runtime};

/// How much memory a recorder may fill, in bytes: the same for all.
pub const BYTES: usize = 16 << 20;

/// A way to run tasks, and perhaps record them.
pub trait Tasks: Copy + Send + Sync + 'static {
    /// Keeps it recording.
    type Recorder;

    /// Begins to record.
    ///
    /// # Errors
    ///
    /// It cannot.
    fn start(self) -> anyhow::Result<Self::Recorder>;

    /// Builds a runtime whose tasks are recorded.
    ///
    /// # Errors
    ///
    /// The runtime cannot be built.
    fn runtime(self, recorder: &Self::Recorder, builder: Builder) -> anyhow::Result<Runtime>;

    /// Runs a future as a task of `runtime`, and waits for it.
    fn block_on<F>(self, runtime: &Runtime, future: F) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static;

    /// Spawns a task on this thread's runtime; the returned future joins it.
    fn spawn<F>(self, future: F) -> impl Future<Output = F::Output> + Send
    where
        F: Future<Output: Send + 'static> + Send + 'static;

    /// Ends recording, after the runtime has been dropped.
    ///
    /// # Errors
    ///
    /// It cannot, or it has lost so many events that the measurement is not what it promises.
    fn stop(self, recorder: Self::Recorder) -> anyhow::Result<()>;
}
