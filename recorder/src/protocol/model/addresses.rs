//! What is listed of an object is of one object, though its place changes hands meanwhile; and two threads that add and
//! remove objects keep out of each other's way.

use super::{holds, is_caught};
use crate::protocol::address_table::{About, AddressTable, Bucket, WORDS};
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

const OBJECT: u64 = 0x1000;
const OTHER: u64 = 0x2000;

#[derive(Default)]
struct Memory {
    buckets: [Bucket; 1],
    about: [About; 8],
    spread: AtomicU64,
}

impl Memory {
    fn table(&self) -> AddressTable<'_> {
        AddressTable { buckets: &self.buckets, about: &self.about, spread: &self.spread }
    }
}

#[test]
fn what_is_listed_is_of_one_object() {
    holds(|| {
        let memory = Arc::new(Memory::default());
        let lister = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                if let Some(words) = memory.table().at(0) {
                    let is_one = words.iter().all(|word| *word == words[0]);
                    assert!(is_one, "of two objects: {words:?}");
                }
            })
        };
        let table = memory.table();
        assert!(table.add(OBJECT, [1; WORDS]));
        assert!(table.remove(OBJECT));
        assert!(table.add(OBJECT, [2; WORDS]));
        lister.join().unwrap();
        assert_eq!(memory.table().at(0), Some([2; WORDS]));
    });
}

#[test]
fn threads_that_add_and_remove_find_their_own() {
    holds(|| {
        let memory = Arc::new(Memory::default());
        let other = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                assert!(memory.table().add(OTHER, [7; WORDS]));
                assert_eq!(memory.table().get(OTHER), Some([7; WORDS]));
            })
        };
        let table = memory.table();
        assert!(table.add(OBJECT, [1; WORDS]));
        assert_eq!(table.get(OBJECT), Some([1; WORDS]));
        assert!(table.remove(OBJECT) && table.get(OBJECT).is_none());
        other.join().unwrap();
        assert_eq!(table.get(OTHER), Some([7; WORDS]));
    });
}

/// One place of the table, with or without its turn.
#[derive(Default)]
struct Place {
    turn: AtomicU64,
    key: AtomicU64,
    words: [AtomicU64; 2],
}

impl Place {
    /// `AddressTable::add`, by a thread that has claimed the key, without a step of the turn.
    fn put(&self, word: u64) {
        fence(Ordering::Release);
        self.words.iter().for_each(|to| to.store(word, Ordering::Relaxed));
        self.key.store(OBJECT, Ordering::Release);
    }

    /// `AddressTable::at`.
    fn at(&self) -> Option<[u64; 2]> {
        let turn = self.turn.load(Ordering::Acquire);
        let key = self.key.load(Ordering::Acquire);
        let words = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_same = self.turn.load(Ordering::Relaxed) == turn
            && self.key.load(Ordering::Relaxed) == key
            && key == OBJECT;
        is_same.then_some(words)
    }
}

#[test]
fn an_address_that_comes_back_without_a_turn_is_caught() {
    is_caught("of two objects", || {
        let place = Arc::new(Place::default());
        let other = {
            let place = Arc::clone(&place);
            thread::spawn(move || {
                place.put(1);
                place.key.store(0, Ordering::Release);
                place.put(2);
            })
        };
        if let Some(words) = place.at() {
            assert!(words[0] == words[1], "of two objects: {words:?}");
        }
        other.join().unwrap();
    });
}
