//! Records tasks that are not wrapped, by the hooks that Tokio has with `--cfg tokio_unstable`: their spawn,
//! their polls, their end. Their wakers are unknown, and so is whether they completed or were aborted: Tokio
//! ends them in a poll either way.

use ::tokio::runtime::{Builder, TaskMeta};
use ::tokio::task::Id;
use lookback_recorder::integration::HookedTask;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// How many tables there are, so that threads seldom contend.
const SHARDS: usize = 64;

thread_local! {
    /// The task being spawned on this thread is recorded already.
    static WRAPPED: Cell<bool> = const { Cell::new(false) };
    /// The tasks recorded here that this thread is polling, outermost first.
    static POLLED: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}

static TASKS: LazyLock<Tasks> = LazyLock::new(|| Tasks {
    hasher: RandomState::new(),
    shards: std::array::from_fn(|_| Mutex::default()),
});

/// While this exists, tasks spawned on this thread count as recorded already.
pub(super) struct Wrapped;

impl Wrapped {
    pub(super) fn new() -> Self {
        let _ = WRAPPED.try_with(|wrapped| wrapped.set(true));
        Self
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        let _ = WRAPPED.try_with(|wrapped| wrapped.set(false));
    }
}

struct Tasks {
    hasher: RandomState,
    shards: [Mutex<HashMap<Id, HookedTask>>; SHARDS],
}

impl Tasks {
    fn shard(&self, id: Id) -> MutexGuard<'_, HashMap<Id, HookedTask>> {
        let shard = &self.shards[self.hasher.hash_one(id) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: Id) -> Option<HookedTask> {
        self.shard(id).get(&id).copied()
    }
}

/// Sets the hooks.
pub(super) fn watch(builder: &mut Builder) {
    builder.on_task_spawn(spawned);
    builder.on_before_task_poll(before_poll);
    builder.on_after_task_poll(after_poll);
    builder.on_task_terminate(terminated);
}

fn spawned(task: &TaskMeta<'_>) {
    if WRAPPED.try_with(Cell::get).unwrap_or(true) {
        return;
    }
    if let Some(observed) = HookedTask::new(task.spawned_at()) {
        TASKS.shard(task.id()).insert(task.id(), observed);
    }
}

fn before_poll(task: &TaskMeta<'_>) {
    if let Some(observed) = TASKS.get(task.id())
        && observed.begin_poll()
    {
        // Without this note, the poll would have no end.
        if POLLED.try_with(|polled| polled.borrow_mut().push(task.id())).is_err() {
            observed.end_poll();
        }
    }
}

fn after_poll(task: &TaskMeta<'_>) {
    if takes_innermost(task.id())
        && let Some(observed) = TASKS.get(task.id())
    {
        observed.end_poll();
    }
}

fn terminated(task: &TaskMeta<'_>) {
    let Some(observed) = TASKS.shard(task.id()).remove(&task.id()) else { return };
    // A finished task ends inside its last poll.
    observed.end(takes_innermost(task.id()));
}

/// Whether this task is the innermost one that the thread polls. Removes it if so.
fn takes_innermost(id: Id) -> bool {
    let takes = |polled: &RefCell<Vec<Id>>| {
        let mut polled = polled.borrow_mut();
        let is_it = polled.last() == Some(&id);
        if is_it {
            polled.pop();
        }
        is_it
    };
    POLLED.try_with(takes).unwrap_or(false)
}
