//! What a thread has open besides its regions: polls and spans; and the worker that it is.

use super::codec::Arguments;
use super::regions::Nest;
use super::workers::{NO_WORKER, Workers};
use crate::wire::{Kind, SpanId, TaskId, TaskState};

/// A thread's tenure as a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tenure {
    /// The worker, among the generation's.
    pub(crate) worker: u16,
    /// The number of this tenure among the worker's.
    pub(crate) number: u64,
    pub(crate) parked: bool,
    /// Whether it lasts only while the thread drives the runtime; no record says when it ends.
    pub(crate) visit: bool,
    /// Whether it was stated. Then other threads may have become the worker before the generation.
    pub(crate) stated: bool,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadContext {
    /// The tasks that it polls, each with the sequence number of the poll.
    pub(crate) tasks: Nest<(TaskId, u64)>,
    pub(crate) spans: Nest<SpanId>,
    pub(crate) worker: Option<Tenure>,
    /// The worker that another thread has taken from it, until it says that it noticed.
    pub(crate) lost: Option<u16>,
    /// The runtime whose pool it belongs to.
    pub(crate) pool: Option<u64>,
}

/// The state code of a parked worker.
const PARKED: u64 = 1;

impl ThreadContext {
    pub(crate) fn clear(&mut self) {
        self.tasks.clear();
        self.spans.clear();
        (self.worker, self.lost, self.pool) = (None, None, None);
    }

    /// Another thread has taken its worker.
    pub(crate) fn lose_worker(&mut self) {
        self.lost = self.worker.take().map(|tenure| tenure.worker).or(self.lost);
    }

    /// Adds what a status of the thread says.
    pub(crate) fn state(&mut self, kind: Kind, args: &Arguments, workers: &Workers) {
        match kind {
            Kind::TaskStatus => {
                if matches!(TaskState::from_code(args.state), Some((TaskState::Running, _))) {
                    self.tasks.begin((args.task(), args.number));
                }
            }
            Kind::WorkerStatus | Kind::VisitStatus => {
                let worker = workers.index(args.worker);
                let parked = args.state == PARKED;
                self.worker = (worker != NO_WORKER).then_some(Tenure {
                    worker,
                    number: args.number,
                    parked,
                    visit: kind == Kind::VisitStatus,
                    stated: true,
                });
            }
            Kind::PoolStatus => self.pool = Some(args.worker.runtime),
            Kind::SpanEntered => self.spans.begin(args.span()),
            Kind::SpansDeeper => self.spans.begin_unknown(args.number),
            _ => {}
        }
    }
}
