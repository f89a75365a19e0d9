//! Threads, tasks and spans as they were when a generation began.

use super::decode::contents::Contents;
use super::decode::fields::{Fields, Omitted, ValuesAt};
use super::decode::initial_state::UNKNOWN_PARENT;
use super::decode::initial_state::{SpanBegin, TaskBegin};
use super::decode::regions::Regions;
use super::decode::thread_context::ThreadContext;
use super::decode::thread_states::State;
use super::replay::slot_cursor::SlotCursor;
use super::{Site, Thread, WorkerId};
use crate::wire::{Nanos, SpanId, TaskId, TaskState};
use std::collections::HashMap;

/// A region that was open when a generation began.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct OpenRegion<'a> {
    /// The region's place in the source.
    pub site: Site<'a>,
    /// When it began, in nanoseconds of the monotonic clock.
    pub began: Nanos,
}

/// What a thread was doing when a generation began, or right after an event.
#[derive(Clone, Copy)]
pub struct ThreadState<'a> {
    contents: &'a Contents,
    thread: u32,
    regions: &'a Regions,
    inside: &'a ThreadContext,
    carried: bool,
}

impl<'a> ThreadState<'a> {
    pub(crate) fn all(contents: &'a Contents) -> impl Iterator<Item = Self> {
        contents.thread_states().begin.iter().map(move |state| {
            let State { thread, regions, inside, carried } = state;
            Self { contents, thread: *thread, regions, inside, carried: *carried }
        })
    }

    /// The thread of a stream's current event, right after that event.
    #[inline]
    pub(crate) fn after(contents: &'a Contents, cursor: &'a SlotCursor) -> Self {
        let SlotCursor { stream, inside, .. } = cursor;
        let (thread, regions) = (stream.thread(), stream.regions());
        Self { contents, thread, regions, inside, carried: false }
    }

    /// The thread.
    #[must_use]
    pub fn thread(&self) -> Option<&'a Thread> {
        self.contents.threads.get(self.thread)
    }

    /// Its open regions, outermost first.
    pub fn regions(&self) -> impl Iterator<Item = OpenRegion<'a>> + use<'a> {
        let contents = self.contents;
        let unknown = Site::UNKNOWN;
        self.regions.known().iter().map(move |open| OpenRegion {
            site: contents.site(open.site).unwrap_or(unknown),
            began: contents.timeline.at(open.began),
        })
    }

    /// The number of its open [`regions`](Self::regions), as far as they are known.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.regions.known().len()
    }

    /// How many more were open, deeper than the recorder restates.
    #[must_use]
    pub fn deeper(&self) -> u64 {
        self.regions.deeper()
    }

    /// The tasks that it was polling, outermost first: polls may nest.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> + use<'a> {
        self.inside.tasks.known().iter().map(|(task, _)| *task)
    }

    /// The spans that it was inside, outermost first.
    pub fn spans(&self) -> impl Iterator<Item = SpanId> + use<'a> {
        self.inside.spans.known().iter().copied()
    }

    /// How many more spans it was inside, deeper than the recorder restates.
    #[must_use]
    pub fn spans_deeper(&self) -> u64 {
        self.inside.spans.deeper()
    }

    /// The worker that it was.
    #[must_use]
    pub fn worker(&self) -> Option<WorkerId> {
        self.contents.begin.workers.get(self.inside.worker?.worker)
    }

    /// The name that was given to this worker: see [`Event::worker_name`](crate::Event::worker_name).
    #[must_use]
    pub fn worker_name(&self) -> Option<&'a str> {
        self.contents.begin.workers.given_name(self.worker()?)
    }

    /// Whether it was a worker only while it drove the runtime; the end of that is not recorded.
    #[must_use]
    pub fn is_visit(&self) -> bool {
        self.inside.worker.is_some_and(|tenure| tenure.visit)
    }

    /// Whether it was a worker, and asleep.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.inside.worker.is_some_and(|tenure| tenure.parked)
    }

    /// The runtime whose pool it belonged to.
    #[must_use]
    pub fn pool(&self) -> Option<u64> {
        self.inside.pool
    }

    /// Whether the generation before supplies this.
    #[must_use]
    pub fn is_carried(&self) -> bool {
        self.carried
    }
}

/// A task that was alive when a generation began.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct TaskStatus<'a> {
    /// The task.
    pub task: TaskId,
    /// Where it was spawned, named by its type.
    pub site: Site<'a>,
    /// What it was doing.
    pub state: TaskState,
    /// Whether it had been woken for its next poll.
    pub woken: bool,
    /// Its sequence number, if a thread that used the task in the generation recorded it; the collector's
    /// list of idle tasks does not have it.
    pub sequence: Option<u64>,
    /// The thread that was polling it, if it was running and the thread is known.
    pub thread: Option<&'a Thread>,
}

impl<'a> TaskStatus<'a> {
    pub(crate) fn all(of: &'a Contents) -> impl Iterator<Item = Self> {
        let polls = |state: &'a State| {
            state.inside.tasks.known().iter().map(move |(task, _)| (*task, state.thread))
        };
        let pollers: HashMap<_, _> = of.thread_states().begin.iter().flat_map(polls).collect();
        let status = move |task: &TaskBegin| {
            let state = task.state?;
            let running = state == TaskState::Running;
            Some(Self {
                task: task.id,
                site: of.site(task.site).unwrap_or(Site::UNKNOWN),
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
    /// The span.
    pub span: SpanId,
    /// Its place in the source, with its name.
    pub site: Site<'a>,
    /// Its parent span.
    pub parent: Option<SpanId>,
    /// When it began, in nanoseconds of the monotonic clock.
    pub began: Nanos,
    of: &'a Contents,
    begin: &'a SpanBegin,
}

impl<'a> SpanStatus<'a> {
    pub(crate) fn all(of: &'a Contents) -> impl Iterator<Item = Self> {
        let open = of.begin.spans.iter().filter(|span| !of.begin.is_created(span.id));
        let named = |begin: &SpanBegin| {
            let site = of.site(begin.site).unwrap_or(Site::UNKNOWN);
            match of.name_given(begin.site, begin.values) {
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
        Fields::given(self.of, self.begin.site, self.begin.values, &[])
    }

    /// The names of the fields whose values did not fit into the restatement.
    #[must_use]
    pub fn omitted_fields(&self) -> Omitted<'a> {
        Omitted(self.fields())
    }

    /// Whether some of its fields are missing or outdated, for want of room.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.begin.part
    }

    /// Whether all of its fields are missing, for want of room.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.begin.values == ValuesAt::Nowhere
    }
}
