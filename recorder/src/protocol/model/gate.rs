//! A writer that was seen past a generation never writes in it again, and all its writes in it are
//! seen.

use super::{Plain, RACE, holds, is_caught};
use crate::protocol::gate::Gate;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

/// The operations that the scenario's writers and advancer call: the real gate, or a mistaken one.
trait Door: Send + Sync + 'static {
    fn new() -> Self;
    fn enter(&self, published: &AtomicU64) -> u64;
    fn adopt(&self, generation: u64);
    fn leave(&self);
    fn barrier();
    fn is_past(&self, next: u64) -> bool;
    fn is_inside(&self) -> bool;
}

/// The gate that ships. `FENCED`: the writer fences; `BARRIER`: the advancer does.
struct Shipped<const FENCED: bool, const BARRIER: bool>(Gate);

impl<const FENCED: bool, const BARRIER: bool> Door for Shipped<FENCED, BARRIER> {
    fn new() -> Self {
        Self(Gate::new())
    }
    fn enter(&self, published: &AtomicU64) -> u64 {
        self.0.enter(published, || FENCED)
    }
    fn adopt(&self, generation: u64) {
        if self.0.adopted() != generation {
            self.0.adopt(generation);
        }
    }
    fn leave(&self) {
        self.0.leave();
    }
    fn barrier() {
        if BARRIER {
            fence(Ordering::SeqCst);
        }
    }
    fn is_past(&self, next: u64) -> bool {
        self.0.is_past(next)
    }
    fn is_inside(&self) -> bool {
        self.0.is_inside()
    }
}

/// A copy of the gate's few lines that can be wrong: `leave` without its release.
struct Copied<const RELEASES: bool> {
    flag: AtomicU32,
    generation: AtomicU64,
}

impl<const RELEASES: bool> Door for Copied<RELEASES> {
    fn new() -> Self {
        Self { flag: AtomicU32::new(0), generation: AtomicU64::new(0) }
    }
    fn enter(&self, published: &AtomicU64) -> u64 {
        self.flag.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        published.load(Ordering::Acquire)
    }
    fn adopt(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }
    fn leave(&self) {
        self.flag.store(0, if RELEASES { Ordering::Release } else { Ordering::Relaxed });
    }
    fn barrier() {
        fence(Ordering::SeqCst);
    }
    fn is_past(&self, next: u64) -> bool {
        self.flag.load(Ordering::Acquire) == 0 || self.generation.load(Ordering::Acquire) == next
    }
    fn is_inside(&self) -> bool {
        self.flag.load(Ordering::Relaxed) != 0
    }
}

/// A writer's place: its door, and what it wrote in generations 1 and 2.
struct Place<D> {
    door: D,
    wrote: [Plain; 2],
}

fn write<D: Door>(place: &Place<D>, published: &AtomicU64) {
    let generation = place.door.enter(published);
    place.door.adopt(generation);
    let wrote = &place.wrote[generation as usize - 1];
    wrote.set(wrote.get() + 1);
    place.door.leave();
}

/// `WRITERS` writers write `EVENTS` events each while generation 1 ends.
fn scenario<D: Door, const WRITERS: usize, const EVENTS: u64>() {
    let published = Arc::new(AtomicU64::new(1));
    let place = || Arc::new(Place { door: D::new(), wrote: [Plain::new(0), Plain::new(0)] });
    let places: [_; WRITERS] = std::array::from_fn(|_| place());
    let writers = places.clone().map(|place| {
        let published = Arc::clone(&published);
        thread::spawn(move || (0..EVENTS).for_each(|_| write(&place, &published)))
    });
    published.store(2, Ordering::Release);
    D::barrier();
    for place in &places {
        while !place.door.is_past(2) {
            thread::yield_now();
        }
    }
    // A writer that still writes in generation 1, or whose write is not visible, is a race here.
    let in_the_first = places.each_ref().map(|place| place.wrote[0].get());
    for writer in writers {
        writer.join().unwrap();
    }
    for (place, first) in places.iter().zip(in_the_first) {
        assert!(!place.door.is_inside());
        assert_eq!(first + place.wrote[1].get(), EVENTS, "an event is in one of the two");
    }
}

#[test]
fn nobody_writes_in_a_generation_that_all_were_seen_past() {
    holds(scenario::<Shipped<true, true>, 2, 2>);
}

#[test]
fn a_writer_that_comes_again_and_again_is_seen_past_once_and_for_all() {
    holds(scenario::<Shipped<true, true>, 1, 3>);
}

#[test]
fn the_copied_gate_is_as_good() {
    holds(scenario::<Copied<true>, 1, 2>);
}

#[test]
fn a_writer_without_a_fence_is_caught() {
    is_caught(RACE, scenario::<Shipped<false, true>, 1, 1>);
}

#[test]
fn an_advancer_without_a_barrier_is_caught() {
    is_caught(RACE, scenario::<Shipped<true, false>, 1, 1>);
}

#[test]
fn leaving_without_a_release_is_caught() {
    is_caught(RACE, scenario::<Copied<false>, 1, 1>);
}
