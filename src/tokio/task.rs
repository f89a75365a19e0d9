//! [`tokio::task`], with functions and a [`JoinSet`] whose tasks are recorded.

#[doc(no_inline)]
pub use ::tokio::task::*;

pub use super::spawn::{spawn, spawn_blocking, spawn_local};

use super::JoinSetExt;
use super::spawn::{recorded, wrapped};
use ::tokio::runtime::Handle;
use ::tokio::task::JoinSet as TokioSet;
use lookback_recorder::integration::BlockingTask;
use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;

/// Tokio's [`JoinSet`](TokioSet) with recorded tasks. All other methods come from that one, by [`Deref`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut set: lookback::tokio::JoinSet<u32> = (0..10).map(|number| async move { number }).collect();
/// let mut sum = 0;
/// while let Some(number) = set.join_next().await {
///     sum += number.unwrap();
/// }
/// assert_eq!(sum, 45);
/// # }
/// ```
pub struct JoinSet<T>(TokioSet<T>);

impl<T> JoinSet<T> {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self(TokioSet::new())
    }

    /// Tokio's own set, with its tasks.
    #[must_use]
    pub fn into_inner(self) -> TokioSet<T> {
        self.0
    }
}

impl<T: 'static> JoinSet<T> {
    /// [`spawn`](TokioSet::spawn), recorded.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        self.0.spawn_recorded(future)
    }

    /// [`spawn_on`](TokioSet::spawn_on), recorded.
    #[track_caller]
    pub fn spawn_on<F>(&mut self, future: F, handle: &Handle) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        self.0.spawn_recorded_on(future, handle)
    }

    /// [`spawn_local`](TokioSet::spawn_local), recorded.
    ///
    /// # Panics
    /// Outside of a `LocalSet`.
    #[track_caller]
    pub fn spawn_local<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        self.0.spawn_local_recorded(future)
    }

    /// [`spawn_blocking`](TokioSet::spawn_blocking), recorded.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[track_caller]
    pub fn spawn_blocking<F>(&mut self, work: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        self.0.spawn_blocking_recorded(work)
    }

    /// [`spawn_blocking_on`](TokioSet::spawn_blocking_on), recorded.
    #[track_caller]
    pub fn spawn_blocking_on<F>(&mut self, work: F, handle: &Handle) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send,
    {
        let errand = BlockingTask::new(type_name::<F>(), Location::caller());
        wrapped(|| self.0.spawn_blocking_on(move || errand.run(work), handle))
    }

    /// [`spawn_local_on`](TokioSet::spawn_local_on), recorded.
    #[track_caller]
    pub fn spawn_local_on<F>(&mut self, future: F, local: &LocalSet) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        let future = recorded(future, Location::caller());
        wrapped(|| self.0.spawn_local_on(future, local))
    }

    /// [`join_all`](TokioSet::join_all): waits for all of them.
    ///
    /// # Panics
    /// If one of the tasks has panicked.
    pub async fn join_all(self) -> Vec<T> {
        self.0.join_all().await
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Deref for JoinSet<T> {
    type Target = TokioSet<T>;
    fn deref(&self) -> &TokioSet<T> {
        &self.0
    }
}

impl<T> DerefMut for JoinSet<T> {
    fn deref_mut(&mut self) -> &mut TokioSet<T> {
        &mut self.0
    }
}

impl<T> From<TokioSet<T>> for JoinSet<T> {
    fn from(set: TokioSet<T>) -> Self {
        Self(set)
    }
}

/// Spawns each of the futures, as Tokio's does. Tasks from [`Iterator::collect`] are named with a place in
/// the standard library, because `collect` does not say where it was called.
impl<T, F> FromIterator<F> for JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = F>>(futures: I) -> Self {
        let (mut set, caller) = (TokioSet::new(), Location::caller());
        for future in futures {
            let future = recorded(future, caller);
            wrapped(|| set.spawn(future));
        }
        Self(set)
    }
}
