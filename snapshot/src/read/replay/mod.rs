//! Follows tasks, spans and workers from event to event, and notes what cannot have happened.
//!
//! After an inconsistency, the state is corrected as well as possible, so that one missing event causes one
//! inconsistency. Losses excuse inconsistencies: each lost event may be the missing one once.

pub(crate) mod carry_over;
pub(crate) mod chain;
pub(crate) mod merge;
pub(crate) mod slot_cursor;
pub(crate) mod spans;
pub(crate) mod tasks;
pub(crate) mod wait_list;
pub(crate) mod workers;

use super::decode::contents::Contents;
use super::decode::otel::SpanNames;
use super::decode::stream::Raw;
use super::decode::threads::NO_THREAD;
use crate::read::decode::initial_state::UNKNOWN_PARENT;
use crate::read::decode::regions::Ended;
use crate::read::decode::thread_context::{Tenure, ThreadContext};
use crate::wire::{Kind, SpanId, TaskId};
use slot_cursor::SlotCursor;
use spans::{SpanInconsistency, Spans};
use std::collections::HashSet;
use tasks::{TaskInconsistency, Tasks};
use wait_list::{Progress, Whose};
use workers::{WorkerInconsistency, WorkerStates};

/// An event that cannot have happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inconsistency {
    pub(crate) block: u32,
    /// Its position in the content.
    pub(crate) at: u32,
    pub(crate) what: Subject,
}

/// What it cannot have happened to, and why not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    Task(TaskId, TaskInconsistency),
    Span(SpanId, SpanInconsistency),
    Worker(u16, WorkerInconsistency),
}

/// What is reported only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ReportedOnce {
    Task(u32),
    Span(u32),
    Worker(u16),
    Stream(u32),
}

/// See the module.
pub(crate) struct Replay {
    pub(crate) tasks: Tasks,
    pub(crate) spans: Spans,
    names: SpanNames,
    pub(crate) workers: WorkerStates,
    /// What has changed since the last event.
    pub(crate) changed: Vec<Whose>,
    pub(crate) inconsistencies: Vec<Inconsistency>,
    /// Whether inconsistencies are noted.
    checks: bool,
    /// How many of the events lost so far have not excused anything yet.
    lost: u64,
    told: HashSet<ReportedOnce>,
}

/// At most this many inconsistencies are noted.
const MAX_INCONSISTENCIES: usize = 2000;

impl Replay {
    pub(crate) fn new(of: &Contents, checks: bool) -> Self {
        let limit = of.places_limit();
        let held = of.carried.values().filter_map(|carried| carried.inside.worker);
        Self {
            tasks: Tasks::new(&of.begin, limit),
            spans: Spans::new(&of.begin, limit),
            names: SpanNames::new(of),
            workers: WorkerStates::new(&of.begin, held),
            changed: Vec::new(),
            inconsistencies: Vec::new(),
            checks,
            lost: of.unplaced,
            told: HashSet::new(),
        }
    }

    /// This many events were lost here.
    pub(crate) fn lose(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
    }

    /// How far a task, a span or a worker has come.
    pub(crate) fn progress(&self, whose: Whose) -> Progress {
        match whose {
            Whose::Task(index) => self.tasks.progress(index),
            Whose::Span(index) => self.spans.progress(index),
            Whose::Worker(worker) => self.workers.progress(worker),
        }
    }

    /// What a stream's next event has to wait for, if anything.
    #[inline]
    pub(crate) fn waits_for(
        &self,
        kind: Kind,
        cursor: &SlotCursor,
        of: &Contents,
    ) -> Option<Progress> {
        let args = &cursor.stream.args;
        match kind {
            Kind::TaskCreate
            | Kind::TaskPoll
            | Kind::TaskDrop
            | Kind::TaskWake
            | Kind::TaskWakeStale => self.tasks.waits_for(kind, args),
            Kind::SpanCreate | Kind::SpanCreateUnder => self.spans.created_waits(args.span()),
            Kind::SpanCreateIn => {
                self.spans.created_waits(args.span()).or_else(|| self.named_waits(args.other, of))
            }
            Kind::SpanEnter
            | Kind::SpanExitOther
            | Kind::SpanExitDeep
            | Kind::SpanRecord
            | Kind::SpanFollowsClosed
            | Kind::LogIn => self.named_waits(args.span(), of),
            Kind::SpanFollows => {
                self.named_waits(args.span(), of).or_else(|| self.named_waits(args.other, of))
            }
            Kind::SpanClose => self.spans.close_waits(args.span()),
            Kind::SpanCloseLast => self.spans.close_waits(cursor.left),
            Kind::WorkerStart | Kind::WorkerVisit => {
                let worker = of.begin.workers.index(args.worker);
                self.workers.start_waits(worker, args.number, &of.begin)
            }
            _ => None,
        }
    }

    fn named_waits(&self, span: SpanId, of: &Contents) -> Option<Progress> {
        if span.index == 0 { None } else { self.spans.named_waits(span, &of.begin) }
    }

    /// The event at which a stream stands happens. Fills in what is known of it.
    pub(crate) fn apply(
        &mut self,
        kind: Kind,
        index: u32,
        cursors: &mut [SlotCursor],
        of: &Contents,
    ) {
        let cursor = &mut cursors[index as usize];
        match kind {
            Kind::ThreadStart => {
                let thread = cursor.stream.thread();
                self.switch(cursor, thread);
                cursor.refresh();
            }
            Kind::ThreadExit => self.switch(cursor, NO_THREAD),
            Kind::TaskCreate
            | Kind::TaskPoll
            | Kind::TaskPending
            | Kind::TaskWaits
            | Kind::TaskReady
            | Kind::TaskPanic
            | Kind::TaskDrop
            | Kind::TaskWake
            | Kind::TaskWakeStale => self.task(kind, index, cursor, of),
            Kind::WorkerStart | Kind::WorkerVisit => self.worker_starts(kind, index, cursors, of),
            Kind::WorkerPark | Kind::WorkerUnpark | Kind::WorkerStop => {
                let (worker, outcome) = self.workers.apply(kind, &mut cursor.inside);
                if let Some(worker) = worker {
                    cursor.stream.event.worker = worker;
                    self.changed.push(Whose::Worker(worker));
                }
                if let Err(wrong) = outcome {
                    let told = worker.map_or(ReportedOnce::Stream(index), ReportedOnce::Worker);
                    let event = &cursor.stream.event;
                    self.wrong(told, event, Subject::Worker(event.worker, wrong), 1, of);
                }
            }
            Kind::ThreadName => {}
            Kind::PoolThread => cursor.inside.pool = Some(cursor.stream.args.worker.runtime),
            _ => self.span(kind, index, cursor, of),
        }
    }

    #[inline]
    fn task(&mut self, kind: Kind, index: u32, cursor: &mut SlotCursor, of: &Contents) {
        let said = (&cursor.stream.args, &cursor.stated);
        let event = &mut cursor.stream.event;
        let (place, outcome) = self.tasks.apply(kind, said, &mut cursor.inside, event, &of.begin);
        self.changed.extend(place.map(Whose::Task));
        if let Err(wrong) = outcome {
            let ends_poll = matches!(
                kind,
                Kind::TaskPending | Kind::TaskWaits | Kind::TaskReady | Kind::TaskPanic
            );
            let named = matches!(wrong, TaskInconsistency::NoPoll);
            let task =
                if ends_poll || kind == Kind::TaskPoll { event.task } else { event.named_task() };
            let told =
                if named { ReportedOnce::Stream(index) } else { ReportedOnce::Task(task.index) };
            let excused = match wrong {
                TaskInconsistency::NoStatus => of.omissions.tasks || of.is_alone,
                TaskInconsistency::NoPoll => of.is_alone,
                _ => false,
            };
            if !excused {
                let what = Subject::Task(task, wrong);
                self.note_inconsistency(told, event.block, event.at, what, wrong.missing());
            }
        }
    }

    fn worker_starts(&mut self, kind: Kind, index: u32, cursors: &mut [SlotCursor], of: &Contents) {
        let cursor = &mut cursors[index as usize];
        let args = &cursor.stream.args;
        let worker = of.begin.workers.index(args.worker);
        let (number, visit) = (args.number, kind == Kind::WorkerVisit);
        let tenure = Tenure { worker, number, parked: false, visit, stated: false };
        cursor.stream.event.worker = worker;
        // Another thread may have ended that tenure, and say so later.
        let already = cursor.inside.worker.is_some_and(|held| {
            let later = (held.worker, held.number.saturating_add(1))..=(held.worker, u64::MAX);
            held.worker != worker && !held.stated && of.begin.tenures.range(later).next().is_none()
        });
        (cursor.inside.worker, cursor.inside.lost) = (Some(tenure), None);
        let (before, mut outcome) = self.workers.start(index, tenure, &of.begin);
        if already && outcome.is_ok() {
            outcome = Err(WorkerInconsistency::Already);
        }
        if let Some(before) = before.and_then(|before| cursors.get_mut(before as usize))
            && before.inside.worker.is_some_and(|held| held.worker == worker)
        {
            before.inside.lose_worker();
            before.refresh();
        }
        self.changed.push(Whose::Worker(worker));
        if let Err(wrong) = outcome {
            let (told, what) = (ReportedOnce::Worker(worker), Subject::Worker(worker, wrong));
            self.wrong(told, &cursors[index as usize].stream.event, what, 1, of);
        }
    }

    fn span(&mut self, kind: Kind, index: u32, cursor: &mut SlotCursor, of: &Contents) {
        let args = cursor.stream.args;
        let event = &mut cursor.stream.event;
        let mut id = args.span();
        let outcome = match kind {
            Kind::SpanCreate | Kind::SpanCreateIn | Kind::SpanCreateUnder => {
                let parent = match kind {
                    Kind::SpanCreateIn | Kind::SpanCreateUnder => args.other,
                    _ if event.span == SpanId::NONE && !cursor.inside.spans.is_empty() => {
                        UNKNOWN_PARENT
                    }
                    _ => event.span,
                };
                if kind == Kind::SpanCreateIn && parent.index != 0 {
                    // A parent may be unknown.
                    let _ = self.spans.name(parent);
                    self.changed.push(Whose::Span(parent.index));
                }
                cursor.created = id;
                event.extra = id.number();
                self.names.forget(id);
                self.names.record(id, event.site, args.given, of);
                self.spans.create(&args, parent, event.site, event.ticks, &of.begin)
            }
            Kind::SpanEnter | Kind::SpanEnterLast => {
                let is_last = kind == Kind::SpanEnterLast;
                if is_last {
                    id = cursor.created;
                }
                let outcome = if is_last && id == SpanId::NONE {
                    Err(SpanInconsistency::NoLast)
                } else {
                    let outcome = self.spans.name(id);
                    self.spans.enter(id);
                    outcome
                };
                cursor.inside.spans.begin(id);
                event.span = id;
                outcome
            }
            Kind::SpanExit => {
                let (left, outcome) = match cursor.inside.spans.end() {
                    Ended::Known(span) => (span, self.spans.leave(span)),
                    Ended::Unknown => (SpanId::NONE, Ok(())),
                    Ended::Nothing => (SpanId::NONE, Err(SpanInconsistency::InsideOfNone)),
                };
                (id, cursor.left, event.span) = (left, left, left);
                outcome
            }
            Kind::SpanExitOther => {
                let named = self.spans.name(id);
                let left = cursor.inside.spans.end_like(|span| *span == id);
                (cursor.left, event.span) = (id, id);
                match left {
                    Some(_) => named.and(self.spans.leave(id)),
                    // It is one of the unknown spans.
                    None if cursor.inside.spans.end_unknown() => named,
                    None => named.and(Err(SpanInconsistency::NotInside)),
                }
            }
            Kind::SpanExitDeep => {
                let named = self.spans.name(id);
                let left = cursor.inside.spans.end_inside(args.number);
                (cursor.left, event.span) = (id, id);
                match left {
                    Ended::Known(span) if span == id => named.and(self.spans.leave(id)),
                    Ended::Known(_) | Ended::Nothing => {
                        named.and(Err(SpanInconsistency::NotInside))
                    }
                    Ended::Unknown => named,
                }
            }
            Kind::SpanClose | Kind::SpanCloseLast => {
                if kind == Kind::SpanCloseLast {
                    id = cursor.left;
                }
                event.extra = id.number();
                event.site = self.spans.site(id);
                if id == SpanId::NONE {
                    Err(SpanInconsistency::NoLast)
                } else {
                    self.spans.close(id)
                }
            }
            Kind::SpanRecord => {
                let outcome = self.spans.name(id);
                self.spans.record(&args, event.site);
                self.names.record(id, event.site, args.given, of);
                outcome
            }
            Kind::SpanFollows => {
                let _ = self.spans.name(args.other);
                self.changed.push(Whose::Span(args.other.index));
                self.spans.name(id)
            }
            Kind::SpanFollowsClosed => self.spans.name(id),
            Kind::LogIn => {
                event.span = id;
                if id.index == 0 { Ok(()) } else { self.spans.name(id) }
            }
            _ => return,
        };
        if kind != Kind::LogIn {
            event.extra = id.number();
            let site = self.spans.site(id);
            if site != super::decode::definitions::NO_SITE {
                event.site = site;
            }
            event.site = self.names.site(id, event.site, of);
            if matches!(kind, Kind::SpanClose | Kind::SpanCloseLast) {
                self.names.forget(id);
            }
        }
        self.changed.push(Whose::Span(id.index));
        if let Err(wrong) = outcome {
            let told = if id == SpanId::NONE {
                ReportedOnce::Stream(index)
            } else {
                ReportedOnce::Span(id.index)
            };
            self.wrong(told, event, Subject::Span(id, wrong), 1, of);
        }
    }

    /// What follows belongs to another thread, which is inside nothing.
    pub(crate) fn switch(&mut self, cursor: &mut SlotCursor, thread: u32) {
        if !cursor.is_collector {
            for span in cursor.inside.spans.known() {
                let _ = self.spans.leave(*span);
                self.changed.push(Whose::Span(span.index));
            }
        }
        cursor.thread = thread;
        cursor.inside.clear();
        cursor.refresh();
    }

    /// A thread continues in the state that the previous generation left it in.
    pub(crate) fn resume(&mut self, cursor: &mut SlotCursor, inside: &ThreadContext) {
        cursor.inside = inside.clone();
        cursor.inside.spans.known().iter().for_each(|span| self.spans.enter(*span));
        cursor.refresh();
    }

    /// Takes a status record from a stream.
    pub(crate) fn state(&mut self, kind: Kind, index: u32, cursor: &mut SlotCursor, of: &Contents) {
        let args = cursor.stream.args;
        cursor.inside.state(kind, &args, &of.begin.workers);
        match kind {
            Kind::TaskStatus => {
                let outcome = self.tasks.state(&args, of.tables.place_index(args.site));
                cursor.stated = args;
                self.changed.push(Whose::Task(args.index));
                if let Err(wrong) = outcome {
                    let (block, at) = cursor.stream.here();
                    let told = ReportedOnce::Task(args.index);
                    self.note_inconsistency(
                        told,
                        block,
                        at,
                        Subject::Task(args.task(), wrong),
                        u64::MAX,
                    );
                }
            }
            Kind::SpanEntered => {
                self.spans.enter(args.span());
                self.changed.push(Whose::Span(args.index));
            }
            Kind::WorkerStatus | Kind::VisitStatus => {
                if let Some(tenure) = cursor.inside.worker {
                    // A tenure that is over is not resumed.
                    let _ = self.workers.start(index, tenure, &of.begin);
                    if self.workers.is_over(tenure) {
                        cursor.inside.lose_worker();
                    }
                    self.changed.push(Whose::Worker(tenure.worker));
                }
            }
            _ => {}
        }
        cursor.refresh();
    }

    #[cold]
    fn wrong(
        &mut self,
        told: ReportedOnce,
        event: &Raw,
        what: Subject,
        missing: u64,
        of: &Contents,
    ) {
        let unknown = match what {
            Subject::Span(_, SpanInconsistency::NoStatus) => of.omissions.spans || of.is_alone,
            Subject::Span(_, SpanInconsistency::InsideOfNone | SpanInconsistency::NoLast)
            | Subject::Worker(_, WorkerInconsistency::None) => of.is_alone,
            _ => false,
        };
        if !unknown {
            self.note_inconsistency(told, event.block, event.at, what, missing);
        }
    }

    #[cold]
    fn note_inconsistency(
        &mut self,
        told: ReportedOnce,
        block: u32,
        at: u32,
        what: Subject,
        missing: u64,
    ) {
        if !self.checks {
            return;
        }
        if let Some(rest) = self.lost.checked_sub(missing) {
            self.lost = rest;
            return;
        }
        if self.inconsistencies.len() < MAX_INCONSISTENCIES && self.told.insert(told) {
            self.inconsistencies.push(Inconsistency { block, at, what });
        }
    }
}
