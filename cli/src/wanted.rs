//! The filters of `lookback events`, and which of them matched nothing.
//!
//! A name that matches nothing is a typing mistake, not an empty answer: the error lists what the snapshot
//! has instead.

use crate::format::{count, escape, quote};
use crate::glob::Pattern;
use crate::span_family::SpanFamily;
use lookback::read::wire::{Generation, TaskId, ThreadNumber};
use lookback::read::{Event, EventKind, Level, Trace};
use std::collections::{BTreeMap, BTreeSet};

/// How many names an error lists.
const NAMED: usize = 12;

/// The filters of the command line; an empty list matches everything.
pub struct Filters<'a> {
    pub threads: &'a [String],
    pub tasks: &'a [String],
    pub workers: &'a [String],
    /// The spans, and those inside of them.
    pub spans: &'a [String],
    /// The spans of this distributed trace.
    pub trace_id: Option<&'a str>,
    /// Only logs that are at least as important.
    pub level: Option<Level>,
    pub kinds: &'a [String],
    pub generations: &'a [u64],
    pub name: Option<&'a str>,
    /// Only spans and logs of this target.
    pub target: Option<&'a str>,
    /// The time before which events are too old, and the time after which they are too late.
    pub since: u64,
    pub until: u64,
}

impl Default for Filters<'_> {
    /// Everything.
    fn default() -> Self {
        Self {
            threads: &[],
            tasks: &[],
            workers: &[],
            spans: &[],
            trace_id: None,
            level: None,
            kinds: &[],
            generations: &[],
            name: None,
            target: None,
            since: 0,
            until: u64::MAX,
        }
    }
}

/// The filters, with what they have matched so far.
pub struct Wanted<'a> {
    threads: Vec<Asked<&'a str>>,
    tasks: Vec<Asked<&'a str>>,
    workers: Vec<Asked<&'a str>>,
    spans: Option<SpanFamily>,
    level: Option<Level>,
    kinds: Vec<Asked<&'a str>>,
    generations: Vec<Asked<u64>>,
    name: Option<(&'a str, Pattern, bool)>,
    target: Option<(&'a str, Pattern, bool)>,
    since: u64,
    until: u64,
    known_threads: BTreeMap<ThreadNumber, String>,
    known_kinds: BTreeSet<String>,
    shown: u64,
}

/// One filter, and whether an event has matched it.
struct Asked<T> {
    what: T,
    met: bool,
}

fn asked<T>(all: impl Iterator<Item = T>) -> Vec<Asked<T>> {
    all.map(|what| Asked { what, met: false }).collect()
}

/// Whether any filter matches. Marks every filter that does.
fn meets<T>(all: &mut [Asked<T>], mut is_it: impl FnMut(&T) -> bool) -> bool {
    let mut any = all.is_empty();
    for one in all {
        let met = is_it(&one.what);
        one.met |= met;
        any |= met;
    }
    any
}

impl<'a> Wanted<'a> {
    pub fn new(filters: &Filters<'a>, trace: &Trace) -> Self {
        let texts = |list: &'a [String]| asked(list.iter().map(String::as_str));
        Self {
            threads: texts(filters.threads),
            tasks: texts(filters.tasks),
            workers: texts(filters.workers),
            spans: SpanFamily::new(filters.spans, filters.trace_id, trace),
            level: filters.level,
            kinds: texts(filters.kinds),
            generations: asked(filters.generations.iter().copied()),
            name: filters.name.map(|name| (name, Pattern::new(name), false)),
            target: filters.target.map(|target| (target, Pattern::new(target), false)),
            since: filters.since,
            until: filters.until,
            known_threads: BTreeMap::new(),
            known_kinds: BTreeSet::new(),
            shown: 0,
        }
    }

    pub fn includes(&mut self, event: &Event) -> bool {
        let mut all = (self.since..=self.until).contains(&event.time().0);
        if !self.threads.is_empty() {
            let thread = event.thread();
            if let Some(thread) = thread
                && !self.known_threads.contains_key(&thread.number)
            {
                self.known_threads.insert(thread.number, thread.name.to_string());
            }
            all &= meets(&mut self.threads, |wanted| {
                thread.is_some_and(|thread| {
                    *thread.name == **wanted
                        || wanted.parse() == Ok(thread.number.0)
                        || is_label(wanted, &thread.name, thread.number)
                        || event.worker().is_some_and(|worker| worker.to_string() == **wanted)
                        || event.worker_name() == Some(&**wanted)
                })
            });
        }
        if !self.kinds.is_empty() {
            if !self.known_kinds.contains(event.kind_name()) {
                self.known_kinds.insert(event.kind_name().to_owned());
            }
            all &= meets(&mut self.kinds, |kind| *kind == event.kind_name());
        }
        if !self.tasks.is_empty() {
            let of = [event.task(), task_of(&event.kind())].map(|id| id.map(|id| id.to_string()));
            all &= meets(&mut self.tasks, |id| of.iter().flatten().any(|of| of == id));
        }
        if let Some(spans) = &mut self.spans {
            all &= spans.includes(event);
        }
        if !self.workers.is_empty() {
            all &= meets(&mut self.workers, |wanted| {
                event.worker().is_some_and(|worker| worker.to_string() == **wanted)
                    || event.worker_name() == Some(&**wanted)
            });
        }
        if let Some(least) = self.level {
            all &= matches!(event.kind(), EventKind::Log { level, .. } if level >= least);
        }
        all &= meets(&mut self.generations, |number| Generation(*number) == event.generation());
        if let Some((_, pattern, met)) = &mut self.name {
            let matches = pattern.matches(event.name());
            *met |= matches;
            all &= matches;
        }
        if let Some((_, pattern, met)) = &mut self.target {
            let matches = event.target().is_some_and(|target| pattern.matches(target));
            *met |= matches;
            all &= matches;
        }
        self.shown += u64::from(all);
        all
    }

    /// The same for a counter that the recorder has read at the end of a generation: it belongs to no thread.
    pub fn includes_counter(
        &mut self,
        kind: &str,
        name: &str,
        generation: Generation,
        time: u64,
    ) -> bool {
        let mut all = (self.since..=self.until).contains(&time)
            && self.threads.is_empty()
            && self.tasks.is_empty()
            && self.workers.is_empty()
            && self.level.is_none()
            && self.target.is_none()
            && self.spans.is_none();
        all &= meets(&mut self.kinds, |wanted| *wanted == kind);
        all &= meets(&mut self.generations, |number| Generation(*number) == generation);
        if let Some((_, pattern, met)) = &mut self.name {
            let matches = pattern.matches(name);
            *met |= matches;
            all &= matches;
        }
        self.shown += u64::from(all);
        all
    }

    /// After all events were read: each filter that matched nothing, and what the snapshot has instead.
    pub fn missing(&self, trace: &Trace) -> Vec<String> {
        let mut missing = Vec::new();
        let threads = self.known_threads.iter().map(|(number, name)| match &**name {
            "" => number.to_string(),
            name => quote(name).into_owned(),
        });
        let threads: BTreeSet<_> = threads.collect();
        for thread in self.threads.iter().filter(|thread| !thread.met) {
            let there = several(threads.iter().cloned());
            missing.push(format!(
                "no event of thread {}; the threads are {there}",
                quote(thread.what)
            ));
        }
        for kind in self.kinds.iter().filter(|kind| !kind.met) {
            let there = several(self.known_kinds.iter().cloned());
            missing.push(format!("no event of kind {}; the kinds are {there}", kind.what));
        }
        for task in self.tasks.iter().filter(|task| !task.met) {
            missing.push(format!(
                "no event of task {}; `--kind task_create` lists the spawned tasks, `--kind task_poll` the polled ones",
                quote(task.what)
            ));
        }
        for worker in self.workers.iter().filter(|worker| !worker.met) {
            missing.push(format!(
                "no event of worker {}; `lookback summary` lists the workers",
                quote(worker.what)
            ));
        }
        if let Some(family) = &self.spans {
            let (spans, of_trace) = family.missing();
            for span in spans {
                missing.push(format!(
                    "no span {}; `lookback summary` lists the names of spans, `--kind span_create` the spans",
                    quote(span)
                ));
            }
            if let Some(id) = of_trace {
                missing.push(format!(
                    "no span of trace {}: none has it in a field `traceparent` or `trace_id`",
                    quote(id)
                ));
            }
        }
        let numbers = trace.generations().iter().map(|info| info.number.0);
        for number in self.generations.iter().filter(|number| !number.met).map(|one| one.what) {
            let there = match (numbers.clone().min(), numbers.clone().max()) {
                (Some(first), Some(last)) => format!("this snapshot has {first} to {last}"),
                _ => "this snapshot has none".to_owned(),
            };
            let what = if numbers.clone().any(|there| there == number) {
                format!("no event in generation {number}")
            } else {
                format!("no generation {number}; {there}")
            };
            missing.push(what);
        }
        if let Some((name, _, false)) = &self.name {
            missing.push(format!(
                "no event has {} in its name; `lookback events FILE` lists all events",
                quote(name)
            ));
        }
        if let Some((target, _, false)) = &self.target {
            missing.push(format!(
                "no span and no log of target {}; a target is a module's path, as of `tracing`",
                quote(target)
            ));
        }
        missing
    }

    /// Nothing was shown, although each filter alone matched an event.
    pub fn is_empty(&self) -> bool {
        self.shown == 0
    }
}

/// Whether `text` is the label of a thread that is no worker, as event lines print it: `name#3`.
fn is_label(text: &str, name: &str, number: ThreadNumber) -> bool {
    text.rsplit_once('#').is_some_and(|(before, behind)| {
        (before == name || before == escape(name)) && behind.parse() == Ok(number.0)
    })
}

fn several(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<_> = names.collect();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    match (names.as_slice(), more) {
        ([], _) => "none".to_owned(),
        (names, 0) => names.join(", "),
        (names, more) => format!("{} and {} more", names.join(", "), count(more as u64)),
    }
}

/// The task that an event concerns.
fn task_of(kind: &EventKind<'_>) -> Option<TaskId> {
    match *kind {
        EventKind::TaskCreate { task, .. }
        | EventKind::TaskPending { task, .. }
        | EventKind::TaskPoll { task }
        | EventKind::TaskReady { task }
        | EventKind::TaskPanic { task }
        | EventKind::TaskDrop { task }
        | EventKind::TaskWake { task } => Some(task),
        _ => None,
    }
}
