//! The second pass: the records of one slot, block by block.

use super::bytes::{Bytes, Fault};
use super::codec::{Arguments, Stop, is_of_object, is_timed, skip_foreign};
use super::contents::Contents;
use super::decode_plan::Step;
use super::definitions::NO_SITE;
use super::workers::NO_WORKER;
use crate::read::decode::regions::{Ended, Open, Regions};
use crate::read::decode::threads::NO_THREAD;
use crate::wire::{Kind, SpanId, TaskId, ThreadNumber, Ticks};
use std::ops::Range;

/// An event as a generation's content has it: its position, and what else is known about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw {
    pub(crate) ticks: Ticks,
    /// For a region's end: when the region began. For the begin and the end of a poll: its sequence number.
    /// For any other event that names a task or a span: which one.
    pub(crate) extra: u64,
    /// The innermost task and span of the thread.
    pub(crate) task: TaskId,
    pub(crate) span: SpanId,
    /// Where its arguments begin, after the time delta.
    pub(crate) at: u32,
    /// Its thread, as an index into the generation's threads.
    pub(crate) thread: u32,
    /// Its site or schema, as an index into the generation's sites; for an unknown kind, its row.
    pub(crate) site: u32,
    pub(crate) block: u32,
    /// The worker that the thread is, as an index into the generation's workers.
    pub(crate) worker: u16,
    /// The code of its kind, 0 if this version does not know it. A plain number, so that an event is moved as
    /// a whole.
    code: u8,
}

impl Raw {
    pub(crate) const NONE: Self = Self {
        ticks: Ticks(0),
        extra: 0,
        task: TaskId::NONE,
        span: SpanId::NONE,
        at: 0,
        thread: NO_THREAD,
        site: NO_SITE,
        block: 0,
        worker: NO_WORKER,
        code: 0,
    };

    #[inline]
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Its kind, unless this version does not know it.
    #[inline]
    pub(crate) fn kind(&self) -> Option<Kind> {
        Kind::from_code(self.code)
    }
}

/// A record that says more than the tables keep. The [`Stream`] holds what it says, so a register holds this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A block begins: [`Stream::block`].
    Block,
    /// An event: [`Stream::event`].
    Event,
    /// The [thread](Stream::thread) of the records to come.
    Thread,
    /// An open region of that thread: [`Stream::stated`].
    Region,
    /// More open regions inside those: [`Arguments::number`] says how many.
    Deeper,
    /// Lost events: [`Arguments::number`] says how many.
    Lost,
    /// A status of a task, a worker or a span.
    Status(Kind),
    /// The rest of the [block](Stream::block) cannot be read: [`Stream::fault`].
    Fault,
}

/// See the module.
pub(crate) struct Stream {
    blocks: Range<u32>,
    block: u32,
    /// Where in the content the next record begins, and where the block ends.
    at: usize,
    end: u32,
    /// Events at or after this position do not count.
    cut: u32,
    ticks: u64,
    thread: u32,
    regions: Regions,
    /// The last event that was read. The replay adds what it happened inside.
    pub(crate) event: Raw,
    /// What that one, or the status read last, says of tasks, workers and spans.
    pub(crate) args: Arguments,
    /// The last open region that a status named.
    pub(crate) stated: Open,
    /// Why the last block could not be read to its end.
    pub(crate) fault: Fault,
    /// Whether the last end of a region ended nothing: for checks.
    pub(crate) ended_nothing: bool,
}

impl Stream {
    /// The stream of the slot that has these blocks.
    pub(crate) fn new(blocks: Range<u32>) -> Self {
        Self {
            blocks,
            block: 0,
            at: 0,
            end: 0,
            cut: 0,
            ticks: 0,
            thread: NO_THREAD,
            regions: Regions::default(),
            event: Raw::NONE,
            args: Arguments::default(),
            stated: Open { site: NO_SITE, began: Ticks(0) },
            fault: "",
            ended_nothing: false,
        }
    }

    /// The current block.
    pub(crate) fn block(&self) -> u32 {
        self.block
    }

    /// Whose the records are.
    pub(crate) fn thread(&self) -> u32 {
        self.thread
    }

    /// The position after the record that was read last: the block, and the offset in the content.
    pub(crate) fn here(&self) -> (u32, u32) {
        (self.block, self.at as u32)
    }

    /// The thread's open regions.
    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The next record that is not a definition.
    #[inline(always)]
    pub(crate) fn next(&mut self, of: &Contents) -> Option<Record> {
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
                    self.fault = fault;
                    return Some(Record::Fault);
                }
            }
        }
    }

    #[cold]
    fn next_block(&mut self, of: &Contents) -> Option<Record> {
        // Reported at the end of the block, after what could be read of it.
        if self.end != 0
            && let Some(&fault) = of.faults.get(&self.block)
        {
            self.end = 0;
            self.at = 0;
            self.fault = fault;
            return Some(Record::Fault);
        }
        let index = self.blocks.next()?;
        let block = &of.blocks[index as usize];
        (self.block, self.at, self.end) = (index, block.start as usize, block.end);
        self.cut = block.cut;
        self.ticks = block.base.0;
        let thread = of.threads.index(block.thread);
        // The collector's blocks belong to no thread: their statuses continue in its next block.
        if thread != self.thread && thread != NO_THREAD {
            self.switch_to(thread);
            if let Some(carried) = of.carried.get(&thread) {
                self.regions = carried.regions.clone();
            }
        }
        Some(Record::Block)
    }

    fn switch_to(&mut self, thread: u32) {
        self.thread = thread;
        self.regions.clear();
    }

    #[inline]
    fn record(&mut self, bytes: &mut Bytes<'_>, of: &Contents) -> Result<Option<Record>, Fault> {
        let counts = (bytes.at as u32) < self.cut;
        let (kind, longer) = match of.plan.at(bytes.byte()?) {
            Step::Known(kind) => (kind, None),
            Step::Longer(kind, row) => (kind, Some(row)),
            Step::Foreign(row) => return self.foreign(row, bytes, counts, of),
            Step::Absent => return Err("a record is of a kind that is not in the event table"),
        };
        let timed = is_timed(kind);
        if timed {
            self.ticks = self.ticks.wrapping_add(bytes.number()?);
        }
        let at = bytes.at as u32;
        self.args.read(kind, bytes, &of.tables)?;
        let record = if timed {
            // Events after the cut don't count and change nothing, but are read, because definitions and
            // statuses may follow them.
            counts.then(|| self.event(kind, at, of))
        } else {
            self.status(kind, of)
        };
        if let Some(row) = longer {
            skip_foreign(of.plan.appended(kind, row), bytes, &of.tables).map_err(unknown)?;
        }
        Ok(record)
    }

    /// Takes a record without a time.
    fn status(&mut self, kind: Kind, of: &Contents) -> Option<Record> {
        Some(match kind {
            Kind::ThreadStatus => {
                self.switch_to(of.threads.index(ThreadNumber(self.args.number)));
                Record::Thread
            }
            Kind::RegionStatus => {
                let base = of.blocks[self.block as usize].base;
                let began = Ticks(base.0.saturating_sub(self.args.ago));
                self.stated = Open { site: of.tables.site_index(self.args.site), began };
                self.regions.begin(self.stated);
                Record::Region
            }
            Kind::RegionsDeeper => {
                self.regions.begin_unknown(self.args.number);
                Record::Deeper
            }
            Kind::Lost => Record::Lost,
            _ if is_of_object(kind) => Record::Status(kind),
            _ => return None,
        })
    }

    /// Takes an event, whose arguments begin at `at`.
    #[inline]
    fn event(&mut self, kind: Kind, at: u32, of: &Contents) -> Record {
        let mut thread = self.thread;
        let (mut site, mut extra) = (NO_SITE, 0);
        match kind {
            Kind::RegionBegin => {
                site = of.tables.site_index(self.args.site);
                self.regions.begin(Open { site, began: Ticks(self.ticks) });
            }
            Kind::RegionEnd | Kind::RegionEndOther => {
                let inside = if kind == Kind::RegionEnd { 0 } else { self.args.number };
                let ended = self.regions.end_region(inside);
                self.ended_nothing = ended == Ended::Nothing;
                if let Ended::Known(open) = ended {
                    (site, extra) = (open.site, open.began.0);
                }
            }
            Kind::Event => site = self.args.schema,
            Kind::Log
            | Kind::CounterUnsigned
            | Kind::CounterSigned
            | Kind::CounterFloat
            | Kind::Contention
            | Kind::LockWait
            | Kind::LockHeld
            | Kind::RangeBegin
            | Kind::RangeEnd => {
                site = of.tables.site_index(self.args.site);
            }
            // A thread's start is its own first event, its exit its own last.
            Kind::ThreadStart => {
                thread = of.threads.index(ThreadNumber(self.args.number));
                self.switch_to(thread);
            }
            Kind::ThreadExit => self.switch_to(NO_THREAD),
            Kind::TaskCreate
            | Kind::SpanCreate
            | Kind::SpanCreateIn
            | Kind::SpanCreateUnder
            | Kind::SpanRecord
            | Kind::LogFields
            | Kind::LogIn => site = of.tables.place_index(self.args.site),
            _ => {}
        }
        self.put_event(kind as u8, at, thread, site, extra);
        Record::Event
    }

    /// Stores the event that was read. What it happened inside stays as it is.
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
        skip_foreign(&of.plan.row(row).arguments, bytes, &of.tables).map_err(unknown)?;
        if !(timed && counts) {
            return Ok(None);
        }
        self.put_event(0, at, self.thread, u32::from(row), 0);
        Ok(Some(Record::Event))
    }
}

fn unknown(_: Stop) -> Fault {
    "a record of an unknown kind cannot be read"
}
