//! Advancing: how one generation ends, complete, and the next begins, while everybody writes.
//!
//! One thread at a time, under the advancer's lock:
//!
//! 1. where writers have published *g*: wait until none is left in what was before it;
//!    note the threads that were silent in generation *g*: whose they are, which regions are open;
//! 2. publish *g + 1* and issue the barrier, unless a writer was faster (see `publish`);
//! 3. wait until no writer is left in *g* (see `gate`);
//! 4. make the statuses and the end record, carve a block for them, and mark *g* complete.
//!
//! Writers do not wait for any of it. If they have published *g + 2* before the statuses are made, then
//! places and slots no longer know what they were in *g*: it stays incomplete, and the next one is tried.
//!
//! How the last generation ends, after which the arena may be unmapped, is in [`last`].
//!
//! # Why the notes are true
//!
//! A slot's state changes only inside its gate, after its owner adopted the generation it found
//! there. The note of a slot is kept only if its owner had not entered *g* when all of it was read
//! (see [`Gate::entered`](crate::gate::Gate::entered)). What the owner did until then it did before
//! *g*; if it enters *g* after the note, it states itself there, and the note is dropped in step 4. If
//! *g* still runs when all is noted, nobody was taken for one that was not silent. A thread that is still inside
//! an older generation may yet change what is noted of it; so notes are taken when none is.

mod last;

use crate::arena::Arena;
use crate::barrier::Barrier;
use crate::block::{committed, note_lost, write_headers};
use crate::clock::Calibration;
use crate::control::Control;
use crate::error::Error;
use crate::growth;
use crate::fault::{self, Point};
use crate::carver::Carver;
use crate::pace::{Listing, Rest, Share};
use crate::publish;
use crate::ring::{Began, Carved, Entry, Full};
use crate::slot::Slot;
use crate::silent::{REGION_SIZE, Silent, Statuses, THREAD_SIZE};
use crate::tally::{self, Tally};
use crate::timing::{Timings, put_pairs};

use lookback_snapshot::wire::{
    BLOCK_GRANULE, BLOCK_HEADER, BlockHeader, ClockRecord, Generation, Kind, Loss,
    Position, ThreadNumber, Ticks, offset, pack_committed, put_varint,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

/// The slot number of the collector's own blocks. Those of threads count from 1.
pub(crate) const COLLECTOR_SLOT: u32 = 0;

/// How long the wait for writers spins before it sleeps. Spinning on pre-empts the very writer that
/// is waited for: with two busy writers on two cores an advance took milliseconds that way.
const SPIN: Duration = Duration::from_micros(1);
const FIRST_SLEEP: Duration = Duration::from_micros(20);
const LONGEST_SLEEP: Duration = Duration::from_millis(1);

/// Room for the end record.
const END_SIZE: usize = 1024;
/// How often a generation is tried to be ended that writers end first.
const ATTEMPTS: usize = 3;

/// What an advance did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advanced {
    /// This generation is complete.
    Completed(Generation),
    /// Nothing was written in the running generation, so it goes on.
    Extended,
    /// Writers were so fast that none could be completed.
    Outrun,
}

/// Who advances; one at a time.
pub(crate) struct Advancer {
    control: &'static Control,
    arena: Arc<Arena>,
    barrier: Barrier,
    timings: Arc<Mutex<Timings>>,
    calibration: Calibration,
    running: u64,
    began: Instant,
    /// A generation that is published, but whose predecessor still has a writer in it.
    pending: Option<Pending>,
    /// What end records have told of losses.
    told: [u64; Loss::ALL.len() + 1],
    /// Events of earlier recordings; and those until this one ended, when it has.
    before: u64,
    after: Option<u64>,
    broken: Option<String>,
    /// What the last end of a generation took, and for how long the collector rests after it.
    listing: Listing,
    rest: Option<Rest>,
    /// `stop` was called: the control block is another recording's, or soon will be.
    over: bool,
}

#[derive(Debug)]
struct Pending {
    generation: u64,
    silent: Vec<Silent>,
    since: Instant,
}

/// What is written when a generation is over.
struct End {
    bytes: Vec<u8>,
    base: u64,
    /// The losses that it tells of, and all that are told of then.
    lost: Vec<(Loss, u64)>,
    told: [u64; Loss::ALL.len() + 1],
}

/// Events that were recorded in all recordings.
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
    /// It does not matter any more: a later one is published than the next.
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
        // Who entered while tracing was off has left before anything is noted.
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

    /// The running generation, and for how long it has been running.
    pub(crate) fn running(&mut self) -> (Generation, Duration) {
        self.catch_up();
        (Generation(self.running), self.began.elapsed())
    }

    /// Writers may have published generations, too.
    fn catch_up(&mut self) {
        if self.over {
            // What is published now is another recording's.
            return;
        }
        let published = self.control.generation.load(Ordering::Acquire);
        if published <= self.running {
            return;
        }
        self.running = published;
        let began = self.arena.ring().entry(published).monotonic.load(Ordering::Relaxed);
        let since = crate::clock::monotonic().0.saturating_sub(began);
        self.began = Instant::now().checked_sub(Duration::from_nanos(since)).unwrap_or(self.began);
    }

    /// Why recording had to stop, if it had.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Events that were recorded since the start.
    pub(crate) fn recorded(&self) -> u64 {
        self.after.unwrap_or_else(|| recorded(self.control)).saturating_sub(self.before)
    }

    /// Events in generations that were not given up.
    pub(crate) fn kept(&mut self) -> u64 {
        self.catch_up();
        let ring = self.arena.ring();
        let oldest = ring.oldest.load(Ordering::Acquire);
        let numbers = oldest..=self.running;
        let complete = numbers.clone().map(|number| ring.entry(number)).filter(|e| e.is_complete());
        let complete: u64 = complete.map(|entry| entry.events.load(Ordering::Relaxed)).sum();
        complete + tally::of_incomplete(&self.arena, numbers)
    }

    /// The clock's frequency as far as it is known.
    pub(crate) fn frequency(&self) -> u64 {
        self.calibration.frequency()
    }

    /// Ends the running generation, waiting for writers no longer than `patience`.
    pub(crate) fn advance(&mut self, patience: Duration) -> Result<Advanced, Error> {
        if self.over {
            return Err(Error::NotRecording);
        }
        self.finish_pending(patience)?;
        self.end(patience)
    }

    /// Whether nothing was written in `generation` yet. The next one would begin where it does.
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
                return Ok(Advanced::Extended);
            }
            if self.settle_before(generation, patience)? == Left::Outrun {
                continue;
            }
            // Without memory for the notes it goes on; a writer may end it.
            let Some(silent) = self.note_silent(generation) else { return Ok(Advanced::Outrun) };
            if self.control.generation.load(Ordering::Acquire) != generation {
                // The notes may lack somebody who was silent and is not any more.
                continue;
            }
            if !self.publish_next(generation)? {
                return Ok(Advanced::Outrun);
            }
            fault::point(Point::Published);
            return self.settle(Pending { generation, silent, since }, patience);
        }
        Ok(Advanced::Outrun)
    }

    /// Step 1. `None` if there is no memory for it.
    fn note_silent(&self, generation: u64) -> Option<Vec<Silent>> {
        crate::thread::reap(self.control, generation);
        crate::crash::look_after();
        let silent = Silent::note_all(self.control, generation);
        fault::point(Point::Noted);
        silent
    }

    fn carver(&self, generation: u64) -> Carver {
        Carver { control: self.control, slot: None, generation }
    }

    fn enter_next(&mut self, generation: u64) -> Result<(), Full> {
        let clock = began(&self.calibration.record());
        publish::enter(self.arena.ring(), generation, clock, &self.carver(generation))
    }

    /// Publishes the generation after this one, unless a writer has. Whether a later one runs now.
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

    /// Issues the barrier: from now on nobody enters a generation before `published`.
    fn bar(&mut self, published: u64) -> Result<(), Error> {
        self.barrier.issue().map_err(|error| {
            // Nobody can tell any more who is where. Tracing ends; no generation is completed any
            // more and nothing is unmapped, so a writer that is still inside does no harm.
            self.control.generation.store(0, Ordering::Release);
            self.arena.leak();
            let reason = format!("the kernel has begun to refuse membarrier: {error}");
            self.broken = Some(reason.clone());
            Error::Broken(reason)
        })?;
        self.control.barred.fetch_max(published, Ordering::Release);
        Ok(())
    }

    /// Steps 3 and 4. What cannot be settled in time stays pending.
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

    /// Step 4, when no writer is left in it.
    fn complete(&mut self, pending: Pending) -> Advanced {
        let generation = pending.generation;
        let worked = crate::clock::of_this_thread();
        let tally = tally::of(&self.arena, generation);
        let out = self.end_of(generation, &pending.silent, &tally);
        let out = out.filter(|out| self.write_end(generation, out));
        let worked = crate::clock::of_this_thread().saturating_sub(worked);
        self.take_rest(worked, out.is_some());
        let Some(out) = out else { return Advanced::Outrun };
        self.listing = self.listing_of(generation, worked, out.bytes.len());
        self.keep_reserve(pending.silent.len(), out.bytes.len());
        if self.arena.ring().mark_complete(generation, tally.events) {
            self.told = out.told;
            self.note_told(&out.lost);
        }
        self.control.complete.fetch_max(generation, Ordering::Release);
        crate::listing::shrink(self.control);
        // All of it: the listing takes most of the time where much is alive.
        self.timings.lock().advances.record(pending.since.elapsed());
        Advanced::Completed(Generation(generation))
    }

    /// Waits until no writer is left in the generations before this one, which runs: where writers have published
    /// it, nobody has waited for that.
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

    /// Waits until every writer has left the generations before `next`: all of them, if that is 0.
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

    /// What the end of `generation` took, and how fast it was filled.
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

    /// Until when writers end generations early, and not the collector.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        let head = self.arena.ring().head.load(Ordering::Relaxed);
        self.rest?.left(Instant::now(), head)
    }

    /// Keeps as much of the arena from writers as the end of the next generation may take, twice,
    /// because a block at the arena's end may need padding of its own length. And says how large a generation
    /// may become.
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

    /// The statuses and the end record of `generation`, which nobody is in any more. `None` if it is
    /// outrun.
    fn end_of(&self, generation: u64, silent: &[Silent], tally: &Tally) -> Option<End> {
        let now = crate::clock::now(self.control.mode());
        let room = self.arena.capacity() as usize / 16;
        let room = room.next_multiple_of(BLOCK_GRANULE).saturating_sub(BLOCK_HEADER + END_SIZE);
        let statuses = |is_cut| {
            Statuses::new(self.control, generation, now, (room, is_cut)).write(silent)
        };
        let mut statuses = match statuses(false) {
            // Then what matters more comes first.
            (_, true) => statuses(true).0,
            (statuses, false) => statuses,
        };
        // What was read belongs to this generation only if no later one but the next ran until now.
        fence(Ordering::Acquire);
        if self.control.is_outrun(generation) {
            return None;
        }
        let (lost, told) = self.put_end(&mut statuses, generation, tally);
        Some(End { bytes: statuses, base: now, lost, told })
    }

    /// Writes the end of `generation` into a block of its own. Whether there was room for it.
    fn write_end(&self, generation: u64, end: &End) -> bool {
        let (control, capacity) = (self.control, self.arena.capacity());
        let length = (BLOCK_HEADER + end.bytes.len()).next_multiple_of(BLOCK_GRANULE);
        let carver = self.carver(generation);
        let carved = self.arena.ring().carve(length as u64, capacity, capacity, &carver);
        let reaches = |carved: &Carved| growth::reaches(control, carved.position + length as u64);
        let carved = carved.ok().filter(reaches);
        if let Some(carved) = carved {
            fault::point(Point::Listed);
            let header = BlockHeader {
                length: length as u32,
                position: Position(carved.position),
                generation: Generation(generation),
                base: Ticks(end.base),
                first_event: 0,
                slot: COLLECTOR_SLOT,
                sequence: 0,
                thread: ThreadNumber(0),
            };
            // SAFETY: both were carved from this arena, and stay pinned until they are written.
            let block = unsafe { write_headers(control, &header, carved.padding) };
            // SAFETY: the block is as long as this and its header.
            unsafe {
                let start = block.add(BLOCK_HEADER);
                std::ptr::copy_nonoverlapping(end.bytes.as_ptr(), start, end.bytes.len());
                let word = pack_committed(end.bytes.len() as u32, 0).to_le();
                committed(block).store(word, Ordering::Release);
            }
        }
        control.collector_pin.clear();
        carved.is_some()
    }

    fn put_end(
        &self,
        out: &mut Vec<u8>,
        generation: u64,
        tally: &Tally,
    ) -> (Vec<(Loss, u64)>, [u64; Loss::ALL.len() + 1]) {
        out.push(Kind::End as u8);
        put_varint(out, tally.events);
        put_varint(out, tally.bytes);
        put_varint(out, tally.blocks);
        let (mut lost, mut told) = (Vec::new(), self.told);
        for cause in Loss::ALL {
            let total = self.control.lost_until(generation, cause);
            let before = std::mem::replace(&mut told[cause as usize], total);
            let new = total.saturating_sub(before);
            if new > 0 {
                lost.push((cause, new));
            }
        }
        put_pairs(out, &lost.iter().map(|(cause, new)| (*cause as u64, *new)).collect::<Vec<_>>());
        let mut timings = self.timings.lock();
        put_pairs(out, &timings.advances.take_interval());
        put_pairs(out, &timings.waits.take_interval());
        put_pairs(out, &timings.snapshots.take_interval());
        (lost, told)
    }

    /// Notes in the arena's header what the end record has told of.
    fn note_told(&self, lost: &[(Loss, u64)]) {
        self.arena.note_settings();
        for (cause, count) in lost {
            // SAFETY: this arena is mapped.
            let note = |at| unsafe { note_lost(self.arena.base(), at, *cause, *count) };
            // The others are noted when they happen. These happen outside of the gate, where the
            // arena may be gone.
            if matches!(cause, Loss::Reentrant | Loss::NoSlot) {
                note(offset::LOST);
            }
            note(offset::LOST_AND_TOLD);
        }
    }
}
