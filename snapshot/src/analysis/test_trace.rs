//! Small histories for tests: events at times in milliseconds, without a file around them.

use super::Report;
use super::completeness::Doubts;
use super::coverage::Coverage;
use super::event_view::EventView;
use super::pass::Pass;
use crate::read::{
    EventKind, GenerationInfo, Level, LockHolder, Lost, RuntimeReading, Site, SystemReading, Text,
    ThreadTimes, Value, WorkerId,
};
use crate::wire::{Generation, LockKind, Nanos, SpanId, TaskId, ThreadNumber};
use std::collections::HashMap;

/// A history in the making. It begins at [`START`], with one generation per second.
pub(super) struct Script {
    pass: Pass,
    infos: Vec<GenerationInfo>,
    entered: usize,
    sequences: HashMap<TaskId, u64>,
    names: HashMap<u64, &'static str>,
    polls: HashMap<u64, Vec<TaskId>>,
    spans: HashMap<u64, Vec<SpanId>>,
    workers: HashMap<u64, WorkerId>,
    regions: HashMap<u64, Vec<String>>,
    /// The fields of the next event, and the parent of the next span.
    given: Vec<(&'static str, String)>,
    parent: Option<SpanId>,
    /// Who holds the lock that the next event is about.
    holder: Option<LockHolder<'static>>,
}

/// When a history begins, in nanoseconds.
pub(super) const START: u64 = 7_000_000_000;
const SECOND: u64 = 1_000_000_000;

pub(super) fn task(number: u32) -> TaskId {
    TaskId { index: number, incarnation: 1 }
}

pub(super) fn span(number: u32) -> SpanId {
    SpanId { index: number, incarnation: 1 }
}

pub(super) fn ms(time: f64) -> Nanos {
    Nanos(START + (time * 1e6) as u64)
}

fn site(name: &str) -> Site<'_> {
    Site { name, file: "src/main.rs", line: 7, blocking: false }
}

impl Script {
    /// A history of this many seconds, with these losses: in which second, and how many.
    pub(super) fn new(seconds: u64, lost: &[(u64, u64)]) -> Self {
        let infos: Vec<_> = (0..seconds)
            .map(|second| GenerationInfo {
                complete: true,
                start: Nanos(START + second * SECOND),
                duration: Nanos(SECOND),
                events: 100,
                lost: lost
                    .iter()
                    .filter(|(at, _)| *at == second)
                    .map(|(_, count)| Lost { code: 1, count: *count })
                    .collect(),
                ..GenerationInfo::empty(Generation(second + 1))
            })
            .collect();
        let end = Nanos(START + seconds * SECOND);
        let coverage = Coverage { covered: Nanos(seconds * SECOND), ..Coverage::default() };
        let pass = Pass::new(coverage, Doubts::new(&infos), end);
        let (sequences, names, polls, spans, workers, regions) = Default::default();
        let (entered, given, parent, holder) = Default::default();
        Self {
            pass,
            infos,
            entered,
            sequences,
            names,
            polls,
            spans,
            workers,
            regions,
            given,
            parent,
            holder,
        }
    }

    fn put(
        &mut self,
        time: f64,
        thread: u64,
        kind: EventKind<'_>,
        name: &str,
        sequence: Option<u64>,
    ) -> &mut Self {
        let given = std::mem::take(&mut self.given);
        let text = |text| Value::Text(Text { text, cut: false });
        let fields: Vec<_> = given.iter().map(|(name, value)| (*name, text(&**value))).collect();
        let at = ms(time);
        while let Some(info) = self.infos.get(self.entered).filter(|info| info.start <= at) {
            self.pass.enter(info);
            self.entered += 1;
        }
        let view = EventView {
            at,
            thread: ThreadNumber(thread),
            thread_name: &format!("w-{thread}"),
            kind,
            name,
            sequence,
            task: self.polls.get(&thread).and_then(|polls| polls.last().copied()),
            span: self.spans.get(&thread).and_then(|spans| spans.last().copied()),
            worker: self.workers.get(&thread).copied(),
            blocking: name.starts_with("blocking"),
            event: None,
            given: &fields,
            holder: self.holder.take(),
        };
        self.pass.view(&view);
        self
    }

    fn next(&mut self, task: TaskId) -> Option<u64> {
        let sequence = self.sequences.entry(task).or_default();
        *sequence += 1;
        Some(*sequence)
    }

    fn name(&self, task: TaskId) -> &'static str {
        self.names.get(&task.number()).copied().unwrap_or("?")
    }

    /// A worker of another runtime.
    pub(super) fn worker_of(&mut self, time: f64, thread: u64, runtime: u64) -> &mut Self {
        let worker = WorkerId { runtime, worker: 0 };
        self.workers.insert(thread, worker);
        self.put(time, thread, EventKind::WorkerStart { worker }, "r", None)
    }

    /// A thread drives a runtime; no event will say when it stops.
    pub(super) fn visit(&mut self, time: f64, thread: u64, runtime: u64) -> &mut Self {
        let worker = WorkerId { runtime, worker: 0 };
        self.workers.insert(thread, worker);
        self.put(time, thread, EventKind::WorkerVisit { worker }, "r", None)
    }

    pub(super) fn worker(&mut self, time: f64, thread: u64, worker: u64) -> &mut Self {
        let worker = WorkerId { runtime: 0, worker };
        self.workers.insert(thread, worker);
        self.put(time, thread, EventKind::WorkerStart { worker }, "r0", None)
    }

    pub(super) fn stop_worker(&mut self, time: f64, thread: u64) -> &mut Self {
        let worker = self.workers[&thread];
        self.put(time, thread, EventKind::WorkerStop { worker }, "r0", None)
    }

    pub(super) fn park(&mut self, time: f64, thread: u64) -> &mut Self {
        let worker = self.workers[&thread];
        self.put(time, thread, EventKind::WorkerPark { worker }, "r0", None)
    }

    pub(super) fn unpark(&mut self, time: f64, thread: u64) -> &mut Self {
        let worker = self.workers[&thread];
        self.put(time, thread, EventKind::WorkerUnpark { worker }, "r0", None)
    }

    /// The tasks are spawned, on this thread.
    pub(super) fn spawn(
        &mut self,
        time: f64,
        thread: u64,
        number: u32,
        name: &'static str,
    ) -> &mut Self {
        let id = task(number);
        self.names.insert(id.number(), name);
        self.sequences.insert(id, 0);
        let kind = EventKind::TaskCreate { task: id, site: site(name), parent: None };
        self.put(time, thread, kind, name, Some(0))
    }

    pub(super) fn poll(&mut self, time: f64, thread: u64, number: u32) -> &mut Self {
        let id = task(number);
        let (sequence, name) = (self.next(id), self.name(id));
        self.polls.entry(thread).or_default().push(id);
        self.put(time, thread, EventKind::TaskPoll { task: id }, name, sequence)
    }

    fn end(&mut self, time: f64, thread: u64, kind: fn(TaskId) -> EventKind<'static>) -> &mut Self {
        let id = *self.polls[&thread].last().unwrap();
        let (sequence, name) = (self.next(id), self.name(id));
        self.put(time, thread, kind(id), name, sequence);
        self.polls.get_mut(&thread).unwrap().pop();
        self
    }

    /// The next event has this field.
    pub(super) fn with(&mut self, field: &'static str, value: &str) -> &mut Self {
        self.given.push((field, value.to_owned()));
        self
    }

    /// The next span is inside this one.
    pub(super) fn inside(&mut self, number: u32) -> &mut Self {
        self.parent = Some(span(number));
        self
    }

    /// The poll ends, and the task says what it waits for.
    pub(super) fn waits(&mut self, time: f64, thread: u64, what: &'static str) -> &mut Self {
        let id = *self.polls[&thread].last().unwrap();
        let (sequence, name) = (self.next(id), self.name(id));
        let kind = EventKind::TaskPending { task: id, waits_for: Some(site(what)) };
        self.put(time, thread, kind, name, sequence);
        self.polls.get_mut(&thread).unwrap().pop();
        self
    }

    /// A task is dropped before it is done.
    pub(super) fn cancel(&mut self, time: f64, thread: u64, number: u32) -> &mut Self {
        let id = task(number);
        let (sequence, name) = (self.next(id), self.name(id));
        self.put(time, thread, EventKind::TaskDrop { task: id }, name, sequence)
    }

    pub(super) fn record(&mut self, time: f64, thread: u64, number: u32) -> &mut Self {
        self.put(time, thread, EventKind::SpanRecord { span: span(number) }, "", None)
    }

    pub(super) fn pending(&mut self, time: f64, thread: u64) -> &mut Self {
        self.end(time, thread, |task| EventKind::TaskPending { task, waits_for: None })
    }

    pub(super) fn ready(&mut self, time: f64, thread: u64) -> &mut Self {
        self.end(time, thread, |task| EventKind::TaskReady { task })
    }

    pub(super) fn panic(&mut self, time: f64, thread: u64) -> &mut Self {
        self.end(time, thread, |task| EventKind::TaskPanic { task })
    }

    pub(super) fn wake(&mut self, time: f64, thread: u64, number: u32) -> &mut Self {
        let id = task(number);
        let (sequence, name) = (self.sequences.get(&id).copied(), self.name(id));
        self.put(time, thread, EventKind::TaskWake { task: id }, name, sequence)
    }

    pub(super) fn open(&mut self, time: f64, thread: u64, number: u32, name: &str) -> &mut Self {
        let kind = EventKind::SpanCreate {
            span: span(number),
            site: site(name),
            parent: self.parent.take(),
        };
        self.put(time, thread, kind, name, None)
    }

    pub(super) fn enter(&mut self, time: f64, thread: u64, number: u32) -> &mut Self {
        self.spans.entry(thread).or_default().push(span(number));
        self.put(time, thread, EventKind::SpanEnter { span: span(number) }, "", None)
    }

    pub(super) fn exit(&mut self, time: f64, thread: u64, number: u32) -> &mut Self {
        self.put(time, thread, EventKind::SpanExit { span: span(number) }, "", None);
        self.spans.entry(thread).or_default().retain(|open| *open != span(number));
        self
    }

    pub(super) fn close(&mut self, time: f64, thread: u64, number: u32) -> &mut Self {
        self.put(time, thread, EventKind::SpanClose { span: span(number) }, "", None)
    }

    pub(super) fn region(&mut self, began: f64, ended: f64, thread: u64, name: &str) -> &mut Self {
        self.begin(began, thread, name).end_region(ended, thread)
    }

    pub(super) fn begin(&mut self, time: f64, thread: u64, name: &str) -> &mut Self {
        self.regions.entry(thread).or_default().push(name.to_owned());
        self.put(time, thread, EventKind::RegionBegin { site: site(name) }, name, None)
    }

    pub(super) fn end_region(&mut self, time: f64, thread: u64) -> &mut Self {
        let name = self.regions.get_mut(&thread).unwrap().pop().unwrap();
        let kind = EventKind::RegionEnd { site: Some(site(&name)), duration: None, inside: 0 };
        self.put(time, thread, kind, &name, None)
    }

    pub(super) fn counter(&mut self, time: f64, name: &str, value: f64) -> &mut Self {
        let kind = EventKind::Counter { site: site(name), value: Value::Float(value) };
        self.put(time, 1, kind, name, None)
    }

    pub(super) fn log(&mut self, time: f64, thread: u64, level: Level, text: &str) -> &mut Self {
        self.log_cut(time, thread, level, text, false)
    }

    /// A log whose message may have been cut off when it was recorded.
    pub(super) fn log_cut(
        &mut self,
        time: f64,
        thread: u64,
        level: Level,
        text: &str,
        cut: bool,
    ) -> &mut Self {
        let message = Text { text, cut };
        let kind = EventKind::Log { level, site: site("shop"), message };
        self.put(time, thread, kind, "shop", None)
    }

    /// Who holds the lock that the next event is about: a thread, or a task, which took it at this line, so many milliseconds
    /// before.
    pub(super) fn held_by(
        &mut self,
        thread: Option<u64>,
        number: Option<u32>,
        line: u32,
        held: f64,
    ) -> &mut Self {
        self.holder = Some(LockHolder {
            thread: thread.map(ThreadNumber),
            os_thread: None,
            task: number.map(task),
            site: Some(Site { line, ..site("Mutex") }),
            held: Some(Nanos((held * 1e6) as u64)),
            is_at_least: false,
            is_across_await: false,
        });
        self
    }

    /// The thread, or the task that it polls, has waited for this lock, at line 12.
    pub(super) fn waited(
        &mut self,
        time: f64,
        thread: u64,
        of: (u64, LockKind),
        length: f64,
    ) -> &mut Self {
        self.contention(time, thread, of, length, false)
    }

    /// The same of a wait that was given up.
    pub(super) fn gave_up(
        &mut self,
        time: f64,
        thread: u64,
        of: (u64, LockKind),
        length: f64,
    ) -> &mut Self {
        self.contention(time, thread, of, length, true)
    }

    fn contention(
        &mut self,
        time: f64,
        thread: u64,
        (lock, kind): (u64, LockKind),
        length: f64,
        is_given_up: bool,
    ) -> &mut Self {
        let kind = EventKind::Contention {
            site: Site { line: 12, ..site("Mutex") },
            lock,
            kind: Some(kind),
            waited: Nanos((length * 1e6) as u64),
            waiters: 1,
            is_given_up,
        };
        self.put(time, thread, kind, "Mutex", None)
    }

    /// The recorder's thread says that a thread and the task that it polls, or a task, still waits for this lock.
    pub(super) fn still_waits(
        &mut self,
        time: f64,
        (thread, number): (Option<u64>, Option<u32>),
        (lock, kind): (u64, LockKind),
        length: f64,
    ) -> &mut Self {
        let kind = EventKind::LockWait {
            thread: thread.map(ThreadNumber),
            task: number.map(task),
            site: Site { line: 12, ..site("Mutex") },
            lock,
            kind: Some(kind),
            waited: Nanos((length * 1e6) as u64),
        };
        self.put(time, 999, kind, "Mutex", None)
    }

    /// Events of this task are missing: its number advances.
    pub(super) fn unseen(&mut self, number: u32, transitions: u64) -> &mut Self {
        *self.sequences.entry(task(number)).or_default() += transitions;
        self
    }

    /// What a generation that ends now says of the machine.
    pub(super) fn system(&mut self, readings: &[SystemReading], at: Nanos) {
        self.pass.system.read(readings, at);
    }

    /// The same, of runtimes.
    pub(super) fn runtimes(&mut self, readings: &[RuntimeReading], at: Nanos) {
        self.pass.runtimes.read(readings, at);
    }

    /// The same, of threads.
    pub(super) fn thread_times(&mut self, times: &[ThreadTimes], at: Nanos) {
        self.pass.starved.read(times, at);
    }

    /// How many cores the process may use.
    pub(super) fn cores(&mut self, cores: u64) {
        self.pass.cores = Some(cores);
    }

    /// The report, for a snapshot that ends with the last second.
    pub(super) fn report(mut self) -> Report {
        for info in &self.infos[self.entered..] {
            self.pass.enter(info);
        }
        let end = self.infos.last().map_or(START, |info| info.start.0 + info.duration.0);
        self.pass.conclude(&self.infos, Nanos(end), |_| None)
    }
}
