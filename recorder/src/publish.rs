//! Publishing the next generation: what the collector does when it advances, and writers do when it comes
//! too late.
//!
//! A recorder that is full must lose what is oldest. While the running generation grows, only what is
//! older can be given up; if it grew until it is all there is, the newest events would be lost. So it ends
//! when it takes two sixteenths of the arena, whoever has to end it. A writer does no more than
//! that: it lists nobody, and waits for nobody. The generation then lacks the statuses of what was silent in it,
//! for ever, and is *incomplete*; a reader knows them from the one before.
//!
//! # Synchronization
//!
//! Any number of threads may do this at once, and any may be stopped at any point: see
//! [`Ring::enter`](crate::ring::Ring::enter). All steps come before the compare-and-swap that publishes, so
//! they are seen by whoever enters the generation. Who comes late changes nothing: words that grow are
//! raised, the others are changed from what they were in the generation before.
//!
//! Once generation *g + 2* is published, nobody lists *g* any more: who is doing so finds out before it
//! writes anything (see `advance`), and until then reads of places that may be reused already; it
//! reads words that are always valid, and then drops them.

#![forbid(unsafe_code)]

use crate::block::ring;
use crate::clock;
use crate::control::Control;
use crate::fault::{self, Point};
use crate::carver::Carver;
use crate::ring::{Began, Full, Ring};
use std::sync::atomic::Ordering;

/// Words of tasks tell so many generations apart. Half of them may pass before somebody looks at all tasks.
const UNSEEN: u64 = 1 << 13;

/// A writer ends its generation, if it is the running one.
#[cold]
#[inline(never)]
pub(crate) fn next(carver: &Carver) {
    let (control, running) = (carver.control, carver.generation);
    if control.generation.load(Ordering::Relaxed) != running || fault::is_collector_alone() {
        return;
    }
    fault::point(Point::Publish);
    // All clocks, for what follows from one alone goes wrong by some parts in 10,000: where the collector has
    // not come for long, a generation would begin after those who look at it. How fast it runs they are told.
    let now = clock::instant(control.mode(), 0);
    let began = Began { ticks: now.ticks.0, monotonic: now.monotonic.0, wall: now.wall.0, frequency: 0 };
    if enter(ring(control), running, began, carver).is_ok() {
        if publish(control, running, running + 1) {
            // The collector may have left this one to us, and is to be asked about the next one.
            control.advance_requested.store(false, Ordering::Relaxed);
        }
        fault::point(Point::Helped);
        if running.is_multiple_of(UNSEEN) && is_unseen(control, running) {
            crate::task::rejuvenate(running);
        }
    }
}

/// Enters the generation after `running` into the table, and prepares what its writers need.
pub(crate) fn enter(
    ring: &Ring,
    running: u64,
    began: Began,
    carver: &Carver,
) -> Result<(), Full> {
    let (control, next) = (carver.control, running + 1);
    ring.enter(next, began, carver)?;
    let start = ring.entry(next).start.load(Ordering::Relaxed);
    control.running_start.fetch_max(start, Ordering::Relaxed);
    // Before anybody can write in it, and whatever becomes of this: no number is used twice.
    control.next_generation.fetch_max(next + 1, Ordering::Relaxed);
    control.ids.begin(next);
    Ok(())
}

/// Whether nobody has listed anything for that long.
fn is_unseen(control: &Control, running: u64) -> bool {
    ring(control).complete.load(Ordering::Relaxed) + UNSEEN < running
}

/// From now on `next` runs, if until now `running` did. Whether it was this call that said so.
pub(crate) fn publish(control: &Control, running: u64, next: u64) -> bool {
    // A generation is published after its number has been written there.
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

/// From now on none runs, if until now `running` did. Whether that was so. A thread that was about to publish the next
/// one may have written its number into the arena's header, and may be about to do so.
pub(crate) fn end(control: &Control, running: u64) -> bool {
    control.generation.compare_exchange(running, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// From now on none runs, whichever did until now: its number.
pub(crate) fn end_any(control: &Control) -> u64 {
    control.generation.swap(0, Ordering::AcqRel)
}
