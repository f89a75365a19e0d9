//! Everything together: a writer, an advance, and a reader that does not advance.

use super::{Quiet, enter, holds, is_caught};
use crate::protocol::gate::Gate;
use crate::protocol::ring::{Began, Ring};
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

/// Units of the ring; each holds a block of one event.
const UNITS: u64 = 2;

struct Scene {
    published: AtomicU64,
    gate: Gate,
    ring: Ring,
    blocks: [Block; UNITS as usize],
    /// The number of events written in generation 2; hidden from loom.
    truth: std::sync::atomic::AtomicU64,
}

struct Block {
    position: AtomicU64,
    generation: AtomicU64,
    committed: AtomicU64,
    event: AtomicU64,
}

/// The protocol as it should be, or with a mistake.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Well,
    PositionFirst,
    CommittedFirst,
    AdvancesWithoutWaiting,
}

impl Scene {
    /// Generation 1 has filled the ring and is complete; 2 is running.
    fn new() -> Arc<Self> {
        let word = AtomicU64::new;
        let block = |position: usize| Block {
            position: word(position as u64),
            generation: word(1),
            committed: word(1),
            event: word(event(position as u64, 1)),
        };
        let scene = Self {
            published: word(2),
            gate: Gate::new(),
            ring: Ring::new(),
            blocks: std::array::from_fn(block),
            truth: 0.into(),
        };
        scene.ring.begin(1, Began::default());
        scene.ring.head.store(UNITS, Ordering::Relaxed);
        scene.ring.mark_complete(1, UNITS);
        enter(&scene.ring, 2);
        Arc::new(scene)
    }

    fn block(&self, position: u64) -> &Block {
        &self.blocks[(position % UNITS) as usize]
    }

    /// `Writer::event`, each time in a block of its own.
    fn write(&self, how: How) {
        let generation = self.gate.enter(&self.published, || true);
        if self.gate.adopted() != generation {
            self.gate.adopt(generation);
        }
        if let Ok(carved) = self.ring.carve(1, UNITS, UNITS, &Quiet(&self.ring, |_| ())) {
            let block = self.block(carved.position);
            block.open(carved.position, generation, how);
            let event = event(carved.position, generation);
            if how == How::CommittedFirst {
                block.committed.store(1, Ordering::Release);
                block.event.store(event, Ordering::Relaxed);
            } else {
                block.event.store(event, Ordering::Relaxed);
                block.committed.store(1, Ordering::Release);
            }
            if generation == 2 {
                self.truth.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        self.gate.leave();
    }

    /// `Advancer::end`, from generation 2 to 3.
    fn advance(&self, how: How) {
        enter(&self.ring, 3);
        self.published.store(3, Ordering::Release);
        fence(Ordering::SeqCst);
        while how != How::AdvancesWithoutWaiting && !self.gate.is_past(3) {
            thread::yield_now();
        }
        let head = self.ring.head.load(Ordering::Acquire);
        let events = (UNITS..head).filter(|at| self.end_of(*at) == Some((2, 1))).count() as u64;
        let truth = self.truth.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(events, truth, "a generation is complete without all of its events");
        self.ring.mark_complete(2, events);
    }

    /// The generation and the end of the block at `position`, if there is one.
    fn end_of(&self, position: u64) -> Option<(u64, u64)> {
        let block = self.block(position);
        (block.position.load(Ordering::Acquire) == position).then(|| {
            let committed = block.committed.load(Ordering::Acquire);
            (block.generation.load(Ordering::Relaxed), committed)
        })
    }

    /// `Window::copy`, from generation 2 on.
    fn read(&self) {
        let complete = self.ring.complete.load(Ordering::Acquire);
        let head = self.ring.head.load(Ordering::Acquire);
        let ends: Vec<_> = (UNITS..head).map(|at| self.end_of(at)).collect();
        let event = |at| self.block(at).event.load(Ordering::Relaxed);
        let found: Vec<_> = (UNITS..head).map(event).collect();
        if !self.ring.still_holds(UNITS) {
            return;
        }
        let mut events = 0;
        for ((at, end), found) in (UNITS..).zip(ends).zip(found) {
            let Some((generation, 1)) = end else { continue };
            assert_eq!(found, self::event(at, generation), "an event that is not whole");
            events += u64::from(generation == 2);
        }
        if complete >= 2 {
            let told = self.ring.entry(2).events.load(Ordering::Relaxed);
            assert_eq!(events, told, "a complete generation is not all there");
        }
    }
}

impl Block {
    /// `write_header`.
    fn open(&self, position: u64, generation: u64, how: How) {
        if how == How::PositionFirst {
            self.position.store(position, Ordering::Release);
        }
        self.committed.store(0, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Relaxed);
        if how != How::PositionFirst {
            self.position.store(position, Ordering::Release);
        }
    }
}

/// The event that is written at `position`.
fn event(position: u64, generation: u64) -> u64 {
    position << 8 | generation
}

fn scenario(how: How, events: usize, reads: bool) {
    let scene = Scene::new();
    let reader = reads.then(|| {
        let scene = Arc::clone(&scene);
        thread::spawn(move || scene.read())
    });
    let advancer = {
        let scene = Arc::clone(&scene);
        thread::spawn(move || scene.advance(how))
    };
    (0..events).for_each(|_| scene.write(how));
    advancer.join().unwrap();
    if let Some(reader) = reader {
        reader.join().unwrap();
    }
    scene.read();
}

#[test]
fn every_event_that_is_read_is_whole_and_no_complete_generation_lacks_one() {
    holds(|| scenario(How::Well, 1, true));
}

#[test]
fn a_complete_generation_holds_what_a_writer_wrote_while_it_ended() {
    holds(|| scenario(How::Well, 2, false));
}

#[test]
fn a_header_whose_position_is_written_first_is_caught() {
    is_caught("an event that is not whole", || scenario(How::PositionFirst, 1, true));
}

#[test]
fn an_event_that_is_committed_before_it_is_written_is_caught() {
    is_caught("an event that is not whole", || scenario(How::CommittedFirst, 1, true));
}

#[test]
fn an_advance_that_does_not_wait_is_caught() {
    is_caught("without all of its events", || scenario(How::AdvancesWithoutWaiting, 1, false));
}
