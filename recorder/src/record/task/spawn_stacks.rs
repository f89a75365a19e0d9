//! Where each task was spawned: the stack of the thread that spawned it, if that is asked for. The place of the spawn is
//! known anyway; the stack says who called that place.
//!
//! Nothing of it is written when a task is spawned. The end of each generation lists it for the tasks that are alive then
//! (`generation/statedump/task_stacks.rs`).
//!
//! # Synchronization
//!
//! The thread that spawns a task stores to its word, before anybody else knows of the task. The collector reads it,
//! relaxed: the word of a place that changes hands just then may be of either task. As the listing is of tasks that were
//! alive when a generation ended, and a place stays theirs until that generation is complete, it is of theirs.

use crate::record::task::side_table::SideTable;
use crate::record::task::{TASKS, TaskEntry};
use crate::stack::budget::Budget;
use crate::stack::trie::StackId;
use crate::stack::{self, here};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A stack's number; 0: none.
static STACKS: SideTable<AtomicU32> = SideTable::new();
static IS_ON: AtomicBool = AtomicBool::new(false);
/// Tasks may be spawned at any rate, and a walk takes microseconds.
static BUDGET: Budget = Budget::new(0);

/// Says how many tasks of a second have theirs from now on: for a recorder that starts.
pub(crate) fn limit(a_second: u32) {
    BUDGET.set(a_second);
    IS_ON.store(a_second > 0 && STACKS.establish(), Ordering::Relaxed);
}

/// How many tasks were spawned beyond the limit.
pub(crate) fn refused() -> u64 {
    BUDGET.refused()
}

/// Whether a task may have one.
pub(crate) fn are_there() -> bool {
    STACKS.is_used()
}

/// A task takes the place with this index.
#[inline(always)]
pub(crate) fn begin(index: u32) {
    if let Some(word) = STACKS.get(index) {
        word.store(0, Ordering::Relaxed);
    }
}

/// This thread has just spawned the task.
#[inline(always)]
pub(crate) fn spawned(place: &'static TaskEntry) {
    if IS_ON.load(Ordering::Relaxed) {
        take(place);
    }
}

#[cold]
#[inline(never)]
fn take(place: &'static TaskEntry) {
    let index = TASKS.index_of(place);
    if !stack::is_on() || !BUDGET.take() {
        return;
    }
    let Ok(taken) = stack::of_this_thread(here()) else { return };
    if let Some(word) = STACKS.get(index).or_else(|| STACKS.commit(index)) {
        word.store(taken.number(), Ordering::Relaxed);
    }
}

/// The stack at which the task with this index was spawned, for an observer.
pub(crate) fn of(index: u32) -> Option<StackId> {
    StackId::from_number(STACKS.get(index)?.load(Ordering::Relaxed))
}
