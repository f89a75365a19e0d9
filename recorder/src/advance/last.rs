//! The end of a recording: tracing is turned off, and the last generation is complete, if that can be.
//!
//! # Synchronization
//!
//! When the recorder is gone its arena is unmapped. So what [`Advancer::stop`] says with `Ok` is: no thread
//! is inside of the arena, and none will be. Whatever becomes of the last generation, the steps are these:
//!
//! 1. The published generation becomes 0, by a compare-and-swap or by a swap: it was *some* number until
//!    then. Publishers use a compare-and-swap from a number that is not 0, so from now on nobody
//!    publishes one, and it stays 0.
//! 2. The barrier is issued. As in [`gate`](crate::gate), a writer either had set its flag before it,
//!    and this thread sees the flag; or it loads the published generation after it, finds 0, and leaves the
//!    gate without having looked at the arena. That is so for every generation at once: it does not matter
//!    which one a writer found, how many were published meanwhile, and which of them was noted.
//! 3. Every slot is seen with its flag clear, once. It need not be so for all of them at one instant: who
//!    enters later finds 0. That the flag is clear is asked, and not which generation was adopted: there
//!    is no later one in which a writer could be tolerated ([`Gate::is_past`](crate::gate::Gate::is_past)
//!    with 0). The load acquires what was written inside. A thread that gets its slot only now is one that
//!    found tracing on, and so was counted before the barrier, or has not entered yet.
//! 4. If that takes longer than the patience, counted from the beginning, the answer is
//!    [`Error::Stuck`], and the arena stays mapped for ever. So it does if the barrier is refused.
//!
//! Only then is anything looked at that writers change, and only then is anything freed that they use.
//!
//! The last generation can be completed if its silent threads were noted while it was running (see
//! `advance`). Writers that publish one after another may not let that be. Then it stays incomplete, as any
//! generation does in which writers were so fast; it is not waited for them to be slower.

use super::{Advanced, Advancer, Left, Pending};
use crate::error::Error;
use crate::fault::{self, Point};
use crate::publish;
use crate::silent::Silent;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the last generation is noted anew because writers ended it first.
const ATTEMPTS: usize = 20;

/// The last generation, and who was silent in it, if that could be noted while it was running, and there was
/// memory for it.
struct Last {
    generation: u64,
    silent: Option<Vec<Silent>>,
}

impl Advancer {
    /// Turns tracing off, and ends the last generation. If this is `Ok`, nobody is inside of the arena any
    /// more, and nobody will be; else it must stay mapped.
    pub(crate) fn stop(&mut self, patience: Duration) -> Result<(), Error> {
        if self.over {
            return Ok(());
        }
        let stopped = self.end_last(patience);
        self.over = true;
        self.after = Some(super::recorded(self.control));
        stopped
    }

    /// Recording cannot go on: ends it as far as that goes in that time, for this reason.
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
        let Last { generation, silent } = self.turn_off(patience / 2);
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
        // What is left to do is this thread's alone. A thread that was about to publish a later generation may have
        // written its number, but nothing was written in it.
        let ring = self.arena.ring();
        ring.running.store(generation, Ordering::Release);
        self.control.advance_requested.store(false, Ordering::Relaxed);
        self.control.settled.fetch_max(generation, Ordering::Release);
        // Slots and places know what they were in the generation before, but not in older ones.
        if let Some(before) = self.pending.take().filter(|one| one.generation + 1 == generation) {
            self.complete(before);
        }
        let completed = silent.map(|silent| self.complete(Pending { generation, silent, since }));
        if matches!(completed, Some(Advanced::Completed(_))) {
            self.arena.ring().running.store(0, Ordering::Release);
        }
        Ok(())
    }

    /// Steps 1 of an advance and of the end, trying for so long to do the first while the generation runs
    /// that is the last.
    fn turn_off(&mut self, patience: Duration) -> Last {
        let began = Instant::now();
        let mut attempt = 0;
        let (generation, noted, silent) = loop {
            attempt += 1;
            self.catch_up();
            let generation = self.running;
            let left = self.settle_before(generation, patience.saturating_sub(began.elapsed()));
            let silent = self.note_silent(generation);
            // Notes of a thread that is still inside an older one may not be true.
            let silent = silent.filter(|_| matches!(left, Ok(Left::None)));
            // The next one is entered for what it says of the end of this one.
            let runs = self.control.generation.load(Ordering::Acquire) == generation;
            if runs
                && self.enter_next(generation).is_ok()
                && publish::end(self.control, generation)
            {
                break (generation, generation, silent);
            }
            if attempt == ATTEMPTS || began.elapsed() > patience {
                break (publish::end_any(self.control), generation, silent);
            }
        };
        self.running = generation;
        self.control.next_generation.fetch_max(generation + 1, Ordering::Relaxed);
        Last { generation, silent: silent.filter(|_| generation == noted) }
    }
}
