//! A stretch of a task's time, and all that the task did in it.
//!
//! The stretch is accounted for from its begin to its end, each nanosecond once: whatever is added begins where the last
//! one ended, and what nobody has said anything about is unknown. So the parts add up to the whole.

use super::doing::{Doing, Sum, Unknown};
use crate::analysis::nanos_ext::Length;
use crate::analysis::state::Gap;
use crate::analysis::top_n::Top;
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};
use std::collections::{BTreeMap, VecDeque};

/// How many of the latest segments can still turn out to be something else.
const OPEN: usize = 1024;
/// How many different things are told apart.
const MOST: usize = 512;
/// How many of the longest segments are kept.
pub(super) const LONGEST: usize = 48;

/// Whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whom {
    Task(TaskId),
    /// A span that runs in no task: the time of threads while they have entered it.
    Span(SpanId),
}

/// One thing after another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) from: Nanos,
    pub(super) until: Nanos,
    pub(super) doing: Doing,
    /// The thread that polls it meanwhile.
    pub(super) thread: Option<ThreadNumber>,
}

impl Segment {
    pub(super) fn length(&self) -> Nanos {
        self.until.since(self.from)
    }
}

/// See the module. All times are by the clock that stands still while the process is stopped.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) whom: Whom,
    pub(super) from: Nanos,
    pub(super) until: Nanos,
    /// Up to where it is accounted for.
    at: Nanos,
    open: VecDeque<Segment>,
    sums: BTreeMap<Doing, Sum>,
    longest: Top<Segment, LONGEST>,
    /// What is settled of polls, until somebody takes it.
    pub(super) in_polls: Vec<Segment>,
    /// What the thread did inside the poll that is not over.
    inside: Vec<Segment>,
    /// A wait for a lock that was said to go on, up to when that was said.
    going_on: Option<Segment>,
    /// How many threads have the span entered, and the first of them with the time.
    entered: u32,
    entered_by: (ThreadNumber, Nanos),
}

/// A window that is accounted for.
#[derive(Debug)]
pub(super) struct Accounted {
    pub(super) from: Nanos,
    pub(super) until: Nanos,
    pub(super) sums: BTreeMap<Doing, Sum>,
    /// The longest segments, in order.
    pub(super) longest: Vec<Segment>,
    /// The rest of what it did in polls.
    pub(super) in_polls: Vec<Segment>,
}

impl Window {
    /// Whether it is about this moment.
    pub(super) fn covers(&self, at: Nanos) -> bool {
        (self.from..=self.until).contains(&at)
    }

    pub(super) fn new(whom: Whom, from: Nanos, until: Nanos) -> Self {
        Self {
            whom,
            from,
            until: until.max(from),
            at: from,
            open: VecDeque::new(),
            sums: BTreeMap::new(),
            longest: Top::default(),
            in_polls: Vec::new(),
            inside: Vec::new(),
            going_on: None,
            entered: 0,
            entered_by: (ThreadNumber(0), from),
        }
    }

    /// Whether nothing that follows belongs to it.
    fn is_over(&self) -> bool {
        self.at >= self.until
    }

    /// Up to this time it did this, in a poll of that thread if in any.
    fn add(&mut self, until: Nanos, doing: Doing, thread: Option<ThreadNumber>) {
        let until = until.min(self.until);
        if until <= self.at {
            return;
        }
        let from = std::mem::replace(&mut self.at, until);
        match self.open.back_mut() {
            // One and the same poll may be told in pieces, and so may what is unknown.
            Some(last) if last.doing == doing && doing.may_be_in_pieces() => last.until = until,
            _ => self.open.push_back(Segment { from, until, doing, thread }),
        }
        self.settle_oldest();
    }

    fn settle_oldest(&mut self) {
        while self.open.len() > OPEN {
            let oldest = self.open.pop_front();
            oldest.into_iter().for_each(|oldest| self.settle(oldest));
        }
    }

    /// How many segments can still turn out to be something else.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Nothing changes this segment any more.
    fn settle(&mut self, segment: Segment) {
        let doing = match self.sums.contains_key(&segment.doing) || self.sums.len() < MOST {
            true => segment.doing,
            false => segment.doing.of_many(),
        };
        self.sums.entry(doing).or_default().add(&segment);
        if segment.thread.is_some() {
            self.in_polls.push(segment);
        }
        self.longest.add(segment.length().0, segment);
    }

    /// A gap between two polls has ended, or goes on at this time.
    pub(super) fn gap(&mut self, gap: &Gap, now: Nanos, waits: impl FnOnce(Nanos, Nanos) -> Doing) {
        if self.is_over() || now <= self.at {
            return;
        }
        self.inside.clear();
        // Without a known begin of the gap it counts from when the task was ready.
        let since = gap.since.or(gap.runnable).unwrap_or(now).clamp(self.at, now);
        self.add(since, Doing::Unknown(Unknown::NotKnownYet), None);
        match gap.runnable {
            Some(runnable) => {
                let runnable = runnable.clamp(since, now);
                if runnable > since {
                    self.add(runnable, waits(since, runnable), None);
                }
                self.add(now, Doing::ready(gap), None);
            }
            // Nothing has woken the task, or it said what it waits for.
            None if gap.polled.is_none() || gap.waits_for.is_some() => {
                self.add(now, waits(since, now), None);
            }
            None => self.add(now, Doing::Unknown(Unknown::PolledWithoutWake), None),
        }
    }

    /// A poll that began then has ended, or goes on at this time.
    pub(super) fn polled(&mut self, began: Nanos, now: Nanos, thread: ThreadNumber) {
        if !self.is_over() {
            self.add(began.min(now), Doing::Unknown(Unknown::NotKnownYet), None);
            for of in std::mem::take(&mut self.inside) {
                self.add(of.from.min(now), Doing::Polled { thread }, Some(thread));
                self.add(of.until.min(now), of.doing, Some(thread));
            }
            self.add(now, Doing::Polled { thread }, Some(thread));
        }
        self.inside.clear();
    }

    /// Inside the current poll, or while the span is entered, the thread has done this.
    pub(super) fn inside(&mut self, segment: Segment) {
        const MOST_INSIDE: usize = 1 << 14;
        // They come as they end, and one may contain those before.
        while self.inside.last().is_some_and(|last| last.from >= segment.from) {
            self.inside.pop();
        }
        if let Some(last) = self.inside.last_mut() {
            last.until = last.until.min(segment.from);
        }
        if !self.is_over() && self.inside.len() < MOST_INSIDE {
            self.inside.push(segment);
        }
    }

    /// A thread enters the span.
    pub(super) fn enter(&mut self, thread: ThreadNumber, at: Nanos) {
        if self.entered == 0 {
            self.add(at, Doing::Unknown(Unknown::NotEntered), None);
            self.entered_by = (thread, at);
            self.inside.clear();
        }
        self.entered = self.entered.saturating_add(1);
    }

    /// A thread exits the span, which it may have entered before the snapshot.
    pub(super) fn exit(&mut self, thread: ThreadNumber, at: Nanos) {
        if self.entered == 0 {
            let was_inside = self.at == self.from;
            self.polled(if was_inside { self.from } else { at }, at, thread);
            return;
        }
        self.entered -= 1;
        if self.entered == 0 {
            let (thread, began) = self.entered_by;
            self.polled(began, at, thread);
        }
    }

    /// The span is still entered at the end.
    pub(super) fn exit_all(&mut self, thread: ThreadNumber, at: Nanos) {
        self.entered = 1;
        self.exit(thread, at);
    }

    /// The thread that has the span entered.
    pub(super) fn entered_by(&self) -> Option<ThreadNumber> {
        (self.entered > 0).then_some(self.entered_by.0)
    }

    /// The task's waits within this time were for that.
    pub(super) fn waited(&mut self, from: Nanos, until: Nanos, doing: Doing) {
        self.going_on = None;
        let mut later = Vec::new();
        while self.open.back().is_some_and(|last| last.until > from) {
            later.extend(self.open.pop_back());
        }
        for segment in later.into_iter().rev() {
            let (begins, ends) = (segment.from.max(from), segment.until.min(until));
            if begins >= ends || !segment.doing.may_be_a_wait_for_a_lock() {
                self.open.push_back(segment);
                continue;
            }
            let parts = [
                (segment.from, begins, segment.doing),
                (begins, ends, doing),
                (ends, segment.until, segment.doing),
            ];
            let parts = parts.into_iter().filter(|(from, until, _)| from < until);
            let parts = parts.map(|(from, until, doing)| Segment { from, until, doing, ..segment });
            self.open.extend(parts);
        }
        // Each wait may have made one segment two.
        self.settle_oldest();
    }

    /// A wait of the task for a lock was said to go on.
    pub(super) fn goes_on(&mut self, segment: Segment) {
        self.going_on = Some(segment);
    }

    /// The snapshot has ended. `unchanged` is since when the task has been idle.
    pub(super) fn finish(mut self, unchanged: Option<Nanos>) -> Accounted {
        let because = match self.whom {
            Whom::Task(_) => Unknown::TaskOver,
            Whom::Span(_) => Unknown::NotEntered,
        };
        self.add(self.until, Doing::Unknown(because), None);
        if let Some(wait) = self.going_on.take() {
            let goes_on = unchanged.is_some_and(|since| since <= wait.until);
            let until = if goes_on { self.until } else { wait.until };
            self.waited(wait.from, until, wait.doing);
        }
        while let Some(segment) = self.open.pop_front() {
            self.settle(segment);
        }
        let mut longest: Vec<_> = self.longest.iter().copied().collect();
        longest.sort_by_key(|segment| segment.from);
        let in_polls = self.in_polls;
        Accounted { from: self.from, until: self.until, sums: self.sums, longest, in_polls }
    }
}
