//! A set of addresses, each with a few words about it, of objects that some thread owns: whoever owns an object adds its
//! address, and whoever owns it later removes it. Anyone may list them meanwhile.
//!
//! An address has its place in one of a few neighbouring buckets, each a cache line of keys. Adding is one
//! compare-and-swap of a key from 0, removing one store of 0. There are no tombstones, because a search always looks at
//! as many buckets as any address has ever needed: one, until a bucket was full.
//!
//! # Synchronization
//!
//! *Two threads never add or remove the same address at the same time*: it belongs to one object, and who frees the
//! object does so after it was allocated, by whatever orders the program itself has for that. So a search by the owner
//! finds the key, and needs no order of its own. It finds the number of buckets for the same reason: the number only
//! grows, and did so before the key was stored.
//!
//! *Listing* races with both. Each place counts the addresses that it has held (`turn`). Adding claims the key with
//! `BUSY`, steps the turn, writes the words behind a release fence, and stores the key (release). A lister reads the turn,
//! the key (acquire) and the words, and, behind an acquire fence, turn and key again. If it has read a word of a later
//! address, then it sees that turn, and drops what it read: a seqlock (Hans Boehm, "Can seqlocks get along with programming
//! language memory models?", 2012).

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering, fence};

/// Keys in a bucket: a cache line.
pub(crate) const BUCKET: usize = 8;
/// In so many buckets an address is looked for.
const BUCKETS_TRIED: usize = 4;
/// What is known of an address.
pub(crate) const WORDS: usize = 3;
/// The key of a place whose words are being written; no object has this address.
const BUSY: u64 = 1;

/// Keys of one cache line.
#[repr(align(64))]
#[derive(Default)]
pub(crate) struct Bucket([AtomicU64; BUCKET]);

/// What belongs to a key.
#[derive(Default)]
pub(crate) struct About {
    turn: AtomicU64,
    words: [AtomicU64; WORDS],
}

#[cfg(not(loom))]
impl Bucket {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKET])
    }
}

#[cfg(not(loom))]
impl About {
    pub(crate) const fn new() -> Self {
        Self { turn: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; WORDS] }
    }
}

/// See the module. The number of buckets is a power of two, and there are as many `about` as keys.
#[derive(Clone, Copy)]
pub(crate) struct AddressTable<'a> {
    pub(crate) buckets: &'a [Bucket],
    pub(crate) about: &'a [About],
    /// In how many buckets more than the first one an address has ever been added.
    pub(crate) spread: &'a AtomicU64,
}

impl AddressTable<'_> {
    /// Adds an address that is not there. `false` if there is no room near its place.
    pub(crate) fn add(&self, address: u64, words: [u64; WORDS]) -> bool {
        let free = |place: &usize| {
            let order = Ordering::Relaxed;
            self.key(*place).load(order) == 0
                && self.key(*place).compare_exchange(0, BUSY, Ordering::Acquire, order).is_ok()
        };
        let mut places = self.places(address, BUCKETS_TRIED).enumerate();
        let Some((tried, place)) = places.find(|(_, place)| free(place)) else { return false };
        let spread = (tried / BUCKET) as u64;
        if spread > self.spread.load(Ordering::Relaxed) {
            self.spread.fetch_max(spread, Ordering::Relaxed);
        }
        let about = &self.about[place];
        let turn = about.turn.load(Ordering::Relaxed);
        about.turn.store(turn + 1, Ordering::Release);
        fence(Ordering::Release);
        for (to, word) in about.words.iter().zip(words) {
            to.store(word, Ordering::Relaxed);
        }
        self.key(place).store(address, Ordering::Release);
        true
    }

    /// What is known of an address; `None` if it is not there.
    pub(crate) fn get(&self, address: u64) -> Option<[u64; WORDS]> {
        let about = &self.about[self.place_of(address)?];
        Some(about.words.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }

    /// Removes an address. `false` if it is not there.
    pub(crate) fn remove(&self, address: u64) -> bool {
        let place = self.place_of(address);
        // The next to claim the place writes after this.
        place.map(|place| self.key(place).store(0, Ordering::Release)).is_some()
    }

    /// What is known of the address in a place, if there is one and it stays there meanwhile.
    pub(crate) fn at(&self, place: usize) -> Option<[u64; WORDS]> {
        let about = &self.about[place];
        let turn = about.turn.load(Ordering::Acquire);
        let key = self.key(place).load(Ordering::Acquire);
        if key <= BUSY {
            return None;
        }
        let words = about.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_same = about.turn.load(Ordering::Relaxed) == turn
            && self.key(place).load(Ordering::Relaxed) == key;
        is_same.then_some(words)
    }

    /// How many places there are.
    pub(crate) fn len(&self) -> usize {
        self.about.len()
    }

    fn place_of(&self, address: u64) -> Option<usize> {
        let buckets = self.spread.load(Ordering::Relaxed) as usize + 1;
        let is_it = |place: &usize| self.key(*place).load(Ordering::Relaxed) == address;
        self.places(address, buckets).find(is_it)
    }

    fn key(&self, place: usize) -> &AtomicU64 {
        &self.buckets[place / BUCKET].0[place % BUCKET]
    }

    /// Where an address may be, within so many buckets.
    fn places(&self, address: u64, buckets: usize) -> impl Iterator<Item = usize> + use<> {
        let mask = self.buckets.len() - 1;
        // Sampled objects are page-aligned: the low bits say nothing. The multiplier is 2^64 / φ (Knuth, 6.4).
        let first = (address >> 12 ^ address >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (0..buckets.min(mask + 1))
            .map(move |next| (first as usize).wrapping_add(next) & mask)
            .flat_map(|bucket| (0..BUCKET).map(move |at| bucket * BUCKET + at))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_until_it_is_removed_and_a_full_table_takes_no_more() {
        let buckets: Vec<_> = (0..64).map(|_| Bucket::new()).collect();
        let about: Vec<_> = (0..64 * BUCKET).map(|_| About::new()).collect();
        let spread = AtomicU64::new(0);
        let table = AddressTable { buckets: &buckets, about: &about, spread: &spread };
        assert!(table.add(4096, [0; WORDS]) && table.remove(4096));
        assert_eq!(spread.load(Ordering::Relaxed), 0);
        for round in 0..3 {
            let of = |i: u64| (0x7f00_0000_0000 + (i << 12), [i, i + round, round]);
            let added: Vec<_> =
                (0..2000).map(of).filter(|(address, words)| table.add(*address, *words)).collect();
            assert!(added.len() > 64 * BUCKET * 9 / 10, "{}", added.len());
            assert!(added.len() <= 64 * BUCKET);
            let mut listed: Vec<_> = (0..table.len()).filter_map(|at| table.at(at)).collect();
            listed.sort_unstable();
            assert!(listed.iter().eq(added.iter().map(|(_, words)| words)));
            for (address, words) in &added {
                assert_eq!(table.get(*address), Some(*words));
                assert!(table.remove(*address));
                assert!(!table.remove(*address) && table.get(*address).is_none());
            }
            assert!((0..table.len()).all(|at| table.at(at).is_none()));
        }
    }
}
