//! Finds the demo's fault in its snapshot: the task that blocked its worker, and the tasks that waited.

use super::inventory::WAITS_FOR;
use super::longest_poll::Culprit;
use crate::event_line::describe;
use crate::format::{counted, duration, escape};
use crate::terminal::{bad, dim, name, odd, strong, width};
use console::{measure_text_width, truncate_str};
use lookback::read::wire::TaskId;
use lookback::read::{Event, EventKind, Level, Trace};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// How many lines around the fault are shown.
const MOST_LINES: usize = 22;
/// A task that waits for less than this is not a victim.
const LONG: u64 = 50_000_000;

/// The lines of the trace around the fault, and what follows from them.
pub struct Story {
    culprit: Culprit,
    lines: Vec<Line>,
    more: usize,
    /// The open span and regions of the culprit, outermost first.
    inside: Vec<String>,
    /// The tasks that the culprit woke and that were not polled since, with the time of the wake.
    held: BTreeMap<TaskId, u64>,
    /// The tasks that wait for the inventory, and since when.
    waiting: BTreeMap<TaskId, u64>,
    /// How long the victims waited for it.
    waited: BTreeMap<TaskId, u64>,
}

struct Line {
    what: What,
    time: u64,
    thread: String,
    depth: usize,
    text: String,
}

/// What a line shows. All but `Other` are removed again if nothing came of them.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Poll,
    Region,
    Wake(TaskId),
    Wait(TaskId),
    Other,
}

impl Story {
    /// Finds the poll that took longest, and what happened since it began.
    pub fn of(trace: &Trace) -> Option<Self> {
        let culprit = Culprit::of(trace).filter(|culprit| culprit.took() >= LONG)?;
        let mut story = Self {
            culprit,
            lines: Vec::new(),
            more: 0,
            inside: Vec::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waited: BTreeMap::new(),
        };
        for event in trace.events().filter_map(Result::ok) {
            if story.includes(&event) {
                story.add(&event);
            }
        }
        story.finish();
        Some(story)
    }

    /// Whether the event happened during the poll.
    fn includes(&self, event: &Event) -> bool {
        let poll = &self.culprit.poll;
        event.time().0 >= poll.began && poll.ended.is_none_or(|ended| event.time().0 < ended)
    }

    /// Adds a line for the event, if it matters.
    fn add(&mut self, event: &Event) {
        let time = event.time().0;
        let poll = &self.culprit.poll;
        let is_culprit = event.task() == Some(poll.task)
            && event.thread().is_some_and(|thread| thread.number == poll.thread);
        let depth = if is_culprit { 1 + self.inside.len() } else { 0 };
        let named = |task| name().apply_to(escape(&self.culprit.name_of(task))).to_string();
        match event.kind() {
            EventKind::TaskPoll { task } if is_culprit && task == poll.task => {
                let text = format!("{} is polled on worker {}", named(task), poll.worker);
                self.push(What::Poll, event, 0, text);
            }
            EventKind::TaskPoll { task } => self.go_on(task, time),
            EventKind::TaskPending { task, waits_for: Some(what) } if what.name == WAITS_FOR => {
                let text = format!("{} waits for {}", named(task), strong().apply_to(WAITS_FOR));
                self.waiting.insert(task, time);
                self.push(What::Wait(task), event, 0, text);
            }
            EventKind::TaskWake { task } if is_culprit && task != poll.task => {
                let text = format!("wakes {}", named(task));
                self.held.insert(task, time);
                self.push(What::Wake(task), event, depth, text);
            }
            EventKind::RegionBegin { site } if is_culprit => {
                self.push_described(What::Region, event, depth);
                self.inside.push(site.name.to_owned());
            }
            EventKind::RegionEnd { .. } if is_culprit => {
                self.inside.pop();
                self.take_back(What::Region);
            }
            EventKind::SpanCreate { .. } if is_culprit => {
                self.push_described(What::Other, event, depth);
                self.inside.push(event.name().to_owned());
            }
            EventKind::Typed { .. } if is_culprit => {
                self.push_described(What::Other, event, depth);
            }
            EventKind::Log { level, .. } if is_culprit || level >= Level::Warn => {
                self.push_described(What::Other, event, depth);
            }
            _ => {}
        }
    }

    /// The task is polled, so it no longer waits.
    fn go_on(&mut self, task: TaskId, time: u64) {
        if self.held.remove(&task).is_some() {
            self.take_back(What::Wake(task));
        }
        if let Some(since) = self.waiting.remove(&task) {
            if time - since < LONG {
                self.take_back(What::Wait(task));
            } else {
                self.waited.insert(task, time - since);
            }
        }
    }

    fn push_described(&mut self, what: What, event: &Event, depth: usize) {
        let mut text = Vec::new();
        if describe(event, &mut text).is_ok() {
            self.push(what, event, depth, String::from_utf8_lossy(&text).into_owned());
        }
    }

    fn push(&mut self, what: What, event: &Event, depth: usize, text: String) {
        let Some(thread) = event.thread() else { return };
        let thread = escape(&thread.name).into_owned();
        self.lines.push(Line { what, time: event.time().0, thread, depth, text });
    }

    fn take_back(&mut self, what: What) {
        if let Some(at) = self.lines.iter().rposition(|line| line.what == what) {
            self.lines.remove(at);
        }
    }

    /// Counts tasks that still wait as victims, if they waited long; cuts a long story.
    fn finish(&mut self) {
        let end = self.culprit.end;
        let waiting: Vec<_> = self.waiting.keys().copied().collect();
        waiting.into_iter().for_each(|task| self.go_on(task, end));
        self.more = self.lines.len().saturating_sub(MOST_LINES);
        self.lines.truncate(MOST_LINES);
    }

    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let names = self.lines.iter().map(|line| measure_text_width(&line.thread)).max();
        let pad = names.unwrap_or_default();
        let room = width().saturating_sub(15 + pad);
        for line in &self.lines {
            let before = format!("-{:.1} ms", (self.culprit.end - line.time) as f64 / 1e6);
            let indent = " ".repeat(2 * line.depth.min(8));
            let note = match line.what {
                What::Poll if self.culprit.poll.ended.is_some() => "",
                What::Poll | What::Region => "  ← still in it",
                What::Wake(_) => "  ← not polled since",
                What::Wait(_) | What::Other => "",
            };
            let text = format!("{indent}{}{}", line.text, odd().apply_to(note));
            writeln!(
                out,
                "  {:>9}  {:<pad$}  {}",
                dim().apply_to(before),
                name().apply_to(&line.thread),
                truncate_str(&text, room, "…"),
            )?;
        }
        if self.more > 0 {
            let more = counted(self.more as u64, "more line");
            writeln!(out, "  {:>9}  {}", "", dim().apply_to(format!("… {more}")))?;
        }
        self.conclude(out)
    }

    /// Prints the conclusion.
    fn conclude(&self, out: &mut impl Write) -> io::Result<()> {
        let (culprit, poll) = (&self.culprit, &self.culprit.poll);
        let named = |task| name().apply_to(escape(&culprit.name_of(task)).into_owned());
        writeln!(
            out,
            "\n  {} kept worker {} ({}) busy in one poll for {}:\n    {}",
            named(poll.task),
            bad().apply_to(poll.worker),
            escape(&poll.thread_name),
            strong().apply_to(duration(culprit.took())),
            escape(&self.inside.join(" > ")),
        )?;
        let end = poll.ended.unwrap_or(culprit.end);
        for (task, since) in &self.held {
            writeln!(
                out,
                "  {} was woken there, and was not polled for {}: a task that another task wakes\n  \
                 runs next on the same worker, and no other worker takes it from there.",
                named(*task),
                strong().apply_to(duration(end - since)),
            )?;
        }
        match self.waited.values().max() {
            None => Ok(()),
            Some(longest) => writeln!(
                out,
                "  {} waited for the inventory meanwhile, for up to {}.",
                strong().apply_to(counted(self.waited.len() as u64, "task")),
                duration(*longest),
            ),
        }
    }
}
