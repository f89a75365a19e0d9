//! Equal stacks have one number, and a chain that is found in the index is whole.

use super::{holds, is_caught};
use crate::protocol::intern::{Interned, intern};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;

const PLACES: usize = 8;

type Table = [AtomicU64; PLACES];

/// `Trie::child`: the node of a frame that was called from `parent`. All of them want the same places.
fn child(table: &Table, parent: usize, frame: u64) -> Option<Interned> {
    intern(table, 1, PLACES, (parent as u64) << 32 | frame)
}

/// `Trie::intern`: the number of a stack, and how many of its nodes are new.
fn stack(table: &Table, frames: [u64; 2]) -> (usize, u32) {
    frames.into_iter().fold((0, 0), |(parent, new), frame| {
        let node = child(table, parent, frame).expect("there is room");
        (node.place, new + u32::from(node.is_new))
    })
}

#[test]
fn threads_that_add_stacks_at_once_agree_on_their_numbers() {
    holds(|| {
        let table = Arc::new(Table::default());
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || (stack(&table, [7, 8]), stack(&table, [7, 9])))
        };
        let (nine, eight) = (stack(&table, [7, 9]), stack(&table, [7, 8]));
        let (others_eight, others_nine) = other.join().unwrap();
        assert_eq!((eight.0, nine.0), (others_eight.0, others_nine.0), "one stack, two numbers");
        let new = [nine, eight, others_eight, others_nine].map(|(_, new)| new);
        assert_eq!(new.iter().sum::<u32>(), 3, "a node was added twice, or by nobody");
    });
}

/// `Trie::add`, if it stored where it found 0.
fn store(table: &Table, word: u64) -> usize {
    let place = (1..PLACES).find(|place| {
        let found = table[*place].load(Ordering::Relaxed);
        if found == 0 {
            table[*place].store(word, Ordering::Relaxed);
        }
        found == 0 || found == word
    });
    place.expect("there is room")
}

#[test]
fn a_plain_store_into_a_free_place_is_caught() {
    is_caught("overwritten", || {
        let table = Arc::new(Table::default());
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || store(&table, 8))
        };
        let (mine, others) = (store(&table, 9), other.join().unwrap());
        let words = [mine, others].map(|place| table[place].load(Ordering::Relaxed));
        assert_eq!(words, [9, 8], "a stack was overwritten by another");
    });
}

/// The await chains: words that a writer takes for itself, and an index of where a chain's words begin, from 1.
#[derive(Default)]
struct Chains {
    used: AtomicU32,
    words: [AtomicU64; 4],
    index: [AtomicU64; 2],
}

impl Chains {
    /// `AwaitChains::remember`, of a chain of two words.
    fn remember(&self, number: u64, publish: Ordering) {
        let at = self.used.fetch_add(2, Ordering::Relaxed);
        for word in &self.words[at as usize..][..2] {
            word.store(number, Ordering::Relaxed);
        }
        let publish = |entry: &AtomicU64| {
            entry.compare_exchange(0, u64::from(at) + 1, publish, Ordering::Relaxed).is_ok()
        };
        assert!(self.index.iter().any(publish), "there is room");
    }

    /// `AwaitChains::find`: the words of each chain that the index has.
    fn find(&self) -> Vec<[u64; 2]> {
        let entries = self.index.iter().map(|entry| entry.load(Ordering::Acquire));
        let places = entries.take_while(|entry| *entry != 0).map(|entry| entry as usize - 1);
        places.map(|at| [0, 1].map(|word| self.words[at + word].load(Ordering::Relaxed))).collect()
    }
}

fn chains(publish: Ordering) {
    let chains = Arc::new(Chains::default());
    let writers = [5, 6].map(|number| {
        let chains = Arc::clone(&chains);
        thread::spawn(move || chains.remember(number, publish))
    });
    for found in chains.find() {
        assert!(found == [5, 5] || found == [6, 6], "half a chain: {found:?}");
    }
    for writer in writers {
        writer.join().unwrap();
    }
    let mut found = chains.find();
    found.sort_unstable();
    assert_eq!(found, [[5, 5], [6, 6]], "a chain is lost");
}

#[test]
fn a_chain_that_is_found_is_whole() {
    holds(|| chains(Ordering::Release));
}

#[test]
fn an_index_entry_that_is_published_without_release_is_caught() {
    is_caught("half a chain", || chains(Ordering::Relaxed));
}
