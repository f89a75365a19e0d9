//! Futures as tasks: what wraps a future so that its life is recorded.
//!
//! This knows no executor. Whoever polls the wrapper polls the future; what is recorded is when, and
//! by whom its waker was woken.

use crate::life::Life;
use crate::reasons::Reason;
use crate::task::{Outcome, Place, begin_poll, end_poll};
use crate::waker::Lent;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A future whose life is recorded as that of a task: see [`RecordExt::recorded`].
///
/// It begins when this is made, and ends when the future is done, panics, or is dropped.
#[must_use = "futures do nothing unless they are polled"]
pub struct Recorded<F> {
    /// Dropped before the future: what its destructors do is no part of the task any more.
    life: Life,
    future: F,
}

impl<F> std::fmt::Debug for Recorded<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorded").field("life", &self.life).finish_non_exhaustive()
    }
}

impl<F> Recorded<F> {
    /// The future as a task that begins now, of this name. For integrations; see
    /// [`RecordExt::recorded`].
    #[doc(hidden)]
    pub fn new(future: F, name: &'static str, place: &'static Location<'static>) -> Self {
        let life = Life::begin(crate::places::site_of(name, place));
        Self { life, future }
    }

    /// The future, and no task. For integrations that may record it and may not.
    #[doc(hidden)]
    pub fn unrecorded(future: F) -> Self {
        Self { life: Life::none(), future }
    }
}

impl<F: Future> Future for Recorded<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the future is not moved out of what is pinned; the rest does not need to be.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        let Some(place) = this.life.place_or_adopt() else { return future.poll(context) };
        if !begin_poll(place) {
            let result = future.poll(context);
            if result.is_ready() {
                this.life.finish();
            }
            return result;
        }
        // Before the executor's code is called, which may panic.
        let mut polled = Polled(Some((&mut this.life, place)));
        let lent = Lent::new(place, context.waker());
        let result = future.poll(&mut Context::from_waker(lent.waker()));
        polled.end(if result.is_ready() { Outcome::Ready } else { Outcome::Pending });
        result
    }
}

/// A poll that has begun. Ends it, if the future panics.
struct Polled<'a>(Option<(&'a mut Life, &'static Place)>);

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
    /// Dropped first: what the future's destructors wait for is another matter.
    reason: Reason,
    future: F,
}

impl<F: Future> Future for WaitingFor<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the future is not moved out of what is pinned.
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

/// Recording futures, whatever executor runs them.
pub trait RecordExt: Future + Sized {
    /// Records the future as a task of this name: its begin (now), each poll, who wakes it, its end.
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

    /// Says what the task waits for while this future is pending: it stands in the trace as the
    /// reason of its block, if the future still waits when the task's poll ends: not if it was done
    /// or dropped in that poll. Where a task waits for several such futures at once, the one that was
    /// polled first is the reason, of one around another the inner one. A future that was not polled
    /// in the task's last poll is no reason; one that is kept though nobody polls it any more is one
    /// up to the end of the poll.
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
        let site = crate::places::site_of(what, Location::caller());
        WaitingFor { reason: Reason::new(site), future: self }
    }
}

impl<F: Future> RecordExt for F {}
