//! What becomes of each event.
//!
//! A thread has two tracks: one for its polls and for when its worker is parked, one below that for its regions, which may
//! outlive the poll that they began in. A span has a track of its own, below that of its parent. Slices of a track must
//! nest, so one that ends before another that was opened inside of it ends with that one.
//!
//! A generation states what exists already. For the first one, and for one that does not follow the one before, that
//! is what is open from its begin on; what began earlier says since when.

use super::Report;
use super::locks::LockTracks;
use super::packets::{Packets, Track, TrackEvent, Type};
use super::samples::{Names, Sample, Told};
use super::slices::{Open, Slices};
use crate::read::{
    DecodedGeneration, Event, EventKind, Fields, Omitted, Site, Text, Thread, ThreadState, Value,
};
use crate::wire::{Generation, Metadata, SpanId, TaskId, ThreadNumber, key};
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

/// So many wakes and spawns wait for their polls; the arrows of further ones are left out.
const MOST_FLOWS: usize = 1 << 20;
/// So many tracks are below one another, of the 100 that the trace processor allows.
const MOST_TRACKS_DEEP: u32 = 60;

/// The tracks of a thread.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) track: Track,
    /// When the last slice on it began or ended.
    pub(super) latest: u64,
    /// The operating system's number of the thread.
    tid: u64,
    /// Another thread had this number before: to the trace processor they would be one.
    is_second: bool,
    /// Polls, and that the worker is parked, outermost first.
    open: Slices,
    /// `None` before the first region.
    regions: Option<Track>,
    open_regions: Slices,
}

/// See the module.
pub(super) struct Timeline<'n, W> {
    pub(super) packets: Packets<W>,
    names: &'n mut Names<'n>,
    told: Told,
    pid: u64,
    pub(super) process: Track,
    /// The parents of the spans' tracks, and of those of the machine's counters.
    spans_root: Option<Track>,
    pub(super) machine_root: Option<Track>,
    pub(super) threads: HashMap<Option<ThreadNumber>, Lane>,
    /// With how deep its track is.
    spans: HashMap<SpanId, (Track, u32)>,
    tids: HashMap<u64, ThreadNumber>,
    /// The open ranges of the process, by their numbers.
    pub(super) ranges: HashMap<u64, Track>,
    pub(super) locks: LockTracks,
    /// By the track above them, and their names.
    pub(super) counters: HashMap<Track, HashMap<Box<str>, Track>>,
    /// The arrows that begin at wakes and spawns, by the task that is to be polled.
    flows: HashMap<TaskId, u64>,
    tracks: u64,
    before: Option<Generation>,
    /// When the first generation begins.
    pub(super) start: u64,
    latest: u64,
    pub(super) report: Report,
}

impl Lane {
    /// Whether one more slice on it would be written.
    pub(super) fn has_room(&self) -> bool {
        self.open.has_room()
    }
}

impl<'n, W: Write> Timeline<'n, W> {
    pub(super) fn new(metadata: &Metadata, out: W, names: &'n mut Names<'n>) -> io::Result<Self> {
        let per_second = metadata.number(key::CPU_SAMPLES).unwrap_or_default();
        let pid = metadata.number(key::PROCESS_PID).unwrap_or_default();
        let mut timeline = Self {
            packets: Packets::new(out, per_second),
            names,
            told: Told::default(),
            pid,
            process: Track(1),
            spans_root: None,
            machine_root: None,
            threads: HashMap::new(),
            spans: HashMap::new(),
            tids: HashMap::new(),
            ranges: HashMap::new(),
            locks: LockTracks::default(),
            counters: HashMap::new(),
            flows: HashMap::new(),
            tracks: 1,
            before: None,
            start: 0,
            latest: 0,
            report: Report::default(),
        };
        let name = metadata.text(key::PROCESS_NAME).unwrap_or_default();
        timeline.packets.track(timeline.process, None, "", |descriptor| {
            let mut process = crate::export::protobuf::Message::default();
            process.exactly(1, pid);
            process.text(6, name);
            descriptor.message(3, &process);
        })?;
        Ok(timeline)
    }

    pub(super) fn new_track(&mut self) -> Track {
        self.tracks += 1;
        Track(self.tracks)
    }

    /// A generation begins.
    pub(super) fn begin(&mut self, generation: &DecodedGeneration) -> io::Result<()> {
        let began = generation.began();
        if self.before.is_none() {
            self.start = began.monotonic.0;
            self.packets.clocks(began.monotonic.0, began.wall.0)?;
        }
        self.latest = self.latest.max(began.monotonic.0);
        if self.before.is_some_and(|before| before.next() == generation.number()) {
            return Ok(());
        }
        let at = self.latest;
        self.close_threads(at)?;
        self.flows.clear();
        let names: HashMap<_, _> =
            generation.tasks().map(|task| (task.task, task.site.name)).collect();
        for state in generation.statuses() {
            self.begin_thread(at, &state, &names)?;
        }
        for range in generation.ranges().filter(|range| range.began.0 < at) {
            self.open_range(range.range, &range.site, range.began.0)?;
        }
        self.begin_spans(at, generation)
    }

    fn begin_thread(
        &mut self,
        at: u64,
        state: &ThreadState<'_>,
        names: &HashMap<TaskId, &str>,
    ) -> io::Result<()> {
        let thread = state.thread();
        for task in state.tasks() {
            let name = names.get(&task).copied().unwrap_or("?");
            self.open(thread, Open::Poll(task), at, "poll", name, |packets, opened| {
                packets.annotate(opened, "task", &text(&task.to_string()));
            })?;
        }
        if state.is_parked() {
            self.open(thread, Open::Parked, at, "worker", "parked", |_, _| {})?;
        }
        for region in state.regions() {
            let since = Value::Unsigned(at.saturating_sub(region.began.0));
            self.open_region(thread, at, &region.site, |packets, event| {
                packets.annotate(event, "began_ns_before", &since);
            })?;
        }
        Ok(())
    }

    fn begin_spans(&mut self, at: u64, generation: &DecodedGeneration) -> io::Result<()> {
        let mut there = HashSet::new();
        // A parent has a lower place in time, so its track is made first.
        let mut statuses: Vec<_> = generation.spans().collect();
        statuses.sort_by_key(|status| status.began);
        for status in statuses {
            there.insert(status.span);
            if self.spans.contains_key(&status.span) {
                continue;
            }
            let since = Value::Unsigned(at.saturating_sub(status.began.0));
            let of = (status.fields(), status.omitted_fields());
            self.open_span(status.span, status.parent, &status.site, at, of, Some(since))?;
        }
        let info = generation.info();
        if info.complete && info.omitted == 0 {
            let gone: Vec<_> =
                self.spans.keys().filter(|span| !there.contains(span)).copied().collect();
            for span in gone {
                if let Some((track, _)) = self.spans.remove(&span) {
                    self.unknown_end(track, at)?;
                }
            }
        }
        Ok(())
    }

    /// A generation ends.
    pub(super) fn end(&mut self, generation: &DecodedGeneration) -> io::Result<()> {
        self.counters_of(generation)?;
        self.before = Some(generation.number());
        Ok(())
    }

    /// The next event.
    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        self.report.events += 1;
        let (at, thread, name) = (event.measured().0, event.thread(), event.name());
        self.latest = self.latest.max(at);
        match event.kind() {
            EventKind::Contention { .. } => return self.lock_wait_over(event),
            EventKind::LockWait { .. } => {
                self.lock_wait_goes_on(event);
                return Ok(());
            }
            _ => self.locks.goes_on(event),
        }
        match event.kind() {
            EventKind::ThreadStart | EventKind::ThreadName => {
                self.lane(thread)?;
                self.describe(thread)
            }
            EventKind::RegionBegin { site } => self.open_region(thread, at, &site, |_, _| {}),
            EventKind::RegionEnd { inside, .. } => self.close_region(thread, inside, at),
            EventKind::TaskPoll { task } => {
                let arrow = self.flows.remove(&task);
                self.report.flows += u64::from(arrow.is_some());
                self.open(thread, Open::Poll(task), at, "poll", name, |packets, opened| {
                    packets.annotate(opened, "task", &text(&task.to_string()));
                    if let Some(arrow) = arrow {
                        opened.ends_flow(arrow);
                    }
                })
            }
            EventKind::TaskPending { task, .. } => self.close_poll(thread, task, at, "pending"),
            EventKind::TaskReady { task } => self.close_poll(thread, task, at, "ready"),
            EventKind::TaskPanic { task } => self.close_poll(thread, task, at, "panicked"),
            EventKind::TaskWake { task } => self.leads_to(event, task, "wake"),
            EventKind::TaskCreate { task, .. } => self.leads_to(event, task, "spawn"),
            EventKind::WorkerPark { .. } => {
                self.open(thread, Open::Parked, at, "worker", "parked", |_, _| {})
            }
            EventKind::WorkerUnpark { .. } => self.close(thread, Open::Parked, at, |_, _| {}),
            EventKind::SpanCreate { span, site, parent } => {
                let of = (event.fields(), event.omitted_fields());
                self.open_span(span, parent, &site, at, of, None)
            }
            EventKind::RangeBegin { site, range, ago } => {
                self.open_range(range, &site, at.saturating_sub(ago.0))
            }
            EventKind::RangeEnd { site, range, duration, late } => {
                let ended = at.saturating_sub(late.0);
                self.close_range(range, &site, (ended.saturating_sub(duration.0), ended))
            }
            EventKind::SpanClose { span } => self.close_span(span, at),
            EventKind::SpanRecord { span } => match self.spans.get(&span).copied() {
                Some((track, _)) => self.instant(event, track, "span_record", "record", None),
                None => Ok(()),
            },
            EventKind::SpanFollows { span, from } => match self.spans.get(&span).copied() {
                Some((track, _)) => {
                    let from = Some(("from", from.to_string()));
                    self.instant(event, track, "span_follows", "follows", from)
                }
                None => Ok(()),
            },
            EventKind::TaskDrop { task } => {
                let track = self.lane(thread)?.track;
                let task = Some(("task", task.to_string()));
                self.instant(event, track, "task_drop", name, task)
            }
            EventKind::SpanEnter { .. } | EventKind::SpanExit { .. } => Ok(()),
            EventKind::Log { message, .. } => {
                let track = self.lane(thread)?.track;
                self.instant(event, track, "log", &message, None)
            }
            EventKind::CpuSample { thread: of, weight, ago, .. } => {
                let own = thread.filter(|thread| thread.number == of).map(|own| own.os_thread);
                let tid = own.or_else(|| self.threads.get(&Some(of)).map(|lane| lane.tid));
                let (at, pid, tid) = (at.saturating_sub(ago.0), self.pid, tid.unwrap_or_default());
                let sample = Sample { at, pid, tid, weight };
                let (told, names) = (&mut self.told, &mut *self.names);
                self.report.samples +=
                    told.write(&mut self.packets, sample, event.stack(), names)?;
                Ok(())
            }
            EventKind::Counter { value, .. } => self.counter(self.process, name, None, at, &value),
            _ => {
                let track = self.lane(thread)?.track;
                self.instant(event, track, event.kind_name(), name, None)
            }
        }
    }

    /// Something that takes no time, with the event's values.
    fn instant(
        &mut self,
        event: &Event,
        track: Track,
        category: &str,
        name: &str,
        more: Option<(&str, String)>,
    ) -> io::Result<()> {
        let mut written = self.packets.event(Type::Instant, track, event.measured().0);
        self.packets.name(&mut written, category, name);
        if let Some((name, value)) = more {
            self.packets.annotate(&mut written, name, &text(&value));
        }
        self.values(&mut written, event.fields(), event.omitted_fields());
        if let Some(site) = event.site() {
            written.place(site.file, site.line);
        }
        self.report.instants += 1;
        self.packets.write(&written)
    }

    fn values(&mut self, written: &mut TrackEvent, fields: Fields<'_>, omitted: Omitted<'_>) {
        for (name, value) in fields {
            self.packets.annotate(written, name, &value);
        }
        for name in omitted {
            self.packets.annotate(written, name, &text("(left out)"));
        }
    }

    /// A wake, or a spawn, from which an arrow goes to the task's next poll.
    fn leads_to(&mut self, event: &Event, task: TaskId, category: &str) -> io::Result<()> {
        let track = self.lane(event.thread())?.track;
        let mut written = self.packets.event(Type::Instant, track, event.measured().0);
        self.packets.name(&mut written, category, event.name());
        self.packets.annotate(&mut written, "task", &text(&task.to_string()));
        if let EventKind::TaskCreate { parent: Some(parent), .. } = event.kind() {
            self.packets.annotate(&mut written, "parent", &text(&parent.to_string()));
        }
        // Of several wakes, the first one leads to the poll.
        if self.flows.len() < MOST_FLOWS && !self.flows.contains_key(&task) {
            let arrow = self.report.events;
            self.flows.insert(task, arrow);
            written.begins_flow(arrow);
        }
        self.report.instants += 1;
        self.packets.write(&written)
    }

    /// The tracks of a thread.
    pub(super) fn lane(&mut self, thread: Option<&Thread>) -> io::Result<&mut Lane> {
        let number = thread.map(|thread| thread.number);
        if !self.threads.contains_key(&number) {
            let track = self.new_track();
            let tid = thread.map_or(0, |thread| thread.os_thread);
            let first = number.map(|number| *self.tids.entry(tid).or_insert(number));
            let is_second = tid == 0 || first != number;
            let (open, open_regions) = (Slices::default(), Slices::default());
            let lane = Lane { track, latest: 0, tid, is_second, open, regions: None, open_regions };
            self.threads.insert(number, lane);
            self.describe(thread)?;
        }
        match self.threads.get_mut(&number) {
            Some(lane) => Ok(lane),
            None => unreachable!("it was just put there"),
        }
    }

    fn describe(&mut self, thread: Option<&Thread>) -> io::Result<()> {
        let Some(lane) = self.threads.get(&thread.map(|thread| thread.number)) else {
            return Ok(());
        };
        let (pid, process) = (self.pid, self.process);
        let Some(thread) = thread else {
            return self.packets.track(lane.track, Some(process), "an unknown thread", |_| {});
        };
        if lane.is_second {
            let name = format!("{} ({})", thread.name, thread.os_thread);
            return self.packets.track(lane.track, Some(process), &name, |_| {});
        }
        self.packets.track(lane.track, Some(process), "", |descriptor| {
            let mut about = crate::export::protobuf::Message::default();
            about.exactly(1, pid);
            about.exactly(2, thread.os_thread);
            about.text(5, &thread.name);
            descriptor.message(4, &about);
        })
    }

    fn open(
        &mut self,
        thread: Option<&Thread>,
        open: Open,
        at: u64,
        category: &str,
        name: &str,
        more: impl FnOnce(&mut Packets<W>, &mut TrackEvent),
    ) -> io::Result<()> {
        let lane = self.lane(thread)?;
        lane.latest = lane.latest.max(at);
        let (is_written, track) = (lane.open.push(open), lane.track);
        self.begin_slice(is_written.then_some(track), at, category, name, more)
    }

    /// Without a track it is not written.
    fn begin_slice(
        &mut self,
        track: Option<Track>,
        at: u64,
        category: &str,
        name: &str,
        more: impl FnOnce(&mut Packets<W>, &mut TrackEvent),
    ) -> io::Result<()> {
        let Some(track) = track else {
            self.report.too_deep += 1;
            return Ok(());
        };
        let mut written = self.packets.event(Type::Begin, track, at);
        self.packets.name(&mut written, category, name);
        more(&mut self.packets, &mut written);
        self.report.slices += 1;
        self.packets.write(&written)
    }

    fn close_poll(
        &mut self,
        thread: Option<&Thread>,
        task: TaskId,
        at: u64,
        how: &str,
    ) -> io::Result<()> {
        self.close(thread, Open::Poll(task), at, |packets, written| {
            packets.annotate(written, "result", &text(how));
        })
    }

    /// Ends the innermost such slice of a thread's, if there is one.
    fn close(
        &mut self,
        thread: Option<&Thread>,
        which: Open,
        at: u64,
        more: impl FnOnce(&mut Packets<W>, &mut TrackEvent),
    ) -> io::Result<()> {
        let lane = self.lane(thread)?;
        let Some(place) = lane.open.place(which) else { return Ok(()) };
        lane.latest = lane.latest.max(at);
        let ends = lane.open.end(place);
        let track = lane.track;
        self.end_slices(track, ends, at, more)
    }

    pub(super) fn end_slices(
        &mut self,
        track: Track,
        ends: usize,
        at: u64,
        more: impl FnOnce(&mut Packets<W>, &mut TrackEvent),
    ) -> io::Result<()> {
        let mut more = Some(more);
        for _ in 0..ends {
            let mut written = self.packets.event(Type::End, track, at);
            if let Some(more) = more.take() {
                more(&mut self.packets, &mut written);
            }
            self.packets.write(&written)?;
        }
        Ok(())
    }

    fn open_region(
        &mut self,
        thread: Option<&Thread>,
        at: u64,
        site: &Site<'_>,
        more: impl FnOnce(&mut Packets<W>, &mut TrackEvent),
    ) -> io::Result<()> {
        let lane = self.lane(thread)?;
        let is_written = lane.open_regions.push(Open::Region);
        let (below, known) = (lane.track, lane.regions);
        let track = match known {
            Some(track) => track,
            None => {
                let track = self.new_track();
                self.packets.track(track, Some(below), "regions", |_| {})?;
                self.lane(thread)?.regions = Some(track);
                track
            }
        };
        self.begin_slice(
            is_written.then_some(track),
            at,
            "region",
            site.name,
            |packets, written| {
                written.place(site.file, site.line);
                more(packets, written);
            },
        )
    }

    /// Ends the region inside of which so many are still open.
    fn close_region(&mut self, thread: Option<&Thread>, inside: u64, at: u64) -> io::Result<()> {
        let lane = self.lane(thread)?;
        let count = lane.open_regions.len();
        let inside = usize::try_from(inside).unwrap_or(usize::MAX);
        let place = count.checked_sub(1).and_then(|last| last.checked_sub(inside));
        let (Some(place), Some(track)) = (place, lane.regions) else {
            self.report.without_begin += 1;
            return Ok(());
        };
        let is_late = inside > 0;
        let ends = lane.open_regions.end(place);
        self.report.late_ends += u64::from(is_late);
        self.end_slices(track, ends, at, |_, _| {})
    }

    fn open_span(
        &mut self,
        span: SpanId,
        parent: Option<SpanId>,
        site: &Site<'_>,
        at: u64,
        (fields, omitted): (Fields<'_>, Omitted<'_>),
        since: Option<Value<'_>>,
    ) -> io::Result<()> {
        let root = match self.spans_root {
            Some(root) => root,
            None => {
                let root = self.new_track();
                self.spans_root = Some(root);
                self.packets.track(root, Some(self.process), "spans", |_| {})?;
                root
            }
        };
        let above = parent.and_then(|parent| self.spans.get(&parent)).copied();
        let (below, depth) =
            above.filter(|(_, depth)| *depth < MOST_TRACKS_DEEP).unwrap_or((root, 0));
        let track = self.new_track();
        self.packets.track(track, Some(below), site.name, |descriptor| {
            // Each span has its own track, though others beside it have the same name.
            const NEVER_MERGED: u64 = 2;
            descriptor.number(15, NEVER_MERGED);
        })?;
        self.spans.insert(span, (track, depth + 1));
        let mut written = self.packets.event(Type::Begin, track, at);
        self.packets.name(&mut written, "span", site.name);
        written.place(site.file, site.line);
        if let Some(since) = since {
            self.packets.annotate(&mut written, "began_ns_before", &since);
        }
        self.packets.annotate(&mut written, "span", &text(&span.to_string()));
        if let Some(parent) = parent {
            self.packets.annotate(&mut written, "parent", &text(&parent.to_string()));
        }
        self.values(&mut written, fields, omitted);
        self.report.slices += 1;
        self.packets.write(&written)
    }

    fn close_span(&mut self, span: SpanId, at: u64) -> io::Result<()> {
        match self.spans.remove(&span) {
            Some((track, _)) => self.end_slices(track, 1, at, |_, _| {}),
            None => Ok(()),
        }
    }

    /// The slice has ended somewhere in generations that cannot be read.
    fn unknown_end(&mut self, track: Track, at: u64) -> io::Result<()> {
        self.report.unknown_ends += 1;
        self.end_slices(track, 1, at, |packets, written| {
            packets.annotate(written, "end", &text("not known"));
        })
    }

    fn close_threads(&mut self, at: u64) -> io::Result<()> {
        let mut ends = Vec::new();
        for lane in self.threads.values_mut() {
            lane.latest = lane.latest.max(at);
            ends.push((lane.track, lane.open.end_all()));
            let of_regions = lane.open_regions.end_all();
            ends.extend(lane.regions.map(|track| (track, of_regions)));
        }
        for (track, count) in ends {
            for _ in 0..count {
                self.unknown_end(track, at)?;
            }
        }
        Ok(())
    }

    /// What is open stays so: the trace processor shows it up to the end.
    pub(super) fn finish(mut self) -> io::Result<Report> {
        let waits = self.open_lock_waits()?;
        let of_threads =
            self.threads.values().map(|lane| lane.open.written() + lane.open_regions.written());
        let open = of_threads.sum::<usize>() + self.spans.len() + self.ranges.len();
        let bytes = self.packets.finish()?;
        Ok(Report { bytes, open: open as u64 + waits, ..self.report })
    }
}

pub(super) fn text(text: &str) -> Value<'_> {
    Value::Text(Text { text, cut: false })
}
