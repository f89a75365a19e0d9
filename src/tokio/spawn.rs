//! Tokio's ways to spawn, recorded. A task is named by the type of its future and the place of its
//! spawn.

use ::tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use ::tokio::task::JoinHandle;
use lookback_recorder::Recorded;
use lookback_recorder::integration::{Errand, drive_runtime, leave_runtime, take_whole_name};
use std::any::type_name;
use std::future::Future;
use std::panic::Location;

/// The future as a task of its type's name, spawned there.
pub(super) fn recorded<F>(future: F, place: &'static Location<'static>) -> Recorded<F> {
    Recorded::new(future, type_name::<F>(), place)
}

/// Marks what is spawned by `spawn` as recorded already, for the runtime's own hooks.
#[inline(always)]
pub(super) fn wrapped<T>(spawn: impl FnOnce() -> T) -> T {
    #[cfg(tokio_unstable)]
    let _guard = super::unwrapped::Wrapped::new();
    spawn()
}

/// Spawns a recorded task onto the present runtime: [`tokio::spawn`], recorded.
///
/// # Panics
/// Outside of a runtime, as Tokio's.
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

/// Spawns a recorded task, which need not be [`Send`], onto the present
/// [`LocalSet`](::tokio::task::LocalSet).
///
/// # Panics
/// Outside of a `LocalSet`, as Tokio's.
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

/// Runs a closure that blocks on a thread for that: a recorded task with a single poll.
///
/// # Panics
/// Outside of a runtime, as Tokio's.
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
    let errand = Errand::new(type_name::<F>(), Location::caller());
    wrapped(|| ::tokio::task::spawn_blocking(move || errand.run(work)))
}

/// Runs a future on this runtime until it is done, as a recorded task.
///
/// On a runtime of the current thread, the thread is that runtime's worker from its first park on until this
/// returns. Tokio's own `Runtime::block_on` does not tell when it returns: whether the worker is at
/// work outside of polls is not known then.
///
/// # Panics
/// Inside of a runtime, as Tokio's.
///
/// ```
/// let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// assert_eq!(lookback::block_on(&runtime, async { 42 }), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn block_on<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    /// The thread that drives a runtime is its worker up to here, also if the future panics.
    struct Leaves(Option<u64>);
    impl Drop for Leaves {
        fn drop(&mut self) {
            if let Some(before) = self.0 {
                leave_runtime(before);
            }
        }
    }
    take_whole_name();
    let drives = runtime.handle().runtime_flavor() == RuntimeFlavor::CurrentThread;
    let _leaves = Leaves(drives.then(drive_runtime));
    runtime.block_on(recorded(future, Location::caller()))
}
