//! Assigns processors: one to each worker, and one to each thread that is not a worker.
//!
//! Go's viewer shows a row for each number up to the highest. So there are no gaps, except for the numbers
//! that are reserved for workers known to come.

use super::state_machine::ProcId;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// The most numbers that are reserved for workers.
const MOST_KEPT: u64 = 256;

/// See the module. `K` identifies a worker.
pub(super) struct Processors<K> {
    workers: HashMap<K, ProcId>,
    /// A worker with a lower number gets the processor of that number, unless another runtime's worker has
    /// it.
    kept: u64,
    taken: HashSet<u64>,
    /// Processors of threads that have ended.
    free: Vec<ProcId>,
    next: u64,
}

impl<K: Copy + Eq + Hash> Processors<K> {
    /// Reserves numbers for workers below `expected`.
    pub(super) fn new(expected: u64) -> Self {
        let kept = expected.min(MOST_KEPT);
        let (workers, taken) = (HashMap::new(), HashSet::new());
        Self { workers, kept, taken, free: Vec::new(), next: kept }
    }

    /// The processor of a worker with this number in its runtime, and whether it is new.
    pub(super) fn of_worker(&mut self, worker: K, number: u64) -> (ProcId, bool) {
        if let Some(known) = self.workers.get(&worker) {
            return (*known, false);
        }
        let proc = if number < self.kept && self.taken.insert(number) {
            ProcId(number)
        } else {
            self.count()
        };
        self.workers.insert(worker, proc);
        (proc, true)
    }

    /// A processor for a thread, and whether it is new.
    pub(super) fn of_thread(&mut self) -> (ProcId, bool) {
        match self.free.pop() {
            Some(proc) => (proc, false),
            None => (self.count(), true),
        }
    }

    /// Frees the processor of a thread that has ended.
    pub(super) fn give_back(&mut self, proc: ProcId) {
        self.free.push(proc);
    }

    fn count(&mut self) -> ProcId {
        self.next += 1;
        ProcId(self.next - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_keep_their_numbers_where_they_can() {
        let mut procs = Processors::new(4);
        assert_eq!(procs.of_worker((0, 3), 3), (ProcId(3), true));
        assert_eq!(procs.of_worker((1, 3), 3), (ProcId(4), true));
        assert_eq!(procs.of_worker((0, 3), 3), (ProcId(3), false));
        assert_eq!(procs.of_worker((0, u64::MAX), u64::MAX), (ProcId(5), true));
        let (own, _) = procs.of_thread();
        procs.give_back(own);
        assert_eq!((procs.of_thread(), own), ((ProcId(6), false), ProcId(6)));
        assert_eq!(Processors::<()>::new(u64::MAX).of_thread(), (ProcId(MOST_KEPT), true));
    }
}
