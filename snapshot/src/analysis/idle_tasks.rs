//! The tasks that were idle when a generation ended, and of how many of them it is known where they wait.

use crate::read::{DecodedGeneration, EventKind};
use crate::wire::{HOOKED_TASK, TaskId, TaskState};
use std::collections::{HashMap, HashSet};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdleTasks {
    /// Those of which it is known.
    pub placed: u64,
    /// Those whose future nobody wrapped: the runtime's hooks do not see where they wait.
    pub unwrapped: u64,
    /// So many others were left out for want of room.
    pub left_out: u64,
    /// All others. They registered no waker within their last poll, or before the tables of the program's code were made, or
    /// their stacks could not be walked.
    pub unknown: u64,
}

impl IdleTasks {
    /// Those at the end of this generation, which must be complete. What is damaged in it is passed over.
    ///
    /// ```no_run
    /// use lookback_snapshot::analysis::IdleTasks;
    /// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
    /// let last = trace.generations().iter().rfind(|info| info.complete);
    /// if let Some(last) = last {
    ///     let idle = IdleTasks::at_end_of(&trace.generation(last.number)?);
    ///     println!("it is known of {} tasks where they wait", idle.placed);
    /// }
    /// # Ok::<(), lookback_snapshot::ReadError>(())
    /// ```
    #[must_use]
    pub fn at_end_of(generation: &DecodedGeneration) -> Self {
        let listed: HashSet<TaskId> = generation.waiting().map(|task| task.task).collect();
        let mut found = Self { placed: listed.len() as u64, ..Self::default() };
        for (task, now) in idle_at_end(generation) {
            if !listed.contains(&task) {
                let count = if now.is_wrapped { &mut found.unknown } else { &mut found.unwrapped };
                *count += 1;
            }
        }
        // It is not said which they are.
        let left_out = generation.contents.tables.stacks.omitted;
        found.left_out = left_out.min(found.unknown);
        found.unknown -= found.left_out;
        found
    }

    /// Those of which it is not known where they wait.
    #[must_use]
    pub fn unplaced(&self) -> u64 {
        self.unwrapped + self.left_out + self.unknown
    }
}

struct Now {
    is_wrapped: bool,
    is_running: bool,
    is_woken: bool,
}

fn idle_at_end(generation: &DecodedGeneration) -> impl Iterator<Item = (TaskId, Now)> {
    let mut tasks: HashMap<TaskId, Now> = HashMap::new();
    for task in generation.tasks() {
        let now = Now {
            is_wrapped: task.site.name != HOOKED_TASK,
            is_running: task.state == TaskState::Running,
            is_woken: task.woken,
        };
        tasks.insert(task.task, now);
    }
    let mut events = generation.events();
    while let Some(next) = events.lend() {
        let Ok(lent) = next else { continue };
        match lent.event.kind() {
            EventKind::TaskCreate { task, site, .. } => {
                // It is to be polled.
                let is_wrapped = site.name != HOOKED_TASK;
                tasks.insert(task, Now { is_wrapped, is_running: false, is_woken: true });
            }
            EventKind::TaskPoll { task } => {
                if let Some(now) = tasks.get_mut(&task) {
                    (now.is_running, now.is_woken) = (true, false);
                }
            }
            EventKind::TaskWake { task } => {
                if let Some(now) = tasks.get_mut(&task) {
                    now.is_woken = true;
                }
            }
            EventKind::TaskPending { task, .. } => {
                if let Some(now) = tasks.get_mut(&task) {
                    now.is_running = false;
                }
            }
            EventKind::TaskReady { task }
            | EventKind::TaskPanic { task }
            | EventKind::TaskDrop { task } => {
                tasks.remove(&task);
            }
            _ => {}
        }
    }
    tasks.into_iter().filter(|(_, now)| !now.is_running && !now.is_woken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Trace;
    use crate::read::text::from_text;

    #[test]
    fn tasks_are_counted_that_are_idle_at_the_end_by_why_it_is_not_known_where_they_wait() {
        let text = "generation 1 complete began=1000:1000:1000:1000000000 ended=9000:9000:9000:1000000000\n\
            block slot=0 sequence=0 thread=0 base=1000 first_event=0\n\
            \x20 site id=1 name=\"wrapped\" file=\"a.rs\" line=1\n\
            \x20 site id=2 name=\"(task)\" file=\"b.rs\" line=1\n\
            \x20 task_status task=1 incarnation=1 sequence=2 state=1 site=1\n\
            \x20 task_status task=2 incarnation=1 sequence=2 state=1 site=2\n\
            \x20 task_status task=3 incarnation=1 sequence=2 state=5 site=1\n\
            \x20 task_status task=4 incarnation=1 sequence=2 state=1 site=1\n\
            \x20 omitted what=5 count=1\n\
            \x20 end events=5 bytes=0 blocks=1 lost=[] advances=[] waits=[] snapshots=[]\n\
            block slot=1 sequence=0 thread=1 base=1000 first_event=0\n\
            \x20 @1 thread_start thread=1 os_thread=1 name=\"a\"\n\
            \x20 @2 task_create task=5 incarnation=1 sequence=0 site=1\n\
            \x20 @3 task_poll task=5 sequence=1\n\
            \x20 @4 task_pending\n\
            \x20 @5 task_create task=6 incarnation=1 sequence=0 site=1\n";
        let trace = Trace::from_bytes(from_text(text).unwrap()).unwrap();
        let generation = trace.generation(crate::wire::Generation(1)).unwrap();
        let found = IdleTasks::at_end_of(&generation);
        // 1, 4 and 5, one of which was left out; 2 is not wrapped, 3 was woken, 6 was never polled.
        let all = (found.placed, found.unwrapped, found.left_out, found.unknown);
        assert_eq!(all, (0, 1, 1, 2));
        assert_eq!(found.unplaced(), 4);
    }
}
