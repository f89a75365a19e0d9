//! lookback, with the tasks that it spawns and the workers of an instrumented runtime.

use super::{BYTES, Tasks};
use anyhow::ensure;
use lookback::Recorder;
use lookback::tokio::Hooks;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};

/// Recorded by lookback.
#[derive(Clone, Copy, Debug)]
pub enum Lookback {
    /// As it is by default: Tokio may have tasks that nobody records.
    Default,
    /// With the promise that there are none, which saves the clock a reading at most polls.
    AllTasksAreRecorded,
}

impl Tasks for Lookback {
    type Recorder = Recorder;

    fn start(self) -> anyhow::Result<Recorder> {
        Ok(Recorder::builder().max_bytes(BYTES).start()?)
    }

    fn runtime(self, _recorder: &Recorder, mut builder: Builder) -> anyhow::Result<Runtime> {
        let hooks = match self {
            Lookback::Default => Hooks::new(),
            Lookback::AllTasksAreRecorded => Hooks::new().all_tasks_are_recorded(),
        };
        let _ = lookback::tokio::instrument_with(&mut builder, hooks);
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
