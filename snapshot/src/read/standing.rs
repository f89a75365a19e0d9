//! Threads, tasks and spans as they were when a generation began.

use super::begin::{SpanBegin, TaskBegin};
use super::event::UNKNOWN;
use super::fields::{Fields, Omitted};
use super::generation::Contents;
use super::spans::UNKNOWN_PARENT;
use super::walked::State;
use super::{Site, Thread, WorkerId};
use crate::wire::{Nanos, SpanId, TaskId, TaskState};
use std::collections::HashMap;

/// A region that was open when a generation began.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct OpenRegion<'a> {
    /// Which.
    pub site: Site<'a>,
    /// When it began, in nanoseconds of the monotonic clock.
    pub began: Nanos,
}

/// What a thread was doing when a generation began.
#[derive(Clone, Copy)]
pub struct ThreadState<'a> {
    contents: &'a Contents,
    state: &'a State,
}

impl<'a> ThreadState<'a> {
    pub(super) fn all(contents: &'a Contents) -> impl Iterator<Item = Self> {
        contents.walked().begin.iter().map(move |state| ThreadState { contents, state })
    }

    /// The thread.
    #[must_use]
    pub fn thread(&self) -> Option<&'a Thread> {
        self.contents.threads.get(self.state.thread)
    }

    /// Its open regions, outermost first.
    pub fn regions(&self) -> impl Iterator<Item = OpenRegion<'a>> + use<'a> {
        let contents = self.contents;
        let unknown = UNKNOWN;
        self.state.regions.known().iter().map(move |open| OpenRegion {
            site: contents.site(open.site).unwrap_or(unknown),
            began: contents.timeline.at(open.began),
        })
    }

    /// How many more were open, deeper than the recorder restates.
    #[must_use]
    pub fn deeper(&self) -> u64 {
        self.state.regions.deeper()
    }

    /// The tasks that it polled, outermost first: polls may nest.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> + use<'a> {
        self.state.inside.tasks.known().iter().map(|(task, _)| *task)
    }

    /// The spans that it was inside of, outermost first.
    pub fn spans(&self) -> impl Iterator<Item = SpanId> + use<'a> {
        self.state.inside.spans.known().iter().copied()
    }

    /// How many more spans it was inside of, deeper than the recorder restates.
    #[must_use]
    pub fn spans_deeper(&self) -> u64 {
        self.state.inside.spans.deeper()
    }

    /// The worker that it was.
    #[must_use]
    pub fn worker(&self) -> Option<WorkerId> {
        self.contents.begin.workers.get(self.state.inside.worker?.worker)
    }

    /// The name that this worker was given: see [`Event::worker_name`](crate::Event::worker_name).
    #[must_use]
    pub fn worker_name(&self) -> Option<&'a str> {
        self.contents.begin.workers.given_name(self.worker()?)
    }

    /// Whether it was a worker for as long as it drives the runtime, of which the end is not told.
    #[must_use]
    pub fn is_visit(&self) -> bool {
        self.state.inside.worker.is_some_and(|tenure| tenure.visit)
    }

    /// Whether it was a worker that slept.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.state.inside.worker.is_some_and(|tenure| tenure.parked)
    }

    /// The runtime whose pool it belonged to.
    #[must_use]
    pub fn pool(&self) -> Option<u64> {
        self.state.inside.pool
    }

    /// Whether this is told by the generation before.
    #[must_use]
    pub fn is_carried(&self) -> bool {
        self.state.carried
    }
}

/// A task that there was when a generation began.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct TaskStatus<'a> {
    /// Which.
    pub task: TaskId,
    /// Where it was spawned, named by its type.
    pub site: Site<'a>,
    /// What it was doing.
    pub state: TaskState,
    /// Whether it had been woken for its next poll.
    pub woken: bool,
    /// Its sequence number, if somebody who owned it mentioned it in the generation.
    pub sequence: Option<u64>,
    /// The thread that polled it, if it was running and that is known.
    pub thread: Option<&'a Thread>,
}

impl<'a> TaskStatus<'a> {
    pub(super) fn all(of: &'a Contents) -> impl Iterator<Item = Self> {
        let polls = |state: &'a State| {
            state.inside.tasks.known().iter().map(move |(task, _)| (*task, state.thread))
        };
        let pollers: HashMap<_, _> = of.walked().begin.iter().flat_map(polls).collect();
        let status = move |task: &TaskBegin| {
            let state = task.state?;
            let running = state == TaskState::Running;
            Some(Self {
                task: task.id,
                site: of.site(task.site).unwrap_or(UNKNOWN),
                state,
                woken: task.woken,
                sequence: task.sequence,
                thread: pollers
                    .get(&task.id)
                    .filter(|_| running)
                    .and_then(|thread| of.threads.get(*thread)),
            })
        };
        of.begin.tasks.iter().filter_map(status)
    }
}

/// A span that was open when a generation began.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct SpanStatus<'a> {
    /// Which.
    pub span: SpanId,
    /// Where it is in the source, with its name.
    pub site: Site<'a>,
    /// The span that it is a child of.
    pub parent: Option<SpanId>,
    /// When it began, in nanoseconds of the monotonic clock.
    pub began: Nanos,
    of: &'a Contents,
    begin: &'a SpanBegin,
}

impl<'a> SpanStatus<'a> {
    pub(super) fn all(of: &'a Contents) -> impl Iterator<Item = Self> {
        let open = of.begin.spans.iter().filter(|span| !of.begin.is_created(span.id));
        let named = |begin: &SpanBegin| {
            let site = of.site(begin.site).unwrap_or(UNKNOWN);
            match of.name_given(begin.site, begin.given) {
                Some(name) => Site { name: name.of(&of.content), ..site },
                None => site,
            }
        };
        open.map(move |begin| Self {
            span: begin.id,
            site: named(begin),
            parent: (begin.parent.index != 0 && begin.parent != UNKNOWN_PARENT)
                .then_some(begin.parent),
            began: of.timeline.at(begin.began),
            of,
            begin,
        })
    }

    /// Its fields, as far as they were restated.
    #[must_use]
    pub fn fields(&self) -> Fields<'a> {
        Fields::given(self.of, self.begin.site, self.begin.given, &[])
    }

    /// The names of those that had values for which there was no room in the restatement.
    #[must_use]
    pub fn omitted_fields(&self) -> Omitted<'a> {
        Omitted(self.fields())
    }

    /// Whether its fields are not all there as they were recorded last, for want of room.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.begin.part
    }

    /// Whether its fields were left out for want of room.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.begin.given == 0
    }
}
