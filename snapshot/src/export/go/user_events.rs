//! The part of Go's state machine for user annotations: tasks, regions, logs. All of them need a running
//! goroutine.

use super::goroutine::OpenRegion;
use super::report::Origin;
use super::state_machine::{StateMachine, ThreadAt};
use super::tables::{StackId, StringId};
use std::io::Write;

const USER_TASK_BEGIN: u8 = 40;
const USER_TASK_END: u8 = 41;
const USER_REGION_BEGIN: u8 = 42;
const USER_REGION_END: u8 = 43;
const USER_LOG: u8 = 44;

impl<W: Write> StateMachine<W> {
    /// Whether a user task of this number has begun and not ended.
    pub(super) fn is_open(&self, task: u64) -> bool {
        self.tasks.contains(&task)
    }

    /// The user tasks that have begun and not ended.
    pub(super) fn open_tasks(&self) -> impl Iterator<Item = u64> {
        self.tasks.iter().copied()
    }

    /// A user task begins; `parent` is 0 for none.
    pub(super) fn task_begin(
        &mut self,
        at: ThreadAt,
        task: u64,
        parent: u64,
        name: StringId,
        stack: StackId,
        origin: Origin,
    ) -> bool {
        if !self.is_user_code(at) || !self.tasks.insert(task) {
            return self.refuse();
        }
        self.put(at, USER_TASK_BEGIN, &[task, parent, name.0, stack.0]);
        self.count(|report| &mut report.tasks_begun, origin)
    }

    /// A user task ends.
    pub(super) fn task_end(&mut self, at: ThreadAt, task: u64, origin: Origin) -> bool {
        if !self.is_user_code(at) || !self.tasks.remove(&task) {
            return self.refuse();
        }
        let stack = self.stack_of(at);
        self.put(at, USER_TASK_END, &[task, stack.0]);
        self.count(|report| &mut report.tasks_ended, origin)
    }

    /// The running goroutine enters a region.
    pub(super) fn region_begin(
        &mut self,
        at: ThreadAt,
        region: OpenRegion,
        origin: Origin,
    ) -> bool {
        let Some(goroutine) = self.user_code(at) else { return self.refuse() };
        goroutine.regions.push(region);
        let OpenRegion { task, name, stack, .. } = region;
        self.put(at, USER_REGION_BEGIN, &[task, name.0, stack.0]);
        self.count(|report| &mut report.regions_begun, origin)
    }

    /// The running goroutine leaves the innermost region that it is in.
    pub(super) fn region_end(&mut self, at: ThreadAt, origin: Origin) -> bool {
        let innermost = self.user_code(at).and_then(|goroutine| goroutine.regions.pop());
        let Some(OpenRegion { task, name, stack, .. }) = innermost else { return self.refuse() };
        self.put(at, USER_REGION_END, &[task, name.0, stack.0]);
        self.count(|report| &mut report.regions_ended, origin)
    }

    /// The running goroutine logs something; `task` is 0 for none.
    pub(super) fn log(
        &mut self,
        at: ThreadAt,
        task: u64,
        key: StringId,
        value: StringId,
        stack: StackId,
        origin: Origin,
    ) -> bool {
        if !self.is_user_code(at) {
            return self.refuse();
        }
        self.put(at, USER_LOG, &[task, key.0, value.0, stack.0]);
        self.count(|report| &mut report.logs, origin)
    }
}
