//! What stands beside each lock: who holds it, where it was locked and since when, and how many wait for it.
//!
//! # Synchronization
//!
//! *One* thread writes who holds the lock: the one that has locked it, or, of those that read an `RwLock` at once, the one
//! that found nobody there (by compare-and-swap from 0 to [`CLAIMED`]). An upgradable reader, and one of several tasks with
//! permits, takes the place of whoever is named there (by compare-and-swap to [`CLAIMED`]), unless that is just being written. Where
//! this may happen, a holder takes its own name away by compare-and-swap, too. It stores place, task and time, and then itself (all
//! release). Before it unlocks it stores 0, so that comes before whatever the next holder stores.
//!
//! A thread that waits loads the holder (acquire, which pairs with the holder's release), the others, and, behind an acquire
//! fence, the holder again. If one of the others was stored by a later holder (release, which pairs with that fence), then the
//! first one's 0 came before, and the second look finds that or what followed: it is not the same holder, unless the same
//! thread has locked again, and then whatever was read is of that thread.
//!
//! *A thread that waits and one that takes the lock* may miss each other: the first does not see the second as the holder yet,
//! and the second does not see that the first waits. Nothing but a fence at each lock would prevent that; the thread that
//! waits looks again before it sleeps. What it may miss then is who holds the lock, and it says so.

use super::tables;
use super::waiting::HeldBy;
use crate::os::clock;
use crate::record::control::control;
use crate::record::emit::is_recording;
use crate::record::task::TaskEntry;
use crate::record::task::poll_stack;
use crate::record::thread;
use std::cell::Cell;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// Somebody is about to say that it holds the lock.
const CLAIMED: u64 = 1;

/// See the module.
#[derive(Debug)]
pub struct LockWords {
    /// A [`Who`]'s code; 0: nobody, or nobody who said so.
    holder: AtomicU64,
    place: AtomicPtr<Location<'static>>,
    /// The task that the holder polls, or 0.
    task: AtomicU64,
    /// In nanoseconds of the monotonic clock; 0 if no clock was read.
    since: AtomicU64,
    waiters: AtomicU32,
}

/// Who holds or waits for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The recorder's number of a thread.
    Thread(u64),
    /// The kernel's, of a thread that has recorded nothing yet.
    OsThread(u64),
    /// No thread: whichever polls the task, which may be one that is not recorded.
    Task,
}

impl Who {
    const SHIFT: u32 = 3;

    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Thread(number) => number << Self::SHIFT | 2,
            Self::OsThread(number) => number << Self::SHIFT | 4,
            Self::Task => 6,
        }
    }

    pub(crate) fn from_code(code: u64) -> Option<Self> {
        match code & 7 {
            2 => Some(Self::Thread(code >> Self::SHIFT)),
            4 => Some(Self::OsThread(code >> Self::SHIFT)),
            6 => Some(Self::Task),
            _ => None,
        }
    }

    /// The calling thread.
    #[inline(always)]
    pub(crate) fn this_thread() -> Self {
        match thread::present_slot() {
            Some(slot) => Self::Thread(slot.thread.load(Ordering::Relaxed)),
            None => Self::OsThread(os_thread()),
        }
    }
}

thread_local! {
    /// With the process that was recorded when it was asked for.
    static OS_THREAD: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// The kernel's number of this thread, asked for once; and once more in a forked child, when that records itself.
fn os_thread() -> u64 {
    let process = control().process();
    match OS_THREAD.get() {
        (number, of) if number != 0 && (process == 0 || of == process) => number,
        _ => {
            let number = crate::os::thread::number();
            OS_THREAD.set((number, process));
            number
        }
    }
}

/// A poll of a task: that in which a lock was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollOf {
    pub(crate) place: &'static TaskEntry,
    pub(crate) task: u64,
    pub(crate) sequence: u64,
}

impl PollOf {
    /// The innermost one on this thread.
    #[inline(always)]
    pub(crate) fn innermost() -> Option<Self> {
        let place = poll_stack::innermost_place(thread::present_slot()?)?;
        Some(Self { place, task: place.id(), sequence: place.words.own().sequence() })
    }
}

impl LockWords {
    /// Those of a lock that nobody holds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            holder: AtomicU64::new(0),
            place: AtomicPtr::new(ptr::null_mut()),
            task: AtomicU64::new(0),
            since: AtomicU64::new(0),
            waiters: AtomicU32::new(0),
        }
    }

    /// This thread has locked it, here, without a wait. Returns in which poll, if in one.
    #[inline(always)]
    pub(crate) fn taken(&self, place: &'static Location<'static>) -> Option<PollOf> {
        if !is_recording() {
            self.holder.store(0, Ordering::Relaxed);
            return None;
        }
        let poll = PollOf::innermost();
        self.say(Who::this_thread(), place, poll.map_or(0, |poll| poll.task), 0);
        poll
    }

    /// It is held for a task, which any thread may poll on, by a guard that does not say when it is released: so who holds it
    /// is who took it last. Nothing is said if somebody else just does.
    #[inline]
    pub(crate) fn taken_for(
        &self,
        who: Who,
        place: &'static Location<'static>,
        task: u64,
        since: u64,
    ) {
        if is_recording() {
            self.claim_and_say(who, place, task, since);
        } else {
            self.holder.store(0, Ordering::Relaxed);
        }
    }

    /// This thread has locked it to read and perhaps to write later, with others that read perhaps, one of which may be named as
    /// the holder. Returns in which poll, if in one.
    #[cfg(feature = "lock_api")]
    pub(crate) fn taken_beside_readers(
        &self,
        place: &'static Location<'static>,
        since: u64,
    ) -> Option<PollOf> {
        if !is_recording() {
            return None;
        }
        let poll = PollOf::innermost();
        self.claim_and_say(Who::this_thread(), place, poll.map_or(0, |poll| poll.task), since);
        poll
    }

    /// Says who holds it, whoever was said to; but not if somebody else is about to.
    fn claim_and_say(&self, who: Who, place: &'static Location<'static>, task: u64, since: u64) {
        let (was, order) = (self.holder.load(Ordering::Relaxed), Ordering::Relaxed);
        if was != CLAIMED
            && self.holder.compare_exchange(was, CLAIMED, Ordering::AcqRel, order).is_ok()
        {
            self.say(who, place, task, since);
            // Such locks are not taken so often that this matters, and it leaves nothing to miss.
            fence(Ordering::SeqCst);
            if self.waiters.load(Ordering::Relaxed) != 0 {
                tables::publish(self);
            }
        }
    }

    /// The same after a wait, for which the clock is read.
    pub(crate) fn taken_after_wait(&self, place: &'static Location<'static>) -> Option<PollOf> {
        if !is_recording() {
            self.holder.store(0, Ordering::Relaxed);
            return None;
        }
        let poll = PollOf::innermost();
        let (who, task) = (Who::this_thread(), poll.map_or(0, |poll| poll.task));
        self.say(who, place, task, clock::monotonic().0);
        poll
    }

    /// This thread reads it now, with others perhaps. Returns whether it is the one of them that is named as the holder.
    #[inline(always)]
    pub(crate) fn read(&self, place: &'static Location<'static>, since: u64) -> bool {
        let order = Ordering::Relaxed;
        if !is_recording()
            || self.holder.load(order) != 0
            || self.holder.compare_exchange(0, CLAIMED, Ordering::Acquire, order).is_err()
        {
            return false;
        }
        let task = PollOf::innermost().map_or(0, |poll| poll.task);
        self.say(Who::this_thread(), place, task, since);
        true
    }

    #[inline(always)]
    fn say(&self, who: Who, place: &'static Location<'static>, task: u64, since: u64) {
        self.place.store(ptr::from_ref(place).cast_mut(), Ordering::Release);
        // Mostly they are what they were, and the lock stays in a state that a load alone finds.
        if self.task.load(Ordering::Relaxed) != task {
            self.task.store(task, Ordering::Release);
        }
        if self.since.load(Ordering::Relaxed) != since {
            self.since.store(since, Ordering::Release);
        }
        self.holder.store(who.code(), Ordering::Release);
        if self.waiters.load(Ordering::Relaxed) != 0 {
            tables::publish(self);
        }
    }

    /// The holder is about to unlock it. One of those that read at once may be named next, before or after this one unlocks: what
    /// this one has noted beside the words comes before that (release, which pairs with the claim in [`read`](Self::read)).
    #[inline(always)]
    pub(crate) fn released(&self) {
        self.holder.store(0, Ordering::Release);
    }

    /// The guard of a mutex of tasks is about to release it, to whoever waits: which that is, it says itself when it is polled.
    pub fn released_for_task(&self) {
        self.holder.store(0, Ordering::Relaxed);
        // Either this sees who waits, or that sees that nobody holds the lock.
        fence(Ordering::SeqCst);
        if self.waiters.load(Ordering::Relaxed) != 0 {
            tables::released(self);
        }
    }

    /// The same of one that may be named as the holder, by the number that it had when it took the lock: it may have recorded its
    /// first event since.
    #[cfg(feature = "lock_api")]
    #[inline(always)]
    pub(crate) fn released_if_named(&self) {
        let (code, order) = (self.holder.load(Ordering::Relaxed), Ordering::Relaxed);
        let is_this = match Who::from_code(code) {
            Some(Who::Thread(number)) => {
                thread::present_slot().is_some_and(|slot| slot.thread.load(order) == number)
            }
            Some(Who::OsThread(number)) => os_thread() == number,
            Some(Who::Task) | None => false,
        };
        if is_this {
            // An upgradable reader may be about to name itself.
            let _ = self.holder.compare_exchange(code, 0, order, order);
        }
    }

    #[cfg(all(test, feature = "lock_api"))]
    pub(crate) fn is_claimed(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == CLAIMED
    }

    /// As if somebody were about to say that it holds the lock.
    #[cfg(all(test, feature = "lock_api"))]
    pub(crate) fn claim(&self) {
        self.holder.store(CLAIMED, Ordering::Relaxed);
    }

    /// Who holds it.
    pub(crate) fn holder(&self) -> Option<HeldBy> {
        let code = self.holder.load(Ordering::Acquire);
        let who = Who::from_code(code)?;
        let place = self.place.load(Ordering::Relaxed);
        let (task, since) = (self.task.load(Ordering::Relaxed), self.since.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if self.holder.load(Ordering::Relaxed) != code {
            return None;
        }
        // SAFETY: null, or a location of the program's, which are statics.
        let place = unsafe { place.as_ref() }?;
        Some(HeldBy { who, place, task, since, is_since_at_least: false, is_across_await: false })
    }

    /// One more waits. Returns how many do.
    pub(crate) fn waits(&self) -> u32 {
        let waiters = self.waiters.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        // Then it looks who holds it.
        fence(Ordering::SeqCst);
        waiters
    }

    pub(crate) fn waits_no_more(&self) {
        self.waiters.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many wait for it.
    pub(crate) fn waiters(&self) -> u32 {
        self.waiters.load(Ordering::Relaxed)
    }
}

impl Default for LockWords {
    fn default() -> Self {
        Self::new()
    }
}
