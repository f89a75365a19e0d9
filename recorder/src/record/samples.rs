//! CPU samples: where threads were when they had used so much more CPU time.
//!
//! The thread itself records its sample, in the handler of a signal: among its own events, so a reader knows the task, the
//! span and the worker. If the signal has interrupted it in the middle of an event, that cannot be: then the sample goes
//! to a ring, and the collector records it, with the thread's number and how long ago it was.
//!
//! # Synchronization
//!
//! The ring is a bounded queue of many writers and one reader (Dmitry Vyukov's). A cell's `lap` says whose turn it is: `2n`,
//! a writer's of the `n`th round, `2n + 1`, the reader's. A writer claims a position by compare-and-swap, fills the cell, and
//! passes it on (release); the reader sees that (acquire), empties the cell, and passes it to the next round (release). A
//! writer that stops in between holds up the reader, which looks again with the next generation, and never another
//! writer: it finds the ring full at most.

use crate::os::clock;
use crate::record::control::control;
use crate::record::emit::is_recording;
use crate::record::stacks;
use crate::record::thread;
use crate::record::writer::{WriteCtx, Writer};
use crate::stack::trie::StackId;
use lookback_snapshot::wire::{Kind, MAX_VARINT, StackSource};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many samples the ring holds, in 40 KiB.
const CELLS: usize = 1024;
/// How often a writer tries, if others are faster.
const TRIES: u32 = 64;

static RING: Ring<CELLS> = Ring::new();
/// Samples that were recorded, and those that found no room, or no thread to belong to.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many samples were recorded, and how many were not because there was no room, since the process began.
pub(crate) fn counts() -> (u64, u64) {
    (TAKEN.load(Ordering::Relaxed), DROPPED.load(Ordering::Relaxed))
}

/// A sample, as it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    thread: u64,
    ticks: u64,
    stack: Option<StackId>,
    source: StackSource,
    weight: u32,
}

impl Sample {
    fn words(self) -> [u64; 4] {
        let stack = self.stack.map_or(0, StackId::number);
        let of_stack = u64::from(stack) << 8 | self.source as u64;
        [self.thread, self.ticks, of_stack, u64::from(self.weight)]
    }

    fn from_words([thread, ticks, of_stack, weight]: [u64; 4]) -> Self {
        let source = StackSource::from_code(of_stack & 0xff).unwrap_or(StackSource::NoAnswer);
        let stack = StackId::from_number((of_stack >> 8) as u32);
        Self { thread, ticks, stack, source, weight: weight as u32 }
    }
}

/// This thread has used CPU time, so many intervals of it, and was here; or why that is not known. For the handler of a
/// signal that no other one interrupts.
pub(crate) fn sampled(taken: Result<StackId, StackSource>, weight: u32) {
    if !is_recording() {
        return;
    }
    let (stack, source) = match taken {
        Ok(stack) => (Some(stack), StackSource::Interrupted),
        Err(why) => (None, why),
    };
    let mut sample = Sample { thread: 0, ticks: 0, stack, source, weight };
    match thread::present_slot() {
        Some(slot) if slot.gate.is_inside() => {
            sample.thread = slot.thread.load(Ordering::Relaxed);
            sample.ticks = clock::now(control().mode());
            // The number is 0 while a thread leaves its slot.
            if sample.thread == 0 || !RING.push(sample.words()) {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
        None if thread::is_between() => _ = DROPPED.fetch_add(1, Ordering::Relaxed),
        _ => {
            if let Some(writer) = Writer::enter() {
                record(writer.inside(), &sample);
            }
        }
    }
}

/// A sample was not taken, since there was no room for the handler to do it.
pub(crate) fn dropped() {
    DROPPED.fetch_add(1, Ordering::Relaxed);
}

/// Records the samples in the ring: for the collector.
pub(crate) fn record_waiting() {
    while let Some(words) = RING.pop() {
        if is_recording()
            && let Some(writer) = Writer::enter()
        {
            record(writer.inside(), &Sample::from_words(words));
        }
    }
}

/// Forgets the samples in the ring, which are of an earlier recording.
pub(crate) fn forget_waiting() {
    while RING.pop().is_some() {}
}

fn record(inside: WriteCtx, sample: &Sample) {
    let id = match sample.stack.map_or(Ok(0), |stack| stacks::id(inside, stack)) {
        Ok(id) => id,
        Err(cause) => return inside.lose(cause),
    };
    let Some((mut cursor, now)) = inside.begin(Kind::CpuSample, 5 * MAX_VARINT) else { return };
    let ago = if sample.thread == 0 { 0 } else { now.saturating_sub(sample.ticks) };
    let numbers = [u64::from(id), sample.source as u64, u64::from(sample.weight), ago];
    cursor.number(sample.thread);
    numbers.into_iter().for_each(|number| cursor.number(number));
    // SAFETY: as large as asked for.
    unsafe { inside.commit(cursor) };
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

struct Cell {
    lap: AtomicU64,
    words: [AtomicU64; 4],
}

/// See the module.
struct Ring<const N: usize> {
    cells: [Cell; N],
    written: AtomicU64,
    read: AtomicU64,
}

impl<const N: usize> Ring<N> {
    const fn new() -> Self {
        let cells =
            [const { Cell { lap: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; 4] } }; N];
        Self { cells, written: AtomicU64::new(0), read: AtomicU64::new(0) }
    }

    /// `false` if it is full.
    fn push(&self, words: [u64; 4]) -> bool {
        for _ in 0..TRIES {
            let at = self.written.load(Ordering::Relaxed);
            let (cell, turn) = (&self.cells[at as usize % N], at / N as u64 * 2);
            let lap = cell.lap.load(Ordering::Acquire);
            if lap < turn {
                return false;
            }
            let order = Ordering::Relaxed;
            if lap == turn && self.written.compare_exchange(at, at + 1, order, order).is_ok() {
                for (place, word) in cell.words.iter().zip(words) {
                    place.store(word, Ordering::Relaxed);
                }
                cell.lap.store(turn + 1, Ordering::Release);
                return true;
            }
        }
        false
    }

    /// The oldest one. One thread at a time calls this.
    fn pop(&self) -> Option<[u64; 4]> {
        let at = self.read.load(Ordering::Relaxed);
        let (cell, turn) = (&self.cells[at as usize % N], at / N as u64 * 2 + 1);
        if cell.lap.load(Ordering::Acquire) != turn {
            return None;
        }
        let words = cell.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        self.read.store(at + 1, Ordering::Relaxed);
        cell.lap.store(turn + 1, Ordering::Release);
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_sample_survives_its_words() {
        for (stack, source) in
            [(StackId::from_number(77), StackSource::Interrupted), (None, StackSource::NoTables)]
        {
            let sample = Sample { thread: 12, ticks: u64::MAX, stack, source, weight: u32::MAX };
            assert_eq!(Sample::from_words(sample.words()), sample);
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_until_it_is_emptied() {
        let ring = Ring::<4>::new();
        for round in 0..5 {
            let taken = (0..10).filter(|i| ring.push([round, *i, 0, 0])).count();
            assert_eq!(taken, 4);
            let read: Vec<_> = std::iter::from_fn(|| ring.pop()).collect();
            assert_eq!(read, [0, 1, 2, 3].map(|i| [round, i, 0, 0]));
        }
    }

    #[test]
    fn what_several_threads_push_at_once_comes_out_once_and_whole() {
        const EACH: u64 = 20_000;
        static IS_OVER: AtomicBool = AtomicBool::new(false);
        let ring = Ring::<8>::new();
        let mut read = Vec::new();
        let pushed: u64 = std::thread::scope(|scope| {
            let push = |of: u64| {
                let ring = &ring;
                move || (0..EACH).filter(|i| ring.push([of, *i, of ^ i, !i])).count() as u64
            };
            let writers = [1, 2, 3].map(|of| scope.spawn(push(of)));
            let reader = scope.spawn(|| {
                let mut read = Vec::new();
                loop {
                    let is_over = IS_OVER.load(Ordering::Acquire);
                    read.extend(std::iter::from_fn(|| ring.pop()));
                    if is_over {
                        return read;
                    }
                }
            });
            let pushed = writers.map(|writer| writer.join().unwrap()).iter().sum();
            IS_OVER.store(true, Ordering::Release);
            read = reader.join().unwrap();
            pushed
        });
        assert_eq!(read.len() as u64, pushed);
        let mut last = [None; 4];
        for [of, i, mixed, not] in read {
            assert_eq!((mixed, not), (of ^ i, !i));
            assert!(last[of as usize].replace(i) < Some(i), "each thread's are in order");
        }
    }
}
