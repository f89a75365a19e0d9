//! The words of a task: how each generation comes to hold its state, at no price to who polls it.
//!
//! A task has three words. The *owner's word* says what the task is doing; only its owner, which is
//! the thread that polls it or drops it, stores to it, with plain stores. Beside it stands the word
//! as it was *before* the owner's first mention of the task in the word's generation. The *wake word*
//! says for which poll the task was last woken; who wakes it claims that by compare-and-swap.
//!
//! The task's sequence number counts its transitions, is even while the task is idle and odd while it
//! is polled, and goes on when the task's place is used for another one. So it names a transition for
//! ever, and a reader needs no time to put transitions in order.
//!
//! # The protocol
//!
//! * **Who owns the state writes it.** The first mention of a task in a generation writes the status
//!   as it was before, into the same block. Wakers write no statuses: what a waker reads may be old,
//!   and in a generation that has no other mention of the task, it would be the last word.
//! * **A wake is for a poll.** Its target is the sequence number that the poll will have: the next
//!   one if the task is idle, the one after that if it is being polled. The claim is by target, so a
//!   poll has at most one recorded wake, in whatever generations it is woken.
//! * **Late generations.** A waker that finds the owner's word newer than its own generation must not
//!   write in the old one: that would put a task's events into two generations in the wrong order. It
//!   leaves its gate and begins again, and then sees the new generation.
//! * **Listing.** When generation *g* is over and no writer is left in it, who advances lists each task
//!   that is alive and was not mentioned by its owner in *g*. If the owner has begun *g + 1* already,
//!   the word from before that is the state at the end of *g*.
//! * **Woken.** A wake may be in one generation and its poll in a later one. So a status says whether
//!   the wake for the next poll was recorded in an earlier generation than the status; also that of a
//!   task which is being polled, and was woken meanwhile.
//! * **Lost.** A transition that found no room changes the word all the same, and marks it if the
//!   generation has no status of the task; then the next mention, or the listing, states it.
//! * **Off.** What changes while tracing is off changes the word as if it were lost in the generation that comes
//!   next. The last one may not be listed yet, and finds the word from before.
//! * **Tombstones.** A place whose task ended in generation *d* may be used again once *d − 1* is
//!   complete: until then the listing of *d − 1* needs it.
//!
//! # Synchronization
//!
//! * The owner's word is stored with release after `before`; the listing acquires it, so it finds the
//!   `before` that belongs to it. All owners of one task are ordered among themselves by whoever
//!   hands the task from one thread to the next (the executor).
//! * A waker loads `settled` (acquire; stored with release once no writer is left in a generation)
//!   *before* the owner's word: then it sees at least what owners did in generations up to that one.
//!   The wake says if that may not be enough to see all that happened before its own generation.
//! * Generations are compared modulo 2^16. The listing moves words that have fallen behind by 2^14.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering};

const SEQUENCE_BITS: u32 = 44;
const SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;
const STATUS_SHIFT: u32 = SEQUENCE_BITS;
const WOKEN_BEFORE: u64 = 1 << (SEQUENCE_BITS + 2);
const LOST: u64 = 1 << (SEQUENCE_BITS + 3);
const GENERATION_SHIFT: u32 = 48;
/// A word that is older than this many generations is moved up by the listing.
const OLD: i16 = 1 << 14;

/// What a task is doing, as its owner's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// There is none: it is over, or the place was never used.
    Dead = 0,
    Idle = 1,
    Running = 2,
}

/// An owner's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
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

    /// By how many generations it is older than this one; negative if it is newer.
    fn age(self, generation: u64) -> i16 {
        (generation as u16).wrapping_sub((self.0 >> GENERATION_SHIFT) as u16).cast_signed()
    }

    /// Whether it is of the generation after this one, or of what comes after the last one.
    fn is_just_after(self, generation: u64) -> bool {
        (-4..0).contains(&self.age(generation))
    }

    fn is_lost(self) -> bool {
        self.0 & LOST != 0
    }

    /// Whether this generation has the state as this word says it.
    fn is_stated_in(self, generation: u64) -> bool {
        self.is_of(generation) && !self.is_lost()
    }

    /// The poll that a wake is for.
    pub(crate) fn target(self) -> u64 {
        self.sequence() + if self.status() == Status::Running { 2 } else { 1 }
    }
}

/// The wake word: the generation that the claim was made in, and the target.
#[derive(Clone, Copy)]
struct Claim(u64);

impl Claim {
    const TARGET: u64 = (1 << GENERATION_SHIFT) - 1;

    fn target(self) -> u64 {
        self.0 & Self::TARGET
    }

    fn age(self, generation: u64) -> i16 {
        Word(self.0).age(generation)
    }
}

/// A status, as it is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) sequence: u64,
    pub(crate) running: bool,
    pub(crate) woken: bool,
}

/// What a waker found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// There is nobody to wake, or this poll's wake is recorded.
    Nothing,
    /// The task is ahead of the waker's generation, who must begin again.
    Newer,
    /// The wake is this waker's to record: what it saw of the task.
    Claimed(Word),
}

/// See the module. Zeroes are a place that was never used.
#[repr(C)]
pub(crate) struct Words {
    owner: AtomicU64,
    before: AtomicU64,
    wake: AtomicU64,
}

impl Words {
    #[cfg(any(loom, test))]
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { owner: zero(), before: zero(), wake: zero() }
    }

    /// The owner's word, for the owner.
    #[inline(always)]
    pub(crate) fn own(&self) -> Word {
        Word(self.owner.load(Ordering::Relaxed))
    }

    /// Whether the owner can go on in `generation` without stating anything: `word` is its own.
    #[inline(always)]
    pub(crate) fn is_plain(word: Word, generation: u64) -> bool {
        word.is_stated_in(generation)
    }

    /// What the owner has to state before it writes of the task in `generation`. Keeps the word from
    /// before the first mention.
    pub(crate) fn mention(&self, generation: u64) -> Option<Stated> {
        let word = self.own();
        let first = !word.is_of(generation);
        if !first && !word.is_lost() {
            return None;
        }
        let claim = Claim(self.wake.load(Ordering::Acquire));
        let pending = claim.target() == word.target();
        let woken = pending && claim.age(generation) >= 1;
        if first {
            let earlier = pending && claim.age(generation) >= 2;
            let before = word.0 & !WOKEN_BEFORE | if earlier { WOKEN_BEFORE } else { 0 };
            self.before.store(before, Ordering::Relaxed);
        }
        word.is_alive().then_some(Stated {
            sequence: word.sequence(),
            running: word.status() == Status::Running,
            woken,
        })
    }

    /// The owner's transition was written in `generation`, after what [`mention`](Self::mention)
    /// asked for; or the state was stated as it is.
    #[inline(always)]
    pub(crate) fn written(&self, generation: u64, status: Status, sequence: u64) {
        self.owner.store(Word::new(generation, status, sequence).0, Ordering::Release);
    }

    /// The owner's transition found no room. [`mention`](Self::mention) was called before.
    pub(crate) fn lost(&self, generation: u64, status: Status, sequence: u64) {
        let word = self.own();
        let lost = !word.is_of(generation) || word.is_lost();
        let next = Word::new(generation, status, sequence).0 | if lost { LOST } else { 0 };
        self.owner.store(next, Ordering::Release);
    }

    /// A task took this place, and the event that says so found no room: the listing states it.
    pub(crate) fn create_lost(&self, generation: u64, sequence: u64) {
        let word = Word::new(generation, Status::Idle, sequence).0 | LOST;
        self.owner.store(word, Ordering::Release);
    }

    /// The owner's transition happened while tracing is off, or could not be recorded: it belongs to what
    /// comes after the last generation, whose listing may still be to come. `next` is the number of the next
    /// generation; the next one that mentions the task states it as it is then.
    pub(crate) fn unrecorded(&self, next: u64, status: Status, sequence: u64) {
        // For what it keeps of the word.
        let _ = self.mention(next);
        self.owner.store(Word::new(next, status, sequence).0 | LOST, Ordering::Release);
    }

    /// The sequence number of a task that takes this place now, and idles.
    pub(crate) fn next_idle(word: Word, floor: u64) -> u64 {
        (word.sequence().max(floor) + 2) & !1
    }

    /// Keeps the word as it is, for a task that takes this place in a new generation.
    pub(crate) fn take_place(&self) {
        self.before.store(self.own().0, Ordering::Relaxed);
    }

    /// A task takes this place which was not seen to begin: as if it had last been mentioned in the generation
    /// before, whose listing may still be to come and must not have it: those before that do not know it.
    pub(crate) fn adopt(&self, generation: u64, sequence: u64) {
        let word = Word::new(generation.wrapping_sub(1), Status::Idle, sequence);
        self.before.store(word.0, Ordering::Relaxed);
        self.owner.store(word.0, Ordering::Release);
    }

    /// What a waker in `generation` finds; `settled` was loaded before.
    #[inline(always)]
    pub(crate) fn claim(&self, generation: u64) -> Seen {
        let word = Word(self.owner.load(Ordering::Acquire));
        if !word.is_alive() {
            return Seen::Nothing;
        }
        if word.age(generation) < 0 {
            return Seen::Newer;
        }
        let target = word.target();
        let claimed = generation << GENERATION_SHIFT | target;
        let mut wake = self.wake.load(Ordering::Acquire);
        loop {
            if Claim(wake).target() >= target {
                return Seen::Nothing;
            }
            match self.wake.compare_exchange(wake, claimed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Seen::Claimed(word),
                Err(other) => wake = other,
            }
        }
    }

    /// The owner's word, for who wakes: whether it has moved on.
    pub(crate) fn look(&self) -> Word {
        Word(self.owner.load(Ordering::Acquire))
    }

    /// The status that the listing of `generation` has to have, if its owner did not mention the
    /// task in it. Called when no writer is left in `generation` and none is yet in the one after
    /// the next.
    pub(crate) fn listed(&self, generation: u64) -> Option<Stated> {
        loop {
            let word = self.look();
            if word.is_just_after(generation) {
                let before = Word(self.before.load(Ordering::Relaxed));
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

    /// Whether nobody knows any more what the task was at the end of `generation`: it has changed in a later
    /// one, and again while tracing was off.
    pub(crate) fn is_unknown_in(&self, generation: u64) -> bool {
        self.look().is_just_after(generation)
            && Word(self.before.load(Ordering::Relaxed)).is_just_after(generation)
    }

    /// Keeps the word apart from newer ones, if nobody lists for long.
    pub(crate) fn keep_apart(&self, generation: u64) {
        let word = self.look();
        if word.age(generation) >= OLD {
            self.rejuvenate(word, generation);
        }
    }

    /// Moves a word up that has nearly fallen out of what can be told apart.
    #[cold]
    fn rejuvenate(&self, word: Word, generation: u64) {
        let recent = generation.wrapping_sub(2) << GENERATION_SHIFT;
        let below = (1 << GENERATION_SHIFT) - 1;
        let claim = self.wake.load(Ordering::Relaxed);
        if Claim(claim).age(generation) >= OLD {
            let next = recent | claim & below;
            let _ = self.wake.compare_exchange(claim, next, Ordering::AcqRel, Ordering::Relaxed);
        }
        // The owner may be about to store a newer word, which then stands.
        let next = recent | word.0 & below;
        let _ = self.owner.compare_exchange(word.0, next, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Whether the place of a task that is over can be used again, when `complete` is.
    pub(crate) fn is_free_for(&self, complete: u64) -> bool {
        let word = self.own();
        // One that was never used has no generation, and is as old as any.
        !word.is_alive() && (word.0 == 0 || word.age(complete) >= -1)
    }

    /// Whether no task of this place has been mentioned in `generation`.
    pub(crate) fn is_unmentioned_in(&self, generation: u64) -> bool {
        let word = self.own();
        word.0 == 0 || word.age(generation) > 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The owner's whole way, with room.
    fn step(words: &Words, generation: u64, status: Status) -> Option<Stated> {
        let stated = words.mention(generation);
        words.written(generation, status, words.own().sequence() + 1);
        stated
    }

    #[test]
    fn the_first_mention_in_a_generation_states_and_the_next_ones_do_not() {
        let words = Words::new();
        words.take_place();
        words.written(5, Status::Idle, 2);
        assert_eq!(step(&words, 5, Status::Running), None);
        assert_eq!(step(&words, 5, Status::Idle), None);
        let stated = step(&words, 6, Status::Running).unwrap();
        assert_eq!(stated, Stated { sequence: 4, running: false, woken: false });
        assert_eq!(words.listed(5), None, "it was mentioned in 5");
        assert_eq!(step(&words, 6, Status::Idle), None);
        assert_eq!(words.listed(6), None);
        assert_eq!(words.listed(7), Some(Stated { sequence: 6, running: false, woken: false }));
    }

    #[test]
    fn a_wake_is_recorded_once_for_a_poll_and_restated_in_later_generations() {
        let words = Words::new();
        words.take_place();
        words.written(5, Status::Idle, 2);
        assert!(matches!(words.claim(5), Seen::Claimed(word) if word.sequence() == 2));
        assert_eq!(words.claim(5), Seen::Nothing);
        assert_eq!(words.claim(6), Seen::Nothing, "in no other generation either");
        assert_eq!(words.listed(6), Some(Stated { sequence: 2, running: false, woken: true }));
        assert!(step(&words, 7, Status::Running).unwrap().woken);
        assert!(matches!(words.claim(7), Seen::Claimed(word) if word.target() == 5));
        step(&words, 7, Status::Idle);
        assert_eq!(words.claim(7), Seen::Nothing, "woken while it ran, for the next poll");
        assert_eq!(words.claim(6), Seen::Newer);
        step(&words, 7, Status::Running);
        assert!(matches!(words.claim(7), Seen::Claimed(word) if word.target() == 7));
        assert_eq!(words.listed(8), Some(Stated { sequence: 5, running: true, woken: true }));
        step(&words, 7, Status::Dead);
        assert_eq!(words.claim(7), Seen::Nothing, "nobody is there");
    }

    #[test]
    fn what_is_lost_is_stated_by_the_next_mention_or_by_the_listing() {
        let words = Words::new();
        words.take_place();
        words.written(5, Status::Idle, 2);
        words.mention(6);
        words.lost(6, Status::Running, 3);
        assert_eq!(words.listed(6), Some(Stated { sequence: 3, running: true, woken: false }));
        assert_eq!(words.mention(6).unwrap().sequence, 3);
        words.written(6, Status::Idle, 4);
        assert_eq!(words.listed(6), None);
        words.mention(6);
        words.lost(6, Status::Running, 5);
        assert_eq!(words.listed(6), None, "the loss is told where it happened");
    }

    #[test]
    fn what_changes_while_tracing_is_off_does_not_change_the_last_generation() {
        let words = Words::new();
        words.take_place();
        words.written(5, Status::Idle, 2);
        assert!(matches!(words.claim(5), Seen::Claimed(_)));
        let idle = Stated { sequence: 2, running: false, woken: true };
        for next in [8, 9] {
            // Whoever was about to publish another one has used up its number.
            words.unrecorded(next, Status::Running, 3);
            words.unrecorded(next, Status::Idle, 4);
            assert_eq!((words.listed(7), words.is_unknown_in(7)), (Some(idle), false));
            words.before.store(0, Ordering::Relaxed);
            words.written(5, Status::Idle, 2);
        }
        words.mention(7);
        words.written(7, Status::Running, 3);
        assert!(matches!(words.claim(7), Seen::Claimed(_)));
        words.unrecorded(8, Status::Idle, 4);
        assert_eq!((words.listed(6), words.is_unknown_in(6)), (None, true), "two steps ago");
        assert_eq!(words.listed(7), None, "it was mentioned");
        let woken = Stated { sequence: 4, running: false, woken: true };
        assert_eq!((words.listed(8), words.mention(8)), (Some(woken), Some(woken)));
        words.unrecorded(9, Status::Dead, 5);
        assert_eq!((words.listed(8), words.listed(9)), (Some(woken), None));
        assert!(!words.is_free_for(7) && words.is_free_for(8));
    }

    #[test]
    fn a_place_is_free_again_when_nobody_lists_its_last_task_any_more() {
        let words = Words::new();
        for complete in [0, 1000, 40_000, 65_530, 1 << 40] {
            assert!(words.is_free_for(complete), "never used");
        }
        words.written(7, Status::Dead, 8);
        assert!(!words.is_free_for(5));
        assert!(words.is_free_for(6));
        assert_eq!(Words::next_idle(words.own(), 0), 10);
        assert_eq!(Words::next_idle(words.own(), 99), 100);
    }

    #[test]
    fn a_word_that_is_old_stays_old() {
        let words = Words::new();
        words.take_place();
        words.written(1, Status::Idle, 2);
        words.claim(1);
        for generation in 2..200_000 {
            let listed = words.listed(generation).expect("alive, and not mentioned");
            assert!(listed.woken && listed.sequence == 2, "{generation}: {listed:?}");
        }
        assert!(step(&words, 200_000, Status::Running).unwrap().woken);
    }
}
