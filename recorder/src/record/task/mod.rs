//! Tasks: from their spawn to their end, with each poll and each wake.
//!
//! A task has a place among [`TASKS`], which holds its [words](crate::protocol::task_state), its
//! name, and what its wakers need (see [`crate::record::task::waker`]). The place belongs to the
//! task from its spawn event until the last reference is dropped: the future holds one, and so does
//! each cloned waker.
//!
//! Polls and wakes are frequent, so like other events they have a fast path that calls nothing (see
//! [`crate::record::fast_path`]), for when the thread has room in a block of the running generation
//! and that generation has stated the task. Everything else goes through [`Writer`].

pub(crate) mod await_chains;
pub(crate) mod hooked_task;
pub(crate) mod poll_stack;
pub(crate) mod reasons;
pub(crate) mod recorded;
pub(crate) mod side_table;
pub(crate) mod spawn_stacks;
pub(crate) mod task_handle;
pub(crate) mod waker;

use crate::protocol::task_state::{ClaimResult, OwnerWord, Stated, Status, TaskWords};
use crate::record::control::control;
use crate::record::cursor::Reserved;
use crate::record::emit::is_recording;
use crate::record::fast_path::FastRecord;
use crate::record::hooks;
use crate::record::site::Site;
use crate::record::slab::Slab;
use crate::record::slot::MAX_POLLS;
use crate::record::task::poll_stack::{mark_errand, pop, push};
use crate::record::task::waker::Wakers;
use crate::record::thread;
use crate::record::writer::{WriteCtx, Writer};
use lookback_snapshot::wire::{Kind, Loss, MAX_VARINT, TaskState};
use std::panic::Location;
use std::sync::atomic::{AtomicPtr, Ordering, fence};

/// The most tasks that can be alive at once: 1 GiB of address space.
pub(crate) const MAX_TASKS: u32 = 1 << 24;
/// How many groups keep their memory, however few tasks there are.
const KEPT: u32 = 64;

/// The places of all tasks.
pub(crate) static TASKS: Slab<TaskEntry> = Slab::new();

/// See the module. All zeroes: a place that was never used.
#[repr(C, align(64))]
pub(crate) struct TaskEntry {
    pub(crate) words: TaskWords,
    site: AtomicPtr<Site>,
    pub(crate) wakers: Wakers,
}

const _: () = assert!(size_of::<TaskEntry>() == 64);

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pending,
    Ready,
    Panicked,
}

impl TaskEntry {
    fn site(&self) -> &'static Site {
        // SAFETY: it is set before the place belongs to a task, to a site that is never freed.
        unsafe { &*self.site.load(Ordering::Relaxed) }
    }

    /// The name, for an observer; `None` if the place never had a task.
    pub(crate) fn named(&self) -> Option<(&'static Site, u32)> {
        // SAFETY: as above, or null.
        let site = unsafe { self.site.load(Ordering::Relaxed).as_ref() }?;
        Some((site, self.wakers.incarnation.load(Ordering::Relaxed)))
    }

    /// The id of the place's task.
    pub(crate) fn id(&self) -> u64 {
        let incarnation = self.wakers.incarnation.load(Ordering::Relaxed);
        u64::from(incarnation) << 32 | u64::from(TASKS.index_of(self))
    }

    /// The last numbers that the place used, if it is no longer needed.
    fn numbers(&self, complete: u64) -> Option<(u64, u32)> {
        // One generation more than reuse would need: the coming listing must not look for a place
        // whose memory was returned.
        let word = self.words.own();
        let free = self.words.is_free_for(complete.saturating_sub(2));
        free.then(|| (word.sequence(), self.wakers.incarnation.load(Ordering::Relaxed)))
    }
}

/// Returns the memory of a past peak, once generation `complete` is complete.
pub(crate) fn shrink(complete: u64) {
    TASKS.shrink(KEPT, |place| place.numbers(complete), await_chains::give_back);
}

/// Keeps the words of all tasks distinguishable from newer ones, when no listing has run for a long
/// time.
#[cold]
pub(crate) fn rejuvenate(generation: u64) {
    for (index, place) in TASKS.each() {
        // If this thread were held up here for very long, it would mistake new words for old ones.
        let newest = control().generation.load(Ordering::Relaxed);
        if index.is_multiple_of(1024) && newest.saturating_sub(generation) > 1 << 12 {
            return;
        }
        place.words.keep_apart(generation);
    }
}

/// Whether the task of this id is alive and not being polled, seen from anywhere.
pub(crate) fn is_idle(task: u64) -> bool {
    TASKS.get(task as u32).is_some_and(|place| {
        let is_it = u64::from(place.wakers.incarnation.load(Ordering::Relaxed)) == task >> 32;
        is_it && place.words.look().status() == Status::Idle
    })
}

/// A live task, held by the code that polls it.
#[derive(Debug)]
pub(crate) struct Task(&'static TaskEntry);

impl std::fmt::Debug for TaskEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TaskEntry").field(&TASKS.index_of(self)).finish()
    }
}

impl Task {
    /// Begins a task with this name, spawned by the task that this thread is polling. `None` if
    /// nothing is recorded, or there is no place.
    pub(crate) fn create(site: &'static Site) -> Option<Self> {
        let writer = Writer::enter()?;
        let inside = writer.inside();
        let (place, sequence) = take_place(inside, site, |_| true)?;
        let (_, _, generation) = inside.parts();
        let incarnation = place.wakers.incarnation.load(Ordering::Relaxed);
        place.words.take_place();
        match inside.begin_at_id(Kind::TaskCreate, site, 3 * MAX_VARINT) {
            Some((id, mut cursor)) => {
                // SAFETY: as large as asked for.
                unsafe {
                    cursor.number(u64::from(TASKS.index_of(place)));
                    cursor.number(u64::from(incarnation));
                    cursor.number(sequence);
                    cursor.number(u64::from(id));
                    inside.commit(cursor);
                }
                place.words.commit(generation, Status::Idle, sequence);
            }
            None => place.words.create_lost(generation, sequence),
        }
        drop(writer);
        spawn_stacks::spawned(place);
        Some(Self(place))
    }

    /// Takes a place for a task that began while nothing was recorded.
    pub(crate) fn adopt(site: &'static Site) -> Option<Self> {
        let writer = Writer::enter()?;
        let inside = writer.inside();
        let (_, _, generation) = inside.parts();
        // No event says that the place changes hands, so it must belong to one task for the whole
        // generation.
        let is_fit = |place: &TaskEntry| place.words.is_unmentioned_in(generation);
        let (place, sequence) = take_place(inside, site, is_fit)?;
        place.words.adopt(generation, sequence);
        Some(Self(place))
    }

    /// Lets the place represent the task. It must be turned back by
    /// [`from_place`](Self::from_place), once.
    pub(crate) fn into_place(self) -> &'static TaskEntry {
        let place = self.0;
        std::mem::forget(self);
        place
    }

    /// The task in the place.
    pub(crate) fn from_place(place: &'static TaskEntry) -> Self {
        Self(place)
    }

    /// The future has returned its result or panicked: ends the task.
    pub(crate) fn finish(self) {
        let place = self.into_place();
        // An unrecorded last poll has left the task alive.
        let word = place.words.own();
        if word.is_alive() {
            end_unpolled(place);
        }
        place.wakers.end();
        give_up(place);
    }
}

impl Drop for Task {
    /// The future is dropped before completion.
    fn drop(&mut self) {
        end_unpolled(self.0);
        self.0.wakers.end();
        give_up(self.0);
    }
}

/// A closure as a task: created where it is spawned, it runs in one poll on another thread.
#[derive(Debug)]
pub struct BlockingTask(Option<Task>);

impl BlockingTask {
    /// Begins a task with this name.
    #[must_use]
    pub fn new(name: &'static str, place: &'static Location<'static>) -> Self {
        let site = crate::record::site_registry::blocking_site_of(name, place);
        Self(if is_recording() { Task::create(site) } else { None })
    }

    /// Runs the closure on this thread. The task also ends if it panics.
    pub fn run<T>(mut self, work: impl FnOnce() -> T) -> T {
        struct Running(Option<Task>, Outcome);
        impl Drop for Running {
            fn drop(&mut self) {
                if let Some(task) = self.0.take() {
                    mark_errand(false);
                    end_poll(task.0, self.1);
                    task.finish();
                }
            }
        }
        let Some(task) = self.0.take() else { return work() };
        if !begin_poll(task.0, NO_FRAME) {
            let result = work();
            task.finish();
            return result;
        }
        mark_errand(true);
        let mut running = Running(Some(task), Outcome::Panicked);
        let result = work();
        running.1 = Outcome::Ready;
        result
    }
}

/// Takes a place for a task with this name, with one reference. Returns it with the task's first
/// sequence number.
fn take_place(
    inside: WriteCtx,
    site: &'static Site,
    is_fit: impl Fn(&TaskEntry) -> bool,
) -> Option<(&'static TaskEntry, u64)> {
    let (slot, control, _) = inside.parts();
    let complete = control.complete.load(Ordering::Acquire);
    let is_free = |place: &TaskEntry| place.words.is_free_for(complete) && is_fit(place);
    let taken = TASKS.take(&slot.free_tasks, is_free);
    let Some(place) = taken else {
        // Only count the loss: the thread's own state is unchanged, so it need not be stated again.
        inside.count_lost(Loss::NoPlace);
        return None;
    };
    let mut incarnation = place.wakers.incarnation.load(Ordering::Relaxed);
    let mut floor = 0;
    if incarnation == 0 {
        // The place was never used, or its memory was returned since.
        (floor, incarnation) = TASKS.floors();
    }
    let sequence = TaskWords::next_idle(place.words.own(), floor);
    place.wakers.incarnation.store(incarnation.wrapping_add(1).max(1), Ordering::Relaxed);
    place.site.store(std::ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
    place.wakers.begin();
    await_chains::begin(TASKS.index_of(place));
    spawn_stacks::begin(TASKS.index_of(place));
    Some((place, sequence))
}

/// Drops a reference to a place.
pub(crate) fn give_up(place: &'static TaskEntry) {
    if place.wakers.give_up() {
        let index = TASKS.index_of(place);
        // A signal handler may be using the thread's cache, unless this thread is inside its gate.
        let slot = thread::present_slot().filter(|slot| !slot.gate.is_inside());
        match slot.and_then(|slot| Writer::enter_slot(control(), slot)) {
            Some(writer) => TASKS.give(index, Some(&writer.inside().slot().free_tasks)),
            None => TASKS.give(index, None),
        }
    }
}

/// The most bytes of a task's record: kind, time, task and sequence number.
const RECORD: usize = 1 + 3 * MAX_VARINT;

/// There must be room for two numbers.
#[inline(always)]
fn put_two(cursor: &mut Reserved, first: u64, second: u64) {
    cursor.number(first);
    cursor.number(second);
}

/// The frame of a poll that has none of ours.
pub(crate) const NO_FRAME: u64 = 0;

/// Begins a poll on this thread, by a function with this stack pointer. Returns whether it is recorded; only then
/// must it be ended.
#[inline]
pub(crate) fn begin_poll(place: &'static TaskEntry, frame: u64) -> bool {
    is_recording() && begin_recorded_poll(place, frame)
}

#[inline(never)]
fn begin_recorded_poll(place: &'static TaskEntry, frame: u64) -> bool {
    let Some(ready) = FastRecord::enter(RECORD) else { return begin_poll_slowly(place, frame) };
    let (slot, word) = (ready.slot, place.words.own());
    let depth = slot.poll_depth.load(Ordering::Relaxed);
    let biased = depth + slot.worker.poll_bias.load(Ordering::Relaxed);
    if !TaskWords::is_plain(word, ready.generation) || biased as usize >= MAX_POLLS {
        ready.leave();
        return begin_poll_slowly(place, frame);
    }
    let sequence = word.sequence() + 1;
    ready.write(Kind::TaskPoll, ready.now(), |cursor| {
        put_two(cursor, u64::from(TASKS.index_of(place)), sequence);
    });
    place.words.commit(ready.generation, Status::Running, sequence);
    push(slot, place, depth, frame);
    ready.leave();
    true
}

#[cold]
#[inline(never)]
fn begin_poll_slowly(place: &'static TaskEntry, frame: u64) -> bool {
    let Some(writer) = Writer::enter() else { return false };
    let inside = writer.inside();
    let slot = inside.slot();
    let depth = slot.poll_depth.load(Ordering::Relaxed);
    if depth as usize >= MAX_POLLS {
        return false;
    }
    crate::record::worker::identify(slot, inside, depth == 0);
    transition(inside, place, Kind::TaskPoll, Status::Running);
    push(slot, place, depth, frame);
    true
}

/// Ends the poll that [`begin_poll`] said is recorded.
#[inline(never)]
pub(crate) fn end_poll(place: &'static TaskEntry, outcome: Outcome) {
    let Some(ready) = FastRecord::enter(RECORD) else { return end_poll_slowly(place, outcome) };
    let (slot, word) = (ready.slot, place.words.own());
    let plain = TaskWords::is_plain(word, ready.generation) && slot.reasons.is_empty();
    let (kind, status) = match outcome {
        Outcome::Pending if plain => (Kind::TaskPending, Status::Idle),
        Outcome::Ready if plain => (Kind::TaskReady, Status::Dead),
        _ => {
            ready.leave();
            return end_poll_slowly(place, outcome);
        }
    };
    ready.write(kind, ready.now(), |_| {});
    place.words.commit(ready.generation, status, word.sequence() + 1);
    pop(slot);
    ready.leave();
}

#[cold]
#[inline(never)]
fn end_poll_slowly(place: &'static TaskEntry, outcome: Outcome) {
    // First, while the task is still the one that this thread polls.
    if outcome == Outcome::Panicked {
        hooks::poll_unwinds();
    }
    let Some(slot) = thread::present_slot() else { return };
    // Enter the gate even if tracing was turned off: the stack is touched only inside.
    let Some(writer) = Writer::enter_slot(control(), slot) else { return };
    let inside = writer.inside();
    let depth = slot.poll_depth.load(Ordering::Relaxed);
    let (kind, status) = match outcome {
        Outcome::Pending if slot.reasons.first_of(depth).is_some() => {
            (Kind::TaskWaits, Status::Idle)
        }
        Outcome::Pending => (Kind::TaskPending, Status::Idle),
        Outcome::Ready => (Kind::TaskReady, Status::Dead),
        Outcome::Panicked => (Kind::TaskPanic, Status::Dead),
    };
    if inside.is_recording() {
        transition(inside, place, kind, status);
    } else {
        unrecorded(place, status);
    }
    slot.reasons.forget_from(depth);
    pop(slot);
}

/// Ends a task outside its polls.
#[cold]
#[inline(never)]
fn end_unpolled(place: &'static TaskEntry) {
    // Even with tracing off, do this inside the gate if possible, so that the task is over before
    // recording restarts.
    let enter_unrecorded = || {
        let slot = thread::present_slot().filter(|slot| !slot.gate.is_inside())?;
        Writer::enter_slot(control(), slot)
    };
    let recording = if is_recording() { Writer::enter() } else { None };
    let writer = recording.or_else(enter_unrecorded);
    match writer.as_ref().map(Writer::inside) {
        // An unrecorded poll may have begun meanwhile; the place must not look alive.
        Some(inside) if inside.is_recording() && place.words.own().status() == Status::Idle => {
            transition(inside, place, Kind::TaskDrop, Status::Dead);
        }
        _ => unrecorded(place, Status::Dead),
    }
}

/// Makes the owner's transition while tracing is off, or when it cannot be recorded.
fn unrecorded(place: &'static TaskEntry, status: Status) {
    let next = control().next_generation.load(Ordering::Relaxed);
    place.words.unrecorded(next, status, place.words.own().sequence() + 1);
}

/// Writes the owner's transition to `status`, after the status that must precede it; or loses it.
fn transition(inside: WriteCtx, place: &'static TaskEntry, kind: Kind, status: Status) {
    let (_, _, generation) = inside.parts();
    let word = place.words.own();
    let sequence = word.sequence() + 1;
    let written = write_transition(inside, place, kind, sequence);
    match written {
        Ok(()) => place.words.commit(generation, status, sequence),
        Err(cause) => {
            // Losing may restate the slot's polls, so lose before the word changes.
            inside.lose(cause);
            place.words.begin_transition(generation);
            place.words.lost(generation, status, sequence);
        }
    }
}

fn write_transition(
    inside: WriteCtx,
    place: &'static TaskEntry,
    kind: Kind,
    sequence: u64,
) -> Result<(), Loss> {
    let (slot, _, generation) = inside.parts();
    let waits_for = match kind {
        Kind::TaskWaits => {
            let depth = slot.poll_depth.load(Ordering::Relaxed);
            slot.reasons.first_of(depth).map(|site| site.id(inside)).transpose()?
        }
        _ => None,
    };
    // Making room may begin a new block or a new generation, which states what this thread polls.
    inside.room_for(RECORD)?;
    if !TaskWords::is_plain(place.words.own(), generation) {
        let id = place.site().id(inside)?;
        inside.room_for(STATUS + RECORD)?;
        if let Some(stated) = place.words.begin_transition(generation) {
            put_status(inside, place, id, stated);
        }
    }
    let Some((mut cursor, _)) = inside.begin(kind, 2 * MAX_VARINT) else {
        return Err(Loss::ArenaFull);
    };
    // SAFETY: as large as asked for.
    unsafe {
        match kind {
            Kind::TaskPoll | Kind::TaskDrop => {
                cursor.number(u64::from(TASKS.index_of(place)));
                cursor.number(sequence);
            }
            Kind::TaskWaits => cursor.number(u64::from(waits_for.unwrap_or_default())),
            _ => {}
        }
        inside.commit(cursor);
    }
    Ok(())
}

/// The most bytes of a task's status.
const STATUS: usize = 1 + 5 * MAX_VARINT;

fn put_status(inside: WriteCtx, place: &'static TaskEntry, site: u32, stated: Stated) {
    let state = if stated.running { TaskState::Running } else { TaskState::Idle };
    inside.put_record(Kind::TaskStatus, |cursor| {
        cursor.number(u64::from(TASKS.index_of(place)));
        cursor.number(u64::from(place.wakers.incarnation.load(Ordering::Relaxed)));
        cursor.number(stated.sequence);
        cursor.number(state.code(stated.woken));
        cursor.number(u64::from(site));
    });
}

/// States the tasks that the slot's thread is polling, outermost first. This thread is their owner.
/// `None` if there is no room.
pub(crate) fn state_polls(inside: WriteCtx) -> Option<()> {
    let (slot, _, generation) = inside.parts();
    let depth = slot.poll_depth.load(Ordering::Relaxed) as usize;
    for poll in &slot.polls[..depth.min(MAX_POLLS)] {
        // SAFETY: the stack holds places, which are never unmapped.
        let Some(place) = (unsafe { poll.load(Ordering::Relaxed).as_ref() }) else { continue };
        if place.words.own().status() != Status::Running {
            // Its begin was lost, and so its end was, or will be.
            continue;
        }
        let Some((site, _)) = place.named() else { continue };
        let id = inside.site_piece(site)?;
        if !inside.block_for(STATUS) {
            return None;
        }
        let word = place.words.own();
        let woken = place.words.begin_transition(generation).is_some_and(|stated| stated.woken);
        put_status(inside, place, id, Stated { sequence: word.sequence(), running: true, woken });
        place.words.commit(generation, Status::Running, word.sequence());
    }
    Some(())
}

/// How a wake was recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woke {
    /// It is in the trace, or there was nothing to record.
    Told,
    /// Another wake is recorded for the same poll. Holds the owner's word of the task.
    Already(OwnerWord),
}

/// Records that this thread is about to wake a task.
#[inline(never)]
pub(crate) fn wake(place: &'static TaskEntry) -> Woke {
    let Some(ready) = FastRecord::enter(RECORD) else { return wake_slowly(place) };
    // In this order: first what is settled, then what the task is doing.
    let settled = ready.control.settled.load(Ordering::Acquire);
    match place.words.claim(ready.generation) {
        ClaimResult::Claimed(word) => {
            let kind = kind_of_wake(settled, ready.generation);
            ready.write(kind, ready.now(), |cursor| {
                put_two(cursor, u64::from(TASKS.index_of(place)), word.sequence());
            });
            ready.leave();
            Woke::Told
        }
        ClaimResult::Nothing => {
            ready.leave();
            already(place)
        }
        ClaimResult::Newer => {
            ready.leave();
            wake_slowly(place)
        }
    }
}

fn already(place: &'static TaskEntry) -> Woke {
    let word = place.words.look();
    if word.is_alive() { Woke::Already(word) } else { Woke::Told }
}

fn kind_of_wake(settled: u64, generation: u64) -> Kind {
    if settled + 1 < generation { Kind::TaskWakeStale } else { Kind::TaskWake }
}

#[cold]
#[inline(never)]
fn wake_slowly(place: &'static TaskEntry) -> Woke {
    // Once is enough, unless generations begin as fast as this thread enters.
    for _ in 0..64 {
        let Some(writer) = Writer::enter() else { return Woke::Told };
        let inside = writer.inside();
        let (_, control, generation) = inside.parts();
        if let Err(cause) = inside.room_for(RECORD) {
            inside.lose(cause);
            return Woke::Told;
        }
        let settled = control.settled.load(Ordering::Acquire);
        match place.words.claim(generation) {
            ClaimResult::Claimed(word) => {
                let kind = kind_of_wake(settled, generation);
                if let Some((mut cursor, _)) = inside.begin(kind, 2 * MAX_VARINT) {
                    // SAFETY: as large as asked for.
                    unsafe {
                        cursor.number(u64::from(TASKS.index_of(place)));
                        cursor.number(word.sequence());
                        inside.commit(cursor);
                    }
                }
                return Woke::Told;
            }
            ClaimResult::Nothing => return already(place),
            ClaimResult::Newer => fence(Ordering::SeqCst),
        }
    }
    control().count_lost(Loss::ArenaFull);
    Woke::Told
}
