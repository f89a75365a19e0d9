//! What lives when the snapshot begins, or begins again behind a gap: from a generation's statuses.

use super::state::{WorkerNow, World};
use crate::read::DecodedGeneration;

impl World {
    /// Forgets what lived, and takes what the generation says of its begin.
    pub(super) fn begin(&mut self, generation: &DecodedGeneration) {
        self.forget();
        let at = generation.began().monotonic;
        for task in generation.tasks() {
            self.had_task(
                task.task,
                (task.site.name, task.site.blocking),
                (task.sequence, task.woken),
                at,
            );
        }
        for span in generation.spans() {
            self.had_span(&span);
        }
        for state in generation.statuses() {
            let Some(thread) = state.thread() else { continue };
            self.called(thread.number, &thread.name);
            if let Some(worker) = state.worker() {
                let parked = state.is_parked();
                let now = if parked { WorkerNow::Parked } else { WorkerNow::Running };
                self.names_worker(worker, state.worker_name());
                self.had_worker(thread.number, worker, (now, state.is_visit()), at);
            }
            state.tasks().for_each(|task| self.had_poll(thread.number, task, at));
            state.spans().for_each(|span| self.had_entered(thread.number, span, at));
            for region in state.regions() {
                self.had_region(thread.number, region.site.name, region.began);
            }
        }
    }
}
