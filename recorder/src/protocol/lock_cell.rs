//! A few words about a lock that belong together: any thread writes them, if no other one just does, and any thread reads
//! them. `lock/` keeps in such cells who waits for a lock, and who holds one that others wait for.
//!
//! # Synchronization
//!
//! A seqlock with many writers (Hans Boehm, "Can seqlocks get along with programming language memory models?", 2012). `turn`
//! is odd while the cell is being written. A writer makes it odd by compare-and-swap (acquire, so that it comes after the
//! writer before), stores the words behind a release fence, and makes it even (release). A reader loads the turn (acquire),
//! which pairs with that release; then the words; and, behind an acquire fence, the turn again. If it has read a word of a
//! later writer, then that fence pairs with the writer's release fence, and the second turn differs: what was read is dropped.
//!
//! Nobody waits: a writer that finds the cell being written gives up, and so does a reader.
//!
//! The first word is the key. A cell with key 0 is free. *Claiming* a free cell is a write that begins only from a turn at
//! which the key was 0; the claimant owns the cell until it clears the key, and nobody else writes to it meanwhile. Unless the cell
//! is reset, as in a forked child: then its turn is another one, and the claimant leaves it alone.

#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Ordering, fence};

/// See the module.
#[derive(Debug)]
pub(crate) struct LockCell<const N: usize> {
    turn: AtomicU64,
    words: [AtomicU64; N],
}

/// That a cell was claimed, at this turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    turn: u64,
}

impl<const N: usize> LockCell<N> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self { turn: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; N] }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self { turn: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// The key as it was at some time, 0 if the cell was free.
    pub(crate) fn key(&self) -> u64 {
        self.words[0].load(Ordering::Relaxed)
    }

    /// Takes the cell if it is free, and fills it. `None` if it is not free, or another thread is writing.
    pub(crate) fn claim(&self, words: [u64; N]) -> Option<Claim> {
        let turn = self.turn.load(Ordering::Acquire);
        let is_mine = turn.is_multiple_of(2) && self.key() == 0 && self.write_from(turn, words);
        is_mine.then_some(Claim { turn: turn + 2 })
    }

    /// Fills the cell, whatever is in it. `false` if another thread is writing.
    pub(crate) fn write(&self, words: [u64; N]) -> bool {
        let turn = self.turn.load(Ordering::Relaxed);
        turn.is_multiple_of(2) && self.write_from(turn, words)
    }

    /// Frees the cell that was claimed so, unless it has been reset since.
    pub(crate) fn clear(&self, claim: Claim) {
        let (turn, order) = (claim.turn, Ordering::Relaxed);
        if self.turn.compare_exchange(turn, turn + 1, Ordering::Acquire, order).is_ok() {
            self.clear_from(turn);
        }
    }

    /// The turn is odd already: the one after this.
    fn clear_from(&self, turn: u64) {
        fence(Ordering::Release);
        self.words[0].store(0, Ordering::Relaxed);
        self.turn.store(turn + 2, Ordering::Release);
    }

    /// Frees the cell, whoever has claimed it: nobody uses it any more.
    pub(crate) fn reset(&self) {
        let turn = self.turn.load(Ordering::Relaxed).next_multiple_of(2);
        self.turn.store(turn + 1, Ordering::Relaxed);
        self.clear_from(turn);
    }

    /// The words; `None` if the cell is free, or was written meanwhile.
    pub(crate) fn read(&self) -> Option<[u64; N]> {
        let turn = self.turn.load(Ordering::Acquire);
        if !turn.is_multiple_of(2) {
            return None;
        }
        let words = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        (self.turn.load(Ordering::Relaxed) == turn && words[0] != 0).then_some(words)
    }

    fn write_from(&self, turn: u64, words: [u64; N]) -> bool {
        let (to, order) = (turn + 1, Ordering::Relaxed);
        if self.turn.compare_exchange(turn, to, Ordering::Acquire, order).is_err() {
            return false;
        }
        fence(Ordering::Release);
        for (place, word) in self.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.turn.store(turn + 2, Ordering::Release);
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_cell_is_claimed_once_and_free_again_after_it_was_cleared() {
        let cell = LockCell::<2>::new();
        assert_eq!(cell.read(), None);
        let claim = cell.claim([7, 70]).unwrap();
        assert!(cell.claim([8, 80]).is_none());
        assert_eq!((cell.read(), cell.key()), (Some([7, 70]), 7));
        cell.clear(claim);
        assert_eq!(cell.read(), None);
        assert!(cell.write([9, 90]));
        assert_eq!(cell.read(), Some([9, 90]));
        cell.reset();
        assert!(cell.claim([5, 50]).is_some() && cell.read() == Some([5, 50]));
    }

    #[test]
    fn a_claim_from_before_a_reset_clears_nothing() {
        let cell = LockCell::<2>::new();
        let outlived = cell.claim([7, 70]).unwrap();
        cell.reset();
        cell.clear(outlived);
        let claim = cell.claim([8, 80]).unwrap();
        cell.clear(outlived);
        assert_eq!(cell.read(), Some([8, 80]));
        cell.clear(claim);
        assert_eq!(cell.read(), None);
    }

    #[test]
    fn what_several_threads_write_at_once_is_read_whole() {
        let (cell, is_over) = (LockCell::<3>::new(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let writers = [1_u64, 2, 3].map(|of| {
                let cell = &cell;
                scope.spawn(move || {
                    for round in 0..100_000 {
                        let key = of << 32 | round;
                        let claim = (of == 1).then(|| cell.claim([key, !key, key ^ 5])).flatten();
                        if let Some(claim) = claim {
                            cell.clear(claim);
                        } else if of != 1 && cell.key() >> 32 != 1 {
                            // Like those who say who holds a lock: whatever is there.
                            cell.write([key, !key, key ^ 5]);
                        }
                    }
                })
            });
            let reader = scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    if let Some([key, not, mixed]) = cell.read() {
                        assert_eq!((not, mixed), (!key, key ^ 5));
                    }
                }
            });
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            is_over.store(true, Ordering::Release);
            reader.join().unwrap();
        });
    }
}
