//! What is known of a task, beyond what Go's machine knows of its goroutine.

use super::goroutine::GoId;
use super::machine::ThreadAt;
use super::seat::SeatAt;
use crate::wire::TaskId;

/// A task that is alive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Task {
    /// The thread that polls it.
    pub(super) on: Option<SeatAt>,
    /// The number of its last poll.
    pub(super) sequence: Option<u64>,
    /// Whether it was woken while it was polled. Go has no word for that: it becomes what the end of
    /// the poll makes of it.
    pub(super) wake: Option<Wake>,
}

/// Who woke a task while it was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The task itself: it yields.
    Itself,
    /// This thread, and what it ran.
    Thread(ThreadAt, Option<GoId>),
}

/// The goroutine of a task: the task's number. Numbers below 2^32 are those of threads' own
/// goroutines. `None` if the task's number was lost, or is one that Go does not have.
pub(super) fn goroutine_of(task: TaskId) -> Option<GoId> {
    let is_known = (1..=i32::MAX as u32).contains(&task.incarnation);
    is_known.then(|| GoId(task.number()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_tasks_have_goroutines() {
        let of = |index, incarnation| goroutine_of(TaskId { index, incarnation });
        assert_eq!(of(0, 1), Some(GoId(1 << 32)));
        assert_eq!(of(7, 2), Some(GoId(2 << 32 | 7)));
        assert_eq!((of(0, 0), of(u32::MAX, u32::MAX)), (None, None));
    }
}
