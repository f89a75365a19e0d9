//! What a thread is inside of besides its regions: polls, spans; and which worker it is.

use super::begin::{NO_WORKER, Workers};
use super::mention::Mention;
use super::regions::Nest;
use crate::wire::{Kind, SpanId, TaskId, TaskState};

/// A thread that is a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenure {
    /// Which, among the generation's workers.
    pub(super) worker: u16,
    /// The how manieth time that the worker is taken.
    pub(super) number: u64,
    pub(super) parked: bool,
    /// It is one as long as the thread drives the runtime, and the end of that is not told.
    pub(super) visit: bool,
    /// It was stated. Then others may have taken the worker before the generation.
    pub(super) stated: bool,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inside {
    /// The tasks that it polls, each with the sequence number of the poll.
    pub(super) tasks: Nest<(TaskId, u64)>,
    pub(super) spans: Nest<SpanId>,
    pub(super) worker: Option<Tenure>,
    /// The runtime whose pool it belongs to.
    pub(super) pool: Option<u64>,
}

/// The code of a worker that is parked.
const PARKED: u64 = 1;

impl Inside {
    pub(super) fn clear(&mut self) {
        self.tasks.clear();
        self.spans.clear();
        (self.worker, self.pool) = (None, None);
    }

    /// Adds what a status in the thread's statement says.
    pub(super) fn state(&mut self, kind: Kind, mention: &Mention, workers: &Workers) {
        match kind {
            Kind::TaskStatus => {
                if matches!(TaskState::from_code(mention.state), Some((TaskState::Running, _))) {
                    self.tasks.begin((mention.task(), mention.number));
                }
            }
            Kind::WorkerStatus | Kind::VisitStatus => {
                let worker = workers.index(mention.worker);
                let parked = mention.state == PARKED;
                self.worker = (worker != NO_WORKER).then_some(Tenure {
                    worker,
                    number: mention.number,
                    parked,
                    visit: kind == Kind::VisitStatus,
                    stated: true,
                });
            }
            Kind::PoolStatus => self.pool = Some(mention.number),
            Kind::SpanEntered => self.spans.begin(mention.span()),
            Kind::SpansDeeper => self.spans.begin_unknown(mention.number),
            _ => {}
        }
    }
}
