//! Where tasks were waiting when a generation ended.

use super::decode::contents::Contents;
use super::decode::stacks::WaitingAt;
use super::{Site, Stack};
use crate::wire::{ListedStack, TaskId};

/// A task that was waiting when a generation ended: see
/// [`DecodedGeneration::waiting`](super::DecodedGeneration::waiting).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct WaitingTask<'a> {
    /// The task.
    pub task: TaskId,
    /// Where it was spawned, named by its type.
    pub site: Site<'a>,
    /// The number of its set of stacks: tasks of one generation with the same number wait at the same places.
    pub set: u32,
    /// The number of the stack that spawned it, likewise; `None` if that is not known.
    pub spawn_set: Option<u32>,
    of: &'a Contents,
    stacks: &'a [ListedStack],
}

/// One of the places where a task waits: it may wait for several things at once.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WaitsAt<'a> {
    /// The task's await chain: the part of a thread's stack that belongs to the task's poll, from where its waker was
    /// registered up to the function that polls the task. `None` if the file does not define it.
    pub stack: Option<Stack<'a>>,
    /// Whether that was in a poll before the task's last one. Such a registration is in force unless the task has gone
    /// on without it, which cannot be told.
    pub is_earlier: bool,
}

impl<'a> WaitingTask<'a> {
    pub(crate) fn all(of: &'a Contents) -> impl Iterator<Item = Self> {
        let stacks = &of.tables.stacks;
        stacks.waiting.iter().map(move |WaitingAt { task, set }| {
            let site = of.begin.site_of(*task).and_then(|site| of.site(site));
            let site = site.unwrap_or(Site::UNKNOWN);
            let listed = stacks.sets.get(*set as usize).map_or(&[][..], |set| set);
            let spawn_set = stacks.spawned_by(*task).map(|(_, set)| set);
            Self { task: *task, site, set: *set, spawn_set, of, stacks: listed }
        })
    }

    /// The stack of the thread that spawned it, if the recorder was asked to keep it.
    #[must_use]
    pub fn spawned_by(&self) -> Option<Stack<'a>> {
        let (stack, _) = self.of.tables.stacks.spawned_by(self.task)?;
        Stack::new(self.of, u64::from(stack))
    }

    /// Where it waits; those of its last poll first.
    pub fn places(&self) -> impl Iterator<Item = WaitsAt<'a>> + use<'a> {
        let of = self.of;
        self.stacks.iter().map(move |listed| WaitsAt {
            stack: Stack::new(of, u64::from(listed.stack)),
            is_earlier: listed.is_earlier,
        })
    }
}

impl std::fmt::Debug for WaitingTask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut task = f.debug_struct("WaitingTask");
        task.field("task", &self.task).field("site", &self.site);
        task.field("places", &self.places().collect::<Vec<_>>()).finish()
    }
}
