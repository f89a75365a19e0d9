//! What the kernel says of threads: how long each has run, how long it has waited for a core, and how often it got one.
//! So a reader can tell a thread that computes from one that would like to.
//!
//! The collector reads `/proc/self/task/TID/schedstat` of the threads that have recorded something in the generation that
//! ends, for at most a thousandth of the time since it last did, one thread after the other: where that is not enough for
//! all, the rest comes first the next time. A generation's end lists what was read, as differences to the reading before.

#![forbid(unsafe_code)]

use crate::os::{clock, own_thread};
use crate::record::control::Control;
use crate::record::slot::Slot;
use lookback_snapshot::wire::{Kind, MAX_VARINT, put_varint};
use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// It is not worth to look more often.
const LEAST: Duration = Duration::from_millis(100);
/// Looking takes this part of the time at most, but so many threads are always read, and no more than these.
const SHARE: u32 = 1000;
const FEWEST: usize = 4;
const MOST: usize = 256;

/// How much a thread has run, and when that was read.
#[derive(Clone, Copy)]
struct Reading {
    /// The recorder's number of it.
    thread: u64,
    at: u64,
    ran: u64,
    waited: u64,
    slices: u64,
}

/// What a thread did between two readings, all times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    thread: u64,
    time: u64,
    ran: u64,
    waited: u64,
    slices: u64,
}

impl Ran {
    /// The most bytes of its record.
    pub(crate) const SIZE: usize = 1 + 5 * MAX_VARINT;

    /// Adds its record.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(Kind::ThreadTimes as u8);
        for number in [self.thread, self.time, self.ran, self.waited, self.slices] {
            put_varint(out, number);
        }
    }
}

/// See the module.
pub(crate) struct ThreadTimes {
    looked: Instant,
    /// Which slot comes first the next time.
    next: usize,
    /// For each slot, the last reading of a thread there.
    known: Vec<Option<Reading>>,
}

impl ThreadTimes {
    pub(crate) fn new() -> Self {
        Self { looked: Instant::now(), next: 0, known: Vec::new() }
    }

    /// Reads what is due. Empty if that is nothing.
    pub(crate) fn look(&mut self, control: &Control) -> Vec<Ran> {
        let began = Instant::now();
        let since = began.duration_since(self.looked);
        if since < LEAST {
            return Vec::new();
        }
        self.looked = began;
        let generation = control.generation.load(Ordering::Relaxed);
        let slots: Vec<_> = control.slots().collect();
        if self.known.len() < slots.len() {
            self.known.resize(slots.len(), None);
        }
        let first = if self.next < slots.len() { self.next } else { 0 };
        let (mut found, mut read) = (Vec::new(), 0);
        self.next = 0;
        for (at, slot) in
            slots.iter().enumerate().skip(first).chain(slots.iter().enumerate().take(first))
        {
            if slot.gate.entered() < generation {
                continue;
            }
            if read >= MOST || read >= FEWEST && began.elapsed() > since / SHARE {
                self.next = at;
                break;
            }
            if let Some(now) = reading(slot) {
                read += 1;
                found.extend(self.note(at, now));
            }
        }
        found
    }

    /// What the thread in this slot did since it was last read.
    fn note(&mut self, slot: usize, now: Reading) -> Option<Ran> {
        let before = self.known.get_mut(slot)?.replace(now)?;
        if before.thread != now.thread {
            return None;
        }
        Some(Ran {
            thread: now.thread,
            time: now.at.checked_sub(before.at)?,
            ran: now.ran.checked_sub(before.ran)?,
            waited: now.waited.checked_sub(before.waited)?,
            slices: now.slices.checked_sub(before.slices)?,
        })
    }
}

/// What the kernel says of the slot's thread; `None` for the recorder's own.
fn reading(slot: &Slot) -> Option<Reading> {
    let (thread, os_thread) =
        (slot.thread.load(Ordering::Acquire), slot.os_thread.load(Ordering::Relaxed));
    if thread == 0 || own_thread::is_own(os_thread) {
        return None;
    }
    let said = fs::read_to_string(format!("/proc/self/task/{os_thread}/schedstat")).ok()?;
    let at = clock::monotonic().0;
    let mut numbers = said.split_whitespace().map(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let (ran, waited, slices) = (next()?, next()?, next()?);
    // A kernel that does not count says 0. The slot may have another thread by now.
    let is_of = slices > 0 && slot.thread.load(Ordering::Relaxed) == thread;
    is_of.then_some(Reading { thread, at, ran, waited, slices })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_number_of_threads_each_is_told_from_its_second_reading_on() {
        let mut times = ThreadTimes::new();
        times.known.resize(10_000, None);
        let reading = |thread: u64, round: u64| Reading {
            thread,
            at: 1000 * round,
            ran: 10 * round,
            waited: 3 * round,
            slices: round,
        };
        let mut told = |round| {
            let of = |slot: usize| times.note(slot, reading(slot as u64 + 1, round));
            (0..10_000)
                .filter_map(of)
                .filter(|of| (of.time, of.ran, of.slices) == (1000, 10, 1))
                .count()
        };
        assert_eq!([told(1), told(2), told(3)], [0, 10_000, 10_000]);
        // Another thread takes the slot.
        assert!(times.note(7, reading(20_000, 4)).is_none());
        assert_eq!(times.note(7, reading(20_000, 5)).map(|of| of.thread), Some(20_000));
    }
}
