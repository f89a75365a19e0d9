//! Where a thread is at the moment.

use super::LiveState;
use super::span::Label;
use super::thread::Thread;
use crate::analysis::interner::Name;
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Here {
    /// The innermost task that it polls.
    pub(crate) task: Option<(TaskId, Name)>,
    /// The innermost span.
    pub(crate) span: Option<Label>,
    /// The innermost few of its regions, outermost first.
    pub(crate) regions: Vec<Name>,
}

/// A thread that is inside something.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) thread: ThreadNumber,
    /// Whether that is a region; otherwise it is a span.
    pub(crate) region: bool,
    pub(crate) what: Name,
    /// The innermost few of the regions around it, outermost first.
    pub(crate) within: Vec<Name>,
    pub(crate) since: Nanos,
    /// When it last recorded something; if that was before the snapshot, when it entered this.
    pub(crate) last: Nanos,
    /// The task that it polls.
    pub(crate) task: Option<(TaskId, Name)>,
    pub(crate) certain: bool,
}

impl LiveState {
    /// The threads that are inside something, each with the innermost.
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

    /// An open span and the task that it runs in, and the thread that is inside it, if one is.
    pub(crate) fn inside(&self, span: SpanId) -> Option<(Option<ThreadNumber>, Here)> {
        let found = self.spans.get(&span)?;
        let is_in = |thread: &Thread| thread.spans.iter().any(|(label, _)| label.span == span);
        let thread = self.threads.iter().find(|(_, thread)| is_in(thread));
        let (task, label) = (found.task, Some(found.label.clone()));
        let here = Here { task, span: label, regions: Vec::new() };
        Some((thread.map(|(number, _)| *number), here))
    }
}
