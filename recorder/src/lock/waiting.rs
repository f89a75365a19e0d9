//! A wait for a lock: from the failed first attempt until the lock is taken, or the wait is given up.

#![forbid(unsafe_code)]

use super::record;
use super::tables::{self, Listed, Wait};
use super::words::{LockWords, PollOf, Who};
use crate::os::clock;
use crate::record::control::control;
use crate::record::emit::is_recording;
use crate::record::{task, thread};
pub use lookback_snapshot::wire::LockKind;
use lookback_snapshot::wire::Nanos;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shorter waits are not recorded.
static LIMIT: AtomicU64 = AtomicU64::new(1_000_000);
/// How often a thread looks whether the lock is free before it waits, pausing for one instruction more each time, then two,
/// four, and so on: most locks are held for less, and such a wait is none.
const LOOKS: u32 = 6;

/// From now on, waits are recorded that take so long.
pub(crate) fn limit(limit: Nanos) {
    LIMIT.store(limit.0, Ordering::Relaxed);
}

/// Waits of so many nanoseconds are recorded.
pub(crate) fn limit_now() -> u64 {
    LIMIT.load(Ordering::Relaxed)
}

/// Who holds a lock that is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldBy {
    pub(crate) who: Who,
    pub(crate) place: &'static Location<'static>,
    /// The task that the thread polled when it took the lock, or that holds the lock; or 0.
    pub(crate) task: u64,
    /// When it took the lock, in nanoseconds of the monotonic clock; 0 if that is not known.
    pub(crate) since: u64,
    /// It held the lock then, and nobody knows for how long.
    pub(crate) is_since_at_least: bool,
    /// A thread held it for a task that nobody polled, when that was last looked at.
    pub(crate) is_across_await: bool,
}

impl HeldBy {
    /// With whether its task is polled just now.
    fn looked_at(self) -> Self {
        let is_of_thread = self.who != Who::Task && self.task != 0;
        Self { is_across_await: is_of_thread && task::is_idle(self.task), ..self }
    }

    /// Whether both are about the same thread or task, at the same place.
    fn is_same(&self, other: &Self) -> bool {
        let place = std::ptr::eq(self.place, other.place);
        (self.who, self.task) == (other.who, other.task) && place
    }
}

/// See the module.
#[derive(Debug)]
pub struct Waiting<'a> {
    words: &'a LockWords,
    place: &'static Location<'static>,
    wait: Option<Wait>,
    listed: Option<Listed>,
    /// Who held the lock when the wait began.
    holder: Option<HeldBy>,
}

/// A wait that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) wait: Wait,
    pub(crate) waited: u64,
    pub(crate) until: u64,
    /// Who held the lock last.
    pub(crate) holder: Option<HeldBy>,
    pub(crate) waiters: u32,
    pub(crate) is_given_up: bool,
}

impl<'a> Waiting<'a> {
    /// This thread waits from now on.
    #[cold]
    #[must_use]
    pub fn begin(words: &'a LockWords, kind: LockKind, place: &'static Location<'static>) -> Self {
        Self::begin_of(words, kind, place, Who::this_thread)
    }

    /// The task that this thread polls waits from now on: if it is not recorded, nobody knows which one. It is not the thread,
    /// which goes on.
    #[cold]
    #[must_use]
    pub fn begin_of_task(
        words: &'a LockWords,
        kind: LockKind,
        place: &'static Location<'static>,
    ) -> Self {
        Self::begin_of(words, kind, place, || Who::Task)
    }

    fn begin_of(
        words: &'a LockWords,
        kind: LockKind,
        place: &'static Location<'static>,
        who: impl FnOnce() -> Who,
    ) -> Self {
        let is_first = words.waits() == 1;
        let mut waiting = Self { words, place, wait: None, listed: None, holder: None };
        if !is_recording() {
            return waiting;
        }
        // What is about to wait shall have a name.
        let _ = thread::current_slot(control());
        let task = task_now();
        let who = who();
        let (lock, since) = (tables::number(words), clock::monotonic().0);
        let wait = Wait { lock, kind, who, task, place, since };
        waiting.look(since, is_first);
        waiting.listed = tables::list(&wait);
        waiting.wait = Some(wait);
        waiting
    }

    /// Looks again who holds the lock: right before this thread sleeps.
    pub fn look_again(&mut self) {
        if let Some(wait) = self.wait {
            self.look(wait.since, false);
        }
    }

    /// Notes who holds the lock now. What the first one that waits finds noted is of an earlier time, when others waited; from
    /// then on, each thread that takes the lock notes it, too.
    fn look(&mut self, now: u64, is_first: bool) {
        let mut is_stale = is_first;
        // What is noted may be out of date by then, unless it is still so.
        for _ in 0..4 {
            let holder = self.words.holder().map(HeldBy::looked_at);
            let is_same = |known: &HeldBy| holder.is_some_and(|of| of.is_same(known));
            if holder.is_some() || self.holder.is_none() {
                self.holder = holder;
            }
            let noted = tables::holder(tables::number(self.words));
            // Its last holder stays noted while nobody holds it.
            let is_known = noted.as_ref().map_or(holder.is_none(), is_same);
            if std::mem::take(&mut is_stale) || !is_known {
                let seen = holder.map(|of| match of.since {
                    0 => HeldBy { since: now, is_since_at_least: true, ..of },
                    _ => of,
                });
                tables::note(self.words, seen);
            }
            let is_still = match (self.words.holder(), holder) {
                (Some(now), Some(of)) => now.is_same(&of),
                (now, of) => now.is_none() && of.is_none(),
            };
            // Then the task was not polled while the lock was held; had it been released before, that would mean nothing.
            if is_still {
                return;
            }
        }
        self.holder = self.holder.map(|of| HeldBy { is_across_await: false, ..of });
    }

    /// The lock was taken.
    fn over(mut self) -> Option<Ended> {
        self.end(false)
    }

    fn end(&mut self, is_given_up: bool) -> Option<Ended> {
        let waiters = self.words.waiters();
        let wait = self.wait.take()?;
        let until = clock::monotonic().0;
        let waited = until.saturating_sub(wait.since);
        let holder = tables::last_holder(wait.lock).or(self.holder);
        Some(Ended { wait, waited, until, holder, waiters, is_given_up })
            .filter(|_| waited >= limit_now())
    }

    /// A lock of tasks was taken, for the task that this thread polls; its guard does not say when it is released.
    pub fn taken_for_task(self) {
        let (words, place) = (self.words, self.place);
        let ended = self.over();
        words.taken_for(Who::Task, place, task_now(), clock::monotonic().0);
        if let Some(ended) = ended {
            record::contention(&ended);
        }
    }

    /// The lock was taken by this thread alone. Returns in which poll, if in one.
    #[cold]
    #[inline(never)]
    pub(crate) fn taken_alone(self) -> Option<PollOf> {
        let (words, place) = (self.words, self.place);
        let ended = self.over();
        let poll = words.taken_after_wait(place);
        if let Some(ended) = ended {
            record::contention(&ended);
        }
        poll
    }

    /// The lock was taken by this thread, with others perhaps.
    /// Returns whether it is named as the holder.
    #[cold]
    #[inline(never)]
    pub(crate) fn taken_to_read(self) -> bool {
        let (words, place) = (self.words, self.place);
        let ended = self.over();
        let is_named = words.read(place, clock::monotonic().0);
        if let Some(ended) = ended {
            record::contention(&ended);
        }
        is_named
    }

    /// A lock of tasks was taken by this thread, which may be in no task.
    pub fn taken_by_thread(self) {
        let (words, place) = (self.words, self.place);
        let ended = self.over();
        words.taken_for(Who::this_thread(), place, task_now(), clock::monotonic().0);
        if let Some(ended) = ended {
            record::contention(&ended);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let given_up = self.end(true);
        if let Some(listed) = self.listed.take() {
            listed.over();
        }
        self.words.waits_no_more();
        if let Some(ended) = given_up {
            record::contention(&ended);
        }
    }
}

/// Pauses for as long as [`wait_for`] looks: most locks are held for less.
#[cold]
#[inline(never)]
pub(crate) fn pause() {
    (0..(1 << LOOKS) - 1).for_each(|_| std::hint::spin_loop());
}

/// This thread is about to sleep until it has the lock.
#[cold]
#[inline(never)]
pub(crate) fn before_sleep<'a>(
    words: &'a LockWords,
    kind: LockKind,
    place: &'static Location<'static>,
) -> Waiting<'a> {
    let mut waiting = Waiting::begin(words, kind, place);
    waiting.look_again();
    waiting
}

/// Waits for a lock that `attempt` did not get: `block` waits for it. `taken` notes that this thread holds it now.
#[cfg(feature = "lock_api")]
#[cold]
#[inline(never)]
pub(crate) fn wait_for<G, T>(
    words: &LockWords,
    kind: LockKind,
    place: &'static Location<'static>,
    mut attempt: impl FnMut() -> Option<G>,
    block: impl FnOnce() -> G,
    taken: impl FnOnce() -> T,
) -> (G, T) {
    for look in 0..LOOKS {
        (0..1 << look).for_each(|_| std::hint::spin_loop());
        if let Some(guard) = attempt() {
            return (guard, taken());
        }
    }
    let mut waiting = Waiting::begin(words, kind, place);
    let guard = attempt().unwrap_or_else(|| {
        waiting.look_again();
        block()
    });
    let ended = waiting.over();
    let held = taken();
    if let Some(ended) = ended {
        record::contention(&ended);
    }
    (guard, held)
}

/// Notes that the task that this thread polls holds a lock of tasks, without a wait.
pub fn taken_for_task(words: &LockWords, place: &'static Location<'static>) {
    words.taken_for(Who::Task, place, task_now(), 0);
}

/// Notes that this thread, which may be in no task, holds a lock of tasks, without a wait.
pub fn taken_by_thread(words: &LockWords, place: &'static Location<'static>) {
    words.taken_for(Who::this_thread(), place, task_now(), 0);
}

/// The task that this thread polls, or 0.
fn task_now() -> u64 {
    if is_recording() { PollOf::innermost().map_or(0, |poll| poll.task) } else { 0 }
}
