//! Checks a file against the format: every rule, including those that a reader does not depend on.
//!
//! Complete generations are checked alone, with nothing carried over, because that is what completeness
//! means. A recorded loss excuses what follows from it, and nothing else.

mod join;
mod report;
mod spans;
mod tasks;
mod threads;
mod workers;

pub use report::Violation;

use super::decode::bytes::Bytes;
use super::decode::carried::Carry;
use super::decode::codec::is_of_object;
use super::decode::contents::Contents;
use super::decode::definitions::NO_SITE;
use super::decode::first_pass::Omissions;
use super::decode::stacks::WaitingAt;
use super::decode::stream::{Raw, Record, Stream};
use super::decode::thread_states::ThreadStatesBuilder;
use super::decode::threads::NO_THREAD;
use super::replay::Subject;
use super::replay::merge::Merge;
use super::{DecodedGeneration, Stack, Trace};
use crate::wire::{Generation, Kind, ListedStack, Nanos, SpanId, TaskId};
use report::Report;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Events farther than this outside their generation's clock records have an absurd time. A process may be
/// stopped for a while after it reads the clock and before it is seen to have left.
const MAX_STRAY: Nanos = Nanos(60_000_000_000);

/// Checks a file. Returns nothing if it is sound. If there are very many violations, the last one says how
/// many more there are.
///
/// ```
/// # fn check(trace: &lookback_snapshot::Trace) {
/// for violation in lookback_snapshot::validate(trace) {
///     eprintln!("{violation}");
/// }
/// # }
/// ```
#[must_use]
pub fn validate(trace: &Trace) -> Vec<Violation> {
    validate_with(trace, |_, _| {})
}

/// Like [`validate`], with progress: before each generation, calls back with how many were checked, and of
/// how many.
#[must_use]
pub fn validate_with(trace: &Trace, mut progress: impl FnMut(usize, usize)) -> Vec<Violation> {
    let mut report = Report::new(Arc::from(trace.file()));
    for damage in trace.damage() {
        report.damage(damage);
    }
    let untold = untold(trace);
    let mut before: Option<Before> = None;
    let mut last = Generation(0);
    let count = trace.spots().count();
    for (index, frame) in trace.spots().enumerate() {
        progress(index, count);
        let Ok(spot) = frame else {
            // Already reported as damage of the file.
            before = None;
            continue;
        };
        let adjacent = before.take_if(|before| before.number.next() != spot.number);
        drop(adjacent);
        let carry = before.as_ref().map(|before| &before.carry);
        let contents = match trace.contents(spot, carry) {
            Ok(mut contents) => {
                let untold = untold.get(&spot.number).copied().unwrap_or_default();
                contents.unplaced = contents.unplaced.max(untold);
                contents
            }
            Err(error) => {
                report.damage(&error);
                before = None;
                continue;
            }
        };
        let mut check = Check { of: &contents, report: &mut report, lost: false };
        if spot.number <= last {
            check.say(format!("comes after generation {last}"));
        }
        last = spot.number;
        before = Some(check.run(before.take()));
    }
    report.finish()
}

/// How many events may have been lost in each generation without an end record that its streams do not
/// report: the next end record does, or the file's metadata.
fn untold(trace: &Trace) -> HashMap<Generation, u64> {
    let (mut untold, mut sum) = (HashMap::new(), 0_u64);
    for info in trace.generations().iter().rev() {
        if info.complete {
            sum = 0;
        }
        sum = info.lost.iter().fold(sum, |sum, lost| sum.saturating_add(lost.count));
        if !info.complete && sum > 0 {
            untold.insert(info.number, sum);
        }
    }
    untold
}

impl DecodedGeneration {
    /// Checks this generation alone.
    #[must_use]
    pub fn validate(&self) -> Vec<Violation> {
        let of = &*self.contents;
        let mut report = Report::new(Arc::clone(&of.file));
        Check { of, report: &mut report, lost: false }.run(None);
        report.finish()
    }
}

/// What a generation leaves for checking the next one.
struct Before {
    number: Generation,
    complete: bool,
    lost: bool,
    omissions: Omissions,
    carry: Carry,
    /// The number of each slot's next event.
    numbers: HashMap<u32, u64>,
}

struct Check<'a> {
    of: &'a Contents,
    report: &'a mut Report,
    /// Whether anything was lost, which excuses whatever is missing.
    lost: bool,
}

impl Check<'_> {
    fn say(&mut self, what: impl Into<String>) {
        let spot = &self.of.spot;
        self.report.add(spot.offset, Some(spot.number), || what.into());
    }

    /// Reports a violation at a position in a block's records.
    fn say_at(&mut self, block: u32, at: u32, what: &str) {
        let header = &self.of.blocks[block as usize];
        let (slot, sequence, position) =
            (header.slot, header.sequence, at.saturating_sub(header.start));
        let spot = &self.of.spot;
        self.report.add(spot.offset, Some(spot.number), || {
            format!("slot {slot}, block {sequence}, byte {position}: {what}")
        });
    }

    fn run(mut self, mut before: Option<Before>) -> Before {
        let of = self.of;
        let complete = of.info.complete;
        self.lost = !of.info.lost.is_empty() || !of.faults.is_empty() || of.unplaced > 0;
        for (block, what) in &of.faults {
            self.say_at(*block, of.blocks[*block as usize].end, what);
        }
        self.clocks();
        self.end_record();
        if let Some(what) = of.tables.dangling() {
            self.say(what);
        }
        self.waiting();
        let helped = !of.is_alone;
        // Slots and workers that once existed are kept, and passed on instead of copied each time.
        let mut numbers =
            before.as_mut().map(|b| std::mem::take(&mut b.numbers)).unwrap_or_default();
        let mut walker = ThreadStatesBuilder::default();
        for blocks in of.slots() {
            self.slot(blocks, helped, &mut numbers, &mut walker);
        }
        of.set_thread_states(walker.finish(of));
        if let Some(before) = before.as_ref().filter(|before| before.complete && complete) {
            self.statuses(before);
        }
        let order = self.order();
        let mut carry = Carry::of(of, &order);
        let here = std::mem::take(&mut carry.tenures);
        carry.tenures = before.map(|before| before.carry.tenures).unwrap_or_default();
        for (worker, tenure) in here {
            let known = carry.tenures.entry(worker).or_default();
            *known = tenure.max(*known);
        }
        let (number, lost, omissions) = (of.spot.number, self.lost, of.omissions);
        Before { number, complete, lost, omissions, carry, numbers }
    }

    /// Where tasks wait: the stacks must be defined, and the tasks mentioned. A generation that is cut may list tasks that
    /// began after the cut.
    fn waiting(&mut self) {
        let of = self.of;
        let stacks = &of.tables.stacks;
        let is_undefined = |listed: &ListedStack| {
            let stack = Stack::new(of, u64::from(listed.stack));
            stack.and_then(|stack| stack.root()).is_none()
        };
        if stacks.sets.iter().flatten().any(is_undefined) {
            self.say("the stack at which a task waits, or was spawned, is not defined");
        }
        let is_unknown = |at: &&WaitingAt| of.begin.site_of(at.task).is_none();
        if of.info.complete
            && !self.lost
            && !of.omissions.tasks
            && let Some(WaitingAt { task, .. }) = stacks.waiting.iter().find(is_unknown)
        {
            self.say(format!("task {task} is said to wait, and no record mentions it"));
        }
    }

    fn clocks(&mut self) {
        let (began, ended) = (&self.of.began, &self.of.ended);
        if ended.ticks < began.ticks || ended.monotonic < began.monotonic {
            self.say("it ends before it begins");
        }
        if began.frequency == 0 {
            self.say("its clock stands still");
        }
    }

    fn end_record(&mut self) {
        let of = self.of;
        match &of.end {
            None if of.info.complete => self.say("complete, but without an end record"),
            // A generation that was copied while it ended need not have all of its events.
            Some(end) if of.info.complete && end.events != of.info.events => {
                let (said, are) = (end.events, of.info.events);
                self.say(format!("the end record says {said} events, and there are {are}"));
            }
            _ => {}
        }
        let entry = of.spot.entry.filter(|_| of.info.complete && of.faults.is_empty());
        if let Some(entry) = entry.filter(|entry| entry.events != of.info.events) {
            let (said, are) = (entry.events, of.info.events);
            self.say(format!("the index says {said} events, and there are {are}"));
        }
    }

    fn slot(
        &mut self,
        blocks: Range<u32>,
        helped: bool,
        numbers: &mut HashMap<u32, u64>,
        walker: &mut ThreadStatesBuilder,
    ) {
        let of = self.of;
        let slot = of.blocks[blocks.start as usize].slot;
        let mut stream = Stream::new(blocks);
        let mut place =
            CheckedSlot { number: numbers.get(&slot).copied(), ..CheckedSlot::default() };
        walker.begin_slot(slot);
        while let Some(record) = stream.next(of) {
            walker.record(record, &stream, of);
            match record {
                Record::Block => self.block(stream.block(), &mut place),
                Record::Lost => {
                    let count = stream.args.number;
                    place.lost_in_slot = true;
                    if place.events_in_block {
                        place.number = place.number.map(|number| number.saturating_add(count));
                    } else {
                        place.lost_here = place.lost_here.saturating_add(count);
                    }
                }
                Record::Region if stream.stated.site == NO_SITE => {
                    self.say_at(place.block, place.at, "an open region's site is not defined");
                }
                Record::Event => {
                    let event = stream.event;
                    self.first_event(&mut place);
                    place.events_in_block = true;
                    place.at = event.at;
                    self.event(&event, slot, &place);
                    let is_end =
                        matches!(event.kind(), Some(Kind::RegionEnd | Kind::RegionEndOther));
                    let ended_nothing = is_end && stream.ended_nothing;
                    if ended_nothing && !place.lost_in_slot && helped {
                        self.say_at(event.block, event.at, "a region ends, and none was open");
                    }
                }
                Record::Fault => place.lost_in_slot = true,
                Record::Thread | Record::Region | Record::Deeper | Record::Status(_) => {}
            }
        }
        walker.end_slot(&stream, of);
        self.first_event(&mut place);
        if let Some(number) = place.number {
            numbers.insert(slot, number);
        }
    }

    /// A block begins: checks that it is the expected one.
    fn block(&mut self, block: u32, place: &mut CheckedSlot) {
        self.first_event(place);
        let header = &self.of.blocks[block as usize];
        let complete = self.of.info.complete;
        if complete && header.sequence != place.next_sequence {
            let missing = header.sequence.wrapping_sub(place.next_sequence);
            self.say_at(block, header.start, &format!("{missing} blocks before it are missing"));
            place.number = None;
            place.lost_in_slot = true;
        }
        let counted = self.of.block_events[block as usize];
        let whole = !header.is_cut() && !self.of.faults.contains_key(&block);
        if place.cut && counted > 0 {
            self.say_at(block, header.start, "it has events, and a block before it is cut");
        }
        place.cut |= header.is_cut() && counted < header.events;
        if whole && counted != header.events {
            let what = format!("the block says {} events, and there are {counted}", header.events);
            self.say_at(block, header.start, &what);
        }
        let stray = self.stray(of_ticks(self.of, header.base));
        if stray {
            self.say_at(block, header.start, "the block's time is far outside of the generation");
        }
        place.expected = place.number;
        let numbered = if whole { counted } else { header.events };
        place.number = Some(header.first_event.saturating_add(u64::from(numbered)));
        place.next_sequence = header.sequence.wrapping_add(1);
        (place.block, place.at) = (block, header.start);
        // A block in which nothing counts was opened after the cut; blocks that were copied before may have
        // been continued since.
        let counts = !(header.is_cut() && header.cut == header.start);
        (place.pending, place.events_in_block, place.lost_here) = (counts, false, 0);
    }

    /// The statuses at the front of a block have ended: checks that the gap in the numbers is what was lost.
    fn first_event(&mut self, place: &mut CheckedSlot) {
        if !std::mem::take(&mut place.pending) {
            return;
        }
        let header = &self.of.blocks[place.block as usize];
        if let Some(expected) = place.expected
            && header.first_event != expected.saturating_add(place.lost_here)
        {
            let (first, lost) = (header.first_event, place.lost_here);
            let what = format!(
                "its first event has number {first}; {expected} was to come, and {lost} are said \
                 to be lost"
            );
            self.say_at(place.block, header.start, &what);
        }
    }

    fn event(&mut self, event: &Raw, slot: u32, place: &CheckedSlot) {
        let of = self.of;
        if slot == 0 {
            self.say_at(event.block, event.at, "an event in the collector's slot");
        } else if event.thread == NO_THREAD && !place.lost_in_slot {
            self.say_at(event.block, event.at, "an event on no thread");
        }
        if self.stray(of_ticks(of, event.ticks)) {
            self.say_at(event.block, event.at, "its time is far outside of the generation");
        }
        let Some(kind) = event.kind() else { return };
        let needs_site = match kind {
            Kind::ThreadStart
            | Kind::ThreadExit
            | Kind::ThreadName
            | Kind::ThreadStack
            | Kind::CpuSample
            | Kind::ThreadStands
            | Kind::AllocationSample
            | Kind::RegionEnd
            | Kind::RegionEndOther => false,
            Kind::TaskCreate
            | Kind::SpanCreate
            | Kind::SpanCreateIn
            | Kind::SpanCreateUnder
            | Kind::SpanRecord
            | Kind::LogFields
            | Kind::LogIn => true,
            kind => !is_of_object(kind),
        };
        if matches!(
            kind,
            Kind::ThreadStack
                | Kind::CpuSample
                | Kind::ThreadStands
                | Kind::AllocationSample
                | Kind::Contention
        ) {
            let end = of.blocks[event.block as usize].end;
            let mut bytes = Bytes::new(&of.content, event.at, end);
            if !matches!(kind, Kind::AllocationSample | Kind::Contention) {
                let _thread = bytes.number();
            }
            let stack = bytes.number().unwrap_or_default();
            if stack != 0 && Stack::new(of, stack).and_then(|stack| stack.root()).is_none() {
                self.say_at(event.block, event.at, "its stack is not defined");
            }
        }
        if needs_site && event.site == NO_SITE {
            self.say_at(event.block, event.at, "its site is not defined");
        }
        if matches!(kind, Kind::RangeBegin | Kind::RangeEnd) {
            let end = of.blocks[event.block as usize].end;
            if Bytes::new(&of.content, event.at, end).number() == Ok(0) {
                self.say_at(event.block, event.at, "a range has no number");
            }
        }
        if of.has_unknown_text(event) {
            self.say_at(event.block, event.at, "it refers to a string that is not defined");
        }
    }

    fn stray(&self, time: Nanos) -> bool {
        let (began, ended) = (self.of.began.monotonic.0, self.of.ended.monotonic.0);
        time.0 < began.saturating_sub(MAX_STRAY.0) || time.0 > ended.saturating_add(MAX_STRAY.0)
    }

    /// Checks that the generation's statement of its beginning matches what the previous one left.
    fn statuses(&mut self, before: &Before) {
        let of = self.of;
        if before.lost || self.lost {
            return;
        }
        let (left, said) = (&before.carry, Carry::at_begin(of));
        let omitted = Omissions {
            threads: of.omissions.threads || before.omissions.threads,
            tasks: of.omissions.tasks || before.omissions.tasks,
            spans: of.omissions.spans || before.omissions.spans,
        };
        if !omitted.threads {
            self.threads(left, &said, before.number);
        }
        self.workers(left, &said, before.number);
        if !omitted.tasks {
            self.tasks(left, &said, before.number);
        }
        if !omitted.spans {
            self.spans(left, &said, before.number);
        }
    }

    /// Takes all events in order, and reports those that are impossible.
    fn order(&mut self) -> Merge {
        let of = self.of;
        let order = Merge::finished(of);
        for wrong in order.inconsistencies() {
            let what = match wrong.what {
                Subject::Task(task, what) if task == TaskId::NONE => what.to_string(),
                Subject::Task(task, what) => format!("task {task}: {what}"),
                Subject::Span(span, what) if span == SpanId::NONE => what.to_string(),
                Subject::Span(span, what) => format!("span {span}: {what}"),
                Subject::Worker(worker, what) => match of.begin.workers.get(worker) {
                    Some(worker) => format!("worker {worker}: {what}"),
                    None => what.to_string(),
                },
            };
            self.say_at(wrong.block, wrong.at, &what);
        }
        if let Some(task) = of.begin.twice {
            self.say(format!("task {task} is listed as not mentioned, and it is mentioned"));
        }
        if let Some(task) = of.begin.succeeds.filter(|_| !self.lost) {
            self.say(format!("task {task} is listed as not mentioned, and its place is another's"));
        }
        if let Some(span) = of.begin.differs {
            self.say(format!("span {span} has two statuses that differ"));
        }
        order
    }
}

fn of_ticks(of: &Contents, ticks: crate::wire::Ticks) -> Nanos {
    of.timeline.at(ticks)
}

/// The check's position in a slot's stream.
#[derive(Default)]
struct CheckedSlot {
    block: u32,
    at: u32,
    next_sequence: u32,
    /// The number of the slot's next event, as far as it is known.
    number: Option<u64>,
    /// What that number should be at the block's front.
    expected: Option<u64>,
    /// Whether the block's front is still being read.
    pending: bool,
    events_in_block: bool,
    /// The losses that the block's front states.
    lost_here: u64,
    lost_in_slot: bool,
    /// Whether events of this slot lie behind a cut.
    cut: bool,
}
