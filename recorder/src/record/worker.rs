//! Workers: which worker of an executor a thread is, and when it sleeps.
//!
//! The thread reports this from its executor's hooks. Its slot stores it, and each generation has
//! it in the thread's statement. A worker can move to another thread (Tokio hands it on when a task
//! is about to block). So each time a thread becomes a worker begins a new *tenure*, numbered in
//! the order in which they begin: if two threads claim the same worker, the one with the higher
//! tenure is right, and the other has not noticed yet.

use crate::record::control::control;
use crate::record::emit::is_recording;
use crate::record::site_registry::mix;
use crate::record::slot::{MAX_NAME, MAX_POLLS, NameCell, Slot, ThreadName};
use crate::record::thread;
use crate::record::writer::{WriteCtx, Writer};
use lookback_snapshot::wire::{Kind, MAX_VARINT};
use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// Which worker a slot's thread is. All zeroes: none. Only the thread stores to it.
#[derive(Default)]
pub(crate) struct WorkerPlace {
    /// The runtime in the high half, the worker + 1 in the low half; 0 for none.
    who: AtomicU64,
    tenure: AtomicU64,
    parked: AtomicU32,
    /// The runtime to whose pool the thread belongs, plus 1; 0 for none.
    pool: AtomicU32,
    /// The thread's relation to the worker: [`VISIT`], [`NAMED`].
    flags: AtomicU32,
    /// During a visit, the executor's number of the runtime that the thread drives.
    visited: AtomicU64,
    /// Added to a poll's depth before it is compared with [`MAX_POLLS`]: so all polls of a visit
    /// take the slow path, which finds out which worker they belong to.
    pub(crate) poll_bias: AtomicU32,
    /// The name that the worker was given.
    name: NameCell,
}

/// The thread does not report when it stops being the worker; or, for a named worker, when it
/// sleeps.
const VISIT: u32 = 1;
/// The thread has given the worker a name.
const NAMED: u32 = 2;

/// A thread's role as a worker.
#[derive(Clone, Copy)]
pub(crate) struct Post {
    pub(crate) runtime: u32,
    worker: u32,
    visit: bool,
    name: Option<ThreadName>,
}

impl Post {
    /// The only worker of this runtime, with a name of its own.
    pub(crate) fn named(runtime: u32, name: ThreadName, visit: bool) -> Self {
        Self { runtime, worker: 0, visit, name: Some(name) }
    }

    fn who(self) -> u64 {
        u64::from(self.runtime) << 32 | (u64::from(self.worker) + 1)
    }

    fn flags(self) -> u32 {
        (if self.visit { VISIT } else { 0 }) | (if self.name.is_some() { NAMED } else { 0 })
    }
}

/// The contents of a worker place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerState {
    pub(crate) who: u64,
    pub(crate) tenure: u64,
    pub(crate) parked: bool,
    pub(crate) pool: u32,
    flags: u32,
    name: ThreadName,
}

impl WorkerPlace {
    pub(crate) fn held(&self) -> WorkerState {
        WorkerState {
            who: self.who.load(Ordering::Relaxed),
            tenure: self.tenure.load(Ordering::Relaxed),
            parked: self.parked.load(Ordering::Relaxed) != 0,
            pool: self.pool.load(Ordering::Relaxed),
            flags: self.flags.load(Ordering::Relaxed),
            name: self.name.get(),
        }
    }

    /// Forgets the worker: the thread is gone.
    pub(crate) fn clear(&self) {
        self.who.store(0, Ordering::Relaxed);
        self.parked.store(0, Ordering::Relaxed);
        self.pool.store(0, Ordering::Relaxed);
        self.flags.store(0, Ordering::Relaxed);
        self.poll_bias.store(0, Ordering::Relaxed);
    }

    fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Whether another thread has been the worker since this one became it.
    fn was_taken(&self) -> bool {
        let (last, mark) = last_of(self.who.load(Ordering::Relaxed));
        let (last, mine) = (last.load(Ordering::Relaxed), self.tenure.load(Ordering::Relaxed));
        last & !TENURE == mark && last & TENURE != mine & TENURE
    }

    /// The thread's role, if it is a named worker.
    fn named(&self) -> Option<Post> {
        let runtime = (self.who.load(Ordering::Relaxed) >> 32) as u32;
        self.has(NAMED).then(|| Post::named(runtime, self.name.get(), self.has(VISIT)))
    }
}

impl WorkerState {
    /// A `worker_status` or `visit_status` with its arguments, if the thread is a worker.
    pub(crate) fn status(self) -> Option<(Kind, [u64; 4])> {
        let worker = (self.who & 0xffff_ffff).checked_sub(1)?;
        let kind = if self.flags & VISIT != 0 { Kind::VisitStatus } else { Kind::WorkerStatus };
        Some((kind, [self.who >> 32, worker, self.tenure, if self.parked { 1 } else { 2 }]))
    }

    /// The number of the runtime whose worker the thread is, if it is one.
    pub(crate) fn runtime(self) -> Option<u32> {
        (self.who != 0).then_some((self.who >> 32) as u32)
    }

    /// The worker's name, if the thread is a named worker.
    pub(crate) fn name(&self) -> Option<&str> {
        (self.who != 0 && self.flags & NAMED != 0).then(|| self.name.as_str())
    }

    /// The numbers with which the definition of the worker's name begins.
    pub(crate) fn name_numbers(self) -> [u64; 2] {
        [self.who >> 32, (self.who & 0xffff_ffff).saturating_sub(1)]
    }

    /// The argument of a `pool_status`, if the thread belongs to a pool.
    pub(crate) fn pool(self) -> Option<u64> {
        u64::from(self.pool).checked_sub(1)
    }
}

/// The last tenure of each worker, with a part of the worker's hash in the upper bits. A worker whose entry
/// another one has overwritten counts as not taken.
static LAST: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
/// The bits of an entry that hold the tenure.
const TENURE: u64 = (1 << 40) - 1;

/// A worker's entry in [`LAST`], and the upper bits that mark it.
fn last_of(who: u64) -> (&'static AtomicU64, u64) {
    let hash = mix(who);
    (&LAST[hash as usize % LAST.len()], hash & !TENURE)
}

static TENURES: AtomicU64 = AtomicU64::new(0);
static RUNTIMES: AtomicU32 = AtomicU32::new(0);
/// The executor's function that returns the current thread's worker.
static ASK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
/// The executor's function that returns the current thread's runtime.
static ASK_RUNTIME: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// The runtime that reports when this thread leaves it: [`NONE`], its number, or [`ANY`].
    static TELLS: Cell<u64> = const { Cell::new(NONE) };
}

const NONE: u64 = u64::MAX;
const ANY: u64 = u64::MAX - 1;

/// A runtime of the process, with a unique number. Its hooks call these methods, on its own
/// threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    number: u32,
}

impl Runtime {
    /// A runtime that is about to be built. `ask` returns which of the runtime's workers the
    /// calling thread is; `ask_runtime` returns which runtime the thread is in, by the executor's
    /// own number, which is not 0.
    #[must_use]
    pub fn new(ask: fn() -> Option<usize>, ask_runtime: fn() -> u64) -> Self {
        ASK.store(ask as *mut (), Ordering::Release);
        ASK_RUNTIME.store(ask_runtime as *mut (), Ordering::Release);
        Self { number: next_runtime() }
    }

    /// The runtime's number, from 0.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    /// This thread starts as part of the runtime's pool: as a worker, or for blocking work.
    pub fn thread_starts(self) {
        let _ = TELLS.try_with(|tells| tells.set(u64::from(self.number)));
        if !is_recording() {
            return;
        }
        let Some(writer) = Writer::enter() else { return };
        let inside = writer.inside();
        self.take_in(inside.slot(), Some(inside));
        // Makes its first poll take the slow path, which finds out which worker it is.
        inside.retire_block();
    }

    /// Moves the slot's thread into the pool, after writing the event that says so: the event may
    /// make the slot state itself, and that statement must describe the thread as the last
    /// generation left it.
    fn take_in(self, slot: &'static Slot, inside: Option<WriteCtx>) {
        if slot.worker.pool.load(Ordering::Relaxed) == self.number + 1 {
            return;
        }
        if let Some(inside) = inside {
            let _ = put(inside, Kind::PoolThread, &[u64::from(self.number)]);
        }
        slot.worker.pool.store(self.number + 1, Ordering::Relaxed);
    }

    /// This thread is about to end, and stops being a worker.
    pub fn thread_stops(self) {
        with_slot(|slot, inside| become_worker(slot, inside, None));
        let _ = TELLS.try_with(|tells| tells.set(NONE));
    }

    /// This thread's worker is about to sleep.
    pub fn parks(self) {
        self.turns(Kind::WorkerPark, true);
    }

    /// This thread's worker continues.
    pub fn unparks(self) {
        self.turns(Kind::WorkerUnpark, false);
    }

    fn turns(self, kind: Kind, parked: bool) {
        if !is_recording() && thread::present_slot().is_none() {
            return;
        }
        let Some(worker) = ask() else { return };
        with_own_slot(|slot, inside| {
            self.take_in(slot, inside);
            let tells = TELLS.try_with(Cell::get).unwrap_or(NONE);
            let post = Post {
                runtime: self.number,
                worker: u32::try_from(worker).unwrap_or(u32::MAX - 1),
                visit: tells != ANY && tells != u64::from(self.number),
                name: None,
            };
            // A named worker keeps its name: this event says when it sleeps.
            let named = slot.worker.named().map(|named| Post { visit: false, ..named });
            // Tokio hands a worker on when its task blocks in place, and may hand it back later, both without
            // notice. Only a worker parks; a thread that has handed its worker on still counts as one for `ask`.
            if named.is_none() && slot.worker.was_taken() {
                become_worker(slot, inside, None);
            }
            turn(slot, inside, named.unwrap_or(post), (kind, parked));
        });
    }
}

/// A new runtime number.
pub(crate) fn next_runtime() -> u32 {
    RUNTIMES.fetch_add(1, Ordering::Relaxed)
}

/// The slot's thread is this worker, which goes to sleep or continues.
pub(crate) fn turn(
    slot: &'static Slot,
    inside: Option<WriteCtx>,
    post: Post,
    (kind, parked): (Kind, bool),
) {
    become_worker(slot, inside, Some(post));
    if post.visit {
        slot.worker.visited.store(ask_runtime(), Ordering::Relaxed);
    }
    let was = slot.worker.parked.load(Ordering::Relaxed) != 0;
    if was != parked {
        if let Some(inside) = inside {
            let _ = put(inside, kind, &[]);
        }
        slot.worker.parked.store(u32::from(parked), Ordering::Relaxed);
    }
    // While nothing is recorded, the watchdog is about to end or gone: `stop` waits only for
    // threads that are inside a generation.
    if !parked && inside.is_some() {
        let control = control();
        if control.mode().is_fenced() {
            fence(Ordering::SeqCst);
        }
        if control.watchdog_sleeps.load(Ordering::Relaxed) != 0 {
            control.wake_watchdog();
        }
    }
}

/// This thread drives a runtime until the result is passed to [`leave_runtime`].
#[must_use]
pub fn drive_runtime() -> u64 {
    TELLS.try_with(|tells| tells.replace(ANY)).unwrap_or(NONE)
}

/// This thread has left the runtime that it drove, and stops being a worker, unless it is a worker
/// that it named itself.
pub fn leave_runtime(before: u64) {
    let _ = TELLS.try_with(|tells| tells.set(before));
    with_slot(|slot, inside| {
        if !slot.worker.has(NAMED) {
            become_worker(slot, inside, None);
        }
    });
}

/// Calls `then` inside the gate of this thread's slot, which it gets now if it has none and
/// something is being recorded.
pub(crate) fn with_own_slot(then: impl FnOnce(&'static Slot, Option<WriteCtx>)) {
    match is_recording().then(Writer::enter).flatten() {
        Some(writer) => then(writer.inside().slot(), Some(writer.inside())),
        None => with_slot(then),
    }
}

/// The slot's thread stops being a worker, if it is still the worker of that runtime.
pub(crate) fn leave_named(runtime: u32) {
    with_slot(|slot, inside| {
        if slot.worker.named().is_some_and(|post| post.runtime == runtime) {
            become_worker(slot, inside, None);
        }
    });
}

/// Calls `then` inside the gate of this thread's slot, if it has one, with a context for writing if
/// anything is being recorded.
fn with_slot(then: impl FnOnce(&'static Slot, Option<WriteCtx>)) {
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
    // SAFETY: not null, so it was stored from a function of this type.
    let ask = unsafe { std::mem::transmute::<*mut (), fn() -> Option<usize>>(ask) };
    ask()
}

/// The runtime that the thread is in, by the executor's number; 0 for none.
fn ask_runtime() -> u64 {
    let ask = ASK_RUNTIME.load(Ordering::Acquire);
    if ask.is_null() {
        return 0;
    }
    // SAFETY: not null, so it was stored from a function of this type.
    let ask = unsafe { std::mem::transmute::<*mut (), fn() -> u64>(ask) };
    ask()
}

/// Finds out which worker a thread is, where that may have changed unnoticed: for a thread of a
/// pool, or one that drives a runtime and may have left it. `outermost`: the thread is about to
/// poll, and polls nothing else.
pub(crate) fn identify(slot: &'static Slot, inside: WriteCtx, outermost: bool) {
    let place = &slot.worker;
    if place.has(NAMED) {
        return;
    }
    let pool = place.pool.load(Ordering::Relaxed);
    if place.has(VISIT) {
        if outermost && ask_runtime() != place.visited.load(Ordering::Relaxed) {
            // The next park reports which worker it is now.
            become_worker(slot, Some(inside), None);
        }
    } else if pool != 0 && TELLS.try_with(Cell::get) == Ok(u64::from(pool - 1)) {
        let post = |worker: usize| Post {
            runtime: pool - 1,
            worker: u32::try_from(worker).unwrap_or(u32::MAX - 1),
            visit: false,
            name: None,
        };
        become_worker(slot, Some(inside), ask().map(post));
    }
}

pub(crate) fn become_worker(slot: &'static Slot, inside: Option<WriteCtx>, post: Option<Post>) {
    let place = &slot.worker;
    let (who, flags) = post.map_or((0, 0), |post| (post.who(), post.flags()));
    let is_so = place.flags.load(Ordering::Relaxed) == flags;
    if is_so && place.who.load(Ordering::Relaxed) == who {
        return;
    }
    // Update the place only after writing the event, because that may begin a new generation, which
    // must state the thread as the last generation left it.
    let said =
        |kind: Kind, numbers: &[u64]| inside.is_some_and(|inside| put(inside, kind, numbers));
    let mut told = false;
    match post {
        Some(post) => {
            if place.who.load(Ordering::Relaxed) != 0 {
                // The thread was another worker, say of a runtime that it drove before and left
                // unnoticed.
                said(Kind::WorkerStop, &[]);
                place.who.store(0, Ordering::Relaxed);
            }
            let tenure = TENURES.fetch_add(1, Ordering::Relaxed) + 1;
            let kind = if post.visit { Kind::WorkerVisit } else { Kind::WorkerStart };
            told = said(kind, &[u64::from(post.runtime), u64::from(post.worker), tenure]);
            place.tenure.store(tenure, Ordering::Relaxed);
            let (last, mark) = last_of(who);
            last.store(mark | tenure & TENURE, Ordering::Relaxed);
        }
        None => _ = said(Kind::WorkerStop, &[]),
    }
    place.parked.store(0, Ordering::Relaxed);
    place.flags.store(flags, Ordering::Relaxed);
    place.name.set(post.and_then(|post| post.name).unwrap_or(ThreadName::NONE));
    let asks = flags & (VISIT | NAMED) == VISIT;
    let bias = if asks { MAX_POLLS as u32 } else { 0 };
    place.poll_bias.store(bias, Ordering::Relaxed);
    place.who.store(who, Ordering::Relaxed);
    if let Some(inside) = inside.filter(|_| told) {
        // If there is no room, the next generation states it.
        let _ = put_name(inside, place.held());
    }
}

/// Defines the worker's name, if it has one. `None` if there is no room.
fn put_name(inside: WriteCtx, held: WorkerState) -> Option<()> {
    let Some(name) = held.name() else { return Some(()) };
    inside.piece(Kind::WorkerName, NAME_SIZE - 1, |cursor| {
        held.name_numbers().into_iter().for_each(|number| cursor.number(number));
        cursor.text(name, MAX_NAME);
    })
}

/// The most bytes that a worker's name takes.
pub(crate) const NAME_SIZE: usize = 1 + 3 * MAX_VARINT + MAX_NAME;

/// Writes an event of these numbers. Returns whether there was room.
fn put(inside: WriteCtx, kind: Kind, numbers: &[u64]) -> bool {
    let begun = inside.begin(kind, numbers.len() * MAX_VARINT);
    begun.is_some_and(|(mut cursor, _)| {
        // SAFETY: the size asked for is that of these numbers.
        unsafe {
            numbers.iter().for_each(|number| cursor.number(*number));
            inside.commit(cursor);
        }
        true
    })
}

/// States which worker the slot's thread is. `None` if there is no room.
pub(crate) fn state_worker(inside: WriteCtx) -> Option<()> {
    let held = inside.slot().worker.held();
    let statuses = [
        held.pool().map(|pool| (Kind::PoolStatus, vec_of(&[pool]))),
        held.status().map(|(kind, numbers)| (kind, vec_of(&numbers))),
    ];
    for (kind, (numbers, count)) in statuses.into_iter().flatten() {
        inside.piece(kind, count * MAX_VARINT, |cursor| {
            numbers[..count].iter().for_each(|number| cursor.number(*number));
        })?;
    }
    put_name(inside, held)
}

/// Up to four numbers, without allocating.
fn vec_of(numbers: &[u64]) -> ([u64; 4], usize) {
    let mut all = [0; 4];
    all[..numbers.len()].copy_from_slice(numbers);
    (all, numbers.len())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// `stop` waits only for threads that are inside a generation, and then frees what waking
    /// the watchdog needs. No test of this process records.
    #[test]
    fn who_is_inside_of_no_generation_wakes_nobody() {
        // SAFETY: zeroes are a valid slot.
        let slot: &'static Slot = Box::leak(unsafe { Box::<Slot>::new_zeroed().assume_init() });
        let sleeps = &control().watchdog_sleeps;
        sleeps.store(1, Ordering::SeqCst);
        let post = Post { runtime: 7, worker: 0, visit: false, name: None };
        turn(slot, None, post, (Kind::WorkerPark, true));
        assert!(slot.worker.held().parked);
        turn(slot, None, post, (Kind::WorkerUnpark, false));
        assert!(!slot.worker.held().parked);
        assert_eq!(sleeps.swap(0, Ordering::SeqCst), 1, "the watchdog may be gone");
    }
}
