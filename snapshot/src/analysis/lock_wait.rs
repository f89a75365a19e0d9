//! A wait for a lock: who waits, who holds the lock meanwhile, and how that is said.

use super::event_view::EventView;
use super::interner::Name;
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::state::{Label, LiveState};
use super::{Evidence, Moment, SpanRef, TaskRef, ThreadRef};
use crate::format::duration;
use crate::read::{Event, LockHolder, Site};
use crate::wire::{LockKind, Nanos, TaskId, ThreadNumber};
use std::collections::{HashMap, VecDeque};

/// A thread or a task that waits for a lock, or has waited for it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LockWaiter {
    /// The thread that waits; none if it is a task.
    pub thread: Option<ThreadRef>,
    /// The task that waits, or that the thread polls.
    pub task: Option<TaskRef>,
    /// The innermost span that it is in.
    pub span: Option<SpanRef>,
    /// The lock's number.
    pub lock: u64,
    /// What it is; `None` if only a later version knows it.
    pub kind: Option<LockKind>,
    /// Where it asks for the lock, as `file:line`.
    pub place: String,
    /// Since when.
    pub since: Moment,
    /// For how long: up to the end, if the wait goes on.
    pub length: Nanos,
    /// Whether it is over.
    pub is_over: bool,
    /// Who holds the lock, or held it last: a thread, and a task that holds it or that the thread polled then.
    pub holder: (Option<ThreadRef>, Option<TaskRef>),
    /// The kernel's number of a thread that holds it and had recorded nothing.
    pub holder_os_thread: Option<u64>,
    /// Where that took the lock.
    pub held_at: Option<String>,
    /// For how long it had held the lock when this wait ended, or when it was last said to go on, or until others had it that waited
    /// before.
    pub held: Option<Nanos>,
    /// Whether it had held the lock for longer: it is not known since when.
    pub is_held_at_least: bool,
    /// Whether a thread held it for a task that nobody polled.
    pub is_across_await: bool,
    /// When it was over, if that was before the wait.
    pub(super) hold_over: Option<Moment>,
}

/// Who waits for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Waiter {
    Thread(ThreadNumber),
    Task(TaskId),
}

/// A task, with its name: it may have ended when somebody asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) task: TaskId,
    pub(super) name: Name,
}

/// The names of tasks that have ended: of the last few, which may be said to have held a lock.
#[derive(Debug, Default)]
pub(super) struct EndedTasks {
    names: HashMap<TaskId, Name>,
    order: VecDeque<TaskId>,
}

impl EndedTasks {
    const MOST: usize = 4096;

    pub(super) fn note(&mut self, task: TaskId, name: Name) {
        if self.order.len() == Self::MOST
            && let Some(first) = self.order.pop_front()
        {
            self.names.remove(&first);
        }
        if self.names.insert(task, name).is_none() {
            self.order.push_back(task);
        }
    }

    fn name(&self, task: TaskId) -> Name {
        self.names.get(&task).copied().unwrap_or_default()
    }
}

/// Who holds a lock, and where.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) thread: Option<ThreadNumber>,
    pub(super) os_thread: Option<u64>,
    pub(super) task: Option<Named>,
    pub(super) at: Option<Name>,
    pub(super) since: Option<Nanos>,
    /// When it was over, if others had the lock between it and the waiter.
    pub(super) over: Option<Nanos>,
    pub(super) is_at_least: bool,
    pub(super) is_across_await: bool,
}

/// A wait, over or not.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    pub(super) waiter: Waiter,
    /// The task that waits, or that a thread polls meanwhile.
    pub(super) task: Option<Named>,
    pub(super) span: Option<Label>,
    pub(super) lock: u64,
    pub(super) kind: Option<LockKind>,
    pub(super) at: Name,
    pub(super) began: Nanos,
    /// When it was last known to go on, or ended.
    pub(super) known: Nanos,
    pub(super) is_over: bool,
    pub(super) held: Option<Held>,
}

/// What an event says of a wait.
pub(super) struct Said<'a> {
    pub(super) task: Option<TaskId>,
    pub(super) lock: u64,
    pub(super) kind: Option<LockKind>,
    pub(super) site: Site<'a>,
    pub(super) waited: Nanos,
    pub(super) is_over: bool,
}

impl Wait {
    pub(super) fn of(
        view: &EventView<'_>,
        waiter: Waiter,
        said: &Said<'_>,
        ended: &EndedTasks,
        live: &mut LiveState,
    ) -> Self {
        let stops = &live.stops;
        // What lies before the event is counted by the clock that stands still while the process is stopped.
        let before = |length: Nanos| stops.counted(stops.told(view.at).since(length));
        let holder = view.event.map_or(view.holder, Event::lock_holder);
        let (began, since) = (before(said.waited), holder.and_then(|of| of.held).map(before));
        let span = match said.is_over {
            true => view.span.and_then(|span| live.spans.get(&span)).map(|span| span.label.clone()),
            false => None,
        };
        let named = |task: TaskId| Named {
            task,
            name: live.tasks.get(&task).map_or_else(|| ended.name(task), |known| known.name),
        };
        let task = said.task.map(named);
        let holder_task = holder.and_then(|of| of.task).map(named);
        let held = holder.map(|of| Held::of(&of, holder_task, since, live));
        Self {
            waiter,
            task,
            span,
            lock: said.lock,
            kind: said.kind,
            at: live.names.name(&place(said.site)),
            began,
            known: view.at,
            is_over: said.is_over,
            held,
        }
    }

    pub(super) fn task_id(&self) -> Option<TaskId> {
        self.task.map(|named| named.task)
    }

    /// The kind of the event that tells of it.
    pub(super) fn kind_of_event(&self) -> &'static str {
        if self.is_over { "contention" } else { "lock_wait" }
    }

    /// How long it is, as far as is known.
    pub(super) fn length(&self) -> Nanos {
        self.known.since(self.began)
    }

    pub(super) fn told(&self, context: &ReportContext<'_>) -> LockWaiter {
        let thread = match self.waiter {
            Waiter::Thread(number) => Some(context.thread(number)),
            Waiter::Task(_) => None,
        };
        let held = self.held;
        let (of, os_thread) = (held.and_then(|of| of.thread), held.and_then(|of| of.os_thread));
        let (holder, os_thread) = context.holder(of, os_thread);
        let until = if self.is_over { self.known } else { context.end };
        LockWaiter {
            thread,
            task: self.task.map(|task| task.told(context)),
            span: self.span.as_ref().map(|span| context.span(span)),
            lock: self.lock,
            kind: self.kind,
            place: context.text(self.at),
            since: context.moment(self.began),
            length: until.since(self.began),
            is_over: self.is_over,
            holder: (holder, held.and_then(|held| held.task).map(|task| task.told(context))),
            holder_os_thread: os_thread,
            held_at: held.and_then(|held| held.at).map(|at| context.text(at)),
            held: held.and_then(|held| held.length(until)),
            is_held_at_least: held.is_some_and(|held| held.is_at_least),
            is_across_await: held.is_some_and(|held| held.is_across_await),
            hold_over: held.and_then(|held| held.over).map(|over| context.moment(over)),
        }
    }

    /// Who waits, in words.
    pub(super) fn who(&self, context: &ReportContext<'_>) -> String {
        match (self.waiter, self.task) {
            (Waiter::Task(task), named) => {
                let named = named.unwrap_or(Named { task, name: Name::default() });
                format!("task {}", named.told(context).label())
            }
            (Waiter::Thread(thread), Some(task)) => {
                let (thread, task) = (context.thread(thread).label(), task.told(context));
                format!("{thread}, polling task {}", task.label())
            }
            (Waiter::Thread(thread), None) => context.thread(thread).label(),
        }
    }

    /// Evidence of this wait.
    pub(super) fn evidence(&self, depth: u8, context: &ReportContext<'_>) -> Evidence {
        let waits = if self.is_over {
            format!("waited {}", duration(self.length()))
        } else {
            "waits".to_owned()
        };
        let mut what = format!("{waits} at {} for a {}", context.text(self.at), called(self.kind));
        if let Some(held) = &self.held {
            let at = held.at.map(|at| format!(" at {}", context.text(at))).unwrap_or_default();
            let since = match held.since {
                Some(since) => format!(", {} before the end", duration(context.end.since(since))),
                None => String::new(),
            };
            what += &format!(" that {} took{at}{since}", held.who(context));
        }
        let until = self.is_over.then_some(self.known);
        self.evidence_that(what, (self.began, until), depth, context)
    }

    /// Evidence about who waits, with other words.
    pub(super) fn evidence_that(
        &self,
        what: String,
        (from, until): (Nanos, Option<Nanos>),
        depth: u8,
        context: &ReportContext<'_>,
    ) -> Evidence {
        let told = self.told(context);
        let mut evidence = context.evidence(what, from, until);
        evidence.thread = told.thread.filter(|thread| thread.number != ThreadNumber(0));
        (evidence.task, evidence.span) = (told.task, told.span);
        evidence.depth = depth;
        evidence
    }
}

impl Held {
    fn of(
        holder: &LockHolder<'_>,
        task: Option<Named>,
        since: Option<Nanos>,
        live: &mut LiveState,
    ) -> Self {
        Self {
            thread: holder.thread,
            os_thread: holder.os_thread,
            task,
            at: holder.site.map(|site| live.names.name(&place(site))),
            since,
            over: None,
            is_at_least: holder.is_at_least,
            is_across_await: holder.is_across_await,
        }
    }

    pub(super) fn task_id(&self) -> Option<TaskId> {
        self.task.map(|named| named.task)
    }

    /// How long it is, up to this moment if it goes on.
    fn length(&self, until: Nanos) -> Option<Nanos> {
        self.since.map(|since| self.over.unwrap_or(until).since(since))
    }

    /// Who holds it, in words.
    pub(super) fn who(&self, context: &ReportContext<'_>) -> String {
        let (thread, os_thread) = context.holder(self.thread, self.os_thread);
        let task = self.task.map(|task| task.told(context));
        holder_in_words(thread.as_ref(), task.as_ref(), os_thread)
    }
}

impl Named {
    pub(super) fn told(&self, context: &ReportContext<'_>) -> TaskRef {
        let name = context.live.tasks.get(&self.task).map_or(self.name, |known| known.name);
        context.task(self.task, name)
    }
}

impl LockWaiter {
    /// What is waited for and where: `a Mutex (src/bank.rs:31)`.
    #[must_use]
    pub fn lock_in_words(&self) -> String {
        format!("a {} ({})", called(self.kind), self.place)
    }

    /// Who waits: a task, or a thread and the task that it polls.
    #[must_use]
    pub fn who(&self) -> String {
        match (&self.thread, &self.task) {
            (Some(thread), Some(task)) => {
                format!("{}, polling task {}", thread.label(), task.label())
            }
            (Some(thread), None) => thread.label(),
            (None, Some(task)) => format!("task {}", task.label()),
            (None, None) => "a task that is not recorded".to_owned(),
        }
    }

    /// Who holds the lock; none if nothing is known of it.
    #[must_use]
    pub fn holder_in_words(&self) -> Option<String> {
        let is_known = self.held_at.is_some()
            || self.holder != (None, None)
            || self.holder_os_thread.is_some();
        let (thread, task) = (self.holder.0.as_ref(), self.holder.1.as_ref());
        is_known.then(|| holder_in_words(thread, task, self.holder_os_thread))
    }

    /// What is waited for, and who holds it meanwhile: `a Mutex (src/bank.rs:31), held by …`.
    #[must_use]
    pub fn lock_and_holder(&self) -> String {
        let mut words = self.lock_in_words();
        let Some(holder) = self.holder_in_words() else {
            return words + ", held by nobody knows whom";
        };
        words += &format!(", held by {holder}");
        if let Some(held) = self.held {
            let least = if self.is_held_at_least { "at least " } else { "" };
            words += &format!(", for {least}{}", duration(held));
        }
        if let Some(at) = &self.held_at {
            words += &format!(", taken at {at}");
        }
        if self.is_across_await {
            words += ", across an .await";
        }
        words
    }
}

fn holder_in_words(
    thread: Option<&ThreadRef>,
    task: Option<&TaskRef>,
    os_thread: Option<u64>,
) -> String {
    match (thread, os_thread, task) {
        (Some(thread), _, Some(task)) => {
            format!("{}, polling task {}", thread.label(), task.label())
        }
        (Some(thread), _, None) => thread.label(),
        (None, _, Some(task)) => format!("task {}", task.label()),
        (None, Some(number), None) => {
            format!("a thread that has recorded nothing (the system's number {number})")
        }
        (None, None, None) => "a task that is not recorded".to_owned(),
    }
}

/// `src/bank.rs:31`
pub(super) fn place(site: Site<'_>) -> String {
    format!("{}:{}", site.file, site.line)
}

/// What a lock is called.
pub(super) fn called(kind: Option<LockKind>) -> &'static str {
    kind.map_or("lock", LockKind::name)
}

/// The same, without whether it is to be read or written.
pub(super) fn called_in_short(kind: Option<LockKind>) -> &'static str {
    let name = called(kind);
    name.split_once(',').map_or(name, |(name, _)| name)
}
