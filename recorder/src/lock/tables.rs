//! The waits that go on, which the recorder's own thread reads; and the holders of the locks that are
//! waited for. Both are fixed tables of [`LockCell`]s. A wait for which there is no cell is recorded when it ends, like any
//! other, but not listed while it goes on. Of two locks that fall on the same cells, each may be without its holder.

use super::waiting::{HeldBy, LockKind};
use super::words::{LockWords, Who};
use crate::protocol::lock_cell::{Claim, LockCell};
use crate::record::site_registry::mix;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many waits are listed at most, in 56 KiB.
const WAITS: usize = 1024;
/// In so many cells a wait looks for a free one.
const TRIED: usize = 64;
/// So many locks have their holder listed, in 48 KiB.
const HOLDERS: usize = 1024;
/// In so many cells a lock may be.
const WAYS: usize = 4;

static WAITING: [LockCell<6>; WAITS] = [const { LockCell::new() }; WAITS];
static HOLDING: [LockCell<5>; HOLDERS] = [const { LockCell::new() }; HOLDERS];
/// Where the next wait begins to look for a cell.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Waits that were not listed.
static UNLISTED: AtomicU64 = AtomicU64::new(0);

/// Marks a time of which it is only known that the holder held the lock already.
const AT_LEAST: u64 = 1 << 63;
/// Marks one whose holder is a task that nobody polled.
const ACROSS_AWAIT: u64 = 1 << 62;
/// Marks one whose holder has released the lock, and is only the last one.
const RELEASED: u64 = 1 << 61;

/// A wait that goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) lock: u64,
    pub(crate) kind: LockKind,
    pub(crate) who: Who,
    pub(crate) task: u64,
    pub(crate) place: &'static Location<'static>,
    /// In nanoseconds of the monotonic clock.
    pub(crate) since: u64,
}

/// A number that only says whether two locks are one: addresses do not leave the process.
pub(crate) fn number(words: &LockWords) -> u64 {
    static KEY: AtomicU64 = AtomicU64::new(0);
    let mut key = KEY.load(Ordering::Relaxed);
    if key == 0 {
        let new = RandomState::new().hash_one(0_u8) | 1;
        let found = KEY.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
        key = found.err().unwrap_or(new);
    }
    (mix(std::ptr::from_ref(words) as u64 ^ key) >> 32).max(1)
}

/// A recording begins. In a process that was forked, the waits are those of its parent's threads.
pub(crate) fn begin() {
    static PROCESS: AtomicU64 = AtomicU64::new(0);
    let process = u64::from(std::process::id());
    let before = PROCESS.swap(process, Ordering::Relaxed);
    if before != 0 && before != process {
        WAITING.iter().for_each(LockCell::reset);
        HOLDING.iter().for_each(LockCell::reset);
    }
}

/// A wait that is listed.
#[derive(Debug)]
pub(crate) struct Listed {
    cell: &'static LockCell<6>,
    claim: Claim,
}

impl Listed {
    /// It is over. In a forked child, it may have been taken off the list before.
    pub(crate) fn over(self) {
        self.cell.clear(self.claim);
    }
}

/// Lists a wait, if there is room.
pub(crate) fn list(wait: &Wait) -> Option<Listed> {
    let words = [
        wait.lock,
        wait.kind as u64,
        wait.who.code(),
        wait.task,
        std::ptr::from_ref(wait.place).expose_provenance() as u64,
        wait.since,
    ];
    let first = NEXT.fetch_add(1, Ordering::Relaxed) as usize;
    let mut cells = (0..TRIED).map(|at| &WAITING[(first + at) % WAITS]);
    let found = cells.find_map(|cell| {
        let claim = (cell.key() == 0).then(|| cell.claim(words)).flatten()?;
        Some(Listed { cell, claim })
    });
    if found.is_none() {
        UNLISTED.fetch_add(1, Ordering::Relaxed);
    }
    found
}

/// How many waits were not listed, since the process began.
pub(crate) fn unlisted() -> u64 {
    UNLISTED.load(Ordering::Relaxed)
}

/// All waits that go on.
pub(crate) fn waits() -> impl Iterator<Item = Wait> {
    WAITING.iter().filter(|cell| cell.key() != 0).filter_map(LockCell::read).filter_map(
        |[lock, kind, who, task, place, since]| {
            Some(Wait {
                lock,
                kind: LockKind::from_code(kind)?,
                who: Who::from_code(who)?,
                task,
                place: location(place)?,
                since,
            })
        },
    )
}

/// Notes who holds a lock that is waited for.
#[cold]
#[inline(never)]
pub(crate) fn publish(words: &LockWords) {
    note(words, words.holder());
}

/// The same, for one who knows more about it.
pub(crate) fn note(words: &LockWords, held: Option<HeldBy>) {
    let lock = number(words);
    let words = match held {
        Some(HeldBy { who, place, task, since, is_since_at_least, is_across_await }) => {
            let since = if is_since_at_least { since | AT_LEAST } else { since };
            let since = if is_across_await { since | ACROSS_AWAIT } else { since };
            [lock, who.code(), task, std::ptr::from_ref(place).expose_provenance() as u64, since]
        }
        None => [lock, 0, 0, 0, 0],
    };
    let of_lock = cells(lock).find(|cell| cell.key() == lock);
    let free = || cells(lock).find(|cell| cell.key() == 0);
    let Some(cell) = of_lock.or_else(free).or_else(|| cells(lock).next()) else { return };
    cell.write(words);
}

/// Notes that the noted holder of a lock has released it.
#[cold]
#[inline(never)]
pub(crate) fn released(words: &LockWords) {
    let lock = number(words);
    let Some(cell) = cells(lock).find(|cell| cell.key() == lock) else { return };
    // If somebody else just writes to it, that looks again.
    if let Some([key, who, task, place, since]) = cell.read().filter(|found| found[0] == lock) {
        cell.write([key, who, task, place, since | RELEASED]);
    }
}

/// Who holds a lock that is waited for, as far as it is known.
pub(crate) fn holder(lock: u64) -> Option<HeldBy> {
    listed(lock).filter(|(_, is_released)| !is_released).map(|(holder, _)| holder)
}

/// The same, or who held it last.
pub(crate) fn last_holder(lock: u64) -> Option<HeldBy> {
    listed(lock).map(|(holder, _)| holder)
}

fn listed(lock: u64) -> Option<(HeldBy, bool)> {
    let found = cells(lock).filter(|cell| cell.key() == lock).find_map(LockCell::read)?;
    let [_, who, task, place, since] = found;
    let holder = HeldBy {
        who: Who::from_code(who)?,
        place: location(place)?,
        task,
        since: since & !(AT_LEAST | ACROSS_AWAIT | RELEASED),
        is_across_await: since & ACROSS_AWAIT != 0,
        is_since_at_least: since & AT_LEAST != 0,
    };
    (found[0] == lock).then_some((holder, since & RELEASED != 0))
}

fn cells(lock: u64) -> impl Iterator<Item = &'static LockCell<5>> {
    (0..WAYS).map(move |way| &HOLDING[(lock as usize + way) % HOLDERS])
}

fn location(address: u64) -> Option<&'static Location<'static>> {
    // SAFETY: the cells hold locations of the program's, which are statics, or null; and each is read whole.
    unsafe { std::ptr::with_exposed_provenance::<Location<'static>>(address as usize).as_ref() }
}
