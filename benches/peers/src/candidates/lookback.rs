//! lookback, with the tasks that it spawns and the workers of an instrumented runtime.

use super::{BYTES, Tasks};
use anyhow::ensure;
use lookback::Recorder;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};

/// Recorded by lookback.
#[derive(Clone, Copy, Debug)]
pub struct Lookback {
    async_stacks: bool,
    cpu_samples: u32,
}

impl Lookback {
    /// As it is by default.
    #[must_use]
    pub fn new() -> Self {
        Self { async_stacks: true, cpu_samples: 0 }
    }

    /// With stacks of waiting tasks, or without.
    #[must_use]
    pub fn async_stacks(self, async_stacks: bool) -> Self {
        Self { async_stacks, ..self }
    }

    /// With so many samples a second of processor time; 0 for none.
    #[must_use]
    pub fn cpu_samples(self, hz: u32) -> Self {
        Self { cpu_samples: hz, ..self }
    }
}

impl Default for Lookback {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks for Lookback {
    type Recorder = Recorder;

    fn start(self) -> anyhow::Result<Recorder> {
        let builder = Recorder::builder().max_bytes(BYTES).async_stacks(self.async_stacks);
        Ok(builder.cpu_samples(self.cpu_samples).start()?)
    }

    fn runtime(self, _recorder: &Recorder, mut builder: Builder) -> anyhow::Result<Runtime> {
        let _ = lookback::tokio::instrument(&mut builder);
        Ok(builder.build()?)
    }

    fn block_on<F>(self, runtime: &Runtime, future: F) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        runtime.block_on(async { lookback::spawn(future).await.expect("the task ends") })
    }

    fn spawn<F>(self, future: F) -> impl Future<Output = F::Output> + Send
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let task = lookback::spawn(future);
        async { task.await.expect("the task ends") }
    }

    fn stop(self, recorder: Recorder) -> anyhow::Result<()> {
        let stats = recorder.stats();
        ensure!(stats.recorded > 0, "lookback has recorded nothing");
        ensure!(
            stats.lost_in_all() * 100 <= stats.recorded,
            "lookback has lost {} events of {}",
            stats.lost_in_all(),
            stats.recorded
        );
        drop(recorder.stop()?);
        Ok(())
    }
}
