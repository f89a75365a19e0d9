//! The second pass: the records of one slot, block by block.

use super::begin::NO_WORKER;
use super::bytes::{Bytes, Fault};
use super::generation::Contents;
use super::mention::{Mention, is_timed};
use super::plan::Step;
use super::regions::{Ended, Open, Regions};
use super::tables::NO_SITE;
use super::thread::NO_THREAD;
use crate::wire::{Kind, SpanId, TaskId, ThreadNumber, Ticks};
use std::ops::Range;

/// An event as it stands in a generation's content: where, and what is known of it besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    pub(super) ticks: Ticks,
    /// Of a region's end: when it began. Of the begin and the end of a poll: its sequence number. Of
    /// what else names a task or a span: which.
    pub(super) extra: u64,
    /// The innermost task and span of the thread.
    pub(super) task: TaskId,
    pub(super) span: SpanId,
    /// Where its arguments begin, behind the delta.
    pub(super) at: u32,
    /// Whose it is, among the generation's threads.
    pub(super) thread: u32,
    /// Its site or schema, among the generation's sites; of an unknown kind, its row.
    pub(super) site: u32,
    pub(super) block: u32,
    /// The worker that the thread is, among the generation's.
    pub(super) worker: u16,
    /// The code of its kind, 0 if this version does not know it. A plain number, so that an event
    /// is moved as a whole.
    code: u8,
}

impl Raw {
    const NONE: Self = Self {
        ticks: Ticks(0),
        extra: 0,
        task: NO_TASK,
        span: NO_SPAN,
        at: 0,
        thread: NO_THREAD,
        site: NO_SITE,
        block: 0,
        worker: NO_WORKER,
        code: 0,
    };

    #[inline]
    pub(super) fn code(&self) -> u8 {
        self.code
    }

    /// Its kind, unless this version does not know it.
    #[inline]
    pub(super) fn kind(&self) -> Option<Kind> {
        Kind::from_code(self.code)
    }
}

/// No task, or one that is not known.
pub(super) const NO_TASK: TaskId = TaskId { index: 0, incarnation: 0 };
/// No span, or one that is not known.
pub(super) const NO_SPAN: SpanId = SpanId { index: 0, incarnation: 0 };

/// A record that says more than its place in the tables.
#[derive(Clone, Copy, Debug)]
pub(super) enum Record {
    /// A block begins.
    Block(u32),
    /// An event: [`Stream::event`].
    Event,
    /// The thread of the records to come.
    Thread(u32),
    /// A region that is open on it.
    Region(Open),
    Deeper(u64),
    Lost(u64),
    /// A status of a task, a worker or a span.
    Status(Kind),
    /// The rest of this block cannot be read.
    Fault(u32, Fault),
}

/// See the module.
pub(super) struct Stream {
    blocks: Range<u32>,
    block: u32,
    /// Where in the content the next record begins, and where the block ends.
    at: usize,
    end: u32,
    ticks: u64,
    thread: u32,
    regions: Regions,
    /// The last event that was read. It is written where it stays: events are copied once. What it
    /// happened inside of is put there by who takes the events in order.
    pub(super) event: Raw,
    /// What that one, or the status read last, says of tasks, workers and spans.
    pub(super) mention: Mention,
    /// Whether the last end of a region ended nothing: for checks.
    pub(super) ended_nothing: bool,
}

impl Stream {
    /// The stream of the slot whose blocks these are.
    pub(super) fn new(blocks: Range<u32>) -> Self {
        Self {
            blocks,
            block: 0,
            at: 0,
            end: 0,
            ticks: 0,
            thread: NO_THREAD,
            regions: Regions::default(),
            event: Raw::NONE,
            mention: Mention::default(),
            ended_nothing: false,
        }
    }

    /// Whose the records are.
    pub(super) fn thread(&self) -> u32 {
        self.thread
    }

    /// Behind the record that was read last: the block, and where in the content.
    pub(super) fn here(&self) -> (u32, u32) {
        (self.block, self.at as u32)
    }

    /// What is open on it.
    pub(super) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The next record that is no definition.
    #[inline(always)]
    pub(super) fn next(&mut self, of: &Contents) -> Option<Record> {
        loop {
            if self.at >= self.end as usize {
                return self.next_block(of);
            }
            let mut bytes = Bytes::new(&of.content, self.at as u32, self.end);
            // The first pass has read every record, so none of them fails here.
            let record = self.record(&mut bytes, of);
            self.at = bytes.at;
            match record {
                Ok(Some(record)) => return Some(record),
                Ok(None) => {}
                Err(fault) => {
                    self.at = self.end as usize;
                    return Some(Record::Fault(self.block, fault));
                }
            }
        }
    }

    #[cold]
    fn next_block(&mut self, of: &Contents) -> Option<Record> {
        // Told when the block is through: what could be read of it comes first.
        if self.end != 0
            && let Some(&fault) = of.faults.get(&self.block)
        {
            self.end = 0;
            self.at = 0;
            return Some(Record::Fault(self.block, fault));
        }
        let index = self.blocks.next()?;
        let block = &of.blocks[index as usize];
        (self.block, self.at, self.end) = (index, block.start as usize, block.end);
        self.ticks = block.base.0;
        let thread = of.threads.index(block.thread);
        // The collector's blocks belong to no thread: what they state goes on in the next one.
        if thread != self.thread && thread != NO_THREAD {
            self.switch_to(thread);
            if let Some(carried) = of.carried.get(&thread) {
                self.regions = carried.regions.clone();
            }
        }
        Some(Record::Block(index))
    }

    fn switch_to(&mut self, thread: u32) {
        self.thread = thread;
        self.regions.clear();
    }

    #[inline]
    fn record(&mut self, bytes: &mut Bytes<'_>, of: &Contents) -> Result<Option<Record>, Fault> {
        let block = &of.blocks[self.block as usize];
        let counts = (bytes.at as u32) < block.cut;
        let (kind, longer) = match of.plan.at(bytes.byte()?) {
            Step::Known(kind) => (kind, None),
            Step::Longer(kind, row) => (kind, Some(row)),
            Step::Foreign(row) => return self.foreign(row, bytes, counts, of),
            Step::Absent => return Err("a record is of a kind that is not in the event table"),
        };
        if Mention::is_of(kind) {
            let record = self.mention(kind, bytes, counts, of)?;
            if let Some(row) = longer {
                Self::skip(of.plan.appended(kind, row), bytes, of)?;
            }
            return Ok(record);
        }
        let record = match kind {
            Kind::ThreadStart
            | Kind::ThreadExit
            | Kind::ThreadName
            | Kind::RegionBegin
            | Kind::RegionEnd
            | Kind::RegionEndOther
            | Kind::Log
            | Kind::Event
            | Kind::CounterUnsigned
            | Kind::CounterSigned
            | Kind::CounterFloat => {
                let delta = bytes.number()?;
                self.read_event(kind, delta, bytes, counts, of)?;
                counts.then_some(Record::Event)
            }
            Kind::String => {
                bytes.number()?;
                bytes.text()?;
                None
            }
            Kind::WorkerName => {
                bytes.number()?;
                bytes.number()?;
                bytes.text()?;
                None
            }
            Kind::Site | Kind::BlockingSite | Kind::Schema => {
                bytes.number()?;
                bytes.text()?;
                bytes.text()?;
                bytes.number()?;
                if kind == Kind::Schema {
                    for _ in 0..bytes.number()? {
                        bytes.value_type()?;
                        bytes.text()?;
                    }
                }
                None
            }
            Kind::Callsite => {
                bytes.number()?;
                bytes.text()?;
                bytes.text()?;
                bytes.number()?;
                bytes.text()?;
                bytes.number()?;
                for _ in 0..bytes.number()? {
                    bytes.text()?;
                }
                None
            }
            Kind::ThreadStatus => {
                let number = ThreadNumber(bytes.number()?);
                bytes.number()?;
                bytes.text()?;
                self.switch_to(of.threads.index(number));
                Some(Record::Thread(self.thread))
            }
            Kind::RegionStatus => {
                let (id, ago) = (bytes.number()?, bytes.number()?);
                let site = of.tables.site_index(id);
                let began = Ticks(block.base.0.saturating_sub(ago));
                let region = Open { site, began };
                self.regions.begin(region);
                Some(Record::Region(region))
            }
            Kind::RegionsDeeper => {
                let count = bytes.number()?;
                self.regions.begin_unknown(count);
                Some(Record::Deeper(count))
            }
            Kind::Lost => {
                bytes.number()?;
                Some(Record::Lost(bytes.number()?))
            }
            Kind::Omitted => {
                bytes.number()?;
                bytes.number()?;
                None
            }
            Kind::OmittedOf => {
                for _ in 0..3 {
                    bytes.number()?;
                }
                None
            }
            Kind::End => {
                for _ in 0..3 {
                    bytes.number()?;
                }
                for _ in 0..4 {
                    for _ in 0..bytes.number()? {
                        bytes.number()?;
                        bytes.number()?;
                    }
                }
                None
            }
            // Read above.
            _ => None,
        };
        if let Some(row) = longer {
            Self::skip(of.plan.appended(kind, row), bytes, of)?;
        }
        Ok(record)
    }

    /// Reads what is said of tasks, workers and spans.
    #[inline]
    fn mention(
        &mut self,
        kind: Kind,
        bytes: &mut Bytes<'_>,
        counts: bool,
        of: &Contents,
    ) -> Result<Option<Record>, Fault> {
        if !is_timed(kind) {
            self.mention.read(kind, bytes)?;
            return Ok(Some(Record::Status(kind)));
        }
        self.ticks = self.ticks.wrapping_add(bytes.number()?);
        let at = bytes.at as u32;
        self.mention.read(kind, bytes)?;
        if !counts {
            return Ok(None);
        }
        let site = match kind {
            Kind::TaskCreate
            | Kind::SpanCreate
            | Kind::SpanCreateIn
            | Kind::SpanCreateUnder
            | Kind::SpanRecord
            | Kind::LogFields
            | Kind::LogIn => of.tables.place_index(self.mention.site),
            _ => NO_SITE,
        };
        self.put_event(kind as u8, at, self.thread, site, 0);
        Ok(Some(Record::Event))
    }

    /// Reads an event. Those behind the cut don't count and change nothing, but are read, because
    /// definitions and statuses may come behind them.
    #[inline]
    fn read_event(
        &mut self,
        kind: Kind,
        delta: u64,
        bytes: &mut Bytes<'_>,
        counts: bool,
        of: &Contents,
    ) -> Result<(), Fault> {
        self.ticks = self.ticks.wrapping_add(delta);
        let (at, thread) = (bytes.at as u32, self.thread);
        let (mut site, mut extra) = (NO_SITE, 0);
        match kind {
            Kind::RegionBegin => {
                site = of.tables.site_index(bytes.number()?);
                if counts {
                    self.regions.begin(Open { site, began: Ticks(self.ticks) });
                }
            }
            Kind::RegionEnd | Kind::RegionEndOther => {
                let inside = if kind == Kind::RegionEnd { 0 } else { bytes.number()? };
                if !counts {
                    return Ok(());
                }
                let ended = self.regions.end_region(inside);
                self.ended_nothing = ended == Ended::Nothing;
                if let Ended::Known(open) = ended {
                    (site, extra) = (open.site, open.began.0);
                }
            }
            Kind::Log => {
                bytes.number()?;
                site = of.tables.site_index(bytes.number()?);
                bytes.text()?;
            }
            Kind::Event => {
                site = of.tables.schema_index(bytes.number()?).unwrap_or(NO_SITE);
                let schema = of.tables.site(site).ok_or("an event's schema is not defined")?;
                for field in of.tables.fields(schema) {
                    bytes.skip_value(field.kind)?;
                }
            }
            Kind::CounterUnsigned | Kind::CounterSigned => {
                site = of.tables.site_index(bytes.number()?);
                bytes.number()?;
            }
            Kind::CounterFloat => {
                site = of.tables.site_index(bytes.number()?);
                bytes.float()?;
            }
            Kind::ThreadStart => {
                let number = ThreadNumber(bytes.number()?);
                bytes.number()?;
                bytes.text()?;
                if counts {
                    self.switch_to(of.threads.index(number));
                }
            }
            Kind::ThreadName => {
                bytes.number()?;
                bytes.text()?;
            }
            Kind::ThreadExit if counts => self.switch_to(NO_THREAD),
            _ => {}
        }
        if counts {
            // The start of a thread is its own first event, its exit its own last one.
            let thread = if kind == Kind::ThreadStart { self.thread } else { thread };
            self.put_event(kind as u8, at, thread, site, extra);
        }
        Ok(())
    }

    /// The event that was read. What it happened inside of stays as it is.
    #[inline]
    fn put_event(&mut self, code: u8, at: u32, thread: u32, site: u32, extra: u64) {
        let event = &mut self.event;
        (event.code, event.at, event.thread, event.site, event.extra) =
            (code, at, thread, site, extra);
        (event.ticks, event.block) = (Ticks(self.ticks), self.block);
    }

    #[cold]
    fn foreign(
        &mut self,
        row: u16,
        bytes: &mut Bytes<'_>,
        counts: bool,
        of: &Contents,
    ) -> Result<Option<Record>, Fault> {
        let timed = of.plan.is_timed(row);
        if timed {
            self.ticks = self.ticks.wrapping_add(bytes.number()?);
        }
        let at = bytes.at as u32;
        Self::skip(&of.plan.row(row).arguments, bytes, of)?;
        if !(timed && counts) {
            return Ok(None);
        }
        self.put_event(0, at, self.thread, u32::from(row), 0);
        Ok(Some(Record::Event))
    }

    fn skip(
        arguments: &[(String, crate::wire::Argument)],
        bytes: &mut Bytes<'_>,
        of: &Contents,
    ) -> Result<(), Fault> {
        let mut id = 0;
        for (_, kind) in arguments {
            bytes
                .skip_argument(*kind, &of.tables, &mut id)
                .map_err(|_| "a record of an unknown kind cannot be read")?;
        }
        Ok(())
    }
}
