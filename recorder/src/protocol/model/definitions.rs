//! Every counted event finds its definition: readers read the ends of all events first, then
//! everything else.

use super::{holds, is_caught};
use crate::sync::{AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;

/// Two blocks of one generation, and a site's cache. A block holds one record.
#[derive(Default)]
struct Scene {
    blocks: [Block; 2],
    cache: AtomicU64,
}

#[derive(Default)]
struct Block {
    /// A definition of this id, or an event that refers to it.
    record: AtomicU64,
    /// The number of readable records.
    committed: AtomicU64,
}

const ID: u64 = 7;

impl Block {
    /// `Writer::append`.
    fn append(&self, record: u64) {
        self.record.store(record, Ordering::Relaxed);
        self.committed.store(1, Ordering::Release);
    }

    fn first_reading(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// The block's record, if it is readable.
    fn second_reading(&self) -> Option<u64> {
        let readable = self.committed.load(Ordering::Acquire) != 0;
        readable.then(|| self.record.load(Ordering::Relaxed))
    }
}

/// `Site::define`.
fn define(scene: &Scene) {
    scene.blocks[0].append(ID);
    scene.cache.fetch_max(ID, Ordering::AcqRel);
}

fn define_too_early(scene: &Scene) {
    scene.cache.fetch_max(ID, Ordering::AcqRel);
    scene.blocks[0].append(ID);
}

/// `Site::cached`, and an event in another block.
fn refer(scene: &Scene) {
    let id = scene.cache.load(Ordering::Acquire);
    if id != 0 {
        scene.blocks[1].append(id);
    }
}

/// `Cut::make` and the reading after it: whether the event counts, and the definition if it was
/// found.
fn two_readings(scene: &Scene) -> (bool, Option<u64>) {
    let ends = scene.blocks.each_ref().map(Block::first_reading);
    let found = scene.blocks.each_ref().map(Block::second_reading);
    (ends[1] != 0, found[0])
}

fn one_reading(scene: &Scene) -> (bool, Option<u64>) {
    let found = scene.blocks.each_ref().map(Block::second_reading);
    (found[1].is_some(), found[0])
}

fn scenario(define: fn(&Scene), read: fn(&Scene) -> (bool, Option<u64>)) {
    let scene = Arc::new(Scene::default());
    let reader = {
        let scene = Arc::clone(&scene);
        thread::spawn(move || {
            let (counts, definition) = read(&scene);
            assert!(!counts || definition == Some(ID), "an event without its definition");
        })
    };
    let referrer = {
        let scene = Arc::clone(&scene);
        thread::spawn(move || refer(&scene))
    };
    define(&scene);
    referrer.join().unwrap();
    reader.join().unwrap();
}

#[test]
fn every_event_of_the_first_reading_finds_its_definition_in_the_second() {
    holds(|| scenario(define, two_readings));
}

#[test]
fn a_single_reading_is_caught() {
    is_caught("an event without", || scenario(define, one_reading));
}

#[test]
fn an_id_that_is_published_before_its_definition_is_caught() {
    is_caught("an event without", || scenario(define_too_early, two_readings));
}
