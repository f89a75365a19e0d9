//! The runtimes of executors that can be asked how they fare: the collector asks once a generation.
//!
//! A runtime has one entry, by its executor's own number, however many of its threads have it asked: it is asked until the last
//! of them no longer wants it. Whatever answers for a runtime may keep that alive, so the last thread that wanted it frees it.
//!
//! # Synchronization
//!
//! Threads of the service try to lock the list, and never wait for it. The collector holds it only to copy what it needs, and
//! asks afterwards. A thread that finds the list held at its end leaves the entry, which nobody wants any more, to the collector
//! or to the next runtime that is watched. So the answer of a runtime that ends while it is asked is freed by the collector.
//! Since a `fork` the list may be held for ever: then the child asks nobody.

#![forbid(unsafe_code)]

use crate::os;
use crate::record::control::Control;
use crate::record::slot::Slot;
use parking_lot::Mutex;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many runtimes are asked. Further ones are not.
const MOST: usize = 16;
/// How long the collector waits for the list. Nobody else waits.
const PATIENCE: Duration = Duration::from_millis(10);

/// How a runtime fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuntimeFigures {
    /// Tasks that have not ended.
    pub alive_tasks: u64,
    /// Ready tasks in the queue of all workers.
    pub queued_tasks: u64,
    /// Its workers.
    pub workers: u64,
    /// For how long workers were busy since the figures before, added up.
    pub busy: Duration,
    /// For how long the busiest of them was.
    pub busiest: Duration,
    /// How often workers have gone to sleep since then.
    pub parks: u64,
}

/// Answers for a runtime.
pub type Ask = Box<dyn FnMut() -> RuntimeFigures + Send>;

/// Which runtime is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedRuntime {
    /// The one with this number.
    Number(u32),
    /// The one that the present thread drives, if the recorder knows it.
    OfThisThread,
}

/// Why a runtime is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWatched {
    /// Somebody else has the list just now.
    Busy,
    /// Too many are asked already.
    TooMany,
}

struct Entry {
    key: u64,
    runtime: Which,
    /// How many want it to be asked. With none it is over, and stays so.
    wanted: Arc<AtomicUsize>,
    ask: Arc<Mutex<Ask>>,
}

impl Entry {
    fn is_over(&self) -> bool {
        self.wanted.load(Ordering::Acquire) == 0
    }

    /// One more wants it, unless it is over.
    fn want(&self) -> bool {
        let more = |wanted| (wanted > 0).then(|| wanted + 1);
        self.wanted.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }
}

#[derive(Clone, Copy)]
enum Which {
    Number(u32),
    DrivenBy(u64),
}

impl From<AskedRuntime> for Which {
    fn from(runtime: AskedRuntime) -> Self {
        match runtime {
            AskedRuntime::Number(number) => Self::Number(number),
            AskedRuntime::OfThisThread => Self::DrivenBy(os::thread::number()),
        }
    }
}

static LIST: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// A runtime that is asked until this, and all others of the same runtime, are dropped.
pub struct WatchedRuntime {
    wanted: Arc<AtomicUsize>,
    frees: bool,
}

impl fmt::Debug for WatchedRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedRuntime").finish_non_exhaustive()
    }
}

/// Asks this runtime from now on, which its executor knows by this key. What asks it is made only if nobody has it asked yet.
///
/// # Errors
/// If too many are asked already, or if the list of them is held just now: it does not wait.
pub fn watch_runtime(
    key: u64,
    runtime: AskedRuntime,
    ask: impl FnOnce() -> Ask,
) -> Result<WatchedRuntime, NotWatched> {
    let over;
    let watched = {
        let mut list = LIST.try_lock().ok_or(NotWatched::Busy)?;
        if let Some(entry) = list.iter_mut().find(|entry| entry.key == key && entry.want()) {
            match runtime {
                AskedRuntime::Number(_) => entry.runtime = runtime.into(),
                AskedRuntime::OfThisThread if matches!(entry.runtime, Which::Number(_)) => {}
                AskedRuntime::OfThisThread => entry.runtime = runtime.into(),
            }
            return Ok(WatchedRuntime { wanted: Arc::clone(&entry.wanted), frees: true });
        }
        over = list.iter().position(Entry::is_over).map(|at| list.swap_remove(at));
        if list.len() >= MOST {
            Err(NotWatched::TooMany)
        } else {
            let wanted = Arc::new(AtomicUsize::new(1));
            let ask = Arc::new(Mutex::new(ask()));
            list.push(Entry { key, runtime: runtime.into(), wanted: Arc::clone(&wanted), ask });
            Ok(WatchedRuntime { wanted, frees: true })
        }
    };
    // Not while the list is held: it may be the last thing that the runtime lives by.
    drop(over);
    watched
}

impl WatchedRuntime {
    /// Ends it, and leaves it to others to free what answered: for a thread whose own variables are being destroyed.
    pub fn leave(mut self) {
        self.frees = false;
    }
}

impl Drop for WatchedRuntime {
    fn drop(&mut self) {
        if self.wanted.fetch_sub(1, Ordering::AcqRel) != 1 || !self.frees {
            return;
        }
        let take = |list: &mut Vec<Entry>| {
            let at = list.iter().position(|entry| Arc::ptr_eq(&entry.wanted, &self.wanted))?;
            Some(list.swap_remove(at))
        };
        let entry = LIST.try_lock().and_then(|mut list| take(&mut list));
        // Not while the list is held, as above.
        drop(entry);
    }
}

/// Asks all runtimes, and passes on their numbers and their answers.
pub(crate) fn ask_all(control: &Control, mut answer: impl FnMut(u32, RuntimeFigures)) {
    let Some(mut list) = LIST.try_lock_for(PATIENCE) else { return };
    let mut over = Vec::new();
    while let Some(at) = list.iter().position(Entry::is_over) {
        over.push(list.swap_remove(at).ask);
    }
    for entry in &mut *list {
        let Which::DrivenBy(thread) = entry.runtime else { continue };
        let is_it = |slot: &&Slot| {
            slot.os_thread.load(Ordering::Relaxed) == thread
                && slot.thread.load(Ordering::Relaxed) != 0
        };
        // Its hooks say which runtime it is, when it first sleeps.
        let slot = control.slots().find(is_it);
        if let Some(number) = slot.and_then(|slot| slot.worker.held().runtime()) {
            entry.runtime = Which::Number(number);
        }
    }
    let asked: Vec<_> = list
        .iter()
        .filter_map(|entry| match entry.runtime {
            Which::Number(number) => Some((number, Arc::clone(&entry.ask))),
            Which::DrivenBy(_) => None,
        })
        .collect();
    drop(list);
    for (number, ask) in &asked {
        // Nobody else asks, but for another recorder's collector that is about to end.
        if let Some(mut ask) = ask.try_lock() {
            answer(*number, ask());
        }
    }
    // With the last that a runtime lives by, what the service has given to it is freed, too.
    for ask in over.into_iter().chain(asked.into_iter().map(|(_, ask)| ask)) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(ask)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::control::control;

    /// The list belongs to the process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn nothing() -> Ask {
        Box::new(RuntimeFigures::default)
    }

    /// Repeats it while the list is held.
    fn watch(key: u64, ask: impl Fn() -> Ask) -> Result<WatchedRuntime, NotWatched> {
        loop {
            match watch_runtime(key, AskedRuntime::Number(key as u32), &ask) {
                Err(NotWatched::Busy) => std::thread::yield_now(),
                found => return found,
            }
        }
    }

    fn asked(runtime: u32) -> Vec<RuntimeFigures> {
        let mut found = Vec::new();
        ask_all(control(), |number, figures| {
            if number == runtime {
                found.push(figures);
            }
        });
        found
    }

    #[test]
    fn a_runtime_is_asked_until_the_last_one_no_longer_wants_it_and_only_once() {
        let _alone = ALONE.lock();
        let made = AtomicUsize::new(0);
        let ask = || -> Ask {
            made.fetch_add(1, Ordering::Relaxed);
            let mut count = 0;
            Box::new(move || {
                count += 1;
                RuntimeFigures { alive_tasks: count, ..RuntimeFigures::default() }
            })
        };
        let alive = || asked(4321).iter().map(|of| of.alive_tasks).collect::<Vec<_>>();
        let watched = watch(4321, ask).unwrap();
        let again = watch(4321, ask).unwrap();
        assert_eq!([alive(), alive()], [[1], [2]]);
        drop(watched);
        assert_eq!(alive(), [3]);
        drop(again);
        assert_eq!(alive(), [0; 0]);
        assert_eq!(made.load(Ordering::Relaxed), 1);
        // It may come back.
        let _watched = watch(4321, ask).unwrap();
        assert_eq!(alive(), [1]);
    }

    #[test]
    fn runtimes_begin_and_end_while_another_one_is_asked() {
        let _alone = ALONE.lock();
        let done = Arc::new(AtomicUsize::new(0));
        let ends = Arc::new(Mutex::new(Some(watch(4323, nothing).unwrap())));
        let ask = || -> Ask {
            let (done, ends) = (Arc::clone(&done), Arc::clone(&ends));
            // As other threads do, while the collector is in the middle of this one.
            Box::new(move || {
                if let Some(ends) = ends.lock().take() {
                    drop(watch_runtime(4324, AskedRuntime::Number(4324), nothing).unwrap());
                    drop(ends);
                    let list = LIST.try_lock().expect("the collector does not hold the list");
                    let is_there = |key| list.iter().any(|entry| entry.key == key);
                    assert!(!is_there(4323) && !is_there(4324));
                    done.fetch_add(1, Ordering::Relaxed);
                }
                RuntimeFigures::default()
            })
        };
        let _watched = watch(4322, ask).unwrap();
        assert_eq!(asked(4322).len(), 1);
        assert_eq!(done.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_finds_the_list_held_does_not_wait_and_what_it_leaves_is_freed() {
        let _alone = ALONE.lock();
        let lives = Arc::new(());
        let ask = || -> Ask {
            let lives = Arc::clone(&lives);
            Box::new(move || {
                let _ = &lives;
                RuntimeFigures::default()
            })
        };
        let one = watch(4325, ask).unwrap();
        let held = LIST.lock();
        let refused = watch_runtime(4326, AskedRuntime::Number(4326), || panic!("for nothing"));
        assert_eq!(refused.unwrap_err(), NotWatched::Busy);
        drop(one);
        drop(held);
        assert_eq!(Arc::strong_count(&lives), 2, "nobody could free it");
        assert_eq!(asked(4325).len(), 0);
        assert_eq!(Arc::strong_count(&lives), 1, "the collector did");
        watch(4325, ask).unwrap().leave();
        assert_eq!(Arc::strong_count(&lives), 2);
        let next = watch(4326, nothing).unwrap();
        assert_eq!(Arc::strong_count(&lives), 1, "the next runtime did");
        drop(next);
    }

    #[test]
    fn a_runtime_that_is_refused_costs_nothing_and_may_come_later() {
        let _alone = ALONE.lock();
        let mut all: Vec<_> = (0..MOST as u64).map(|key| watch(key, nothing).unwrap()).collect();
        let refused = watch(99, || panic!("made for nothing"));
        assert_eq!(refused.unwrap_err(), NotWatched::TooMany);
        all.pop();
        watch(99, nothing).unwrap();
    }
}
