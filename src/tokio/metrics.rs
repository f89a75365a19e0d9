//! Tokio's own figures of its runtimes: those that are stable. The recorder asks for them once a generation.
//!
//! Tokio has no weak handle to a runtime: one that can ask for figures keeps a part of it in memory, and its descriptors. So a
//! runtime is asked from its first thread's start to its last one's end, whatever hooks are set meanwhile; one that a single
//! thread drives, while [`lookback::block_on`](crate::block_on) runs.

use super::hooks::number_of;
use ::tokio::runtime::{Handle, RuntimeMetrics};
use lookback_recorder::integration::{
    Ask, AskedRuntime, NotWatched, RuntimeFigures, WatchedRuntime, watch_runtime,
};
use lookback_recorder::is_recording;
use std::cell::Cell;
use std::time::Duration;

/// No more workers are looked at: it takes the recorder time.
const MOST_WORKERS: usize = 1024;

/// How often a thread that starts tries, a few microseconds in all: a runtime's workers start at once. One that has no luck does
/// not count among those that have the runtime asked.
const TRIES: usize = 100;

thread_local! {
    static PRESENT: Present = const { Present(Cell::new(None)) };
}

/// The runtime of this thread.
struct Present(Cell<Option<WatchedRuntime>>);

impl Drop for Present {
    /// The hook was not called: somebody has set another one after ours.
    fn drop(&mut self) {
        // The runtime may have hooks of the service, which must not be freed among the variables of a thread.
        if let Some(watched) = self.0.take() {
            watched.leave();
        }
    }
}

/// This thread starts, in the runtime with this number.
pub(super) fn thread_starts(runtime: u32) {
    let Ok(handle) = Handle::try_current() else { return };
    let watch = || {
        watch_runtime(number_of(&handle), AskedRuntime::Number(runtime), || ask(&handle))
            .inspect_err(|_| std::hint::spin_loop())
    };
    let is_final = |watched: &Result<_, _>| !matches!(watched, Err(NotWatched::Busy));
    let Some(Ok(watched)) = (0..TRIES).map(|_| watch()).find(is_final) else { return };
    let before = PRESENT.try_with(|present| present.0.replace(Some(watched)));
    drop(before);
}

/// A thread that has started ends.
pub(super) fn thread_stops() {
    drop(PRESENT.try_with(|present| present.0.take()));
}

/// A runtime that the present thread drives. It is asked once something is recorded.
pub(super) struct Driven<'a> {
    handle: &'a Handle,
    watched: Option<WatchedRuntime>,
    is_decided: bool,
}

impl<'a> Driven<'a> {
    pub(super) fn new(handle: &'a Handle) -> Self {
        Self { handle, watched: None, is_decided: false }
    }

    /// Called at each poll of what it is driven for.
    pub(super) fn look(&mut self) {
        if self.is_decided || !is_recording() {
            return;
        }
        let key = number_of(self.handle);
        match watch_runtime(key, AskedRuntime::OfThisThread, || ask(self.handle)) {
            Err(NotWatched::Busy) => return,
            watched => self.watched = watched.ok(),
        }
        self.is_decided = true;
    }
}

fn ask(handle: &Handle) -> Ask {
    let metrics = handle.metrics();
    let mut before = totals(&metrics);
    Box::new(move || {
        let now = totals(&metrics);
        let mut figures = RuntimeFigures {
            alive_tasks: metrics.num_alive_tasks() as u64,
            queued_tasks: metrics.global_queue_depth() as u64,
            workers: metrics.num_workers() as u64,
            ..RuntimeFigures::default()
        };
        for (before, now) in before.iter().zip(&now) {
            let busy = now.0.saturating_sub(before.0);
            figures.busy += busy;
            figures.busiest = figures.busiest.max(busy);
            figures.parks += now.1.saturating_sub(before.1);
        }
        before = now;
        figures
    })
}

/// For how long each worker was busy, and how often it has gone to sleep.
fn totals(metrics: &RuntimeMetrics) -> Vec<(Duration, u64)> {
    #[cfg(target_has_atomic = "64")]
    let of =
        |worker| (metrics.worker_total_busy_duration(worker), metrics.worker_park_count(worker));
    // Tokio does not count them.
    #[cfg(not(target_has_atomic = "64"))]
    let of = |_| (Duration::ZERO, 0);
    (0..metrics.num_workers().min(MOST_WORKERS)).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tokio::runtime::Builder;

    #[test]
    fn a_runtime_says_what_was_added_since_it_was_asked_before() {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let mut ask = ask(runtime.handle());
        assert_eq!((ask().workers, ask().alive_tasks), (2, 0));
        let tasks: Vec<_> = (0..7)
            .map(|_| runtime.spawn(async { ::tokio::time::sleep(Duration::from_secs(3600)).await }))
            .collect();
        assert_eq!(ask().alive_tasks, 7);
        let mut parks = 0;
        while parks == 0 {
            runtime.block_on(runtime.spawn(::tokio::task::yield_now())).unwrap();
            parks = ask().parks;
        }
        tasks.iter().for_each(|task| task.abort());
    }
}
