//! The last events of each thread: what each was doing when its process ended, or where it hangs.
//!
//! A thread that recorded nothing in the window is listed, too: one that hangs for longer shows the regions
//! that it is inside.

use crate::event_json::json_of;
use crate::event_line::describe;
use crate::exit::Damage;
use crate::format::{count, counted, duration, escape};
use crate::terminal::{bad, dim, name, strong, width};
use console::{Alignment, measure_text_width, pad_str, truncate_str};
use lookback::read::wire::{Generation, ThreadNumber};
use lookback::read::{Event, EventKind, StackReason, Thread, Trace};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Write};

/// How many threads are shown one by one.
const MOST_THREADS: usize = 40;
/// How many of a thread's open regions are named, outermost first.
const MOST_INSIDE: usize = 64;

/// The last events of each thread.
pub struct LastEvents {
    /// When the snapshot ends.
    end: u64,
    threads: BTreeMap<ThreadNumber, ThreadEnd>,
    /// The threads with an event in the generation that is being read.
    busy: BTreeSet<ThreadNumber>,
    /// The open regions of threads that were silent so far are unknown.
    is_part: bool,
    /// How many gaps there were. Regions that were open before a gap are unknown after it.
    gaps: u64,
}

/// One thread at the end.
#[derive(Default)]
struct ThreadEnd {
    name: String,
    os_thread: u64,
    /// The worker that it was at its last event.
    worker: Option<String>,
    /// It ended before the process did.
    over: bool,
    /// Its open regions, outermost first, and how many more are inside those.
    inside: Vec<String>,
    deeper: u64,
    /// How many gaps preceded that.
    gaps: u64,
    last: VecDeque<Last>,
    /// The events of the generation that is being read. They keep it in memory, so they become `Last` as soon
    /// as it is over.
    running: VecDeque<Event>,
}

/// An event, rendered.
struct Last {
    time: u64,
    kind: String,
    words: String,
    json: Value,
}

impl LastEvents {
    /// Reads a snapshot once, and keeps the last `most` events of each thread.
    pub fn of(trace: &Trace, most: usize, damage: &mut Damage) -> Self {
        let ends = trace.generations().iter().map(|g| g.start.0.saturating_add(g.duration.0));
        let end = ends.max().unwrap_or_default();
        let (threads, busy) = Default::default();
        let mut found = Self { end, threads, busy, is_part: false, gaps: 0 };
        let mut first = None;
        let mut running = None;
        for event in trace.events() {
            let Some(event) = damage.noted(event) else { continue };
            let first = *first.get_or_insert(event.time().0);
            let before = running.replace(event.generation());
            if before != Some(event.generation()) {
                found.settle(first, most);
                found.enter(trace, event.generation(), before);
            }
            found.follow(event, most);
        }
        found.settle(first.unwrap_or_default(), most);
        let before_a_gap = |thread: &&mut ThreadEnd| thread.gaps != found.gaps;
        found.threads.values_mut().filter(before_a_gap).for_each(ThreadEnd::is_inside_of_nothing);
        found
    }

    /// After a gap, the statuses of the generation say which regions are open; or those of the next one that
    /// has any.
    fn enter(&mut self, trace: &Trace, generation: Generation, before: Option<Generation>) {
        let follows = before.is_some_and(|before| before.next() == generation);
        if follows && !self.is_part {
            return;
        }
        // The events report damage themselves.
        let Ok(decoded) = trace.generation(generation) else { return };
        self.is_part = decoded.is_alone();
        self.gaps += u64::from(!follows);
        for state in decoded.statuses() {
            let Some(thread) = state.thread() else { continue };
            let entry = self.thread(thread);
            entry.is_inside_of_nothing();
            state.regions().for_each(|region| entry.begin(region.site.name));
        }
    }

    fn follow(&mut self, event: Event, most: usize) {
        let Some(thread) = event.thread() else { return };
        let entry = self.thread(thread);
        match event.kind() {
            // It follows the last one.
            EventKind::ThreadStack { reason: Some(StackReason::Crash), .. } => return,
            EventKind::RegionBegin { .. } => entry.begin(event.name()),
            EventKind::RegionEnd { inside, .. } => entry.end(inside),
            EventKind::ThreadExit => {
                entry.over = true;
                entry.is_inside_of_nothing();
            }
            _ => {}
        }
        let number = thread.number;
        let is_first = entry.running.is_empty();
        if entry.running.len() == most {
            entry.running.pop_front();
        }
        entry.running.push_back(event);
        if is_first {
            self.busy.insert(number);
        }
    }

    /// The entry of a thread, with regions opened since the last gap only.
    fn thread(&mut self, thread: &Thread) -> &mut ThreadEnd {
        let entry = self.threads.entry(thread.number).or_default();
        entry.is(thread);
        if std::mem::replace(&mut entry.gaps, self.gaps) != self.gaps {
            entry.is_inside_of_nothing();
        }
        entry
    }

    /// Renders the events that are kept of a generation that has been read.
    fn settle(&mut self, first: u64, most: usize) {
        for number in std::mem::take(&mut self.busy) {
            let Some(thread) = self.threads.get_mut(&number) else { continue };
            if let Some(event) = thread.running.back() {
                thread.worker = event.worker().map(|worker| match event.worker_name() {
                    Some(name) => name.to_owned(),
                    None => worker.to_string(),
                });
            }
            thread.last.extend(thread.running.drain(..).map(|event| Last::of(&event, first)));
            let surplus = thread.last.len().saturating_sub(most);
            thread.last.drain(..surplus);
        }
    }

    /// Prints a table, the most recently busy threads first. `crashed` is the thread that a signal hit.
    pub fn print(&self, crashed: Option<u64>, out: &mut impl Write) -> io::Result<()> {
        let mut shown: Vec<_> = self.threads.iter().filter(|(_, thread)| !thread.over).collect();
        if shown.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n{}", strong().apply_to("The last events of each thread"))?;
        let latest = |thread: &ThreadEnd| thread.last.back().map(|last| last.time);
        shown.sort_by_key(|(_, thread)| std::cmp::Reverse(latest(thread)));
        let is_crashed = |thread: &ThreadEnd| crashed == Some(thread.os_thread);
        shown.sort_by_key(|(_, thread)| !is_crashed(thread));
        let more = shown.len().saturating_sub(MOST_THREADS);
        shown.truncate(MOST_THREADS);
        let labels: Vec<_> = shown.iter().map(|(number, thread)| thread.label(**number)).collect();
        let wide = labels.iter().map(|label| measure_text_width(label)).max().unwrap_or_default();
        let wide = wide.clamp(10, 24);
        let header = format!("  {:>10}  {:<wide$}  {:<12}  event", "before end", "thread", "kind");
        writeln!(out, "{}", dim().apply_to(header))?;
        for ((_, thread), label) in shown.iter().zip(&labels) {
            let rows = thread.rows(
                &pad_str(label, wide, Alignment::Left, None),
                self.end,
                is_crashed(thread),
            );
            for row in rows {
                writeln!(out, "{}", truncate_str(&row, width(), "…"))?;
            }
        }
        let over = self.threads.values().filter(|thread| thread.over).count();
        let mut rest = Vec::new();
        if more > 0 {
            rest.push(format!("{} not shown, see --json", counted(more as u64, "more thread")));
        }
        if over > 0 {
            rest.push(format!("{} had ended before", counted(over as u64, "thread")));
        }
        if !rest.is_empty() {
            writeln!(out, "  {}", dim().apply_to(rest.join("; ")))?;
        }
        Ok(())
    }

    /// How many threads there are.
    pub fn threads(&self) -> u64 {
        self.threads.len() as u64
    }

    /// For programs: every thread, including those that have ended.
    pub fn json(&self) -> Value {
        let threads = self.threads.iter().map(|(number, thread)| {
            let events = thread.last.iter().map(|last| {
                let mut event = json!({ "before_end_ns": self.end.saturating_sub(last.time) });
                if let (Value::Object(event), Value::Object(fields)) = (&mut event, &last.json) {
                    event.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
                }
                event
            });
            json!({
                "thread": number.0,
                "thread_name": thread.name,
                "thread_worker": thread.worker,
                "os_thread": thread.os_thread,
                "over": thread.over,
                "inside": thread.inside,
                "events": events.collect::<Vec<_>>(),
            })
        });
        threads.collect()
    }
}

impl ThreadEnd {
    /// A region begins.
    fn begin(&mut self, name: &str) {
        if self.inside.len() < MOST_INSIDE && self.deeper == 0 {
            self.inside.push(name.to_owned());
        } else {
            self.deeper += 1;
        }
    }

    /// Ends the region with `inside` open regions inside it.
    fn end(&mut self, inside: u64) {
        match inside.checked_sub(self.deeper) {
            None => self.deeper -= 1,
            Some(inside) => {
                let counted = usize::try_from(inside).unwrap_or(usize::MAX).saturating_add(1);
                if let Some(at) = self.inside.len().checked_sub(counted) {
                    self.inside.remove(at);
                }
            }
        }
    }

    fn is_inside_of_nothing(&mut self) {
        (self.inside, self.deeper) = (Vec::new(), 0);
    }

    fn is(&mut self, thread: &Thread) {
        if thread.os_thread != 0 {
            self.os_thread = thread.os_thread;
        }
        if !thread.name.is_empty() && *self.name != *thread.name {
            self.name = thread.name.to_string();
        }
    }

    /// Its name for `lookback events --thread`.
    fn label(&self, number: ThreadNumber) -> String {
        match &self.worker {
            Some(worker) => escape(worker).into_owned(),
            None => format!("{}#{number}", escape(&self.name)),
        }
    }

    fn rows(&self, thread: &str, end: u64, crashed: bool) -> Vec<String> {
        let style = if crashed { bad() } else { name() };
        let thread = style.apply_to(thread);
        let mut rows: Vec<_> = self
            .last
            .iter()
            .map(|last| {
                let before = duration(end.saturating_sub(last.time));
                let kind = format!("{:<12}", escape(&last.kind));
                let (before, kind) =
                    (dim().apply_to(format!("{before:>10}")), dim().apply_to(kind));
                format!("  {before}  {thread}  {kind}  {}", last.words)
            })
            .collect();
        if rows.is_empty() {
            let long = dim().apply_to(format!("{:>10}", "—"));
            rows.push(format!("  {long}  {thread}  {:<12}  no event in the window", ""));
        }
        // The last event is that very begin.
        let is_told = self.inside.len() == 1
            && self.last.back().is_some_and(|last| last.kind == "region_begin");
        if let (Some(row), false) = (rows.last_mut(), self.inside.is_empty() || is_told) {
            let mut inside: Vec<_> = self.inside.iter().map(|region| escape(region)).collect();
            if self.deeper > 0 {
                inside.push(format!("{} more", count(self.deeper)).into());
            }
            *row += &dim().apply_to(format!("  in {}", inside.join(" > "))).to_string();
        }
        if let (Some(row), true) = (rows.last_mut(), crashed) {
            *row += &bad().apply_to("  ← here").to_string();
        }
        rows
    }
}

impl Last {
    fn of(event: &Event, first: u64) -> Self {
        let mut words = Vec::new();
        // Writing to memory cannot fail.
        let _ = describe(event, &mut words);
        let time = event.time().0;
        Self {
            time,
            kind: event.kind_name().to_owned(),
            words: String::from_utf8_lossy(&words).into_owned(),
            json: json_of(event, time.saturating_sub(first)),
        }
    }
}

/// `12,345 events on 5 threads`.
pub fn amount(events: u64, threads: u64) -> String {
    let plural = if events == 1 { "" } else { "s" };
    format!("{} event{plural} on {}", count(events), counted(threads, "thread"))
}
