//! One generation, decoded, and its events.

use super::decode::contents::{Contents, EndRecord, GenerationInfo};
use super::heap_stack::HeapStack;
use super::heap_totals::HeapTotals;
use super::replay::merge::{Merge, Next};
use super::status::{SpanStatus, TaskStatus, ThreadState};
use super::{
    Event, OpenRange, ReadError, RuntimeReading, Stack, SystemReading, TaskType, ThreadTimes,
    WaitingTask,
};
use crate::wire::{ClockRecord, Generation, Nanos, TaskId};
use std::sync::Arc;

/// One generation, decoded. Cheap to clone.
#[derive(Clone)]
pub struct DecodedGeneration {
    pub(crate) contents: Arc<Contents>,
}

impl DecodedGeneration {
    /// The generation of an event.
    pub(crate) fn of(event: &Event) -> Self {
        Self { contents: Arc::clone(event.contents()) }
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> Generation {
        self.contents.spot.number
    }

    /// What is known about it without reading its events.
    #[must_use]
    pub fn info(&self) -> &GenerationInfo {
        &self.contents.info
    }

    /// Whether the state of silent threads, tasks and spans is unknown: the generation is incomplete, so it
    /// has no statuses for them, and no generation before it supplies them.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.contents.is_alone
    }

    /// When it began, on all clocks.
    #[must_use]
    pub fn began(&self) -> ClockRecord {
        self.contents.began
    }

    /// When it ended or was copied, on all clocks.
    #[must_use]
    pub fn ended(&self) -> ClockRecord {
        self.contents.ended
    }

    /// The record that its recorder wrote when it was over; `None` if it is incomplete.
    #[must_use]
    pub fn end_record(&self) -> Option<&EndRecord> {
        self.contents.end.as_ref()
    }

    /// The threads that were alive when it began, with their open regions: from its statuses and, if it is
    /// incomplete, from the generation before it.
    pub fn statuses(&self) -> impl Iterator<Item = ThreadState<'_>> {
        let contents = &*self.contents;
        ThreadState::all(contents)
    }

    /// What the kernel said of threads when it ended: of those that recorded something in it, or of some of them.
    #[must_use]
    pub fn thread_times(&self) -> &[ThreadTimes] {
        &self.contents.tables.thread_times
    }

    /// The counters of the process, its control group and the machine that were read when it ended, if any were.
    #[must_use]
    pub fn system_counters(&self) -> &[SystemReading] {
        &self.contents.tables.system
    }

    /// The counters of the process's instrumented runtimes that were read when it ended, if any were.
    #[must_use]
    pub fn runtime_counters(&self) -> &[RuntimeReading] {
        &self.contents.tables.runtimes
    }

    /// The ranges of the process that were open when it ended, or shortly before: those that no event of it ends are open.
    /// None if it is incomplete.
    pub fn ranges(&self) -> impl Iterator<Item = OpenRange<'_>> {
        OpenRange::all(&self.contents)
    }

    /// The types of the futures of tasks that it mentions, with their sizes, as far as those were recorded. One that is
    /// spawned at several places is listed for each.
    pub fn task_types(&self) -> impl Iterator<Item = TaskType<'_>> {
        TaskType::all(&self.contents)
    }

    /// What the program allocated and freed, if it has [`Alloc`](https://docs.rs/lookback) and this generation says so.
    #[must_use]
    pub fn heap(&self) -> Option<&HeapTotals> {
        self.contents.tables.heap.totals.as_ref()
    }

    /// What was alive when it ended, by the stack that allocated it, as the samples say. Those with the most bytes first;
    /// none where [`heap`](Self::heap) is `None`.
    pub fn heap_stacks(&self) -> impl Iterator<Item = HeapStack<'_>> {
        HeapStack::all(&self.contents)
    }

    /// Of how many samples that are alive, and of how many bytes that they stand for, no stack is listed.
    #[must_use]
    pub fn heap_left_out(&self) -> (u64, u64) {
        self.contents.tables.heap.omitted.unwrap_or_default()
    }

    /// The tasks that were alive when it began.
    pub fn tasks(&self) -> impl Iterator<Item = TaskStatus<'_>> {
        TaskStatus::all(&self.contents)
    }

    /// The spans that were open when it began.
    pub fn spans(&self) -> impl Iterator<Item = SpanStatus<'_>> {
        SpanStatus::all(&self.contents)
    }

    /// Where tasks were waiting when it ended. Only of tasks that were idle then, and whose waits were recorded; none if
    /// it is incomplete.
    pub fn waiting(&self) -> impl Iterator<Item = WaitingTask<'_>> {
        WaitingTask::all(&self.contents)
    }

    /// The stack of the thread that spawned a task which was alive when it ended, if the recorder was asked to keep it.
    #[must_use]
    pub fn spawned_by(&self, task: TaskId) -> Option<Stack<'_>> {
        let (stack, _) = self.contents.tables.stacks.spawned_by(task)?;
        Stack::new(&self.contents, u64::from(stack))
    }

    /// Its events, in one order over all threads. Damage stands where it was met.
    #[must_use]
    pub fn events(&self) -> GenerationEvents {
        GenerationEvents {
            order: Merge::new(&self.contents),
            event: Event::none(&self.contents),
            contents: Arc::clone(&self.contents),
            latest: Nanos(0),
        }
    }
}

/// The events of one generation.
pub struct GenerationEvents {
    contents: Arc<Contents>,
    order: Merge,
    /// The event that is lent.
    event: Event,
    latest: Nanos,
}

/// An event, and the state of its thread right after it; both lent.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Lent<'a> {
    /// The event.
    pub event: &'a Event,
    /// What its thread is inside from then on.
    pub state: ThreadState<'a>,
}

impl GenerationEvents {
    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    pub(crate) fn order(&self) -> &Merge {
        &self.order
    }

    /// Lends the next event until the next call: see [`Events::lend`](super::Events::lend).
    #[inline]
    pub fn lend(&mut self) -> Option<Result<Lent<'_>, ReadError>> {
        let mut latest = self.latest;
        let step = self.step(&mut latest)?;
        self.latest = latest;
        match step {
            Ok(()) => self.lent().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }

    /// Advances to the next event. Its time is at least `latest`, and becomes `latest`.
    #[inline]
    pub(crate) fn step(&mut self, latest: &mut Nanos) -> Option<Result<(), ReadError>> {
        match self.order.next(&self.contents)? {
            Next::Event => {
                let event = &self.order.taken()?.stream.event;
                *latest = self.contents.timeline.at(event.ticks).max(*latest);
                self.event.set(event, *latest);
                Some(Ok(()))
            }
            Next::Damage => self.damage().map(Err),
        }
    }

    #[cold]
    fn damage(&mut self) -> Option<ReadError> {
        let (block, what) = self.order.damage()?;
        Some(self.contents.fault(block, what))
    }

    /// Lends the event that [`step`](Self::step) reached, and its thread's state.
    #[inline]
    pub(crate) fn lent(&self) -> Option<Lent<'_>> {
        let state = ThreadState::after(&self.contents, self.order.taken()?);
        Some(Lent { event: &self.event, state })
    }

    /// A copy of the event that [`step`](Self::step) reached.
    #[inline]
    pub(crate) fn event(&self) -> Event {
        self.event.clone()
    }
}

impl Iterator for GenerationEvents {
    type Item = Result<Event, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut latest = self.latest;
        let step = self.step(&mut latest)?;
        self.latest = latest;
        Some(step.map(|()| self.event()))
    }
}
