//! The end of a recording: tracing is turned off, and the last generation is completed, if possible.
//!
//! # Synchronization
//!
//! When the recorder is gone, its arena is unmapped. So `Ok` from [`Advancer::stop`] means: no thread is
//! inside the arena, and none will be. Whatever becomes of the last generation, these are the steps:
//!
//! 1. The published generation becomes 0, by a compare-and-swap or by a swap: until then it was *some* other
//!    number. Publishers use a compare-and-swap from a number that is not 0, so from now on none of them
//!    publishes, and it stays 0.
//! 2. The barrier is issued. As in [`gate`](crate::protocol::gate), either a writer set its flag before the
//!    barrier, and this thread sees the flag; or it loads the published generation after the barrier, finds
//!    0, and leaves the gate without having looked at the arena. That covers every generation at once: it
//!    does not matter which one a writer found, how many were published meanwhile, or which of them was
//!    noted.
//! 3. Every slot is seen once with its flag clear. This need not hold for all of them at one instant: a
//!    writer that enters later finds 0. The flag is what counts here, not the adopted generation: there is no
//!    later generation in which a writer could be tolerated
//!    ([`Gate::is_past`](crate::protocol::gate::Gate::is_past) with 0). The load acquires what was written
//!    inside. A thread that gets its slot only now found tracing on, and so was counted before the barrier,
//!    or has not entered yet.
//! 4. If that takes longer than the patience, counted from the beginning, the result is [`Error::Stuck`], and
//!    the arena is never unmapped. The same happens if the barrier is refused.
//!
//! Only then does this thread look at anything that writers change, or free anything that they use.
//!
//! The last generation can be completed if its silent threads were noted while it was running (see
//! `advance`). Writers that publish one generation after another may prevent that. Then it stays incomplete,
//! like any generation that writers outrun; `stop` does not wait for them to slow down.

use super::{Advanced, Advancer, Left, Pending};
use crate::error::Error;
use crate::fault::{self, Point};
use crate::generation::statedump::threads::Notes;
use crate::record::publish;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often to note the silent threads of the last generation anew, if writers end it first.
const ATTEMPTS: usize = 20;

/// The last generation and its silent threads, if they could be noted while it was running and there was
/// memory for the notes.
struct Last {
    generation: u64,
    notes: Option<Notes>,
}

impl Advancer {
    /// Turns tracing off and ends the last generation. After `Ok`, no thread is inside the arena or will be;
    /// otherwise it must stay mapped.
    pub(crate) fn stop(&mut self, patience: Duration) -> Result<(), Error> {
        if self.over {
            return Ok(());
        }
        let stopped = self.end_last(patience);
        self.over = true;
        self.after = Some(super::recorded(self.control));
        stopped
    }

    /// Ends a recording that cannot continue, for this reason, as far as that is possible within `patience`.
    pub(crate) fn give_up(&mut self, reason: String, patience: Duration) {
        if self.over || self.broken.is_some() {
            return;
        }
        if self.stop(patience).is_err() {
            self.control.generation.store(0, Ordering::Release);
            self.arena.leak();
        }
        self.broken.get_or_insert(reason);
    }

    fn end_last(&mut self, patience: Duration) -> Result<(), Error> {
        if let Some(reason) = &self.broken {
            return Err(Error::Broken(reason.clone()));
        }
        let since = Instant::now();
        let Last { generation, notes } = self.turn_off(patience / 2);
        fault::point(Point::Published);
        self.bar(generation)?;
        let waiting = Instant::now();
        let left = self.wait_for_writers(0, patience.saturating_sub(since.elapsed()));
        if left != Left::None {
            return Err(Error::Stuck(patience));
        }
        // SAFETY: tracing is off, and every slot was seen outside since.
        unsafe { self.control.release_collector() };
        self.timings.lock().waits.record(waiting.elapsed());
        fault::point(Point::Settled);
        // Only this thread does the rest. A thread that was about to publish a later generation may have
        // written its number, but nothing was written in it.
        let ring = self.arena.ring();
        ring.running.store(generation, Ordering::Release);
        self.control.advance_requested.store(false, Ordering::Relaxed);
        self.control.settled.fetch_max(generation, Ordering::Release);
        // Slots and entries know their state in the previous generation, but not in older ones.
        if let Some(before) = self.pending.take().filter(|one| one.generation + 1 == generation) {
            self.complete(before);
        }
        let completed = notes.map(|notes| self.complete(Pending { generation, notes, since }));
        if matches!(completed, Some(Advanced::Completed(_))) {
            self.arena.ring().running.store(0, Ordering::Release);
        }
        Ok(())
    }

    /// Step 1 of an advance and of the end. Tries, for that long, to do the former while the last generation
    /// is running.
    fn turn_off(&mut self, patience: Duration) -> Last {
        let began = Instant::now();
        let mut attempt = 0;
        let (generation, noted, notes) = loop {
            attempt += 1;
            self.catch_up();
            let generation = self.running;
            let left = self.settle_before(generation, patience.saturating_sub(began.elapsed()));
            let notes = self.note(generation);
            // Notes about a thread that is still inside an older generation may be false.
            let notes = notes.filter(|_| matches!(left, Ok(Left::None)));
            // The next one is entered into the table for what it says about the end of this one.
            let runs = self.control.generation.load(Ordering::Acquire) == generation;
            if runs && self.enter_next(generation).is_ok() && publish::end(self.control, generation)
            {
                break (generation, generation, notes);
            }
            if attempt == ATTEMPTS || began.elapsed() > patience {
                break (publish::end_any(self.control), generation, notes);
            }
        };
        self.running = generation;
        self.control.next_generation.fetch_max(generation + 1, Ordering::Relaxed);
        Last { generation, notes: notes.filter(|_| generation == noted) }
    }
}
