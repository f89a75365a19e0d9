//! Compares a trace with what the judge saw. Every difference is a line.

use crate::clock::Window;
use crate::judge::{End, Facts};
use lookback::read::wire::{SpanId, TaskId};
use lookback::read::{Event, EventKind, Trace, Value};
use std::collections::{BTreeMap, HashMap};

/// How much two clocks may differ, in nanoseconds.
const TOLERANCE: i64 = 60_000;

/// An instant in the trace: on the monotonic clock, converted.
#[derive(Clone, Copy, Debug)]
struct At {
    monotonic: i64,
    measured: i64,
}

#[derive(Debug)]
struct SpanSeen {
    name: String,
    parent: Option<SpanId>,
    created: At,
    closed: Option<At>,
    enters: Vec<(u64, At)>,
    exits: Vec<(u64, At)>,
    late: Vec<u64>,
}

#[derive(Debug, Default)]
struct TaskSeen {
    name: String,
    parent: Option<TaskId>,
    polls: Vec<(u64, At)>,
    ends: Vec<(At, Option<String>)>,
    end: Option<End>,
}

#[derive(Debug, Default)]
struct ThreadSeen {
    begins: Vec<(String, At)>,
    ends: Vec<(String, Option<i64>, At)>,
    counters: Vec<(String, u64)>,
    messages: Vec<String>,
}

struct LogSeen {
    level: String,
    span: Option<SpanId>,
    message: String,
    at: At,
    thread: u64,
}

struct TypedSeen {
    values: HashMap<String, String>,
    at: At,
    thread: u64,
    task: Option<TaskId>,
}

#[derive(Default)]
struct Seen {
    spans: BTreeMap<u64, SpanSeen>,
    span_numbers: HashMap<SpanId, u64>,
    tasks: HashMap<TaskId, TaskSeen>,
    task_numbers: HashMap<TaskId, u64>,
    threads: BTreeMap<u64, ThreadSeen>,
    logs: BTreeMap<u64, LogSeen>,
    typed: BTreeMap<u64, TypedSeen>,
    follows: Vec<(u64, u64)>,
}

fn number(event: &Event, field: &str) -> Option<u64> {
    event.fields().find(|(name, _)| *name == field).and_then(|(_, value)| match value {
        Value::Unsigned(value) => Some(value),
        Value::Signed(value) => u64::try_from(value).ok(),
        _ => None,
    })
}

/// Reads the whole trace.
fn read(trace: &Trace, wrong: &mut Vec<String>) -> Seen {
    let mut seen = Seen::default();
    let mut clocks = HashMap::new();
    for info in trace.generations() {
        if !info.lost.is_empty() || info.omitted != 0 || !info.complete {
            wrong.push(format!("generation {}: {info:?}", info.number));
        }
        let generation = trace.generation(info.number).expect("a generation");
        clocks.insert(info.number, (generation.began(), generation.ended()));
    }
    for event in trace.events() {
        let event = event.expect("no event is damaged");
        let (began, ended) = clocks[&event.generation()];
        let ticks = i128::from(event.ticks().0) - i128::from(began.ticks.0);
        let span = i128::from(ended.ticks.0) - i128::from(began.ticks.0);
        let nanos = i128::from(ended.monotonic.0) - i128::from(began.monotonic.0);
        let monotonic = i128::from(began.monotonic.0) + ticks * nanos / span.max(1);
        let at = At { monotonic: monotonic as i64, measured: event.measured().0.cast_signed() };
        let thread = event.thread().map_or(0, |thread| thread.os_thread);
        seen.event(&event, at, thread);
    }
    seen
}

impl Seen {
    fn thread(&mut self, thread: u64) -> &mut ThreadSeen {
        self.threads.entry(thread).or_default()
    }

    fn span(&mut self, span: SpanId) -> Option<&mut SpanSeen> {
        self.spans.get_mut(self.span_numbers.get(&span)?)
    }

    fn event(&mut self, event: &Event, at: At, thread: u64) {
        match event.kind() {
            EventKind::SpanCreate { span, site, parent } => {
                let Some(id) = number(event, "id") else { return };
                self.span_numbers.insert(span, id);
                let (enters, exits, late) = (Vec::new(), Vec::new(), Vec::new());
                let name = site.name.to_owned();
                let seen =
                    SpanSeen { name, parent, created: at, closed: None, enters, exits, late };
                self.spans.insert(id, seen);
            }
            EventKind::SpanEnter { span } => {
                self.span(span).into_iter().for_each(|seen| seen.enters.push((thread, at)));
            }
            EventKind::SpanExit { span } => {
                self.span(span).into_iter().for_each(|seen| seen.exits.push((thread, at)));
            }
            EventKind::SpanClose { span } => {
                self.span(span).into_iter().for_each(|seen| seen.closed = Some(at));
            }
            EventKind::SpanRecord { span } => {
                let late = number(event, "late");
                self.span(span).into_iter().for_each(|seen| seen.late.extend(late));
            }
            EventKind::SpanFollows { span, from } => {
                let number = |span| self.span_numbers.get(&span).copied().unwrap_or(0);
                let pair = (number(span), number(from));
                self.follows.push(pair);
            }
            EventKind::RegionBegin { site } => {
                let name = site.name.to_owned();
                self.thread(thread).begins.push((name, at));
            }
            EventKind::RegionEnd { site, duration, .. } => {
                let name = site.map_or("?", |site| site.name).to_owned();
                let duration = duration.map(|duration| duration.0.cast_signed());
                self.thread(thread).ends.push((name, duration, at));
            }
            EventKind::Counter { site, value: Value::Unsigned(value) } => {
                let name = site.name.to_owned();
                self.thread(thread).counters.push((name, value));
            }
            EventKind::Log { level, message, .. } => {
                let message = message.to_string();
                match number(event, "id") {
                    Some(id) => {
                        let (level, span) = (level.to_string(), event.span());
                        self.logs.insert(id, LogSeen { level, span, message, at, thread });
                    }
                    None => self.thread(thread).messages.push(message),
                }
            }
            EventKind::Typed { site } if site.name == "task" => {
                if let (Some(task), Some(id)) = (event.task(), number(event, "id")) {
                    self.task_numbers.insert(task, id);
                }
            }
            EventKind::Typed { site } if site.name == "typed" => {
                let Some(id) = number(event, "id") else { return };
                let values =
                    event.fields().map(|(name, value)| (name.to_owned(), value.to_string()));
                let (values, task) = (values.collect(), event.task());
                self.typed.insert(id, TypedSeen { values, at, thread, task });
            }
            EventKind::TaskCreate { task, site, parent } => {
                let (name, parent) = (site.name.to_owned(), parent);
                self.tasks.insert(task, TaskSeen { name, parent, ..TaskSeen::default() });
            }
            EventKind::TaskPoll { task } => {
                self.tasks.entry(task).or_default().polls.push((thread, at));
            }
            EventKind::TaskPending { task, waits_for } => {
                let reason = waits_for.map(|site| site.name.to_owned());
                self.tasks.entry(task).or_default().ends.push((at, reason));
            }
            EventKind::TaskReady { task } => self.task_end(task, End::Ready, Some(at)),
            EventKind::TaskPanic { task } => self.task_end(task, End::Panicked, Some(at)),
            EventKind::TaskDrop { task } => self.task_end(task, End::Dropped, None),
            _ => {}
        }
    }

    fn task_end(&mut self, task: TaskId, end: End, at: Option<At>) {
        let seen = self.tasks.entry(task).or_default();
        seen.end = Some(end);
        seen.ends.extend(at.map(|at| (at, None)));
    }
}

/// Whether an instant lies in a window.
fn within(at: At, window: Window) -> bool {
    at.monotonic >= window.before.cast_signed() - TOLERANCE
        && at.monotonic <= window.after.cast_signed().saturating_add(TOLERANCE)
}

/// Whether a length fits two windows.
fn fits(length: i64, began: Window, ended: Window) -> bool {
    let (began, ended) = ([began.before, began.after], [ended.before, ended.after]);
    let least = ended[0].cast_signed() - began[1].cast_signed();
    let most = ended[1].cast_signed() - began[0].cast_signed();
    let tolerance = TOLERANCE + most / 500;
    length >= least - tolerance && length <= most + tolerance
}

/// All differences.
pub fn differences(trace: &Trace, facts: &Facts) -> Vec<String> {
    let mut wrong = Vec::new();
    let seen = read(trace, &mut wrong);
    let wrong = &mut wrong;
    spans(&seen, facts, wrong);
    threads(&seen, facts, wrong);
    events(&seen, facts, wrong);
    tasks(&seen, facts, wrong);
    std::mem::take(wrong)
}

fn spans(seen: &Seen, facts: &Facts, wrong: &mut Vec<String>) {
    let expected = facts.spans.iter().filter(|(_, fact)| fact.recorded);
    for (id, fact) in expected.clone() {
        let Some(span) = seen.spans.get(id) else {
            wrong.push(format!("span {id} {} is not there", fact.name));
            continue;
        };
        let mut check = |is_right: bool, what: &str| {
            if !is_right {
                wrong.push(format!("span {id}: {what}: {span:?}, in truth {fact:?}"));
            }
        };
        check(span.name == fact.name, "name");
        let parent = span.parent.map(|parent| seen.span_numbers.get(&parent).copied().unwrap_or(0));
        check(!fact.is_sure || parent == fact.parent, "parent");
        check(within(span.created, fact.created), "begin");
        check(span.closed.is_some() == fact.closed.is_some(), "whether it was closed");
        if let (Some(seen), Some(closed)) = (span.closed, fact.closed) {
            check(within(seen, closed), "end");
            check(fits(seen.measured - span.created.measured, fact.created, closed), "length");
        }
        // By thread, because calls of different threads have no order.
        for (what, seen, truth) in
            [("enters", &span.enters, &fact.enters), ("exits", &span.exits, &fact.exits)]
        {
            let by_thread = |thread: u64| truth.iter().filter(move |(of, _)| *of == thread);
            check(seen.len() == truth.len(), what);
            let mut met: HashMap<u64, usize> = HashMap::new();
            for (thread, at) in seen {
                let nth = met.entry(*thread).or_default();
                let window = by_thread(*thread).nth(*nth);
                *nth += 1;
                check(window.is_some_and(|(_, window)| within(*at, *window)), what);
            }
        }
        let sorted = |values: &[u64]| {
            let mut values = values.to_vec();
            values.sort_unstable();
            values
        };
        check(sorted(&span.late) == sorted(&fact.late), "late fields");
    }
    for (id, span) in &seen.spans {
        if !facts.spans.get(id).is_some_and(|fact| fact.recorded) {
            wrong.push(format!("span {id} {} should not be there", span.name));
        }
    }
    let is_recorded = |id: &u64| facts.spans.get(id).is_some_and(|fact| fact.recorded);
    let both = |pair: &&(u64, u64)| is_recorded(&pair.0) && is_recorded(&pair.1);
    let sorted = |mut pairs: Vec<(u64, u64)>| {
        pairs.sort_unstable();
        pairs
    };
    let truth = sorted(facts.follows.iter().filter(both).copied().collect());
    let known = sorted(seen.follows.iter().filter(both).copied().collect());
    if truth != known {
        wrong.push(format!("follows: {known:?}, in truth {truth:?}"));
    }
}

fn threads(seen: &Seen, facts: &Facts, wrong: &mut Vec<String>) {
    let nothing = ThreadSeen::default();
    for (thread, fact) in &facts.threads {
        let seen = seen.threads.get(thread).unwrap_or(&nothing);
        let names =
            |begins: &[(String, At)]| begins.iter().map(|b| b.0.clone()).collect::<Vec<_>>();
        let truth: Vec<_> = fact.begins.iter().map(|(name, _)| (*name).to_owned()).collect();
        if names(&seen.begins) != truth {
            wrong.push(format!("thread {thread}: regions: {:?}, in truth {truth:?}", seen.begins));
        }
        for ((name, at), (_, window)) in seen.begins.iter().zip(&fact.begins) {
            if !within(*at, *window) {
                wrong
                    .push(format!("thread {thread}: begin of {name}: {at:?}, in truth {window:?}"));
            }
        }
        if seen.ends.len() != fact.ends.len() {
            wrong.push(format!(
                "thread {thread}: {} ends, in truth {}",
                seen.ends.len(),
                fact.ends.len()
            ));
        }
        for ((name, length, at), (truth, began, ended)) in seen.ends.iter().zip(&fact.ends) {
            let is_right = name == truth
                && length.is_some_and(|length| fits(length, *began, *ended))
                && within(*at, *ended);
            if !is_right {
                wrong.push(format!(
                    "thread {thread}: {name} took {length:?} to {at:?}, in truth {truth} {began:?} {ended:?}"
                ));
            }
        }
        let counters: Vec<_> = seen.counters.iter().map(|(name, v)| (name.as_str(), *v)).collect();
        if counters != fact.counters {
            wrong.push(format!(
                "thread {thread}: counters {counters:?}, in truth {:?}",
                fact.counters
            ));
        }
        let said: Vec<_> =
            seen.messages.iter().filter(|text| text.starts_with("by hand")).collect();
        if said != fact.messages.iter().collect::<Vec<_>>() {
            wrong.push(format!("thread {thread}: said {said:?}, in truth {:?}", fact.messages));
        }
    }
}

fn events(seen: &Seen, facts: &Facts, wrong: &mut Vec<String>) {
    if seen.logs.len() != facts.logs.len() || seen.typed.len() != facts.typed.len() {
        let found = (seen.logs.len(), seen.typed.len());
        wrong.push(format!(
            "{found:?} events, in truth {:?}",
            (facts.logs.len(), facts.typed.len())
        ));
    }
    for (id, fact) in &facts.logs {
        let Some(log) = seen.logs.get(id) else {
            wrong.push(format!("event {id} is not there: {fact:?}"));
            continue;
        };
        let span = log.span.map(|span| seen.span_numbers.get(&span).copied().unwrap_or(0));
        let is_right = log.level.eq_ignore_ascii_case(&fact.level.to_string())
            && (!fact.is_sure || span == fact.span)
            && log.message == fact.message
            && within(log.at, fact.at)
            && log.thread == fact.thread;
        if !is_right {
            let (at, level, message) = (log.at, &log.level, &log.message);
            wrong.push(format!(
                "event {id}: {level} {message} in {span:?} {at:?}, in truth {fact:?}"
            ));
        }
    }
    for (id, fact) in &facts.typed {
        let Some(event) = seen.typed.get(id) else {
            wrong.push(format!("typed event {id} is not there"));
            continue;
        };
        let (u, i, f, b, t) = &fact.values;
        let values = [
            ("u", u.to_string()),
            ("i", i.to_string()),
            ("f", f.to_string()),
            ("b", b.to_string()),
            ("t", t.clone()),
        ];
        let are_right = values.iter().all(|(name, value)| event.values.get(*name) == Some(value));
        if !are_right || !within(event.at, fact.at) || event.thread != fact.thread {
            wrong.push(format!(
                "typed event {id}: {:?} {:?}, in truth {fact:?}",
                event.values, event.at
            ));
        }
        // Work for blocking threads is a task that the judge does not follow.
        if let Some(task) = fact.task
            && Some(task) != event.task.and_then(|task| seen.task_numbers.get(&task).copied())
        {
            wrong.push(format!("typed event {id}: in {:?}, in truth in task {task}", event.task));
        }
    }
}

fn tasks(seen: &Seen, facts: &Facts, wrong: &mut Vec<String>) {
    if seen.tasks.len() != facts.tasks.len() {
        let named = seen.tasks.values().map(|task| task.name.as_str()).collect::<Vec<_>>();
        wrong.push(format!(
            "{} tasks, in truth {}: {named:?}",
            seen.tasks.len(),
            facts.tasks.len()
        ));
    }
    let known =
        seen.tasks.iter().filter_map(|(id, task)| Some((*seen.task_numbers.get(id)?, task)));
    for (number, task) in known {
        let Some(fact) = facts.tasks.get(&number) else {
            wrong.push(format!("task {number} should not be there"));
            continue;
        };
        let parent = task.parent.map(|parent| seen.task_numbers.get(&parent).copied().unwrap_or(0));
        let same_parent = parent == fact.parent || fact.parent.is_none();
        if !same_parent || fact.name.is_some_and(|name| name != task.name) {
            wrong.push(format!("task {number}: parent {parent:?}: {task:?}, in truth {fact:?}"));
        }
        if fact.is_blocking {
            continue;
        }
        if fact.end.is_some() && task.end != fact.end {
            wrong.push(format!("task {number} ended {:?}, in truth {:?}", task.end, fact.end));
        }
        if (task.polls.len(), task.ends.len()) != (fact.polls.len(), fact.polls.len()) {
            let polls = (task.polls.len(), task.ends.len());
            wrong.push(format!("task {number}: {polls:?} polls, in truth {}", fact.polls.len()));
        }
        for (((thread, began), (ended, reason)), truth) in
            task.polls.iter().zip(&task.ends).zip(&fact.polls)
        {
            let inside = truth.inside;
            let begin = Window { before: truth.lower, after: inside.before };
            let end = Window { before: inside.after, after: truth.upper.min(i64::MAX as u64) };
            let same_reason = !truth.is_sure || reason.as_deref() == truth.reason;
            let longest = inside.after - inside.before;
            let is_right = *thread == truth.thread
                && within(*began, begin)
                && within(*ended, end)
                && ended.measured - began.measured >= longest.cast_signed() - TOLERANCE
                && same_reason;
            if !is_right {
                wrong.push(format!(
                    "task {number}: a poll {began:?} {ended:?} {reason:?} on {thread}, in truth {truth:?}"
                ));
            }
        }
    }
}
