//! Tasks: from their spawn to their end, each poll and each wake.
//!
//! A task has a place among [`TASKS`], which holds its [words](crate::words), its name, and what its
//! wakers need (see [`crate::waker`]). The place is its task's from the event that creates it until
//! the last reference is given up: the future's own, and one for each waker that was cloned.
//!
//! What is recorded often, polls and wakes, has an ordinary case that calls nothing, as events have
//! (see [`crate::ordinary`]): the thread has room in a block of the running generation, and that
//! generation has stated the task. Everything else goes through [`Writer`].

use crate::control::control;
use crate::cursor::Cursor;
use crate::emit::is_recording;
use crate::groups::Groups;
use crate::ordinary::Ready;
use crate::site::Site;
use crate::slot::{MAX_POLLS, Slot};
use crate::thread;
use crate::waker::Wakers;
use crate::words::{Seen, Stated, Status, Word, Words};
use crate::writer::{Inside, Writer};
use lookback_snapshot::wire::{Kind, Loss, MAX_VARINT, TaskState};
use std::panic::Location;
use std::sync::atomic::{AtomicPtr, Ordering, fence};

/// The most tasks that can be alive at the same time: 1 GiB of address space.
pub(crate) const MAX_TASKS: u32 = 1 << 24;
/// Groups of places whose memory is kept, however few tasks there are.
const KEPT: u32 = 64;

/// The places of all tasks.
pub(crate) static TASKS: Groups<Place> = Groups::new();

/// See the module. Zeroes are a place that was never used.
#[repr(C, align(64))]
pub(crate) struct Place {
    pub(crate) words: Words,
    site: AtomicPtr<Site>,
    pub(crate) wakers: Wakers,
}

const _: () = assert!(size_of::<Place>() == 64);

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pending,
    Ready,
    Panicked,
}

impl Place {
    fn site(&self) -> &'static Site {
        // SAFETY: it is set before the place is anybody's, to a site that lives for ever.
        unsafe { &*self.site.load(Ordering::Relaxed) }
    }

    /// The name, for who looks from outside: `None` if there never was a task.
    pub(crate) fn named(&self) -> Option<(&'static Site, u32)> {
        // SAFETY: as above, or null.
        let site = unsafe { self.site.load(Ordering::Relaxed).as_ref() }?;
        Some((site, self.wakers.incarnation.load(Ordering::Relaxed)))
    }

    /// The id of the task in it.
    pub(crate) fn id(&self) -> u64 {
        let incarnation = self.wakers.incarnation.load(Ordering::Relaxed);
        u64::from(incarnation) << 32 | u64::from(TASKS.index_of(self))
    }

    /// The numbers that it used last, if nobody needs it any more.
    fn numbers(&self, complete: u64) -> Option<(u64, u32)> {
        // One generation more than for another task's use: the listing that is to come must not
        // look for what is gone.
        let word = self.words.own();
        let free = self.words.is_free_for(complete.saturating_sub(2));
        free.then(|| (word.sequence(), self.wakers.incarnation.load(Ordering::Relaxed)))
    }
}

/// Gives the memory of a past peak back, when generation `complete` is.
pub(crate) fn shrink(complete: u64) {
    TASKS.shrink(KEPT, |place| place.numbers(complete));
}

/// Keeps the words of all tasks apart from newer ones, where nobody has listed them for long.
#[cold]
pub(crate) fn rejuvenate(generation: u64) {
    for (index, place) in TASKS.each() {
        // Who is held up in this for very long would take new words for old ones.
        let newest = control().generation.load(Ordering::Relaxed);
        if index.is_multiple_of(1024) && newest.saturating_sub(generation) > 1 << 12 {
            return;
        }
        place.words.keep_apart(generation);
    }
}

/// A task that is alive, for who polls it.
#[derive(Debug)]
pub(crate) struct Task(&'static Place);

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&TASKS.index_of(self)).finish()
    }
}

impl Task {
    /// A task of this name begins now, spawned by the one that this thread is polling. `None` if
    /// nothing is recorded, or there is no place for it.
    pub(crate) fn create(site: &'static Site) -> Option<Self> {
        let writer = Writer::enter()?;
        let inside = writer.inside();
        let (place, sequence) = take_place(inside, site, |_| true)?;
        let (_, _, generation) = inside.parts();
        let incarnation = place.wakers.incarnation.load(Ordering::Relaxed);
        place.words.take_place();
        match inside.begin_at_id(Kind::TaskCreate, site, 3 * MAX_VARINT) {
            Some((id, mut cursor)) => {
                // SAFETY: the size asked for is that of these four.
                unsafe {
                    cursor.number(u64::from(TASKS.index_of(place)));
                    cursor.number(u64::from(incarnation));
                    cursor.number(sequence);
                    cursor.number(u64::from(id));
                    inside.commit(cursor);
                }
                place.words.written(generation, Status::Idle, sequence);
            }
            None => place.words.create_lost(generation, sequence),
        }
        Some(Self(place))
    }

    /// A task that began while nothing was recorded.
    pub(crate) fn adopt(site: &'static Site) -> Option<Self> {
        let writer = Writer::enter()?;
        let inside = writer.inside();
        let (_, _, generation) = inside.parts();
        // No event says that the place is another task's from now on: it is its own for the whole generation.
        let is_fit = |place: &Place| place.words.is_unmentioned_in(generation);
        let (place, sequence) = take_place(inside, site, is_fit)?;
        place.words.adopt(generation, sequence);
        Some(Self(place))
    }

    /// The place, which holds the task from now on. It must come back by
    /// [`from_place`](Self::from_place), once.
    pub(crate) fn into_place(self) -> &'static Place {
        let place = self.0;
        std::mem::forget(self);
        place
    }

    /// The task that the place holds.
    pub(crate) fn from_place(place: &'static Place) -> Self {
        Self(place)
    }

    /// The future has returned its result, or panicked: the task is over.
    pub(crate) fn finish(self) {
        let place = self.into_place();
        // A poll that was not recorded has left it alive.
        let word = place.words.own();
        if word.is_alive() {
            end_unpolled(place);
        }
        place.wakers.end();
        give_up(place);
    }
}

impl Drop for Task {
    /// The future is dropped before it was done.
    fn drop(&mut self) {
        end_unpolled(self.0);
        self.0.wakers.end();
        give_up(self.0);
    }
}

/// A closure as a task: it is created where it is spawned, and runs in one go, on another thread.
#[derive(Debug)]
pub struct Errand(Option<Task>);

impl Errand {
    /// Begins now, with this name.
    #[must_use]
    pub fn new(name: &'static str, place: &'static Location<'static>) -> Self {
        let site = crate::places::blocking_site_of(name, place);
        Self(if is_recording() { Task::create(site) } else { None })
    }

    /// Runs it, on this thread. If it panics, the task ends so.
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
        if !begin_poll(task.0) {
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

/// Takes a place for a task of this name, with one reference to it, and the sequence number that it
/// begins with.
fn take_place(
    inside: Inside,
    site: &'static Site,
    is_fit: impl Fn(&Place) -> bool,
) -> Option<(&'static Place, u64)> {
    let (slot, control, _) = inside.parts();
    let complete = control.complete.load(Ordering::Acquire);
    let is_free = |place: &Place| place.words.is_free_for(complete) && is_fit(place);
    let taken = TASKS.take(&slot.free_tasks, is_free);
    let Some(place) = taken else {
        // The thread's own state is as it was: nothing has to be stated again.
        inside.count_lost(Loss::NoPlace);
        return None;
    };
    let mut incarnation = place.wakers.incarnation.load(Ordering::Relaxed);
    let mut floor = 0;
    if incarnation == 0 {
        // It was never used, or its memory was given back since.
        (floor, incarnation) = TASKS.floors();
    }
    let sequence = Words::next_idle(place.words.own(), floor);
    place.wakers.incarnation.store(incarnation.wrapping_add(1).max(1), Ordering::Relaxed);
    place.site.store(std::ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
    place.wakers.begin();
    Some((place, sequence))
}

/// Gives up one reference to a place.
pub(crate) fn give_up(place: &'static Place) {
    if place.wakers.give_up() {
        let index = TASKS.index_of(place);
        // A signal handler may take from the thread's cache, unless the thread is inside its gate.
        let slot = thread::present_slot().filter(|slot| !slot.gate.is_inside());
        match slot.and_then(|slot| Writer::enter_slot(control(), slot)) {
            Some(writer) => TASKS.give(index, Some(&writer.inside().slot().free_tasks)),
            None => TASKS.give(index, None),
        }
    }
}

/// Notes that the innermost poll of this thread is one that may block, or is not any more.
fn mark_errand(is_errand: bool) {
    let Some(slot) = thread::present_slot() else { return };
    let depth = slot.poll_depth.load(Ordering::Relaxed).wrapping_sub(1);
    let bit = 1_u32.checked_shl(depth).unwrap_or(0);
    let marks = slot.errands.load(Ordering::Relaxed);
    let marks = if is_errand { marks | bit } else { marks & !bit };
    slot.errands.store(marks, Ordering::Relaxed);
}

/// A record of a task takes so much at most: its kind, the time, the task, its sequence number.
const RECORD: usize = 1 + 3 * MAX_VARINT;

/// # Safety
/// There must be room for two numbers.
#[inline(always)]
unsafe fn put_two(cursor: &mut Cursor, first: u64, second: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        cursor.number(first);
        cursor.number(second);
    }
}

/// A poll begins on this thread. Says whether it is recorded; only then does it have an end.
#[inline]
pub(crate) fn begin_poll(place: &'static Place) -> bool {
    is_recording() && begin_recorded_poll(place)
}

#[inline(never)]
fn begin_recorded_poll(place: &'static Place) -> bool {
    let Some(ready) = Ready::enter(RECORD) else { return begin_poll_slowly(place) };
    let (slot, word) = (ready.slot, place.words.own());
    let depth = slot.poll_depth.load(Ordering::Relaxed);
    let biased = depth + slot.worker.poll_bias.load(Ordering::Relaxed);
    if !Words::is_plain(word, ready.generation) || biased as usize >= MAX_POLLS {
        ready.leave();
        return begin_poll_slowly(place);
    }
    let sequence = word.sequence() + 1;
    ready.write(Kind::TaskPoll, ready.now(), |cursor| {
        // SAFETY: there is room for a record of a task.
        unsafe { put_two(cursor, u64::from(TASKS.index_of(place)), sequence) };
    });
    place.words.written(ready.generation, Status::Running, sequence);
    push(slot, place, depth);
    ready.leave();
    true
}

#[cold]
#[inline(never)]
fn begin_poll_slowly(place: &'static Place) -> bool {
    let Some(writer) = Writer::enter() else { return false };
    let inside = writer.inside();
    let slot = inside.slot();
    let depth = slot.poll_depth.load(Ordering::Relaxed);
    if depth as usize >= MAX_POLLS {
        return false;
    }
    crate::worker::identify(slot, inside, depth == 0);
    transition(inside, place, Kind::TaskPoll, Status::Running);
    push(slot, place, depth);
    true
}

#[inline(always)]
fn push(slot: &Slot, place: &'static Place, depth: u32) {
    if let Some(poll) = slot.polls.get(depth as usize) {
        poll.store(std::ptr::from_ref(place).cast_mut(), Ordering::Relaxed);
    }
    slot.poll_depth.store(depth + 1, Ordering::Relaxed);
}

#[inline(always)]
fn pop(slot: &Slot) {
    let depth = slot.poll_depth.load(Ordering::Relaxed);
    slot.poll_depth.store(depth.saturating_sub(1), Ordering::Relaxed);
}

/// The poll ends that [`begin_poll`] said is recorded.
#[inline(never)]
pub(crate) fn end_poll(place: &'static Place, outcome: Outcome) {
    let Some(ready) = Ready::enter(RECORD) else { return end_poll_slowly(place, outcome) };
    let (slot, word) = (ready.slot, place.words.own());
    let plain = Words::is_plain(word, ready.generation) && slot.reasons.is_empty();
    let (kind, status) = match outcome {
        Outcome::Pending if plain => (Kind::TaskPending, Status::Idle),
        Outcome::Ready if plain => (Kind::TaskReady, Status::Dead),
        _ => {
            ready.leave();
            return end_poll_slowly(place, outcome);
        }
    };
    ready.write(kind, ready.now(), |_| {});
    place.words.written(ready.generation, status, word.sequence() + 1);
    pop(slot);
    ready.leave();
}

#[cold]
#[inline(never)]
fn end_poll_slowly(place: &'static Place, outcome: Outcome) {
    let Some(slot) = thread::present_slot() else { return };
    // Inside the gate even if tracing was turned off: the stack is only touched there.
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

/// Ends a task outside of its polls.
#[cold]
#[inline(never)]
fn end_unpolled(place: &'static Place) {
    // Also with tracing off inside the gate, if that can be: then it is over before anything is recorded again.
    let enter_unrecorded = || {
        let slot = thread::present_slot().filter(|slot| !slot.gate.is_inside())?;
        Writer::enter_slot(control(), slot)
    };
    let recording = if is_recording() { Writer::enter() } else { None };
    let writer = recording.or_else(enter_unrecorded);
    match writer.as_ref().map(Writer::inside) {
        // A poll that is not recorded may have begun while it was; the place must not look alive.
        Some(inside) if inside.is_recording() && place.words.own().status() == Status::Idle => {
            transition(inside, place, Kind::TaskDrop, Status::Dead);
        }
        _ => unrecorded(place, Status::Dead),
    }
}

/// The owner's transition happens while tracing is off, or cannot be recorded.
fn unrecorded(place: &'static Place, status: Status) {
    let next = control().next_generation.load(Ordering::Relaxed);
    place.words.unrecorded(next, status, place.words.own().sequence() + 1);
}

/// Writes the owner's transition to `status`, and what has to be stated before it; or loses it.
fn transition(inside: Inside, place: &'static Place, kind: Kind, status: Status) {
    let (_, _, generation) = inside.parts();
    let word = place.words.own();
    let sequence = word.sequence() + 1;
    let written = write_transition(inside, place, kind, sequence);
    match written {
        Ok(()) => place.words.written(generation, status, sequence),
        Err(cause) => {
            // Losing may state the slot's polls again, so it comes before the word changes.
            inside.lose(cause);
            place.words.mention(generation);
            place.words.lost(generation, status, sequence);
        }
    }
}

fn write_transition(
    inside: Inside,
    place: &'static Place,
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
    // Making room may begin a new block, or a new generation, which states what this thread polls.
    inside.room_for(RECORD)?;
    if !Words::is_plain(place.words.own(), generation) {
        let id = place.site().id(inside)?;
        inside.room_for(STATUS + RECORD)?;
        if let Some(stated) = place.words.mention(generation) {
            put_status(inside, place, id, stated);
        }
    }
    let Some((mut cursor, _)) = inside.begin(kind, 2 * MAX_VARINT) else { return Err(Loss::ArenaFull) };
    // SAFETY: the size asked for is that of two numbers.
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

/// A task's status takes so much at most.
const STATUS: usize = 1 + 5 * MAX_VARINT;

fn put_status(inside: Inside, place: &'static Place, site: u32, stated: Stated) {
    let state = if stated.running { TaskState::Running } else { TaskState::Idle };
    inside.put_record(Kind::TaskStatus, |cursor| {
        // SAFETY: there is room for a status.
        unsafe {
            cursor.number(u64::from(TASKS.index_of(place)));
            cursor.number(u64::from(place.wakers.incarnation.load(Ordering::Relaxed)));
            cursor.number(stated.sequence);
            cursor.number(state.code(stated.woken));
            cursor.number(u64::from(site));
        }
    });
}

/// States the tasks that the slot's thread is polling, outermost first: whoever they belong to, their
/// owner is this thread. `None` if there is no room.
pub(crate) fn state_polls(inside: Inside) -> Option<()> {
    let (slot, _, generation) = inside.parts();
    let depth = slot.poll_depth.load(Ordering::Relaxed) as usize;
    for poll in &slot.polls[..depth.min(MAX_POLLS)] {
        // SAFETY: the stack holds places, which are never unmapped.
        let Some(place) = (unsafe { poll.load(Ordering::Relaxed).as_ref() }) else { continue };
        if place.words.own().status() != Status::Running {
            // Its begin was lost, and so was its end, or will be.
            continue;
        }
        let Some((site, _)) = place.named() else { continue };
        let id = inside.site_piece(site)?;
        if !inside.block_for(STATUS) {
            return None;
        }
        let word = place.words.own();
        let woken = place.words.mention(generation).is_some_and(|stated| stated.woken);
        put_status(inside, place, id, Stated { sequence: word.sequence(), running: true, woken });
        place.words.written(generation, Status::Running, word.sequence());
    }
    Some(())
}

/// What a wake was recorded as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woke {
    /// It stands in the trace, or there is nothing to record.
    Told,
    /// Another one stands there for the same poll of the task, which was as this word says.
    Already(Word),
}

/// Records that this thread wakes a task, before it does.
#[inline(never)]
pub(crate) fn wake(place: &'static Place) -> Woke {
    let Some(ready) = Ready::enter(RECORD) else { return wake_slowly(place) };
    // In this order: what is settled, then what the task is doing.
    let settled = ready.control.settled.load(Ordering::Acquire);
    match place.words.claim(ready.generation) {
        Seen::Claimed(word) => {
            let kind = kind_of_wake(settled, ready.generation);
            ready.write(kind, ready.now(), |cursor| {
                // SAFETY: there is room for a record of a task.
                unsafe { put_two(cursor, u64::from(TASKS.index_of(place)), word.sequence()) };
            });
            ready.leave();
            Woke::Told
        }
        Seen::Nothing => {
            ready.leave();
            already(place)
        }
        Seen::Newer => {
            ready.leave();
            wake_slowly(place)
        }
    }
}

fn already(place: &'static Place) -> Woke {
    let word = place.words.look();
    if word.is_alive() { Woke::Already(word) } else { Woke::Told }
}

fn kind_of_wake(settled: u64, generation: u64) -> Kind {
    if settled + 1 < generation { Kind::TaskWakeStale } else { Kind::TaskWake }
}

#[cold]
#[inline(never)]
fn wake_slowly(place: &'static Place) -> Woke {
    // Once is enough, unless generations begin as fast as this thread comes in.
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
            Seen::Claimed(word) => {
                let kind = kind_of_wake(settled, generation);
                if let Some((mut cursor, _)) = inside.begin(kind, 2 * MAX_VARINT) {
                    // SAFETY: the size asked for is that of two numbers.
                    unsafe {
                        cursor.number(u64::from(TASKS.index_of(place)));
                        cursor.number(word.sequence());
                        inside.commit(cursor);
                    }
                }
                return Woke::Told;
            }
            Seen::Nothing => return already(place),
            Seen::Newer => fence(Ordering::SeqCst),
        }
    }
    control().count_lost(Loss::ArenaFull);
    Woke::Told
}
