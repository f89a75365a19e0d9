//! The first pass over a generation: its definitions, its threads, its counts.
//!
//! A definition may be in another slot's stream than its use. That costs nothing where a record can be
//! skipped without knowing what its ids mean. But the values of a typed event cannot be separated without its
//! schema. So a block that meets an unknown schema waits while other blocks are read, until one of them
//! defines it. A recorder commits a definition before any thread can use it, so some block can always
//! continue. A block that still waits when all others are done is damaged, unless it waits behind the cut:
//! then the schema was defined after its block had been copied, and nothing after that point is needed.

use super::bytes::{Bytes, Fault, TextAt};
use super::codec::{Arguments, Stop, is_of_object, is_timed, record, skip, skip_foreign};
use super::contents::EndRecord;
use super::decode_plan::{DecodePlan, Step};
use super::definitions::{Definitions, ListedRange};
use super::lost::Lost;
use super::stacks::{DEFINITION_SIZE, FrameDefinition};
use super::workers::WorkerId;
use crate::file::BlockEntry;
use crate::read::decode::initial_state::{InitialState, Trail};
use crate::read::decode::threads::{Thread, Threads};
use crate::read::heap_totals::{HeapTotals, ListedHeapStack};
use crate::read::system_reading::{RuntimeReading, SystemReading};
use crate::read::thread_times::ThreadTimes;
use crate::wire::{Kind, Nanos, StackSource, SystemCounter, ThreadNumber, Ticks};
use std::collections::{BTreeMap, HashMap};

/// A linker's are 16 or 20 bytes; each frame that is shown has a copy.
const LONGEST_BUILD_ID: usize = 1024;

/// The results of the first pass.
pub(crate) struct FirstPass {
    pub(crate) tables: Definitions,
    pub(crate) threads: Threads,
    /// Tasks and spans at the generation's beginning.
    pub(crate) begin: InitialState,
    /// Whether it mentions any tasks, workers or spans.
    pub(crate) has_objects: bool,
    /// The events that count, of the whole generation and of each block.
    pub(crate) events: u64,
    pub(crate) block_events: Vec<u32>,
    /// According to the statuses in the streams.
    pub(crate) lost: Vec<Lost>,
    pub(crate) omitted: u64,
    /// The statuses that were left out.
    pub(crate) omissions: Omissions,
    pub(crate) end: Option<EndRecord>,
    /// Blocks that cannot be read to their ends, and why. Their ends were moved to that point.
    pub(crate) faults: BTreeMap<u32, Fault>,
    /// The time of each block's last event so far, and what the block leaves open.
    ticks: Vec<u64>,
    trails: Vec<Trail>,
    /// The arguments of the current record about tasks, workers and spans.
    args: Arguments,
    /// Later events do not count: the generation is incomplete, and was copied at this instant.
    latest: Ticks,
    /// Threads for whose names only the text's id is known so far.
    unnamed: Vec<(ThreadNumber, u64, TextAt)>,
    /// Names that threads were given.
    names: Vec<(ThreadNumber, TextAt)>,
    /// Names that workers were given.
    worker_names: Vec<(WorkerId, TextAt)>,
}

/// The codes for what was left out; any other means a thread with all of its statuses.
const OMITTED_TASKS: u64 = 2;
const OMITTED_SPANS: u64 = 3;
const OMITTED_FIELDS: u64 = 4;
const OMITTED_STACKS: u64 = 5;
const OMITTED_SPAWNS: u64 = 6;
const OMITTED_RANGES: u64 = 7;

/// How many statuses were left out for want of room, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Omissions {
    pub(crate) threads: bool,
    pub(crate) tasks: bool,
    pub(crate) spans: bool,
}

/// Reads all blocks once. Shortens damaged ones, and cuts them at the first event that is later than
/// `latest`.
pub(crate) fn first_pass(
    content: &[u8],
    blocks: &mut [BlockEntry],
    plan: &DecodePlan,
    room: u64,
    latest: Ticks,
) -> Result<FirstPass, Fault> {
    let mut first_pass = FirstPass {
        tables: Definitions::new(room),
        threads: Threads::default(),
        begin: InitialState::default(),
        has_objects: false,
        events: 0,
        block_events: vec![0; blocks.len()],
        lost: Vec::new(),
        omitted: 0,
        omissions: Omissions::default(),
        end: None,
        faults: BTreeMap::new(),
        ticks: blocks.iter().map(|block| block.base.0).collect(),
        trails: vec![Trail::default(); blocks.len()],
        args: Arguments::default(),
        latest,
        unnamed: Vec::new(),
        names: Vec::new(),
        worker_names: Vec::new(),
    };
    first_pass.tables.charge(size_of_val(blocks) + size_of_val(&first_pass.trails[..]))?;
    let mut waiting: HashMap<u64, Vec<(u32, usize)>> = HashMap::new();
    let mut ready: Vec<(u32, usize)> = Vec::new();
    let mut fresh = 0..blocks.len() as u32;
    loop {
        // A block that waited continues first, so that few wait at a time.
        let (index, at) = match ready.pop() {
            Some(next) => next,
            None => match fresh.next() {
                Some(index) => (index, blocks[index as usize].start as usize),
                None => break,
            },
        };
        let block = &mut blocks[index as usize];
        let mut bytes = Bytes::new(content, block.start, block.end);
        bytes.at = at;
        loop {
            if bytes.is_at_end() {
                break;
            }
            let start = bytes.at;
            match first_pass.record(&mut bytes, content, plan, index, block) {
                Ok(None) => {}
                Ok(Some(schema)) => ready.extend(waiting.remove(&schema).unwrap_or_default()),
                Err(Stop::Schema(schema)) => {
                    waiting.entry(schema).or_default().push((index, start));
                    break;
                }
                Err(Stop::Fault(fault)) => {
                    first_pass.shorten(index, block, start, fault);
                    break;
                }
            }
        }
    }
    for (index, start) in waiting.into_values().flatten() {
        let block = &mut blocks[index as usize];
        if start as u32 >= block.cut {
            (block.end, block.goes_on) = (start as u32, true);
        } else {
            first_pass.shorten(index, block, start, "an event's schema is not defined");
        }
    }
    for (number, os_thread, name) in std::mem::take(&mut first_pass.unnamed) {
        let name = first_pass.tables.text(content, name).into();
        first_pass.threads.add(Thread { number, os_thread, name }, &mut first_pass.tables)?;
    }
    for (number, name) in std::mem::take(&mut first_pass.names) {
        let name = first_pass.tables.text(content, name).into();
        first_pass.threads.call(number, name, &mut first_pass.tables)?;
    }
    for (worker, name) in std::mem::take(&mut first_pass.worker_names) {
        let name = first_pass.tables.text(content, name);
        first_pass.begin.workers.call(worker, name);
    }
    let mut trails = std::mem::take(&mut first_pass.trails);
    let mut rest = &mut trails[..];
    for slot in blocks.chunk_by(|a, b| a.slot == b.slot) {
        let (of_slot, others) = rest.split_at_mut(slot.len());
        first_pass.begin.follow(of_slot.iter_mut());
        rest = others;
    }
    first_pass.begin.finish(&first_pass.tables);
    for block in &*blocks {
        let thread = Thread { number: block.thread, os_thread: 0, name: "".into() };
        first_pass.threads.add(thread, &mut first_pass.tables)?;
    }
    Ok(first_pass)
}

impl FirstPass {
    /// The time of the last event that counts; `None` if there is none.
    pub(crate) fn latest_event(&self) -> Option<Ticks> {
        let of_block = |(ticks, events): (&u64, &u32)| (*events > 0).then_some(Ticks(*ticks));
        self.ticks.iter().zip(&self.block_events).filter_map(of_block).max()
    }

    fn shorten(&mut self, index: u32, block: &mut BlockEntry, at: usize, fault: Fault) {
        block.end = at as u32;
        block.cut = block.cut.min(block.end);
        self.faults.insert(index, fault);
    }

    /// Reads a record. Returns whether it defines a schema.
    #[inline]
    fn record(
        &mut self,
        bytes: &mut Bytes<'_>,
        content: &[u8],
        plan: &DecodePlan,
        index: u32,
        block: &mut BlockEntry,
    ) -> Result<Option<u64>, Stop> {
        let start = bytes.at as u32;
        let (kind, longer) = match plan.at(bytes.byte()?) {
            Step::Known(kind) => (kind, None),
            Step::Longer(kind, row) => (kind, Some(row)),
            Step::Foreign(row) => {
                let delta = if plan.is_timed(row) { Some(bytes.number()?) } else { None };
                skip_foreign(&plan.row(row).arguments, bytes, &self.tables)?;
                if let Some(delta) = delta {
                    self.event(delta, start, index, block);
                }
                return Ok(None);
            }
            Step::Absent => {
                return Err("a record is of a kind that the event table does not have".into());
            }
        };
        let delta = if is_timed(kind) { Some(bytes.number()?) } else { None };
        let mut defined = None;
        let is_of_object = is_of_object(kind);
        if is_of_object {
            self.args.read(kind, bytes, &self.tables)?;
        } else {
            match kind {
                Kind::ThreadStart | Kind::ThreadStatus => self.thread(bytes, content)?,
                _ if delta.is_some() && kind != Kind::ThreadName => {
                    skip(kind, bytes, &self.tables)?;
                }
                Kind::RangeStatus => {
                    let record::RangeStatus { range, site, ago } =
                        record::RangeStatus::read(bytes)?;
                    self.tables.charge(size_of::<ListedRange>())?;
                    let began = Ticks(block.base.0.saturating_sub(ago));
                    self.tables.ranges.push(ListedRange { range, site, began });
                }
                _ => defined = self.definition(kind, bytes, content)?,
            }
        }
        if let Some(delta) = delta {
            self.event(delta, start, index, block);
        }
        if delta.is_none() || start < block.cut {
            if is_of_object {
                self.has_objects = true;
                let trail = &mut self.trails[index as usize];
                self.begin.note(kind, &self.args, content, block.base, trail, &mut self.tables)?;
            } else if matches!(kind, Kind::ThreadStart | Kind::ThreadStatus | Kind::ThreadExit) {
                self.begin.change_tenure(&mut self.trails[index as usize], None);
            }
        }
        if let Some(row) = longer {
            skip_foreign(plan.appended(kind, row), bytes, &self.tables)?;
        }
        Ok(defined)
    }

    /// Reads a definition, or another record that concerns the whole generation. Returns the id of a schema.
    fn definition(
        &mut self,
        kind: Kind,
        bytes: &mut Bytes<'_>,
        content: &[u8],
    ) -> Result<Option<u64>, Stop> {
        match kind {
            Kind::String => {
                let record::String { id, text } = record::String::read(bytes)?;
                match text {
                    TextAt::Span(span) => self.tables.add_string(id, span)?,
                    TextAt::Id(_) => return Err("a string refers to another one".into()),
                }
            }
            Kind::Site => {
                let record::Site { id, name, file, line } = record::Site::read(bytes)?;
                self.tables.add_site(id, (name, file, line), None)?;
            }
            Kind::BlockingSite => {
                let read = record::BlockingSite::read(bytes)?;
                self.tables.add_blocking(read.id, (read.name, read.file, read.line))?;
            }
            Kind::Schema => {
                let record::Schema { id, name, file, line, fields } = record::Schema::read(bytes)?;
                self.tables.add_site(id, (name, file, line), Some(&fields))?;
                return Ok(Some(id));
            }
            Kind::Callsite => {
                let read = record::Callsite::read(bytes)?;
                let place = (read.name, read.file, read.line);
                let target = (read.target, read.level);
                self.tables.add_callsite(read.id, place, target, &read.fields)?;
            }
            Kind::ThreadName => {
                let record::ThreadName { thread, name } = record::ThreadName::read(bytes)?;
                self.tables.charge(64)?;
                self.names.push((ThreadNumber(thread), name));
            }
            Kind::WorkerName => {
                let record::WorkerName { runtime, worker, name } = record::WorkerName::read(bytes)?;
                self.tables.charge(64)?;
                self.worker_names.push((WorkerId { runtime, worker }, name));
            }
            Kind::Module => {
                let record::Module { id, path, build_id } = record::Module::read(bytes)?;
                if build_id.1 - build_id.0 > LONGEST_BUILD_ID {
                    return Err("the build id of a file is too long".into());
                }
                self.tables.charge(DEFINITION_SIZE)?;
                self.tables.stacks.add_module(id, path, build_id);
            }
            Kind::Frame => {
                let record::Frame { id, caller, module, offset } = record::Frame::read(bytes)?;
                self.tables.charge(DEFINITION_SIZE)?;
                self.tables.stacks.add_frame(id, FrameDefinition { caller, module, offset });
            }
            Kind::ThreadTimes => {
                let record::ThreadTimes { thread, time, ran, waited, slices } =
                    record::ThreadTimes::read(bytes)?;
                self.tables.charge(size_of::<ThreadTimes>())?;
                let (time, ran, waited) = (Nanos(time), Nanos(ran), Nanos(waited));
                let thread = ThreadNumber(thread);
                self.tables.thread_times.push(ThreadTimes { thread, time, ran, waited, slices });
            }
            Kind::HeapTotals => {
                let read = record::HeapTotals::read(bytes)?;
                self.tables.heap.totals = Some(HeapTotals {
                    time: Nanos(read.time),
                    allocated: read.allocated,
                    allocations: read.allocations,
                    freed: read.freed,
                    frees: read.frees,
                    live: read.live,
                    live_objects: read.live_objects,
                    peak: read.peak,
                });
            }
            Kind::HeapStack => {
                let record::HeapStack { stack, source, samples, objects, bytes, age } =
                    record::HeapStack::read(bytes)?;
                self.tables.charge(size_of::<ListedHeapStack>())?;
                let source = StackSource::from_code(source);
                let listed = ListedHeapStack { stack, source, samples, objects, bytes, age };
                self.tables.heap.stacks.push(listed);
            }
            Kind::HeapStacksOmitted => {
                let record::HeapStacksOmitted { samples, bytes } =
                    record::HeapStacksOmitted::read(bytes)?;
                self.tables.heap.omitted = Some((samples, bytes));
            }
            Kind::SystemCounters => {
                let record::SystemCounters { time, counters } =
                    record::SystemCounters::read(bytes)?;
                self.tables.charge(size_of::<SystemReading>() * counters.len())?;
                // A later version may have others.
                let known = counters.into_iter().filter_map(|(code, value)| {
                    let counter = SystemCounter::from_code(code)?;
                    Some(SystemReading { counter, value, time: Nanos(time) })
                });
                self.tables.system.extend(known);
            }
            Kind::RuntimeCounters => {
                let record::RuntimeCounters { runtime, time, counters } =
                    record::RuntimeCounters::read(bytes)?;
                self.tables.charge(size_of::<RuntimeReading>() * counters.len())?;
                let known = counters.into_iter().filter_map(|(code, value)| {
                    let counter = SystemCounter::from_code(code)?;
                    let reading = SystemReading { counter, value, time: Nanos(time) };
                    Some(RuntimeReading { runtime, reading })
                });
                self.tables.runtimes.extend(known);
            }
            Kind::TaskSize => {
                let record::TaskSize { site, size } = record::TaskSize::read(bytes)?;
                self.tables.charge(size_of::<(u64, u64)>())?;
                self.tables.task_sizes.push((site, size));
            }
            Kind::TaskStackList => {
                let record::TaskStackList { tasks: (start, end) } =
                    record::TaskStackList::read(bytes)?;
                let list = &content[start..end];
                let size = self.tables.stacks.add_waiting(list, self.tables.room())?;
                self.tables.charge(size)?;
            }
            Kind::TaskSpawnList => {
                let record::TaskSpawnList { tasks: (start, end) } =
                    record::TaskSpawnList::read(bytes)?;
                let list = &content[start..end];
                let size = self.tables.stacks.add_spawned(list, self.tables.room())?;
                self.tables.charge(size)?;
            }
            Kind::Omitted => {
                let record::Omitted { what, count } = record::Omitted::read(bytes)?;
                self.omit(what, count);
            }
            Kind::OmittedOf => {
                let record::OmittedOf { what, count, .. } = record::OmittedOf::read(bytes)?;
                self.omit(what, count);
            }
            Kind::Lost => {
                let record::Lost { cause, count } = record::Lost::read(bytes)?;
                Lost::add(&mut self.lost, cause, count);
            }
            Kind::End => {
                let end = record::End::read(bytes)?;
                self.end = Some(EndRecord {
                    events: end.events,
                    bytes: end.bytes,
                    blocks: end.blocks,
                    lost: Lost::list(&end.lost),
                    advances: end.advances,
                    waits: end.waits,
                    snapshots: end.snapshots,
                });
            }
            _ => skip(kind, bytes, &self.tables)?,
        }
        Ok(None)
    }

    /// This many statuses were left out.
    fn omit(&mut self, what: u64, count: u64) {
        if what == OMITTED_STACKS {
            let omitted = &mut self.tables.stacks.omitted;
            *omitted = omitted.saturating_add(count);
        }
        // Fields of spans are no statuses: each of those says itself that fields are missing. Nor are stacks and ranges.
        let is_none =
            [OMITTED_FIELDS, OMITTED_STACKS, OMITTED_SPAWNS, OMITTED_RANGES].contains(&what);
        if is_none || count == 0 {
            return;
        }
        self.omitted = self.omitted.saturating_add(count);
        match what {
            OMITTED_TASKS => self.omissions.tasks = true,
            OMITTED_SPANS => self.omissions.spans = true,
            _ => self.omissions.threads = true,
        }
    }

    /// Counts an event, which began at `start`.
    #[inline]
    fn event(&mut self, delta: u64, start: u32, index: u32, block: &mut BlockEntry) {
        let ticks = &mut self.ticks[index as usize];
        *ticks = ticks.wrapping_add(delta);
        if *ticks > self.latest.0 {
            block.cut = block.cut.min(start);
        }
        let counts = start < block.cut;
        self.events += u64::from(counts);
        self.block_events[index as usize] += u32::from(counts);
    }

    fn thread(&mut self, bytes: &mut Bytes<'_>, content: &[u8]) -> Result<(), Fault> {
        // A thread's start has the same arguments as its status.
        let record::ThreadStatus { thread, os_thread, name } = record::ThreadStatus::read(bytes)?;
        let number = ThreadNumber(thread);
        if self.tables.span(name).is_none() {
            self.tables.charge(32)?;
            self.unnamed.push((number, os_thread, name));
            return Ok(());
        }
        let name = self.tables.text(content, name).into();
        self.threads.add(Thread { number, os_thread, name }, &mut self.tables)
    }
}
