//! What a generation that was never written to a file says about itself, for recovery from an arena.

use super::decode_plan::DecodePlan;
use super::first_pass::first_pass;
use crate::file::{FrameHeader, GenerationFrame};
use crate::read::limits::Limits;
use crate::wire::{Metadata, Ticks};

/// The result of a look into a generation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameOutline {
    /// The time of its last event; `None` if it has none.
    pub(crate) latest: Option<Ticks>,
    /// How many blocks its end record counts; `None` without an end record.
    pub(crate) blocks: Option<u64>,
    /// How many of its blocks cannot be read to their ends.
    pub(crate) faults: usize,
}

/// Looks into a generation, and sorts its blocks.
pub(crate) fn look_into(frame: &mut GenerationFrame<'_>) -> Result<FrameOutline, &'static str> {
    let mut content = Vec::new();
    frame.encode(&mut content).map_err(|_| "there is no memory for it")?;
    let FrameHeader { mut blocks, .. } =
        FrameHeader::decode(&content, crate::read::decode::contents::MAX_BLOCKS)?;
    let (plan, _) = DecodePlan::new(&Metadata::default());
    let room = Limits::default().content_bytes();
    let first_pass = first_pass(&content, &mut blocks, &plan, room, Ticks(u64::MAX))?;
    Ok(FrameOutline {
        latest: first_pass.latest_event(),
        blocks: first_pass.end.as_ref().map(|end| end.blocks),
        faults: first_pass.faults.len(),
    })
}
