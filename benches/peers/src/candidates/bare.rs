//! Tokio alone.

use super::Tasks;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};

/// Tokio alone: every ratio is to this.
#[derive(Clone, Copy, Debug)]
pub struct Bare;

impl Tasks for Bare {
    type Recorder = ();

    fn start(self) -> anyhow::Result<()> {
        Ok(())
    }

    fn runtime(self, _recorder: &(), mut builder: Builder) -> anyhow::Result<Runtime> {
        Ok(builder.build()?)
    }

    fn block_on<F>(self, runtime: &Runtime, future: F) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        runtime.block_on(async { tokio::spawn(future).await.expect("the task ends") })
    }

    fn spawn<F>(self, future: F) -> impl Future<Output = F::Output> + Send
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let task = tokio::spawn(future);
        async { task.await.expect("the task ends") }
    }

    fn stop(self, _recorder: ()) -> anyhow::Result<()> {
        Ok(())
    }
}
