//! What happens to tasks, spans and workers as events are taken in order, and what cannot be.
//!
//! What cannot be is put right as well as it goes, so that one thing that is missing is one thing
//! that is wrong. Losses excuse: each event that was lost may be what is missing once.

use super::generation::Contents;
use super::inside::{Inside, Tenure};
use super::line::Line;
use super::otel::SpanNames;
use super::regions::Ended;
use super::spans::{SpanWrong, Spans, UNKNOWN_PARENT};
use super::stream::{NO_SPAN, Raw};
use super::tasks::{TaskWrong, Tasks};
use super::thread::NO_THREAD;
use super::waiting::{Level, Whose};
use super::workers::{WorkerStates, WorkerWrong};
use crate::wire::{Kind, SpanId, TaskId};
use std::collections::HashSet;

/// An event that cannot have happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrong {
    pub(super) block: u32,
    /// Where it is in the content.
    pub(super) at: u32,
    pub(super) what: What,
}

/// To what it cannot have happened, and why not.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Task(TaskId, TaskWrong),
    Span(SpanId, SpanWrong),
    Worker(u16, WorkerWrong),
}

/// What is told of once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Task(u32),
    Span(u32),
    Worker(u16),
    Stream(u32),
}

/// See the module.
pub(super) struct Happening {
    pub(super) tasks: Tasks,
    pub(super) spans: Spans,
    names: SpanNames,
    pub(super) workers: WorkerStates,
    /// What has changed since the last event.
    pub(super) changed: Vec<Whose>,
    pub(super) wrongs: Vec<Wrong>,
    /// Whether wrongs are noted.
    checks: bool,
    /// How many events were lost so far which excuse nothing yet.
    lost: u64,
    told: HashSet<Told>,
}

/// The most wrongs that are noted.
const MAX_WRONGS: usize = 2000;

impl Happening {
    pub(super) fn new(of: &Contents, checks: bool) -> Self {
        let limit = of.places_limit();
        let held = of.carried.values().filter_map(|carried| carried.inside.worker);
        Self {
            tasks: Tasks::new(&of.begin, limit),
            spans: Spans::new(&of.begin, limit),
            names: SpanNames::new(of),
            workers: WorkerStates::new(&of.begin, held),
            changed: Vec::new(),
            wrongs: Vec::new(),
            checks,
            lost: of.unplaced,
            told: HashSet::new(),
        }
    }

    /// So many events were lost here.
    pub(super) fn lose(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
    }

    /// How far something has come.
    pub(super) fn level(&self, whose: Whose) -> Level {
        match whose {
            Whose::Task(index) => self.tasks.level(index),
            Whose::Span(index) => self.spans.level(index),
            Whose::Worker(worker) => self.workers.level(worker),
        }
    }

    /// What the next event of a stream has to wait for, if it does.
    #[inline]
    pub(super) fn waits_for(&self, kind: Kind, line: &Line, of: &Contents) -> Option<Level> {
        let mention = &line.stream.mention;
        match kind {
            Kind::TaskCreate
            | Kind::TaskPoll
            | Kind::TaskDrop
            | Kind::TaskWake
            | Kind::TaskWakeStale => self.tasks.waits_for(kind, mention),
            Kind::SpanCreate | Kind::SpanCreateUnder => self.spans.created_waits(mention.span()),
            Kind::SpanCreateIn => self
                .spans
                .created_waits(mention.span())
                .or_else(|| self.named_waits(mention.other, of)),
            Kind::SpanEnter
            | Kind::SpanExitOther
            | Kind::SpanExitDeep
            | Kind::SpanRecord
            | Kind::SpanFollowsClosed
            | Kind::LogIn => self.named_waits(mention.span(), of),
            Kind::SpanFollows => {
                self.named_waits(mention.span(), of).or_else(|| self.named_waits(mention.other, of))
            }
            Kind::SpanClose => self.spans.close_waits(mention.span()),
            Kind::SpanCloseLast => self.spans.close_waits(line.left),
            Kind::WorkerStart | Kind::WorkerVisit => {
                let worker = of.begin.workers.index(mention.worker);
                self.workers.start_waits(worker, mention.number, &of.begin)
            }
            _ => None,
        }
    }

    fn named_waits(&self, span: SpanId, of: &Contents) -> Option<Level> {
        if span.index == 0 { None } else { self.spans.named_waits(span, &of.begin) }
    }

    /// An event happens. Fills in what is known of it.
    pub(super) fn happen(
        &mut self,
        kind: Kind,
        index: u32,
        lines: &mut [Line],
        event: &mut Raw,
        of: &Contents,
    ) {
        let line = &mut lines[index as usize];
        match kind {
            Kind::ThreadStart => {
                let thread = line.stream.thread();
                self.switch(line, thread);
                line.mark(event);
            }
            Kind::ThreadExit => self.switch(line, NO_THREAD),
            Kind::TaskCreate
            | Kind::TaskPoll
            | Kind::TaskPending
            | Kind::TaskWaits
            | Kind::TaskReady
            | Kind::TaskPanic
            | Kind::TaskDrop
            | Kind::TaskWake
            | Kind::TaskWakeStale => self.task(kind, index, line, event, of),
            Kind::WorkerStart | Kind::WorkerVisit => {
                self.worker_starts(kind, index, lines, event, of)
            }
            Kind::WorkerPark | Kind::WorkerUnpark | Kind::WorkerStop => {
                let (worker, outcome) = self.workers.happen(kind, &mut line.inside);
                self.changed.extend(worker.map(Whose::Worker));
                if let Err(wrong) = outcome {
                    let told = worker.map_or(Told::Stream(index), Told::Worker);
                    self.wrong(told, event, What::Worker(event.worker, wrong), 1, of);
                }
                line.refresh();
            }
            Kind::ThreadName => {}
            Kind::PoolThread => line.inside.pool = Some(line.stream.mention.number),
            _ => self.span(kind, index, line, event, of),
        }
    }

    #[inline]
    fn task(&mut self, kind: Kind, index: u32, line: &mut Line, event: &mut Raw, of: &Contents) {
        let said = (&line.stream.mention, &line.stated);
        let (place, outcome) = self.tasks.happen(kind, said, &mut line.inside, event, &of.begin);
        self.changed.extend(place.map(Whose::Task));
        if !matches!(kind, Kind::TaskWake | Kind::TaskWakeStale | Kind::TaskCreate) {
            line.refresh();
        }
        if let Err(wrong) = outcome {
            let ends_poll = matches!(
                kind,
                Kind::TaskPending | Kind::TaskWaits | Kind::TaskReady | Kind::TaskPanic
            );
            let named = matches!(wrong, TaskWrong::NoPoll);
            let task =
                if ends_poll || kind == Kind::TaskPoll { event.task } else { event.named_task() };
            let told = if named { Told::Stream(index) } else { Told::Task(task.index) };
            let excused = match wrong {
                TaskWrong::NoStatus => of.omissions.tasks || of.is_alone,
                TaskWrong::NoPoll => of.is_alone,
                _ => false,
            };
            if !excused {
                let what = What::Task(task, wrong);
                self.note_wrong(told, event.block, event.at, what, wrong.missing());
            }
        }
    }

    fn worker_starts(
        &mut self,
        kind: Kind,
        index: u32,
        lines: &mut [Line],
        event: &mut Raw,
        of: &Contents,
    ) {
        let line = &mut lines[index as usize];
        let mention = &line.stream.mention;
        let worker = of.begin.workers.index(mention.worker);
        let (number, visit) = (mention.number, kind == Kind::WorkerVisit);
        let tenure = Tenure { worker, number, parked: false, visit, stated: false };
        event.worker = worker;
        // Another thread may have ended that tenure, and say so later.
        let already = line.inside.worker.is_some_and(|held| {
            let later = (held.worker, held.number.saturating_add(1))..=(held.worker, u64::MAX);
            held.worker != worker && !held.stated && of.begin.tenures.range(later).next().is_none()
        });
        line.inside.worker = Some(tenure);
        line.refresh();
        let (before, mut outcome) = self.workers.start(index, tenure, &of.begin);
        if already && outcome.is_ok() {
            outcome = Err(WorkerWrong::Already);
        }
        if let Some(before) = before.and_then(|before| lines.get_mut(before as usize))
            && before.inside.worker.is_some_and(|held| held.worker == worker)
        {
            before.inside.worker = None;
            before.refresh();
        }
        self.changed.push(Whose::Worker(worker));
        if let Err(wrong) = outcome {
            self.wrong(Told::Worker(worker), event, What::Worker(worker, wrong), 1, of);
        }
    }

    fn span(&mut self, kind: Kind, index: u32, line: &mut Line, event: &mut Raw, of: &Contents) {
        let mention = line.stream.mention;
        let mut id = mention.span();
        let outcome = match kind {
            Kind::SpanCreate | Kind::SpanCreateIn | Kind::SpanCreateUnder => {
                let parent = match kind {
                    Kind::SpanCreateIn | Kind::SpanCreateUnder => mention.other,
                    _ if event.span == NO_SPAN && !line.inside.spans.is_empty() => UNKNOWN_PARENT,
                    _ => event.span,
                };
                if kind == Kind::SpanCreateIn && parent.index != 0 {
                    // Nothing need be known of a parent.
                    let _ = self.spans.name(parent);
                    self.changed.push(Whose::Span(parent.index));
                }
                line.created = id;
                event.extra = id.number();
                self.names.forget(id);
                self.names.record(id, event.site, mention.given, of);
                self.spans.create(&mention, parent, event.site, event.ticks, &of.begin)
            }
            Kind::SpanEnter | Kind::SpanEnterLast => {
                let is_last = kind == Kind::SpanEnterLast;
                if is_last {
                    id = line.created;
                }
                let outcome = if is_last && id == NO_SPAN {
                    Err(SpanWrong::NoLast)
                } else {
                    let outcome = self.spans.name(id);
                    self.spans.enter(id);
                    outcome
                };
                line.inside.spans.begin(id);
                line.refresh();
                event.span = id;
                outcome
            }
            Kind::SpanExit => {
                let (left, outcome) = match line.inside.spans.end() {
                    Ended::Known(span) => (span, self.spans.leave(span)),
                    Ended::Unknown => (NO_SPAN, Ok(())),
                    Ended::Nothing => (NO_SPAN, Err(SpanWrong::InsideOfNone)),
                };
                (id, line.left, event.span) = (left, left, left);
                line.refresh();
                outcome
            }
            Kind::SpanExitOther => {
                let named = self.spans.name(id);
                let left = line.inside.spans.end_like(|span| *span == id);
                (line.left, event.span) = (id, id);
                line.refresh();
                match left {
                    Some(_) => named.and(self.spans.leave(id)),
                    // It is one of those of which nothing is known.
                    None if line.inside.spans.end_unknown() => named,
                    None => named.and(Err(SpanWrong::NotInside)),
                }
            }
            Kind::SpanExitDeep => {
                let named = self.spans.name(id);
                let left = line.inside.spans.end_inside(mention.number);
                (line.left, event.span) = (id, id);
                line.refresh();
                match left {
                    Ended::Known(span) if span == id => named.and(self.spans.leave(id)),
                    Ended::Known(_) | Ended::Nothing => named.and(Err(SpanWrong::NotInside)),
                    Ended::Unknown => named,
                }
            }
            Kind::SpanClose | Kind::SpanCloseLast => {
                if kind == Kind::SpanCloseLast {
                    id = line.left;
                }
                event.extra = id.number();
                event.site = self.spans.site(id);
                if id == NO_SPAN { Err(SpanWrong::NoLast) } else { self.spans.close(id) }
            }
            Kind::SpanRecord => {
                let outcome = self.spans.name(id);
                self.spans.record(&mention, event.site);
                self.names.record(id, event.site, mention.given, of);
                outcome
            }
            Kind::SpanFollows => {
                let _ = self.spans.name(mention.other);
                self.changed.push(Whose::Span(mention.other.index));
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
            if site != super::tables::NO_SITE {
                event.site = site;
            }
            event.site = self.names.site(id, event.site, of);
            if matches!(kind, Kind::SpanClose | Kind::SpanCloseLast) {
                self.names.forget(id);
            }
        }
        self.changed.push(Whose::Span(id.index));
        if let Err(wrong) = outcome {
            let told = if id == NO_SPAN { Told::Stream(index) } else { Told::Span(id.index) };
            self.wrong(told, event, What::Span(id, wrong), 1, of);
        }
    }

    /// What follows is of another thread; it is inside of nothing.
    pub(super) fn switch(&mut self, line: &mut Line, thread: u32) {
        if !line.is_collector {
            for span in line.inside.spans.known() {
                let _ = self.spans.leave(*span);
                self.changed.push(Whose::Span(span.index));
            }
        }
        line.thread = thread;
        line.inside.clear();
        line.refresh();
    }

    /// A thread goes on as the generation before left it.
    pub(super) fn resume(&mut self, line: &mut Line, inside: &Inside) {
        line.inside = inside.clone();
        line.inside.spans.known().iter().for_each(|span| self.spans.enter(*span));
        line.refresh();
    }

    /// A status stands in a stream.
    pub(super) fn state(&mut self, kind: Kind, index: u32, line: &mut Line, of: &Contents) {
        let mention = line.stream.mention;
        line.inside.state(kind, &mention, &of.begin.workers);
        match kind {
            Kind::TaskStatus => {
                let outcome = self.tasks.state(&mention, of.tables.place_index(mention.site));
                line.stated = mention;
                self.changed.push(Whose::Task(mention.index));
                if let Err(wrong) = outcome {
                    let (block, at) = line.stream.here();
                    let told = Told::Task(mention.index);
                    self.note_wrong(told, block, at, What::Task(mention.task(), wrong), u64::MAX);
                }
            }
            Kind::SpanEntered => {
                self.spans.enter(mention.span());
                self.changed.push(Whose::Span(mention.index));
            }
            Kind::WorkerStatus | Kind::VisitStatus => {
                if let Some(tenure) = line.inside.worker {
                    // One that is over is not resumed.
                    let _ = self.workers.start(index, tenure, &of.begin);
                    self.changed.push(Whose::Worker(tenure.worker));
                }
            }
            _ => {}
        }
        line.refresh();
    }

    #[cold]
    fn wrong(&mut self, told: Told, event: &Raw, what: What, missing: u64, of: &Contents) {
        let unknown = match what {
            What::Span(_, SpanWrong::NoStatus) => of.omissions.spans || of.is_alone,
            What::Span(_, SpanWrong::InsideOfNone | SpanWrong::NoLast)
            | What::Worker(_, WorkerWrong::None) => of.is_alone,
            _ => false,
        };
        if !unknown {
            self.note_wrong(told, event.block, event.at, what, missing);
        }
    }

    #[cold]
    fn note_wrong(&mut self, told: Told, block: u32, at: u32, what: What, missing: u64) {
        if !self.checks {
            return;
        }
        if let Some(rest) = self.lost.checked_sub(missing) {
            self.lost = rest;
            return;
        }
        if self.wrongs.len() < MAX_WRONGS && self.told.insert(told) {
            self.wrongs.push(Wrong { block, at, what });
        }
    }
}
