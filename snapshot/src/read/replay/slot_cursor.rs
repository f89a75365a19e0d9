//! A slot's stream, and what its thread is in the middle of.

use super::wait_list::Progress;
use crate::read::decode::codec::Arguments;
use crate::read::decode::stream::Stream;
use crate::read::decode::thread_context::ThreadContext;
use crate::read::decode::threads::NO_THREAD;
use crate::read::decode::workers::NO_WORKER;
use crate::wire::{SpanId, TaskId};
use std::ops::Range;

/// See the module.
pub(crate) struct SlotCursor {
    pub(crate) stream: Stream,
    /// The thread that `inside` belongs to: that of the events already taken. The stream is one event ahead.
    pub(crate) thread: u32,
    pub(crate) inside: ThreadContext,
    /// The span that was created last, and the one that was left last.
    pub(crate) created: SpanId,
    pub(crate) left: SpanId,
    /// The last status of a task.
    pub(crate) stated: Arguments,
    /// What the next event waits for.
    pub(crate) waits: Option<Progress>,
    /// Whether it is slot 0, whose statuses are those of other threads.
    pub(crate) is_collector: bool,
}

impl SlotCursor {
    pub(crate) fn new(blocks: Range<u32>, is_collector: bool) -> Self {
        Self {
            stream: Stream::new(blocks),
            thread: NO_THREAD,
            inside: ThreadContext::default(),
            created: SpanId::NONE,
            left: SpanId::NONE,
            stated: Arguments { number: u64::MAX, ..Arguments::default() },
            waits: None,
            is_collector,
        }
    }

    /// What its thread is inside of has changed: so it stands in the events to come.
    #[inline]
    pub(crate) fn refresh(&mut self) {
        let event = &mut self.stream.event;
        event.task = self.inside.tasks.innermost().map_or(TaskId::NONE, |(task, _)| task);
        event.span = self.inside.spans.innermost().unwrap_or(SpanId::NONE);
        event.worker = self.inside.worker.map_or(NO_WORKER, |tenure| tenure.worker);
    }
}
