//! What stands beside a lock: the words, and in which poll it was locked, so that guards need not carry that along.

use super::record;
use super::waiting::{LockKind, Waiting};
use super::words::{LockWords, PollOf};
use crate::record::task::TaskEntry;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// In which poll the holder has locked a lock. Only the holder uses it: whatever orders the lock orders this, or, of those that
/// read, the words, which name one of them.
#[derive(Debug)]
struct Poll {
    place: AtomicPtr<TaskEntry>,
    sequence: AtomicU64,
    task: AtomicU64,
    at: AtomicPtr<Location<'static>>,
}

impl Poll {
    const fn none() -> Self {
        Self {
            place: AtomicPtr::new(ptr::null_mut()),
            sequence: AtomicU64::new(0),
            task: AtomicU64::new(0),
            at: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(super) words: LockWords,
    poll: Poll,
}

impl Default for Holding {
    fn default() -> Self {
        Self::new()
    }
}

impl Holding {
    pub(crate) const fn new() -> Self {
        Self { words: LockWords::new(), poll: Poll::none() }
    }

    /// This thread has locked it, here, without a wait.
    #[inline(always)]
    pub(super) fn taken(&self, at: &'static Location<'static>) {
        self.note_poll(self.words.taken(at), at);
    }

    #[inline(always)]
    pub(super) fn note_poll(&self, poll: Option<PollOf>, at: &'static Location<'static>) {
        let Some(poll) = poll else {
            if !self.poll.place.load(Ordering::Relaxed).is_null() {
                self.poll.place.store(ptr::null_mut(), Ordering::Relaxed);
            }
            return;
        };
        self.poll.place.store(ptr::from_ref(poll.place).cast_mut(), Ordering::Relaxed);
        self.poll.sequence.store(poll.sequence, Ordering::Relaxed);
        self.poll.task.store(poll.task, Ordering::Relaxed);
        self.poll.at.store(ptr::from_ref(at).cast_mut(), Ordering::Relaxed);
    }

    /// The holder is about to unlock it.
    #[inline(always)]
    pub(super) fn released(&self, kind: LockKind) {
        self.end_poll(kind);
        self.words.released();
    }

    /// Notes if the poll in which it was locked is over.
    #[inline(always)]
    pub(super) fn end_poll(&self, kind: LockKind) {
        let place = self.poll.place.load(Ordering::Relaxed);
        // SAFETY: null, or the place of a task, which is never unmapped.
        let Some(place) = (unsafe { place.as_ref() }) else { return };
        if place.words.own().sequence() != self.poll.sequence.load(Ordering::Relaxed) {
            self.held_across(kind, place);
        }
    }

    #[cold]
    #[inline(never)]
    fn held_across(&self, kind: LockKind, place: &'static TaskEntry) {
        // SAFETY: stored with the place: a location of the program's, which is a static.
        let Some(at) = (unsafe { self.poll.at.load(Ordering::Relaxed).as_ref() }) else { return };
        let sequence = self.poll.sequence.load(Ordering::Relaxed);
        let poll = PollOf { place, sequence, task: self.poll.task.load(Ordering::Relaxed) };
        record::held_across(&self.words, kind, at, &poll);
    }
}

/// A lock that this thread holds, until this is dropped, right before the lock is unlocked.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    holding: &'a Holding,
    kind: LockKind,
    /// Whether the words name this thread as the holder: of those that read at once, one.
    is_named: bool,
}

impl<'a> Held<'a> {
    /// Alone, without a wait.
    #[inline(always)]
    pub(super) fn alone(
        holding: &'a Holding,
        kind: LockKind,
        place: &'static Location<'static>,
    ) -> Self {
        holding.taken(place);
        Self { holding, kind, is_named: true }
    }

    /// The same, after this wait.
    pub(super) fn alone_after(
        waiting: Waiting<'_>,
        holding: &'a Holding,
        kind: LockKind,
        place: &'static Location<'static>,
    ) -> Self {
        holding.note_poll(waiting.taken_alone(), place);
        Self { holding, kind, is_named: true }
    }

    /// The same, after a wait for something else.
    pub(super) fn again(
        holding: &'a Holding,
        kind: LockKind,
        place: &'static Location<'static>,
    ) -> Self {
        holding.note_poll(holding.words.taken_after_wait(place), place);
        Self { holding, kind, is_named: true }
    }

    /// With others perhaps, without a wait.
    #[inline(always)]
    pub(super) fn shared(
        holding: &'a Holding,
        kind: LockKind,
        place: &'static Location<'static>,
    ) -> Self {
        Self::named(holding, kind, place, holding.words.read(place, 0))
    }

    /// The same, after this wait.
    pub(super) fn shared_after(
        waiting: Waiting<'_>,
        holding: &'a Holding,
        kind: LockKind,
        place: &'static Location<'static>,
    ) -> Self {
        Self::named(holding, kind, place, waiting.taken_to_read())
    }

    #[inline(always)]
    fn named(
        holding: &'a Holding,
        kind: LockKind,
        place: &'static Location<'static>,
        is_named: bool,
    ) -> Self {
        if is_named {
            holding.note_poll(PollOf::innermost(), place);
        }
        Self { holding, kind, is_named }
    }

    pub(super) fn holding(&self) -> &'a Holding {
        self.holding
    }
}

impl Drop for Held<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.is_named {
            self.holding.released(self.kind);
        }
    }
}
