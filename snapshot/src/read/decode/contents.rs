//! A decoded generation: its content, and the tables that give it meaning.

use super::carried::{Carried, Carry, Toll};
use super::decode_plan::DecodePlan;
use super::definitions::Definitions;
use super::first_pass::{FirstPass, Omissions, first_pass};
use super::initial_state::InitialState;
use super::lost::Lost;
use super::otel::Renamed;
use super::thread_states::ThreadStates;
use super::threads::Threads;
use super::timeline::Timeline;
use super::value::Site;
use crate::file::{BlockEntry, FrameHeader, GENERATION_TAG};
use crate::read::container::catalog::FrameSpot;
use crate::read::container::decompress::unpack;
use crate::read::error::{ReadError, Reason};
use crate::read::limits::Limits;
use crate::wire::{ClockRecord, Generation, Nanos, Ticks};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// What is known about a generation without reading its events.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GenerationInfo {
    /// Its number.
    pub number: Generation,
    /// Whether it has its statuses and its end record, so that it can be read alone.
    pub complete: bool,
    /// When it began, in nanoseconds of the monotonic clock.
    pub start: Nanos,
    /// When it began, in nanoseconds since 1970-01-01 UTC.
    pub wall: Nanos,
    /// How long it lasted.
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
    /// Why it cannot be read, or not completely. The counts then cover what can be read, or come from the
    /// file's index.
    pub damage: Option<ReadError>,
}

impl GenerationInfo {
    /// What is known of a generation of which only the number is.
    pub(crate) fn empty(number: Generation) -> Self {
        Self {
            number,
            complete: false,
            start: Nanos(0),
            wall: Nanos(0),
            duration: Nanos(0),
            events: 0,
            lost: Vec::new(),
            bytes: 0,
            compressed: 0,
            offset: 0,
            blocks: 0,
            threads: 0,
            omitted: 0,
            damage: None,
        }
    }

    /// The next generation began at this time.
    pub(crate) fn end_at(&mut self, next: Nanos) {
        if !self.complete {
            self.duration = Nanos(next.0.saturating_sub(self.start.0));
        }
    }
}

/// What a recorder writes when a generation has ended.
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
    /// How long advances took, as pairs: nanoseconds (the upper bound of a bucket), and a count.
    pub advances: Vec<(u64, u64)>,
    /// How long advances waited for writers.
    pub waits: Vec<(u64, u64)>,
    /// How long snapshots took.
    pub snapshots: Vec<(u64, u64)>,
}

/// A generation's content, with the tables that give it meaning.
pub(crate) struct Contents {
    pub(crate) file: Arc<str>,
    pub(crate) spot: FrameSpot,
    pub(crate) content: Vec<u8>,
    /// How much of it comes from the frame; names, and what the previous generation left, follow.
    pub(crate) frame_end: usize,
    pub(crate) plan: Arc<DecodePlan>,
    pub(crate) began: ClockRecord,
    pub(crate) ended: ClockRecord,
    pub(crate) timeline: Timeline,
    pub(crate) tables: Definitions,
    pub(crate) threads: Threads,
    pub(crate) blocks: Vec<BlockEntry>,
    /// The events of each block that count.
    pub(crate) block_events: Vec<u32>,
    pub(crate) faults: BTreeMap<u32, &'static str>,
    pub(crate) info: GenerationInfo,
    pub(crate) end: Option<EndRecord>,
    /// Tasks and spans at its beginning.
    pub(crate) begin: InitialState,
    /// How many events were lost that no stream accounts for.
    pub(crate) unplaced: u64,
    /// Whether it is incomplete, and no unbroken row of generations leads back from it to a complete one.
    pub(crate) is_alone: bool,
    pub(crate) toll: Toll,
    /// Whether it mentions any tasks, workers or spans.
    pub(crate) has_objects: bool,
    /// The statuses that were left out.
    pub(crate) omissions: Omissions,
    /// What the previous generation left open, by thread; only for an incomplete generation.
    pub(crate) carried: HashMap<u32, Carried>,
    thread_states: OnceLock<ThreadStates>,
    /// Spans with another name than their callsites'.
    pub(crate) renamed: Renamed,
}

/// The most blocks of a generation: more than any arena of 1 GiB has.
pub(crate) const MAX_BLOCKS: usize = 1 << 22;

impl Contents {
    /// Decodes the frame in `bytes`. What an incomplete generation does not say is as in `carry_over`.
    pub(crate) fn decode(
        bytes: &[u8],
        spot: FrameSpot,
        file: &Arc<str>,
        plan: &Arc<DecodePlan>,
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
        let mut first_pass =
            first_pass(&content, &mut blocks, plan, room, latest).map_err(generation)?;
        let frame_end = content.len();
        content.append(&mut first_pass.begin.listed_fields);
        first_pass.tables.say_types(&mut content).map_err(generation)?;
        let (mut carried, mut toll) = (HashMap::new(), Toll::of(frame_end));
        let carry = carry.filter(|_| !prefix.complete).filter(|carry| {
            let with = carry.toll.with(carry, frame_end);
            toll = with.unwrap_or(toll);
            with.is_some()
        });
        if let Some(carry) = carry {
            carried = carry.put_into(&mut content, &mut first_pass).map_err(generation)?;
        }
        let FirstPass { tables, threads, events, block_events, lost, omitted, end, faults, .. } =
            first_pass;
        let (begin, has_objects) = (first_pass.begin, first_pass.has_objects);
        let omissions = first_pass.omissions;
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
            has_objects,
            omissions,
            carried,
            thread_states: OnceLock::new(),
            renamed: Renamed::default(),
        })
    }

    /// The most entries of tasks, and of spans, that are tracked.
    pub(crate) fn places_limit(&self) -> usize {
        const PLACE: u64 = 256;
        usize::try_from(self.tables.room() / PLACE).unwrap_or(usize::MAX)
    }

    /// The blocks of each slot.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Range<u32>> {
        let mut start = 0;
        self.blocks.chunk_by(|a, b| a.slot == b.slot).map(move |blocks| {
            let range = start..start + blocks.len() as u32;
            start = range.end;
            range
        })
    }

    /// What its threads were doing at its beginning and at its end.
    pub(crate) fn thread_states(&self) -> &ThreadStates {
        self.thread_states.get_or_init(|| ThreadStates::new(self))
    }

    /// Keeps the result of a caller that has walked all slots anyway.
    pub(crate) fn set_thread_states(&self, thread_states: ThreadStates) {
        // If it is known already, it is the same.
        let _ = self.thread_states.set(thread_states);
    }

    /// The site or schema with this index, with the name that its span has.
    pub(crate) fn site(&self, index: u32) -> Option<Site<'_>> {
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

    /// The target of the callsite with this index.
    pub(crate) fn target(&self, index: u32) -> Option<&str> {
        let of = self.renamed.get(index).map_or(index, |(site, _)| site);
        let (target, _) = self.tables.site(of)?.target?;
        Some(self.tables.text(&self.content, target))
    }

    /// The callsite with this index, named by its target: a log's category.
    pub(crate) fn category(&self, index: u32) -> Option<Site<'_>> {
        let target = self.tables.site(index)?.target;
        let site = self.site(index)?;
        Some(match target {
            Some((target, _)) => Site { name: self.tables.text(&self.content, target), ..site },
            None => site,
        })
    }

    pub(crate) fn fault(&self, block: u32, what: &'static str) -> ReadError {
        let reason = record_fault(&self.blocks[block as usize], what);
        ReadError::new(&self.file, self.spot.offset, reason).of_generation(self.spot.number)
    }
}

fn record_fault(block: &BlockEntry, what: &'static str) -> Reason {
    let position = block.end - block.start;
    Reason::Record { slot: block.slot, block: block.sequence, position, what }
}
