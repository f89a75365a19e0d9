//! What is known about a task, beyond what Go's state machine knows about its goroutine.

use super::goroutine::GoId;
use super::state_machine::ThreadAt;
use super::thread::SeatAt;
use crate::wire::TaskId;

/// A task that is alive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Task {
    /// The thread that polls it.
    pub(super) on: Option<SeatAt>,
    /// The number of its last poll.
    pub(super) sequence: Option<u64>,
    /// Whether it was woken while it was being polled. Go has no event for that: the end of the poll decides
    /// what becomes of it.
    pub(super) wake: Option<Wake>,
}

/// What woke a task while it was being polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The task itself: it yields.
    Itself,
    /// This thread, and its goroutine.
    Thread(ThreadAt, Option<GoId>),
}

/// A task's goroutine, which has the task's number. Threads' own goroutines have numbers below 2^32. `None`
/// if the task's number was lost, or cannot be used in Go.
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
