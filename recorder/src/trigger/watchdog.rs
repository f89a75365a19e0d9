//! The watchdog: finds polls that do not come back, while they do not.
//!
//! It is a part of the collector, which looks at the slots every half of the shortest limit: which task
//! each thread is polling, and the sequence number of the poll, which no other poll of the task has. What
//! is found again, and again, until the limit has passed, is stalled. Those who poll pay nothing.
//!
//! Of polls inside of each other the outermost counts, because it is what the executor waits for; a
//! closure that runs where blocking is allowed counts for none. A worker that was handed to another
//! thread (`block_in_place`) holds nobody up, and is not reported; as far as the other thread is known to be
//! that worker, which it is when it first sleeps, or polls in a new generation.
//!
//! While the recorder itself works on a thread, or a thread waits for it, that thread's poll does not
//! grow older.
//!
//! The time that counts is what the watchdog has seen, in steps that are no longer than two of its
//! own: while the whole process was stopped, nothing was stalled.
//!
//! # Sleep
//!
//! When nobody polls and each worker is parked, nothing can be stalled before a worker goes on: the
//! watchdog goes to sleep, after it has said so in a word that workers look at when they go on. That is
//! a store and then a load on both sides, and the workers have no fence between theirs; the watchdog
//! issues the process-wide barrier between its own, and looks again. Threads that poll but are no workers
//! say nothing when they go on; they keep the watchdog awake while they write, and are looked at again
//! with each generation.

#![forbid(unsafe_code)]

use super::Armed;
use crate::control::Control;
use crate::emit::{encoded, typed_event};
use crate::{own_work, polls, process};
use crate::recorder::Shared;
use crate::site::Site;
use crate::slot::Slot;
use crate::task::Place;
use lookback_snapshot::wire::TaskId;
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What is recorded of a poll that does not come back, on the collector's thread.
static STALL: Site = Site::new(
    "stall",
    &["thread", "os_thread", "task", "task_id", "at_least_ns", "state", "wchan"],
    file!(),
    line!(),
);
/// And when it has come back.
static STALL_OVER: Site =
    Site::new("stall_over", &["thread", "task", "task_id", "at_least_ns"], file!(), line!());

/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// The shortest first.
    limits: Vec<(Duration, Armed)>,
    interval: Duration,
    looked: Instant,
    due: Option<Instant>,
    /// What each slot was polling at the last look.
    seen: HashMap<u32, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    place: &'static Place,
    sequence: u64,
    /// Its task, whose place may be another one's later.
    site: &'static Site,
    id: u64,
    /// For how long it has been seen.
    time: Duration,
    /// How many limits it is beyond.
    told: usize,
}

impl Seen {
    /// The name of its task, and the number that the task has in every view.
    fn task(&self) -> (String, String) {
        (self.site.said().to_string(), TaskId::from_number(self.id).to_string())
    }
}

impl Watchdog {
    /// A watchdog for the limits, if there are any.
    pub(crate) fn new(limits: &[(Duration, Armed)]) -> Option<Self> {
        let mut limits = limits.to_vec();
        limits.sort_by_key(|(limit, _)| *limit);
        // Far below what can be added to an instant.
        let interval = (limits.first()?.0 / 2).min(LONGEST);
        let (looked, seen) = (Instant::now(), HashMap::new());
        Some(Self { limits, interval, looked, due: Some(looked), seen })
    }

    /// When it wants to look next; `None` while it sleeps.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Looks, if it is time to. `again` wakes it up: a generation has begun.
    pub(crate) fn run(&mut self, shared: &Shared, again: bool) {
        let now = Instant::now();
        match self.due {
            Some(due) if now < due => return,
            Some(_) => {}
            // A worker has gone on: the first look is worth the while after half a limit.
            None if shared.control.watchdog_sleeps.load(Ordering::Acquire) == 0 => {
                self.due = Some(now + self.interval);
                self.looked = now;
                return;
            }
            None if again => {}
            None => return,
        }
        let since = now.duration_since(self.looked).min(self.interval * 2);
        self.looked = now;
        let is_active = self.look(shared, since);
        if is_active || !self.may_sleep(shared) {
            shared.control.watchdog_sleeps.store(0, Ordering::Relaxed);
            self.due = Some(now + self.interval);
        } else {
            self.due = None;
        }
    }

    /// Says that it is about to sleep, and makes sure that it may.
    fn may_sleep(&self, shared: &Shared) -> bool {
        let control = shared.control;
        control.watchdog_sleeps.store(1, Ordering::SeqCst);
        shared.issue_barrier() && !control.slots().any(|slot| is_active(control, slot))
    }

    /// Looks at every slot. Says whether there is anybody to be watched.
    fn look(&mut self, shared: &Shared, since: Duration) -> bool {
        let control = shared.control;
        let mut active = false;
        for (index, slot) in control.slots().enumerate() {
            active |= is_active(control, slot);
            let index = index as u32;
            let poll = polls::outermost(slot);
            let seen = self.seen.get(&index).copied();
            match (seen, poll) {
                (Some(mut seen), Some((place, sequence)))
                    if std::ptr::eq(seen.place, place) && seen.sequence == sequence =>
                {
                    // What the recorder does there is no stall.
                    if !own_work::is_at_it(slot) {
                        seen.time += since;
                        self.judge(shared, slot, &mut seen);
                    }
                    self.seen.insert(index, seen);
                }
                (seen, poll) => {
                    if let Some(seen) = seen.filter(|seen| seen.told > 0) {
                        over(slot, &seen);
                    }
                    self.seen.remove(&index);
                    if let Some((place, sequence)) = poll
                        && let Some((site, _)) = place.named()
                    {
                        let (id, time, told) = (place.id(), Duration::ZERO, 0);
                        self.seen.insert(index, Seen { place, sequence, site, id, time, told });
                    }
                }
            }
        }
        active
    }

    /// Tells of a poll, and fires, each time that it is found beyond one limit more.
    fn judge(&self, shared: &Shared, slot: &Slot, seen: &mut Seen) {
        let Some((limit, _)) = self.limits.get(seen.told) else { return };
        if seen.time < *limit {
            return;
        }
        if was_handed_on(shared.control, slot) {
            // It holds nobody up, however long it takes.
            seen.told = 0;
            return;
        }
        let (thread, os_thread) =
            (slot.thread.load(Ordering::Relaxed), slot.os_thread.load(Ordering::Relaxed));
        let (task, id) = seen.task();
        let Kernel { state, wchan } = Kernel::of(os_thread);
        if seen.told == 0 {
            let nanos = seen.time.as_nanos() as u64;
            let numbers = (encoded(&thread), encoded(&os_thread));
            let rest = (encoded(&*id), encoded(&nanos), encoded(&*state), encoded(&*wchan));
            let all = (numbers.0, numbers.1, encoded(&*task), rest.0, rest.1, rest.2, rest.3);
            typed_event(&STALL, all);
        }
        for (limit, armed) in &self.limits[seen.told..] {
            if seen.time < *limit {
                break;
            }
            seen.told += 1;
            let _ = armed.fire(|| {
                let name = slot.name();
                let place = if wchan.is_empty() { String::new() } else { format!(" in {wchan}") };
                format!(
                    "task {task} has not come back from a poll for at least {:.1?}, more than {limit:?}: \
                     thread {} ({os_thread}) is in state {state}{place}",
                    seen.time,
                    name.as_str(),
                )
            });
        }
    }
}

/// A poll that was told of has come back.
fn over(slot: &Slot, seen: &Seen) {
    let thread = slot.thread.load(Ordering::Relaxed);
    let (task, id) = seen.task();
    let nanos = seen.time.as_nanos() as u64;
    typed_event(&STALL_OVER, (encoded(&thread), encoded(&*task), encoded(&*id), encoded(&nanos)));
}

/// Whether the slot's thread polls, or may begin to without a word.
fn is_active(control: &Control, slot: &Slot) -> bool {
    if slot.thread.load(Ordering::Relaxed) == 0 {
        return false;
    }
    if polls::outermost(slot).is_some() {
        return true;
    }
    let held = slot.worker.held();
    if held.status().is_some() {
        return !held.parked;
    }
    polls::has_polled(slot) && slot.gate.entered() >= control.generation.load(Ordering::Relaxed)
}

/// Whether another thread has become the worker that this slot's thread was.
fn was_handed_on(control: &Control, slot: &Slot) -> bool {
    let held = slot.worker.held();
    held.status().is_some()
        && control.slots().any(|other| {
            let other = other.worker.held();
            other.who == held.who && other.tenure > held.tenure
        })
}

/// What the kernel says that a thread is doing: empty where it does not.
struct Kernel {
    state: String,
    wchan: String,
}

impl Kernel {
    fn of(os_thread: u64) -> Self {
        let thread = format!("self/task/{os_thread}");
        let state = process::stat(&thread).map(|(state, _)| state.to_string());
        let wchan = fs::read_to_string(format!("/proc/{thread}/wchan")).unwrap_or_default();
        let wchan = if wchan == "0" { String::new() } else { wchan };
        Self { state: state.unwrap_or_default(), wchan }
    }
}
