//! The modules and frames that a generation defines, and where its tasks wait at its end.

use super::bytes::{Fault, Span, TextAt};
use crate::wire::{ListedStack, TaskId, TaskStacks, TaskStacksReader};
use std::collections::HashMap;

/// A file that code was loaded from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModuleDefinition {
    pub(crate) path: TextAt,
    pub(crate) build_id: Span,
}

/// A frame, or (without a caller) the reason why there are no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameDefinition {
    pub(crate) caller: u64,
    pub(crate) module: u64,
    pub(crate) offset: u64,
}

/// See the module. Of two definitions of one id, the first counts.
#[derive(Debug, Default)]
pub(crate) struct StackDefinitions {
    modules: HashMap<u64, ModuleDefinition>,
    frames: HashMap<u64, FrameDefinition>,
    pub(crate) waiting: Vec<WaitingAt>,
    /// The stack that spawned a task, as a set of one; by task.
    spawned: HashMap<TaskId, u32>,
    /// The different sets of stacks at which tasks wait, or were spawned.
    pub(crate) sets: Vec<Vec<ListedStack>>,
    /// Of how many more tasks it was left out where they wait.
    pub(crate) omitted: u64,
}

/// A task that waits at the end of the generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingAt {
    pub(crate) task: TaskId,
    /// The index of its set of stacks.
    pub(crate) set: u32,
}

/// The size of such a task, of a set, and of a stack in it, including the tables' overhead.
const WAITING_SIZE: usize = 2 * size_of::<WaitingAt>();
const SET_SIZE: usize = 2 * size_of::<Vec<ListedStack>>() + 16;

/// The size of one of either, including the table's overhead.
pub(crate) const DEFINITION_SIZE: usize = 80;

impl StackDefinitions {
    /// `build_id` is its range in the content.
    pub(crate) fn add_module(&mut self, id: u64, path: TextAt, (start, end): (usize, usize)) {
        let build_id = Span::new(start as u32, (end - start) as u32, false);
        self.modules.entry(id).or_insert(ModuleDefinition { path, build_id });
    }

    pub(crate) fn add_frame(&mut self, id: u64, frame: FrameDefinition) {
        self.frames.entry(id).or_insert(frame);
    }

    /// Adds a list of where tasks wait. It may take `room` bytes. Returns how many it takes.
    pub(crate) fn add_waiting(&mut self, list: &[u8], room: u64) -> Result<usize, Fault> {
        self.add_tasks(list, room, |stacks, at| stacks.waiting.push(at))
    }

    /// As [`add_waiting`](Self::add_waiting), of where tasks were spawned.
    pub(crate) fn add_spawned(&mut self, list: &[u8], room: u64) -> Result<usize, Fault> {
        self.add_tasks(list, room, |stacks, at| {
            stacks.spawned.entry(at.task).or_insert(at.set);
        })
    }

    /// The stack that spawned a task, if that is known, and the number of the set that it is.
    pub(crate) fn spawned_by(&self, task: TaskId) -> Option<(u32, u32)> {
        let set = *self.spawned.get(&task)?;
        Some((self.sets.get(set as usize)?.first()?.stack, set))
    }

    fn add_tasks(
        &mut self,
        list: &[u8],
        room: u64,
        mut add: impl FnMut(&mut Self, WaitingAt),
    ) -> Result<usize, Fault> {
        let mut list = TaskStacksReader::new(list);
        let (mut size, first) = (0, self.sets.len() as u32);
        while !list.is_at_end() {
            let sets = list.sets.len();
            let TaskStacks { task, incarnation, set } =
                list.next().ok_or("a list of where tasks wait cannot be read")?;
            size += WAITING_SIZE;
            if let Some(new) = list.sets.get(sets) {
                size += SET_SIZE + size_of_val(&new[..]);
            }
            if size as u64 > room {
                return Ok(size);
            }
            let task = TaskId { index: task, incarnation };
            add(self, WaitingAt { task, set: first + set });
        }
        self.sets.append(&mut list.sets);
        Ok(size)
    }

    pub(crate) fn module(&self, id: u64) -> Option<&ModuleDefinition> {
        self.modules.get(&id)
    }

    /// The frames, without those that say why a stack ends.
    #[cfg(feature = "symbols")]
    pub(crate) fn frames(&self) -> impl Iterator<Item = &FrameDefinition> {
        self.frames.values().filter(|frame| frame.caller != 0)
    }

    pub(crate) fn frame(&self, id: u64) -> Option<&FrameDefinition> {
        self.frames.get(&id)
    }
}
