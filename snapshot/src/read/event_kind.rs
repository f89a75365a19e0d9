//! What an event says that happened.

use super::{Level, Site, Text, Value, WorkerId};
use crate::wire::{Nanos, SpanId, TaskId};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum EventKind<'a> {
    /// The thread emits its first event.
    ThreadStart,
    /// The thread ends.
    ThreadExit,
    /// The thread is called otherwise than it was: as it is in all of its events.
    ThreadName,
    /// A region begins.
    RegionBegin {
        /// Which.
        site: Site<'a>,
    },
    /// A region of the thread ends: the innermost one, but for what `inside` says.
    RegionEnd {
        /// Which, if its begin or a status of it is in the snapshot.
        site: Option<Site<'a>>,
        /// How long it took, if it is known when it began.
        duration: Option<Nanos>,
        /// How many regions of the thread are open inside of it and go on.
        inside: u64,
    },
    /// A message.
    Log {
        /// How important it is.
        level: Level,
        /// The place, named by the category.
        site: Site<'a>,
        /// The message itself.
        message: Text<'a>,
    },
    /// A typed event; its values are its [`fields`](super::Event::fields).
    Typed {
        /// The place, with the event's name.
        site: Site<'a>,
    },
    /// A counter's value at this instant.
    Counter {
        /// The place, with the counter's name.
        site: Site<'a>,
        /// The value.
        value: Value<'a>,
    },
    /// A task is spawned.
    TaskCreate {
        /// Which.
        task: TaskId,
        /// Where, named by the task's type.
        site: Site<'a>,
        /// The task that spawned it, if one did.
        parent: Option<TaskId>,
    },
    /// A poll of a task begins.
    TaskPoll {
        /// Which.
        task: TaskId,
    },
    /// A poll ends: the task has to wait.
    TaskPending {
        /// Which; of no known poll [`TaskId::default`].
        task: TaskId,
        /// What for, if that is known.
        waits_for: Option<Site<'a>>,
    },
    /// A poll ends, and with it the task: it is done.
    TaskReady {
        /// Which.
        task: TaskId,
    },
    /// A poll ends, and with it the task: it panicked.
    TaskPanic {
        /// Which.
        task: TaskId,
    },
    /// A task is dropped that was not done: it is cancelled.
    TaskDrop {
        /// Which.
        task: TaskId,
    },
    /// A task is woken for its next poll, by the event's [`thread`](super::Event::thread) and
    /// [`task`](super::Event::task).
    TaskWake {
        /// Which.
        task: TaskId,
    },
    /// The thread becomes a worker of a runtime.
    WorkerStart {
        /// Which.
        worker: WorkerId,
    },
    /// The thread becomes the worker of a runtime for as long as it drives it (`block_on`); when it
    /// ceases to is not told.
    WorkerVisit {
        /// Which.
        worker: WorkerId,
    },
    /// The worker has nothing to do and goes to sleep.
    WorkerPark {
        /// Which.
        worker: WorkerId,
    },
    /// The worker goes on.
    WorkerUnpark {
        /// Which.
        worker: WorkerId,
    },
    /// The thread is no worker any more.
    WorkerStop {
        /// Which.
        worker: WorkerId,
    },
    /// The thread belongs to the pool of a runtime: it is a worker, or for what blocks.
    PoolThread {
        /// The runtime, numbered by the recorder.
        runtime: u64,
    },
    /// A span begins; its values are the event's [`fields`](super::Event::fields).
    SpanCreate {
        /// Which.
        span: SpanId,
        /// Where, with the span's name.
        site: Site<'a>,
        /// The span that it is a child of.
        parent: Option<SpanId>,
    },
    /// The thread enters a span.
    SpanEnter {
        /// Which.
        span: SpanId,
    },
    /// The thread leaves a span.
    SpanExit {
        /// Which; of none that is known [`SpanId::default`].
        span: SpanId,
    },
    /// A span is over.
    SpanClose {
        /// Which.
        span: SpanId,
    },
    /// Values of a span that were not known when it began: the event's [`fields`](super::Event::fields).
    SpanRecord {
        /// Which.
        span: SpanId,
    },
    /// A span follows from another one.
    SpanFollows {
        /// Which.
        span: SpanId,
        /// What it follows from.
        from: SpanId,
    },
    /// Something that a later version recorded; what is known of it are its
    /// [`fields`](super::Event::fields).
    Other {
        /// What the file's event table calls it.
        name: &'a str,
    },
}
