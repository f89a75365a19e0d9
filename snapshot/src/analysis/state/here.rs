//! What a thread is inside of at this moment.

use super::super::names::Name;
use super::World;
use super::span::Label;
use crate::wire::{TaskId, ThreadNumber};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Here {
    /// The innermost task that it polls.
    pub(crate) task: Option<(TaskId, Name)>,
    /// The innermost span.
    pub(crate) span: Option<Label>,
    /// The regions, outermost first.
    pub(crate) regions: Vec<Name>,
}

impl World {
    pub(crate) fn here(&self, thread: ThreadNumber) -> Here {
        let Some(thread) = self.threads.get(&thread) else { return Here::default() };
        Here {
            task: thread.polls.last().map(|poll| (poll.task, poll.name)),
            span: thread.spans.last().map(|(label, _)| label.clone()),
            regions: thread.regions.iter().map(|region| region.name).collect(),
        }
    }
}
