//! The one pass over the events.

use super::busy::BusyWatch;
use super::changes::ChangeWatch;
use super::counters::CounterWatch;
use super::coverage::Coverage;
use super::delays::DelayWatch;
use super::doubts::Doubts;
use super::endings::EndingWatch;
use super::incident::IncidentWatch;
use super::length::Length;
use super::logs::LogWatch;
use super::map::Map;
use super::names::Name;
use super::polls::PollWatch;
use super::regions::RegionWatch;
use super::scribe::Scribe;
use super::spans::SpanWatch;
use super::state::{Poll, PollEnd, WorkerNow, World};
use super::step::Step;
use super::stuck::WaitWatch;
use super::{Finding, LeftOut, Report, Section, end, losses, standing, workers};
use crate::read::{EventKind, GenerationInfo, Level, Trace};
use crate::wire::{Generation, Nanos, TaskId, ThreadNumber};
use crate::words::counted as counted_words;
use std::collections::HashMap;

/// See the module.
pub(super) fn report(trace: &Trace) -> Report {
    let mut pass = Pass::new(Coverage::of(trace), Doubts::new(trace.generations()), end(trace));
    pass.incident = IncidentWatch::of(trace);
    let mut generations = Generations::new(trace.generations());
    let mut damage: Vec<_> = trace.damage().to_vec();
    for event in trace.events() {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                if damage.len() < MOST_DAMAGE && !damage.contains(&error) {
                    damage.push(error);
                }
                continue;
            }
        };
        generations.go_on(event.generation(), trace, &mut pass);
        pass.left_out.event(&event);
        pass.step(&Step::of(&event));
    }
    // Behind the last event, too, there may be generations.
    if let Some(last) = trace.generations().last() {
        generations.go_on(last.number, trace, &mut pass);
    }
    pass.finish(trace, damage)
}

/// An executor that wakes a task that has yielded does so within this; the timers of Tokio take longer.
const AT_ONCE: Nanos = Nanos(1_000_000);
/// So much damage is told one by one.
const MOST_DAMAGE: usize = 100;

/// Which generation is being read, and which come next.
struct Generations<'a> {
    infos: &'a [GenerationInfo],
    next: usize,
    now: Option<Generation>,
    /// What was silent since the last gap is not known yet.
    is_part: bool,
}

impl<'a> Generations<'a> {
    fn new(infos: &'a [GenerationInfo]) -> Self {
        Self { infos, next: 0, now: None, is_part: false }
    }

    /// Goes on to this generation. Where it does not follow on what was read, its statuses tell.
    fn go_on(&mut self, number: Generation, trace: &Trace, pass: &mut Pass) {
        if self.now == Some(number) {
            return;
        }
        let follows = self.enter(number, pass);
        if follows && !self.is_part {
            return;
        }
        let Ok(decoded) = trace.generation(number) else { return };
        if !follows {
            pass.world.begin(&decoded);
            pass.left_out.begin(&decoded);
        } else if !decoded.is_alone() {
            // What has been silent so far has its statuses here.
            pass.world.learn(&decoded);
        }
        // Before the first one there was nothing.
        let begin = trace.metadata().number(crate::wire::key::FIRST_GENERATION).unwrap_or(1);
        self.is_part = decoded.is_alone() && number.0 > begin;
        pass.begins_incomplete = self.is_part;
    }

    /// Enters this generation, and those before it. Says whether it follows on what was read.
    fn enter(&mut self, number: Generation, pass: &mut Pass) -> bool {
        let mut follows = self.now.is_some();
        while let Some(info) = self.infos.get(self.next).filter(|info| info.number <= number) {
            self.next += 1;
            follows &= self.now.is_none_or(|before| before.next() == info.number);
            // Where events are missing, anything may have changed: the statuses tell it anew.
            follows &= !pass.world.doubts.here();
            self.now = Some(info.number);
            pass.enter(info);
        }
        self.now = Some(number);
        follows
    }
}

/// What reads the events.
#[derive(Default)]
pub(super) struct Pass {
    pub(super) world: World,
    coverage: Coverage,
    incident: IncidentWatch,
    polls: PollWatch,
    delays: DelayWatch,
    waits: WaitWatch,
    busy: BusyWatch,
    /// Polls after whose end their threads did nothing else yet.
    just_ended: HashMap<ThreadNumber, Poll>,
    endings: EndingWatch,
    spans: SpanWatch,
    regions: RegionWatch,
    counters: CounterWatch,
    logs: LogWatch,
    left_out: LeftOut,
    changes: ChangeWatch,
    first: Option<Nanos>,
    last: Nanos,
    /// What was silent since the begin, or the last gap, is not known up to the end.
    begins_incomplete: bool,
    had_tasks: bool,
    had_spans: bool,
}

impl Pass {
    pub(super) fn new(coverage: Coverage, doubts: Doubts, end: Nanos) -> Self {
        let changes = ChangeWatch::until(end);
        Self { coverage, changes, world: World::new(doubts), ..Self::default() }
    }

    pub(super) fn enter(&mut self, info: &GenerationInfo) {
        self.world.doubts.enter(info.number, info.start.max(self.last));
    }

    /// The next event.
    pub(super) fn step(&mut self, step: &Step<'_>) {
        self.first.get_or_insert(step.at);
        self.last = step.at;
        self.coverage.events += 1;
        self.incident.step(step);
        if !self.just_ended.is_empty() {
            self.after_poll(step);
        }
        self.world.seen(step.thread, step.at);
        self.world.called(step.thread, step.thread_name);
        if let Some(kind) = counted(&step.kind) {
            let name = self.world.names.name(step.name);
            self.changes.event(kind, name, step.at);
        }
        match step.kind {
            EventKind::ThreadStart | EventKind::ThreadExit => {
                self.coverage.thread_events += 1;
                self.world.clear_thread(step);
            }
            EventKind::ThreadName => {
                self.coverage.thread_events += 1;
                self.world.renamed(step.thread, step.thread_name);
            }
            EventKind::RegionBegin { .. } => {
                self.coverage.region_events += 1;
                self.world.region_begin(step);
            }
            EventKind::RegionEnd { site, duration, inside } => {
                self.coverage.region_events += 1;
                let known = site.map(|site| (site.name, duration));
                if let Some(done) = self.world.region_end(step, known, inside) {
                    self.regions.done(done);
                }
            }
            EventKind::Log { .. } => {
                self.coverage.logs += 1;
                self.logs.log(step, &self.world);
            }
            EventKind::Typed { .. } => {
                self.coverage.typed += 1;
                self.incident.typed(step, &self.world);
            }
            EventKind::Counter { value, .. } => {
                self.coverage.counters += 1;
                let name = self.world.names.name(step.name);
                self.counters.sample(name, value, step.at);
            }
            EventKind::SpanCreate { .. }
            | EventKind::SpanEnter { .. }
            | EventKind::SpanExit { .. }
            | EventKind::SpanClose { .. }
            | EventKind::SpanRecord { .. }
            | EventKind::SpanFollows { .. } => self.span(step),
            EventKind::WorkerStart { .. }
            | EventKind::WorkerVisit { .. }
            | EventKind::WorkerPark { .. }
            | EventKind::WorkerUnpark { .. }
            | EventKind::WorkerStop { .. }
            | EventKind::PoolThread { .. } => self.worker(step),
            _ => self.task(step),
        }
    }

    fn task(&mut self, step: &Step<'_>) {
        match step.kind {
            // Which it is was lost.
            EventKind::TaskPoll { task }
            | EventKind::TaskWake { task }
            | EventKind::TaskDrop { task }
                if task == TaskId::default() => {}
            EventKind::TaskCreate { task, .. } => {
                self.endings.spawned += 1;
                self.world.task_create(step, task);
            }
            EventKind::TaskPoll { task } => {
                let gap = self.world.task_poll(step, task);
                if !gap.blocking {
                    self.polls.polled(&gap, &self.world);
                    self.delays.polled(&gap, &self.world);
                }
                self.waits.polled(&gap);
            }
            EventKind::TaskPending { task, waits_for } => {
                let waits_for = waits_for.map(|site| site.name);
                self.poll_end(step, task, PollEnd::Pending, waits_for);
            }
            EventKind::TaskReady { task } => {
                self.endings.ready += 1;
                self.poll_end(step, task, PollEnd::Over, None);
            }
            EventKind::TaskPanic { task } => {
                let name = self.world.names.name(step.name);
                self.endings.panicked(step, task, name);
                self.poll_end(step, task, PollEnd::Over, None);
            }
            EventKind::TaskDrop { task } => {
                self.endings.dropped += 1;
                self.busy.leaves(task, &self.world, step.at);
                self.world.task_drop(task, step.at);
            }
            EventKind::TaskWake { task } => self.world.task_wake(step, task),
            _ => return,
        }
        self.coverage.task_events += 1;
        self.had_tasks = true;
    }

    fn poll_end(&mut self, step: &Step<'_>, task: TaskId, how: PollEnd, waits: Option<&str>) {
        if how == PollEnd::Over {
            self.busy.leaves(task, &self.world, step.at);
        }
        if let Some(poll) = self.world.task_poll_end(step, task, how, waits) {
            self.polls.ended(&poll, &self.world);
            self.just_ended.insert(step.thread, poll);
        }
    }

    /// What a thread does first after a poll: an executor wakes a task then that has yielded, so that
    /// counts as if the task had done it.
    fn after_poll(&mut self, step: &Step<'_>) {
        let Some(mut poll) = self.just_ended.remove(&step.thread) else { return };
        let is_woken = matches!(step.kind, EventKind::TaskWake { task } if task == poll.task);
        // Later it is a timer, say, where nothing tells that the worker slept meanwhile.
        let yields = is_woken && step.at.since(poll.ended) <= AT_ONCE;
        poll.self_woken |= yields && poll.outermost;
        self.busy.ended(&poll, &mut self.world);
    }

    fn worker(&mut self, step: &Step<'_>) {
        self.coverage.worker_events += 1;
        match step.kind {
            EventKind::WorkerStart { worker } => self.world.worker_start(step, worker, false),
            EventKind::WorkerVisit { worker } => self.world.worker_start(step, worker, true),
            EventKind::WorkerStop { worker } => self.world.worker_stop(step, worker),
            EventKind::WorkerPark { worker } => {
                self.world.worker_goes(step, worker, WorkerNow::Parked);
            }
            EventKind::WorkerUnpark { worker } => {
                self.world.worker_goes(step, worker, WorkerNow::Running);
            }
            _ => {}
        }
    }

    fn span(&mut self, step: &Step<'_>) {
        self.coverage.span_events += 1;
        self.had_spans = true;
        match step.kind {
            EventKind::SpanCreate { span, .. } => self.world.span_create(step, span),
            EventKind::SpanEnter { span } => self.world.span_enter(step, span),
            EventKind::SpanExit { span } => self.world.span_exit(step, span),
            EventKind::SpanRecord { span } => self.world.span_record(step, span),
            EventKind::SpanClose { span } => {
                if let Some(done) = self.world.span_close(step.at, span) {
                    self.spans.done(done);
                }
            }
            _ => {}
        }
    }

    fn finish(self, trace: &Trace, damage: Vec<crate::read::ReadError>) -> Report {
        let end = end(trace).max(self.last);
        let mut report = self.conclude(trace.generations(), end);
        let number = |name| trace.metadata().number(name).unwrap_or_default();
        report.losses.table.nameless = number(crate::wire::key::NAMELESS);
        report.losses.table.refused_barriers = number(crate::wire::key::REFUSED_BARRIERS);
        report.losses.table.unshared_texts = number(crate::wire::key::UNSHARED_TEXTS);
        report.damage = damage;
        report
    }

    /// The snapshot ends here.
    pub(super) fn conclude(mut self, generations: &[GenerationInfo], end: Nanos) -> Report {
        self.world.settle(end);
        for poll in self.world.open_polls(end) {
            self.polls.ended(&poll, &self.world);
        }
        for region in self.world.open_regions(end) {
            self.regions.done(region);
        }
        self.delays.end(&self.world, end);
        for poll in std::mem::take(&mut self.just_ended).into_values() {
            self.busy.ended(&poll, &mut self.world);
        }
        self.busy.end(&self.world, end);
        let has_tasks = self.had_tasks || !self.world.tasks.is_empty();
        let has_spans = self.had_spans || !self.world.spans.is_empty();
        let first = self.first.unwrap_or(end);
        let scribe = Scribe { world: &self.world, first, end };
        // While it is still known what is open.
        let incident = self.incident.finish(&scribe);
        let stuck = self.waits.finish(&scribe, has_spans.then_some(&self.spans));
        self.world.open_waits(end);
        for span in self.world.open_spans(end) {
            self.spans.done(span);
        }
        let scribe = Scribe { world: &self.world, first, end };
        let ended: Map<Name, u64> =
            self.world.standing().map(|on| (on.what, self.regions.ended(on.what))).collect();
        let (polls, regions) = (self.polls.finish(&scribe), self.regions.finish(&scribe));
        let told = [&polls.findings, &regions.findings, &stuck.findings];
        let told: Vec<&Finding> = told.into_iter().flatten().collect();
        let standing =
            standing::finish(&scribe, &told, |name| ended.get(&name).copied().unwrap_or_default());
        let mut report = Report {
            incident,
            polls,
            delays: self.delays.finish(&scribe),
            spans: self.spans.finish(&scribe),
            regions,
            standing,
            stuck,
            waits: self.world.waits.finish(&scribe),
            busy: self.busy.finish(&scribe),
            endings: self.endings.finish(&scribe),
            workers: workers::finish(&scribe, has_tasks),
            counters: self.counters.finish(&scribe),
            changes: self.changes.finish(&scribe),
            losses: losses::finish(generations, self.left_out, &scribe),
            logs: self.logs.finish(&scribe),
            end: scribe.moment(end),
            coverage: self.coverage.finish(),
            damage: Vec::new(),
        };
        // They have been told, with what they said.
        let all_told = report.incident.table.panics >= report.endings.table.panicked;
        if all_told && !report.incident.findings.is_empty() {
            report.endings.findings.clear();
        }
        if !has_tasks {
            let because = match report.losses.table.omitted {
                0 => "no task is recorded: `lookback::spawn` records tasks".to_owned(),
                many => format!(
                    "no task is known: {} left out for want of room, and some may have been of tasks",
                    were(many, "status")
                ),
            };
            let because = &*because;
            report.polls = Section::nothing(because);
            report.delays = Section::nothing(because);
            report.stuck = Section::nothing(because);
            report.waits = Section::nothing(because);
            report.busy = Section::nothing(because);
            report.endings = Section::nothing(because);
        } else {
            report.stuck.not_assessed.extend(missing(self.begins_incomplete, generations));
        }
        if !has_spans {
            let omitted = report.losses.table.omitted;
            report.spans = Section::nothing(match omitted {
                0 => format!(
                    "no span is recorded: `lookback::tracing` records those of `tracing`{}",
                    report.coverage.table.filtered()
                ),
                many => format!(
                    "no span is known: {} left out for want of room, and some may have been of spans",
                    were(many, "status")
                ),
            });
        }
        report
    }
}

/// What is counted to see what was different in the last second: what begins, and what is said.
fn counted(kind: &EventKind<'_>) -> Option<&'static str> {
    Some(match kind {
        EventKind::Log { level, .. } => match level {
            Level::Error => "error log",
            Level::Warn => "warn log",
            _ => "log",
        },
        EventKind::Typed { .. } => "event",
        EventKind::RegionBegin { .. } => "region",
        EventKind::SpanCreate { .. } => "span",
        EventKind::TaskCreate { .. } => "task",
        EventKind::TaskPanic { .. } => "panic",
        EventKind::TaskDrop { .. } => "cancelled task",
        _ => return None,
    })
}

/// `1 status was`, `51 statuses were`.
fn were(many: u64, what: &str) -> String {
    format!("{} {}", counted_words(many, what), if many == 1 { "was" } else { "were" })
}

/// Why there may be tasks that the snapshot does not know.
fn missing(begins_incomplete: bool, generations: &[GenerationInfo]) -> Vec<String> {
    let mut because = Vec::new();
    if begins_incomplete {
        because.push(
            "a generation is incomplete and the one before it is not there: tasks that did nothing since are not known"
                .to_owned(),
        );
    }
    let omitted: u64 = generations.iter().map(|info| info.omitted).fold(0, u64::saturating_add);
    if omitted > 0 {
        because.push(format!(
            "{} left out for want of room: there may be tasks that are not known",
            were(omitted, "status")
        ));
    }
    because
}
