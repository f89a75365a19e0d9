//! What happened in an event.

use super::{Level, Site, Text, Value, WorkerId};
use crate::wire::{LockKind, Nanos, SpanId, StackReason, StackSource, TaskId, ThreadNumber};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum EventKind<'a> {
    /// The thread emits its first event.
    ThreadStart,
    /// The thread ends.
    ThreadExit,
    /// The thread's name changes; all of its events have the new one.
    ThreadName,
    /// A region begins.
    RegionBegin {
        /// The region.
        site: Site<'a>,
    },
    /// A region of the thread ends: the innermost one, unless `inside` says otherwise.
    RegionEnd {
        /// The region, if its beginning or a status of it is in the snapshot.
        site: Option<Site<'a>>,
        /// How long it took, if its beginning is known.
        duration: Option<Nanos>,
        /// How many regions of the thread are open inside it and continue.
        inside: u64,
    },
    /// A range of the whole process begins.
    RangeBegin {
        /// The range.
        site: Site<'a>,
        /// Its number, which no other range of the process has.
        range: u64,
        /// How long before this event it began: 0 unless the recorder found that it had begun.
        ago: Nanos,
    },
    /// A range of the whole process ends, on any thread.
    RangeEnd {
        /// The range.
        site: Site<'a>,
        /// Its number.
        range: u64,
        /// How long it took.
        duration: Nanos,
        /// How long before this event it ended: 0 unless the recorder found that it had ended.
        late: Nanos,
    },
    /// A message.
    Log {
        /// Its level.
        level: Level,
        /// The place in the source, named by the category.
        site: Site<'a>,
        /// The message itself.
        message: Text<'a>,
    },
    /// A typed event; its values are its [`fields`](super::Event::fields).
    Typed {
        /// The place in the source, with the event's name.
        site: Site<'a>,
    },
    /// A counter's value at this instant.
    Counter {
        /// The place in the source, with the counter's name.
        site: Site<'a>,
        /// The value.
        value: Value<'a>,
    },
    /// A task is spawned.
    TaskCreate {
        /// The task.
        task: TaskId,
        /// Where it was spawned, named by the task's type.
        site: Site<'a>,
        /// The task that spawned it, if any.
        parent: Option<TaskId>,
    },
    /// A poll of a task begins.
    TaskPoll {
        /// The task.
        task: TaskId,
    },
    /// A poll ends: the task has to wait.
    TaskPending {
        /// The task; [`TaskId::default`] if the poll is unknown.
        task: TaskId,
        /// What it waits for, if known.
        waits_for: Option<Site<'a>>,
    },
    /// A poll ends, and so does the task: it is done.
    TaskReady {
        /// The task.
        task: TaskId,
    },
    /// A poll ends, and so does the task: it panicked.
    TaskPanic {
        /// The task.
        task: TaskId,
    },
    /// A task is dropped before it is done: it is cancelled.
    TaskDrop {
        /// The task.
        task: TaskId,
    },
    /// A task is woken for its next poll, by the event's [`thread`](super::Event::thread) and
    /// [`task`](super::Event::task).
    TaskWake {
        /// The task.
        task: TaskId,
    },
    /// The thread becomes a worker of a runtime.
    WorkerStart {
        /// The worker.
        worker: WorkerId,
    },
    /// The thread becomes the worker of a runtime while it drives it (`block_on`); no event says when it
    /// stops.
    WorkerVisit {
        /// The worker.
        worker: WorkerId,
    },
    /// The worker has nothing to do and goes to sleep.
    WorkerPark {
        /// The worker.
        worker: WorkerId,
    },
    /// The worker continues.
    WorkerUnpark {
        /// The worker.
        worker: WorkerId,
    },
    /// The thread is no longer a worker.
    WorkerStop {
        /// The worker.
        worker: WorkerId,
    },
    /// The thread belongs to a runtime's pool, as a worker or for blocking work.
    PoolThread {
        /// The runtime, numbered by the recorder.
        runtime: u64,
    },
    /// A span begins; its values are the event's [`fields`](super::Event::fields).
    SpanCreate {
        /// The span.
        span: SpanId,
        /// Where it was created, with the span's name.
        site: Site<'a>,
        /// Its parent.
        parent: Option<SpanId>,
    },
    /// The thread enters a span.
    SpanEnter {
        /// The span.
        span: SpanId,
    },
    /// The thread exits a span.
    SpanExit {
        /// The span; [`SpanId::default`] if it is unknown.
        span: SpanId,
    },
    /// A span ends.
    SpanClose {
        /// The span.
        span: SpanId,
    },
    /// More values of a span become known: the event's [`fields`](super::Event::fields).
    SpanRecord {
        /// The span.
        span: SpanId,
    },
    /// A span follows from another one.
    SpanFollows {
        /// The span.
        span: SpanId,
        /// The span that it follows from.
        from: SpanId,
    },
    /// A thread's stack was taken, on this or another thread: [`Event::stack`](super::Event::stack).
    ThreadStack {
        /// The thread.
        thread: ThreadNumber,
        /// Why; `None` if only a later version knows the reason.
        reason: Option<StackReason>,
        /// How it was obtained, or why there is none.
        source: Option<StackSource>,
    },
    /// A thread has used CPU time, and was somewhere: [`Event::stack`](super::Event::stack). The event may have been
    /// recorded later, and by another thread.
    CpuSample {
        /// The thread.
        thread: ThreadNumber,
        /// How often the interval passed: the thread used this many intervals of CPU time. There are
        /// [`CPU_SAMPLES`](crate::wire::key::CPU_SAMPLES) intervals in a second.
        weight: u64,
        /// How the stack was obtained, or why there is none; `None` if only a later version knows it.
        source: Option<StackSource>,
        /// How long before the event the sample was taken.
        ago: Nanos,
    },
    /// A thread is blocked and has been for a while, or goes on: [`Event::stack`](super::Event::stack) is where. The
    /// recorder's own thread reports it.
    ThreadStands {
        /// The thread.
        thread: ThreadNumber,
        /// How long it had been blocked, at least; 0 if it goes on.
        since: Nanos,
        /// How the stack was obtained, or why there is none; `None` if only a later version knows it.
        source: Option<StackSource>,
    },
    /// The thread has allocated an object that is a sample of the heap, at [`Event::stack`](super::Event::stack).
    AllocationSample {
        /// The object's size, in bytes.
        size: u64,
        /// An object of so many bytes is a sample with probability `1 - exp(-size / interval)`.
        interval: u64,
        /// How the stack was obtained, or why there is none; `None` if only a later version knows it.
        source: Option<StackSource>,
    },
    /// The thread, or the task that it polls, has waited for a lock: [`Event::stack`](super::Event::stack) is where, and
    /// [`Event::lock_holder`](super::Event::lock_holder) has held it.
    Contention {
        /// Where it asked for the lock.
        site: Site<'a>,
        /// Says only whether two locks of this process are one. A lock that was freed may have had the number of a later one.
        lock: u64,
        /// What it is; `None` if only a later version knows it.
        kind: Option<LockKind>,
        /// How long it waited.
        waited: Nanos,
        /// How many waited when this wait ended, itself included.
        waiters: u64,
        /// Whether it gave up, and has no lock.
        is_given_up: bool,
    },
    /// A thread or a task waits for a lock and has been for a while. The recorder's own thread reports it, with each generation.
    LockWait {
        /// The thread, if it is one that waits.
        thread: Option<ThreadNumber>,
        /// The task that waits, or that the thread polls.
        task: Option<TaskId>,
        /// Where it asked for the lock.
        site: Site<'a>,
        /// As in [`Contention`](Self::Contention).
        lock: u64,
        /// What it is; `None` if only a later version knows it.
        kind: Option<LockKind>,
        /// For how long, up to the event.
        waited: Nanos,
    },
    /// The thread has released a lock that it took in an earlier poll of a task.
    LockHeld {
        /// Where it took the lock.
        site: Site<'a>,
        /// As in [`Contention`](Self::Contention).
        lock: u64,
        /// What it is; `None` if only a later version knows it.
        kind: Option<LockKind>,
        /// The task.
        task: TaskId,
        /// How many of its polls ended meanwhile.
        polls: u64,
    },
    /// An event of a later version; its [`fields`](super::Event::fields) have what is known of it.
    Other {
        /// Its name in the file's event table.
        name: &'a str,
    },
}
