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
use crate::clock::Calibration;
use crate::control::Control;
use crate::error::Error;
use crate::site::Site;
use crate::slot::{MAX_REGIONS, Slot, ThreadName};
use crate::timing::{Timings, put_pairs};
use crate::writer::{committed, next_id, write_headers};
use lookback_snapshot::wire::{
    BLOCK_GRANULE, BLOCK_HEADER, BlockHeader, ClockRecord, Generation, Kind, Loss, MAX_VARINT,
    Position, ThreadNumber, offset, pack_committed, put_varint,
};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
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
/// Room beyond what statuses take, so that the largest that could still come always fits.
const SLACK: usize = 1280;
/// What the status of a thread takes, without its regions.
const THREAD_SIZE: usize = 1 + crate::thread::IDENTITY_SIZE;
/// What the status of a region takes, without its site's definition.
const REGION_SIZE: usize = 1 + 2 * MAX_VARINT;

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
struct Silent {
    slot: u32,
    thread: u64,
    os_thread: u64,
    name: ThreadName,
    regions: Vec<(&'static Site, u64)>,
    deeper: u32,
}

#[derive(Debug)]
struct Reserved {
    block: *mut u8,
    room: usize,
    base: u64,
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
        advancer.keep_reserve(0);
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
        self.recorded + incomplete.map(|generation| self.tally(generation).events).sum::<u64>()
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
        let silent = self.note_silent(generation);
        let reserved = self.reserve(generation, &silent);
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
        let tally = self.tally(generation);
        {
            let mut timings = self.timings.lock();
            timings.waits.record(waited);
            timings.advances.record(pending.since.elapsed());
        }
        if let Some(reserved) = &pending.reserved {
            self.write_end(generation, reserved, &pending.silent, &tally);
        }
        self.keep_reserve(pending.silent.len());
        self.arena.ring().mark_complete(generation, tally.events);
        self.recorded += tally.events;
        self.control.ids[(generation & 1) as usize].store(1, Ordering::Relaxed);
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

    fn note_silent(&self, generation: u64) -> Vec<Silent> {
        let note = |(index, slot): (usize, &Slot)| {
            if slot.gate.entered() >= generation {
                return None;
            }
            let thread = slot.thread.load(Ordering::Relaxed);
            let depth = slot.depth.load(Ordering::Relaxed);
            let open = &slot.regions[..(depth as usize).min(MAX_REGIONS)];
            let noted: Vec<_> = open
                .iter()
                .map(|region| {
                    let site = region.site.load(Ordering::Relaxed);
                    (site, region.began.load(Ordering::Relaxed))
                })
                .collect();
            let (os_thread, name) = (slot.os_thread.load(Ordering::Relaxed), slot.name());
            fence(Ordering::Acquire);
            if thread == 0 || slot.gate.entered() >= generation {
                return None;
            }
            let regions = noted.into_iter().filter_map(|(site, began)| {
                // SAFETY: the stack holds pointers to statics, or null.
                Some((unsafe { site.as_ref() }?, began))
            });
            Some(Silent {
                slot: index as u32,
                thread,
                os_thread,
                name,
                regions: regions.collect(),
                deeper: depth.saturating_sub(MAX_REGIONS as u32),
            })
        };
        self.control.slots().enumerate().filter_map(note).collect()
    }

    /// Room in `generation` for what is written when it is over. If the arena cannot give as much,
    /// less, and some statuses are counted instead.
    fn reserve(&self, generation: u64, silent: &[Silent]) -> Option<Reserved> {
        let statuses = if silent.is_empty() { 0 } else { self.size_of(silent) + SLACK };
        let wanted = statuses + END_SIZE;
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
                return Some(Reserved { block, room: length - BLOCK_HEADER, base });
            }
            if length <= END_SIZE {
                return None;
            }
            length = (length / 2).next_multiple_of(BLOCK_GRANULE).max(END_SIZE);
        }
    }

    /// How much the statuses take, the definitions of their sites included.
    fn size_of(&self, silent: &[Silent]) -> usize {
        let now = crate::clock::now(self.control.mode());
        let mut sites = HashSet::new();
        let mut size = 1 + 2 * MAX_VARINT;
        for silent in silent {
            size += 1 + length(silent.thread) + length(silent.os_thread);
            size += 1 + silent.name.as_str().len() + 1 + length(u64::from(silent.deeper));
            for (site, began) in &silent.regions {
                // An id has four bytes at most.
                size += 1 + 4 + length(now.saturating_sub(*began));
                if sites.insert(std::ptr::from_ref(*site)) {
                    size += 1 + site.definition_size();
                }
            }
        }
        // Time passes until it is written.
        size + size / 16
    }

    /// Keeps as much of the arena from writers as the end of the next generation may take, twice,
    /// because a block at the arena's end may need padding of its own length.
    fn keep_reserve(&self, silent: usize) {
        let capacity = self.arena.capacity();
        let threads = self.control.slots_used.load(Ordering::Relaxed) as usize;
        let wanted = (threads.max(silent) * (THREAD_SIZE + 2 * REGION_SIZE) + 2 * END_SIZE) * 2;
        let reserve = (wanted as u64).min(capacity / 8).max(8192);
        self.control.limit.store(capacity.saturating_sub(reserve), Ordering::Relaxed);
    }

    fn write_end(
        &mut self,
        generation: u64,
        reserved: &Reserved,
        silent: &[Silent],
        tally: &Tally,
    ) {
        let mut out = Vec::with_capacity(reserved.room);
        let room = (reserved.room + BLOCK_HEADER).saturating_sub(END_SIZE);
        let mut omitted = 0;
        let mut ids = HashMap::new();
        for silent in silent {
            let slot = self.control.slot(silent.slot);
            let (entered, stated) =
                (slot.gate.was_in(generation), slot.gate.was_stated_in(generation));
            if stated {
                continue;
            }
            if out.len() + THREAD_SIZE > room {
                omitted += 1;
                continue;
            }
            put_thread_status(&mut out, silent);
            // One that was in the generation, but could not write: its regions are not known.
            let regions = if entered { &[][..] } else { &silent.regions };
            let mut deeper = u64::from(silent.deeper);
            for (site, began) in regions {
                let most = REGION_SIZE + 1 + site.definition_size() + 1 + MAX_VARINT;
                let known = ids.get(&std::ptr::from_ref(*site)).copied();
                let id = known.or_else(|| site.cached(generation)).or_else(|| {
                    if out.len() + most > room {
                        return None;
                    }
                    let id = next_id(self.control, generation).ok()?;
                    out.push(Kind::Site as u8);
                    let mut definition = vec![0; site.definition_size()];
                    let start = definition.as_mut_ptr();
                    let mut cursor = crate::cursor::Cursor::at(start);
                    // SAFETY: the vector has the size that was asked for.
                    unsafe { site.put_definition(id, &mut cursor) };
                    definition.truncate(cursor.bytes_since(start));
                    out.extend(definition);
                    Some(id)
                });
                match id {
                    Some(id) if out.len() + REGION_SIZE + 1 + MAX_VARINT <= room => {
                        ids.insert(std::ptr::from_ref(*site), id);
                        out.push(Kind::RegionStatus as u8);
                        put_varint(&mut out, u64::from(id));
                        put_varint(&mut out, reserved.base.saturating_sub(*began));
                    }
                    _ => deeper += 1,
                }
            }
            if deeper > 0 && !entered {
                out.push(Kind::RegionsDeeper as u8);
                put_varint(&mut out, deeper);
            }
        }
        if omitted > 0 {
            out.push(Kind::Omitted as u8);
            put_varint(&mut out, 1);
            put_varint(&mut out, omitted);
        }
        self.put_end(&mut out, tally);
        let length = out.len().min(reserved.room);
        // SAFETY: the block was reserved for this, has `room` bytes behind its header, and its
        // generation is not complete.
        unsafe {
            let start = reserved.block.add(BLOCK_HEADER);
            std::ptr::copy_nonoverlapping(out.as_ptr(), start, length);
            let word = pack_committed(length as u32, 0).to_le();
            committed(reserved.block).store(word, Ordering::Release);
        }
    }

    fn put_end(&mut self, out: &mut Vec<u8>, tally: &Tally) {
        out.push(Kind::End as u8);
        put_varint(out, tally.events);
        put_varint(out, tally.bytes);
        put_varint(out, tally.blocks);
        let mut lost = Vec::new();
        for cause in Loss::ALL {
            let total = self.control.lost(cause);
            let new = total - std::mem::replace(&mut self.told[cause as usize], total);
            if new > 0 {
                lost.push((cause as u64, new));
            }
        }
        put_pairs(out, &lost);
        let mut timings = self.timings.lock();
        put_pairs(out, &timings.advances.take_interval());
        put_pairs(out, &timings.waits.take_interval());
        put_pairs(out, &timings.snapshots.take_interval());
    }

    /// Adds up the blocks of a generation that is not complete, and so cannot be reclaimed.
    fn tally(&self, generation: u64) -> Tally {
        let ring = self.arena.ring();
        let mut tally = Tally::default();
        let Some(mut at) = ring.start_of(generation) else { return tally };
        let head = ring.head.load(Ordering::Acquire);
        let capacity = self.arena.capacity();
        while at < head {
            // SAFETY: offsets within the data are within the mapping, and headers are aligned.
            let place = unsafe { self.arena.base().add(offset::DATA + (at % capacity) as usize) };
            // SAFETY: as above; headers are written and read atomically.
            let word = |offset: usize| unsafe { &*place.add(offset).cast::<AtomicU64>() };
            // SAFETY: as above.
            let length = unsafe { &*place.add(4).cast::<AtomicU32>() };
            if word(8).load(Ordering::Acquire) != at {
                at += BLOCK_GRANULE as u64;
                continue;
            }
            let length = u64::from(u32::from_le(length.load(Ordering::Relaxed)));
            if length < BLOCK_GRANULE as u64 || length > head - at || length % 256 != 0 {
                at += BLOCK_GRANULE as u64;
                continue;
            }
            let committed = u64::from_le(word(56).load(Ordering::Acquire));
            if u64::from_le(word(16).load(Ordering::Relaxed)) == generation && committed != 0 {
                tally.events += committed >> 32;
                tally.bytes += committed & 0xffff_ffff;
                tally.blocks += 1;
            }
            at += length;
        }
        tally
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    events: u64,
    bytes: u64,
    blocks: u64,
}

/// How many bytes a varint takes.
fn length(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_thread_status(out: &mut Vec<u8>, silent: &Silent) {
    out.push(Kind::ThreadStatus as u8);
    put_varint(out, silent.thread);
    put_varint(out, silent.os_thread);
    let name = silent.name.as_str();
    put_varint(out, (name.len() as u64) << 2);
    out.extend_from_slice(name.as_bytes());
}
