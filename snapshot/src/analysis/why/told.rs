//! Turns what a group of windows did into statements.

use super::doing::{Doing, Sum, Unknown, Waker};
use super::periods::Divided;
use super::tables::LockOf;
use super::watch::{OfGroup, Watch};
use super::{LockWaitedFor, Part, Seen, Spent, State, Stretch};
use crate::analysis::nanos_ext::Length;
use crate::analysis::report_context::ReportContext;
use crate::analysis::{TaskRef, ThreadRef};
use crate::read::OwnedFrame;
use crate::wire::{Nanos, TaskId};

/// How many stretches of a task that is waited for, or holds a lock, are followed.
const FOLLOWED: usize = 24;

/// So many stacks are told of a group.
const SEEN: usize = 64;

/// A part whose time another task may explain, and the longest stretches of it.
pub(super) struct Follow {
    pub(super) part: usize,
    pub(super) task: TaskId,
    pub(super) stretches: Vec<(Nanos, Nanos)>,
}

pub(super) struct Told<'a> {
    pub(super) watch: &'a Watch,
    pub(super) context: &'a ReportContext<'a>,
}

impl Told<'_> {
    /// What the group did, and whom to follow into what.
    pub(super) fn spent(&self, group: usize, of: &OfGroup) -> (Spent, Vec<Follow>) {
        let mut spent = Spent { length: of.length, ..Spent::default() };
        let mut follow = Vec::new();
        for (doing, sum) in of.sums.iter().filter(|(_, sum)| sum.time.0 > 0) {
            if let Doing::Polled { .. } = doing {
                self.polled(group, doing, sum, &mut spent.parts);
                continue;
            }
            if let Some(task) = self.explained_by(doing) {
                let all = of.longest.iter().filter(|segment| segment.doing == *doing);
                let stretches = all.take(FOLLOWED).map(|segment| (segment.from, segment.until));
                let stretches = stretches.collect();
                follow.push(Follow { part: spent.parts.len(), task, stretches });
            }
            spent.parts.push(self.part(self.state(doing), sum));
        }
        let mut stretches: Vec<_> = of.longest.iter().copied().collect();
        stretches.sort_by_key(|segment| segment.from);
        let told = |segment: super::window::Segment| Stretch {
            began: self.context.moment(segment.from),
            length: segment.length(),
            state: self.state(&segment.doing),
        };
        spent.longest = stretches.into_iter().map(told).collect();
        let seen = self.watch.seen(group).into_iter().take(SEEN);
        let seen = seen.map(|(stack, times, first)| Seen {
            stack: self.stack(Some(stack)),
            times,
            first: self.context.moment(first),
        });
        spent.seen = seen.collect();
        (spent, follow)
    }

    fn part(&self, state: State, sum: &Sum) -> Part {
        Part {
            state,
            time: sum.time,
            times: sum.times,
            longest: sum.longest,
            longest_at: self.context.moment(sum.longest_at),
            followed: None,
        }
    }

    /// Time in polls, divided as far as the kernel's counts tell.
    fn polled(&self, group: usize, doing: &Doing, sum: &Sum, parts: &mut Vec<Part>) {
        let Doing::Polled { thread } = *doing else { return };
        let Divided { running, core, blocked } = self.watch.periods.divided(group, thread);
        let thread = self.context.thread(thread);
        let blocked_at = State::Blocked { thread: thread.clone(), stack: Vec::new() };
        let mut rest = sum.time;
        for (state, time) in [
            (State::Running { thread: thread.clone() }, running),
            (State::WaitingForCore { thread }, core),
            (blocked_at, blocked),
        ] {
            let time = time.min(rest);
            rest = rest.since(time);
            if time.0 > 0 {
                parts.push(self.part(state, &Sum { time, ..*sum }));
            }
        }
        if rest.0 > 0 {
            parts.push(self.part(self.state(doing), &Sum { time: rest, ..*sum }));
        }
    }

    fn explained_by(&self, doing: &Doing) -> Option<TaskId> {
        match doing {
            Doing::Waits(waits) => match waits.waker {
                Waker::Task(task, _) | Waker::EndOf(task, _) => Some(task),
                _ => None,
            },
            Doing::Lock(lock) => self.watch.tables.locks.get(*lock)?.task,
            _ => None,
        }
    }

    fn state(&self, doing: &Doing) -> State {
        let context = self.context;
        match *doing {
            Doing::Polled { thread } => State::Polled { thread: context.thread(thread) },
            Doing::Stands { thread, stack } => {
                State::Blocked { thread: context.thread(thread), stack: self.stack(Some(stack)) }
            }
            Doing::Lock(lock) => match self.watch.tables.locks.get(lock) {
                Some(lock) => State::Lock(self.lock(lock)),
                None => State::Unknown { because: because(Unknown::Many) },
            },
            Doing::Ready(ready) => State::Ready {
                thread: ready.thread.map(|thread| context.thread(thread)),
                meanwhile: ready.meanwhile.map(|(task, name)| context.task(task, name)),
                is_spawned: ready.spawned,
                may_block: ready.blocking,
            },
            Doing::Waits(waits) => {
                let reason = waits.reason.map(|name| context.text(name));
                let stack = self.stack(waits.stack);
                match waits.waker {
                    Waker::Task(task, name) => {
                        let (task, is_end) = (context.task(task, name), false);
                        State::Task { task, is_end, reason, stack }
                    }
                    Waker::EndOf(task, name) => {
                        let (task, is_end) = (context.task(task, name), true);
                        State::Task { task, is_end, reason, stack }
                    }
                    Waker::Thread(thread) => {
                        State::Wake { thread: Some(context.thread(thread)), reason, stack }
                    }
                    Waker::NotKnown => State::Wake { thread: None, reason, stack },
                    Waker::Nobody => State::NotWoken { reason, stack },
                }
            }
            Doing::Unknown(why) => State::Unknown { because: because(why) },
        }
    }

    fn lock(&self, of: &LockOf) -> LockWaitedFor {
        let (thread, os_thread) = self.context.holder(of.thread, of.os_thread);
        LockWaitedFor {
            lock: of.lock,
            kind: of.kind,
            place: self.context.text(of.at),
            thread,
            os_thread,
            task: of.task.map(|task| self.task(task)),
            held_at: of.held_at.map(|at| self.context.text(at)),
            is_across_await: of.is_across_await,
        }
    }

    /// A task that may have ended long since.
    fn task(&self, task: TaskId) -> TaskRef {
        let known = self.watch.name_of(task);
        let known = known.or_else(|| self.context.live.tasks.get(&task).map(|task| task.name));
        match known {
            Some(name) => self.context.task(task, name),
            None => TaskRef { task, name: "?".to_owned() },
        }
    }

    fn stack(&self, at: Option<usize>) -> Vec<OwnedFrame> {
        at.and_then(|at| self.watch.tables.stacks.get(at)).cloned().unwrap_or_default()
    }
}

/// The end of a sentence that begins with "unknown, because".
fn because(why: Unknown) -> &'static str {
    match why {
        Unknown::NotKnownYet => {
            "no event says what its task did: it was not known yet, or events are missing"
        }
        Unknown::PolledWithoutWake => "its task was polled again, and no wake of it was recorded",
        Unknown::TaskOver => "its task had ended, or was another one",
        Unknown::NotEntered => "it ran in no recorded task, and no thread had entered it",
        Unknown::Many => "there is too much of it to tell it apart",
    }
}

impl State {
    /// What it is called: the key in `--json`.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Running { .. } => "running",
            Self::WaitingForCore { .. } => "core",
            Self::Blocked { .. } => "blocked",
            Self::Polled { .. } => "polled",
            Self::Ready { .. } => "ready",
            Self::Lock(_) => "lock",
            Self::Task { .. } => "task",
            Self::Wake { .. } => "wake",
            Self::NotWoken { .. } => "not_woken",
            Self::Stopped => "stopped",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// The stack that shows where that was; empty if it is not known.
    #[must_use]
    pub fn stack(&self) -> &[OwnedFrame] {
        match self {
            Self::Blocked { stack, .. }
            | Self::Task { stack, .. }
            | Self::Wake { stack, .. }
            | Self::NotWoken { stack, .. } => stack,
            _ => &[],
        }
    }

    /// In words, without the stack.
    #[must_use]
    pub fn in_words(&self) -> String {
        let for_that = |reason: &Option<String>| match reason {
            Some(reason) => format!(" for `{reason}`"),
            None => String::new(),
        };
        match self {
            Self::Running { thread } => format!("running on {}", thread.label()),
            Self::WaitingForCore { thread } => {
                format!("polled on {}, which waited for a core", thread.label())
            }
            Self::Blocked { thread, .. } => {
                format!("polled on {}, which was blocked in the kernel", thread.label())
            }
            Self::Polled { thread } => format!(
                "polled on {}: unknown whether that ran, was blocked, or waited for a core",
                thread.label()
            ),
            Self::Ready { thread, meanwhile, is_spawned, may_block } => {
                ready(thread.as_ref(), meanwhile.as_ref(), *is_spawned, *may_block)
            }
            Self::Lock(lock) => lock.in_words(),
            Self::Task { task, is_end: true, reason, .. } => {
                format!("waiting{}, until task {} ended", for_that(reason), task.label())
            }
            Self::Task { task, reason, .. } => {
                format!("waiting{}, until task {} woke it", for_that(reason), task.label())
            }
            Self::Wake { thread: Some(thread), reason, .. } if thread.worker.is_some() => format!(
                "waiting{}, until {} woke it outside of recorded tasks: I/O, a timer, or a task that is not recorded",
                for_that(reason),
                thread.label()
            ),
            Self::Wake { thread: Some(thread), reason, .. } => format!(
                "waiting{}, until thread {} woke it outside of recorded tasks",
                for_that(reason),
                thread.label()
            ),
            Self::Wake { thread: None, reason, .. } => {
                format!("waiting{}; who woke it was not recorded", for_that(reason))
            }
            Self::NotWoken { reason, .. } => {
                format!("waiting{}; nothing has woken it", for_that(reason))
            }
            Self::Stopped => "the whole process was stopped".to_owned(),
            Self::Unknown { because } => format!("unknown: {because}"),
        }
    }
}

fn ready(
    thread: Option<&ThreadRef>,
    meanwhile: Option<&TaskRef>,
    is_spawned: bool,
    may_block: bool,
) -> String {
    let since = if is_spawned { "spawned" } else { "woken" };
    let mut words = match (thread, may_block) {
        (_, true) => format!("{since}, and no thread for blocking work took it yet"),
        (Some(thread), _) => format!("{since}, and not polled yet by {}", thread.label()),
        (None, _) => format!("{since}, and not polled yet"),
    };
    if let Some(task) = meanwhile {
        words += &format!(", which polled task {} for most of the time", task.label());
    }
    words
}

impl LockWaitedFor {
    fn in_words(&self) -> String {
        let kind = self.kind.map_or("lock", crate::wire::LockKind::name);
        let mut words = format!("waiting for a {kind} at {}", self.place);
        let holder = match (&self.thread, &self.task, self.os_thread) {
            (Some(thread), Some(task), _) => {
                Some(format!("{}, polling task {}", thread.label(), task.label()))
            }
            (Some(thread), None, _) => Some(thread.label()),
            (None, Some(task), _) => Some(format!("task {}", task.label())),
            (None, None, Some(number)) => {
                Some(format!("a thread that has recorded nothing (the system's number {number})"))
            }
            (None, None, None) => None,
        };
        let certain = self.kind.is_some_and(crate::wire::LockKind::has_certain_holder);
        let verb = if certain { "held by" } else { "last taken by" };
        match (holder, &self.held_at) {
            (Some(holder), Some(at)) => words += &format!(", {verb} {holder} since {at}"),
            (Some(holder), None) => words += &format!(", {verb} {holder}"),
            (None, Some(at)) => words += &format!(", {verb} whoever took it at {at}"),
            (None, None) => words += "; who held it is not known",
        }
        if self.is_across_await {
            words += ", across an .await";
        }
        words
    }
}
