//! Recorded tasks in a [`JoinSet`].

use super::spawn::{recorded, wrapped};
use ::tokio::runtime::Handle;
use ::tokio::task::{AbortHandle, JoinSet};
use lookback_recorder::integration::BlockingTask;
use std::any::type_name;
use std::future::Future;
use std::panic::Location;

/// The methods of [`JoinSet`] that spawn, with recorded tasks.
///
/// ```
/// use lookback::tokio::JoinSetExt;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut set = tokio::task::JoinSet::new();
/// for number in 0..10 {
///     set.spawn_recorded(async move { number });
/// }
/// assert_eq!(set.join_all().await.into_iter().sum::<u32>(), 45);
/// # }
/// ```
pub trait JoinSetExt<T: 'static> {
    /// [`JoinSet::spawn`], recorded.
    ///
    /// # Panics
    /// Outside of a runtime.
    fn spawn_recorded<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send;

    /// [`JoinSet::spawn_on`], recorded.
    fn spawn_recorded_on<F>(&mut self, future: F, handle: &Handle) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send;

    /// [`JoinSet::spawn_local`], recorded.
    ///
    /// # Panics
    /// Outside of a `LocalSet`.
    fn spawn_local_recorded<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + 'static;

    /// [`JoinSet::spawn_blocking`], recorded.
    ///
    /// # Panics
    /// Outside of a runtime.
    fn spawn_blocking_recorded<F>(&mut self, work: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send;
}

impl<T: 'static> JoinSetExt<T> for JoinSet<T> {
    #[track_caller]
    fn spawn_recorded<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        let future = recorded(future, Location::caller());
        wrapped(|| self.spawn(future))
    }

    #[track_caller]
    fn spawn_recorded_on<F>(&mut self, future: F, handle: &Handle) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        let future = recorded(future, Location::caller());
        wrapped(|| self.spawn_on(future, handle))
    }

    #[track_caller]
    fn spawn_local_recorded<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        let future = recorded(future, Location::caller());
        wrapped(|| self.spawn_local(future))
    }

    #[track_caller]
    fn spawn_blocking_recorded<F>(&mut self, work: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        let errand = BlockingTask::new(type_name::<F>(), Location::caller());
        wrapped(|| self.spawn_blocking(move || errand.run(work)))
    }
}
