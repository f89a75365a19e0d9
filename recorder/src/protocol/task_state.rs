//! The words of a task: how each generation comes to hold its state, at no cost to the polling
//! thread.
//!
//! A task has three words. The *owner's word* says what the task is doing. Only the owner, the
//! thread that polls or drops the task, stores to it, with plain stores. Next to it is the same
//! word as it was *before* the owner's first mention of the task in the word's generation. The
//! *wake word* says for which poll the task was last woken; wakers claim it by compare-and-swap.
//!
//! The task's sequence number counts its transitions, is even while the task is idle and odd while
//! it is polled, and carries on when another task reuses the place. So it identifies a transition
//! permanently, and a reader needs no timestamps to order transitions.
//!
//! # The protocol
//!
//! * **The owner of the state writes it.** The first mention of a task in a generation writes the
//!   previous status into the same block. Wakers never write statuses: what a waker reads may be
//!   stale, and in a generation without another mention of the task it would be the last word.
//! * **A wake is for a poll.** Its target is the sequence number of the coming poll: the next
//!   number if the task is idle, the one after that if it is being polled. Claims are by target, so
//!   a poll has at most one recorded wake, across all generations.
//! * **Late generations.** A waker that finds an owner's word newer than its own generation must
//!   not write in the old generation: that would put a task's events into two generations in the
//!   wrong order. It leaves its gate and begins again, and then sees the new generation.
//! * **Listing.** When generation *g* is over and no writer is left in it, the advancer lists each
//!   live task that its owner did not mention in *g*. If the owner has begun *g + 1* already, the
//!   word from before that is the state at the end of *g*.
//! * **Woken.** A wake may be in one generation and its poll in a later one. So a status says
//!   whether the wake for the next poll was recorded in an earlier generation than the status. This
//!   includes tasks that were woken while being polled.
//! * **Lost.** A transition that found no room changes the word all the same, and marks it if the
//!   generation has no status of the task; then the next mention, or the listing, states it.
//! * **Off.** A change while tracing is off changes the word as if it were lost in the next
//!   generation. The listing of the last generation may still be to come; it finds the word from
//!   before.
//! * **Tombstones.** A place whose task ended in generation *d* may be reused once *d − 1* is
//!   complete: until then the listing of *d − 1* needs it.
//!
//! # Synchronization
//!
//! * The owner's word is stored with release after `before`; the listing acquires it, so it finds
//!   the matching `before`. The executor, which hands the task from thread to thread, orders all of
//!   the task's owners.
//! * A waker loads `settled` (acquire; stored with release once no writer is left in a generation)
//!   *before* the owner's word: so it sees at least what owners did in generations up to `settled`.
//!   The wake records whether that may miss something that happened before the waker's own
//!   generation.
//! * Generations are compared modulo 2^16. The listing moves up words that have fallen behind by
//!   2^14.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering};

const SEQUENCE_BITS: u32 = 44;
const SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;
const STATUS_SHIFT: u32 = SEQUENCE_BITS;
const WOKEN_BEFORE: u64 = 1 << (SEQUENCE_BITS + 2);
const LOST: u64 = 1 << (SEQUENCE_BITS + 3);
const GENERATION_SHIFT: u32 = 48;
/// The listing moves up words that are at least this many generations old.
const OLD: i16 = 1 << 14;

/// What a task is doing, according to its owner's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// No task: it is over, or the place was never used.
    Dead = 0,
    Idle = 1,
    Running = 2,
}

/// An owner's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnerWord(u64);

impl OwnerWord {
    pub(crate) fn new(generation: u64, status: Status, sequence: u64) -> Self {
        let status = (status as u64) << STATUS_SHIFT;
        Self(generation << GENERATION_SHIFT | status | sequence & SEQUENCE)
    }

    pub(crate) fn sequence(self) -> u64 {
        self.0 & SEQUENCE
    }

    pub(crate) fn status(self) -> Status {
        match self.0 >> STATUS_SHIFT & 3 {
            1 => Status::Idle,
            2 => Status::Running,
            _ => Status::Dead,
        }
    }

    pub(crate) fn is_alive(self) -> bool {
        self.status() != Status::Dead
    }

    fn is_of(self, generation: u64) -> bool {
        self.0 >> GENERATION_SHIFT == generation & 0xffff
    }

    /// How many generations older the word is than this one; negative if it is newer.
    fn age(self, generation: u64) -> i16 {
        (generation as u16).wrapping_sub((self.0 >> GENERATION_SHIFT) as u16).cast_signed()
    }

    /// Whether the word is of the generation after this one, or was changed while tracing was off
    /// after this one.
    fn is_just_after(self, generation: u64) -> bool {
        (-4..0).contains(&self.age(generation))
    }

    fn is_lost(self) -> bool {
        self.0 & LOST != 0
    }

    /// Whether this generation has the state that this word describes.
    fn is_stated_in(self, generation: u64) -> bool {
        self.is_of(generation) && !self.is_lost()
    }

    /// The poll that a wake is for.
    pub(crate) fn target(self) -> u64 {
        self.sequence() + if self.status() == Status::Running { 2 } else { 1 }
    }
}

/// The wake word: the target, and the generation in which it was claimed.
#[derive(Clone, Copy)]
struct Claim(u64);

impl Claim {
    const TARGET: u64 = (1 << GENERATION_SHIFT) - 1;

    fn target(self) -> u64 {
        self.0 & Self::TARGET
    }

    fn age(self, generation: u64) -> i16 {
        OwnerWord(self.0).age(generation)
    }
}

/// A status to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) sequence: u64,
    pub(crate) running: bool,
    pub(crate) woken: bool,
}

/// What a waker found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimResult {
    /// There is no task to wake, or this poll's wake is recorded already.
    Nothing,
    /// The task is ahead of the waker's generation: the waker must begin again.
    Newer,
    /// This waker records the wake. Holds the owner's word that it saw.
    Claimed(OwnerWord),
}

/// See the module. All zeroes: a place that was never used.
#[repr(C)]
pub(crate) struct TaskWords {
    owner: AtomicU64,
    before: AtomicU64,
    wake: AtomicU64,
}

impl TaskWords {
    #[cfg(any(loom, test))]
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { owner: zero(), before: zero(), wake: zero() }
    }

    /// The owner's word. Called by the owner.
    #[inline(always)]
    pub(crate) fn own(&self) -> OwnerWord {
        OwnerWord(self.owner.load(Ordering::Relaxed))
    }

    /// Whether the owner, whose word this is, can write in `generation` without stating anything.
    #[inline(always)]
    pub(crate) fn is_plain(word: OwnerWord, generation: u64) -> bool {
        word.is_stated_in(generation)
    }

    /// The status that the owner must write before it mentions the task in `generation`. At the
    /// first mention, keeps the word from before.
    pub(crate) fn begin_transition(&self, generation: u64) -> Option<Stated> {
        self.begin(generation, 2)
    }

    /// As [`begin_transition`](Self::begin_transition). A wake that was claimed this many
    /// generations ago happened before the last generation that was recorded.
    fn begin(&self, generation: u64, before_last: i16) -> Option<Stated> {
        let word = self.own();
        let first = !word.is_of(generation);
        if !first && !word.is_lost() {
            return None;
        }
        let claim = Claim(self.wake.load(Ordering::Acquire));
        let pending = claim.target() == word.target();
        let woken = pending && claim.age(generation) >= 1;
        if first {
            let earlier = pending && claim.age(generation) >= before_last;
            let before = word.0 & !WOKEN_BEFORE | if earlier { WOKEN_BEFORE } else { 0 };
            self.before.store(before, Ordering::Relaxed);
        }
        word.is_alive().then_some(Stated {
            sequence: word.sequence(),
            running: word.status() == Status::Running,
            woken,
        })
    }

    /// The owner's transition was written in `generation`, after the status that
    /// [`begin_transition`](Self::begin_transition) asked for; or only the current state was
    /// stated.
    #[inline(always)]
    pub(crate) fn commit(&self, generation: u64, status: Status, sequence: u64) {
        self.owner.store(OwnerWord::new(generation, status, sequence).0, Ordering::Release);
    }

    /// The owner's transition found no room. Called after
    /// [`begin_transition`](Self::begin_transition).
    pub(crate) fn lost(&self, generation: u64, status: Status, sequence: u64) {
        let word = self.own();
        let lost = !word.is_of(generation) || word.is_lost();
        let next = OwnerWord::new(generation, status, sequence).0 | if lost { LOST } else { 0 };
        self.owner.store(next, Ordering::Release);
    }

    /// A task took this place, and its spawn event found no room: the listing states the task.
    pub(crate) fn create_lost(&self, generation: u64, sequence: u64) {
        let word = OwnerWord::new(generation, Status::Idle, sequence).0 | LOST;
        self.owner.store(word, Ordering::Release);
    }

    /// The owner's transition happened while tracing was off, or could not be recorded: it belongs
    /// to the time after the last generation, whose listing may still be to come. `next` is the
    /// number of the next generation. The next generation that mentions the task states its state
    /// at that point.
    pub(crate) fn unrecorded(&self, next: u64, status: Status, sequence: u64) {
        // Called because it saves the earlier word. The last generation is the one before `next`, or
        // the one before that, if a thread had entered the one in between but did not publish it. A
        // wake that may have been claimed in the last generation must not look like an earlier one.
        let _ = self.begin(next, 3);
        self.owner.store(OwnerWord::new(next, status, sequence).0 | LOST, Ordering::Release);
    }

    /// The sequence number for an idle task that takes this place now.
    pub(crate) fn next_idle(word: OwnerWord, floor: u64) -> u64 {
        (word.sequence().max(floor) + 2) & !1
    }

    /// Saves the current word, for a task that takes this place in a new generation.
    pub(crate) fn take_place(&self) {
        self.before.store(self.own().0, Ordering::Relaxed);
    }

    /// Takes this place for a task whose spawn was not recorded, as if the task had last been
    /// mentioned in the generation before. The listing of that generation may still be to come and
    /// must leave the task out, because earlier generations do not know it.
    pub(crate) fn adopt(&self, generation: u64, sequence: u64) {
        let word = OwnerWord::new(generation.wrapping_sub(1), Status::Idle, sequence);
        self.before.store(word.0, Ordering::Relaxed);
        self.owner.store(word.0, Ordering::Release);
    }

    /// The result for a waker in `generation`, which has loaded `settled` before.
    #[inline(always)]
    pub(crate) fn claim(&self, generation: u64) -> ClaimResult {
        let word = OwnerWord(self.owner.load(Ordering::Acquire));
        if !word.is_alive() {
            return ClaimResult::Nothing;
        }
        if word.age(generation) < 0 {
            return ClaimResult::Newer;
        }
        let target = word.target();
        let claimed = generation << GENERATION_SHIFT | target;
        let mut wake = self.wake.load(Ordering::Acquire);
        loop {
            if Claim(wake).target() >= target {
                return ClaimResult::Nothing;
            }
            match self.wake.compare_exchange(wake, claimed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return ClaimResult::Claimed(word),
                Err(other) => wake = other,
            }
        }
    }

    /// The owner's word, for a waker that checks whether it has changed.
    pub(crate) fn look(&self) -> OwnerWord {
        OwnerWord(self.owner.load(Ordering::Acquire))
    }

    /// The status that the listing of `generation` must write, if the owner did not mention the
    /// task in it. Called when no writer is left in `generation` and none is yet in the one after
    /// the next.
    pub(crate) fn status_at_end(&self, generation: u64) -> Option<Stated> {
        loop {
            let word = self.look();
            if word.is_just_after(generation) {
                let before = OwnerWord(self.before.load(Ordering::Relaxed));
                let told = before.is_stated_in(generation) || before.is_just_after(generation);
                return (before.is_alive() && !told).then_some(Stated {
                    sequence: before.sequence(),
                    running: before.status() == Status::Running,
                    woken: before.0 & WOKEN_BEFORE != 0,
                });
            }
            if word.age(generation) >= OLD {
                self.rejuvenate(word, generation);
                continue;
            }
            if !word.is_alive() || word.is_stated_in(generation) {
                return None;
            }
            let claim = Claim(self.wake.load(Ordering::Acquire));
            if self.look() != word {
                continue;
            }
            let pending = claim.target() == word.target();
            return Some(Stated {
                sequence: word.sequence(),
                running: word.status() == Status::Running,
                woken: pending && claim.age(generation) >= 1,
            });
        }
    }

    /// The number of the transition that the task was idle since when `generation` ended, whether it was mentioned in it
    /// or not. `None` if it was not idle, or that is no longer known. Called as
    /// [`status_at_end`](Self::status_at_end) is.
    pub(crate) fn idle_at_end(&self, generation: u64) -> Option<u64> {
        let mut word = self.look();
        if word.is_just_after(generation) {
            word = OwnerWord(self.before.load(Ordering::Relaxed));
        }
        let is_idle = word.status() == Status::Idle && !word.is_just_after(generation);
        is_idle.then(|| word.sequence())
    }

    /// Whether the task was alive when `generation` ended, mentioned in it or not. Called as
    /// [`status_at_end`](Self::status_at_end) is.
    pub(crate) fn is_alive_at_end(&self, generation: u64) -> bool {
        let mut word = self.look();
        if word.is_just_after(generation) {
            word = OwnerWord(self.before.load(Ordering::Relaxed));
        }
        word.is_alive() && !word.is_just_after(generation)
    }

    /// Whether the task's state at the end of `generation` is no longer known: it changed in a
    /// later generation, and again while tracing was off.
    pub(crate) fn is_unknown_in(&self, generation: u64) -> bool {
        self.look().is_just_after(generation)
            && OwnerWord(self.before.load(Ordering::Relaxed)).is_just_after(generation)
    }

    /// Keeps the word distinguishable from newer ones while no listing runs for a long time.
    pub(crate) fn keep_apart(&self, generation: u64) {
        let word = self.look();
        if word.age(generation) >= OLD {
            self.rejuvenate(word, generation);
        }
    }

    /// Moves up a word that is about to become indistinguishable from newer ones.
    #[cold]
    fn rejuvenate(&self, word: OwnerWord, generation: u64) {
        let recent = generation.wrapping_sub(2) << GENERATION_SHIFT;
        let below = (1 << GENERATION_SHIFT) - 1;
        let claim = self.wake.load(Ordering::Relaxed);
        if Claim(claim).age(generation) >= OLD {
            let next = recent | claim & below;
            let _ = self.wake.compare_exchange(claim, next, Ordering::AcqRel, Ordering::Relaxed);
        }
        // The owner may be about to store a newer word; then that one stands.
        let next = recent | word.0 & below;
        let _ = self.owner.compare_exchange(word.0, next, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Whether the place of an ended task can be reused, once `complete` is complete.
    pub(crate) fn is_free_for(&self, complete: u64) -> bool {
        let word = self.own();
        // A place that was never used has no generation and counts as old enough.
        !word.is_alive() && (word.0 == 0 || word.age(complete) >= -1)
    }

    /// Whether `generation` mentions no task of this place.
    pub(crate) fn is_unmentioned_in(&self, generation: u64) -> bool {
        let word = self.own();
        word.0 == 0 || word.age(generation) > 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A full transition of the owner, with room.
    fn step(words: &TaskWords, generation: u64, status: Status) -> Option<Stated> {
        let stated = words.begin_transition(generation);
        words.commit(generation, status, words.own().sequence() + 1);
        stated
    }

    #[test]
    fn the_first_mention_in_a_generation_states_and_the_next_ones_do_not() {
        let words = TaskWords::new();
        words.take_place();
        words.commit(5, Status::Idle, 2);
        assert_eq!(step(&words, 5, Status::Running), None);
        assert_eq!(step(&words, 5, Status::Idle), None);
        let stated = step(&words, 6, Status::Running).unwrap();
        assert_eq!(stated, Stated { sequence: 4, running: false, woken: false });
        assert_eq!(words.status_at_end(5), None, "it was mentioned in 5");
        assert_eq!(step(&words, 6, Status::Idle), None);
        assert_eq!(words.status_at_end(6), None);
        assert_eq!(
            words.status_at_end(7),
            Some(Stated { sequence: 6, running: false, woken: false })
        );
    }

    #[test]
    fn a_wake_is_recorded_once_for_a_poll_and_restated_in_later_generations() {
        let words = TaskWords::new();
        words.take_place();
        words.commit(5, Status::Idle, 2);
        assert!(matches!(words.claim(5), ClaimResult::Claimed(word) if word.sequence() == 2));
        assert_eq!(words.claim(5), ClaimResult::Nothing);
        assert_eq!(words.claim(6), ClaimResult::Nothing, "in no other generation either");
        assert_eq!(
            words.status_at_end(6),
            Some(Stated { sequence: 2, running: false, woken: true })
        );
        assert!(step(&words, 7, Status::Running).unwrap().woken);
        assert!(matches!(words.claim(7), ClaimResult::Claimed(word) if word.target() == 5));
        step(&words, 7, Status::Idle);
        assert_eq!(words.claim(7), ClaimResult::Nothing, "woken while it ran, for the next poll");
        assert_eq!(words.claim(6), ClaimResult::Newer);
        step(&words, 7, Status::Running);
        assert!(matches!(words.claim(7), ClaimResult::Claimed(word) if word.target() == 7));
        assert_eq!(
            words.status_at_end(8),
            Some(Stated { sequence: 5, running: true, woken: true })
        );
        step(&words, 7, Status::Dead);
        assert_eq!(words.claim(7), ClaimResult::Nothing, "there is no task");
    }

    #[test]
    fn what_is_lost_is_stated_by_the_next_mention_or_by_the_listing() {
        let words = TaskWords::new();
        words.take_place();
        words.commit(5, Status::Idle, 2);
        words.begin_transition(6);
        words.lost(6, Status::Running, 3);
        assert_eq!(
            words.status_at_end(6),
            Some(Stated { sequence: 3, running: true, woken: false })
        );
        assert_eq!(words.begin_transition(6).unwrap().sequence, 3);
        words.commit(6, Status::Idle, 4);
        assert_eq!(words.status_at_end(6), None);
        words.begin_transition(6);
        words.lost(6, Status::Running, 5);
        assert_eq!(words.status_at_end(6), None, "the loss was stated where it happened");
    }

    #[test]
    fn what_changes_while_tracing_is_off_does_not_change_the_last_generation() {
        let words = TaskWords::new();
        words.take_place();
        words.commit(5, Status::Idle, 2);
        assert!(matches!(words.claim(5), ClaimResult::Claimed(_)));
        let idle = Stated { sequence: 2, running: false, woken: true };
        for next in [8, 9] {
            // A thread that was about to publish another generation has used up its number.
            words.unrecorded(next, Status::Running, 3);
            words.unrecorded(next, Status::Idle, 4);
            assert_eq!((words.status_at_end(7), words.is_unknown_in(7)), (Some(idle), false));
            words.before.store(0, Ordering::Relaxed);
            words.commit(5, Status::Idle, 2);
        }
        words.begin_transition(7);
        words.commit(7, Status::Running, 3);
        assert!(matches!(words.claim(7), ClaimResult::Claimed(_)));
        words.unrecorded(8, Status::Idle, 4);
        assert_eq!((words.status_at_end(6), words.is_unknown_in(6)), (None, true), "two steps ago");
        assert_eq!(words.status_at_end(7), None, "it was mentioned");
        let woken = Stated { sequence: 4, running: false, woken: true };
        assert_eq!((words.status_at_end(8), words.begin_transition(8)), (Some(woken), Some(woken)));
        words.unrecorded(9, Status::Dead, 5);
        assert_eq!(words.status_at_end(9), None);
        // The wake may have been in 8, or before: if it is not known, the status does not say woken.
        assert_eq!(words.status_at_end(8), Some(Stated { woken: false, ..woken }));
        assert!(!words.is_free_for(7) && words.is_free_for(8));
    }

    #[test]
    fn a_wake_in_the_last_generation_is_no_earlier_one_though_its_poll_is_not_recorded() {
        let idle = Stated { sequence: 2, running: false, woken: false };
        for next in [8, 9] {
            let words = TaskWords::new();
            words.take_place();
            words.commit(5, Status::Idle, 2);
            assert!(matches!(words.claim(7), ClaimResult::Claimed(_)));
            // With 9, a thread has entered generation 8, and tracing was turned off before it was published.
            words.unrecorded(next, Status::Running, 3);
            assert_eq!(words.status_at_end(7), Some(idle));
        }
    }

    #[test]
    fn a_task_is_idle_at_the_end_of_a_generation_whether_it_was_mentioned_or_not() {
        let words = TaskWords::new();
        words.take_place();
        words.commit(5, Status::Idle, 2);
        assert_eq!((words.idle_at_end(5), words.idle_at_end(6)), (Some(2), Some(2)));
        step(&words, 6, Status::Running);
        assert_eq!((words.idle_at_end(5), words.idle_at_end(6)), (Some(2), None), "it is polled");
        step(&words, 6, Status::Idle);
        assert_eq!(words.idle_at_end(6), Some(4));
        step(&words, 7, Status::Running);
        step(&words, 7, Status::Idle);
        assert_eq!((words.idle_at_end(6), words.idle_at_end(7)), (Some(4), Some(6)));
        step(&words, 8, Status::Dead);
        assert_eq!((words.idle_at_end(7), words.idle_at_end(8)), (Some(6), None));
    }

    #[test]
    fn a_place_is_free_again_when_nobody_lists_its_last_task_any_more() {
        let words = TaskWords::new();
        for complete in [0, 1000, 40_000, 65_530, 1 << 40] {
            assert!(words.is_free_for(complete), "never used");
        }
        words.commit(7, Status::Dead, 8);
        assert!(!words.is_free_for(5));
        assert!(words.is_free_for(6));
        assert_eq!(TaskWords::next_idle(words.own(), 0), 10);
        assert_eq!(TaskWords::next_idle(words.own(), 99), 100);
    }

    #[test]
    fn a_word_that_is_old_stays_old() {
        let words = TaskWords::new();
        words.take_place();
        words.commit(1, Status::Idle, 2);
        words.claim(1);
        for generation in 2..200_000 {
            let listed = words.status_at_end(generation).expect("alive, and not mentioned");
            assert!(listed.woken && listed.sequence == 2, "{generation}: {listed:?}");
        }
        assert!(step(&words, 200_000, Status::Running).unwrap().woken);
    }
}
