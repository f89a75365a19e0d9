//! What exists when the snapshot begins, or begins again after a gap, according to a generation's statuses.

use super::state::{LiveState, WorkerNow};
use crate::read::DecodedGeneration;

impl LiveState {
    /// Forgets what existed, and takes over the initial state of this generation.
    pub(super) fn begin(&mut self, generation: &DecodedGeneration) {
        self.forget();
        self.learn(generation);
    }

    /// Takes over the statuses of tasks, spans and threads that are still unknown.
    pub(super) fn learn(&mut self, generation: &DecodedGeneration) {
        let at = self.stops.counted(generation.began().monotonic);
        for task in generation.tasks() {
            if self.tasks.contains_key(&task.task) {
                continue;
            }
            self.had_task(
                task.task,
                (task.site.name, task.site.blocking),
                (task.sequence, task.woken),
                at,
            );
        }
        for span in generation.spans() {
            if !self.spans.contains_key(&span.span) {
                self.had_span(&span, at);
            }
        }
        for state in generation.statuses() {
            let Some(thread) = state.thread() else { continue };
            if self.knows_thread(thread.number) {
                continue;
            }
            self.called(thread.number, &thread.name);
            self.has_number(thread.number, thread.os_thread);
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
