//! lookback, with the tasks that it spawns and the workers of an instrumented runtime.

use super::{BYTES, Tasks};
use anyhow::ensure;
use lookback::Recorder;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};

/// Recorded by lookback.
#[derive(Clone, Copy, Debug)]
pub struct Lookback;

impl Tasks for Lookback {
    type Recorder = Recorder;

    fn start(self) -> anyhow::Result<Recorder> {
        Ok(Recorder::builder().max_bytes(BYTES).start()?)
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
