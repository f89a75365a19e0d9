//! A small program and a recorder of it: threads that poll tasks, wake them, are workers and enter spans,
//! generation by generation, in the text form.
#![allow(dead_code, reason = "each test file uses a part of it")]

use crate::written::{PERIOD, complete, incomplete};
use std::fmt::Write;

pub struct Program {
    random: u64,
    generation: u64,
    time: u64,
    threads: Vec<Thread>,
    tasks: Vec<Task>,
    spans: Vec<Span>,
    workers: [u64; 2],
    /// Whether a thread may become a worker whose previous thread does not know that it no longer is.
    takes_over: bool,
}

#[derive(Default)]
struct Thread {
    number: usize,
    started: bool,
    /// The last generation in which it was stated.
    stated: u64,
    polls: Vec<usize>,
    inside: Vec<usize>,
    worker: Option<(usize, u64, bool)>,
    in_pool: bool,
    created: Option<usize>,
    left: Option<usize>,
    text: String,
}

#[derive(Clone, Copy, Default)]
struct Task {
    incarnation: u32,
    sequence: u64,
    alive: bool,
    mentioned: u64,
    /// The poll that it was woken for, and when.
    woken: u64,
    woken_in: u64,
}

#[derive(Clone, Copy, Default)]
struct Span {
    incarnation: u32,
    open: bool,
    parent: Option<(usize, u32)>,
    began: u64,
    inside: u32,
    children: u32,
    mentioned: u64,
    status: u64,
}

const DEFINITIONS: &str = "site id=1 name=\"Serve\" file=\"a.rs\" line=1\n\
    callsite id=2 name=\"span\" file=\"a.rs\" line=2 target=\"t\" level=3 fields=[\"x\", \"y\"]\n";

impl Program {
    pub fn new(seed: u64) -> Self {
        let threads =
            (1..=4).map(|number| Thread { number, ..Thread::default() }).collect::<Vec<_>>();
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            generation: 1,
            time: PERIOD,
            threads,
            tasks: vec![Task::default(); 6],
            spans: vec![Span::default(); 6],
            workers: [0; 2],
            takes_over: true,
        }
    }

    /// No thread becomes a worker that another one still is.
    pub fn in_order(mut self) -> Self {
        self.takes_over = false;
        self
    }

    fn dice(&mut self, sides: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) as usize % sides
    }

    /// This many generations of this many steps each; the last one is incomplete if `cut` says so.
    pub fn run(self, generations: u64, steps: usize, cut: bool) -> Vec<String> {
        self.run_ended(generations, steps, |number| !(cut && number == generations))
    }

    /// This many generations of this many steps each. Those that have not ended have no statuses and no end
    /// record, and were copied together with the last one.
    pub fn run_ended(
        mut self,
        generations: u64,
        steps: usize,
        has_ended: impl Fn(u64) -> bool,
    ) -> Vec<String> {
        let mut written = Vec::new();
        for number in 1..=generations {
            self.generation = number;
            self.time = number * PERIOD;
            // Some are silent in a generation.
            let silent = self.dice(5);
            for _ in 0..steps {
                let thread = self.dice(self.threads.len());
                if thread != silent {
                    self.step(thread);
                }
            }
            let ended = |number: u64| {
                let ticks = (number + 1) * PERIOD;
                format!("ended={ticks}:{0}:{0}:200000000", ticks * 5)
            };
            let text = self.end(!has_ended(number));
            let (own, copied) = (ended(number), ended(generations));
            written.push(if has_ended(number) { text } else { text.replacen(&own, &copied, 1) });
        }
        written
    }

    fn end(&mut self, cut: bool) -> String {
        let mut body = String::new();
        for thread in &mut self.threads {
            // The short forms refer to the same generation.
            (thread.created, thread.left) = (None, None);
            body += &std::mem::take(&mut thread.text);
        }
        if cut {
            return incomplete(self.generation, &body);
        }
        let mut text = format!("block slot=0 base=1000000\n{DEFINITIONS}");
        for thread in 0..self.threads.len() {
            if self.threads[thread].started && self.threads[thread].stated < self.generation {
                let statement = self.statement(thread, 1_000_000);
                text += &statement;
            }
        }
        // One by one, or in a list.
        let mut listed = Vec::new();
        for span in 0..self.spans.len() {
            if self.spans[span].open && self.spans[span].status < self.generation {
                if self.generation.is_multiple_of(2) {
                    text += &self.span_status(span, 1_000_000);
                } else {
                    listed.push(self.listed_span(span, 1_000_000));
                }
            }
        }
        if !listed.is_empty() {
            let _ = writeln!(text, "span_list spans=[{}]", listed.join(", "));
        }
        let mut list = Vec::new();
        for (index, task) in self.tasks.iter().enumerate() {
            if task.alive && task.mentioned < self.generation {
                let state = if task.sequence & 1 == 1 { "running" } else { "idle" };
                let woken = if self.was_woken(index) { " woken" } else { "" };
                list.push(format!("{index}.{} site 1 {state}{woken}", task.incarnation));
            }
        }
        let _ = writeln!(text, "task_list tasks=[{}]", list.join(", "));
        complete(self.generation, &(body + text.trim_end()))
    }

    /// Whether a task was woken for its next poll before this generation.
    fn was_woken(&self, index: usize) -> bool {
        let task = &self.tasks[index];
        let next = task.sequence + 1 + (task.sequence & 1);
        task.woken == next && task.woken_in < self.generation
    }

    fn task_status(&mut self, index: usize) -> String {
        let woken = if self.was_woken(index) { 4 } else { 0 };
        let task = &mut self.tasks[index];
        task.mentioned = self.generation;
        let state = if task.sequence & 1 == 1 { 2 } else { 1 } + woken;
        let Task { incarnation, sequence, .. } = *task;
        format!(
            "task_status task={index} incarnation={incarnation} sequence={sequence} state={state} site=1\n"
        )
    }

    fn span_status(&mut self, index: usize, base: u64) -> String {
        let now = self.generation * PERIOD + base;
        let span = &mut self.spans[index];
        (span.mentioned, span.status) = (self.generation, self.generation);
        let (parent, of) = span.parent.map_or((0, 0), |(parent, of)| (parent + 1, of));
        format!(
            "span_status span={} incarnation={} parent={parent} parent_incarnation={of} ago={} \
             site=2 fields={{0: 7}}\n",
            index + 1,
            span.incarnation,
            now - span.began
        )
    }

    fn listed_span(&mut self, index: usize, base: u64) -> String {
        let now = self.generation * PERIOD + base;
        let span = &mut self.spans[index];
        (span.mentioned, span.status) = (self.generation, self.generation);
        let parent =
            span.parent.map_or(String::new(), |(parent, of)| format!(" in {}.{of}", parent + 1));
        let (incarnation, ago) = (span.incarnation, now - span.began);
        format!("{}.{incarnation}{parent} ago {ago} site 2 {{0: 7}}", index + 1)
    }

    fn statement(&mut self, index: usize, base: u64) -> String {
        let thread = &mut self.threads[index];
        thread.stated = self.generation;
        let mut out =
            format!("thread_status thread={0} os_thread={0} name=\"t{0}\"\n", thread.number);
        if thread.in_pool {
            out += "pool_status runtime=0\n";
        }
        if let Some((worker, tenure, parked)) = thread.worker {
            let state = if parked { 1 } else { 2 };
            let _ = writeln!(
                out,
                "worker_status runtime=0 worker={worker} tenure={tenure} state={state}"
            );
        }
        let (polls, inside) = (thread.polls.clone(), thread.inside.clone());
        for task in polls {
            out += &self.task_status(task);
        }
        for span in inside {
            if self.spans[span].status < self.generation {
                out += &self.span_status(span, base);
            }
            let incarnation = self.spans[span].incarnation;
            let _ = writeln!(out, "span_entered span={} incarnation={incarnation}", span + 1);
        }
        out
    }

    /// An event, after what must be stated before it.
    fn emit(&mut self, thread: usize, before: &str, event: &str) {
        self.time += 1 + self.dice(9) as u64;
        let since = self.time - self.generation * PERIOD;
        self.begin(thread, since);
        let text = &mut self.threads[thread].text;
        let _ = writeln!(text, "{before}@{since} {event}");
    }

    fn begin(&mut self, index: usize, base: u64) {
        let thread = &self.threads[index];
        if thread.stated == self.generation {
            return;
        }
        let number = thread.number;
        let mut out = format!("block slot={number} thread={number} base={base}\n{DEFINITIONS}");
        if thread.started {
            out += &self.statement(index, base);
        } else {
            let thread = &mut self.threads[index];
            (thread.started, thread.stated) = (true, self.generation);
            let _ = writeln!(
                out,
                "@{base} thread_start thread={number} os_thread={number} name=\"t{number}\""
            );
        }
        self.threads[index].text += &out;
    }

    fn owned(&mut self, thread: usize, task: usize, event: &str) {
        let since = self.time - self.generation * PERIOD;
        self.begin(thread, since);
        let before = if self.tasks[task].mentioned < self.generation {
            self.task_status(task)
        } else {
            String::new()
        };
        self.tasks[task].sequence += 1;
        let sequence = self.tasks[task].sequence;
        self.emit(thread, &before, &format!("{event} task={task} sequence={sequence}"));
    }

    fn named(&mut self, thread: usize, span: usize) -> String {
        let since = self.time - self.generation * PERIOD;
        self.begin(thread, since);
        let base = self.base_of(thread);
        if self.spans[span].mentioned < self.generation {
            self.span_status(span, base)
        } else {
            String::new()
        }
    }

    /// The base of the thread's block in this generation.
    fn base_of(&self, thread: usize) -> u64 {
        let text = &self.threads[thread].text;
        let from = text.rfind("base=").unwrap() + 5;
        text[from..].lines().next().unwrap().parse().unwrap()
    }

    fn step(&mut self, thread: usize) {
        let task = self.dice(self.tasks.len());
        let span = self.dice(self.spans.len());
        match self.dice(16) {
            0 | 1 if !self.tasks[task].alive => {
                let place = &mut self.tasks[task];
                place.sequence = (place.sequence & !1) + 2;
                place.incarnation += 1;
                (place.alive, place.mentioned, place.woken) = (true, self.generation, 0);
                let Task { incarnation, sequence, .. } = *place;
                self.emit(thread, "", &format!(
                    "task_create task={task} incarnation={incarnation} sequence={sequence} site=1"
                ));
            }
            2..=4 if self.tasks[task].alive && self.tasks[task].sequence & 1 == 0 => {
                self.owned(thread, task, "task_poll");
                self.threads[thread].polls.push(task);
            }
            5 if self.tasks[task].alive && self.tasks[task].sequence & 1 == 0 => {
                self.owned(thread, task, "task_drop");
                self.tasks[task].alive = false;
            }
            6 | 7 => {
                let Some(task) = self.threads[thread].polls.pop() else { return };
                let how = ["task_pending", "task_pending", "task_pending site=1", "task_ready"];
                let how = how[self.dice(4)];
                self.threads[thread].polls.push(task);
                self.emit(thread, "", how);
                self.threads[thread].polls.pop();
                self.tasks[task].sequence += 1;
                self.tasks[task].alive = how != "task_ready";
            }
            8 | 9 if self.tasks[task].alive => {
                let sequence = self.tasks[task].sequence;
                let poll = if sequence & 1 == 0 { sequence + 1 } else { sequence + 2 };
                if self.tasks[task].woken < poll {
                    (self.tasks[task].woken, self.tasks[task].woken_in) = (poll, self.generation);
                    self.emit(thread, "", &format!("task_wake task={task} sequence={sequence}"));
                }
            }
            10 if !self.spans[span].open => self.create_span(thread, span),
            11 if self.spans[span].open => {
                let last = self.threads[thread].created == Some(span) && self.dice(2) == 0;
                let before = if last { String::new() } else { self.named(thread, span) };
                // The shorter form still needs a status, unless there is one.
                let before = before + &if last { self.named(thread, span) } else { String::new() };
                let incarnation = self.spans[span].incarnation;
                let event = format!("span_enter span={} incarnation={incarnation}", span + 1);
                self.emit(thread, &before, if last { "span_enter" } else { &event });
                self.spans[span].inside += 1;
                self.threads[thread].inside.push(span);
            }
            12 => {
                let count = self.threads[thread].inside.len();
                if count == 0 {
                    return;
                }
                let at = self.dice(count);
                let span = self.threads[thread].inside[at];
                // If a span was entered twice, its inner entry is exited.
                let inner = self.threads[thread].inside.iter().rposition(|other| *other == span);
                let at = inner.unwrap();
                let incarnation = self.spans[span].incarnation;
                let event = format!("span_exit span={} incarnation={incarnation}", span + 1);
                self.emit(thread, "", if at + 1 == count { "span_exit" } else { &event });
                self.threads[thread].inside.remove(at);
                self.threads[thread].left = Some(span);
                self.spans[span].inside -= 1;
            }
            13 if self.spans[span].open
                && self.spans[span].inside == 0
                && self.spans[span].children == 0 =>
            {
                let last = self.threads[thread].left == Some(span);
                let before = self.named(thread, span);
                let incarnation = self.spans[span].incarnation;
                let event = format!("span_close span={} incarnation={incarnation}", span + 1);
                self.emit(thread, &before, if last { "span_close" } else { &event });
                self.spans[span].open = false;
                self.threads.iter_mut().for_each(|thread| {
                    thread.created = thread.created.filter(|created| *created != span);
                    thread.left = thread.left.filter(|left| *left != span);
                });
                if let Some((parent, _)) = self.spans[span].parent {
                    self.spans[parent].children -= 1;
                }
            }
            14 if self.spans[span].open => {
                let before = self.named(thread, span);
                let name =
                    format!("span={} incarnation={}", span + 1, self.spans[span].incarnation);
                let event = match self.dice(2) {
                    0 => format!("span_record {name} site=2 fields={{1: 8}}"),
                    _ => format!("log {name} level=3 site=2 message=\"x\" fields={{}}"),
                };
                self.emit(thread, &before, &event);
            }
            15 => self.work(thread),
            _ => {}
        }
    }

    fn create_span(&mut self, thread: usize, span: usize) {
        let outer = self.threads[thread].inside.last().copied();
        let other = (0..self.spans.len()).find(|&other| other != span && self.spans[other].open);
        let (parent, explicit) = match (self.dice(3), other) {
            (0, Some(other)) => (Some(other), true),
            (1, _) => (None, true),
            _ => (outer, false),
        };
        let before = match parent {
            Some(parent) if explicit => self.named(thread, parent),
            _ => String::new(),
        };
        let of = parent.map(|parent| (parent, self.spans[parent].incarnation));
        let incarnation = self.spans[span].incarnation + 1;
        let (number, (at, of_it)) = (span + 1, of.map_or((0, 0), |(at, of)| (at + 1, of)));
        let named = if explicit {
            format!(" parent={at} parent_incarnation={of_it}")
        } else {
            String::new()
        };
        let event = format!(
            "span_create span={number} incarnation={incarnation}{named} site=2 fields={{0: 7}}"
        );
        self.emit(thread, &before, &event);
        let generation = self.generation;
        self.spans[span] = Span {
            incarnation,
            open: true,
            parent: of,
            began: self.time,
            inside: 0,
            children: 0,
            mentioned: generation,
            status: generation,
        };
        if let Some(parent) = parent {
            self.spans[parent].children += 1;
        }
        self.threads[thread].created = Some(span);
    }

    fn work(&mut self, thread: usize) {
        let worker = self.dice(2);
        match self.threads[thread].worker {
            Some((worker, tenure, _)) if self.workers[worker] != tenure => {
                // Another one has it by now.
                self.threads[thread].worker = None;
            }
            Some((worker, tenure, parked)) => {
                let stops = self.dice(4) == 0;
                let event = match parked {
                    _ if stops => "worker_stop",
                    true => "worker_unpark",
                    false => "worker_park",
                };
                self.emit(thread, "", event);
                let now = (!stops).then_some((worker, tenure, !parked));
                self.threads[thread].worker = now;
            }
            None if !self.threads[thread].in_pool => {
                self.emit(thread, "", "pool_thread runtime=0");
                self.threads[thread].in_pool = true;
            }
            None if !self.takes_over
                && self
                    .threads
                    .iter()
                    .any(|t| t.worker.is_some_and(|(held, ..)| held == worker)) => {}
            None => {
                let tenure = self.workers[worker] + 1;
                self.emit(
                    thread,
                    "",
                    &format!("worker_start runtime=0 worker={worker} tenure={tenure}"),
                );
                self.workers[worker] = tenure;
                self.threads[thread].worker = Some((worker, tenure, false));
            }
        }
    }
}

/// The text with other times: anywhere in their generation, in any order.
pub fn scrambled(text: &str, seed: u64) -> String {
    let mut random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    let mut out = String::new();
    for line in text.lines() {
        match line.strip_prefix('@').and_then(|line| line.split_once(' ')) {
            Some((_, event)) => {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let _ = writeln!(out, "@{} {event}", (random >> 20) % PERIOD);
            }
            None => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    out
}
