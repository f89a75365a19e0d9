//! The records of a made-up service of tasks: four workers, and a thousand tasks that move between them.

use crate::build::{Gen, inline};
use lookback_snapshot::wire::{Kind, TaskListItem, put_varint};

const WORKERS: u32 = 4;
const TASKS: usize = 1000;

/// A task: its number, and the generation that last mentioned it.
#[derive(Clone, Copy)]
struct Task {
    sequence: u64,
    mentioned: u64,
    woken: bool,
    /// In which generation.
    woken_in: u64,
}

impl Task {
    /// Whether it was woken before this generation.
    fn was_woken(&self, generation: u64) -> bool {
        self.woken && self.woken_in < generation
    }
}

pub struct Program {
    last: Option<Gen>,
    tasks: Vec<Task>,
    spans: u64,
    random: u64,
}

impl Default for Program {
    fn default() -> Self {
        let task = Task { sequence: 2, mentioned: 0, woken: false, woken_in: 0 };
        Self { last: None, tasks: vec![task; TASKS], spans: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }
}

fn numbers(values: &[u64]) -> impl FnOnce(&mut Vec<u8>) {
    move |out| values.iter().for_each(|value| put_varint(out, *value))
}

impl Program {
    fn dice(&mut self, sides: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % sides
    }

    /// The next generation, with about this many events.
    pub fn generation(&mut self, events: u64) -> Gen {
        let mut g = self.last.as_ref().map_or_else(|| Gen::new(1), Gen::next);
        let first = g.number == 1;
        let mut time = 10;
        let (mut site, mut span) = (0, 0);
        for worker in 1..=WORKERS {
            g.block(worker, u64::from(worker), 10);
            if worker == 1 {
                site = g.site(worker, "shop::serve::{{closure}}");
                span = g.id();
                g.put(worker, Kind::Callsite, |out| {
                    put_varint(out, span);
                    inline(out, "request");
                    inline(out, "src/http.rs");
                    put_varint(out, 7);
                    inline(out, "shop::http");
                    put_varint(out, 3);
                    put_varint(out, 1);
                    inline(out, "status");
                });
            }
            let name = format!("worker-{worker}");
            let id = u64::from(worker);
            if first {
                g.thread_start(worker, 10, id, &name);
                g.at(worker, 11, Kind::WorkerStart, numbers(&[0, id, 1]));
            } else {
                g.thread_status(worker, id, &name);
                g.put(worker, Kind::WorkerStatus, numbers(&[0, id, 1, 2]));
            }
        }
        if first {
            for task in 0..TASKS {
                g.at(1, 12, Kind::TaskCreate, numbers(&[task as u64, 1, 2, site]));
                self.tasks[task].mentioned = 1;
            }
        }
        let mut written = 0;
        while written < events {
            let worker = 1 + self.dice(u64::from(WORKERS)) as u32;
            time += 20 + self.dice(60);
            if g.last(worker).records.len() > 60_000 {
                g.block(worker, u64::from(worker), time);
            }
            if self.dice(8) == 0 {
                g.at(worker, time, Kind::WorkerPark, |_| {});
                g.at(worker, time + 9, Kind::WorkerUnpark, |_| {});
                written += 2;
            }
            let task = self.dice(TASKS as u64);
            self.poll(&mut g, worker, time + 10, task, site);
            let other = self.dice(TASKS as u64);
            written += 2 + u64::from(self.wake(&mut g, worker, time + 12, other, task));
            if self.dice(4) == 0 {
                self.spans += 1;
                g.at(worker, time + 13, Kind::SpanCreate, |out| {
                    [self.spans % 500 + 1, self.spans / 500 + 1, span, 1, 1, 200]
                        .iter()
                        .for_each(|value| put_varint(out, *value));
                });
                g.at(worker, time + 14, Kind::SpanEnterLast, |_| {});
                g.at(worker, time + 15, Kind::SpanExit, |_| {});
                g.at(worker, time + 16, Kind::SpanCloseLast, |_| {});
                written += 4;
            }
            g.at(worker, time + 18, Kind::TaskPending, |_| {});
            self.tasks[task as usize].sequence += 1;
        }
        self.list(&mut g, site);
        g.end(&[]);
        self.last = Some(g.clone());
        g
    }

    fn poll(&mut self, g: &mut Gen, worker: u32, time: u64, index: u64, site: u64) {
        let task = &mut self.tasks[index as usize];
        if task.mentioned < g.number {
            let state = if task.was_woken(g.number) { 5 } else { 1 };
            g.put(worker, Kind::TaskStatus, numbers(&[index, 1, task.sequence, state, site]));
            task.mentioned = g.number;
        }
        task.sequence += 1;
        task.woken = false;
        g.at(worker, time, Kind::TaskPoll, numbers(&[index, task.sequence]));
    }

    /// Wakes a task, unless it is running or was woken already; returns whether it did.
    fn wake(&mut self, g: &mut Gen, worker: u32, time: u64, index: u64, running: u64) -> bool {
        let task = &mut self.tasks[index as usize];
        if index == running || std::mem::replace(&mut task.woken, true) {
            return false;
        }
        task.woken_in = g.number;
        g.at(worker, time, Kind::TaskWake, numbers(&[index, task.sequence]));
        true
    }

    fn list(&mut self, g: &mut Gen, site: u64) {
        let (mut list, mut before) = (Vec::new(), TaskListItem::default());
        for (index, task) in self.tasks.iter().enumerate().filter(|(_, t)| t.mentioned < g.number) {
            let (task, woken) = (index as u32, task.was_woken(g.number));
            let item =
                TaskListItem { task, incarnation: 1, site: site as u32, running: false, woken };
            item.put(&before, &mut list);
            before = item;
        }
        g.block(0, 0, crate::build::PERIOD);
        g.put(0, Kind::TaskList, |out| {
            put_varint(out, list.len() as u64);
            out.extend(list);
        });
    }
}
