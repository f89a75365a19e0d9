//! The one pass over the events.

use super::blocking_pool::BlockingWatch;
use super::busy::BusyWatch;
use super::changes::{ChangeWatch, counted};
use super::completeness::{Doubts, missing, were};
use super::counters::CounterWatch;
use super::coverage::Coverage;
use super::delays::DelayWatch;
use super::event_view::EventView;
use super::heap_growth::HeapWatch;
use super::incident::IncidentWatch;
use super::interner::Name;
use super::locks::LockWatch;
use super::logs::LogWatch;
use super::nanos_ext::Length;
use super::onlooker::Onlooker;
use super::polls::PollWatch;
use super::ranges::RangeWatch;
use super::regions::RegionWatch;
use super::report_context::ReportContext;
use super::runtimes::RuntimeWatch;
use super::spans::SpanWatch;
use super::starved::StarvedWatch;
use super::state::{LiveState, Poll, PollEnd, WorkerNow};
use super::stopped::Stops;
use crate::read::decode::fast_map::Map;

use super::stuck::WaitWatch;
use super::system::SystemWatch;
use super::task_numbers::TaskCounter;
use super::task_outcomes::EndingWatch;
use super::thread_places::PlaceWatch;
use super::waits::Waits;
use super::{Finding, LeftOut, Report, Section, end, losses, standing, waiting, workers};
use crate::read::{DecodedGeneration, EventKind, GenerationInfo, Trace};
use crate::wire::{Generation, Nanos, TaskId, ThreadNumber};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// See the module.
pub(super) fn report(trace: &Trace) -> Report {
    watched(trace, None)
}

/// The same, with somebody who watches it.
pub(super) fn watched(trace: &Trace, why: Option<&Rc<RefCell<dyn Onlooker>>>) -> Report {
    let stops = Stops::of(trace);
    let until = stops.counted(end(trace));
    let mut pass = Pass::new(Coverage::of(trace), Doubts::new(trace.generations()), until);
    (pass.live.stops, pass.why) = (stops, why.cloned());
    pass.cores = trace.metadata().number(crate::wire::key::HOST_CORES);
    pass.incident = IncidentWatch::of(trace);
    let mut generations = Generations::new(trace.generations());
    let mut damage: Vec<_> = trace.damage().to_vec();
    let mut events = trace.events();
    while let Some(next) = events.lend() {
        let event = match next {
            Ok(lent) => lent.event,
            Err(error) => {
                if damage.len() < MOST_DAMAGE && !damage.contains(&error) {
                    damage.push(error);
                }
                continue;
            }
        };
        let is_first = generations.now != Some(event.generation());
        let decoded = is_first.then(|| DecodedGeneration::of(event));
        if let Some(decoded) = &decoded {
            pass.polls.enter(decoded.thread_times());
        }
        generations.go_on(event.generation(), trace, &mut pass);
        if let Some(decoded) = &decoded {
            pass.list(decoded);
        }
        pass.left_out.event(event);
        pass.view(&EventView::of(event).counted(&pass.live.stops));
    }
    // Further generations may follow the last event.
    if let Some(last) = trace.generations().last() {
        generations.go_on(last.number, trace, &mut pass);
    }
    pass.finish(trace, damage)
}

/// An executor wakes a task that has yielded within this time; Tokio's timers take longer.
const AT_ONCE: Nanos = Nanos(1_000_000);
/// The most damage that is reported item by item.
const MOST_DAMAGE: usize = 100;

/// The current generation, and those that follow.
struct Generations<'a> {
    infos: &'a [GenerationInfo],
    next: usize,
    now: Option<Generation>,
    /// What has been silent since the last gap is still unknown.
    is_part: bool,
}

impl<'a> Generations<'a> {
    fn new(infos: &'a [GenerationInfo]) -> Self {
        Self { infos, next: 0, now: None, is_part: false }
    }

    /// Moves on to this generation. If it does not follow on what was read, its statuses give the state.
    fn go_on(&mut self, number: Generation, trace: &Trace, pass: &mut Pass) {
        if self.now == Some(number) {
            return;
        }
        let follows = self.enter(number, trace, pass);
        if follows && !self.is_part {
            return;
        }
        let Ok(decoded) = trace.generation(number) else { return };
        if !follows {
            pass.live.begin(&decoded);
            pass.left_out.begin(&decoded);
        } else if !decoded.is_alone() {
            // What has been silent so far has its statuses here.
            pass.live.learn(&decoded);
        }
        let began = pass.live.stops.counted(decoded.began().monotonic);
        pass.tasks.count(&pass.live, began);
        // Before the very first generation there was nothing.
        let begin = trace.metadata().number(crate::wire::key::FIRST_GENERATION).unwrap_or(1);
        self.is_part = decoded.is_alone() && number.0 > begin;
        pass.begins_incomplete = self.is_part;
    }

    /// Enters this generation, and those before it. Returns whether it follows on what was read.
    fn enter(&mut self, number: Generation, trace: &Trace, pass: &mut Pass) -> bool {
        let mut follows = self.now.is_some();
        while let Some(info) = self.infos.get(self.next).filter(|info| info.number <= number) {
            self.next += 1;
            follows &= self.now.is_none_or(|before| before.next() == info.number);
            // Where events are missing, anything may have changed: the statuses give the state anew.
            follows &= !pass.live.doubts.here();
            self.now = Some(info.number);
            pass.enter(info);
            // The events of a process that was held up, by its control group say, do not lead here.
            if info.complete
                && info.events == 0
                && let Ok(decoded) = trace.generation(info.number)
            {
                pass.list(&decoded);
            }
        }
        self.now = Some(number);
        follows
    }
}

/// Receives the events.
#[derive(Default)]
pub(super) struct Pass {
    pub(super) live: LiveState,
    pub(super) why: Option<Rc<RefCell<dyn Onlooker>>>,
    coverage: Coverage,
    incident: IncidentWatch,
    polls: PollWatch,
    delays: DelayWatch,
    blocking: BlockingWatch,
    waits: WaitWatch,
    busy: BusyWatch,
    /// Polls that have ended and whose threads have done nothing else since.
    just_ended: HashMap<ThreadNumber, Poll>,
    endings: EndingWatch,
    spans: SpanWatch,
    regions: RegionWatch,
    counters: CounterWatch,
    pub(super) system: SystemWatch,
    locks: LockWatch,
    pub(super) runtimes: RuntimeWatch,
    pub(super) starved: StarvedWatch,
    /// How many cores the process may use.
    pub(super) cores: Option<u64>,
    ranges: RangeWatch,
    tasks: TaskCounter,
    heap: HeapWatch,
    logs: LogWatch,
    left_out: LeftOut,
    places: PlaceWatch,
    changes: ChangeWatch,
    first: Option<Nanos>,
    last: Nanos,
    /// What has been silent since the beginning, or the last gap, stays unknown until the end.
    begins_incomplete: bool,
    had_tasks: bool,
    had_spans: bool,
}

impl Pass {
    pub(super) fn new(coverage: Coverage, doubts: Doubts, end: Nanos) -> Self {
        let changes = ChangeWatch::until(end);
        let from = Nanos(end.0.saturating_sub(coverage.covered.0));
        let (tasks, counters) = (TaskCounter::between(from, end), CounterWatch::between(from, end));
        let live = LiveState::new(doubts);
        Self { coverage, changes, tasks, counters, live, ..Self::default() }
    }

    /// What a generation lists at its end.
    fn list(&mut self, decoded: &DecodedGeneration) {
        if let Some(why) = &self.why {
            why.borrow_mut().list(decoded, &mut self.live);
        }
        let stops = &self.live.stops;
        let info = decoded.info();
        let ended = stops.counted(Nanos(info.start.0.saturating_add(info.duration.0)));
        self.system.read(decoded.system_counters(), ended);
        self.runtimes.read(decoded.runtime_counters(), ended);
        self.starved.read(decoded.thread_times(), ended);
        self.heap.read(decoded, ended);
        let listed = decoded.ranges().map(|range| (range, stops.counted(range.began)));
        let all = info.complete && info.omitted == 0;
        self.ranges.list(listed, all, &mut self.live.names);
        self.tasks.sizes(decoded.task_types(), &mut self.live.names);
    }

    pub(super) fn enter(&mut self, info: &GenerationInfo) {
        let start = self.live.stops.counted(info.start);
        self.live.doubts.enter(info.number, start.max(self.last));
    }

    /// The next event.
    pub(super) fn view(&mut self, view: &EventView<'_>) {
        self.first.get_or_insert(view.at);
        self.last = view.at;
        self.coverage.events += 1;
        if let Some(why) = &self.why {
            why.borrow_mut().before(view, &mut self.live);
        }
        // Nothing happens in a sample.
        if let EventKind::CpuSample { .. } = view.kind {
            self.coverage.cpu_samples += 1;
            return;
        }
        if let EventKind::AllocationSample { .. } = view.kind {
            self.coverage.allocation_samples += 1;
            return;
        }
        if self.locks.view(view, &mut self.live) {
            self.coverage.lock_events += 1;
            // That a wait goes on is reported by another thread.
            if !matches!(view.kind, EventKind::LockWait { .. }) {
                self.live.seen(view.thread, view.at);
                self.live.called(view.thread, view.thread_name);
            }
            return;
        }
        self.incident.view(view);
        self.places.view(view);
        if !self.just_ended.is_empty() {
            self.after_poll(view);
        }
        self.live.seen(view.thread, view.at);
        self.live.called(view.thread, view.thread_name);
        if let Some(kind) = counted(&view.kind) {
            let name = self.live.names.name(view.name);
            self.changes.event(kind, name, view.at);
        }
        match view.kind {
            EventKind::ThreadStart | EventKind::ThreadExit => {
                self.coverage.thread_events += 1;
                self.live.clear_thread(view);
                self.live.numbered(view);
            }
            EventKind::ThreadName => {
                self.coverage.thread_events += 1;
                self.live.renamed(view.thread, view.thread_name);
            }
            EventKind::RegionBegin { .. } => {
                self.coverage.region_events += 1;
                self.live.region_begin(view);
            }
            EventKind::RegionEnd { site, duration, inside } => {
                self.coverage.region_events += 1;
                let known = site.map(|site| (site.name, duration));
                if let Some(done) = self.live.region_end(view, known, inside) {
                    self.regions.done(done);
                }
            }
            EventKind::RangeBegin { range, ago, .. } => {
                self.coverage.range_events += 1;
                let name = self.live.names.name(view.name);
                self.ranges.begin(range, name, view.at.since(ago));
            }
            EventKind::RangeEnd { range, duration, late, .. } => {
                self.coverage.range_events += 1;
                let name = self.live.names.name(view.name);
                let ended = view.at.since(late);
                let from = self.first.unwrap_or(view.at);
                self.ranges.end(range, name, (ended.since(duration), ended), from);
            }
            EventKind::Log { .. } => {
                self.coverage.logs += 1;
                self.logs.log(view, &self.live);
            }
            EventKind::Typed { .. } => {
                self.coverage.typed += 1;
                self.incident.typed(view, &self.live);
            }
            EventKind::ThreadStack { .. } => {
                self.incident.stack(view);
                self.logs.stack(view);
            }
            EventKind::Counter { value, .. } => {
                self.coverage.counters += 1;
                let name = self.live.names.name(view.name);
                self.counters.sample(name, value, view.at);
            }
            EventKind::SpanCreate { .. }
            | EventKind::SpanEnter { .. }
            | EventKind::SpanExit { .. }
            | EventKind::SpanClose { .. }
            | EventKind::SpanRecord { .. }
            | EventKind::SpanFollows { .. } => self.span(view),
            EventKind::WorkerStart { .. }
            | EventKind::WorkerVisit { .. }
            | EventKind::WorkerPark { .. }
            | EventKind::WorkerUnpark { .. }
            | EventKind::WorkerStop { .. }
            | EventKind::PoolThread { .. } => self.worker(view),
            _ => self.task(view),
        }
    }

    fn task(&mut self, view: &EventView<'_>) {
        match view.kind {
            // The task's identity was lost.
            EventKind::TaskPoll { task }
            | EventKind::TaskWake { task }
            | EventKind::TaskDrop { task }
                if task == TaskId::default() => {}
            EventKind::TaskCreate { task, .. } => {
                self.endings.spawned += 1;
                let name = self.live.names.name(view.name);
                self.tasks.spawned(name, view.at);
                self.live.task_create(view, task);
            }
            EventKind::TaskPoll { task } => {
                let gap = self.live.task_poll(view, task);
                if let Some(why) = &self.why {
                    why.borrow_mut().gap(&gap, view.at);
                }
                if gap.blocking {
                    self.blocking.begins(&gap, &self.live);
                } else {
                    self.polls.polled(&gap, &self.live);
                    self.delays.polled(&gap, &self.live);
                }
                self.waits.polled(&gap);
            }
            EventKind::TaskPending { task, waits_for } => {
                let waits_for = waits_for.map(|site| site.name);
                self.poll_end(view, task, PollEnd::Pending, waits_for);
            }
            EventKind::TaskReady { task } => {
                self.endings.ready += 1;
                self.poll_end(view, task, PollEnd::Over, None);
            }
            EventKind::TaskPanic { task } => {
                let name = self.live.names.name(view.name);
                self.endings.panicked(view, task, name);
                self.poll_end(view, task, PollEnd::Over, None);
            }
            EventKind::TaskDrop { task } => {
                self.endings.dropped += 1;
                let name = self.live.names.name(view.name);
                self.tasks.ended(name, view.at);
                self.busy.leaves(task, &self.live, view.at);
                self.live.task_drop(view, task);
            }
            EventKind::TaskWake { task } => self.live.task_wake(view, task),
            _ => return,
        }
        self.coverage.task_events += 1;
        self.had_tasks = true;
    }

    fn poll_end(&mut self, view: &EventView<'_>, task: TaskId, how: PollEnd, waits: Option<&str>) {
        if how == PollEnd::Over {
            let name = self.live.names.name(view.name);
            self.tasks.ended(name, view.at);
            self.busy.leaves(task, &self.live, view.at);
        }
        if let Some(mut poll) = self.live.task_poll_end(view, task, how, waits) {
            self.locks.poll_over(&mut poll);
            self.polls.ended(&poll, &self.live);
            if let Some(why) = &self.why {
                why.borrow_mut().poll_over(&poll, &self.live);
            }
            self.just_ended.insert(view.thread, poll);
        }
    }

    /// The first thing that a thread does after a poll: if the executor now wakes a task that has yielded,
    /// this counts as if the task had done it.
    fn after_poll(&mut self, view: &EventView<'_>) {
        let Some(mut poll) = self.just_ended.remove(&view.thread) else { return };
        let is_woken = matches!(view.kind, EventKind::TaskWake { task } if task == poll.task);
        // A later wake may be a timer's, if nothing shows that the worker slept meanwhile.
        let yields = is_woken && view.at.since(poll.ended) <= AT_ONCE;
        poll.self_woken |= yields && poll.outermost;
        self.busy.ended(&poll, &mut self.live);
    }

    fn worker(&mut self, view: &EventView<'_>) {
        self.coverage.worker_events += 1;
        match view.kind {
            EventKind::WorkerStart { worker } => self.live.worker_start(view, worker, false),
            EventKind::WorkerVisit { worker } => self.live.worker_start(view, worker, true),
            EventKind::WorkerStop { worker } => self.live.worker_stop(view, worker),
            EventKind::WorkerPark { worker } => {
                self.live.worker_goes(view, worker, WorkerNow::Parked);
            }
            EventKind::WorkerUnpark { worker } => {
                self.live.worker_goes(view, worker, WorkerNow::Running);
            }
            _ => {}
        }
    }

    fn span(&mut self, view: &EventView<'_>) {
        self.coverage.span_events += 1;
        self.had_spans = true;
        match view.kind {
            EventKind::SpanCreate { span, .. } => self.live.span_create(view, span),
            EventKind::SpanEnter { span } => self.live.span_enter(view, span),
            EventKind::SpanExit { span } => self.live.span_exit(view, span),
            EventKind::SpanRecord { span } => self.live.span_record(view, span),
            EventKind::SpanClose { span } => {
                if let Some(mut done) = self.live.span_close(view.at, span) {
                    self.locks.span_over(&mut done);
                    if let Some(why) = &self.why {
                        why.borrow_mut().span_done(&done, &self.live);
                    }
                    self.spans.done(done);
                }
            }
            _ => {}
        }
    }

    fn finish(self, trace: &Trace, damage: Vec<crate::read::ReadError>) -> Report {
        let end = self.live.stops.counted(end(trace)).max(self.last);
        let read = |number| trace.generation(number).ok();
        let mut report = self.conclude(trace.generations(), end, read);
        let number = |name| trace.metadata().number(name).unwrap_or_default();
        report.losses.table.nameless = number(crate::wire::key::NAMELESS);
        report.losses.table.refused_barriers = number(crate::wire::key::REFUSED_BARRIERS);
        report.losses.table.unshared_texts = number(crate::wire::key::UNSHARED_TEXTS);
        report.damage = damage;
        report.waiting = waiting::of(&report, trace);
        report
    }

    /// Ends the pass at the end of the snapshot.
    pub(super) fn conclude(
        mut self,
        generations: &[GenerationInfo],
        end: Nanos,
        read: impl Fn(Generation) -> Option<DecodedGeneration>,
    ) -> Report {
        self.live.settle(end);
        self.locks.end(&mut self.live, end);
        for mut poll in self.live.open_polls(end) {
            self.locks.poll_over(&mut poll);
            self.polls.ended(&poll, &self.live);
        }
        for region in self.live.open_regions(end) {
            self.regions.done(region);
        }
        self.delays.end(&self.live, end);
        self.blocking.end(&self.live, end);
        for poll in std::mem::take(&mut self.just_ended).into_values() {
            self.busy.ended(&poll, &mut self.live);
        }
        self.busy.end(&self.live, end);
        let has_tasks = self.had_tasks || !self.live.tasks.is_empty();
        let has_spans = self.had_spans || !self.live.spans.is_empty();
        let first = self.first.unwrap_or(end);
        let context = ReportContext { live: &self.live, first, end };
        // First, while the open tasks, spans and regions are still known.
        if let Some(why) = &self.why {
            why.borrow_mut().end(&context);
        }
        let failed = self.incident.failed();
        let incident = self.incident.finish(&context);
        let stuck = self.waits.finish(&context, has_spans.then_some(&self.spans), &self.locks);
        self.live.open_waits(end);
        let mut open = self.live.open_spans(end);
        // What is inside of others began later.
        let mut inside_first: Vec<_> = open.iter_mut().collect();
        inside_first.sort_by_key(|span| std::cmp::Reverse((span.began, span.label.span)));
        inside_first.into_iter().for_each(|span| self.locks.span_over(span));
        for span in open {
            if let Some(why) = &self.why {
                why.borrow_mut().span_done(&span, &self.live);
            }
            self.spans.done(span);
        }
        let context = ReportContext { live: &self.live, first, end };
        let ended: Map<Name, u64> =
            self.live.standing().map(|on| (on.what, self.regions.ended(on.what))).collect();
        let (polls, regions) = (self.polls.finish(&context), self.regions.finish(&context));
        let failures = self.spans.failures(&failed, &context);
        let spans = self.spans.finish(&context);
        let told = [&polls.findings, &regions.findings, &stuck.findings];
        let told: Vec<&Finding> = told.into_iter().flatten().collect();
        let standing =
            standing::finish(&context, &told, |name| ended.get(&name).copied().unwrap_or_default());
        let told = [&polls.findings, &spans.findings, &regions.findings, &stuck.findings];
        let told: Vec<&Finding> = told.into_iter().flatten().chain(&standing.findings).collect();
        let locks = self.locks.finish(&told, &context);
        let system = self.system.finish(&context);
        let mut report = Report {
            incident,
            polls,
            delays: self.delays.finish(&context),
            blocking: self.blocking.finish(&context),
            failures,
            spans,
            regions,
            standing,
            locks,
            stuck,
            waits: Waits::section(&self.live.waits, &context),
            waiting: BTreeMap::new(),
            threads: self.places.finish(end),
            busy: self.busy.finish(&context),
            endings: self.endings.finish(&context),
            workers: workers::finish(&context, has_tasks, |of| self.locks.of_thread(of)),
            counters: self.counters.finish(&context),
            starved: self.starved.finish(self.cores, &system.table, &context),
            system,
            runtimes: self.runtimes.finish(&context),
            ranges: self.ranges.finish(&context),
            tasks: self.tasks.finish(&context),
            heap: self.heap.finish(&context, read),
            changes: self.changes.finish(&context),
            losses: losses::finish(generations, self.left_out, &context),
            logs: self.logs.finish(&context),
            end: context.moment(end),
            coverage: self.coverage.finish(&context),
            damage: Vec::new(),
        };
        if let Some(why) = &self.why {
            why.borrow_mut().conclude(&context);
        }
        // Those panics have been reported, with their messages.
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
            report.tasks = Section::nothing(because);
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
