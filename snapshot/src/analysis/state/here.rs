//! What a thread is inside of at this moment.

use super::super::names::Name;
use super::World;
use super::span::Label;
use super::thread::Thread;
use crate::wire::{Nanos, TaskId, ThreadNumber};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Here {
    /// The innermost task that it polls.
    pub(crate) task: Option<(TaskId, Name)>,
    /// The innermost span.
    pub(crate) span: Option<Label>,
    /// The innermost few of the regions, outermost first.
    pub(crate) regions: Vec<Name>,
}

/// A thread that is inside of something.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) thread: ThreadNumber,
    /// Whether it is a region; else it is a span.
    pub(crate) region: bool,
    pub(crate) what: Name,
    /// The innermost few of the regions around it, outermost first.
    pub(crate) within: Vec<Name>,
    pub(crate) since: Nanos,
    /// When it recorded something last; if that was before the snapshot, when it began that.
    pub(crate) last: Nanos,
    /// The task that it polls.
    pub(crate) task: Option<(TaskId, Name)>,
    pub(crate) certain: bool,
}

impl World {
    /// The threads that are inside of something, each with the innermost of it.
    pub(crate) fn standing(&self) -> impl Iterator<Item = Standing> {
        self.threads.iter().filter_map(|(number, thread)| {
            let region = thread.regions.last();
            let span = thread.spans.last().map(|(label, entered)| (label.name, *entered));
            let (what, since, is_region) = match (region, span) {
                (Some(region), Some((_, entered))) if region.began >= entered => {
                    (region.name, region.began, true)
                }
                (_, Some((name, entered))) => (name, entered, false),
                (Some(region), None) => (region.name, region.began, true),
                (None, None) => return None,
            };
            let last = self.last.get(number).copied().unwrap_or_default().max(since);
            let around = thread.regions.len() - usize::from(is_region);
            let certain = match region.filter(|_| is_region) {
                Some(region) => self.doubts.certain_since(region.mark),
                None => !self.doubts.any(),
            };
            Some(Standing {
                thread: *number,
                region: is_region,
                what,
                within: Thread::names_of(&thread.regions[..around]).collect(),
                since,
                last,
                task: thread.polls.last().map(|poll| (poll.task, poll.name)),
                certain,
            })
        })
    }

    pub(crate) fn here(&self, thread: ThreadNumber) -> Here {
        let Some(thread) = self.threads.get(&thread) else { return Here::default() };
        Here {
            task: thread.polls.last().map(|poll| (poll.task, poll.name)),
            span: thread.spans.last().map(|(label, _)| label.clone()),
            regions: Thread::names_of(&thread.regions).collect(),
        }
    }
}
