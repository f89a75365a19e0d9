//! Histories of tasks, workers and spans, written as a recorder would: each generation restates what it
//! needs, and sequence numbers are filled in.
#![allow(dead_code, reason = "each test file uses a part of it")]

use crate::build::{Gen, PERIOD, inline};

use lookback_snapshot::wire::{Kind, Loss, SpanId, TaskId, TaskListItem, TaskState, put_varint};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A task, by the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct T(usize);
/// A span, by the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct S(usize);

struct Task {
    id: TaskId,
    site: String,
    sequence: u64,
    /// The poll of the last wake, and the generation with the wake.
    woken: u64,
    woken_in: u64,
    state: TaskState,
    is_alive: bool,
}

struct Span {
    id: SpanId,
    site: String,
    parent: Option<SpanId>,
    is_open: bool,
}

#[derive(Default)]
struct Thread {
    name: String,
    polls: Vec<T>,
    regions: Vec<String>,
    entered: Vec<S>,
    worker: Option<(u64, u64, u64, bool)>,
}

/// See the module. Each thread has its own slot.
pub struct Story {
    done: Vec<Gen>,
    now: Gen,
    /// Ticks since the generation began.
    time: u64,
    sites: HashMap<String, u64>,
    /// Indexes of tasks and spans that this generation has stated or created.
    said: BTreeSet<u32>,
    said_spans: BTreeSet<u32>,
    threads: BTreeMap<u32, Thread>,
    tasks: Vec<Task>,
    spans: Vec<Span>,
    tenures: u64,
    lost: u64,
}

impl Task {
    /// Whether it was woken for its next poll before this generation.
    fn is_woken_before(&self, generation: u64) -> bool {
        let is_idle = self.state == TaskState::Idle;
        is_idle && self.woken > self.sequence && self.woken_in < generation
    }
}

impl Story {
    pub fn new() -> Self {
        Self {
            done: Vec::new(),
            now: Gen::new(1),
            time: 100,
            sites: HashMap::new(),
            said: BTreeSet::new(),
            said_spans: BTreeSet::new(),
            threads: BTreeMap::new(),
            tasks: Vec::new(),
            spans: Vec::new(),
            tenures: 0,
            lost: 0,
        }
    }

    /// The file. The last generation ends here, too.
    pub fn file(mut self) -> Vec<u8> {
        self.next_generation();
        crate::build::file(&self.done)
    }

    /// The generations; the last one has not ended.
    pub fn generations(mut self) -> Vec<Gen> {
        self.done.push(self.now.incomplete());
        self.done
    }

    fn tick(&mut self) -> u64 {
        self.time += 10;
        self.time
    }

    fn site(&mut self, slot: u32, name: &str) -> u64 {
        if let Some(known) = self.sites.get(name) {
            return *known;
        }
        let id = self.now.id();
        // An entry is the same in each generation.
        self.now.put(slot, Kind::Site, |out| {
            put_varint(out, id);
            inline(out, name);
            inline(out, "src/main.rs");
            put_varint(out, name.len() as u64);
        });
        self.sites.insert(name.to_owned(), id);
        id
    }

    fn at(&mut self, slot: u32, kind: Kind, numbers: &[u64]) {
        let time = self.tick();
        self.now.at(slot, time, kind, |out| numbers.iter().for_each(|n| put_varint(out, *n)));
    }

    fn put(&mut self, slot: u32, kind: Kind, numbers: &[u64]) {
        self.now.put(slot, kind, |out| numbers.iter().for_each(|n| put_varint(out, *n)));
    }

    // Threads, workers, regions, logs.

    pub fn thread(&mut self, thread: u32, name: &str) {
        self.now.block(thread, u64::from(thread), self.time);
        let time = self.tick();
        self.now.thread_start(thread, time, u64::from(thread), name);
        self.threads.insert(thread, Thread { name: name.to_owned(), ..Thread::default() });
    }

    pub fn exit_thread(&mut self, thread: u32) {
        self.at(thread, Kind::ThreadExit, &[]);
        self.threads.remove(&thread);
    }

    pub fn worker(&mut self, thread: u32, runtime: u64, worker: u64) {
        self.tenures += 1;
        let tenure = self.tenures;
        for other in self.threads.values_mut() {
            other.worker = other.worker.filter(|of| (of.0, of.1) != (runtime, worker));
        }
        self.threads.get_mut(&thread).unwrap().worker = Some((runtime, worker, tenure, true));
        self.at(thread, Kind::WorkerStart, &[runtime, worker, tenure]);
    }

    pub fn park(&mut self, thread: u32) {
        self.threads.get_mut(&thread).unwrap().worker.as_mut().unwrap().3 = false;
        self.at(thread, Kind::WorkerPark, &[]);
    }

    pub fn unpark(&mut self, thread: u32) {
        self.threads.get_mut(&thread).unwrap().worker.as_mut().unwrap().3 = true;
        self.at(thread, Kind::WorkerUnpark, &[]);
    }

    pub fn stop_worker(&mut self, thread: u32) {
        self.threads.get_mut(&thread).unwrap().worker = None;
        self.at(thread, Kind::WorkerStop, &[]);
    }

    /// Whether the thread is a worker, and if so, whether it is running.
    pub fn is_worker(&self, thread: u32) -> Option<bool> {
        self.threads[&thread].worker.map(|worker| worker.3)
    }

    pub fn region(&mut self, thread: u32, name: &str) {
        let site = self.site(thread, name);
        self.at(thread, Kind::RegionBegin, &[site]);
        self.threads.get_mut(&thread).unwrap().regions.push(name.to_owned());
    }

    pub fn end_region(&mut self, thread: u32) -> bool {
        if self.threads.get_mut(&thread).unwrap().regions.pop().is_none() {
            return false;
        }
        self.at(thread, Kind::RegionEnd, &[]);
        true
    }

    pub fn log(&mut self, thread: u32, text: &str) {
        let (site, time) = (self.site(thread, "cache"), self.tick());
        self.now.log(thread, time, site, 3, text);
    }

    /// This many events of the thread are lost. It states itself again.
    pub fn lose(&mut self, thread: u32, count: u64) {
        *self.now.numbers.get_mut(&thread).unwrap() += count;
        self.lost += count;
        self.now.block(thread, u64::from(thread), self.time);
        self.now.lost(thread, Loss::ArenaFull, count);
        self.state(thread);
    }

    /// The thread's innermost poll ends, without a record.
    pub fn lose_pending(&mut self, thread: u32) {
        let task = self.threads.get_mut(&thread).unwrap().polls.pop().unwrap();
        let task = &mut self.tasks[task.0];
        task.sequence += 1;
        task.state = TaskState::Idle;
        self.said.remove(&task.id.index);
        self.lose(thread, 1);
    }

    // Tasks.

    pub fn create(&mut self, thread: u32, name: &str) -> T {
        // The first free entry, provided that its last task is of an earlier generation.
        let taken = |index: &u32| {
            self.said.contains(index)
                || self.tasks.iter().any(|task| task.is_alive && task.id.index == *index)
        };
        let index = (0..).find(|index| !taken(index)).unwrap();
        let before = self.tasks.iter().rfind(|task| task.id.index == index);
        let incarnation = before.map_or(0, |task| task.id.incarnation) + 1;
        let sequence = (before.map_or(0, |task| task.sequence) | 1) + 1;
        let site = self.site(thread, name);
        self.at(
            thread,
            Kind::TaskCreate,
            &[u64::from(index), u64::from(incarnation), sequence, site],
        );
        self.said.insert(index);
        self.tasks.push(Task {
            id: TaskId { index, incarnation },
            site: name.to_owned(),
            sequence,
            woken: 0,
            woken_in: 0,
            state: TaskState::Idle,
            is_alive: true,
        });
        T(self.tasks.len() - 1)
    }

    pub fn id(&self, task: T) -> TaskId {
        self.tasks[task.0].id
    }

    pub fn is_alive(&self, task: T) -> bool {
        self.tasks[task.0].is_alive
    }

    pub fn is_running(&self, task: T) -> bool {
        self.tasks[task.0].state == TaskState::Running
    }

    pub fn polls(&self, thread: u32) -> usize {
        self.threads[&thread].polls.len()
    }

    /// States a task that its owner mentions for the first time in this generation.
    fn state_task(&mut self, slot: u32, task: T) {
        let Task { id, ref site, sequence, state, .. } = self.tasks[task.0];
        if !self.said.insert(id.index) {
            return;
        }
        let is_woken = self.tasks[task.0].is_woken_before(self.now.number);
        let site = site.clone();
        let site = self.site(slot, &site);
        let numbers = [u64::from(id.index), u64::from(id.incarnation), sequence];
        self.put(slot, Kind::TaskStatus, &[&numbers[..], &[state.code(is_woken), site]].concat());
    }

    pub fn poll(&mut self, thread: u32, task: T) {
        self.state_task(thread, task);
        let of = &mut self.tasks[task.0];
        assert!(of.is_alive && of.state == TaskState::Idle);
        of.sequence += 1;
        of.state = TaskState::Running;
        let numbers = [u64::from(of.id.index), of.sequence];
        self.at(thread, Kind::TaskPoll, &numbers);
        self.threads.get_mut(&thread).unwrap().polls.push(task);
    }

    fn end_poll(&mut self, thread: u32) -> T {
        let task = self.threads.get_mut(&thread).unwrap().polls.pop().unwrap();
        let of = &mut self.tasks[task.0];
        of.sequence += 1;
        of.state = TaskState::Idle;
        task
    }

    pub fn pending(&mut self, thread: u32) -> T {
        self.at(thread, Kind::TaskPending, &[]);
        self.end_poll(thread)
    }

    pub fn waits(&mut self, thread: u32, what: &str) -> T {
        let site = self.site(thread, what);
        self.at(thread, Kind::TaskWaits, &[site]);
        self.end_poll(thread)
    }

    pub fn ready(&mut self, thread: u32) {
        self.at(thread, Kind::TaskReady, &[]);
        let task = self.end_poll(thread);
        self.tasks[task.0].is_alive = false;
    }

    pub fn panic(&mut self, thread: u32) {
        self.at(thread, Kind::TaskPanic, &[]);
        let task = self.end_poll(thread);
        self.tasks[task.0].is_alive = false;
    }

    pub fn drop_task(&mut self, thread: u32, task: T) {
        self.state_task(thread, task);
        let of = &mut self.tasks[task.0];
        assert!(of.is_alive && of.state == TaskState::Idle);
        of.sequence += 1;
        of.is_alive = false;
        let numbers = [u64::from(of.id.index), of.sequence];
        self.at(thread, Kind::TaskDrop, &numbers);
    }

    /// Whether this is the wake for the task's next poll; a second one is not recorded.
    pub fn wake(&mut self, thread: u32, task: T) -> bool {
        let of = &mut self.tasks[task.0];
        assert!(of.is_alive);
        let target = of.sequence + if of.state == TaskState::Running { 2 } else { 1 };
        if of.woken >= target {
            return false;
        }
        of.woken = target;
        of.woken_in = self.now.number;
        let numbers = [u64::from(of.id.index), of.sequence];
        self.at(thread, Kind::TaskWake, &numbers);
        true
    }

    // Spans.

    fn state_span(&mut self, slot: u32, span: S) {
        let Span { id, ref site, parent, .. } = self.spans[span.0];
        if !self.said_spans.insert(id.index) {
            return;
        }
        let site = site.clone();
        let site = self.callsite(slot, &site);
        let parent = parent.unwrap_or_default();
        let numbers = [id.index, id.incarnation, parent.index, parent.incarnation].map(u64::from);
        self.put(slot, Kind::SpanStatusPart, &[&numbers[..], &[10, site, 0]].concat());
    }

    /// A span, inside the thread's innermost one, with a field or two.
    pub fn span(&mut self, thread: u32, name: &str) -> S {
        let index = self.spans.len() as u32 + 1;
        let id = SpanId { index, incarnation: 1 };
        let parent = self.threads[&thread].entered.last().copied();
        if let Some(parent) = parent {
            self.state_span(thread, parent);
        }
        let parent = parent.map(|span| self.spans[span.0].id);
        let callsite = self.callsite(thread, name);
        let time = self.tick();
        self.now.at(thread, time, Kind::SpanCreate, |out| {
            [u64::from(index), 1, callsite].into_iter().for_each(|n| put_varint(out, n));
            // One field of one, an unsigned number.
            put_varint(out, 1);
            put_varint(out, 1);
            put_varint(out, 4711);
        });
        self.said_spans.insert(index);
        self.spans.push(Span { id, site: name.to_owned(), parent, is_open: true });
        S(self.spans.len() - 1)
    }

    /// A callsite with one field.
    fn callsite(&mut self, slot: u32, name: &str) -> u64 {
        let key = format!("span {name}");
        if let Some(known) = self.sites.get(&key) {
            return *known;
        }
        let id = self.now.id();
        self.now.put(slot, Kind::Callsite, |out| {
            put_varint(out, id);
            inline(out, name);
            inline(out, "src/span.rs");
            put_varint(out, 7);
            inline(out, "shop::cart");
            put_varint(out, 3);
            put_varint(out, 1);
            inline(out, "order");
        });
        self.sites.insert(key, id);
        id
    }

    pub fn span_id(&self, span: S) -> SpanId {
        self.spans[span.0].id
    }

    pub fn is_open(&self, span: S) -> bool {
        self.spans[span.0].is_open
    }

    fn of_span(&mut self, thread: u32, kind: Kind, span: S) {
        self.state_span(thread, span);
        let id = self.spans[span.0].id;
        self.at(thread, kind, &[u64::from(id.index), u64::from(id.incarnation)]);
    }

    pub fn enter(&mut self, thread: u32, span: S) {
        self.of_span(thread, Kind::SpanEnter, span);
        self.threads.get_mut(&thread).unwrap().entered.push(span);
    }

    /// Exits a span that the thread has entered, wherever it is in the stack.
    pub fn exit(&mut self, thread: u32, span: S) -> bool {
        let entered = &mut self.threads.get_mut(&thread).unwrap().entered;
        let Some(place) = entered.iter().rposition(|entered| *entered == span) else {
            return false;
        };
        let is_last = place + 1 == entered.len();
        entered.remove(place);
        if is_last {
            self.at(thread, Kind::SpanExit, &[]);
        } else {
            self.of_span(thread, Kind::SpanExitOther, span);
        }
        true
    }

    /// No thread may be inside it any more.
    pub fn close(&mut self, thread: u32, span: S) -> bool {
        if !self.is_open(span) || self.threads.values().any(|t| t.entered.contains(&span)) {
            return false;
        }
        self.of_span(thread, Kind::SpanClose, span);
        self.spans[span.0].is_open = false;
        true
    }

    // Generations.

    /// A thread's statement.
    fn state(&mut self, thread: u32) {
        let Thread { name, polls, regions, entered, worker } = &self.threads[&thread];
        let (name, polls, worker) = (name.clone(), polls.clone(), *worker);
        let (regions, entered) = (regions.clone(), entered.clone());
        let of: Vec<_> = entered.iter().map(|span| self.spans[span.0].id).collect();
        entered.iter().for_each(|span| self.state_span(thread, *span));
        let regions: Vec<_> = regions.iter().map(|region| self.site(thread, region)).collect();
        self.now.thread_status(thread, u64::from(thread), &name);
        for region in regions {
            self.put(thread, Kind::RegionStatus, &[region, 5]);
        }
        for task in polls {
            self.said.remove(&self.tasks[task.0].id.index);
            self.state_task(thread, task);
        }
        for id in of {
            self.put(thread, Kind::SpanEntered, &[u64::from(id.index), u64::from(id.incarnation)]);
        }
        if let Some((runtime, worker, tenure, runs)) = worker {
            let state = if runs { 2 } else { 1 };
            self.put(thread, Kind::WorkerStatus, &[runtime, worker, tenure, state]);
        }
    }

    /// Ends the generation, with the statuses of what it did not mention.
    pub fn next_generation(&mut self) {
        self.now.block(0, 0, PERIOD);
        let open: Vec<_> = (0..self.spans.len()).filter(|span| self.spans[*span].is_open).collect();
        open.into_iter().for_each(|span| self.state_span(0, S(span)));
        let mut idle: Vec<_> = (0..self.tasks.len())
            .filter(|task| {
                let task = &self.tasks[*task];
                task.is_alive && !self.said.contains(&task.id.index)
            })
            .collect();
        idle.sort_by_key(|task| self.tasks[*task].id.index);
        let items: Vec<_> = idle
            .into_iter()
            .map(|task| {
                let Task { id, ref site, state, .. } = self.tasks[task];
                let woken = self.tasks[task].is_woken_before(self.now.number);
                let site = site.clone();
                TaskListItem {
                    task: id.index,
                    incarnation: id.incarnation,
                    site: self.site(0, &site) as u32,
                    running: state == TaskState::Running,
                    woken,
                }
            })
            .collect();
        if !items.is_empty() {
            let (mut bytes, mut before) = (Vec::new(), TaskListItem::default());
            for item in &items {
                item.put(&before, &mut bytes);
                before = *item;
            }
            self.now.put(0, Kind::TaskList, |out| {
                put_varint(out, bytes.len() as u64);
                out.extend(bytes);
            });
        }
        let lost: &[_] = if self.lost > 0 { &[(Loss::ArenaFull, self.lost)] } else { &[] };
        self.now.end(lost);
        let next = self.now.next();
        self.done.push(std::mem::replace(&mut self.now, next));
        (self.time, self.lost) = (100, 0);
        self.sites.clear();
        self.said.clear();
        self.said_spans.clear();
        for thread in self.threads.keys().copied().collect::<Vec<_>>() {
            self.now.block(thread, u64::from(thread), 100);
            self.state(thread);
        }
    }
}
