//! The watchdog: finds polls that do not return, while they are stalled.
//!
//! It is part of the collector, which looks at the slots every half of the shortest limit: which task each
//! thread is polling, and the sequence number of the poll, which no other poll of the task has. A poll that
//! it finds again and again until the limit has passed is stalled. Polling threads pay nothing for this.
//!
//! Of nested polls the outermost counts, because the executor waits for that one; a closure that runs where
//! blocking is allowed never counts. A worker that was handed to another thread (`block_in_place`) holds
//! nobody up, so its old thread is not reported. This applies once the other thread is known to be that
//! worker: when it first sleeps, or polls in a new generation.
//!
//! While the recorder itself works on a thread, or a thread waits for it, that thread's poll does not age.
//!
//! The stack of a stalled thread is taken when the first limit has passed, and again when the poll has lasted 2, 4 and 8
//! times as long: they tell whether it moves. With the first one, the stacks of other recorded threads that are blocked are
//! taken, because one of them may hold what the stalled thread waits for.
//!
//! Only time that the watchdog has observed counts, in steps of at most two of its intervals: while the whole
//! process was stopped, nothing was stalled.
//!
//! # Sleep
//!
//! If no thread polls and each worker is parked, nothing can stall before a worker continues. So the watchdog
//! goes to sleep, after it has said so in a word that workers check when they continue. Each side stores and
//! then loads, and the workers have no fence in between; the watchdog issues the process-wide barrier between
//! its store and its load, and checks again. Threads that poll but are no workers say nothing when they
//! continue. They keep the watchdog awake while they write, and it looks at them again with each generation.

#![forbid(unsafe_code)]

use super::Armed;
use crate::os::process::Stat;
use crate::record::control::Control;
use crate::record::emit::{encoded, typed_event};
use crate::record::own_work;
use crate::record::site::Site;
use crate::record::slot::Slot;
use crate::record::stacks;
use crate::record::task::TaskEntry;
use crate::record::task::poll_stack;
use crate::recorder::Shared;
use crate::stack::{self, Patience};
use lookback_snapshot::wire::{StackReason, TaskId};
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The event that records a stalled poll, on the collector's thread.
static STALL: Site = Site::new(
    "stall",
    &["thread", "os_thread", "task", "task_id", "at_least_ns", "state", "wchan"],
    file!(),
    line!(),
);
/// The event that records its return.
static STALL_OVER: Site =
    Site::new("stall_over", &["thread", "task", "task_id", "at_least_ns"], file!(), line!());

/// So often is the stack of a stalled thread taken.
const SAMPLES: u32 = 4;
/// Of so many other threads the stacks are taken with the first: some 50 microseconds each.
const MOST_BESIDE: usize = 64;
/// Not more often than that.
const BESIDE_EVERY: Duration = Duration::from_secs(1);

/// The longest interval between two looks.
const LONGEST: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Shortest first. One without a trigger is only recorded, with its stack.
    limits: Vec<(Duration, Option<Armed>)>,
    interval: Duration,
    looked: Instant,
    due: Option<Instant>,
    /// When the stacks of other threads were taken.
    looked_beside: Option<Instant>,
    /// What each slot was polling at the last look.
    seen: HashMap<u32, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    place: &'static TaskEntry,
    sequence: u64,
    /// The poll's task; another task may use its entry later.
    site: &'static Site,
    id: u64,
    /// How long it has been observed.
    time: Duration,
    /// How many limits it has exceeded.
    told: usize,
    /// How often its stack was taken, and when it is to be taken again.
    samples: u32,
    next_sample: Duration,
}

impl Seen {
    /// The task's name, and its number as every view shows it.
    fn task(&self) -> (String, String) {
        (self.site.said().to_string(), TaskId::from_number(self.id).to_string())
    }
}

impl Watchdog {
    /// A watchdog for the limits of these triggers, and for the one from which on stacks are taken, if there are any.
    pub(crate) fn new(triggers: &[(Duration, Armed)], stacks: Option<Duration>) -> Option<Self> {
        let triggers = triggers.iter().map(|(limit, armed)| (*limit, Some(armed.clone())));
        let mut limits: Vec<_> = triggers.chain(stacks.map(|limit| (limit, None))).collect();
        limits.sort_by_key(|(limit, _)| *limit);
        // Far below what can be added to an instant.
        let interval = (limits.first()?.0 / 2).min(LONGEST);
        let (looked, seen) = (Instant::now(), HashMap::new());
        let (due, looked_beside) = (Some(looked), None);
        Some(Self { limits, interval, looked, due, looked_beside, seen })
    }

    /// When to look next; `None` while it sleeps.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Looks, if it is time to. `again` wakes it: a generation has begun.
    pub(crate) fn run(&mut self, shared: &Shared, again: bool) {
        let now = Instant::now();
        match self.due {
            Some(due) if now < due => return,
            Some(_) => {}
            // A worker has continued: the first useful look is half a limit from now.
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

    /// Announces that it is about to sleep, and checks that it may.
    fn may_sleep(&self, shared: &Shared) -> bool {
        let control = shared.control;
        control.watchdog_sleeps.store(1, Ordering::SeqCst);
        shared.issue_barrier() && !control.slots().any(|slot| is_active(control, slot))
    }

    /// Looks at every slot. Returns whether any needs watching.
    fn look(&mut self, shared: &Shared, since: Duration) -> bool {
        let control = shared.control;
        let (mut active, mut patience) = (false, Patience::default());
        for (index, slot) in control.slots().enumerate() {
            active |= is_active(control, slot);
            let index = index as u32;
            let poll = poll_stack::outermost(slot);
            let seen = self.seen.get(&index).copied();
            match (seen, poll) {
                (Some(mut seen), Some((place, sequence)))
                    if std::ptr::eq(seen.place, place) && seen.sequence == sequence =>
                {
                    // The recorder's own work is no stall.
                    if !own_work::is_at_it(slot) {
                        seen.time += since;
                        self.judge(shared, slot, &mut seen, &mut patience);
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
                        let (id, time) = (place.id(), Duration::ZERO);
                        let (told, samples, next_sample) = (0, 0, time);
                        let seen =
                            Seen { place, sequence, site, id, time, told, samples, next_sample };
                        self.seen.insert(index, seen);
                    }
                }
            }
        }
        active
    }

    /// Each time that a poll has exceeded one more limit, records it and fires.
    fn judge(&mut self, shared: &Shared, slot: &Slot, seen: &mut Seen, patience: &mut Patience) {
        self.sample_again(slot, seen, patience);
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
            // The stack comes first, while the thread is still there.
            let taken = stack::is_on().then(|| stack::of_thread(os_thread, patience));
            typed_event(&STALL, all);
            if let Some((stack, source)) = taken {
                stacks::thread_stack(thread, stack, StackReason::Stall, source);
                (seen.samples, seen.next_sample) = (1, seen.time * 2);
                self.look_beside(shared.control, slot);
            }
        }
        for (limit, armed) in &self.limits[seen.told..] {
            if seen.time < *limit {
                break;
            }
            seen.told += 1;
            let Some(armed) = armed else { continue };
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

    /// Takes the stack of a stalled thread once more, if it is time to.
    fn sample_again(&self, slot: &Slot, seen: &mut Seen, patience: &mut Patience) {
        if seen.told == 0 || !(1..SAMPLES).contains(&seen.samples) || seen.time < seen.next_sample {
            return;
        }
        (seen.samples, seen.next_sample) = (seen.samples + 1, seen.next_sample * 2);
        if stack::is_on() {
            let (thread, os_thread) =
                (slot.thread.load(Ordering::Relaxed), slot.os_thread.load(Ordering::Relaxed));
            let (stack, source) = stack::of_thread(os_thread, patience);
            stacks::thread_stack(thread, stack, StackReason::Stall, source);
        }
    }

    /// Takes the stacks of other threads that are blocked, but for workers that have nothing to do.
    fn look_beside(&mut self, control: &Control, stalled: &Slot) {
        let now = Instant::now();
        if self.looked_beside.is_some_and(|last| now.duration_since(last) < BESIDE_EVERY) {
            return;
        }
        self.looked_beside = Some(now);
        let own = crate::os::thread::number();
        let others = control.slots().filter(|slot| !std::ptr::eq(*slot, stalled));
        let others = others.filter_map(|slot| {
            let held = slot.worker.held();
            let is_idle = held.status().is_some() && held.parked;
            let (thread, os_thread) =
                (slot.thread.load(Ordering::Relaxed), slot.os_thread.load(Ordering::Relaxed));
            let is_other = thread != 0 && os_thread != 0 && os_thread != own && !is_idle;
            is_other.then_some((thread, os_thread))
        });
        for (thread, os_thread) in others.take(MOST_BESIDE) {
            if let Some((stack, source)) = stack::of_blocked_thread(os_thread) {
                stacks::thread_stack(thread, stack, StackReason::Beside, source);
            }
        }
    }
}

/// A poll that was reported has returned.
fn over(slot: &Slot, seen: &Seen) {
    let thread = slot.thread.load(Ordering::Relaxed);
    let (task, id) = seen.task();
    let nanos = seen.time.as_nanos() as u64;
    typed_event(&STALL_OVER, (encoded(&thread), encoded(&*task), encoded(&*id), encoded(&nanos)));
}

/// Whether the slot's thread polls, or may begin to without saying so.
fn is_active(control: &Control, slot: &Slot) -> bool {
    if slot.thread.load(Ordering::Relaxed) == 0 {
        return false;
    }
    if poll_stack::outermost(slot).is_some() {
        return true;
    }
    let held = slot.worker.held();
    if held.status().is_some() {
        return !held.parked;
    }
    poll_stack::has_polled(slot)
        && slot.gate.entered() >= control.generation.load(Ordering::Relaxed)
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

/// What the kernel says that a thread is doing; empty if it says nothing.
struct Kernel {
    state: String,
    wchan: String,
}

impl Kernel {
    fn of(os_thread: u64) -> Self {
        let thread = format!("self/task/{os_thread}");
        let state = Stat::of(&thread).map(|stat| stat.state.to_string());
        let wchan = fs::read_to_string(format!("/proc/{thread}/wchan")).unwrap_or_default();
        let wchan = if wchan == "0" { String::new() } else { wchan };
        Self { state: state.unwrap_or_default(), wchan }
    }
}
