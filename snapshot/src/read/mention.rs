//! What a record says of tasks, workers and spans.
//!
//! Both passes read these records through here, so that they agree on what can be read.

use super::WorkerId;
use super::bytes::{Bytes, Fault};
use crate::wire::{Class, EVENT_TABLE, Kind, SpanId, TaskId};

/// See the module. Only what a kind has is set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mention {
    /// The place of the task or span, and its incarnation where the record has it.
    pub(super) index: u32,
    pub(super) incarnation: u32,
    /// A span's parent, or what it follows from.
    pub(super) other: SpanId,
    /// A task's sequence number, a worker's tenure, a count.
    pub(super) number: u64,
    /// The code of a state.
    pub(super) state: u64,
    /// How many ticks before the block's base.
    pub(super) ago: u64,
    pub(super) worker: WorkerId,
    /// The id of a site.
    pub(super) site: u64,
    /// Where given values begin; 0 if there are none.
    pub(super) given: u32,
}

/// Which codes are those of events.
const TIMED: [bool; 256] = {
    let mut timed = [false; 256];
    let mut index = 0;
    while index < EVENT_TABLE.len() {
        timed[EVENT_TABLE[index].code as usize] = matches!(EVENT_TABLE[index].class, Class::Event);
        index += 1;
    }
    timed
};

/// Whether a kind is one of events: it has a time.
#[inline]
pub(super) fn is_timed(kind: Kind) -> bool {
    TIMED[kind as usize]
}

impl Mention {
    pub(super) fn task(&self) -> TaskId {
        TaskId { index: self.index, incarnation: self.incarnation }
    }

    pub(super) fn span(&self) -> SpanId {
        SpanId { index: self.index, incarnation: self.incarnation }
    }

    /// Whether records of this kind are read here.
    #[inline]
    pub(super) fn is_of(kind: Kind) -> bool {
        kind as u8 >= Kind::TaskStatus as u8
            && !matches!(
                kind,
                Kind::RegionEndOther | Kind::BlockingSite | Kind::ThreadName | Kind::WorkerName
            )
    }

    /// Reads the arguments of such a record, behind the time. What a kind does not have stays as it
    /// was, but for parents and given values.
    #[inline]
    pub(super) fn read(&mut self, kind: Kind, bytes: &mut Bytes<'_>) -> Result<(), Fault> {
        match kind {
            Kind::TaskPoll | Kind::TaskDrop | Kind::TaskWake | Kind::TaskWakeStale => {
                self.index = bytes.place()?;
                self.number = bytes.number()?;
                Ok(())
            }
            Kind::TaskPending
            | Kind::TaskReady
            | Kind::TaskPanic
            | Kind::WorkerPark
            | Kind::WorkerUnpark
            | Kind::WorkerStop
            | Kind::SpanEnterLast
            | Kind::SpanExit
            | Kind::SpanCloseLast => Ok(()),
            _ => self.read_longer(kind, bytes),
        }
    }

    fn read_longer(&mut self, kind: Kind, bytes: &mut Bytes<'_>) -> Result<(), Fault> {
        let mention = self;
        (mention.other, mention.given) = (SpanId::default(), 0);
        match kind {
            Kind::TaskStatus => {
                mention.place(bytes)?;
                mention.number = bytes.number()?;
                mention.state = bytes.number()?;
                mention.site = bytes.number()?;
            }
            Kind::TaskList | Kind::SpanList => {
                let (start, end) = bytes.counted()?;
                (mention.given, mention.number) = (start as u32, (end - start) as u64);
            }
            Kind::TaskCreate => {
                mention.place(bytes)?;
                mention.number = bytes.number()?;
                mention.site = bytes.number()?;
            }
            Kind::TaskWaits => mention.site = bytes.number()?,
            Kind::WorkerStatus | Kind::WorkerStart | Kind::VisitStatus | Kind::WorkerVisit => {
                mention.worker = WorkerId { runtime: bytes.number()?, worker: bytes.number()? };
                mention.number = bytes.number()?;
                if matches!(kind, Kind::WorkerStatus | Kind::VisitStatus) {
                    mention.state = bytes.number()?;
                }
            }
            Kind::PoolThread | Kind::PoolStatus | Kind::SpansDeeper => {
                mention.number = bytes.number()?;
            }
            Kind::SpanStatus | Kind::SpanStatusPart => {
                mention.place(bytes)?;
                mention.other(bytes)?;
                mention.ago = bytes.number()?;
                mention.site = bytes.number()?;
                mention.given(bytes)?;
            }
            Kind::SpanCreate | Kind::SpanRecord => {
                mention.place(bytes)?;
                mention.site = bytes.number()?;
                mention.given(bytes)?;
            }
            Kind::SpanCreateIn | Kind::SpanCreateUnder => {
                mention.place(bytes)?;
                mention.other(bytes)?;
                mention.site = bytes.number()?;
                mention.given(bytes)?;
            }
            Kind::SpanExitDeep => {
                mention.place(bytes)?;
                mention.number = bytes.number()?;
            }
            Kind::SpanEntered | Kind::SpanEnter | Kind::SpanExitOther | Kind::SpanClose => {
                mention.place(bytes)?;
            }
            Kind::SpanFollows | Kind::SpanFollowsClosed => {
                mention.place(bytes)?;
                mention.other(bytes)?;
            }
            Kind::LogFields => {
                bytes.number()?;
                mention.site = bytes.number()?;
                bytes.text()?;
                mention.given(bytes)?;
            }
            Kind::LogIn => {
                mention.place(bytes)?;
                bytes.number()?;
                mention.site = bytes.number()?;
                bytes.text()?;
                mention.given(bytes)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn place(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Fault> {
        (self.index, self.incarnation) = (bytes.place()?, bytes.place()?);
        Ok(())
    }

    fn other(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Fault> {
        self.other = SpanId { index: bytes.place()?, incarnation: bytes.place()? };
        Ok(())
    }

    fn given(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Fault> {
        self.given = bytes.at as u32;
        bytes.skip_given()
    }
}
