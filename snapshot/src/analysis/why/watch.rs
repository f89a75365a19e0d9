//! Accounts for windows while the events are read.

use super::doing::{Doing, Joined, Sum};
use super::periods::Periods;
use super::tables::Tables;
use super::window::{LONGEST, Segment, Whom, Window};
use crate::analysis::event_view::EventView;
use crate::analysis::interner::Name;
use crate::analysis::nanos_ext::Length;
use crate::analysis::state::{Gap, LiveState, TaskNow};
use crate::analysis::top_n::Top;
use crate::read::decode::fast_map::Map;
use crate::read::{DecodedGeneration, EventKind};
use crate::wire::{LockKind, Nanos, SpanId, StackReason, TaskId, ThreadNumber};
use std::collections::BTreeMap;

/// How many places where a task waits are kept of each.
const MOST_PLACES: usize = 4096;

/// What is asked: the windows of one group are added up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) group: usize,
    pub(super) whom: Whom,
    pub(super) from: Nanos,
    pub(super) until: Nanos,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watch {
    windows: Vec<(usize, Window)>,
    of_task: Map<TaskId, Vec<usize>>,
    of_span: Map<SpanId, Vec<usize>>,
    from: Nanos,
    until: Nanos,
    pub(super) tables: Tables,
    pub(super) periods: Periods,
    /// Where watched tasks waited, and when that was noted.
    places: Map<TaskId, Vec<(Nanos, usize)>>,
    /// Threads that are blocked: since when, at which stack.
    standing: BTreeMap<ThreadNumber, (Nanos, usize)>,
    /// Waits of threads for locks that were said to go on.
    going_on: BTreeMap<ThreadNumber, Segment>,
    /// The last task that ended on each thread, and when.
    ended: Map<ThreadNumber, (Nanos, TaskId, Name)>,
    /// Watched tasks that such an end has woken.
    joined: Map<TaskId, Joined>,
    /// Stacks of threads that polled what is watched, by group: how often, and when first.
    seen: BTreeMap<(usize, usize), (u64, Nanos)>,
    /// The names of tasks that held locks.
    names: BTreeMap<TaskId, Name>,
}

/// What one group did.
#[derive(Debug, Default)]
pub(super) struct OfGroup {
    pub(super) length: Nanos,
    pub(super) sums: BTreeMap<Doing, Sum>,
    pub(super) longest: Top<Segment, LONGEST>,
}

impl Watch {
    pub(super) fn new(requests: &[Request]) -> Self {
        let mut watch = Self { from: Nanos(u64::MAX), ..Self::default() };
        for request in requests {
            let at = watch.windows.len();
            match request.whom {
                Whom::Task(task) => watch.of_task.entry(task).or_default().push(at),
                Whom::Span(span) => watch.of_span.entry(span).or_default().push(at),
            }
            let window = Window::new(request.whom, request.from, request.until);
            watch.windows.push((request.group, window));
            watch.from = watch.from.min(request.from);
            watch.until = watch.until.max(request.until);
        }
        watch
    }

    /// A generation is read next: what it says of its end.
    pub(super) fn list(&mut self, decoded: &DecodedGeneration, live: &LiveState) {
        let info = decoded.info();
        let ended = Nanos(info.start.0.saturating_add(info.duration.0));
        let (began, ended) = (live.stops.counted(info.start), live.stops.counted(ended));
        let longest = decoded.thread_times().iter().map(|of| of.time).max().unwrap_or_default();
        if ended < self.from || began.since(longest) > self.until {
            return;
        }
        if !live.stops.any() {
            // Where the process was stopped, the kernel's times are not those of the clock that stood still.
            self.periods.enter(decoded.thread_times(), ended);
        }
        for waiting in decoded.waiting().filter(|waiting| self.of_task.contains_key(&waiting.task))
        {
            let first = waiting.places().next().and_then(|place| place.stack);
            if let Some(stack) = self.tables.stack(first) {
                let places = self.places.entry(waiting.task).or_default();
                if places.len() < MOST_PLACES {
                    places.push((ended, stack));
                }
            }
        }
    }

    /// An event, before the state follows it.
    pub(super) fn before(&mut self, view: &EventView<'_>, live: &mut LiveState) {
        if !self.standing.is_empty() {
            self.goes_on(view.thread, view.at, live);
        }
        if !self.going_on.is_empty() && !matches!(view.kind, EventKind::LockWait { .. }) {
            self.going_on.remove(&view.thread);
        }
        match view.kind {
            EventKind::TaskPending { task, .. } | EventKind::TaskDrop { task } => {
                self.ends(task, view.at, live);
            }
            EventKind::TaskReady { task } | EventKind::TaskPanic { task } => {
                self.ends(task, view.at, live);
                if let Some(entry) = live.tasks.get(&task) {
                    self.ended.insert(view.thread, (view.at, task, entry.name));
                }
            }
            EventKind::TaskWake { task } if self.of_task.contains_key(&task) => {
                // A task that waits for the end of another one is woken right after that, when nothing is polled any more.
                if let Some((at, ended, name)) = self.ended.get(&view.thread).copied()
                    && live.last(view.thread) == Some(at)
                {
                    self.joined.insert(task, Joined { task: ended, name, woken: view.at });
                }
            }
            EventKind::SpanEnter { span } => {
                for window in of(&self.of_span, &span) {
                    self.windows[*window].1.enter(view.thread, view.at);
                }
            }
            EventKind::SpanExit { span } => {
                for window in of(&self.of_span, &span) {
                    self.windows[*window].1.exit(view.thread, view.at);
                }
            }
            EventKind::WorkerPark { .. } => self.periods.parks(view.thread, view.at),
            EventKind::WorkerUnpark { .. } => self.periods.unparks(view.thread, view.at),
            EventKind::ThreadStands { thread, since, .. } => {
                self.goes_on(thread, view.at, live);
                let stack = self.tables.stack(view.event.and_then(|event| event.stack()));
                if since.0 > 0
                    && let Some(stack) = stack
                {
                    self.standing.insert(thread, (before(view.at, since, live), stack));
                }
            }
            EventKind::ThreadStack { thread, reason: Some(StackReason::Stall), .. } => {
                self.see(thread, view, live);
            }
            EventKind::CpuSample { thread, .. } => self.see(thread, view, live),
            EventKind::Contention { site, lock, kind, waited, .. } => {
                let Some(lock) = self.tables.lock(view, (lock, kind), site, &mut live.names) else {
                    return;
                };
                self.note_holder(lock, live);
                let from = before(view.at, waited, live);
                if is_of_tasks(kind) {
                    let Some(task) = live.waiter(view) else { return };
                    for window in of(&self.of_task, &task) {
                        self.windows[*window].1.waited(from, view.at, Doing::Lock(lock));
                    }
                } else {
                    self.inside(view.thread, (from, view.at), Doing::Lock(lock), live);
                }
            }
            EventKind::LockWait { thread, task, site, lock, kind, waited } => {
                let Some(lock) = self.tables.lock(view, (lock, kind), site, &mut live.names) else {
                    return;
                };
                self.note_holder(lock, live);
                let (from, until) = (before(view.at, waited, live), view.at);
                let wait = Segment { from, until, doing: Doing::Lock(lock), thread: None };
                match (is_of_tasks(kind), thread, task) {
                    (true, _, Some(task)) => {
                        for window in of(&self.of_task, &task) {
                            self.windows[*window].1.goes_on(wait);
                        }
                    }
                    (false, Some(thread), _) => drop(self.going_on.insert(thread, wait)),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// A task that held a lock may have ended before somebody asks for its name.
    fn note_holder(&mut self, lock: usize, live: &LiveState) {
        if let Some(task) = self.tables.locks.get(lock).and_then(|lock| lock.task)
            && let Some(entry) = live.tasks.get(&task)
        {
            self.names.insert(task, entry.name);
        }
    }

    /// The stack of a thread was taken.
    fn see(&mut self, thread: ThreadNumber, view: &EventView<'_>, live: &LiveState) {
        let is_there = |window: &Window| window.covers(view.at) && is_in(window, thread, live);
        let mut groups: Vec<usize> = Vec::new();
        for (group, window) in &self.windows {
            if !groups.contains(group) && is_there(window) {
                groups.push(*group);
            }
        }
        if groups.is_empty() {
            return;
        }
        let Some(stack) = self.tables.stack(view.event.and_then(|event| event.stack())) else {
            return;
        };
        for group in groups {
            self.seen.entry((group, stack)).or_insert((0, view.at)).0 += 1;
        }
    }

    /// Where a group was seen: the stack, how often, and when first; the most often first.
    pub(super) fn seen(&self, group: usize) -> Vec<(usize, u64, Nanos)> {
        let of_group = self.seen.range((group, 0)..=(group, usize::MAX));
        let mut seen: Vec<_> =
            of_group.map(|((_, stack), (times, first))| (*stack, *times, *first)).collect();
        seen.sort_by_key(|(_, times, first)| (std::cmp::Reverse(*times), *first));
        seen
    }

    /// A thread that was blocked has gone on.
    fn goes_on(&mut self, thread: ThreadNumber, at: Nanos, live: &LiveState) {
        if let Some((from, stack)) = self.standing.remove(&thread) {
            self.inside(thread, (from, at), Doing::Stands { thread, stack }, live);
        }
    }

    /// The thread has done this for that long, for whatever it polls or has entered.
    fn inside(
        &mut self,
        thread: ThreadNumber,
        (from, until): (Nanos, Nanos),
        doing: Doing,
        live: &LiveState,
    ) {
        for (_, window) in &mut self.windows {
            if is_in(window, thread, live) {
                window.inside(Segment { from, until, doing, thread: Some(thread) });
            }
        }
    }

    /// A poll of the task ends here, or the task does.
    fn ends(&mut self, task: TaskId, at: Nanos, live: &LiveState) {
        let Some(windows) = self.of_task.get(&task) else { return };
        let Some(entry) = live.tasks.get(&task) else { return };
        for window in windows {
            let (group, window) = &mut self.windows[*window];
            match entry.state {
                TaskNow::Running { began, .. } => {
                    window.polled(began, at, entry.poller.unwrap_or_default());
                }
                TaskNow::Idle { .. } => {
                    let gap = entry.gap(task);
                    let noted = (self.places.get(&task), self.joined.get(&task).copied());
                    window.gap(&gap, at, |from, until| waits(&gap, noted, from, until));
                }
            }
            self.periods.note(*group, window.in_polls.drain(..));
        }
    }

    /// The name of a task that held a lock, if it was known then.
    pub(super) fn name_of(&self, task: TaskId) -> Option<Name> {
        self.names.get(&task).copied()
    }

    /// A gap between two polls has ended.
    pub(super) fn gap(&mut self, gap: &Gap, at: Nanos) {
        for window in of(&self.of_task, &gap.task) {
            let noted = (self.places.get(&gap.task), self.joined.get(&gap.task).copied());
            let window = &mut self.windows[*window].1;
            window.gap(gap, at, |from, until| waits(gap, noted, from, until));
        }
    }

    /// The snapshot has ended: what each group did.
    pub(super) fn finish(&mut self, live: &LiveState, end: Nanos) -> BTreeMap<usize, OfGroup> {
        for thread in self.standing.keys().copied().collect::<Vec<_>>() {
            self.goes_on(thread, end, live);
        }
        for (thread, wait) in std::mem::take(&mut self.going_on) {
            self.inside(thread, (wait.from, end), wait.doing, live);
        }
        for task in self.of_task.keys().copied().collect::<Vec<_>>() {
            self.ends(task, end, live);
        }
        let mut groups: BTreeMap<usize, OfGroup> = BTreeMap::new();
        for (group, mut window) in std::mem::take(&mut self.windows) {
            if let Some(thread) = window.entered_by() {
                window.exit_all(thread, end);
            }
            let idle = match window.whom {
                Whom::Task(task) => live.tasks.get(&task).and_then(|task| match task.state {
                    TaskNow::Idle { since, .. } => Some(since),
                    TaskNow::Running { .. } => None,
                }),
                Whom::Span(_) => None,
            };
            let accounted = window.finish(idle);
            self.periods.note(group, accounted.in_polls);
            let of = groups.entry(group).or_default();
            of.length.grow(accounted.until.since(accounted.from));
            for (doing, sum) in &accounted.sums {
                of.sums.entry(*doing).or_default().add_all(sum);
            }
            for segment in accounted.longest {
                of.longest.add(segment.length().0, segment);
            }
        }
        groups
    }
}

/// The windows of one task or span.
fn of<'a, K: std::hash::Hash + Eq>(windows: &'a Map<K, Vec<usize>>, key: &K) -> &'a [usize] {
    windows.get(key).map_or(&[], |windows| windows)
}

/// Whether the thread polls what the window is about, or has entered it.
fn is_in(window: &Window, thread: ThreadNumber, live: &LiveState) -> bool {
    match window.whom {
        Whom::Task(task) => live.tasks.get(&task).is_some_and(|task| {
            task.poller == Some(thread) && matches!(task.state, TaskNow::Running { .. })
        }),
        Whom::Span(_) => window.entered_by() == Some(thread),
    }
}

fn is_of_tasks(kind: Option<LockKind>) -> bool {
    kind.is_some_and(LockKind::is_of_tasks)
}

/// When it was so long before, by the clock that stands still while the process is stopped.
fn before(at: Nanos, length: Nanos, live: &LiveState) -> Nanos {
    live.stops.counted(live.stops.told(at).since(length))
}

/// Where a task waits, and after whose end it was woken.
type Noted<'a> = (Option<&'a Vec<(Nanos, usize)>>, Option<Joined>);

/// A wait, with the place that was noted in its time.
fn waits(gap: &Gap, (places, joined): Noted<'_>, from: Nanos, until: Nanos) -> Doing {
    let place = places.and_then(|places| {
        let first = places.partition_point(|(at, _)| *at < from);
        places.get(first).filter(|(at, _)| *at <= until).map(|(_, stack)| *stack)
    });
    Doing::waits(gap, place, joined)
}
