//! A silent slot's note is the state that its owner left before the generation, or it is dropped.

use super::{holds, is_caught};
use crate::protocol::gate::Gate;
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

/// A slot: its gate, and a state of two words that belong together. `truth` is hidden from loom:
/// the generations that the owner was in, and those in which it stated itself.
struct Slot {
    gate: Gate,
    depth: AtomicU64,
    region: AtomicU64,
    truth: std::sync::Mutex<(Vec<u64>, Vec<u64>)>,
}

/// What the owner does each time it is inside.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    /// States itself, as it should.
    States,
    /// Finds the arena full in generation 2.
    FailsOnce,
    /// Changes its state before it adopts the generation: a mistake.
    ChangesFirst,
}

/// How the advancer notes: as `generation/advance` does, or with a mistake.
#[derive(Clone, Copy, PartialEq)]
enum Notes {
    Well,
    WithoutTheFence,
    WithoutTheSecondLook,
}

fn write(slot: &Slot, published: &AtomicU64, does: Does) {
    let generation = slot.gate.enter(published, || true);
    if does == Does::ChangesFirst {
        open_region(slot);
    }
    if slot.gate.adopted() != generation {
        slot.gate.adopt(generation);
        slot.truth.lock().unwrap().0.push(generation);
        if does != Does::FailsOnce || generation != 2 {
            slot.gate.note_stated();
            slot.truth.lock().unwrap().1.push(generation);
        }
    }
    if does != Does::ChangesFirst {
        open_region(slot);
    }
    slot.gate.leave();
}

fn open_region(slot: &Slot) {
    let depth = slot.depth.load(Ordering::Relaxed) + 1;
    slot.region.store(depth * 10, Ordering::Relaxed);
    slot.depth.store(depth, Ordering::Relaxed);
}

/// `Silent::note_all`, for one slot.
fn note(slot: &Slot, generation: u64, notes: Notes) -> Option<(u64, u64)> {
    if slot.gate.entered() >= generation {
        return None;
    }
    let depth = slot.depth.load(Ordering::Relaxed);
    let region = slot.region.load(Ordering::Relaxed);
    if notes != Notes::WithoutTheFence {
        fence(Ordering::Acquire);
    }
    if notes != Notes::WithoutTheSecondLook && slot.gate.entered() >= generation {
        return None;
    }
    Some((depth, region))
}

/// The owner was in generation `last` and has opened one region. Generation 2 is published; the
/// owner enters `times` times while 2 ends and 3 begins.
fn scenario(does: Does, notes: Notes, last: u64, times: usize) {
    let published = Arc::new(AtomicU64::new(last));
    let slot = Arc::new(Slot {
        gate: Gate::new(),
        depth: AtomicU64::new(0),
        region: AtomicU64::new(0),
        truth: std::sync::Mutex::default(),
    });
    write(&slot, &published, Does::States);
    published.store(2, Ordering::Release);
    let advancer = {
        let (slot, published) = (Arc::clone(&slot), Arc::clone(&published));
        thread::spawn(move || advance(&slot, &published, notes))
    };
    (0..times).for_each(|_| write(&slot, &published, does));
    advancer.join().unwrap();
}

/// `Advancer::end`, from generation 2 to 3.
fn advance(slot: &Slot, published: &AtomicU64, notes: Notes) {
    let noted = note(slot, 2, notes);
    published.store(3, Ordering::Release);
    fence(Ordering::SeqCst);
    while !slot.gate.is_past(3) {
        thread::yield_now();
    }
    let (was_in, was_stated) = (slot.gate.was_in(2), slot.gate.was_stated_in(2));
    let (entered, stated) = slot.truth.lock().unwrap().clone();
    assert_eq!(was_in, entered.contains(&2), "was in 2");
    assert_eq!(was_stated, stated.contains(&2), "stated itself in 2");
    assert!(was_in || noted.is_some(), "no thread states the slot");
    if let Some(noted) = noted {
        assert_eq!(noted, (1, 10), "a note of what the owner did later");
    }
}

#[test]
fn a_note_is_of_the_state_before_the_generation() {
    holds(|| scenario(Does::States, Notes::Well, 1, 2));
}

#[test]
fn a_note_is_so_even_if_the_owner_cannot_state_itself() {
    holds(|| scenario(Does::FailsOnce, Notes::Well, 1, 2));
}

#[test]
fn an_owner_that_goes_on_is_known_to_have_been_there() {
    holds(|| scenario(Does::States, Notes::Well, 2, 2));
}

#[test]
fn a_change_before_the_generation_is_adopted_is_caught() {
    is_caught("a note of", || scenario(Does::ChangesFirst, Notes::Well, 1, 1));
}

#[test]
fn a_note_without_the_fence_is_caught() {
    is_caught("a note of", || scenario(Does::States, Notes::WithoutTheFence, 1, 1));
}

#[test]
fn a_note_without_a_second_look_is_caught() {
    is_caught("a note of", || scenario(Does::States, Notes::WithoutTheSecondLook, 1, 1));
}
