//! Advancing: how one generation ends, complete, and the next begins, while everybody writes.
//!
//! One thread at a time, under the advancer's lock:
//!
//! 1. note the threads that were silent in generation *g*: whose they are, which regions are open;
//! 2. reserve room in *g* for their statuses and for the end record;
//! 3. register where *g + 1* starts, publish it, and issue the barrier;
//! 4. wait until no writer is left in *g* (see `gate`);
//! 5. write the statuses and the end record, and mark *g* complete.
//!
//! # Why the notes are true
//!
//! A slot's state changes only inside its gate, after its owner adopted the generation it found
//! there. The note of a slot is kept only if its owner had not entered *g* when all of it was read
//! (see [`Gate::entered`](crate::gate::Gate::entered)). What the owner did until then it did before
//! *g*; if it enters *g* after the note, it states itself there, and the note is dropped in step 5.

use crate::arena::Arena;
use crate::barrier::Barrier;
use crate::block::{committed, note_lost, write_headers};
use crate::clock::Calibration;
use crate::control::Control;
use crate::error::Error;
use crate::silent::{REGION_SIZE, Silent, Statuses, THREAD_SIZE};
use crate::tally::Tally;
use crate::timing::{Timings, put_pairs};

use lookback_snapshot::wire::{
    BLOCK_GRANULE, BLOCK_HEADER, BlockHeader, ClockRecord, Generation, Kind, Loss,
    Position, ThreadNumber, offset, pack_committed, put_varint,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The slot number of the collector's own blocks. Those of threads count from 1.
pub(crate) const COLLECTOR_SLOT: u32 = 0;

/// How long the wait for writers spins before it sleeps. Spinning on pre-empts the very writer that
/// is waited for: with two busy writers on two cores an advance took milliseconds that way.
const SPIN: Duration = Duration::from_micros(1);
const FIRST_SLEEP: Duration = Duration::from_micros(20);
const LONGEST_SLEEP: Duration = Duration::from_millis(1);

/// Room for the end record, and for the header of a block.
const END_SIZE: usize = 1024;
/// What an advance did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advanced {
    /// This generation is complete.
    Completed(Generation),
    /// Nothing was written in the running generation, so it goes on.
    Extended,
}

/// What comes after the generation that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Generation,
    Off,
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
    /// Events of complete generations.
    recorded: u64,
    broken: Option<String>,
    /// `stop` was called: the control block is another recording's, or soon will be.
    over: bool,
}

#[derive(Debug)]
struct Pending {
    generation: u64,
    silent: Vec<Silent>,
    reserved: Option<Reserved>,
    since: Instant,
    next: Next,
}

#[derive(Debug)]
struct Reserved {
    block: *mut u8,
    room: usize,
    base: u64,
    /// It is less than was wanted.
    is_cut: bool,
}

// SAFETY: the block belongs to whoever advances, and lies in the arena that the advancer holds.
unsafe impl Send for Reserved {}

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
            recorded: 0,
            broken: None,
            over: false,
        };
        let capacity = advancer.arena.capacity();
        control.arena.store(advancer.arena.base(), Ordering::Relaxed);
        control.capacity.store(capacity, Ordering::Relaxed);
        control.max_block.store((capacity / 256).clamp(4096, 65536) / 256 * 256, Ordering::Relaxed);
        control.early_advance.store(capacity / 16, Ordering::Relaxed);
        control.reclaimed.store(0, Ordering::Relaxed);
        control.ids.iter().for_each(|id| id.store(1, Ordering::Relaxed));
        advancer.keep_reserve(0, 0);
        control.settled.store(first - 1, Ordering::Relaxed);
        control.complete.store(first - 1, Ordering::Relaxed);
        advancer.arena.ring().begin(first);
        let clock = advancer.calibration.record();
        advancer.publish(first, clock, Next::Generation)?;
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
    pub(crate) fn running(&self) -> (Generation, Duration) {
        (Generation(self.running), self.began.elapsed())
    }

    /// Why recording had to stop, if it had.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Events in complete generations, and in those that are not.
    pub(crate) fn recorded(&self) -> u64 {
        let ring = self.arena.ring();
        let incomplete = ring.complete.load(Ordering::Acquire) + 1..=self.running;
        self.recorded + incomplete.map(|generation| Tally::of(&self.arena, generation).events).sum::<u64>()
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
        let ring = self.arena.ring();
        let start = ring.start_of(self.running);
        if start == Some(ring.head.load(Ordering::Relaxed)) {
            self.began = Instant::now();
            return Ok(Advanced::Extended);
        }
        self.end(Next::Generation, patience)
    }

    /// Ends the running generation and turns tracing off.
    pub(crate) fn stop(&mut self, patience: Duration) -> Result<(), Error> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        self.finish_pending(patience)?;
        self.end(Next::Off, patience).map(drop)
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

    fn end(&mut self, next: Next, patience: Duration) -> Result<Advanced, Error> {
        let since = Instant::now();
        let generation = self.running;
        crate::thread::reap(self.control, generation);
        let silent = Silent::note_all(self.control, generation);
        let now = crate::clock::now(self.control.mode());
        let listing = crate::listing::estimate(generation, now);
        let reserved = self.reserve(generation, &silent, listing);
        let clock = self.calibration.record();
        self.publish(generation + 1, clock, next)?;
        self.running = generation + 1;
        self.began = since;
        self.settle(Pending { generation, silent, reserved, since, next }, patience)
    }

    fn publish(&mut self, generation: u64, clock: ClockRecord, next: Next) -> Result<(), Error> {
        let (control, ring) = (self.control, self.arena.ring());
        let start = ring.register(
            generation,
            |entry| {
                entry.ticks.store(clock.ticks.0, Ordering::Relaxed);
                entry.monotonic.store(clock.monotonic.0, Ordering::Relaxed);
                entry.wall.store(clock.wall.0, Ordering::Relaxed);
                entry.frequency.store(clock.frequency, Ordering::Relaxed);
            },
            |events| {
                control.reclaimed.fetch_add(events, Ordering::Relaxed);
            },
        );
        control.running_start.store(start, Ordering::Relaxed);
        // Before anybody can write in it, and whatever becomes of this: no number is used twice.
        let after = if next == Next::Off { generation } else { generation + 1 };
        control.next_generation.store(after, Ordering::Relaxed);
        let published = if next == Next::Off { 0 } else { generation };
        ring.running.store(published, Ordering::Release);
        control.advance_requested.store(false, Ordering::Relaxed);
        control.generation.store(published, Ordering::Release);
        self.barrier.issue().map_err(|error| {
            // Nobody can tell any more who is where. Tracing ends; no generation is completed any
            // more and nothing is unmapped, so a writer that is still inside does no harm.
            control.generation.store(0, Ordering::Release);
            self.arena.leak();
            let reason = format!("the kernel has begun to refuse membarrier: {error}");
            self.broken = Some(reason.clone());
            Error::Broken(reason)
        })
    }

    /// Steps 4 and 5. What cannot be settled in time stays pending.
    fn settle(&mut self, pending: Pending, patience: Duration) -> Result<Advanced, Error> {
        let next = if pending.next == Next::Off { 0 } else { pending.generation + 1 };
        let waiting = Instant::now();
        if !self.wait_for_writers(next, patience) {
            self.pending = Some(pending);
            return Err(Error::Stuck(patience));
        }
        if next == 0 {
            // SAFETY: tracing is off, and every slot was seen outside since.
            unsafe { self.control.release_collector() };
        }
        let waited = waiting.elapsed();
        let generation = pending.generation;
        self.control.settled.store(generation, Ordering::Release);
        let tally = Tally::of(&self.arena, generation);
        self.timings.lock().waits.record(waited);
        let stated = pending.reserved.as_ref().map_or(0, |reserved| {
            self.write_end(generation, reserved, &pending.silent, &tally)
        });
        self.keep_reserve(pending.silent.len(), stated);
        self.arena.ring().mark_complete(generation, tally.events);
        self.control.complete.store(generation, Ordering::Release);
        crate::listing::shrink(self.control);
        self.recorded += tally.events;
        self.control.ids[(generation & 1) as usize].store(1, Ordering::Relaxed);
        // All of it: the listing takes most of the time where much is alive.
        self.timings.lock().advances.record(pending.since.elapsed());
        Ok(Advanced::Completed(Generation(generation)))
    }

    fn wait_for_writers(&self, next: u64, patience: Duration) -> bool {
        let began = Instant::now();
        let mut sleep = FIRST_SLEEP;
        for slot in self.control.slots() {
            while !slot.gate.is_past(next) {
                let waited = began.elapsed();
                if waited > patience {
                    return false;
                }
                if waited < SPIN {
                    std::hint::spin_loop();
                } else {
                    std::thread::sleep(sleep);
                    sleep = (sleep * 2).min(LONGEST_SLEEP);
                }
            }
        }
        true
    }

    /// Room in `generation` for what is written when it is over. If the arena cannot give as much,
    /// less, and some statuses are counted instead.
    fn reserve(&self, generation: u64, silent: &[Silent], listing: usize) -> Option<Reserved> {
        let now = crate::clock::now(self.control.mode());
        let wanted = Silent::size(silent, now) + listing + END_SIZE;
        let capacity = self.arena.capacity();
        let mut length = wanted.min(capacity as usize / 16).next_multiple_of(BLOCK_GRANULE);
        loop {
            let carved = self.arena.ring().carve(length as u64, capacity, capacity, |events| {
                self.control.reclaimed.fetch_add(events, Ordering::Relaxed);
            });
            if let Ok(carved) = carved {
                let base = crate::clock::now(self.control.mode());
                let header = BlockHeader {
                    length: length as u32,
                    position: Position(carved.position),
                    generation: Generation(generation),
                    base: lookback_snapshot::wire::Ticks(base),
                    first_event: 0,
                    slot: COLLECTOR_SLOT,
                    sequence: 0,
                    thread: ThreadNumber(0),
                };
                // SAFETY: both were carved from this arena.
                let block = unsafe { write_headers(self.control, &header, carved.padding) };
                let room = length - BLOCK_HEADER;
                return Some(Reserved { block, room, base, is_cut: length < wanted });
            }
            if length <= END_SIZE {
                return None;
            }
            length = (length / 2).next_multiple_of(BLOCK_GRANULE).max(END_SIZE);
        }
    }

    /// Keeps as much of the arena from writers as the end of the next generation may take, twice,
    /// because a block at the arena's end may need padding of its own length.
    fn keep_reserve(&self, silent: usize, stated: usize) {
        let capacity = self.arena.capacity();
        let threads = self.control.slots_used.load(Ordering::Relaxed) as usize;
        let of_threads = threads.max(silent) * (THREAD_SIZE + 2 * REGION_SIZE);
        let wanted = (of_threads.max(stated) + stated / 4 + 2 * END_SIZE) * 2;
        let reserve = (wanted as u64).min(capacity / 8).max(8192);
        self.control.limit.store(capacity.saturating_sub(reserve), Ordering::Relaxed);
    }

    /// Writes the statuses and the end record. How many bytes that took.
    fn write_end(
        &mut self,
        generation: u64,
        reserved: &Reserved,
        silent: &[Silent],
        tally: &Tally,
    ) -> usize {
        let room = (reserved.room + BLOCK_HEADER).saturating_sub(END_SIZE);
        let statuses =
            Statuses::new(self.control, generation, reserved.base, (room, reserved.is_cut));
        let mut out = statuses.write(silent);
        let lost = self.put_end(&mut out, generation, tally);
        let length = out.len().min(reserved.room);
        // SAFETY: the block was reserved for this, has `room` bytes behind its header, and its
        // generation is not complete.
        unsafe {
            let start = reserved.block.add(BLOCK_HEADER);
            std::ptr::copy_nonoverlapping(out.as_ptr(), start, length);
            let word = pack_committed(length as u32, 0).to_le();
            committed(reserved.block).store(word, Ordering::Release);
        }
        self.note_told(&lost);
        length
    }

    fn put_end(&mut self, out: &mut Vec<u8>, generation: u64, tally: &Tally) -> Vec<(Loss, u64)> {
        out.push(Kind::End as u8);
        put_varint(out, tally.events);
        put_varint(out, tally.bytes);
        put_varint(out, tally.blocks);
        let mut lost = Vec::new();
        for cause in Loss::ALL {
            let total = self.control.lost_until(generation, cause);
            let told = std::mem::replace(&mut self.told[cause as usize], total);
            let new = total.saturating_sub(told);
            if new > 0 {
                lost.push((cause, new));
            }
        }
        put_pairs(out, &lost.iter().map(|(cause, new)| (*cause as u64, *new)).collect::<Vec<_>>());
        let mut timings = self.timings.lock();
        put_pairs(out, &timings.advances.take_interval());
        put_pairs(out, &timings.waits.take_interval());
        put_pairs(out, &timings.snapshots.take_interval());
        lost
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
