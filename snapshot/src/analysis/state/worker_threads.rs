//! Which thread is which worker, where that is one and the same all the time: then the thread can be called
//! by the worker.

use super::super::map::Map;
use crate::read::WorkerId;
use crate::wire::ThreadNumber;

/// More than so many are not told apart.
const MOST: usize = 1 << 16;

/// See the module. None of what was more than one.
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

    /// The worker that this thread is and was, and no other thread.
    pub(crate) fn of(&self, thread: ThreadNumber) -> Option<WorkerId> {
        let worker = self.workers.get(&thread).copied().flatten()?;
        (self.threads.get(&worker).copied().flatten() == Some(thread)).then_some(worker)
    }
}
