//! Threads that stand still: a second after a recorded thread has blocked, its stack and what it waits for go into the
//! trace. So a snapshot has both ends of a deadlock of threads that poll nothing, and so has a black box after a SIGKILL,
//! when nobody can look at the threads any more.
//!
//! The collector looks once a second at most. It reads how often the kernel has run a thread; only if that is what it was
//! at the last look, which takes one small file, the thread has stood still all the time, and its stack is read, once. The
//! thread is not disturbed. Threads inside of polls come first: they keep others waiting. Workers that are parked, and
//! threads of a runtime's pool that have nothing to do, are left out.
//!
//! What is known is said again when something else was recorded since, as what was said before may be overwritten. While
//! nothing is recorded, nothing is said: else a process that hangs would slowly overwrite its last events.

#![forbid(unsafe_code)]

use crate::os::own_memory::OwnMemory;
use crate::os::own_thread;
use crate::os::read_memory::ReadMemory;
use crate::record::control::Control;
use crate::record::slot::Slot;
use crate::record::stacks::{self, Stands};
use crate::record::task::poll_stack;
use crate::record::thread::recorded_by_others;
use crate::remote::stacks::wait::{self, Place};
use crate::stack::code_references::named_by;
use crate::stack::{self, trie::StackId};
use lookback_snapshot::wire::{StackSource, Waits, WaitsOn};
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::BuildHasher;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Looks are so far apart, and a thread stands still that has for so long.
const EVERY: Duration = Duration::from_secs(1);
/// So many threads are looked at each time, and so many stacks are taken: each look reads a file of the kernel's.
const MOST_LOOKS: usize = 64;
const MOST_TAKEN: usize = 16;
/// Of so many threads it is known where they stand; threads outside of polls leave some to those inside.
const MOST_STANDING: usize = 64;
const MOST_OUTSIDE_OF_POLLS: usize = 48;
/// So much of a stack is searched for the addresses that others wait for, and so many are kept.
const SEARCH: usize = 16 << 10;
const MOST_REFERS: usize = 16;

/// See the module.
pub(crate) struct Standing {
    looked: Instant,
    /// Which slot comes first at the next look.
    next: usize,
    /// By the recorder's number.
    known: HashMap<u64, Known>,
    /// Addresses leave the process as numbers that say no more than that two are equal.
    key: RandomState,
    /// How many events had been recorded when something was last said.
    recorded: u64,
    round: u64,
}

struct Known {
    times_run: Box<str>,
    /// In which round that was read: of what was not looked at nothing is said.
    round: u64,
    since: Instant,
    stands: Option<Stood>,
}

/// Where a thread stands.
struct Stood {
    stack: Option<StackId>,
    source: StackSource,
    sp: u64,
    waits: Waits,
    refers: Vec<u64>,
    uses: Vec<u64>,
    /// The addresses that the code on the stack was searched for.
    searched: Vec<u64>,
    is_said: bool,
}

impl Standing {
    pub(crate) fn new() -> Self {
        let (known, key) = (HashMap::new(), RandomState::new());
        Self { looked: Instant::now(), next: 0, known, key, recorded: 0, round: 0 }
    }

    /// Looks, if it is time to, and records what is new.
    pub(crate) fn look(&mut self, control: &Control) {
        if !stack::is_on() || self.looked.elapsed() < EVERY {
            return;
        }
        self.looked = Instant::now();
        self.round += 1;
        let slots: Vec<_> = control.slots().filter(|slot| is_of_interest(slot)).collect();
        let number = |slot: &&Slot| slot.thread.load(Ordering::Relaxed);
        let alive: HashSet<u64> = slots.iter().map(number).collect();
        // One that has ended, or found something to do, stands no more.
        let gone = self.known.iter().filter(|(thread, _)| !alive.contains(thread));
        let gone: Vec<_> = gone.map(|(thread, known)| (*thread, known.is_said())).collect();
        for (thread, was_said) in gone {
            self.known.remove(&thread);
            goes_on(thread, was_said);
        }
        let (polls, others): (Vec<_>, Vec<_>) =
            slots.iter().partition(|slot| poll_stack::outermost(slot).is_some());
        let first = if self.next < others.len() { self.next } else { 0 };
        let rotated = others[first..].iter().chain(&others[..first]).map(|slot| (*slot, false));
        let polls = polls.into_iter().map(|slot| (slot, true));
        let (mut taken, mut looked) = (0, 0);
        for (slot, is_in_poll) in polls.chain(rotated).take(MOST_LOOKS) {
            looked += usize::from(!is_in_poll);
            taken += usize::from(self.look_at(slot, is_in_poll, taken < MOST_TAKEN));
        }
        self.next = first + looked;
        if self.next >= others.len() {
            self.next = 0;
        }
        self.connect(taken > 0);
        self.say(control);
    }

    /// Looks at a thread. Returns whether its stack was taken, which it may not be.
    fn look_at(&mut self, slot: &Slot, is_in_poll: bool, may_take: bool) -> bool {
        let (thread, os_thread) =
            (slot.thread.load(Ordering::Acquire), slot.os_thread.load(Ordering::Relaxed));
        let Some(times_run) = times_run(os_thread) else { return false };
        let standing = self.known.values().filter(|known| known.stands.is_some()).count();
        let (since, round) = (Instant::now(), self.round);
        let new = || Known { times_run: times_run.clone(), round, since, stands: None };
        let known = self.known.entry(thread).or_insert_with(new);
        known.round = round;
        if known.times_run != times_run {
            let was_said = known.is_said();
            *known = new();
            goes_on(thread, was_said);
            return false;
        }
        let most = if is_in_poll { MOST_STANDING } else { MOST_OUTSIDE_OF_POLLS };
        if !may_take || known.stands.is_some() || known.since.elapsed() < EVERY || standing >= most
        {
            return false;
        }
        known.stands = place(os_thread, &times_run);
        known.stands.is_some()
    }

    /// Notes which threads have on their stacks, or in the code on them, what others wait for.
    fn connect(&mut self, is_new: bool) {
        if !is_new {
            return;
        }
        let standing = || self.known.values().filter_map(|known| known.stands.as_ref());
        let mut wanted: Vec<u64> = standing().filter_map(|place| futex(&place.waits)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for known in self.known.values_mut().filter(|known| known.round == self.round) {
            let Some(place) = &mut known.stands else { continue };
            let others: Vec<u64> = wanted
                .iter()
                .copied()
                .filter(|address| Some(*address) != futex(&place.waits))
                .collect();
            let refers = refers(place.sp, &others);
            let stack = place.stack;
            let named = |new: &[u64]| stack.map(|stack| named_by(stack, new)).unwrap_or_default();
            let uses_others = place.search(others, named);
            place.is_said &= refers == place.refers && !uses_others;
            place.refers = refers;
        }
    }

    /// Records what was not said yet; all, if something else was recorded since.
    fn say(&mut self, control: &Control) {
        let again = recorded_by_others(control) != self.recorded;
        let round = self.round;
        for (thread, known) in self.known.iter_mut().filter(|(_, known)| known.round == round) {
            let since = known.since.elapsed().as_nanos() as u64;
            let Some(place) = known.stands.as_mut().filter(|place| again || !place.is_said) else {
                continue;
            };
            let hidden = |address: u64| self.key.hash_one(address) >> 32 | 1;
            let mut waits = place.waits.clone();
            match &mut waits.on {
                WaitsOn::Futex { address, .. } => *address = hidden(*address),
                WaitsOn::File { what, .. } => what.clear(),
                _ => {}
            }
            let all_hidden = |of: &[u64]| of.iter().copied().map(hidden).collect::<Vec<_>>();
            let (refers, uses) = (all_hidden(&place.refers), all_hidden(&place.uses));
            stacks::thread_stands(&Stands {
                thread: *thread,
                stack: place.stack,
                source: place.source,
                since,
                waits: &waits,
                refers: &refers,
                uses: &uses,
            });
            place.is_said = true;
        }
        self.recorded = recorded_by_others(control);
    }
}

impl Stood {
    /// Notes which of these addresses, in ascending order, the code on the stack names. The stack is still what it was, so it is
    /// searched for those alone that are new: there may be a hundred kilobytes of code. Returns whether that changes anything.
    fn search(&mut self, wanted: Vec<u64>, named: impl FnOnce(&[u64]) -> Vec<u64>) -> bool {
        let is_new = |address: &u64| self.searched.binary_search(address).is_err();
        let new: Vec<u64> = wanted.iter().copied().filter(is_new).collect();
        let mut uses = self.uses.clone();
        uses.retain(|address| wanted.binary_search(address).is_ok());
        if !new.is_empty() {
            uses.extend(named(&new));
            uses.sort_unstable();
            uses.truncate(MOST_REFERS);
        }
        self.searched = wanted;
        let is_other = uses != self.uses;
        self.uses = uses;
        is_other
    }
}

impl Known {
    fn is_said(&self) -> bool {
        self.stands.as_ref().is_some_and(|place| place.is_said)
    }
}

fn goes_on(thread: u64, was_said: bool) {
    if was_said {
        stacks::thread_stands(&Stands {
            thread,
            stack: None,
            source: StackSource::Blocked,
            since: 0,
            waits: &Waits::default(),
            refers: &[],
            uses: &[],
        });
    }
}

/// Whether a slot's thread may keep others waiting, or wait for one: not if it has nothing to do.
fn is_of_interest(slot: &Slot) -> bool {
    let (thread, os_thread) =
        (slot.thread.load(Ordering::Acquire), slot.os_thread.load(Ordering::Relaxed));
    if thread == 0 || os_thread == 0 || own_thread::is_own(os_thread) {
        return false;
    }
    let held = slot.worker.held();
    let is_worker = held.status().is_some();
    let is_in_poll = slot.poll_depth.load(Ordering::Relaxed) > 0;
    let is_parked = is_worker && held.parked;
    let is_idle_in_pool = !is_worker && held.pool().is_some() && !is_in_poll;
    !is_parked && !is_idle_in_pool
}

/// Where a thread stands, if it has not run since that was read.
fn place(os_thread: u64, times_run_before: &str) -> Option<Stood> {
    let said = fs::read_to_string(format!("/proc/self/task/{os_thread}/syscall")).ok()?;
    let Place::Blocked { call, sp, .. } = Place::parse(&said)? else { return None };
    let (stack, source) = stack::of_blocked_thread(os_thread)?;
    let is_thread = |number: u32| fs::exists(format!("/proc/self/task/{number}")).unwrap_or(false);
    let memory = OwnMemory::get()?;
    let waits = call.map(|call| wait::waits(std::process::id(), memory, call, &is_thread));
    let is_sound = memory.is_sound() && *times_run(os_thread)? == *times_run_before;
    let waits = waits.unwrap_or_default();
    is_sound.then_some(Stood {
        stack,
        source,
        sp,
        waits,
        refers: Vec::new(),
        uses: Vec::new(),
        searched: Vec::new(),
        is_said: false,
    })
}

fn futex(waits: &Waits) -> Option<u64> {
    match waits.on {
        WaitsOn::Futex { address, .. } => Some(address),
        _ => None,
    }
}

/// Which of these addresses, in ascending order, a stack has. The thread has not run since it was looked at, or else the
/// next look finds that it has.
fn refers(sp: u64, to: &[u64]) -> Vec<u64> {
    let Some(memory) = OwnMemory::get() else { return Vec::new() };
    let mut room = vec![0; SEARCH];
    let words = memory.copy(sp, &mut room).as_chunks().0.iter();
    let words = words.map(|word| u64::from_ne_bytes(*word));
    let mut found: Vec<_> = words.filter(|word| to.binary_search(word).is_ok()).collect();
    if !memory.is_sound() {
        return Vec::new();
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST_REFERS);
    found
}

/// How long a thread has run, and how often it was given a core: one that keeps its core is given none.
fn times_run(os_thread: u64) -> Option<Box<str>> {
    let said = fs::read_to_string(format!("/proc/self/task/{os_thread}/schedstat")).ok()?;
    said.split_whitespace().nth(2).filter(|times| *times != "0")?;
    Some(said.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_on_a_stack_is_searched_once_for_an_address() {
        let mut stood = Stood {
            stack: None,
            source: StackSource::Blocked,
            sp: 0,
            waits: Waits::default(),
            refers: Vec::new(),
            uses: Vec::new(),
            searched: Vec::new(),
            is_said: false,
        };
        let nothing = |new: &[u64]| unreachable!("searched again for {new:?}");
        assert!(stood.search(vec![8, 16, 24], |new| new[1..].to_vec()));
        assert_eq!(stood.uses, [16, 24]);
        assert!(!stood.search(vec![8, 16, 24], nothing));
        assert!(!stood.search(vec![16, 24], nothing), "what is not named is not missed");
        assert!(stood.search(vec![24], nothing));
        assert!(stood.search(vec![4, 24, 32], |new| {
            assert_eq!(new, [4, 32]);
            vec![4]
        }));
        assert_eq!(stood.uses, [4, 24]);
    }
}
