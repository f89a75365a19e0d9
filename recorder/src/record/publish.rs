//! Publishing the next generation: the collector does it when it advances, and writers do it when the
//! collector is late.
//!
//! A full recorder must lose the oldest data. While the running generation grows, only older ones can be
//! reclaimed; if it grew to fill the whole arena, the newest events would be lost. So it ends when it takes
//! two sixteenths of the arena, and any thread can end it. A writer does only that: it lists nothing, and
//! waits for nothing. The generation then never gets the statuses of what was silent in it, and stays
//! *incomplete*; a reader knows them from the previous one.
//!
//! # Synchronization
//!
//! Any number of threads may do this at once, and any may be stopped at any point: see
//! [`Ring::enter`](crate::protocol::ring::Ring::enter). All steps come before the compare-and-swap that
//! publishes, so every thread that enters the generation sees them. A late thread changes nothing: words that
//! only grow are raised, and the others are changed from their values in the previous generation.
//!
//! Once generation *g + 2* is published, *g* is no longer listed. A thread that is listing it finds that out
//! before it writes anything (see `advance`). Until then it may read entries that are reused already; it
//! reads words that are always valid, and discards them.

#![forbid(unsafe_code)]

use crate::fault::{self, Point};
use crate::os::clock;
use crate::protocol::ring::{Began, Full, Ring};
use crate::record::block::ring;
use crate::record::carver::Carver;
use crate::record::control::Control;
use std::sync::atomic::Ordering;

/// After this many generations without a listing, a writer updates the words of all tasks, which distinguish
/// a bounded number of generations.
const UNSEEN: u64 = 1 << 13;

/// Ends a writer's generation, if it is the running one.
#[cold]
#[inline(never)]
pub(crate) fn next(carver: &Carver) {
    let (control, running) = (carver.control, carver.generation);
    if control.generation.load(Ordering::Relaxed) != running || fault::is_collector_alone() {
        return;
    }
    fault::point(Point::Publish);
    // Read all clocks: times extrapolated from one alone are off by some parts in 10,000, so if the collector
    // has not run for long, the generation would begin after events of threads that read the clocks. The
    // frequency is the collector's to measure.
    let now = clock::instant(control.mode(), 0);
    let began =
        Began { ticks: now.ticks.0, monotonic: now.monotonic.0, wall: now.wall.0, frequency: 0 };
    if enter(ring(control), running, began, carver).is_ok() {
        if publish(control, running, running + 1) {
            // The collector may have left this one to the writers; it must be woken for the next one.
            control.advance_requested.store(false, Ordering::Relaxed);
        }
        fault::point(Point::Helped);
        if running.is_multiple_of(UNSEEN) && is_unseen(control, running) {
            crate::record::task::rejuvenate(running);
        }
    }
}

/// Enters the generation after `running` into the table, and prepares what its writers need.
pub(crate) fn enter(ring: &Ring, running: u64, began: Began, carver: &Carver) -> Result<(), Full> {
    let (control, next) = (carver.control, running + 1);
    ring.enter(next, began, carver)?;
    let start = ring.entry(next).start.load(Ordering::Relaxed);
    control.running_start.fetch_max(start, Ordering::Relaxed);
    // Before any thread can write in it, and whatever becomes of this call: no number is used twice.
    control.next_generation.fetch_max(next + 1, Ordering::Relaxed);
    control.ids.begin(next);
    Ok(())
}

/// Whether no listing has run for that long.
fn is_unseen(control: &Control, running: u64) -> bool {
    ring(control).complete.load(Ordering::Relaxed) + UNSEEN < running
}

/// Makes `next` the running generation, if `running` still is. Returns whether this call did so.
pub(crate) fn publish(control: &Control, running: u64, next: u64) -> bool {
    // The header gets a generation's number before the generation is published.
    let header = &ring(control).running;
    let _ = header.compare_exchange(running, next, Ordering::AcqRel, Ordering::Relaxed);
    let swap =
        control.generation.compare_exchange(running, next, Ordering::AcqRel, Ordering::Acquire);
    let published = swap.map_or_else(|found| found, |_| next);
    if published > running {
        control.complete.fetch_max(running - 1, Ordering::Release);
    }
    swap.is_ok()
}

/// Stops the running generation, if it is still `running`, without a next one. Returns whether this call did
/// so. A thread that was about to publish the next one may have written its number into the arena's header,
/// or may be about to.
pub(crate) fn end(control: &Control, running: u64) -> bool {
    control.generation.compare_exchange(running, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Stops the running generation, whichever it is, without a next one. Returns its number.
pub(crate) fn end_any(control: &Control) -> u64 {
    control.generation.swap(0, Ordering::AcqRel)
}
