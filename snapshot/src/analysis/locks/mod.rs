//! Locks: which ones threads and tasks waited for, who held them, and who waits for whom at the end.
//!
//! A wait is known when it ends, if it was long enough; one that goes on, from what the recorder's own thread says of it with
//! each generation. Of a wait that was said to go on, and whose end may have been lost, something else tells that it is over:
//! its thread has recorded something since, or its task has ended.

mod across_await;
mod convoy;
mod cycles;
mod held_long;
mod holds;
mod permits;
mod waiters;

use super::event_view::EventView;
use super::interner::Name;
use super::lock_times::LockTimes;
use super::lock_wait::{EndedTasks, Said, Wait, Waiter, place};
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::state::{LiveState, Poll, SpanDone};
use super::{Finding, LockWaiter, Section};
use crate::read::EventKind;
use crate::wire::{LockKind, Nanos, SpanId, TaskId, ThreadNumber};
pub use convoy::{FEWEST_WAITERS, FEWEST_WAITS_FOR_LOCK, LONG_WAITS};
use holds::Holds;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use waiters::{Room, Waiters};

/// So many locks, and so many places of each, are told apart.
const MOST_LOCKS: usize = 4096;
const MOST_PLACES: usize = 16;
/// So many waits that go on are kept.
const MOST_GOING_ON: usize = 1024;
/// Of so many polls, and of so many spans, that are open it is known for how long they waited.
const MOST_OPEN: usize = 1 << 14;
const LISTED: usize = 20;

/// The locks of a snapshot that say who waits for them: `lookback::sync`, `lookback::tokio::sync`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Locks {
    /// How many waits were recorded.
    pub waits: u64,
    /// How long they were, together.
    pub waited: Nanos,
    /// For how many different locks.
    pub many: u64,
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

/// What is known of a lock.
#[derive(Debug)]
struct OfLock {
    kind: Option<LockKind>,
    waits: u64,
    given_up: u64,
    waited: Nanos,
    most_at_once: u64,
    first: Nanos,
    last: Nanos,
    longest: Rc<Wait>,
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
    longest: Option<Rc<Wait>>,
    waiters: Waiters,
    /// When it was last so, of which task, on which thread.
    last: Option<(Nanos, TaskId, ThreadNumber)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LockWatch {
    waits: u64,
    waited: Nanos,
    locks: BTreeMap<u64, OfLock>,
    /// Who waited for each of them, or waits at the end.
    waiters: BTreeMap<u64, Waiters>,
    room: Room,
    holds: Holds,
    going_on: HashMap<(u64, Waiter), Wait>,
    /// The threads among those.
    waiting_threads: HashSet<ThreadNumber>,
    across: BTreeMap<Name, OfPlace>,
    ended: EndedTasks,
    /// How long polls and spans that are open have waited.
    in_polls: HashMap<(ThreadNumber, TaskId), LockTimes>,
    in_spans: HashMap<SpanId, LockTimes>,
    /// How long each thread has waited.
    of_threads: HashMap<ThreadNumber, Nanos>,
    /// The waits of tasks that nobody polls, at the end.
    of_tasks: HashMap<TaskId, Rc<Wait>>,
}

impl LockWatch {
    /// Looks at an event. Returns whether it is one of locks.
    pub(super) fn view(&mut self, view: &EventView<'_>, live: &mut LiveState) -> bool {
        match view.kind {
            EventKind::Contention { site, lock, kind, waited, waiters, is_given_up } => {
                let task = live.waiter(view);
                let waiter = match (task, kind) {
                    (Some(task), Some(kind)) if kind.is_of_tasks() => Waiter::Task(task),
                    _ => Waiter::Thread(view.thread),
                };
                self.going_on.remove(&(lock, waiter));
                let said = Said { task, lock, kind, site, waited, is_over: true };
                let mut wait = Wait::of(view, waiter, &said, &self.ended, live);
                self.holds.attribute(&mut wait);
                live.waits.lock(&wait, waiters, &mut live.names);
                self.over(&Rc::new(wait), waiters, is_given_up);
            }
            EventKind::LockWait { thread, task, site, lock, kind, waited } => {
                let is_of_task = kind.is_some_and(LockKind::is_of_tasks);
                let waiter = match (thread, task) {
                    (None, Some(task)) => Waiter::Task(task),
                    (Some(_), Some(task)) if is_of_task => Waiter::Task(task),
                    (Some(thread), _) => Waiter::Thread(thread),
                    (None, None) => return true,
                };
                if self.going_on.len() < MOST_GOING_ON
                    || self.going_on.contains_key(&(lock, waiter))
                {
                    let said = Said { task, lock, kind, site, waited, is_over: false };
                    let wait = Wait::of(view, waiter, &said, &self.ended, live);
                    self.going_on.insert((lock, waiter), wait);
                    if let Waiter::Thread(thread) = waiter {
                        self.waiting_threads.insert(thread);
                    }
                }
            }
            EventKind::LockHeld { site, kind, task, polls, .. } => {
                let at = live.names.name(&place(site));
                let of = self.across.entry(at).or_default();
                (of.kind, of.times) = (kind, of.times + 1);
                of.most_polls = of.most_polls.max(polls);
                of.last = Some((view.at, task, view.thread));
            }
            EventKind::TaskReady { task }
            | EventKind::TaskPanic { task }
            | EventKind::TaskDrop { task } => {
                self.goes_on(view.thread);
                self.ended.note(task, live.names.name(view.name));
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
        if !self.waiting_threads.is_empty() && self.waiting_threads.remove(&thread) {
            self.going_on.retain(|(_, waiter), _| *waiter != Waiter::Thread(thread));
        }
    }

    /// A wait has ended.
    fn over(&mut self, wait: &Rc<Wait>, at_once: u64, is_given_up: bool) {
        let waited = wait.length();
        self.waits += 1;
        self.waited.grow(waited);
        self.note_across(wait);
        self.note_inside(wait);
        self.note_thread(wait);
        if self.locks.len() >= MOST_LOCKS && !self.locks.contains_key(&wait.lock) {
            return;
        }
        self.waiters.entry(wait.lock).or_default().add(wait, &mut self.room);
        let new = || OfLock {
            kind: wait.kind,
            waits: 0,
            given_up: 0,
            waited: Nanos(0),
            most_at_once: 0,
            first: wait.began,
            last: wait.known,
            longest: Rc::clone(wait),
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
        if waited > of.longest.length() {
            of.longest = Rc::clone(wait);
        }
        note(&mut of.places, Some(wait.at), waited);
        note(&mut of.held_at, wait.held.and_then(|held| held.at), waited);
    }

    /// Notes a wait for a lock that a task holds which nobody polls.
    fn note_across(&mut self, wait: &Rc<Wait>) {
        let Some(at) = wait.held.filter(|held| held.is_across_await).and_then(|held| held.at)
        else {
            return;
        };
        let of = self.across.entry(at).or_default();
        of.kind = of.kind.or(wait.kind);
        of.waits += 1;
        of.waiters.add(wait, &mut self.room);
        if of.longest.as_ref().is_none_or(|longest| longest.length() < wait.length()) {
            of.longest = Some(Rc::clone(wait));
        }
    }

    /// Notes in which poll and in which span a wait was.
    fn note_inside(&mut self, wait: &Rc<Wait>) {
        if let (Waiter::Thread(thread), Some(task)) = (wait.waiter, wait.task) {
            // What is over has been removed, unless its end was not seen.
            if self.in_polls.len() >= MOST_OPEN {
                self.in_polls.clear();
            }
            self.in_polls.entry((thread, task.task)).or_default().add(wait);
        }
        if let Some(span) = &wait.span {
            if self.in_spans.len() >= MOST_OPEN {
                self.in_spans.clear();
            }
            self.in_spans.entry(span.span).or_default().add(wait);
        }
    }

    fn note_thread(&mut self, wait: &Wait) {
        if let Waiter::Thread(thread) = wait.waiter
            && (self.of_threads.len() < MOST_OPEN || self.of_threads.contains_key(&thread))
        {
            self.of_threads.entry(thread).or_default().grow(wait.length());
        }
    }

    /// How long a thread has waited for locks, in all.
    pub(super) fn of_thread(&self, thread: ThreadNumber) -> Nanos {
        self.of_threads.get(&thread).copied().unwrap_or_default()
    }

    /// A poll is over, or the snapshot is: says for which lock it waited most of the time, if it did.
    pub(super) fn poll_over(&mut self, poll: &mut Poll) {
        if let Some(times) = self.in_polls.remove(&(poll.thread, poll.task)) {
            poll.lock = times.most_of(poll.blocked, poll.began);
        }
    }

    /// The same for a span; what it waited for, the span around it has waited for, too.
    pub(super) fn span_over(&mut self, span: &mut SpanDone) {
        let Some(times) = self.in_spans.remove(&span.label.span) else { return };
        span.lock = times.most_of(span.length(), span.began);
        if let Some(parent) = span.parent {
            self.in_spans.entry(parent).or_default().merge(&times);
        }
    }

    /// What a task waits for at the end that nobody polls.
    pub(super) fn of_task(&self, task: TaskId) -> Option<&Rc<Wait>> {
        self.of_tasks.get(&task)
    }

    /// The snapshot ends while polls, spans and tasks are still known.
    pub(super) fn end(&mut self, live: &mut LiveState, end: Nanos) {
        let mut going_on: Vec<_> = self.going_on.values_mut().collect();
        going_on.sort_by_key(|wait| (wait.began, wait.lock, wait.waiter));
        let mut all = Vec::new();
        for wait in going_on {
            wait.known = end;
            wait.span = match wait.waiter {
                Waiter::Thread(thread) => live.here(thread).span,
                Waiter::Task(task) => live.innermost_span(task).cloned(),
            };
            live.waits.lock(wait, 1, &mut live.names);
            all.push(Rc::new(wait.clone()));
        }
        for wait in &all {
            self.note_across(wait);
            self.note_inside(wait);
            self.note_thread(wait);
            if let Waiter::Task(task) = wait.waiter {
                self.of_tasks.insert(task, Rc::clone(wait));
            }
            self.waiters.entry(wait.lock).or_default().add(wait, &mut self.room);
        }
    }

    /// `told` are the findings of other analyses in which somebody may have waited for a lock.
    pub(super) fn finish(&self, told: &[&Finding], context: &ReportContext<'_>) -> Section<Locks> {
        let (mut findings, in_deadlocks) = cycles::find(&self.going_on, context);
        findings.extend(across_await::find(&self.across, &in_deadlocks, context));
        findings.extend(convoy::find(&self.locks, &self.waiters, context));
        findings.extend(permits::find(&self.going_on, &self.waiters, &findings, context));
        findings.extend(held_long::find(&self.waiters, told, &findings, context));
        let mut locks: Vec<_> = self.locks.iter().collect();
        locks.sort_by_key(|(lock, of)| (std::cmp::Reverse(of.waited), **lock));
        let told = |(lock, of): (&u64, &OfLock)| ContendedLock {
            lock: *lock,
            kind: of.kind,
            waits: of.waits,
            given_up: of.given_up,
            waited: of.waited,
            longest: of.longest.length(),
            waiters: self.waiters.get(lock).map_or(0, Waiters::count),
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
            many: self.waiters.len() as u64,
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
                    longest_wait: of.longest.as_ref().map_or(Nanos(0), |wait| wait.length()),
                })
                .collect(),
        };
        Section { table, findings, ..Section::default() }
    }
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
