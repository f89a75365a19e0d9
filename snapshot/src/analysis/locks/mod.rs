//! Locks: which ones threads and tasks waited for, who held them, and who waits for whom at the end.
//!
//! A wait is known when it ends, if it was long enough; one that goes on, from what the recorder's own thread says of it with
//! each generation. Of a wait that was said to go on, and whose end may have been lost, something else tells that it is over:
//! its thread has recorded something since, or its task has ended.

mod across_await;
mod convoy;
mod cycles;

use super::event_view::EventView;
use super::interner::{Name, Names};
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::stopped::Stops;
use super::{Moment, Section, TaskRef, ThreadRef};
use crate::read::{Event, EventKind, LockHolder, Site};
use crate::wire::{LockKind, Nanos, TaskId, ThreadNumber};
pub use convoy::{FEWEST_WAITERS, FEWEST_WAITS_FOR_LOCK, LONG_WAITS};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// So many locks, and so many places of each, are told apart.
const MOST_LOCKS: usize = 4096;
const MOST_PLACES: usize = 16;
/// So many who waited for a lock are counted.
const MOST_WAITERS: usize = 4096;
/// So many waits that go on are kept.
const MOST_GOING_ON: usize = 1024;
const LISTED: usize = 20;

/// The locks of a snapshot that say who waits for them: `lookback::sync`, `lookback::tokio::sync`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Locks {
    /// How many waits were recorded.
    pub waits: u64,
    /// How long they were, together.
    pub waited: Nanos,
    /// The locks, those first that were waited for the longest.
    pub locks: Vec<ContendedLock>,
    /// The waits that go on at the end, the longest first.
    pub going_on: Vec<LockWaiter>,
    /// Where locks were taken that were held across an `.await`, most often first.
    pub across_await: Vec<AcrossAwait>,
}

/// A lock that was waited for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ContendedLock {
    /// The lock's number: it says only whether two are one.
    pub lock: u64,
    /// What it is; `None` if only a later version knows it.
    pub kind: Option<LockKind>,
    /// How many waits ended.
    pub waits: u64,
    /// How many of them were given up.
    pub given_up: u64,
    /// How long they were, together.
    pub waited: Nanos,
    /// The longest of them.
    pub longest: Nanos,
    /// How many different threads and tasks waited.
    pub waiters: u64,
    /// The most that waited at once.
    pub most_at_once: u64,
    /// Where it was asked for, as `file:line`, by how long was waited there.
    pub places: Vec<(String, u64, Nanos)>,
    /// Where it was held, as `file:line`, by how long others waited for it.
    pub held_at: Vec<(String, u64, Nanos)>,
}

/// A thread or a task that waits for a lock at the end.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LockWaiter {
    /// The thread that waits; none if it is a task.
    pub thread: Option<ThreadRef>,
    /// The task that waits, or that the thread polls.
    pub task: Option<TaskRef>,
    /// The lock's number.
    pub lock: u64,
    /// What it is; `None` if only a later version knows it.
    pub kind: Option<LockKind>,
    /// Where it asks for the lock, as `file:line`.
    pub place: String,
    /// Since when.
    pub since: Moment,
    /// For how long, up to the end.
    pub length: Nanos,
    /// Who holds the lock: a thread, and a task that holds it or that the thread polled then.
    pub holder: (Option<ThreadRef>, Option<TaskRef>),
    /// Where that took the lock.
    pub held_at: Option<String>,
}

/// A place where locks were taken that were held across an `.await`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AcrossAwait {
    /// The place, as `file:line`.
    pub place: String,
    /// What is locked there; `None` if only a later version knows it.
    pub kind: Option<LockKind>,
    /// How often that was so.
    pub times: u64,
    /// How many polls ended meanwhile, at most.
    pub most_polls: u64,
    /// How many waits for such a lock were recorded while a task that nobody polled held it, and the longest.
    pub waits: u64,
    /// The longest of these waits.
    pub longest_wait: Nanos,
}

/// Who waits for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Waiter {
    Thread(ThreadNumber),
    Task(TaskId),
}

/// Who holds a lock, and where.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    thread: Option<ThreadNumber>,
    os_thread: Option<u64>,
    task: Option<TaskId>,
    at: Option<Name>,
    since: Option<Nanos>,
    is_across_await: bool,
}

/// A wait, over or not.
#[derive(Clone, Copy, Debug)]
struct Wait {
    waiter: Waiter,
    /// The task that a thread polls meanwhile.
    task: Option<TaskId>,
    lock: u64,
    kind: Option<LockKind>,
    at: Name,
    began: Nanos,
    /// When it was last known to go on, or ended.
    known: Nanos,
    held: Option<Held>,
}

/// What is known of a lock.
#[derive(Debug)]
struct OfLock {
    kind: Option<LockKind>,
    waits: u64,
    given_up: u64,
    waited: Nanos,
    waiters: BTreeSet<Waiter>,
    most_at_once: u64,
    first: Nanos,
    last: Nanos,
    longest: Wait,
    places: BTreeMap<Name, (u64, Nanos)>,
    held_at: BTreeMap<Name, (u64, Nanos)>,
}

/// What is known of a place where a lock is taken that is held across an `.await`.
#[derive(Debug, Default)]
struct OfPlace {
    kind: Option<LockKind>,
    times: u64,
    most_polls: u64,
    waits: u64,
    longest: Option<Wait>,
    /// When it was last so, of which task, on which thread.
    last: Option<(Nanos, TaskId, ThreadNumber)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LockWatch {
    waits: u64,
    waited: Nanos,
    locks: BTreeMap<u64, OfLock>,
    going_on: HashMap<(u64, Waiter), Wait>,
    across: BTreeMap<Name, OfPlace>,
}

impl LockWatch {
    /// Looks at an event. Returns whether it is one of locks.
    pub(super) fn view(&mut self, view: &EventView<'_>, names: &mut Names, stops: &Stops) -> bool {
        match view.kind {
            EventKind::Contention { site, lock, kind, waited, waiters, is_given_up } => {
                let waiter = match (view.task, kind) {
                    (Some(task), Some(kind)) if kind.is_of_tasks() => Waiter::Task(task),
                    _ => Waiter::Thread(view.thread),
                };
                self.going_on.remove(&(lock, waiter));
                let wait = wait(view, waiter, view.task, (lock, kind), site, waited, names, stops);
                self.over(&wait, waiters, is_given_up);
            }
            EventKind::LockWait { thread, task, site, lock, kind, waited } => {
                let is_of_task = kind.is_some_and(LockKind::is_of_tasks);
                let waiter = match (thread, task) {
                    (None, Some(task)) => Waiter::Task(task),
                    (Some(_), Some(task)) if is_of_task => Waiter::Task(task),
                    (Some(thread), _) => Waiter::Thread(thread),
                    (None, None) => return true,
                };
                let wait = wait(view, waiter, task, (lock, kind), site, waited, names, stops);
                if self.going_on.len() < MOST_GOING_ON
                    || self.going_on.contains_key(&(lock, waiter))
                {
                    self.going_on.insert((lock, waiter), wait);
                }
            }
            EventKind::LockHeld { site, kind, task, polls, .. } => {
                let at = names.name(&place(site));
                let of = self.across.entry(at).or_default();
                (of.kind, of.times) = (kind, of.times + 1);
                of.most_polls = of.most_polls.max(polls);
                of.last = Some((view.at, task, view.thread));
            }
            EventKind::TaskReady { task }
            | EventKind::TaskPanic { task }
            | EventKind::TaskDrop { task } => {
                self.goes_on(view.thread);
                if !self.going_on.is_empty() {
                    self.going_on.retain(|(_, waiter), _| *waiter != Waiter::Task(task));
                }
                return false;
            }
            _ => {
                self.goes_on(view.thread);
                return false;
            }
        }
        true
    }

    /// A thread that records something does not wait.
    fn goes_on(&mut self, thread: ThreadNumber) {
        if !self.going_on.is_empty() {
            self.going_on.retain(|(_, waiter), _| *waiter != Waiter::Thread(thread));
        }
    }

    /// A wait has ended.
    fn over(&mut self, wait: &Wait, at_once: u64, is_given_up: bool) {
        let waited = wait.known.since(wait.began);
        self.waits += 1;
        self.waited.grow(waited);
        self.note_across(wait);
        if self.locks.len() >= MOST_LOCKS && !self.locks.contains_key(&wait.lock) {
            return;
        }
        let new = || OfLock {
            kind: wait.kind,
            waits: 0,
            given_up: 0,
            waited: Nanos(0),
            waiters: BTreeSet::new(),
            most_at_once: 0,
            first: wait.began,
            last: wait.known,
            longest: *wait,
            places: BTreeMap::new(),
            held_at: BTreeMap::new(),
        };
        let of = self.locks.entry(wait.lock).or_insert_with(new);
        of.waits += 1;
        of.given_up += u64::from(is_given_up);
        of.waited.grow(waited);
        of.most_at_once = of.most_at_once.max(at_once);
        of.first = of.first.min(wait.began);
        of.last = of.last.max(wait.known);
        if of.waiters.len() < MOST_WAITERS {
            // A lock of threads is waited for by its thread; a few of those may wait for many tasks.
            of.waiters.insert(wait.task.map_or(wait.waiter, Waiter::Task));
        }
        if waited > of.longest.known.since(of.longest.began) {
            of.longest = *wait;
        }
        note(&mut of.places, Some(wait.at), waited);
        note(&mut of.held_at, wait.held.and_then(|held| held.at), waited);
    }

    /// Notes a wait for a lock that a task holds which nobody polls.
    fn note_across(&mut self, wait: &Wait) {
        let Some(at) = wait.held.filter(|held| held.is_across_await).and_then(|held| held.at)
        else {
            return;
        };
        let of = self.across.entry(at).or_default();
        of.kind = of.kind.or(wait.kind);
        of.waits += 1;
        let length = |wait: &Wait| wait.known.since(wait.began);
        if of.longest.as_ref().is_none_or(|longest| length(longest) < length(wait)) {
            of.longest = Some(*wait);
        }
    }

    pub(super) fn finish(mut self, context: &ReportContext<'_>) -> Section<Locks> {
        for mut wait in self.going_on.values().copied().collect::<Vec<_>>() {
            wait.known = context.end;
            self.note_across(&wait);
        }
        let (mut findings, in_deadlocks) = cycles::find(&self.going_on, context);
        findings.extend(across_await::find(&self.across, &in_deadlocks, context));
        findings.extend(convoy::find(&self.locks, context));
        let mut locks: Vec<_> = self.locks.iter().collect();
        locks.sort_by_key(|(lock, of)| (std::cmp::Reverse(of.waited), **lock));
        let told = |(lock, of): (&u64, &OfLock)| ContendedLock {
            lock: *lock,
            kind: of.kind,
            waits: of.waits,
            given_up: of.given_up,
            waited: of.waited,
            longest: of.longest.known.since(of.longest.began),
            waiters: of.waiters.len() as u64,
            most_at_once: of.most_at_once,
            places: places(&of.places, context),
            held_at: places(&of.held_at, context),
        };
        let mut going_on: Vec<_> = self.going_on.values().collect();
        going_on.sort_by_key(|wait| (wait.began, wait.lock, wait.waiter));
        let mut across_await: Vec<_> = self.across.iter().collect();
        across_await.sort_by_key(|(at, of)| (std::cmp::Reverse((of.times, of.waits)), **at));
        let table = Locks {
            waits: self.waits,
            waited: self.waited,
            locks: locks.into_iter().take(LISTED).map(told).collect(),
            going_on: going_on.into_iter().take(LISTED).map(|wait| wait.told(context)).collect(),
            across_await: across_await
                .into_iter()
                .take(LISTED)
                .map(|(at, of)| AcrossAwait {
                    place: context.text(*at),
                    kind: of.kind,
                    times: of.times,
                    most_polls: of.most_polls,
                    waits: of.waits,
                    longest_wait: of.longest.map_or(Nanos(0), |of| of.known.since(of.began)),
                })
                .collect(),
        };
        Section { table, findings, ..Section::default() }
    }
}

#[allow(clippy::too_many_arguments, reason = "they are what an event has")]
fn wait(
    view: &EventView<'_>,
    waiter: Waiter,
    task: Option<TaskId>,
    (lock, kind): (u64, Option<LockKind>),
    site: Site<'_>,
    waited: Nanos,
    names: &mut Names,
    stops: &Stops,
) -> Wait {
    // What lies before the event is counted by the clock that stands still while the process is stopped.
    let before = |length: Nanos| stops.counted(stops.told(view.at).since(length));
    let holder = view.event.and_then(Event::lock_holder);
    let held = holder.map(|holder| held(&holder, &before, names));
    let (at, began) = (names.name(&place(site)), before(waited));
    Wait { waiter, task, lock, kind, at, began, known: view.at, held }
}

fn held(holder: &LockHolder<'_>, before: &dyn Fn(Nanos) -> Nanos, names: &mut Names) -> Held {
    Held {
        thread: holder.thread,
        os_thread: holder.os_thread,
        task: holder.task,
        at: holder.site.map(|site| names.name(&place(site))),
        since: holder.held.map(before),
        is_across_await: holder.is_across_await,
    }
}

fn place(site: Site<'_>) -> String {
    format!("{}:{}", site.file, site.line)
}

fn note(places: &mut BTreeMap<Name, (u64, Nanos)>, at: Option<Name>, waited: Nanos) {
    let Some(at) = at else { return };
    if places.len() < MOST_PLACES || places.contains_key(&at) {
        let (count, sum) = places.entry(at).or_default();
        *count += 1;
        sum.grow(waited);
    }
}

/// The places by how long was waited, longest first.
fn places(
    places: &BTreeMap<Name, (u64, Nanos)>,
    context: &ReportContext<'_>,
) -> Vec<(String, u64, Nanos)> {
    let mut sorted: Vec<_> = places.iter().collect();
    sorted.sort_by_key(|(at, (_, waited))| (std::cmp::Reverse(*waited), **at));
    sorted.into_iter().map(|(at, (count, sum))| (context.text(*at), *count, *sum)).collect()
}

/// What a lock is called.
fn called(kind: Option<LockKind>) -> &'static str {
    kind.map_or("lock", LockKind::name)
}

impl Wait {
    fn told(&self, context: &ReportContext<'_>) -> LockWaiter {
        let thread = match self.waiter {
            Waiter::Thread(number) => Some(context.thread(number)),
            Waiter::Task(_) => None,
        };
        let holder = self.held.map_or((None, None), |held| {
            let thread = held.thread.map(|number| context.thread(number));
            (thread, held.task.map(|task| task_ref(task, context)))
        });
        LockWaiter {
            thread,
            task: self.task.map(|task| task_ref(task, context)),
            lock: self.lock,
            kind: self.kind,
            place: context.text(self.at),
            since: context.moment(self.began),
            length: context.end.since(self.began),
            holder,
            held_at: self.held.and_then(|held| held.at).map(|at| context.text(at)),
        }
    }

    /// Who waits, in words.
    fn who(&self, context: &ReportContext<'_>) -> String {
        match (self.waiter, self.task) {
            (Waiter::Task(task), _) => format!("task {}", task_ref(task, context).label()),
            (Waiter::Thread(thread), Some(task)) => {
                let (thread, task) = (context.thread(thread).label(), task_ref(task, context));
                format!("{thread}, polling task {}", task.label())
            }
            (Waiter::Thread(thread), None) => context.thread(thread).label(),
        }
    }
}

impl Held {
    /// Who holds it, in words.
    fn who(&self, context: &ReportContext<'_>) -> String {
        match (self.thread, self.os_thread, self.task) {
            (Some(thread), _, Some(task)) => {
                let (thread, task) = (context.thread(thread).label(), task_ref(task, context));
                format!("{thread}, polling task {}", task.label())
            }
            (Some(thread), _, None) => context.thread(thread).label(),
            (None, _, Some(task)) => format!("task {}", task_ref(task, context).label()),
            (None, Some(number), None) => {
                format!("a thread that has recorded nothing (the system's number {number})")
            }
            (None, None, None) => "a task that is not recorded".to_owned(),
        }
    }
}

fn task_ref(task: TaskId, context: &ReportContext<'_>) -> TaskRef {
    match context.live.tasks.get(&task) {
        Some(known) => context.task(task, known.name),
        None => TaskRef { task, name: "?".to_owned() },
    }
}
