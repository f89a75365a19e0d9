//! A writer that is still inside a reclaimed generation keeps the block that it fills, whichever thread
//! carves.

use super::{Plain, RACE, holds, is_caught};
use crate::protocol::gate::Gate;
use crate::protocol::ring::{Began, Keeper, Ring};
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::ops::Range;
use std::sync::Arc;

const UNITS: u64 = 2;

/// The protocol as it should be, or with a mistake.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Well,
    LooksAtNoPin,
    PinsAfterwards,
    WithoutBarrier,
}

struct Slot {
    gate: Gate,
    pin: [AtomicU64; 2],
}

struct Scene {
    ring: Ring,
    words: [Plain; UNITS as usize],
    published: AtomicU64,
    barred: AtomicU64,
    pinned_until: AtomicU64,
    slot: Slot,
    how: How,
}

/// `carver::Carver`, for the writer or for another thread.
struct Carver<'a> {
    scene: &'a Scene,
    is_writer: bool,
    generation: u64,
}

impl Keeper for Carver<'_> {
    fn close(&self, generation: u64) -> bool {
        let scene = self.scene;
        if generation >= self.generation {
            return false;
        }
        let published = scene.published.load(Ordering::Acquire);
        if published <= generation {
            return false;
        }
        if scene.barred.load(Ordering::Acquire) <= generation {
            if scene.how != How::WithoutBarrier {
                fence(Ordering::SeqCst);
            }
            scene.barred.fetch_max(published, Ordering::Release);
        }
        scene.pinned_until.fetch_max(generation, Ordering::Release);
        true
    }

    fn pin(&self, range: Range<u64>) {
        if self.is_writer && self.scene.how != How::PinsAfterwards {
            self.scene.slot.set_pin(range);
        }
    }

    fn pinned(&self, range: Range<u64>, tail: u64) -> Option<u64> {
        let scene = self.scene;
        let until = scene.pinned_until.load(Ordering::Acquire);
        if until == 0 || scene.how == How::LooksAtNoPin {
            return None;
        }
        let slot = &scene.slot;
        if slot.gate.is_past(until + 1) {
            let _ =
                scene.pinned_until.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed);
            return None;
        }
        let [start, end] = slot.pin.each_ref().map(|word| word.load(Ordering::Relaxed));
        // All blocks are one unit long.
        let is_there = start < end && start < tail && start % UNITS == range.start % UNITS;
        (!self.is_writer && is_there).then_some(range.end)
    }
}

impl Slot {
    fn set_pin(&self, range: Range<u64>) {
        self.pin[0].store(range.start, Ordering::Relaxed);
        self.pin[1].store(range.end, Ordering::Relaxed);
    }
}

impl Scene {
    /// Generation 1 runs. Either the writer has a block of it and 2 is in the table, or neither.
    fn new(how: How, has_block: bool) -> Arc<Self> {
        let word = || AtomicU64::new(0);
        let scene = Self {
            ring: Ring::new(),
            words: std::array::from_fn(|_| Plain::new(0)),
            published: AtomicU64::new(1),
            barred: word(),
            pinned_until: word(),
            slot: Slot { gate: Gate::new(), pin: [word(), word()] },
            how,
        };
        scene.ring.begin(1, Began::default());
        if has_block {
            scene.slot.gate.adopt(1);
            scene.slot.set_pin(0..1);
        }
        scene.ring.head.store(1, Ordering::Relaxed);
        if has_block {
            scene.enter_2();
        }
        Arc::new(scene)
    }

    fn enter_2(&self) {
        let carver = Carver { scene: self, is_writer: false, generation: 1 };
        self.ring.enter(2, Began::default(), &carver).expect("there is room");
    }

    /// The writer's event, in its block or in one that it carves.
    fn write(&self) {
        let gate = &self.slot.gate;
        let generation = gate.enter(&self.published, || true);
        if gate.adopted() == generation {
            self.words[0].set(generation);
        } else {
            gate.adopt(generation);
            self.carve(true, generation);
        }
        gate.leave();
    }

    fn carve(&self, is_writer: bool, generation: u64) {
        let carver = Carver { scene: self, is_writer, generation };
        if let Ok(carved) = self.ring.carve(1, UNITS, UNITS, &carver) {
            if is_writer && self.how == How::PinsAfterwards {
                self.slot.set_pin(carved.position..carved.position + 1);
            }
            self.words[(carved.position % UNITS) as usize].set(carved.position);
        }
    }

    /// Publishes generation 2 and fills the ring in it. The thread is in no gate, so its fence does
    /// not count as the barrier.
    fn fill(&self) {
        if self.ring.start_of(2).is_none() {
            self.enter_2();
        }
        let _ = self.published.compare_exchange(1, 2, Ordering::AcqRel, Ordering::Relaxed);
        for _ in 0..UNITS {
            self.carve(false, 2);
        }
    }
}

fn scenario(how: How, has_block: bool) {
    let scene = Scene::new(how, has_block);
    let other = {
        let scene = Arc::clone(&scene);
        thread::spawn(move || scene.fill())
    };
    scene.write();
    other.join().unwrap();
}

#[test]
fn what_a_writer_fills_is_its_own_though_its_generation_is_given_up() {
    holds(|| scenario(How::Well, true));
}

#[test]
fn what_a_writer_carves_is_its_own_though_its_generation_is_given_up() {
    holds(|| scenario(How::Well, false));
}

#[test]
fn a_carver_that_looks_at_no_pin_is_caught() {
    is_caught(RACE, || scenario(How::LooksAtNoPin, true));
}

#[test]
fn a_generation_that_is_given_up_without_a_barrier_is_caught() {
    is_caught(RACE, || scenario(How::WithoutBarrier, true));
}

#[test]
fn a_pin_that_is_set_after_carving_is_caught() {
    is_caught(RACE, || scenario(How::PinsAfterwards, false));
}
