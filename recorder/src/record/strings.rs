//! The table of dynamic strings, through which a text that recurs in a generation is written once.
//!
//! A text gets an id when it occurs for the second time in a generation; the first occurrence is
//! written inline, so texts that never recur, such as request ids, cost no definition. The table
//! has a fixed size and identifies texts by a 64-bit hash under a random key. Threads never wait
//! for it: a thread that finds an entry busy, or none free, writes the text inline.
//!
//! # Synchronization
//!
//! An entry is a seqlock of one word. `meta` holds generation and id; a thread that claims the
//! entry swaps `meta` to [`BUSY`] before it changes `hash`. A reader loads `meta`, `hash`, and
//! `meta` again. An id is stored (release) after its definition was committed.

#![forbid(unsafe_code)]

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// How many texts the table can hold.
const ENTRIES: usize = 4096;
/// How many entries a text may use.
const PROBES: usize = 4;
/// Texts of other lengths are always inline: a reference would save nothing, or hashing would cost
/// more than it saves.
const LENGTHS: std::ops::RangeInclusive<usize> = 4..=256;

const BUSY: u64 = u64::MAX;
const ID_BITS: u32 = 24;

/// See the module. All zeroes are an empty table.
pub struct StringTable {
    entries: [Entry; ENTRIES],
    unshared: [Unshared; SHARES],
}

/// A share of the count of texts that found no free entry; threads use different shares. Two
/// increments of one share at the same time count as one.
#[repr(align(64))]
struct Unshared(AtomicU64);

const SHARES: usize = 16;

struct Entry {
    /// Generation and id; an id of 0: the text occurred once.
    meta: AtomicU64,
    hash: AtomicU64,
}

/// The result of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The text has this id.
    Id(u32),
    /// Define the text, and publish its id.
    Define(Claim),
    /// Write the text inline.
    Inline,
}

/// An entry that was claimed for a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    index: usize,
}

/// The hash of a text, computed before entering the gate. 0 for a text that is always inline.
pub(crate) fn hash(text: &str) -> u64 {
    static KEY: LazyLock<(u64, u64)> = LazyLock::new(|| {
        let state = RandomState::new();
        (state.hash_one(1), state.hash_one(2))
    });
    if !LENGTHS.contains(&text.len()) {
        return 0;
    }
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    // Multiply and fold, as in wyhash (https://github.com/wangyi-fudan/wyhash).
    let mut hash = KEY.0;
    let bytes = text.as_bytes();
    let mut rest = bytes;
    while let Some((chunk, behind)) = rest.split_first_chunk::<8>()
        && !behind.is_empty()
    {
        hash = fold(hash ^ u64::from_le_bytes(*chunk), KEY.1 | 1);
        rest = behind;
    }
    // The rest, up to eight bytes, is read together with some bytes before it; the length says
    // which. The length gets a step of its own: combined with the bytes, its bits could cancel
    // theirs out.
    let last = match (bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(last), ..) => u64::from_le_bytes(*last),
        (None, Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => 0,
    };
    hash = fold(hash ^ last, KEY.1 ^ 0x9e37_79b9_7f4a_7c15);
    fold(hash, KEY.0 ^ bytes.len() as u64) | 1
}

impl StringTable {
    /// Looks up the text with this hash in `generation`, inside the gate.
    pub(crate) fn look_up(&self, hash: u64, generation: u64) -> Lookup {
        if hash == 0 {
            return Lookup::Inline;
        }
        let stamp = generation << ID_BITS;
        let mut free = None;
        for probe in 0..PROBES {
            let index = (hash as usize >> 8).wrapping_add(probe) % ENTRIES;
            let entry = &self.entries[index];
            let meta = entry.meta.load(Ordering::Acquire);
            if meta == BUSY {
                // Perhaps this very text keeps it busy.
                return Lookup::Inline;
            }
            if meta >> ID_BITS != generation {
                // Take only an entry of an older generation: a straggler must not take newer ones.
                if meta < stamp && free.is_none() {
                    free = Some((entry, meta));
                }
                continue;
            }
            let found = entry.hash.load(Ordering::Relaxed) == hash;
            fence(Ordering::Acquire);
            if !found || entry.meta.load(Ordering::Relaxed) != meta {
                continue;
            }
            let id = (meta & ((1 << ID_BITS) - 1)) as u32;
            if id != 0 {
                return Lookup::Id(id);
            }
            let claimed =
                entry.meta.compare_exchange(meta, BUSY, Ordering::Acquire, Ordering::Relaxed);
            return match claimed {
                Ok(_) => Lookup::Define(Claim { index }),
                Err(_) => Lookup::Inline,
            };
        }
        if free.is_none() {
            self.count_unshared(hash);
        }
        if let Some((entry, meta)) = free
            && entry.meta.compare_exchange(meta, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            fence(Ordering::Release);
            entry.hash.store(hash, Ordering::Relaxed);
            entry.meta.store(stamp, Ordering::Release);
        }
        Lookup::Inline
    }

    #[cold]
    fn count_unshared(&self, hash: u64) {
        let count = &self.unshared[hash as usize % SHARES].0;
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// A lower bound on the number of texts that were written inline because no entry was free.
    pub(crate) fn unshared(&self) -> u64 {
        let counts = self.unshared.iter().map(|count| count.0.load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
    }

    /// Publishes the id of a claimed text after its definition was committed; 0 if there is none.
    pub(crate) fn publish(&self, claim: Claim, generation: u64, id: u32) {
        self.entries[claim.index]
            .meta
            .store(generation << ID_BITS | u64::from(id), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Box<StringTable> {
        let empty = || Entry { meta: AtomicU64::new(0), hash: AtomicU64::new(0) };
        let none = |_| Unshared(AtomicU64::new(0));
        let (entries, unshared) = (std::array::from_fn(|_| empty()), std::array::from_fn(none));
        Box::new(StringTable { entries, unshared })
    }

    #[test]
    fn a_text_is_defined_when_it_recurs_and_referred_to_afterwards() {
        let table = table();
        let text = hash("GET /items");
        assert_eq!(table.look_up(text, 7), Lookup::Inline);
        let Lookup::Define(claim) = table.look_up(text, 7) else { panic!("not seen to recur") };
        assert_eq!(table.look_up(text, 7), Lookup::Inline, "busy: threads do not wait");
        table.publish(claim, 7, 42);
        assert_eq!(table.look_up(text, 7), Lookup::Id(42));
        assert_eq!(table.look_up(text, 8), Lookup::Inline, "ids are those of one generation");
        assert_eq!(table.look_up(text, 7), Lookup::Inline, "a straggler finds its own gone");
        assert!(matches!(table.look_up(text, 8), Lookup::Define(_)), "and takes no newer one");
    }

    #[test]
    fn a_table_full_of_this_generation_still_answers() {
        let table = table();
        for number in 0..100_000 {
            let text = hash(&format!("text {number}"));
            assert_eq!(table.look_up(text, 1), Lookup::Inline);
        }
        // The other texts found no free entry.
        let most = 100_000 - ENTRIES as u64 / 2;
        assert!((100_000 - ENTRIES as u64..most).contains(&table.unshared()));
        let full = table.unshared();
        assert_eq!(table.look_up(hash("a text of the next"), 2), Lookup::Inline);
        assert_eq!(table.unshared(), full, "a generation finds the entries of the one before free");
    }

    #[test]
    fn short_and_long_texts_are_written_out() {
        assert_eq!(hash("abc"), 0);
        assert_eq!(hash(&"x".repeat(257)), 0);
        assert_ne!(hash("abcd"), hash("abce"));
    }

    #[test]
    fn every_byte_of_a_text_counts_and_its_length() {
        for length in 4..=64 {
            let text = "x".repeat(length);
            let mut known = vec![hash(&text), hash(&text[1..])];
            for place in 0..length {
                let mut other = text.clone();
                other.replace_range(place..=place, "y");
                known.push(hash(&other));
            }
            known.sort_unstable();
            known.dedup();
            assert_eq!(known.len(), length + 2, "{length}");
        }
    }
}
