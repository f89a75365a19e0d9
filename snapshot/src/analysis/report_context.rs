//! Turns what the pass has kept into the report's statements.

use super::event_view::shown;
use super::interner::Name;
use super::nanos_ext::Length;
use super::state::{Blocker, Chain, Label, LiveState};
use super::{BlockerRef, Evidence, Moment, SpanRef, TaskRef, ThreadRef, WakeRef};
use crate::wire::{Nanos, TaskId, ThreadNumber};

/// See the module.
pub(super) struct ReportContext<'a> {
    pub(super) live: &'a LiveState,
    pub(super) first: Nanos,
    pub(super) end: Nanos,
}

impl ReportContext<'_> {
    pub(super) fn moment(&self, at: Nanos) -> Moment {
        let told = |at| i128::from(self.live.stops.told(at).0);
        let since = told(at) - told(self.first);
        Moment(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// The same instant by the clock that lengths are measured with.
    pub(super) fn at(&self, moment: Moment) -> Nanos {
        let first = i128::from(self.live.stops.told(self.first).0);
        self.live.stops.counted(Nanos((first + i128::from(moment.0)) as u64))
    }

    pub(super) fn text(&self, name: Name) -> String {
        self.live.names.text(name).to_owned()
    }

    pub(super) fn thread(&self, number: ThreadNumber) -> ThreadRef {
        let name = self.live.thread_name(number).to_owned();
        let worker = self.live.known_workers.of(number);
        let worker_name = worker.and_then(|worker| self.live.given_name(worker));
        ThreadRef { number, name, worker, worker_name: worker_name.map(str::to_owned) }
    }

    /// A holder of a lock that had recorded nothing then: it may have begun to since.
    pub(super) fn holder(
        &self,
        thread: Option<ThreadNumber>,
        os_thread: Option<u64>,
    ) -> (Option<ThreadRef>, Option<u64>) {
        let later = || os_thread.and_then(|number| self.live.of_number(number));
        match thread.or_else(later) {
            Some(number) => (Some(self.thread(number)), None),
            None => (None, os_thread),
        }
    }

    pub(super) fn task(&self, task: TaskId, name: Name) -> TaskRef {
        TaskRef { task, name: self.text(name) }
    }

    /// A task that may have ended: then its name is not known.
    pub(super) fn task_of(&self, task: TaskId) -> TaskRef {
        let known = self.live.tasks.get(&task).map(|known| known.name);
        self.task(task, known.unwrap_or_default())
    }

    pub(super) fn span(&self, label: &Label) -> SpanRef {
        let (span, fields) = (label.span, shown(&label.fields));
        SpanRef { span, name: self.text(label.name), fields }
    }

    pub(super) fn blocker(&self, blocker: &Blocker) -> BlockerRef {
        BlockerRef {
            task: self.task(blocker.task, blocker.name),
            began: self.moment(blocker.began),
            length: blocker.ended.since(blocker.began),
        }
    }

    pub(super) fn wakes(&self, chain: &Chain) -> Vec<WakeRef> {
        let wakes = chain.iter().map(|hop| WakeRef {
            at: self.moment(hop.at),
            thread: self.thread(hop.thread),
            task: hop.task.map(|(task, name)| self.task(task, name)),
            polled: hop.polled.map(|polled| self.moment(polled)),
            spawned: hop.spawned,
        });
        wakes.collect()
    }

    /// Evidence that begins here and ends there.
    pub(super) fn evidence(
        &self,
        what: impl Into<String>,
        at: Nanos,
        until: Option<Nanos>,
    ) -> Evidence {
        Evidence {
            what: what.into(),
            at: self.moment(at),
            until: until.map(|until| self.moment(until)),
            before_end: self.live.stops.told(self.end).since(self.live.stops.told(at)),
            thread: None,
            task: None,
            span: None,
            depth: 0,
        }
    }
}

impl ThreadRef {
    /// Its worker, as `r0/w1` or by the worker's name. Otherwise its name and number, `indexer#7`, because several
    /// threads can have the same name, or its number alone.
    #[must_use]
    pub fn label(&self) -> String {
        self.worker_label().unwrap_or_else(|| self.called())
    }

    /// Like [`label`](Self::label), where there is little room: `r0/w1`, `name#3`, `#3`.
    #[must_use]
    pub fn short(&self) -> String {
        self.worker_label().unwrap_or_else(|| format!("{}#{}", self.name, self.number))
    }

    /// The label of its worker.
    #[must_use]
    pub fn worker_label(&self) -> Option<String> {
        let number = || self.worker.map(|worker| worker.to_string());
        self.worker_name.clone().or_else(number)
    }

    /// Its name and number, even if it is a worker.
    #[must_use]
    pub fn called(&self) -> String {
        match (&*self.name, self.number) {
            ("", ThreadNumber(0)) => "an unknown thread".to_owned(),
            ("", number) => format!("thread {number}"),
            (name, number) => format!("{name}#{number}"),
        }
    }
}

impl TaskRef {
    /// Its name and number.
    #[must_use]
    pub fn label(&self) -> String {
        format!("`{}` ({})", self.name, self.task)
    }
}

impl SpanRef {
    /// Its name, and its fields if it has any.
    #[must_use]
    pub fn label(&self) -> String {
        match &*self.fields {
            "" => format!("`{}`", self.name),
            fields => format!("`{}` {{{fields}}}", self.name),
        }
    }
}

impl WakeRef {
    /// The task or, without one, the thread.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.task {
            Some(task) => format!("task {} on {}", task.label(), self.thread.label()),
            None => format!("{}, outside of any task", self.thread.label()),
        }
    }
}
