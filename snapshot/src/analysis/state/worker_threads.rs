//! Which thread is which worker, where this never changes: then the thread can be named after the worker.

use crate::read::WorkerId;
use crate::read::decode::fast_map::Map;
use crate::wire::ThreadNumber;

/// The most that are distinguished.
const MOST: usize = 1 << 16;

/// See the module. None for whatever was more than one.
#[derive(Default)]
pub(crate) struct KnownWorkers {
    workers: Map<ThreadNumber, Option<WorkerId>>,
    threads: Map<WorkerId, Option<ThreadNumber>>,
}

impl KnownWorkers {
    /// The thread is this worker.
    pub(super) fn note(&mut self, thread: ThreadNumber, worker: WorkerId) {
        if self.workers.len() < MOST && self.threads.len() < MOST {
            let known = self.workers.entry(thread).or_insert(Some(worker));
            *known = known.filter(|known| *known == worker);
            let known = self.threads.entry(worker).or_insert(Some(thread));
            *known = known.filter(|known| *known == thread);
        }
    }

    /// The worker that this thread always was, and no other thread.
    pub(crate) fn of(&self, thread: ThreadNumber) -> Option<WorkerId> {
        let worker = self.workers.get(&thread).copied().flatten()?;
        (self.threads.get(&worker).copied().flatten() == Some(thread)).then_some(worker)
    }
}
