//! One generation, decoded.

use super::begin::Begin;
use super::carry::{Carried, Carry, Toll};
use super::catalog::FrameSpot;
use super::order::Order;
use super::otel::Renamed;
use super::plan::Plan;
use super::standing::{SpanStatus, TaskStatus, ThreadState};
use super::survey::{Omissions, Survey, survey};
use super::tables::Tables;
use super::thread::Threads;
use super::time::Timeline;
use super::unpack::unpack;
use super::walked::Walked;
use super::{Event, Limits, Lost, ReadError, Reason, Site};
use crate::file::{BlockEntry, FrameHeader, GENERATION_TAG};
use crate::wire::{ClockRecord, Generation, Nanos, Ticks};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// What there is to know about a generation without looking at its events.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GenerationInfo {
    /// Its number.
    pub number: Generation,
    /// Whether it has its statuses and its end record, so that it can be read with no other.
    pub complete: bool,
    /// When it began, in nanoseconds of the monotonic clock.
    pub start: Nanos,
    /// When it began, in nanoseconds since 1970-01-01 UTC.
    pub wall: Nanos,
    /// How long it took.
    pub duration: Nanos,
    /// How many events can be read.
    pub events: u64,
    /// How many were lost, by cause.
    pub lost: Vec<Lost>,
    /// How many bytes its records take.
    pub bytes: u64,
    /// How many bytes its frame takes in the file.
    pub compressed: u64,
    /// Where its frame begins in the file.
    pub offset: u64,
    /// How many blocks it has.
    pub blocks: u64,
    /// How many threads it mentions.
    pub threads: u64,
    /// How many statuses were left out for want of room.
    pub omitted: u64,
    /// Why it cannot be read, or not all of it. The counts are then those of what can be, or what
    /// the file's index says.
    pub damage: Option<ReadError>,
}

impl GenerationInfo {
    /// The generation behind it began then.
    pub(super) fn end_at(&mut self, next: Nanos) {
        if !self.complete {
            self.duration = Nanos(next.0.saturating_sub(self.start.0));
        }
    }
}

/// What a recorder writes when a generation is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndRecord {
    /// Events in it.
    pub events: u64,
    /// Bytes of its records.
    pub bytes: u64,
    /// Its blocks.
    pub blocks: u64,
    /// What was lost, by cause.
    pub lost: Vec<Lost>,
    /// How long advances took: nanoseconds (the upper bound of a bucket), and how many.
    pub advances: Vec<(u64, u64)>,
    /// How long advances waited for writers.
    pub waits: Vec<(u64, u64)>,
    /// How long snapshots took.
    pub snapshots: Vec<(u64, u64)>,
}

/// A generation's content, with the tables that give it its meaning.
pub(super) struct Contents {
    pub(super) file: Arc<str>,
    pub(super) spot: FrameSpot,
    pub(super) content: Vec<u8>,
    /// How much of it is the frame's; names and what the generation before left stand behind.
    pub(super) frame_end: usize,
    pub(super) plan: Arc<Plan>,
    pub(super) began: ClockRecord,
    pub(super) ended: ClockRecord,
    pub(super) timeline: Timeline,
    pub(super) tables: Tables,
    pub(super) threads: Threads,
    pub(super) blocks: Vec<BlockEntry>,
    /// Events of each block that count.
    pub(super) block_events: Vec<u32>,
    pub(super) faults: BTreeMap<u32, &'static str>,
    pub(super) info: GenerationInfo,
    pub(super) end: Option<EndRecord>,
    /// Tasks and spans at its begin.
    pub(super) begin: Begin,
    /// How many events were lost of which the streams don't say where.
    pub(super) unplaced: u64,
    /// Whether it is incomplete, and neither is the generation before it there, nor do those before that
    /// one lead back to one that is complete.
    pub(super) is_alone: bool,
    pub(super) toll: Toll,
    /// Whether there is a word of tasks, workers or spans in it.
    pub(super) has_mentions: bool,
    /// Of what statuses were left out.
    pub(super) omissions: Omissions,
    /// What the generation before left open, by thread; of an incomplete generation alone.
    pub(super) carried: HashMap<u32, Carried>,
    walked: OnceLock<Walked>,
    /// Spans that are called otherwise than their callsites.
    pub(super) renamed: Renamed,
}

/// The most blocks of a generation: more than any arena of 1 GiB has.
pub(super) const MAX_BLOCKS: usize = 1 << 22;

impl Contents {
    /// Decodes the frame in `bytes`. What an incomplete generation does not say is as in `carry`.
    pub(super) fn decode(
        bytes: &[u8],
        spot: FrameSpot,
        file: &Arc<str>,
        plan: &Arc<Plan>,
        limits: &Limits,
        carry: Option<&Carry>,
    ) -> Result<Self, ReadError> {
        let wrong = |reason| ReadError::new(file, spot.offset, reason).of_generation(spot.number);
        let mut content = unpack(bytes, &GENERATION_TAG, limits).map_err(wrong)?;
        let generation = |what| wrong(Reason::Generation(what));
        let FrameHeader { prefix, mut blocks } =
            FrameHeader::decode(&content, MAX_BLOCKS).map_err(generation)?;
        if prefix.number != spot.number || prefix.complete != spot.complete {
            return Err(generation("the index says something else of it"));
        }
        let ordered = blocks
            .windows(2)
            .all(|pair| (pair[0].slot, pair[0].sequence) < (pair[1].slot, pair[1].sequence));
        if !ordered {
            return Err(generation("its blocks are not in order"));
        }
        let blocks_bytes = blocks.iter().map(|block| u64::from(block.end - block.start)).sum();
        let room = limits.content_bytes();
        let latest = if prefix.complete { Ticks(u64::MAX) } else { prefix.ended.ticks };
        let mut survey = survey(&content, &mut blocks, plan, room, latest).map_err(generation)?;
        let frame_end = content.len();
        content.append(&mut survey.begin.listed_fields);
        survey.tables.say_types(&mut content).map_err(generation)?;
        let (mut carried, mut toll) = (HashMap::new(), Toll::of(frame_end));
        let carry = carry.filter(|_| !prefix.complete).filter(|carry| {
            let with = carry.toll.with(carry, frame_end);
            toll = with.unwrap_or(toll);
            with.is_some()
        });
        if let Some(carry) = carry {
            carried = carry.put_into(&mut content, &mut survey).map_err(generation)?;
        }
        let Survey { tables, threads, events, block_events, lost, omitted, end, faults, .. } =
            survey;
        let (begin, has_mentions) = (survey.begin, survey.has_mentions);
        let omissions = survey.omissions;
        let sum =
            |lost: &[Lost]| lost.iter().fold(0_u64, |sum, lost| sum.saturating_add(lost.count));
        let unplaced = end.as_ref().map_or(0, |end| sum(&end.lost).saturating_sub(sum(&lost)));
        let is_alone = !prefix.complete && carry.is_none_or(|carry| carry.is_part);
        let damage = faults.first_key_value().map(|(index, what)| {
            let block = &blocks[*index as usize];
            wrong(record_fault(block, what))
        });
        let (began, ended) = (prefix.began, prefix.ended);
        let info = GenerationInfo {
            number: prefix.number,
            complete: prefix.complete,
            start: began.monotonic,
            wall: began.wall,
            duration: Nanos(ended.monotonic.0.saturating_sub(began.monotonic.0)),
            events,
            lost: end.as_ref().map_or(lost, |end| end.lost.clone()),
            bytes: blocks_bytes,
            compressed: spot.compressed,
            offset: spot.offset,
            blocks: blocks.len() as u64,
            threads: threads.count() as u64,
            omitted,
            damage,
        };
        Ok(Self {
            file: Arc::clone(file),
            spot,
            content,
            frame_end,
            plan: Arc::clone(plan),
            began,
            ended,
            timeline: Timeline::new(&began, &ended),
            tables,
            threads,
            blocks,
            block_events,
            faults,
            info,
            end,
            begin,
            unplaced,
            is_alone,
            toll,
            has_mentions,
            omissions,
            carried,
            walked: OnceLock::new(),
            renamed: Renamed::default(),
        })
    }

    /// The most places of tasks, and of spans, that are followed.
    pub(super) fn places_limit(&self) -> usize {
        const PLACE: u64 = 256;
        usize::try_from(self.tables.room() / PLACE).unwrap_or(usize::MAX)
    }

    /// The blocks of each slot.
    pub(super) fn slots(&self) -> impl Iterator<Item = Range<u32>> {
        let mut start = 0;
        self.blocks.chunk_by(|a, b| a.slot == b.slot).map(move |blocks| {
            let range = start..start + blocks.len() as u32;
            start = range.end;
            range
        })
    }

    /// What its threads were doing at its begin and at its end.
    pub(super) fn walked(&self) -> &Walked {
        self.walked.get_or_init(|| Walked::new(self))
    }

    /// As [`walked`](Self::walked), from somebody who has walked anyway.
    pub(super) fn set_walked(&self, walked: Walked) {
        // If it is known already, it is the same.
        let _ = self.walked.set(walked);
    }

    /// The site or schema of this index, with the name that its span has.
    pub(super) fn site(&self, index: u32) -> Option<Site<'_>> {
        if let Some((site, name)) = self.renamed.get(index) {
            return Some(Site { name: name.of(&self.content), ..self.site(site)? });
        }
        let site = self.tables.site(index)?;
        Some(Site {
            name: self.tables.text(&self.content, site.name),
            file: self.tables.text(&self.content, site.file),
            line: site.line,
            blocking: site.blocking,
        })
    }

    /// The callsite of this index, named by its target: a log's category.
    pub(super) fn category(&self, index: u32) -> Option<Site<'_>> {
        let target = self.tables.site(index)?.target;
        let site = self.site(index)?;
        Some(match target {
            Some((target, _)) => Site { name: self.tables.text(&self.content, target), ..site },
            None => site,
        })
    }

    pub(super) fn fault(&self, block: u32, what: &'static str) -> ReadError {
        let reason = record_fault(&self.blocks[block as usize], what);
        ReadError::new(&self.file, self.spot.offset, reason).of_generation(self.spot.number)
    }
}

fn record_fault(block: &BlockEntry, what: &'static str) -> Reason {
    let position = block.end - block.start;
    Reason::Record { slot: block.slot, block: block.sequence, position, what }
}

/// One generation, decoded. Cheap to clone.
#[derive(Clone)]
pub struct DecodedGeneration {
    pub(super) contents: Arc<Contents>,
}

impl DecodedGeneration {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> Generation {
        self.contents.spot.number
    }

    /// What there is to know about it without looking at its events.
    #[must_use]
    pub fn info(&self) -> &GenerationInfo {
        &self.contents.info
    }

    /// Whether what was silent in it is not known: it is incomplete, so it has no statuses of that, and
    /// no generation before it tells.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.contents.is_alone
    }

    /// When it began, by all clocks.
    #[must_use]
    pub fn began(&self) -> ClockRecord {
        self.contents.began
    }

    /// When it ended, or was copied, by all clocks.
    #[must_use]
    pub fn ended(&self) -> ClockRecord {
        self.contents.ended
    }

    /// What its recorder said when it was over; nothing if it is incomplete.
    #[must_use]
    pub fn end_record(&self) -> Option<&EndRecord> {
        self.contents.end.as_ref()
    }

    /// The threads that lived when it began, with their open regions: as its statuses say, and, if
    /// it is incomplete, as the generation before left them.
    pub fn statuses(&self) -> impl Iterator<Item = ThreadState<'_>> {
        let contents = &*self.contents;
        ThreadState::all(contents)
    }

    /// The tasks that there were when it began.
    pub fn tasks(&self) -> impl Iterator<Item = TaskStatus<'_>> {
        TaskStatus::all(&self.contents)
    }

    /// The spans that were open when it began.
    pub fn spans(&self) -> impl Iterator<Item = SpanStatus<'_>> {
        SpanStatus::all(&self.contents)
    }

    /// Its events, in one order over all threads. Damage stands where it was met.
    #[must_use]
    pub fn events(&self) -> GenerationEvents {
        GenerationEvents {
            order: Order::new(&self.contents),
            contents: Arc::clone(&self.contents),
            latest: Nanos(0),
        }
    }
}

/// The events of one generation.
pub struct GenerationEvents {
    contents: Arc<Contents>,
    order: Order,
    latest: Nanos,
}

impl GenerationEvents {
    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    pub(super) fn order(&self) -> &Order {
        &self.order
    }

    /// The next event, no earlier than `latest`, which follows it.
    #[inline]
    pub(super) fn next_from(&mut self, latest: &mut Nanos) -> Option<Result<Event, ReadError>> {
        let of = &self.contents;
        Some(match self.order.next(of)? {
            Ok(raw) => {
                let time = of.timeline.at(raw.ticks).max(*latest);
                *latest = time;
                Ok(Event::new(of, raw, time))
            }
            Err((block, what)) => Err(of.fault(block, what)),
        })
    }
}

impl Iterator for GenerationEvents {
    type Item = Result<Event, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut latest = self.latest;
        let next = self.next_from(&mut latest);
        self.latest = latest;
        next
    }
}
