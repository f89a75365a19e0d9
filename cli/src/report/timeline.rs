//! Everything that the page shows over time, from one pass over the events.
//!
//! Memory is bounded by what lives and by what a page has room for: [`Slices`](super::slices::Slices) and the other tables
//! each say what they do when theirs is full.
//!
//! As in the other exports, a generation states what exists already. For the first one, and for one that does not follow the
//! one before, that is what is open from its begin on.

use super::columns::Columns;
use super::lanes::{Lanes, Open};
use super::moments::{Moments, Note, Of, Sample, Wake};
use super::names::Names;
use super::slices::How;
use super::stacks::Stacks;
use super::things::Things;
use crate::format::{duration, escape};
use lookback::read::symbols::Symbolizer;
use lookback::read::wire::{Generation, SpanId, TaskId, ThreadNumber, key};
use lookback::read::{
    CounterUnit, DecodedGeneration, Event, EventKind, Omitted, ReadError, Site, Trace, Value,
};
use serde_json::{Value as Json, json};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// The most ranges and the most times of threads.
const MOST: usize = 100_000;
/// So many bytes of the fields of one thing are shown.
const MOST_OF_FIELDS: usize = 600;

#[derive(Debug)]
struct Range {
    site: u32,
    from: i64,
    /// None while it is open.
    until: Option<i64>,
}

/// What the kernel said of a thread's time up to here.
#[derive(Clone, Copy, Debug)]
struct Ran {
    thread: u32,
    at: i64,
    time: u64,
    ran: u64,
    waited: u64,
}

/// See the module.
pub struct Timeline {
    /// When the first event was: all times are since then.
    first: Option<u64>,
    per_second: u64,
    names: Names,
    stacks: Stacks,
    lanes: Lanes,
    tasks: Things<TaskId>,
    spans: Things<SpanId>,
    moments: Moments,
    ranges: Vec<Range>,
    open_ranges: HashMap<u64, usize>,
    times: Vec<Ran>,
    /// Ranges and times of threads for which there was no room.
    left_out: [u64; 2],
    generations: Vec<Json>,
    before: Option<Generation>,
    latest: u64,
    events: u64,
}

/// What a page is made of.
pub struct Contents {
    /// The directory of the columns, and the small tables.
    pub header: Json,
    /// The columns.
    pub bytes: Vec<u8>,
    /// How many events of the snapshot it is about.
    pub events: u64,
    /// What is not all there, in words.
    pub missing: Vec<String>,
}

impl Timeline {
    /// Reads the whole snapshot. `noted` is told what cannot be read.
    pub fn of(
        trace: &Trace,
        symbolizer: Option<Symbolizer>,
        mut noted: impl FnMut(&ReadError),
    ) -> Contents {
        let mut timeline = Self {
            first: None,
            per_second: trace.metadata().number(key::CPU_SAMPLES).unwrap_or_default(),
            names: Names::default(),
            stacks: Stacks::new(symbolizer),
            lanes: Lanes::default(),
            tasks: Things::default(),
            spans: Things::default(),
            moments: Moments::default(),
            ranges: Vec::new(),
            open_ranges: HashMap::new(),
            times: Vec::new(),
            left_out: [0; 2],
            generations: Vec::new(),
            before: None,
            latest: 0,
            events: 0,
        };
        timeline.first = trace.events().flatten().next().map(|event| event.measured().0);
        for info in trace.generations() {
            let generation = match trace.generation(info.number) {
                Ok(generation) => generation,
                Err(error) => {
                    noted(&error);
                    continue;
                }
            };
            timeline.begin(&generation);
            let mut events = generation.events();
            while let Some(next) = events.lend() {
                match next {
                    Ok(lent) => timeline.event(lent.event),
                    Err(error) => noted(&error),
                }
            }
            timeline.end(&generation);
        }
        timeline.finish()
    }

    fn since(&self, at: u64) -> i64 {
        let since = i128::from(at) - i128::from(self.first.unwrap_or(at));
        i64::try_from(since).unwrap_or(i64::MAX)
    }

    fn begin(&mut self, generation: &DecodedGeneration) {
        let began = generation.began().monotonic.0;
        self.first.get_or_insert(began);
        let is_next = self.before.is_some_and(|before| before.next() == generation.number());
        let info = generation.info();
        self.generations.push(json!({
            "number": info.number.0,
            "from": self.since(began),
            "until": self.since(generation.ended().monotonic.0),
            "complete": info.complete,
            "lost": info.lost.iter().fold(0_u64, |sum, lost| sum.saturating_add(lost.count)),
            "after_gap": self.before.is_some() && !is_next,
        }));
        if is_next {
            return;
        }
        self.latest = self.latest.max(began);
        let at = self.since(self.latest);
        self.lanes.close_all(at, How::Unknown);
        let mut there = HashSet::new();
        for task in generation.tasks() {
            let site = self.names.site(&task.site);
            self.tasks.begin(task.task, site, 0, None);
            there.insert(task.task);
        }
        if self.before.is_some() && info.complete && info.omitted == 0 {
            self.tasks.end_others(at, |task| there.contains(&task));
        }
        self.begin_spans(generation, at);
        for state in generation.statuses() {
            let lane = self.lanes.index(state.thread());
            if let Some(worker) = state.worker() {
                let given = state.worker_name().map(str::to_owned);
                self.lanes.is_worker(lane, || given.unwrap_or_else(|| worker.to_string()));
            }
            for task in state.tasks() {
                let number = self.tasks.number(Some(task));
                let site = self.tasks.live(task).map_or(0, |task| task.site);
                let span = self.spans.number(state.spans().next());
                self.lanes.open(lane, Open::Poll(task), at, site, number, span);
            }
            if state.is_parked() {
                self.park(lane, at);
            }
            for region in state.regions() {
                let site = self.names.site(&region.site);
                let began = self.since(region.began.0).min(at);
                self.lanes.open(lane, Open::Region, began, site, 0, 0);
            }
        }
        let latest = self.latest;
        for range in generation.ranges().filter(|range| range.began.0 < latest) {
            let at = self.since(range.began.0);
            self.open_range(range.range, &range.site, at);
        }
    }

    fn begin_spans(&mut self, generation: &DecodedGeneration, at: i64) {
        let mut there = HashSet::new();
        let mut statuses: Vec<_> = generation.spans().collect();
        // So a parent comes before what is in it.
        statuses.sort_by_key(|status| status.began);
        for status in statuses {
            there.insert(status.span);
            let site = self.names.site(&status.site);
            let parent = self.spans.number(status.parent);
            let began = self.since(status.began.0);
            self.spans.begin(status.span, site, parent, Some(began));
            let fields = self.fields(status.fields(), status.omitted_fields());
            if let Some(span) = self.spans.live(status.span) {
                span.fields = fields;
            }
        }
        let info = generation.info();
        if self.before.is_some() && info.complete && info.omitted == 0 {
            self.spans.end_others(at, |span| there.contains(&span));
        }
    }

    fn end(&mut self, generation: &DecodedGeneration) {
        let ended = generation.ended().monotonic.0;
        let at = self.since(ended);
        self.latest = self.latest.max(ended);
        for reading in generation.system_counters() {
            let (name, unit) = (reading.counter.name(), reading.counter.unit());
            self.counter(name, Some(unit), true, at, reading.value as f64);
        }
        for of in generation.runtime_counters() {
            let (counter, value) = (of.reading.counter, of.reading.value);
            let name = format!("r{}.{}", of.runtime, counter.name());
            self.counter(&name, Some(counter.unit()), true, at, value as f64);
        }
        if let Some(heap) = generation.heap() {
            self.counter("heap.alive", Some(CounterUnit::Bytes), true, at, heap.live as f64);
        }
        for times in generation.thread_times() {
            if self.times.len() >= MOST {
                self.left_out[1] += 1;
            } else {
                let thread = self.lanes.index_of(times.thread);
                let (time, ran, waited) = (times.time.0, times.ran.0, times.waited.0);
                self.times.push(Ran { thread, at, time, ran, waited });
            }
        }
        for waiting in generation.waiting() {
            let stack = waiting.places().find_map(|place| place.stack);
            let stack = self.stacks.number(stack, &mut self.names);
            let task = self.tasks.number(Some(waiting.task));
            if stack > 0 {
                let (of, thread, span, weight) = (Of::Await, 0, 0, 0);
                self.moments.sample(Sample { of, at, thread, task, span, stack, weight });
            }
        }
        self.before = Some(generation.number());
    }

    fn event(&mut self, event: &Event) {
        self.events += 1;
        let measured = event.measured().0;
        self.latest = self.latest.max(measured);
        let at = self.since(measured);
        let lane = self.lanes.index(event.thread());
        if let Some(worker) = event.worker() {
            let given = event.worker_name();
            self.lanes.is_worker(lane, || given.map_or_else(|| worker.to_string(), str::to_owned));
        }
        match event.kind() {
            EventKind::ThreadStart | EventKind::ThreadName => self.lanes.rename(event.thread()),
            EventKind::RegionBegin { site } => {
                let site = self.names.site(&site);
                let (task, span) = self.inside(event);
                self.lanes.open(lane, Open::Region, at, site, task, span);
            }
            EventKind::RegionEnd { inside, .. } => self.lanes.close_region(lane, inside, at),
            EventKind::TaskCreate { task, site, parent } => {
                let site = self.names.site(&site);
                let by = self.tasks.number(parent);
                let task = self.tasks.begin(task, site, by, Some(at));
                self.moments.wake(Wake { at, thread: lane, by, task, is_spawn: true });
            }
            EventKind::TaskWake { task } => {
                let by = self.tasks.number(event.task());
                // A wake may come late, for a task that is over: that does not live again.
                let task = self.tasks.number(Some(task));
                self.moments.wake(Wake { at, thread: lane, by, task, is_spawn: false });
            }
            EventKind::TaskPoll { task } => {
                let number = self.known(task, event);
                let site = self.tasks.live(task).map_or(0, |task| task.site);
                let span = self.spans.number(event.span());
                self.lanes.open(lane, Open::Poll(task), at, site, number, span);
            }
            EventKind::TaskPending { task, .. } => {
                self.lanes.close(lane, Open::Poll(task), at, How::Pending);
            }
            EventKind::TaskReady { task } => {
                self.lanes.close(lane, Open::Poll(task), at, How::Ready);
                self.tasks.end(task, at, How::Ready);
            }
            EventKind::TaskPanic { task } => {
                self.lanes.close(lane, Open::Poll(task), at, How::Panicked);
                self.tasks.end(task, at, How::Panicked);
            }
            EventKind::TaskDrop { task } => self.tasks.end(task, at, How::Pending),
            EventKind::WorkerPark { .. } => self.park(lane, at),
            EventKind::WorkerUnpark { .. } => self.lanes.close(lane, Open::Parked, at, How::Ended),
            _ => self.other(event, at, lane),
        }
    }

    /// What is not about a task or a worker.
    fn other(&mut self, event: &Event, at: i64, lane: u32) {
        match event.kind() {
            EventKind::SpanCreate { span, site, parent } => {
                let site = self.names.site(&site);
                let parent = self.spans.number(parent);
                self.spans.begin(span, site, parent, Some(at));
                let fields = self.fields(event.fields(), event.omitted_fields());
                if let Some(span) = self.spans.live(span) {
                    span.fields = fields;
                }
            }
            EventKind::SpanRecord { span } => self.more_fields(event, span),
            EventKind::SpanEnter { span } => {
                let span = self.spans.number(Some(span));
                self.lanes.enter(lane, span);
            }
            EventKind::SpanClose { span } => self.spans.end(span, at, How::Ended),
            EventKind::RangeBegin { site, range, ago } => {
                self.open_range(range, &site, at.saturating_sub_unsigned(ago.0));
            }
            EventKind::RangeEnd { site, range, duration, late } => {
                let ended = at.saturating_sub_unsigned(late.0);
                self.open_range(range, &site, ended.saturating_sub_unsigned(duration.0));
                let open = self.open_ranges.remove(&range);
                if let Some(range) = open.and_then(|place| self.ranges.get_mut(place)) {
                    range.until = Some(ended);
                }
            }
            EventKind::Log { level, site, message } => {
                let mut text = message.to_string();
                if message.cut {
                    text.push('…');
                }
                self.note(event, (at, lane), level as u8, &site, &text);
            }
            EventKind::Typed { site } => self.note(event, (at, lane), 0, &site, ""),
            EventKind::Counter { value, .. } => {
                let number = match value {
                    Value::Unsigned(value) => value as f64,
                    Value::Signed(value) => value as f64,
                    Value::Float(value) => value,
                    _ => return,
                };
                self.counter(event.name(), None, false, at, number);
            }
            _ => self.stack(event, at, lane),
        }
    }

    /// What has a stack.
    fn stack(&mut self, event: &Event, at: i64, lane: u32) {
        let (mut thread, mut from) = (lane, at);
        let (of, weight) = match event.kind() {
            EventKind::CpuSample { thread: of, weight, ago, .. } => {
                thread = self.thread(event, of);
                from = at.saturating_sub_unsigned(ago.0);
                (Of::Cpu, weight.saturating_mul(1_000_000_000 / self.per_second.max(1)))
            }
            EventKind::AllocationSample { size, interval, .. } => {
                let chance = -(-(size as f64) / interval.max(1) as f64).exp_m1();
                (Of::Heap, (size as f64 / chance.max(f64::MIN_POSITIVE)) as u64)
            }
            EventKind::Contention { waited, .. } => (Of::Lock, waited.0),
            EventKind::ThreadStands { thread: of, since, .. } => {
                thread = self.thread(event, of);
                (Of::Blocked, since.0)
            }
            EventKind::ThreadStack { thread: of, .. } => {
                thread = self.thread(event, of);
                (Of::Stack, 1)
            }
            _ => return,
        };
        let stack = self.stacks.number(event.stack(), &mut self.names);
        let (task, span) = self.inside(event);
        self.moments.sample(Sample { of, at: from, thread, task, span, stack, weight });
    }

    fn thread(&mut self, event: &Event, number: ThreadNumber) -> u32 {
        match event.thread().filter(|own| own.number == number) {
            Some(own) => self.lanes.index(Some(own)),
            None => self.lanes.index_of(number),
        }
    }

    fn inside(&self, event: &Event) -> (u32, u32) {
        (self.tasks.number(event.task()), self.spans.number(event.span()))
    }

    /// A task that an event is about; it may be the first to mention it.
    fn known(&mut self, task: TaskId, event: &Event) -> u32 {
        match self.tasks.number(Some(task)) {
            0 if task.number() != 0 => {
                let site = event.site().map_or(0, |site| self.names.site(&site));
                self.tasks.begin(task, site, 0, None)
            }
            known => known,
        }
    }

    fn park(&mut self, lane: u32, at: i64) {
        let site = self.names.name("parked");
        self.lanes.open(lane, Open::Parked, at, site, 0, 0);
    }

    fn note(
        &mut self,
        event: &Event,
        (at, thread): (i64, u32),
        level: u8,
        site: &Site<'_>,
        text: &str,
    ) {
        let (task, span) = self.inside(event);
        let (site, text) = (self.names.site(site), self.names.text(text));
        // A log of `tracing` has these two in front of its own.
        let is_told = |name: &str| level > 0 && ["level", "message"].contains(&name);
        let told = event.fields().take_while(|(name, _)| is_told(name)).count();
        let fields = self.fields(event.fields().skip(told), event.omitted_fields());
        self.moments.note(Note { at, thread, task, span, level, site, text, fields });
    }

    fn more_fields(&mut self, event: &Event, span: SpanId) {
        let later = self.fields(event.fields(), event.omitted_fields());
        let Some(known) = self.spans.live(span) else { return };
        let texts = self.names.texts();
        let text = |number: u32| texts.get(number as usize).map_or("", |text| text);
        let both = [text(known.fields), text(later)].join(" ");
        known.fields = self.names.text(both.trim());
    }

    /// As `name=value name=value`.
    fn fields<'a>(
        &mut self,
        fields: impl Iterator<Item = (&'a str, Value<'a>)>,
        omitted: Omitted<'_>,
    ) -> u32 {
        let mut out = String::new();
        for (name, value) in fields {
            let space = if out.is_empty() { "" } else { " " };
            let cut = matches!(value, Value::Text(text) | Value::Error(text) if text.cut);
            // Writing to a string cannot fail.
            let _ = write!(out, "{space}{name}={value}{}", if cut { "…" } else { "" });
            if out.len() > MOST_OF_FIELDS {
                break;
            }
        }
        for name in omitted.take(16) {
            let space = if out.is_empty() { "" } else { " " };
            let _ = write!(out, "{space}{name}=…");
        }
        self.names.text(&out)
    }

    fn counter(
        &mut self,
        name: &str,
        unit: Option<CounterUnit>,
        is_of_machine: bool,
        at: i64,
        value: f64,
    ) {
        let unit = match unit {
            Some(CounterUnit::Nanos) => 1,
            Some(CounterUnit::Count) => 2,
            Some(CounterUnit::Bytes) => 3,
            _ => 0,
        };
        if value.is_finite() {
            let name = self.names.text(name);
            self.moments.value(name, unit, is_of_machine, at, value);
        }
    }

    fn open_range(&mut self, range: u64, site: &Site<'_>, from: i64) {
        if self.open_ranges.contains_key(&range) {
            return;
        }
        if self.ranges.len() >= MOST {
            self.left_out[0] += 1;
            return;
        }
        let site = self.names.site(site);
        self.open_ranges.insert(range, self.ranges.len());
        self.ranges.push(Range { site, from, until: None });
    }

    fn finish(mut self) -> Contents {
        let end = self.since(self.latest);
        self.lanes.close_all(end, How::Open);
        let mut columns = Columns::default();
        let mut missing = Vec::new();
        let threads: Vec<_> = self.lanes.all.iter().map(|lane| {
            let name = escape(&lane.name);
            let worker = lane.worker.as_deref().map(escape);
            json!({ "number": lane.number, "os": lane.os_thread, "name": name, "worker": worker })
        }).collect();
        let (least, left_out) = self.lanes.slices.write(&mut columns);
        if least > 0 {
            let least = duration(least);
            missing.push(format!(
                "polls and regions shorter than {least} that follow each other closely are put together"
            ));
        }
        if left_out > 0 {
            missing.push(format!("the {left_out} shortest polls and regions"));
        }
        if self.lanes.too_deep > 0 {
            missing.push(format!("{} slices inside of 200 others", self.lanes.too_deep));
        }
        for (what, (_, left_out)) in [
            ("tasks", self.tasks.write_tasks(&mut columns)),
            ("spans", self.spans.write_spans(&mut columns)),
        ] {
            if left_out > 0 {
                missing.push(format!("the {left_out} shortest {what}"));
            }
        }
        for (what, left_out) in ["ranges", "times of threads"].into_iter().zip(self.left_out) {
            if left_out > 0 {
                missing.push(format!("the last {left_out} {what}"));
            }
        }
        missing.extend(self.moments.write(&mut columns));
        if self.stacks.left_out > 0 {
            missing.push(format!("the stacks of {} samples", self.stacks.left_out));
        }
        self.stacks.write(&mut columns);
        if self.names.left_out > 0 {
            missing.push(format!("{} texts", self.names.left_out));
        }
        let sites = self.names.sites();
        columns.numbers("sites.name", sites.iter().map(|(name, _)| u64::from(*name)));
        columns.numbers("sites.place", sites.iter().map(|(_, place)| u64::from(*place)));
        let ranges = &self.ranges;
        columns.numbers("ranges.site", ranges.iter().map(|of| u64::from(of.site)));
        columns.steps("ranges.from", ranges.iter().map(|of| of.from));
        columns.steps("ranges.until", ranges.iter().map(|of| of.until.unwrap_or(end)));
        columns.numbers("ranges.open", ranges.iter().map(|of| u64::from(of.until.is_none())));
        let times = &self.times;
        columns.numbers("times.thread", times.iter().map(|of| u64::from(of.thread)));
        columns.steps("times.at", times.iter().map(|of| of.at));
        columns.numbers("times.time", times.iter().map(|of| of.time));
        columns.numbers("times.ran", times.iter().map(|of| of.ran));
        columns.numbers("times.waited", times.iter().map(|of| of.waited));
        let (directory, bytes) = columns.finish();
        let header = json!({
            "columns": directory,
            "texts": self.names.texts(),
            "threads": threads,
            "generations": self.generations,
            "end": end,
            "events": self.events,
            "samples_per_second": self.per_second,
            "missing": missing,
        });
        Contents { header, bytes, events: self.events, missing }
    }
}
