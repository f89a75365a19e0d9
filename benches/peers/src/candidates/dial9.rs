//! dial9, with its in-memory buffer, attached as its guide shows.
//!
//! Every future is spawned through it, so it sees wakes. With `--cfg tokio_unstable` it installs Tokio's
//! hooks for polls, spawns and ends of tasks; without, its own wrapper records polls, and spawns and ends are
//! not recorded. Task tracking is on, as in its guide: that is what records spawns and ends where possible.
//! Nothing is profiled, and nothing leaves the buffer.

use super::{BYTES, Tasks};
use anyhow::ensure;
use dial9::{
    Dial9Handle, Dial9HandleTokioExt, MemoryBuffer, Recorder, TaskDumpConfig, TokioAttachOptions,
};
use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Recorded by dial9.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dial9 {
    /// With its task dumps, which need `--cfg tokio_unstable` and the feature `taskdump`.
    pub task_dumps: bool,
}

impl Tasks for Dial9 {
    type Recorder = Recorder;

    fn start(self) -> anyhow::Result<Recorder> {
        Ok(dial9::recorder(MemoryBuffer::new(BYTES as u64)?).build())
    }

    fn runtime(self, recorder: &Recorder, builder: Builder) -> anyhow::Result<Runtime> {
        let dumps = self.task_dumps.then(TaskDumpConfig::default);
        let options = TokioAttachOptions::builder()
            .task_tracking_enabled(true)
            .maybe_task_dump_config(dumps)
            .build();
        let runtime = recorder.handle().attach_tokio_runtime(builder, options)?;
        let enabled = dial9::block_on(&runtime, async { Dial9Handle::current().is_enabled() });
        ensure!(enabled, "dial9 does not record");
        Ok(runtime)
    }

    fn block_on<F>(self, runtime: &Runtime, future: F) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        dial9::block_on(runtime, future)
    }

    fn spawn<F>(self, future: F) -> impl Future<Output = F::Output> + Send
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let task = dial9::spawn(future);
        async { task.await.expect("the task ends") }
    }

    fn stop(self, recorder: Recorder) -> anyhow::Result<()> {
        recorder.graceful_shutdown(Duration::from_secs(1));
        Ok(())
    }
}
