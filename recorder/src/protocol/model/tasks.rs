//! Each generation holds the state of every task, each of its transitions follows the one before it,
//! and no poll has two wakes.

use super::{holds, is_caught};
use crate::protocol::gate::Gate;
use crate::protocol::task_state::{ClaimResult, Stated, Status, TaskWords};
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::{Arc, Mutex};

/// What a trace of the only place holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Record {
    Status(Stated),
    Create(u64),
    /// A transition: its sequence number, and whether the task lives on.
    Moves(u64, bool),
    Wake {
        saw: u64,
        target: u64,
        /// What the waker saw may be from before the generation.
        stale: bool,
    },
    Listed(Stated),
}

/// A mistake, or none.
#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    /// A waker that finds the task ahead of its generation writes in the old one all the same.
    NoLateGenerationRule,
    /// A place is reused as soon as its task is over.
    NoTombstones,
    /// The advancer does not wait for the writers.
    NoWait,
    /// The generation is published without a barrier.
    NoBarrier,
    /// The listing takes the current word, though the owner has begun the next generation.
    ListsTheNewest,
    /// The owner states nothing.
    NoStatus,
}

struct Scene {
    published: AtomicU64,
    settled: AtomicU64,
    complete: AtomicU64,
    gates: [Gate; 2],
    words: TaskWords,
    mistake: Mistake,
    /// By generation, in the order of each thread; hidden from loom.
    trace: Mutex<Vec<(u64, Record)>>,
}

/// The running generation when a scenario begins.
const FIRST: u64 = 5;

impl Scene {
    /// A task that has idled since before the first generation, with sequence number 2.
    fn new(mistake: Mistake) -> Arc<Self> {
        let scene = Self {
            published: AtomicU64::new(FIRST),
            settled: AtomicU64::new(FIRST - 1),
            complete: AtomicU64::new(FIRST - 1),
            gates: [Gate::new(), Gate::new()],
            words: TaskWords::new(),
            mistake,
            trace: Mutex::default(),
        };
        scene.words.adopt(FIRST, 2);
        Arc::new(scene)
    }

    fn write(&self, generation: u64, record: Record) {
        self.trace.lock().unwrap().push((generation, record));
    }

    fn enter(&self, gate: usize) -> u64 {
        let gate = &self.gates[gate];
        let generation = gate.enter(&self.published, || true);
        if gate.adopted() != generation {
            gate.adopt(generation);
        }
        generation
    }

    /// `task::transition`. `has_room`: the transition can be written.
    fn step(&self, gate: usize, status: Status, has_room: bool) {
        let generation = self.enter(gate);
        let sequence = self.words.own().sequence() + 1;
        let stated = self.words.begin_transition(generation);
        if has_room {
            if let Some(stated) = stated
                && self.mistake != Mistake::NoStatus
            {
                self.write(generation, Record::Status(stated));
            }
            self.write(generation, Record::Moves(sequence, status != Status::Dead));
            self.words.commit(generation, status, sequence);
        } else {
            self.words.lost(generation, status, sequence);
        }
        self.gates[gate].leave();
    }

    /// `Task::create`, in the only place.
    fn create(&self, gate: usize) -> bool {
        let generation = self.enter(gate);
        let complete = self.complete.load(Ordering::Acquire);
        let free = self.words.is_free_for(complete) || self.mistake == Mistake::NoTombstones;
        if free {
            let sequence = TaskWords::next_idle(self.words.own(), 0);
            self.words.take_place();
            self.write(generation, Record::Create(sequence));
            self.words.commit(generation, Status::Idle, sequence);
        }
        self.gates[gate].leave();
        free
    }

    /// `task::wake`.
    fn wake(&self, gate: usize) {
        for _ in 0..3 {
            let generation = self.enter(gate);
            let settled = self.settled.load(Ordering::Acquire);
            let mut seen = self.words.claim(generation);
            if seen == ClaimResult::Newer && self.mistake == Mistake::NoLateGenerationRule {
                seen = self.words.claim(generation + 1);
            }
            if let ClaimResult::Claimed(word) = seen {
                let (saw, target) = (word.sequence(), word.target());
                let stale = settled + 1 < generation;
                self.write(generation, Record::Wake { saw, target, stale });
            }
            self.gates[gate].leave();
            if seen != ClaimResult::Newer {
                return;
            }
        }
        panic!("a waker begins again and again");
    }

    /// `Advancer::end`.
    fn advance(&self) {
        let generation = self.published.load(Ordering::Relaxed);
        self.published.store(generation + 1, Ordering::Release);
        if self.mistake != Mistake::NoBarrier {
            fence(Ordering::SeqCst);
        }
        for gate in &self.gates {
            while self.mistake != Mistake::NoWait && !gate.is_past(generation + 1) {
                thread::yield_now();
            }
        }
        self.settled.store(generation, Ordering::Release);
        let asked =
            if self.mistake == Mistake::ListsTheNewest { generation + 1 } else { generation };
        if let Some(stated) = self.words.status_at_end(asked) {
            self.write(generation, Record::Listed(stated));
        }
        self.complete.store(generation, Ordering::Release);
    }

    /// A reader's checks: each complete generation alone, and each against the one before it.
    fn check(&self, lossy: bool) {
        let trace = self.trace.lock().unwrap().clone();
        let complete = self.complete.load(Ordering::Relaxed);
        let mut targets = Vec::new();
        // The state at the end of the previous generation, if the task lives.
        let mut before = Some(2);
        for generation in FIRST..=complete {
            let of = trace.iter().filter(|(g, _)| *g == generation).map(|(_, record)| *record);
            let mut now: Option<u64> = None;
            let mut alive = false;
            let (mut listed, mut woken) = (None, None);
            let mut moves: Vec<_> = of.collect();
            // The place's own records in sequence order; a status comes before its transition.
            moves.sort_by_key(|record| match *record {
                Record::Status(stated) => (stated.sequence, 1),
                Record::Create(sequence) | Record::Moves(sequence, _) => (sequence, 0),
                Record::Wake { saw, .. } => (saw, 2),
                Record::Listed(_) => (u64::MAX, 3),
            });
            for record in moves {
                match record {
                    Record::Status(stated) => {
                        if now.is_none() {
                            let left = before == Some(stated.sequence);
                            assert!(left || lossy, "stated as it was not left");
                            woken = Some(stated);
                        } else if !lossy {
                            assert_eq!(now, Some(stated.sequence), "a status in between is wrong");
                        }
                        (now, alive) = (Some(stated.sequence), true);
                    }
                    Record::Create(sequence) => {
                        assert!(!alive && before.is_none_or(|_| now.is_some()), "created twice");
                        (now, alive) = (Some(sequence), true);
                        before = None;
                    }
                    Record::Moves(sequence, lives) => {
                        assert_eq!(now, Some(sequence - 1), "a transition without its status");
                        (now, alive) = (Some(sequence), lives);
                    }
                    Record::Wake { saw, target, stale } => {
                        assert!(!targets.contains(&target), "two wakes for one poll");
                        targets.push(target);
                        let known =
                            now.map_or_else(|| before.is_some_and(|b| saw <= b), |n| saw <= n);
                        assert!(stale || known, "a wake that saw what is not there");
                    }
                    Record::Listed(stated) => listed = Some(stated),
                }
            }
            if let Some(stated) = listed {
                if !lossy {
                    assert!(now.is_none(), "listed, and mentioned: {stated:?}");
                    assert_eq!(before, Some(stated.sequence), "listed as it was not left");
                }
                woken = woken.or(Some(stated));
                (now, alive) = (Some(stated.sequence), true);
            }
            let lived = before.is_some();
            assert!(!lived || now.is_some(), "a task without a status in {generation}");
            // Where a status says so, an earlier generation has the wake for the next poll. The
            // converse need not hold: a waker may be slower than a poll with another cause.
            if let Some(stated) = woken.filter(|stated| stated.woken) {
                let next = stated.sequence + if stated.running { 2 } else { 1 };
                let earlier = trace.iter().any(|(g, record)| {
                    *g < generation
                        && matches!(record, Record::Wake { target, .. } if *target == next)
                });
                assert!(earlier, "woken in no earlier generation than {generation}");
            }
            before = now.filter(|_| alive);
        }
    }
}

/// Runs an owner's and a waker's steps while `advances` generations end.
fn scenario(
    mistake: Mistake,
    advances: usize,
    lossy: bool,
    owner: fn(&Scene),
    waker: Option<fn(&Scene)>,
) {
    let scene = Scene::new(mistake);
    let owning = {
        let scene = Arc::clone(&scene);
        thread::spawn(move || owner(&scene))
    };
    let waking = waker.map(|waker| {
        let scene = Arc::clone(&scene);
        thread::spawn(move || waker(&scene))
    });
    for _ in 0..advances {
        scene.advance();
    }
    owning.join().unwrap();
    if let Some(waking) = waking {
        waking.join().unwrap();
    }
    scene.advance();
    scene.check(lossy);
}

fn polls_once(scene: &Scene) {
    scene.step(0, Status::Running, true);
    scene.step(0, Status::Idle, true);
}

fn polls_and_loses(scene: &Scene) {
    scene.step(0, Status::Running, false);
    scene.step(0, Status::Idle, true);
}

fn ends_and_another_begins(scene: &Scene) {
    scene.step(0, Status::Dead, true);
    if scene.create(0) {
        scene.step(0, Status::Running, true);
    }
}

fn wakes(scene: &Scene) {
    scene.wake(1);
}

fn wakes_twice(scene: &Scene) {
    scene.wake(1);
    scene.wake(1);
}

#[test]
fn a_task_that_is_polled_while_generations_end_is_in_each_of_them() {
    holds(|| scenario(Mistake::None, 2, false, polls_once, None));
}

#[test]
fn a_wake_stands_where_its_poll_can_find_it() {
    holds(|| scenario(Mistake::None, 1, false, polls_once, Some(wakes)));
}

#[test]
fn a_poll_has_one_wake_in_whatever_generations_it_is_woken() {
    let nothing: fn(&Scene) = |_| ();
    holds(move || scenario(Mistake::None, 1, false, nothing, Some(wakes_twice)));
}

#[test]
fn a_place_that_is_used_again_loses_nobody() {
    holds(|| scenario(Mistake::None, 1, false, ends_and_another_begins, None));
}

#[test]
fn a_wake_meets_the_end_of_its_task() {
    let ends: fn(&Scene) = |scene| scene.step(0, Status::Dead, true);
    holds(move || scenario(Mistake::None, 1, false, ends, Some(wakes)));
}

#[test]
fn a_lost_transition_is_made_up_for() {
    holds(|| scenario(Mistake::None, 1, true, polls_and_loses, None));
}

#[test]
fn a_waker_that_writes_in_the_old_generation_is_caught() {
    is_caught("what is not there", || {
        scenario(Mistake::NoLateGenerationRule, 1, false, polls_once, Some(wakes));
    });
}

#[test]
fn a_place_that_is_used_again_at_once_is_caught() {
    is_caught("without a status", || {
        scenario(Mistake::NoTombstones, 1, false, ends_and_another_begins, None);
    });
}

#[test]
fn an_advance_that_does_not_wait_is_caught() {
    is_caught("", || scenario(Mistake::NoWait, 1, false, polls_once, None));
}

#[test]
fn a_generation_without_a_barrier_is_caught() {
    is_caught("", || scenario(Mistake::NoBarrier, 1, false, polls_once, None));
}

#[test]
fn a_listing_of_the_newest_word_is_caught() {
    is_caught("", || scenario(Mistake::ListsTheNewest, 1, false, polls_once, None));
}

#[test]
fn an_owner_that_states_nothing_is_caught() {
    is_caught("without its status", || scenario(Mistake::NoStatus, 1, false, polls_once, None));
}
