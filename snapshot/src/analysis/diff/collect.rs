//! Reads a snapshot for one side of a comparison, in the same pass as the report.

use super::series::{Dice, Series, Sums};
use super::shape::shape;
use super::side::{DiffSide, Key, MOST_NAMES, NameFrame, Units};
use super::{Function, Kind};
use crate::analysis::event_view::EventView;
use crate::analysis::frame_numbers::{StackNumber, StackNumbers};
use crate::analysis::interner::Name;
use crate::analysis::lock_wait::place;
use crate::analysis::onlooker::Onlooker;
use crate::analysis::pass;
use crate::analysis::polls::LONG_POLL;
use crate::analysis::state::{LiveState, Poll, SpanDone};
use crate::analysis::stopped::Stops;
use crate::read::decode::fast_map::Map;
use crate::read::{
    DecodedGeneration, EventKind, GenerationInfo, Level, OwnedFrame, Site, Trace, Value,
};
use crate::wire::{Generation, Nanos, Outcome, SpanId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// So many stacks of a file are told apart.
const MOST_STACKS: usize = 20_000;
/// So many tasks of a name at a stack, each generation, are added up.
const MOST_WAITS: usize = 1 << 19;
/// So many spans are known by their place at one time.
const MOST_SPANS: usize = 1 << 17;

pub(super) fn add(side: &mut DiffSide, trace: &Trace, mut names: Option<NameFrame<'_>>) {
    let stops = Stops::of(trace);
    let (counts, units) = side.begin(trace, |at| stops.counted(at));
    let lossy = |info: &&GenerationInfo| {
        info.damage.is_some() || info.lost.iter().any(|lost| lost.count > 0)
    };
    let lossy = trace.generations().iter().filter(lossy).map(|info| (info.number, ())).collect();
    let reader = Collect {
        counts,
        lossy,
        units,
        stops,
        dice: std::mem::take(&mut side.dice),
        ..Collect::default()
    };
    let reader = Rc::new(RefCell::new(reader));
    let onlooker: Rc<RefCell<dyn Onlooker>> = Rc::<RefCell<Collect>>::clone(&reader);
    let report = pass::watched(trace, Some(&onlooker));
    side.about.damaged |= !report.damage.is_empty();
    reader.borrow_mut().hand_over(side, &mut names);
}

/// What is read of a file.
#[derive(Default)]
struct Collect {
    /// Which generations count: those that no earlier file had.
    counts: Map<Generation, bool>,
    lossy: Map<Generation, ()>,
    units: Units,
    stops: Stops,
    dice: Dice,
    things: Vec<(Key, Series)>,
    known: Map<(Kind, Name, Name), Option<u32>>,
    many: Map<Kind, usize>,
    left_out: Map<Kind, u64>,
    /// Where spans were created that are open.
    spans: Map<SpanId, Name>,
    /// How often it was listed which tasks there are, and where they wait.
    listings: Sums,
    /// Whether the generation counts, and whether nothing was lost in it.
    now: Option<Generation>,
    is_counted: bool,
    is_whole: bool,
    numbers: StackNumbers,
    stacks: Vec<Sampled>,
    waits: Vec<Waiting>,
    /// The names of tasks that wait.
    tasks: BTreeMap<Name, String>,
    events: u64,
    has_heap: bool,
    has_waits: bool,
    has_locks: bool,
    /// A text in the making.
    shape: String,
}

/// A stack, by its frames, innermost first, and the samples of each kind that have it.
type Sampled = (Vec<u32>, Vec<(Kind, Series)>);

/// So many tasks of a name that waited at a stack.
struct Waiting {
    task: Name,
    stack: u32,
    unit: u32,
    many: f64,
}

impl Onlooker for Collect {
    fn list(&mut self, decoded: &DecodedGeneration, live: &mut LiveState) {
        let info = decoded.info();
        self.enter(info.number);
        if !self.is_counted {
            return;
        }
        let ended = self.stops.counted(Nanos(info.start.0.saturating_add(info.duration.0)));
        let unit = self.units.at(ended);
        for reading in decoded.system_counters() {
            self.reading(Kind::of_counter(reading.counter), reading, unit, live);
        }
        for of in decoded.runtime_counters() {
            self.reading(Kind::Runtime, &of.reading, unit, live);
        }
        if !info.complete || info.omitted > 0 {
            return;
        }
        self.listings.add(unit, 1.0);
        for span in decoded.spans() {
            if self.spans.len() < MOST_SPANS && !self.spans.contains_key(&span.span) {
                let at = self.place(span.site, live);
                self.spans.insert(span.span, at);
            }
        }
        let mut alive: Map<Name, f64> = Map::default();
        for task in decoded.tasks() {
            *alive.entry(live.names.name(task.site.name)).or_default() += 1.0;
        }
        for (name, many) in alive {
            if let Some(series) = self.thing(Kind::AliveTasks, name, Name::default(), live) {
                series.level(unit, many);
            }
        }
        self.waiting(decoded, unit, live);
    }

    fn before(&mut self, view: &EventView<'_>, live: &mut LiveState) {
        if let Some(event) = view.event
            && self.now != Some(event.generation())
        {
            self.enter(event.generation());
        }
        if !self.is_counted {
            return;
        }
        self.events += 1;
        match view.kind {
            EventKind::SpanCreate { span, site, .. } if self.spans.len() < MOST_SPANS => {
                let at = self.place(site, live);
                self.spans.insert(span, at);
            }
            EventKind::RegionEnd { site: Some(site), duration: Some(length), .. } => {
                let at = self.place(site, live);
                self.lasted(Kind::Region, (live.names.name(site.name), at), view.at, length, live);
            }
            EventKind::RangeEnd { site, duration, .. } => {
                let at = self.place(site, live);
                self.lasted(Kind::Range, (live.names.name(view.name), at), view.at, duration, live);
            }
            EventKind::Log { level, site, message } => {
                let kind = match level {
                    Level::Error => Kind::ErrorLog,
                    Level::Warn => Kind::WarnLog,
                    _ => Kind::Log,
                };
                shape(&message, &mut self.shape);
                let name = live.names.name(&self.shape);
                let category = live.names.name(site.name);
                self.happened(kind, name, category, view.at, live);
            }
            EventKind::Typed { .. } => {
                self.happened(
                    Kind::Event,
                    live.names.name(view.name),
                    Name::default(),
                    view.at,
                    live,
                );
            }
            EventKind::TaskCreate { .. } => {
                self.happened(
                    Kind::Task,
                    live.names.name(view.name),
                    Name::default(),
                    view.at,
                    live,
                );
            }
            EventKind::TaskPanic { .. } => {
                self.happened(
                    Kind::Panic,
                    live.names.name(view.name),
                    Name::default(),
                    view.at,
                    live,
                );
            }
            EventKind::TaskDrop { .. } => {
                self.happened(
                    Kind::Cancelled,
                    live.names.name(view.name),
                    Name::default(),
                    view.at,
                    live,
                );
            }
            EventKind::Contention { site, waited, .. } => {
                self.has_locks = true;
                let at = live.names.name(&place(site));
                self.lasted(Kind::Lock, (at, Name::default()), view.at, waited, live);
            }
            EventKind::Counter { value, .. } => {
                let unit = self.units.at(view.at);
                let name = live.names.name(view.name);
                if let Some(value) = number(value)
                    && let Some(series) = self.thing(Kind::Counter, name, Name::default(), live)
                {
                    series.level(unit, value);
                }
            }
            EventKind::CpuSample { weight, .. } => {
                self.sample(Kind::Cpu, view, weight as f64, weight as f64)
            }
            EventKind::AllocationSample { size, interval, .. } => {
                self.has_heap = true;
                let probability = -(-(size as f64) / interval.max(1) as f64).exp_m1();
                let bytes = if probability > 0.0 { size as f64 / probability } else { 0.0 };
                self.sample(Kind::Allocation, view, 1.0, bytes);
            }
            _ => {}
        }
    }

    fn poll_over(&mut self, poll: &Poll, live: &LiveState) {
        if !self.is_counted || !poll.exact || poll.blocking {
            return;
        }
        let unit = self.units.at(poll.ended);
        let is_whole = self.is_whole;
        let mut dice = std::mem::take(&mut self.dice);
        if let Some(series) = self.thing(Kind::Poll, poll.name, Name::default(), live) {
            series.count(is_whole.then_some(unit), 1.0);
            if poll.certain {
                series.length(unit, poll.blocked, &mut dice);
            }
            if is_whole && poll.blocked > LONG_POLL {
                series.marked.add(unit, 1.0);
            }
        }
        self.dice = dice;
    }

    fn span_done(&mut self, span: &SpanDone, live: &LiveState) {
        let place = self.spans.remove(&span.label.span);
        if !self.is_counted || (span.open && (!span.certain || span.holder.is_some())) {
            return;
        }
        let unit = self.units.at(span.ended);
        let is_whole = self.is_whole;
        let mut dice = std::mem::take(&mut self.dice);
        // One that began before the snapshot has its place from the others of its name.
        let place = place.unwrap_or_default();
        if let Some(series) = self.thing(Kind::Span, span.label.group, place, live) {
            // One that is open takes at least as long as it has so far.
            let says_something = !span.open || span.length() > series.lengths.percentile(0.5);
            if !span.open {
                series.count(is_whole.then_some(unit), 1.0);
                let failed = span.outcome.is_some_and(Outcome::is_failure);
                if is_whole && failed {
                    series.marked.add(unit, 1.0);
                }
            }
            if says_something {
                series.length(unit, span.length(), &mut dice);
                series.polled += u128::from(span.spent.polling.0);
            }
        }
        self.dice = dice;
    }
}

fn number(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Unsigned(value) => Some(value as f64),
        Value::Signed(value) => Some(value as f64),
        Value::Float(value) if value.is_finite() => Some(value),
        _ => None,
    }
}

impl Collect {
    fn enter(&mut self, number: Generation) {
        self.now = Some(number);
        self.is_counted = self.counts.get(&number).copied().unwrap_or_default();
        self.is_whole = !self.lossy.contains_key(&number);
    }

    /// The place of a span or a region: its file and its line.
    fn place(&mut self, site: Site<'_>, live: &mut LiveState) -> Name {
        use std::fmt::Write;
        if site.file.is_empty() {
            return Name::default();
        }
        self.shape.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.shape, "{}:{}", site.file, site.line);
        live.names.name(&self.shape)
    }

    fn happened(&mut self, kind: Kind, name: Name, within: Name, at: Nanos, live: &LiveState) {
        let unit = self.is_whole.then(|| self.units.at(at));
        if let Some(series) = self.thing(kind, name, within, live) {
            series.count(unit, 1.0);
        }
    }

    fn lasted(
        &mut self,
        kind: Kind,
        (name, within): (Name, Name),
        at: Nanos,
        length: Nanos,
        live: &LiveState,
    ) {
        let (unit, is_whole) = (self.units.at(at), self.is_whole);
        let mut dice = std::mem::take(&mut self.dice);
        if let Some(series) = self.thing(kind, name, within, live) {
            series.count(is_whole.then_some(unit), 1.0);
            series.length(unit, length, &mut dice);
        }
        self.dice = dice;
    }

    fn reading(
        &mut self,
        kind: Kind,
        of: &crate::read::SystemReading,
        unit: u32,
        live: &mut LiveState,
    ) {
        let name = live.names.name(of.counter.name());
        let value = match of.counter.is_increase() {
            true if of.time.0 == 0 => return,
            true => of.value as f64 / (of.time.0 as f64 / 1e9),
            false => of.value as f64,
        };
        if let Some(series) = self.thing(kind, name, Name::default(), live) {
            series.level(unit, value);
        }
    }

    /// A sample with a stack.
    fn sample(&mut self, kind: Kind, view: &EventView<'_>, many: f64, stands_for: f64) {
        let Some(stack) = view.event.and_then(|event| event.stack()) else { return };
        let unit = self.is_whole.then(|| self.units.at(view.at));
        let Some(at) = self.stack(Some(stack)) else { return };
        let of = &mut self.stacks[at].1;
        let series = match of.iter().position(|(known, _)| *known == kind) {
            Some(known) => &mut of[known].1,
            None => {
                of.push((kind, Series::default()));
                let last = of.len() - 1;
                &mut of[last].1
            }
        };
        series.count(unit, many);
        series.weight += stands_for;
    }

    /// The number of a stack.
    fn stack(&mut self, stack: Option<crate::read::Stack<'_>>) -> Option<usize> {
        match self.numbers.number(stack, None)? {
            StackNumber::Known(at) => Some(at),
            StackNumber::New(frames) if self.stacks.len() < MOST_STACKS => {
                self.stacks.push((frames, Vec::new()));
                Some(self.stacks.len() - 1)
            }
            StackNumber::New(_) => None,
        }
    }

    /// Where tasks were waiting when the generation ended.
    fn waiting(&mut self, decoded: &DecodedGeneration, unit: u32, live: &mut LiveState) {
        let mut many: Map<(u32, Name), f64> = Map::default();
        let mut of_set: Map<u32, Option<usize>> = Map::default();
        for task in decoded.waiting() {
            self.has_waits = true;
            let stack = || task.places().find_map(|place| place.stack);
            let at = match of_set.get(&task.set) {
                Some(known) => *known,
                None => {
                    let at = self.stack(stack());
                    of_set.insert(task.set, at);
                    at
                }
            };
            if let Some(at) = at {
                *many.entry((at as u32, live.names.name(task.site.name))).or_default() += 1.0;
            }
        }
        for ((stack, task), many) in many {
            if task == Name::OTHER {
                *self.left_out.entry(Kind::Wait).or_default() += 1;
            } else if self.waits.len() < MOST_WAITS {
                self.tasks.entry(task).or_insert_with(|| live.names.text(task).to_owned());
                self.waits.push(Waiting { task, stack, unit, many });
            }
        }
    }

    /// What is kept of a thing; `None` if there is no room for one more.
    fn thing(
        &mut self,
        kind: Kind,
        name: Name,
        within: Name,
        live: &LiveState,
    ) -> Option<&mut Series> {
        // What has lost its name is of several things.
        if name == Name::default() {
            return None;
        }
        // So is what there was no room for, and it may be what the other side has a name for.
        if name == Name::OTHER || within == Name::OTHER {
            *self.left_out.entry(kind).or_default() += 1;
            return None;
        }
        let at = match self.known.get(&(kind, name, within)) {
            Some(known) => *known,
            None => {
                let many = self.many.entry(kind).or_default();
                let has_room = *many < MOST_NAMES;
                *many += usize::from(has_room);
                let at = has_room.then_some(self.things.len() as u32);
                if has_room {
                    let text = |name: Name| match name == Name::default() {
                        true => String::new(),
                        false => live.names.text(name).to_owned(),
                    };
                    let key =
                        Key { kind, name: live.names.text(name).to_owned(), within: text(within) };
                    self.things.push((key, Series::default()));
                }
                if has_room || self.known.len() < 64 * MOST_NAMES {
                    self.known.insert((kind, name, within), at);
                }
                at
            }
        };
        if at.is_none() {
            *self.left_out.entry(kind).or_default() += 1;
        }
        Some(&mut self.things.get_mut(at? as usize)?.1)
    }

    /// Everything is read: adds it to the side.
    fn hand_over(&mut self, side: &mut DiffSide, names: &mut Option<NameFrame<'_>>) {
        let mut dice = std::mem::take(&mut self.dice);
        let about = &mut side.about;
        about.events += self.events;
        about.has_heap |= self.has_heap;
        about.has_waits |= self.has_waits;
        about.has_locks |= self.has_locks;
        side.listings.merge(&self.listings);
        for (kind, many) in self.left_out.drain() {
            *side.left_out.entry(kind).or_default() += many;
        }
        for (key, series) in std::mem::take(&mut self.things) {
            side.put(key, &series, &mut dice);
        }
        let named: Vec<Vec<Function>> =
            self.numbers.frames().iter().map(|frame| functions(frame, names)).collect();
        side.stacks.nameless |= named.iter().flatten().any(|function| !function.is_named);
        for (frames, of) in &self.stacks {
            let list = frames.iter().filter_map(|frame| named.get(*frame as usize)).flatten();
            let list: Option<Vec<u32>> =
                list.map(|function| side.stacks.number(function.clone())).collect();
            let Some(list) = list else { continue };
            for (kind, series) in of {
                if let Some(known) = side.stacks.series(*kind, list.clone()) {
                    known.merge(series, &mut dice);
                }
            }
        }
        // Tasks that wait at one of several stacks of the same place are added up, each generation.
        let mut sums: BTreeMap<(String, Name, u32), f64> = BTreeMap::new();
        for Waiting { task, stack, unit, many } in std::mem::take(&mut self.waits) {
            let frames = self.stacks.get(stack as usize).map_or(&[][..], |(frames, _)| frames);
            let frames = frames.iter().filter_map(|frame| named.get(*frame as usize));
            *sums.entry((waits_at(frames.flatten()), task, unit)).or_default() += many;
        }
        for ((name, task, unit), many) in sums {
            let mut series = Series::default();
            series.level(unit, many);
            let within = self.tasks.get(&task).cloned().unwrap_or_default();
            side.put(Key { kind: Kind::Wait, name, within }, &series, &mut dice);
        }
        side.dice = dice;
    }
}

/// The functions of a frame, or what is known without names.
fn functions(frame: &OwnedFrame, names: &mut Option<NameFrame<'_>>) -> Vec<Function> {
    let frame = frame.frame();
    if frame.left_out().is_some() {
        return Vec::new();
    }
    let named = names.as_mut().map(|names| names(&frame)).unwrap_or_default();
    if !named.is_empty() {
        return named;
    }
    let file = frame.module.map_or("?", |of| of.path.rsplit('/').next().unwrap_or("?"));
    let name = format!("{file}+{:#x}", frame.offset);
    vec![Function { name, place: None, is_own: false, is_named: false }]
}

/// The innermost function of the service's own; where none is known, the innermost few.
fn waits_at<'a>(functions: impl Iterator<Item = &'a Function> + Clone) -> String {
    let own = functions.clone().find(|function| function.is_own);
    match own {
        Some(own) => match &own.place {
            Some(place) => format!("{} ({})", own.name, short_place(place)),
            None => own.name.clone(),
        },
        None => {
            functions.take(4).map(|function| function.name.as_str()).collect::<Vec<_>>().join(" < ")
        }
    }
}

/// A place in a file with an absolute path from its crate on: `shop/src/pay.rs:17`.
fn short_place(place: &str) -> &str {
    if !place.starts_with('/') {
        return place;
    }
    let from = place.rfind("/src/").unwrap_or_else(|| place.rfind('/').unwrap_or_default());
    &place[place[..from].rfind('/').map_or(0, |at| at + 1)..]
}
