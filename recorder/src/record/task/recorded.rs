//! Futures as tasks: wrappers that record a future's life.
//!
//! This module knows no executor. Polling the wrapper polls the future; the recorder notes when, and which
//! thread woke its waker.

use crate::protocol::frame;
use crate::record::task::reasons::Reason;
use crate::record::task::task_handle::Life;
use crate::record::task::waker::Lent;
use crate::record::task::{Outcome, TaskEntry, begin_poll, end_poll};
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A future whose life is recorded as a task: see [`RecordExt::recorded`].
///
/// The task begins when this is created, and ends when the future completes, panics, or is dropped.
#[must_use = "futures do nothing unless they are polled"]
pub struct Recorded<F> {
    /// Dropped before the future, whose destructors are no longer part of the task.
    life: Life,
    future: F,
}

impl<F> std::fmt::Debug for Recorded<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorded").field("life", &self.life).finish_non_exhaustive()
    }
}

impl<F> Recorded<F> {
    /// Wraps the future as a task with this name that begins now. For integrations; see
    /// [`RecordExt::recorded`].
    #[doc(hidden)]
    pub fn new(future: F, name: &'static str, place: &'static Location<'static>) -> Self {
        let site = crate::record::site_registry::site_of(name, place, size_of::<F>());
        let life = Life::begin(site);
        Self { life, future }
    }

    /// Wraps the future without a task. For integrations that record only some futures.
    #[doc(hidden)]
    pub fn unrecorded(future: F) -> Self {
        Self { life: Life::none(), future }
    }
}

impl<F: Future> Future for Recorded<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the future is structurally pinned and never moved out; the rest need not be
        // pinned.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        let Some(place) = this.life.place_or_adopt() else { return future.poll(context) };
        if !begin_poll(place, frame::here()) {
            let result = future.poll(context);
            if result.is_ready() {
                this.life.finish();
            }
            return result;
        }
        // Set up before calling the executor's code, which may panic.
        let mut polled = Polled(Some((&mut this.life, place)));
        let lent = Lent::new(place, context.waker());
        let result = future.poll(&mut Context::from_waker(lent.waker()));
        polled.end(if result.is_ready() { Outcome::Ready } else { Outcome::Pending });
        result
    }
}

/// A poll that has begun. Ends it even if the future panics.
struct Polled<'a>(Option<(&'a mut Life, &'static TaskEntry)>);

impl Polled<'_> {
    #[inline(always)]
    fn end(&mut self, outcome: Outcome) {
        let Some((life, place)) = self.0.take() else { return };
        end_poll(place, outcome);
        if outcome == Outcome::Pending {
            place.wakers.rest();
        } else {
            life.finish();
        }
    }
}

impl Drop for Polled<'_> {
    fn drop(&mut self) {
        self.end(Outcome::Panicked);
    }
}

/// A future that says what its task waits for: see [`RecordExt::waiting_for`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub struct WaitingFor<F> {
    /// Dropped first: what the future's destructors wait for has another reason.
    reason: Reason,
    future: F,
}

impl<F: Future> Future for WaitingFor<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the future is never moved out of the pinned wrapper.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let result = unsafe { Pin::new_unchecked(&mut this.future) }.poll(context);
        match result {
            Poll::Pending => this.reason.stands(),
            Poll::Ready(_) => this.reason.is_over(),
        }
        result
    }
}

/// Records futures, on any executor.
pub trait RecordExt: Future + Sized {
    /// Records the future as a task with this name: its begin (now), its polls, its wakes and its
    /// end.
    ///
    /// ```
    /// use lookback_recorder::RecordExt;
    /// async fn tick() {}
    /// let task = tick().recorded("tick");
    /// # drop(task);
    /// ```
    #[track_caller]
    fn recorded(self, name: &'static str) -> Recorded<Self> {
        Recorded::new(self, name, Location::caller())
    }

    /// Names what the task waits for while this future is pending. If the future is still pending
    /// when the task's poll ends, the trace has this name as the reason for the wait; not if the
    /// future completed or was dropped in that poll. If a task waits for several such futures at
    /// once, the one polled first gives the reason; if they are nested, the inner one. A future
    /// that was not polled in the task's last poll gives no reason; one that is kept but no longer
    /// polled gives one until the end of the poll.
    ///
    /// ```
    /// use lookback_recorder::RecordExt;
    /// async fn query() -> u32 { 7 }
    /// async fn handler() -> u32 {
    ///     query().waiting_for("database").await
    /// }
    /// # drop(handler());
    /// ```
    #[track_caller]
    fn waiting_for(self, what: &'static str) -> WaitingFor<Self> {
        let site = crate::record::site_registry::site_of(what, Location::caller(), 0);
        WaitingFor { reason: Reason::new(site), future: self }
    }
}

impl<F: Future> RecordExt for F {}
