//! A slot's stream together with what its thread is inside of.

use super::begin::NO_WORKER;
use super::inside::Inside;
use super::mention::Mention;
use super::stream::{NO_SPAN, NO_TASK, Raw, Stream};
use super::thread::NO_THREAD;
use super::waiting::Level;
use crate::wire::SpanId;
use std::ops::Range;

/// See the module.
pub(super) struct Line {
    pub(super) stream: Stream,
    /// The thread that `inside` is of: it is that of the events that were taken, while the stream is
    /// one event ahead.
    pub(super) thread: u32,
    pub(super) inside: Inside,
    /// The span that was created last, and the one that was left last.
    pub(super) created: SpanId,
    pub(super) left: SpanId,
    /// The last status of a task.
    pub(super) stated: Mention,
    /// What it waits for.
    pub(super) waits: Option<Level>,
    /// Whether it is slot 0: what it states is of other threads.
    pub(super) is_collector: bool,
}

impl Line {
    pub(super) fn new(blocks: Range<u32>, is_collector: bool) -> Self {
        Self {
            stream: Stream::new(blocks),
            thread: NO_THREAD,
            inside: Inside::default(),
            created: NO_SPAN,
            left: NO_SPAN,
            stated: Mention { number: u64::MAX, ..Mention::default() },
            waits: None,
            is_collector,
        }
    }

    /// Says of an event what it happened inside of.
    #[inline]
    pub(super) fn mark(&self, event: &mut Raw) {
        let Raw { task, span, worker, .. } = self.stream.event;
        (event.task, event.span, event.worker) = (task, span, worker);
    }

    /// What its thread is inside of has changed: so it stands in the events to come.
    pub(super) fn refresh(&mut self) {
        let event = &mut self.stream.event;
        event.task = self.inside.tasks.innermost().map_or(NO_TASK, |(task, _)| task);
        event.span = self.inside.spans.innermost().unwrap_or(NO_SPAN);
        event.worker = self.inside.worker.map_or(NO_WORKER, |tenure| tenure.worker);
    }
}
