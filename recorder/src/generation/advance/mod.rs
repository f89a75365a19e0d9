//! Advancing: how one generation ends, complete, and the next begins, while threads write.
//!
//! One thread at a time, under the advancer's lock:
//!
//! 1. if writers published *g*, waits until none is left in the generations before it; then notes the threads
//!    that have been silent in *g*: whose slot it is, and which regions are open; and the open ranges of the process;
//! 2. publishes *g + 1* and issues the barrier, unless a writer was faster (see `publish`);
//! 3. waits until no writer is left in *g* (see `gate`);
//! 4. makes the statuses and the end record, carves a block for them, and marks *g* complete.
//!
//! Writers wait for none of it. If they have published *g + 2* before the statuses are made, entries and
//! slots no longer know what they were in *g*: it stays incomplete, and the advancer tries the next one.
//!
//! [`end`] makes the statuses and the end record; [`last`] ends the last generation, after which the arena may be unmapped.
//!
//! # Why the notes are true
//!
//! A slot's state changes only inside its gate, after its owner adopted the generation it found there. A
//! slot's note is kept only if its owner had not entered *g* when all of it was read (see
//! [`Gate::entered`](crate::protocol::gate::Gate::entered)). Everything the owner did until then, it did
//! before *g*. If it enters *g* after the note, it states itself there, and step 4 drops the note. If *g* is
//! still running when all notes are taken, no thread was wrongly taken for one that was not silent. A thread
//! that is still inside an older generation may yet change what was noted about it; so notes are taken only
//! when there is none.

mod end;
mod last;

use crate::arena::Arena;
use crate::arena::block_totals;
use crate::error::Error;
use crate::fault::{self, Point};
use crate::generation::pace::{Listing, Rest, Share};
use crate::generation::statedump::threads::{Notes, REGION_SIZE, THREAD_SIZE};
use crate::generation::system_counters::Readings;
use crate::generation::thread_times::Ran;
use crate::generation::timing::Timings;
use crate::heap::profile::Listed;
use crate::os::barrier::Barrier;
use crate::os::clock::Calibration;
use crate::protocol::ring::{Began, Entry, Full};
use crate::record::carver::Carver;
use crate::record::control::Control;
use crate::record::publish;
use crate::record::slot::Slot;
use end::END_SIZE;

use lookback_snapshot::wire::{ClockRecord, Generation, Loss};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The slot number of the collector's own blocks. Threads' slots count from 1.
pub(crate) const COLLECTOR_SLOT: u32 = 0;

/// How long the wait for writers spins before it sleeps. More spinning pre-empts the very writer that it
/// waits for: with two busy writers on two cores an advance took milliseconds that way.
const SPIN: Duration = Duration::from_micros(1);
const FIRST_SLEEP: Duration = Duration::from_micros(20);
const LONGEST_SLEEP: Duration = Duration::from_millis(1);

/// How often to try to complete a generation if writers end each one first.
const ATTEMPTS: usize = 3;

/// What an advance did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advanced {
    /// This generation is complete.
    Completed(Generation),
    /// Nothing was written in the running generation, so it continues.
    Extended,
    /// Writers were so fast that no generation could be completed.
    Outrun,
}

/// Ends generations; only one thread at a time uses it.
pub(crate) struct Advancer {
    control: &'static Control,
    arena: Arc<Arena>,
    barrier: Barrier,
    timings: Arc<Mutex<Timings>>,
    calibration: Calibration,
    running: u64,
    began: Instant,
    /// A generation that has ended but may still have a writer in it.
    pending: Option<Pending>,
    /// The losses that end records have reported.
    told: [u64; Loss::ALL.len() + 1],
    /// Events of earlier recordings and, once this one has ended, of this one.
    before: u64,
    after: Option<u64>,
    broken: Option<String>,
    /// What the last end of a generation cost, from which the collector's rest follows.
    listing: Listing,
    rest: Option<Rest>,
    /// What the end of the next generation is to list of threads.
    thread_times: Vec<Ran>,
    /// And of the heap.
    heap: Option<Listed>,
    /// And of the process, its control group and the machine.
    system: Readings,
    /// `stop` was called: the control block belongs to another recording, or soon will.
    over: bool,
}

#[derive(Debug)]
struct Pending {
    generation: u64,
    notes: Notes,
    since: Instant,
}

/// Events recorded in all recordings.
fn recorded(control: &Control) -> u64 {
    control.slots().map(Slot::recorded).sum()
}

fn began(clock: &ClockRecord) -> Began {
    Began {
        ticks: clock.ticks.0,
        monotonic: clock.monotonic.0,
        wall: clock.wall.0,
        frequency: clock.frequency,
    }
}

/// Whether writers are left in a generation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    None,
    Some,
    /// It no longer matters: a generation after the next is published.
    Outrun,
}

impl Advancer {
    /// Publishes the first generation of an arena.
    pub(crate) fn start(
        control: &'static Control,
        arena: Arc<Arena>,
        barrier: Barrier,
        timings: Arc<Mutex<Timings>>,
        calibration: Calibration,
    ) -> Result<Self, Error> {
        let first = control.next_generation.load(Ordering::Relaxed);
        let told = std::array::from_fn(|code| match Loss::from_code(code as u64) {
            Some(cause) => control.lost(cause),
            None => 0,
        });
        let mut advancer = Self {
            control,
            arena,
            barrier,
            timings,
            calibration,
            running: first,
            began: Instant::now(),
            pending: None,
            told,
            before: recorded(control),
            after: None,
            broken: None,
            listing: Listing::default(),
            rest: None,
            thread_times: Vec::new(),
            heap: None,
            system: Readings::NONE,
            over: false,
        };
        let capacity = advancer.arena.capacity();
        control.arena.store(advancer.arena.base(), Ordering::Relaxed);
        control.capacity.store(capacity, Ordering::Relaxed);
        control.max_block.store((capacity / 256).clamp(4096, 65536) / 256 * 256, Ordering::Relaxed);
        control.running_start.store(0, Ordering::Relaxed);
        control.pinned_until.store(0, Ordering::Relaxed);
        control.barred.store(first - 1, Ordering::Relaxed);
        advancer.keep_reserve(0, 0);
        control.settled.store(first - 1, Ordering::Relaxed);
        control.complete.store(first - 1, Ordering::Relaxed);
        let clock = advancer.calibration.record();
        let ring = advancer.arena.ring();
        ring.begin(first, began(&clock));
        control.ids.begin(first);
        control.next_generation.store(first + 1, Ordering::Relaxed);
        ring.running.store(first, Ordering::Release);
        control.advance_requested.store(false, Ordering::Relaxed);
        control.generation.store(first, Ordering::Release);
        advancer.bar(first)?;
        // Writers that entered while tracing was off leave before anything is noted.
        let patience = Duration::from_secs(1);
        let began = Instant::now();
        while !control.slots().all(|slot| slot.gate.is_past(first)) {
            if began.elapsed() > patience {
                control.generation.store(0, Ordering::Release);
                advancer.arena.leak();
                return Err(Error::Stuck(patience));
            }
            std::thread::sleep(FIRST_SLEEP);
        }
        Ok(advancer)
    }

    /// The running generation, and how long it has been running.
    pub(crate) fn running(&mut self) -> (Generation, Duration) {
        self.catch_up();
        (Generation(self.running), self.began.elapsed())
    }

    /// Accounts for generations that writers published.
    fn catch_up(&mut self) {
        if self.over {
            // The published generation belongs to another recording.
            return;
        }
        let published = self.control.generation.load(Ordering::Acquire);
        if published <= self.running {
            return;
        }
        self.running = published;
        let began = self.arena.ring().entry(published).monotonic.load(Ordering::Relaxed);
        let since = crate::os::clock::monotonic().0.saturating_sub(began);
        self.began = Instant::now().checked_sub(Duration::from_nanos(since)).unwrap_or(self.began);
    }

    /// The generation that ends next lists this.
    pub(crate) fn list(&mut self, times: Vec<Ran>, heap: Option<Listed>, system: &Readings) {
        self.system.add(system);
        if !times.is_empty() {
            self.thread_times = times;
        }
        // What no generation could list until now is listed with it.
        if let Some(heap) = heap {
            let before = self.heap.take();
            self.heap = Some(match before {
                Some(before) => heap.after(&before),
                None => heap,
            });
        }
    }

    /// Why recording had to stop, if it did.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Events recorded since the start.
    pub(crate) fn recorded(&self) -> u64 {
        self.after.unwrap_or_else(|| recorded(self.control)).saturating_sub(self.before)
    }

    /// Events in generations that have not been reclaimed.
    pub(crate) fn kept(&mut self) -> u64 {
        self.catch_up();
        let ring = self.arena.ring();
        let oldest = ring.oldest.load(Ordering::Acquire);
        let numbers = oldest..=self.running;
        let complete = numbers.clone().map(|number| ring.entry(number)).filter(|e| e.is_complete());
        let complete: u64 = complete.map(|entry| entry.events.load(Ordering::Relaxed)).sum();
        complete + block_totals::of_incomplete(&self.arena, numbers)
    }

    /// The clock's frequency, as well as it is known.
    pub(crate) fn frequency(&self) -> u64 {
        self.calibration.frequency()
    }

    /// Ends the running generation; waits for writers no longer than `patience`.
    pub(crate) fn advance(&mut self, patience: Duration) -> Result<Advanced, Error> {
        if self.over {
            return Err(Error::NotRecording);
        }
        self.finish_pending(patience)?;
        self.end(patience)
    }

    /// Whether nothing has been written in `generation`. Then the next one would begin where it does.
    fn is_empty(&self, generation: u64) -> bool {
        let ring = self.arena.ring();
        ring.start_of(generation).is_none_or(|start| start >= ring.head.load(Ordering::Acquire))
    }

    fn finish_pending(&mut self, patience: Duration) -> Result<(), Error> {
        if let Some(reason) = &self.broken {
            return Err(Error::Broken(reason.clone()));
        }
        match self.pending.take() {
            Some(pending) => self.settle(pending, patience).map(drop),
            None => Ok(()),
        }
    }

    fn end(&mut self, patience: Duration) -> Result<Advanced, Error> {
        for _ in 0..ATTEMPTS {
            self.catch_up();
            let (since, generation) = (Instant::now(), self.running);
            if self.is_empty(generation) {
                self.began = since;
                // What happened while the service was idle is not of the time in which it is not.
                self.system = Readings::NONE;
                return Ok(Advanced::Extended);
            }
            if self.settle_before(generation, patience)? == Left::Outrun {
                continue;
            }
            // Without memory for the notes the generation continues; a writer may end it.
            let Some(notes) = self.note(generation) else { return Ok(Advanced::Outrun) };
            if self.control.generation.load(Ordering::Acquire) != generation {
                // The notes may lack a thread that was silent and no longer is.
                continue;
            }
            if !self.publish_next(generation)? {
                return Ok(Advanced::Outrun);
            }
            fault::point(Point::Published);
            return self.settle(Pending { generation, notes, since }, patience);
        }
        Ok(Advanced::Outrun)
    }

    /// Step 1. `None` if there is no memory for the notes.
    fn note(&self, generation: u64) -> Option<Notes> {
        crate::record::thread::reap(self.control, generation);
        crate::crash::look_after();
        let notes = Notes::take(self.control, generation);
        fault::point(Point::Noted);
        notes
    }

    fn carver(&self, generation: u64) -> Carver {
        Carver { control: self.control, slot: None, generation }
    }

    fn enter_next(&mut self, generation: u64) -> Result<(), Full> {
        let clock = began(&self.calibration.record());
        publish::enter(self.arena.ring(), generation, clock, &self.carver(generation))
    }

    /// Publishes the next generation, unless a writer has done so. Returns whether a later one is running
    /// now.
    fn publish_next(&mut self, generation: u64) -> Result<bool, Error> {
        let runs = self.control.generation.load(Ordering::Acquire) == generation;
        if runs && self.enter_next(generation).is_ok() {
            publish::publish(self.control, generation, generation + 1);
        }
        self.catch_up();
        self.control.advance_requested.store(false, Ordering::Relaxed);
        self.bar(self.running)?;
        Ok(self.running > generation)
    }

    /// Issues the barrier: from now on no thread enters a generation before `published`.
    fn bar(&mut self, published: u64) -> Result<(), Error> {
        self.barrier.issue().map_err(|error| {
            // The recorder can no longer tell where threads are. Tracing ends; no generation is completed and
            // nothing is unmapped any more, so a writer that is still inside does no harm.
            self.control.generation.store(0, Ordering::Release);
            self.arena.leak();
            let reason = format!("the kernel has begun to refuse membarrier: {error}");
            self.broken = Some(reason.clone());
            Error::Broken(reason)
        })?;
        self.control.barred.fetch_max(published, Ordering::Release);
        Ok(())
    }

    /// Steps 3 and 4. If writers do not leave in time, the generation stays pending.
    fn settle(&mut self, pending: Pending, patience: Duration) -> Result<Advanced, Error> {
        let generation = pending.generation;
        let waiting = Instant::now();
        match self.wait_for_writers(generation + 1, patience) {
            Left::None => {}
            Left::Outrun => return Ok(Advanced::Outrun),
            Left::Some => {
                self.pending = Some(pending);
                return Err(Error::Stuck(patience));
            }
        }
        self.timings.lock().waits.record(waiting.elapsed());
        fault::point(Point::Settled);
        self.control.settled.fetch_max(generation, Ordering::Release);
        Ok(self.complete(pending))
    }

    /// Step 4, once no writer is left in the generation.
    fn complete(&mut self, pending: Pending) -> Advanced {
        let generation = pending.generation;
        let worked = crate::os::clock::of_this_thread();
        let tally = block_totals::of(&self.arena, generation);
        let out = self.end_of(generation, &pending.notes, &tally);
        let out = out.filter(|out| self.write_end(generation, out));
        self.thread_times.clear();
        self.heap = None;
        if out.is_some() {
            self.system = Readings::NONE;
        }
        let worked = crate::os::clock::of_this_thread().saturating_sub(worked);
        self.take_rest(worked, out.is_some());
        let Some(out) = out else { return Advanced::Outrun };
        self.listing = self.listing_of(generation, worked, out.bytes.len());
        self.keep_reserve(pending.notes.silent.len(), out.bytes.len());
        if self.arena.ring().mark_complete(generation, tally.events) {
            self.told = out.told;
            self.note_told(&out.lost);
        }
        self.control.complete.fetch_max(generation, Ordering::Release);
        crate::generation::statedump::objects::shrink(self.control);
        // The whole advance: where much is alive, most of it is the listing.
        self.timings.lock().advances.record(pending.since.elapsed());
        Advanced::Completed(Generation(generation))
    }

    /// Waits until no writer is left in the generations before this one, which is running. If writers
    /// published it, nothing has waited for that yet.
    fn settle_before(&mut self, generation: u64, patience: Duration) -> Result<Left, Error> {
        let before = generation - 1;
        if self.control.settled.load(Ordering::Acquire) >= before {
            return Ok(Left::None);
        }
        if self.control.barred.load(Ordering::Acquire) < generation {
            self.bar(generation)?;
        }
        let left = self.wait_for_writers(generation, patience);
        match left {
            Left::None => _ = self.control.settled.fetch_max(before, Ordering::Release),
            Left::Some => return Err(Error::Stuck(patience)),
            Left::Outrun => {}
        }
        Ok(left)
    }

    /// Waits until every writer has left the generations before `next`, or all generations if that is 0.
    fn wait_for_writers(&self, next: u64, patience: Duration) -> Left {
        let began = Instant::now();
        let mut sleep = FIRST_SLEEP;
        for slot in self.control.slots() {
            while !slot.gate.is_past(next) {
                let waited = began.elapsed();
                if next != 0 && self.control.is_outrun(next - 1) {
                    return Left::Outrun;
                }
                if waited > patience {
                    return Left::Some;
                }
                if waited < SPIN {
                    std::hint::spin_loop();
                } else {
                    std::thread::sleep(sleep);
                    sleep = (sleep * 2).min(LONGEST_SLEEP);
                }
            }
        }
        Left::None
    }

    /// What the end of `generation` cost, and how fast writers filled it.
    fn listing_of(&self, generation: u64, time: Duration, bytes: usize) -> Listing {
        let ring = self.arena.ring();
        let between = |word: fn(&Entry) -> &AtomicU64| {
            let of = |generation: u64| word(ring.entry(generation)).load(Ordering::Relaxed);
            of(generation + 1).saturating_sub(of(generation))
        };
        let filled_in = Duration::from_nanos(between(|entry| &entry.monotonic));
        Listing { bytes: bytes as u64, time, filled: between(|entry| &entry.start), filled_in }
    }

    fn take_rest(&mut self, worked: Duration, is_done: bool) {
        let head = is_done.then(|| self.arena.ring().head.load(Ordering::Relaxed));
        self.rest = Some(Rest::after(Instant::now(), worked, self.arena.capacity(), head));
    }

    /// Until when the collector leaves the early end of generations to writers.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        let head = self.arena.ring().head.load(Ordering::Relaxed);
        self.rest?.left(Instant::now(), head)
    }

    /// Reserves twice as much of the arena as the end of the next generation may take, because a block at the
    /// arena's end may need padding of its own length. Also sets how large a generation may become.
    fn keep_reserve(&self, silent: usize, stated: usize) {
        let capacity = self.arena.capacity();
        let threads = self.control.slots_used.load(Ordering::Relaxed) as usize;
        let of_threads = threads.max(silent) * (THREAD_SIZE + 2 * REGION_SIZE);
        let wanted = (of_threads.max(stated) + stated / 4 + 2 * END_SIZE) * 2;
        let reserve = (wanted as u64).min(capacity / 8).max(8192);
        self.control.limit.store(capacity.saturating_sub(reserve), Ordering::Relaxed);
        let share = Share::of(capacity, reserve, &self.listing);
        self.control.early_advance.store(share.early, Ordering::Relaxed);
        self.control.late_advance.store(share.late, Ordering::Relaxed);
    }
}
