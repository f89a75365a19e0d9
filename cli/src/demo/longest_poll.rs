//! Finds the poll in a trace that kept its worker longest.

use lookback::read::wire::{TaskId, ThreadNumber};
use lookback::read::{Event, EventKind, Trace, WorkerId};
use std::collections::HashMap;

/// A poll of a task, on a worker.
#[derive(Clone, Debug)]
pub struct Poll {
    pub task: TaskId,
    pub thread: ThreadNumber,
    pub thread_name: String,
    pub worker: WorkerId,
    /// When it began, on the clock of events.
    pub began: u64,
    /// When it ended; `None` if it was running when the snapshot was taken.
    pub ended: Option<u64>,
}

/// That poll, the names of tasks, and when the snapshot was taken.
pub struct Culprit {
    pub poll: Poll,
    pub end: u64,
    names: HashMap<TaskId, String>,
}

impl Culprit {
    /// The longest poll, if there is any. A running one counts up to the end.
    pub fn of(trace: &Trace) -> Option<Self> {
        let mut names = HashMap::new();
        let mut running: HashMap<TaskId, Poll> = HashMap::new();
        let (mut longest, mut end): (Option<Poll>, u64) = (None, 0);
        for generation in trace.generations() {
            // The events report what cannot be decoded.
            let Ok(decoded) = trace.generation(generation.number) else { continue };
            for status in decoded.tasks() {
                names.entry(status.task).or_insert_with(|| short(status.site.name).to_owned());
            }
        }
        for event in trace.events().filter_map(Result::ok) {
            end = event.time().0;
            match event.kind() {
                EventKind::TaskCreate { task, site, .. } => {
                    names.insert(task, short(site.name).to_owned());
                }
                EventKind::TaskPoll { task } => {
                    running.extend(begun(&event, task).map(|poll| (task, poll)));
                }
                EventKind::TaskPending { task, .. }
                | EventKind::TaskReady { task }
                | EventKind::TaskPanic { task } => {
                    let ended = running.remove(&task).map(|poll| Poll { ended: Some(end), ..poll });
                    longest = longer(longest, ended, end);
                }
                _ => {}
            }
        }
        let longest = running.into_values().fold(longest, |a, b| longer(a, Some(b), end));
        longest.map(|poll| Self { poll, end, names })
    }

    /// How long the poll took, or has taken so far.
    pub fn took(&self) -> u64 {
        self.poll.took(self.end)
    }

    /// The task's name and number.
    pub fn name_of(&self, task: TaskId) -> String {
        let name = self.names.get(&task).map_or("?", String::as_str);
        format!("{name} (task {task})")
    }
}

impl Poll {
    fn took(&self, end: u64) -> u64 {
        self.ended.unwrap_or(end).saturating_sub(self.began)
    }
}

/// A poll that begins; `None` if it is not on a worker but on a thread that may block, for instance.
fn begun(event: &Event, task: TaskId) -> Option<Poll> {
    let (thread, worker) = (event.thread()?, event.worker()?);
    Some(Poll {
        task,
        thread: thread.number,
        thread_name: thread.name.to_string(),
        worker,
        began: event.time().0,
        ended: None,
    })
}

fn longer(a: Option<Poll>, b: Option<Poll>, end: u64) -> Option<Poll> {
    let took = |poll: &Option<Poll>| poll.as_ref().map(|poll| poll.took(end));
    if took(&b) > took(&a) { b } else { a }
}

/// The name of an async function, from the name of its future's type.
fn short(name: &str) -> &str {
    let function = name.trim_end_matches("::{{closure}}");
    if function.contains('<') {
        return function;
    }
    function.rsplit("::").next().unwrap_or(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_told_by_its_own_name() {
        assert_eq!(short("shop::inventory::keep_inventory::{{closure}}"), "keep_inventory");
        assert_eq!(short("tick"), "tick");
        assert_eq!(short("a::Join<b::C>"), "a::Join<b::C>");
    }
}
