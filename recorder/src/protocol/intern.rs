//! A table of words that are never removed: equal words have the same place, whoever adds them.
//!
//! A word's place is the first one from its hash on that is free or holds the word already. Adding it is one
//! compare-and-swap from 0, so no thread ever sees half a word. Places that hold a word never become free again, so two
//! threads that add the same word at the same time try the same places in the same order: one of them loses, and finds
//! the word there.
//!
//! A word is complete in itself and orders nothing, so all accesses are relaxed. A thread may miss that a place was
//! taken; its compare-and-swap then fails, and says by what.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering};

/// Where a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interned {
    /// From 1: place 0 is never used, so that 0 can stand for none.
    pub(crate) place: usize,
    /// This call has put it there.
    pub(crate) is_new: bool,
}

/// Finds the place of a word that is not 0, or adds it; `None` if that many places from its hash on are taken by others.
/// The number of places is a power of two.
pub(crate) fn intern(
    places: &[AtomicU64],
    hash: u64,
    probes: usize,
    word: u64,
) -> Option<Interned> {
    let mask = places.len() - 1;
    (0..probes.min(places.len()))
        .map(|probe| (hash as usize).wrapping_add(probe) & mask)
        .filter(|place| *place != 0)
        .find_map(|place| {
            let order = Ordering::Relaxed;
            let mut found = places[place].load(order);
            if found == 0 {
                match places[place].compare_exchange(0, word, order, order) {
                    Ok(_) => return Some(Interned { place, is_new: true }),
                    Err(other) => found = other,
                }
            }
            (found == word).then_some(Interned { place, is_new: false })
        })
}
