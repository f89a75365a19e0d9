//! Tokio's spawn functions, recorded. A task is named by the type of its future and where it was spawned.

use super::metrics::Driven;
use ::tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use ::tokio::task::JoinHandle;
use lookback_recorder::Recorded;
use lookback_recorder::integration::{
    BlockingTask, drive_runtime, introduce_thread, leave_runtime,
};
use std::any::type_name;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::pin;

/// The future as a recorded task, named by its type and spawned at this place.
pub(super) fn recorded<F>(future: F, place: &'static Location<'static>) -> Recorded<F> {
    Recorded::new(future, type_name::<F>(), place)
}

/// Runs `spawn`, and marks its task as recorded already, for the hooks of the runtime.
#[inline(always)]
pub(super) fn wrapped<T>(spawn: impl FnOnce() -> T) -> T {
    #[cfg(tokio_unstable)]
    let _guard = super::task_hooks::Wrapped::new();
    spawn()
}

/// Spawns a recorded task onto the current runtime: [`tokio::spawn`], recorded.
///
/// # Panics
/// Outside a runtime, as Tokio's.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let task = lookback::spawn(async { 6 * 7 });
/// assert_eq!(task.await.unwrap(), 42);
/// # }
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let future = recorded(future, Location::caller());
    wrapped(|| ::tokio::spawn(future))
}

/// Spawns a recorded task onto this runtime.
///
/// ```
/// let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
/// let task = lookback::spawn_on(runtime.handle(), async { 6 * 7 });
/// assert_eq!(runtime.block_on(task)?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn spawn_on<F>(handle: &Handle, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let future = recorded(future, Location::caller());
    wrapped(|| handle.spawn(future))
}

/// Spawns a recorded task, which need not be [`Send`], onto the current
/// [`LocalSet`](::tokio::task::LocalSet).
///
/// # Panics
/// Outside a `LocalSet`, as Tokio's.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let set = tokio::task::LocalSet::new();
/// let answer = set.run_until(async { lookback::spawn_local(async { 42 }).await }).await;
/// assert_eq!(answer.unwrap(), 42);
/// # }
/// ```
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let future = recorded(future, Location::caller());
    wrapped(|| ::tokio::task::spawn_local(future))
}

/// Runs a blocking closure on a thread for that: a recorded task with a single poll.
///
/// # Panics
/// Outside a runtime, as Tokio's.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let sum = lookback::spawn_blocking(|| (1..=10).sum::<u32>()).await;
/// assert_eq!(sum.unwrap(), 55);
/// # }
/// ```
#[track_caller]
pub fn spawn_blocking<F, R>(work: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let errand = BlockingTask::new(type_name::<F>(), Location::caller());
    wrapped(|| ::tokio::task::spawn_blocking(move || errand.run(work)))
}

/// Runs a future on this runtime until it is done, as a recorded task.
///
/// On a current-thread runtime, the thread is that runtime's worker from its first park until this returns.
/// Tokio's own `Runtime::block_on` does not report when it returns, so with that the worker's time outside
/// polls is unknown.
///
/// # Panics
/// Inside a runtime, as Tokio's.
///
/// ```
/// let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// assert_eq!(lookback::block_on(&runtime, async { 42 }), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn block_on<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    /// Ends the thread's time as a worker, even if the future panics.
    struct Leaves(Option<u64>);
    impl Drop for Leaves {
        fn drop(&mut self) {
            if let Some(before) = self.0 {
                leave_runtime(before);
            }
        }
    }
    introduce_thread();
    let drives = runtime.handle().runtime_flavor() == RuntimeFlavor::CurrentThread;
    let mut driven = drives.then(|| Driven::new(runtime.handle()));
    let _leaves = Leaves(drives.then(drive_runtime));
    let future = recorded(future, Location::caller());
    let driven = &mut driven;
    // The future is dropped inside the runtime, as it is without this.
    runtime.block_on(async move {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Some(driven) = driven {
                driven.look();
            }
            future.as_mut().poll(context)
        })
        .await
    })
}
