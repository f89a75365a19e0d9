//! A thread: its open polls, spans and regions.

use super::region::OpenRegion;
use super::span::Label;
use super::task::Blocker;
use super::wake_chain::Chain;
use crate::analysis::completeness::Mark;
use crate::analysis::interner::Name;
use crate::analysis::lock_times::LockTime;
use crate::analysis::nanos_ext::Length;
use crate::read::WorkerId;
use crate::wire::{Nanos, TaskId, ThreadNumber};
use std::collections::VecDeque;

/// The most nested polls that are known of a thread: a recorder allows far fewer.
pub(super) const MAX_POLLS: usize = 64;
/// The most regions and spans that are known of a thread: as many as a recorder keeps open.
pub(super) const MAX_OPEN: usize = 1 << 14;
/// How many of the innermost regions and spans may explain a poll, or are reported as surrounding something.
pub(super) const INNERMOST: usize = 64;

/// A thread that lives.
#[derive(Debug, Default)]
pub(crate) struct Thread {
    pub(crate) polls: Vec<OpenPoll>,
    pub(crate) spans: Vec<(Label, Nanos)>,
    pub(crate) regions: Vec<OpenRegion>,
    /// How many more regions are open inside those.
    pub(crate) deeper: u64,
    pub(crate) worker: Option<WorkerId>,
    /// The last polls that took a while.
    recent: VecDeque<Blocker>,
}

/// A poll that has begun.
#[derive(Debug)]
pub(crate) struct OpenPoll {
    pub(crate) task: TaskId,
    pub(crate) name: Name,
    pub(crate) began: Nanos,
    /// Whether `began` is when it began, rather than the beginning of the snapshot.
    pub(crate) exact: bool,
    pub(crate) mark: Mark,
    /// How much of it nested polls took.
    pub(crate) nested: Nanos,
    /// The wakes that caused it.
    pub(crate) cause: Option<Chain>,
    pub(crate) worker: Option<WorkerId>,
    /// When the thread's worker continued elsewhere.
    pub(crate) handed_over: Option<Nanos>,
    /// Whether it runs where blocking is allowed.
    pub(crate) blocking: bool,
    pub(crate) self_woken: bool,
    pub(crate) span: Explains<Label>,
    pub(crate) region: Explains<Name>,
    /// The span that shows its purpose: the last one with a group of its own.
    pub(crate) route: Option<Label>,
}

/// A poll that has ended, or was running at the end of the snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Poll {
    pub(crate) task: TaskId,
    pub(crate) name: Name,
    pub(crate) thread: ThreadNumber,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) began: Nanos,
    pub(crate) exact: bool,
    pub(crate) ended: Nanos,
    pub(crate) running: bool,
    /// How long it kept its thread's worker busy, or its thread: until that was handed over.
    pub(crate) held: Nanos,
    /// The same without the nested polls.
    pub(crate) blocked: Nanos,
    pub(crate) handed_over: bool,
    /// Whether it runs where blocking is allowed, and holds nobody up.
    pub(crate) blocking: bool,
    pub(crate) outermost: bool,
    pub(crate) certain: bool,
    pub(crate) self_woken: bool,
    pub(crate) span: Option<Label>,
    pub(crate) region: Option<Name>,
    /// The span that shows its purpose, such as a request with a route.
    pub(crate) route: Option<Label>,
    /// The lock that it waited for most of the time.
    pub(crate) lock: Option<LockTime>,
}

/// What explains most of a poll: the innermost thing in it, as long as that takes at least half of what
/// surrounds it.
#[derive(Clone, Debug)]
pub(crate) struct Explains<T> {
    what: Option<(T, Nanos, Nanos)>,
}

impl<T> Default for Explains<T> {
    fn default() -> Self {
        Self { what: None }
    }
}

impl<T: Clone> Explains<T> {
    /// Something ends that began at `began`.
    pub(crate) fn ended(&mut self, what: T, began: Nanos, ended: Nanos) {
        let length = ended.0.saturating_sub(began.0);
        let better = match &self.what {
            None => true,
            Some((_, inner, until)) => {
                let known = until.0.saturating_sub(inner.0);
                let around = *inner >= began;
                if around { length / 2 > known } else { length > known }
            }
        };
        if better {
            self.what = Some((what, began, ended));
        }
    }

    /// What explains at least half of a poll of this length.
    pub(crate) fn most_of(&self, poll: Nanos) -> Option<T> {
        let (what, began, ended) = self.what.as_ref()?;
        (ended.0.saturating_sub(began.0) >= poll.0 / 2).then(|| what.clone())
    }
}

impl OpenPoll {
    /// It was inside this span.
    pub(super) fn route(&mut self, span: &Label) {
        if span.group != span.name {
            self.route = Some(span.clone());
        }
    }

    /// The poll as it is now, or as it was when it ended.
    pub(crate) fn at(
        &self,
        thread: ThreadNumber,
        ended: Nanos,
        within: &Thread,
        outermost: bool,
    ) -> Poll {
        let (mut span, mut region) = (self.span.clone(), self.region.clone());
        let mut route = self.route.clone();
        // Whatever is still open ends here, innermost first.
        let inside = |began: Nanos| !self.exact || began >= self.began;
        let clip = |began: Nanos| began.max(self.began);
        let spans = within.spans.iter().rev().take(INNERMOST);
        for (open, began) in spans.filter(|(_, began)| inside(*began)) {
            span.ended(open.clone(), clip(*began), ended);
            if open.group != open.name {
                route = Some(open.clone());
            }
        }
        let mut nested = self.nested;
        let regions = within.regions.iter().rev().take(INNERMOST);
        for open in regions.filter(|open| inside(open.began)) {
            if open.name == Name::OWN {
                nested.grow(ended.since(clip(open.began)));
            } else {
                region.ended(open.name, clip(open.began), ended);
            }
        }
        let until = self.handed_over.unwrap_or(ended);
        let held = until.since(self.began);
        let blocked = held.since(nested);
        Poll {
            task: self.task,
            name: self.name,
            thread,
            worker: self.worker,
            began: self.began,
            exact: self.exact,
            ended,
            running: false,
            held,
            blocked,
            handed_over: self.handed_over.is_some(),
            blocking: self.blocking,
            outermost,
            certain: false,
            self_woken: self.self_woken,
            span: span.most_of(blocked),
            region: region.most_of(blocked),
            route,
            lock: None,
        }
    }
}

impl Thread {
    /// Begins a poll. If too many are nested, the end of the outermost one will not be seen: returns its
    /// task.
    pub(super) fn begin_poll(&mut self, poll: OpenPoll) -> Option<TaskId> {
        let lost = (self.polls.len() >= MAX_POLLS).then(|| self.polls.remove(0).task);
        self.polls.push(poll);
        lost
    }

    /// The innermost few of its spans, outermost first.
    pub(super) fn innermost_spans(&self) -> &[(Label, Nanos)] {
        &self.spans[self.spans.len().saturating_sub(INNERMOST)..]
    }

    /// The names of the innermost few of these regions, outermost first.
    pub(super) fn names_of(regions: &[OpenRegion]) -> impl Iterator<Item = Name> {
        let first = regions.len().saturating_sub(INNERMOST);
        regions[first..].iter().map(|region| region.name)
    }

    /// Keeps a poll that took a while: it may be why another task waits.
    pub(super) fn remember(&mut self, poll: &Poll) {
        const KEPT: usize = 16;
        const LONG: u64 = 1_000_000;
        if poll.blocked.0 >= LONG && !poll.blocking {
            if self.recent.len() == KEPT {
                self.recent.pop_front();
            }
            let ended = poll.began.plus(poll.blocked).min(poll.ended);
            let (task, name, began) = (poll.task, poll.name, poll.began);
            self.recent.push_back(Blocker { task, name, began, ended });
        }
    }

    /// The poll that took most of this time, if it took at least half of it.
    pub(super) fn blocker(&self, from: Nanos, to: Nanos) -> Option<Blocker> {
        let overlap = |poll: &Blocker| poll.ended.min(to).0.saturating_sub(poll.began.max(from).0);
        let longest = self.recent.iter().max_by_key(|poll| overlap(poll))?;
        let delay = to.0.saturating_sub(from.0);
        (delay > 0 && overlap(longest) >= delay / 2).then_some(*longest)
    }
}
