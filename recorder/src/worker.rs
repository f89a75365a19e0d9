//! Workers: which place of an executor a thread is, and when it sleeps.
//!
//! The thread itself says so, from its executor's hooks, and its slot keeps it; a generation has it in
//! the statement of the thread. A worker can change its thread (Tokio hands it on when a task is about
//! to block). So each time that a thread becomes a worker is a new *tenure*, numbered in the order of
//! their begins: of two threads that claim one worker, the one with the higher tenure is right, and
//! the other has not noticed yet.

use crate::control::control;
use crate::emit::is_recording;
use crate::slot::Slot;
use crate::thread;
use crate::writer::{Inside, Writer};
use lookback_snapshot::wire::{Kind, MAX_VARINT};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// Which worker a slot's thread is. Zeroes are none. Only the thread stores to it.
#[derive(Default)]
pub(crate) struct WorkerPlace {
    /// The runtime in the high half, the worker + 1 in the low half; 0 for none.
    who: AtomicU64,
    tenure: AtomicU64,
    parked: AtomicU32,
    /// The runtime + 1 whose pool the thread is of, 0 for none.
    pool: AtomicU32,
}

/// What a worker place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) who: u64,
    pub(crate) tenure: u64,
    pub(crate) parked: bool,
    pub(crate) pool: u32,
}

impl WorkerPlace {
    pub(crate) fn held(&self) -> Held {
        Held {
            who: self.who.load(Ordering::Relaxed),
            tenure: self.tenure.load(Ordering::Relaxed),
            parked: self.parked.load(Ordering::Relaxed) != 0,
            pool: self.pool.load(Ordering::Relaxed),
        }
    }

    /// The thread is gone.
    pub(crate) fn clear(&self) {
        self.who.store(0, Ordering::Relaxed);
        self.parked.store(0, Ordering::Relaxed);
        self.pool.store(0, Ordering::Relaxed);
    }
}

impl Held {
    /// The arguments of a `worker_status`, if the thread is a worker.
    pub(crate) fn status(self) -> Option<[u64; 4]> {
        let worker = (self.who & 0xffff_ffff).checked_sub(1)?;
        Some([self.who >> 32, worker, self.tenure, if self.parked { 1 } else { 2 }])
    }

    /// The argument of a `pool_status`, if the thread is of a pool.
    pub(crate) fn pool(self) -> Option<u64> {
        u64::from(self.pool).checked_sub(1)
    }
}

static TENURES: AtomicU64 = AtomicU64::new(0);
static RUNTIMES: AtomicU32 = AtomicU32::new(0);
/// Asks the executor which worker the present thread is.
static ASK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// A runtime of the process, by a number of its own. Its hooks call these, on its own threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    number: u32,
}

impl Runtime {
    /// A runtime that is about to be built. `ask` says which of its workers the calling thread is.
    #[must_use]
    pub fn new(ask: fn() -> Option<usize>) -> Self {
        ASK.store(ask as *mut (), Ordering::Release);
        Self { number: RUNTIMES.fetch_add(1, Ordering::Relaxed) }
    }

    /// Its number, from 0.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    /// This thread is of its pool: a worker, or for what blocks.
    pub fn thread_starts(self) {
        if !is_recording() {
            return;
        }
        let Some(writer) = Writer::enter() else { return };
        let inside = writer.inside();
        self.take_in(inside.slot(), Some(inside));
        // So that its first poll goes the long way, and finds out which worker it is.
        inside.retire_block();
    }

    /// The slot's thread is of the pool from now on. It is so only after the event that says so: what
    /// that event makes the slot state of itself is from before it, as the last generation left it.
    fn take_in(self, slot: &'static Slot, inside: Option<Inside>) {
        if slot.worker.pool.load(Ordering::Relaxed) == self.number + 1 {
            return;
        }
        if let Some(inside) = inside {
            put(inside, Kind::PoolThread, &[u64::from(self.number)]);
        }
        slot.worker.pool.store(self.number + 1, Ordering::Relaxed);
    }

    /// This thread is about to end, and is no worker any more.
    pub fn thread_stops(self) {
        with_slot(|slot, inside| become_worker(slot, inside, None));
    }

    /// This thread's worker is about to sleep.
    pub fn parks(self) {
        self.turns(Kind::WorkerPark, true);
    }

    /// This thread's worker goes on.
    pub fn unparks(self) {
        self.turns(Kind::WorkerUnpark, false);
    }

    fn turns(self, kind: Kind, parked: bool) {
        if !is_recording() && thread::present_slot().is_none() {
            return;
        }
        let Some(worker) = ask() else { return };
        let turn = |slot: &'static Slot, inside: Option<Inside>| {
            self.take_in(slot, inside);
            become_worker(slot, inside, Some(worker));
            let was = slot.worker.parked.load(Ordering::Relaxed) != 0;
            if was != parked {
                if let Some(inside) = inside {
                    put(inside, kind, &[]);
                }
                slot.worker.parked.store(u32::from(parked), Ordering::Relaxed);
            }
            if !parked {
                let control = control();
                if control.mode().is_fenced() {
                    fence(Ordering::SeqCst);
                }
                if control.watchdog_sleeps.load(Ordering::Relaxed) != 0 {
                    control.wake_watchdog();
                }
            }
        };
        match Writer::enter() {
            Some(writer) => turn(writer.inside().slot(), Some(writer.inside())),
            None => with_slot(turn),
        }
    }
}

/// This thread has left the runtime that it drove, and is no worker any more.
pub fn leave_runtime() {
    with_slot(|slot, inside| become_worker(slot, inside, None));
}

/// Calls `then` inside the gate of this thread's slot, if it has one; with what to write with, if
/// anything is recorded.
fn with_slot(then: impl FnOnce(&'static Slot, Option<Inside>)) {
    let Some(slot) = thread::present_slot() else { return };
    let Some(writer) = Writer::enter_slot(control(), slot) else { return };
    let inside = writer.inside();
    then(slot, inside.is_recording().then_some(inside));
}

fn ask() -> Option<usize> {
    let ask = ASK.load(Ordering::Acquire);
    if ask.is_null() {
        return None;
    }
    // SAFETY: it is null, or was stored from a function of this type.
    let ask = unsafe { std::mem::transmute::<*mut (), fn() -> Option<usize>>(ask) };
    ask()
}

/// Finds out which worker a thread of a pool is, where that may have changed unseen.
pub(crate) fn identify(slot: &'static Slot, inside: Inside) {
    if slot.worker.pool.load(Ordering::Relaxed) != 0 {
        become_worker(slot, Some(inside), ask());
    }
}

fn become_worker(slot: &'static Slot, inside: Option<Inside>, worker: Option<usize>) {
    let place = &slot.worker;
    let runtime = u64::from(place.pool.load(Ordering::Relaxed).saturating_sub(1));
    let who = worker.map_or(0, |worker| runtime << 32 | (worker as u64 + 1));
    if place.who.load(Ordering::Relaxed) == who {
        return;
    }
    // The place changes after what is written of it, which may begin a new generation: that states
    // the thread as the last one left it.
    let said = |kind: Kind, numbers: &[u64]| {
        if let Some(inside) = inside {
            put(inside, kind, numbers);
        }
    };
    match worker {
        Some(worker) => {
            if place.who.load(Ordering::Relaxed) != 0 {
                // It was another one: of a runtime that it drove before, say, and left unseen.
                said(Kind::WorkerStop, &[]);
                place.who.store(0, Ordering::Relaxed);
            }
            let tenure = TENURES.fetch_add(1, Ordering::Relaxed) + 1;
            said(Kind::WorkerStart, &[runtime, worker as u64, tenure]);
            place.tenure.store(tenure, Ordering::Relaxed);
        }
        None => said(Kind::WorkerStop, &[]),
    }
    place.parked.store(0, Ordering::Relaxed);
    place.who.store(who, Ordering::Relaxed);
}

fn put(inside: Inside, kind: Kind, numbers: &[u64]) {
    if let Some((mut cursor, _)) = inside.begin(kind, numbers.len() * MAX_VARINT) {
        // SAFETY: the size asked for is that of these numbers.
        unsafe {
            numbers.iter().for_each(|number| cursor.number(*number));
            inside.commit(cursor);
        }
    }
}

/// States which worker the slot's thread is. `None` if there is no room.
pub(crate) fn state_worker(inside: Inside) -> Option<()> {
    let held = inside.slot().worker.held();
    let statuses = [
        held.pool().map(|pool| (Kind::PoolStatus, vec_of(&[pool]))),
        held.status().map(|numbers| (Kind::WorkerStatus, vec_of(&numbers))),
    ];
    for (kind, (numbers, count)) in statuses.into_iter().flatten() {
        inside.piece(kind, count * MAX_VARINT, |cursor| {
            // SAFETY: so many numbers, as asked for.
            unsafe { numbers[..count].iter().for_each(|number| cursor.number(*number)) };
        })?;
    }
    Some(())
}

/// Up to four numbers, without an allocation.
fn vec_of(numbers: &[u64]) -> ([u64; 4], usize) {
    let mut all = [0; 4];
    all[..numbers.len()].copy_from_slice(numbers);
    (all, numbers.len())
}
