//! The first pass over a generation: its definitions, its threads, its counts.
//!
//! A definition may stand in another slot's stream than its use. That costs nothing where a record
//! can be stepped over without knowing what its ids mean; but a typed event's values cannot be told
//! apart without the schema. So a block that meets an unknown schema waits, while other blocks are
//! read, until one of them defines it. A recorder commits a definition before anybody can use it,
//! so there is always a block that can go on. A block that still waits when all others are through
//! is damaged, unless it waits behind the cut: then the schema was defined after its block had been copied, and
//! so was all that comes behind it, of which nothing is needed.

use super::begin::{Begin, Trail, WorkerId};
use super::bytes::{Bytes, Fault, Stop, TextAt};
use super::mention::{Mention, is_timed};
use super::plan::{Plan, Step};
use super::tables::{Field, Tables};
use super::thread::{Thread, Threads};
use super::{EndRecord, Lost};
use crate::file::BlockEntry;
use crate::wire::{Argument, Kind, ThreadNumber, Ticks, ValueType};
use std::collections::{BTreeMap, HashMap};

/// What the first pass finds.
pub(super) struct Survey {
    pub(super) tables: Tables,
    pub(super) threads: Threads,
    /// Tasks and spans at the generation's begin.
    pub(super) begin: Begin,
    /// Whether there is a word of tasks, workers or spans.
    pub(super) has_mentions: bool,
    /// Events that count, of the whole generation and of each block.
    pub(super) events: u64,
    pub(super) block_events: Vec<u32>,
    /// By the statuses in the streams.
    pub(super) lost: Vec<Lost>,
    pub(super) omitted: u64,
    /// Of what.
    pub(super) omissions: Omissions,
    pub(super) end: Option<EndRecord>,
    /// Blocks that cannot be read to their ends, and why. Their ends were moved there.
    pub(super) faults: BTreeMap<u32, Fault>,
    /// The time of each block's last event so far, and what it leaves open.
    ticks: Vec<u64>,
    trails: Vec<Trail>,
    /// What the record that is being read says of tasks, workers and spans.
    mention: Mention,
    /// Later events do not count: the generation is incomplete, and was copied at this instant.
    latest: Ticks,
    /// Threads by name of which only the text's id was known so far.
    unnamed: Vec<(ThreadNumber, u64, TextAt)>,
    /// Names that threads were given.
    names: Vec<(ThreadNumber, TextAt)>,
    /// Names that workers were given.
    worker_names: Vec<(WorkerId, TextAt)>,
}

/// What is left out, as records of it say; else it is a thread with all that is stated of it.
const OMITTED_TASKS: u64 = 2;
const OMITTED_SPANS: u64 = 3;
const OMITTED_FIELDS: u64 = 4;

/// Of what statuses were left out for want of room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Omissions {
    pub(super) threads: bool,
    pub(super) tasks: bool,
    pub(super) spans: bool,
}

/// Reads all blocks once. Shortens those that are damaged, and cuts them at the first event that is
/// later than `latest`.
pub(super) fn survey(
    content: &[u8],
    blocks: &mut [BlockEntry],
    plan: &Plan,
    room: u64,
    latest: Ticks,
) -> Result<Survey, Fault> {
    let mut survey = Survey {
        tables: Tables::new(room),
        threads: Threads::default(),
        begin: Begin::default(),
        has_mentions: false,
        events: 0,
        block_events: vec![0; blocks.len()],
        lost: Vec::new(),
        omitted: 0,
        omissions: Omissions::default(),
        end: None,
        faults: BTreeMap::new(),
        ticks: blocks.iter().map(|block| block.base.0).collect(),
        trails: vec![Trail::default(); blocks.len()],
        mention: Mention::default(),
        latest,
        unnamed: Vec::new(),
        names: Vec::new(),
        worker_names: Vec::new(),
    };
    survey.tables.charge(size_of_val(blocks) + size_of_val(&survey.trails[..]))?;
    let mut waiting: HashMap<u64, Vec<(u32, usize)>> = HashMap::new();
    let mut ready: Vec<(u32, usize)> = Vec::new();
    let mut fresh = 0..blocks.len() as u32;
    loop {
        // Who waited goes on first, so that few wait at a time.
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
            match survey.record(&mut bytes, content, plan, index, block) {
                Ok(None) => {}
                Ok(Some(schema)) => ready.extend(waiting.remove(&schema).unwrap_or_default()),
                Err(Stop::Schema(schema)) => {
                    waiting.entry(schema).or_default().push((index, start));
                    break;
                }
                Err(Stop::Fault(fault)) => {
                    survey.shorten(index, block, start, fault);
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
            survey.shorten(index, block, start, "an event's schema is not defined");
        }
    }
    for (number, os_thread, name) in std::mem::take(&mut survey.unnamed) {
        let name = survey.tables.text(content, name).into();
        survey.threads.add(Thread { number, os_thread, name }, &mut survey.tables)?;
    }
    for (number, name) in std::mem::take(&mut survey.names) {
        let name = survey.tables.text(content, name).into();
        survey.threads.call(number, name, &mut survey.tables)?;
    }
    for (worker, name) in std::mem::take(&mut survey.worker_names) {
        let name = survey.tables.text(content, name);
        survey.begin.workers.call(worker, name);
    }
    let mut trails = std::mem::take(&mut survey.trails);
    let mut rest = &mut trails[..];
    for slot in blocks.chunk_by(|a, b| a.slot == b.slot) {
        let (of_slot, others) = rest.split_at_mut(slot.len());
        survey.begin.follow(of_slot.iter_mut());
        rest = others;
    }
    survey.begin.finish(&survey.tables);
    for block in &*blocks {
        let thread = Thread { number: block.thread, os_thread: 0, name: "".into() };
        survey.threads.add(thread, &mut survey.tables)?;
    }
    Ok(survey)
}

impl Survey {
    /// The time of the last event that counts; nothing if there is none.
    pub(super) fn latest_event(&self) -> Option<Ticks> {
        let of_block = |(ticks, events): (&u64, &u32)| (*events > 0).then_some(Ticks(*ticks));
        self.ticks.iter().zip(&self.block_events).filter_map(of_block).max()
    }

    fn shorten(&mut self, index: u32, block: &mut BlockEntry, at: usize, fault: Fault) {
        block.end = at as u32;
        block.cut = block.cut.min(block.end);
        self.faults.insert(index, fault);
    }

    /// Reads a record. Says so if it defines a schema.
    #[inline]
    fn record(
        &mut self,
        bytes: &mut Bytes<'_>,
        content: &[u8],
        plan: &Plan,
        index: u32,
        block: &mut BlockEntry,
    ) -> Result<Option<u64>, Stop> {
        let start = bytes.at as u32;
        let (kind, longer) = match plan.at(bytes.byte()?) {
            Step::Known(kind) => (kind, None),
            Step::Longer(kind, row) => (kind, Some(row)),
            Step::Foreign(row) => {
                let delta = if plan.is_timed(row) { Some(bytes.number()?) } else { None };
                self.skip(bytes, &plan.row(row).arguments)?;
                if let Some(delta) = delta {
                    self.event(delta, start, index, block);
                }
                return Ok(None);
            }
            Step::Absent => {
                return Err("a record is of a kind that the event table does not have".into());
            }
        };
        if Mention::is_of(kind) {
            self.mention(kind, bytes, content, start, index, block)?;
            if let Some(row) = longer {
                self.skip(bytes, plan.appended(kind, row))?;
            }
            return Ok(None);
        }
        let mut defined = None;
        match kind {
            Kind::RegionBegin | Kind::RegionEndOther => {
                let delta = bytes.number()?;
                bytes.number()?;
                self.event(delta, start, index, block);
            }
            Kind::RegionEnd | Kind::ThreadExit => {
                let delta = bytes.number()?;
                self.event(delta, start, index, block);
                if kind == Kind::ThreadExit && start < block.cut {
                    self.begin.change_tenure(&mut self.trails[index as usize], None);
                }
            }
            Kind::Event => {
                let delta = bytes.number()?;
                let id = bytes.number()?;
                let schema = self.tables.schema(id).ok_or(Stop::Schema(id))?;
                for field in self.tables.fields(schema) {
                    bytes.skip_value(field.kind)?;
                }
                self.event(delta, start, index, block);
            }
            Kind::Log => {
                let delta = bytes.number()?;
                bytes.number()?;
                bytes.number()?;
                bytes.text()?;
                self.event(delta, start, index, block);
            }
            Kind::CounterUnsigned | Kind::CounterSigned => {
                let delta = bytes.number()?;
                bytes.number()?;
                bytes.number()?;
                self.event(delta, start, index, block);
            }
            Kind::CounterFloat => {
                let delta = bytes.number()?;
                bytes.number()?;
                bytes.float()?;
                self.event(delta, start, index, block);
            }
            Kind::ThreadStart => {
                let delta = bytes.number()?;
                self.thread(bytes, content)?;
                self.event(delta, start, index, block);
                if start < block.cut {
                    self.begin.change_tenure(&mut self.trails[index as usize], None);
                }
            }
            Kind::ThreadStatus => {
                self.thread(bytes, content)?;
                self.begin.change_tenure(&mut self.trails[index as usize], None);
            }
            Kind::String => {
                let id = bytes.number()?;
                match bytes.text()? {
                    TextAt::Span(span) => self.tables.add_string(id, span)?,
                    TextAt::Id(_) => return Err("a string refers to another one".into()),
                }
            }
            Kind::Site | Kind::BlockingSite => {
                let id = bytes.number()?;
                let place = (bytes.text()?, bytes.text()?, bytes.number()?);
                if kind == Kind::Site {
                    self.tables.add_site(id, place, None)?;
                } else {
                    self.tables.add_blocking(id, place)?;
                }
            }
            Kind::ThreadName => {
                let delta = bytes.number()?;
                let (number, name) = (ThreadNumber(bytes.number()?), bytes.text()?);
                self.tables.charge(64)?;
                self.names.push((number, name));
                self.event(delta, start, index, block);
            }
            Kind::WorkerName => {
                let worker = WorkerId { runtime: bytes.number()?, worker: bytes.number()? };
                let name = bytes.text()?;
                self.tables.charge(64)?;
                self.worker_names.push((worker, name));
            }
            Kind::Schema => {
                let id = bytes.number()?;
                let place = (bytes.text()?, bytes.text()?, bytes.number()?);
                let mut fields = Vec::new();
                for _ in 0..bytes.number()? {
                    fields.push(Field { kind: bytes.value_type()?, name: bytes.text()? });
                }
                self.tables.add_site(id, place, Some(&fields))?;
                defined = Some(id);
            }
            Kind::Callsite => {
                let id = bytes.number()?;
                let place = (bytes.text()?, bytes.text()?, bytes.number()?);
                let target = (bytes.text()?, bytes.number()?);
                let mut names = Vec::new();
                for _ in 0..bytes.number()? {
                    names.push(Field { kind: ValueType::Text, name: bytes.text()? });
                }
                self.tables.add_callsite(id, place, target, &names)?;
            }
            Kind::RegionStatus => {
                bytes.number()?;
                bytes.number()?;
            }
            Kind::RegionsDeeper => drop(bytes.number()?),
            Kind::Omitted => {
                let (what, count) = (bytes.number()?, bytes.number()?);
                self.omit(what, count);
            }
            Kind::OmittedOf => {
                let (what, _) = (bytes.number()?, bytes.number()?);
                let count = bytes.number()?;
                self.omit(what, count);
            }
            Kind::Lost => {
                let (code, count) = (bytes.number()?, bytes.number()?);
                Lost::add(&mut self.lost, code, count);
            }
            Kind::End => {
                self.end = Some(EndRecord {
                    events: bytes.number()?,
                    bytes: bytes.number()?,
                    blocks: bytes.number()?,
                    lost: Lost::list(&bytes.pairs()?),
                    advances: bytes.pairs()?,
                    waits: bytes.pairs()?,
                    snapshots: bytes.pairs()?,
                });
            }
            // Read above.
            _ => {}
        }
        if let Some(row) = longer {
            self.skip(bytes, plan.appended(kind, row))?;
        }
        Ok(defined)
    }

    /// Reads what is said of tasks, workers and spans.
    fn mention(
        &mut self,
        kind: Kind,
        bytes: &mut Bytes<'_>,
        content: &[u8],
        start: u32,
        index: u32,
        block: &mut BlockEntry,
    ) -> Result<(), Fault> {
        self.has_mentions = true;
        let timed = is_timed(kind);
        let delta = if timed { bytes.number()? } else { 0 };
        self.mention.read(kind, bytes)?;
        if timed {
            self.event(delta, start, index, block);
        }
        if !timed || start < block.cut {
            let trail = &mut self.trails[index as usize];
            self.begin.note(kind, &self.mention, content, block.base, trail, &mut self.tables)?;
        }
        Ok(())
    }

    /// So many statuses were left out.
    fn omit(&mut self, what: u64, count: u64) {
        // The fields of spans are no statuses: each of those says that it has not all of them.
        if what == OMITTED_FIELDS || count == 0 {
            return;
        }
        self.omitted = self.omitted.saturating_add(count);
        match what {
            OMITTED_TASKS => self.omissions.tasks = true,
            OMITTED_SPANS => self.omissions.spans = true,
            _ => self.omissions.threads = true,
        }
    }

    /// An event was read, which began at `start`.
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

    fn skip(&self, bytes: &mut Bytes<'_>, arguments: &[(String, Argument)]) -> Result<(), Stop> {
        let mut id = 0;
        arguments.iter().try_for_each(|(_, kind)| bytes.skip_argument(*kind, &self.tables, &mut id))
    }

    fn thread(&mut self, bytes: &mut Bytes<'_>, content: &[u8]) -> Result<(), Fault> {
        let number = ThreadNumber(bytes.number()?);
        let os_thread = bytes.number()?;
        let name = bytes.text()?;
        if self.tables.span(name).is_none() {
            self.tables.charge(32)?;
            self.unnamed.push((number, os_thread, name));
            return Ok(());
        }
        let name = self.tables.text(content, name).into();
        self.threads.add(Thread { number, os_thread, name }, &mut self.tables)
    }
}
