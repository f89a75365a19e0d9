//! What a generation says of itself that was never written to a file: for who recovers one from an
//! arena.

use super::Limits;
use super::plan::Plan;
use super::survey::survey;
use crate::file::{FrameHeader, GenerationFrame};
use crate::wire::{Metadata, Ticks};

/// What a look into a generation finds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Contents {
    /// The time of its last event; nothing if it has none.
    pub(crate) latest: Option<Ticks>,
    /// How many blocks its end record counts; nothing if it has no end record.
    pub(crate) blocks: Option<u64>,
    /// How many of its blocks cannot be read to their ends.
    pub(crate) faults: usize,
}

/// Looks into a generation, whose blocks it sorts.
pub(crate) fn look_into(frame: &mut GenerationFrame<'_>) -> Result<Contents, &'static str> {
    let mut content = Vec::new();
    frame.encode(&mut content).map_err(|_| "there is no memory for it")?;
    let FrameHeader { mut blocks, .. } =
        FrameHeader::decode(&content, super::generation::MAX_BLOCKS)?;
    let (plan, _) = Plan::new(&Metadata::default());
    let room = Limits::default().content_bytes();
    let survey = survey(&content, &mut blocks, &plan, room, Ticks(u64::MAX))?;
    Ok(Contents {
        latest: survey.latest_event(),
        blocks: survey.end.as_ref().map(|end| end.blocks),
        faults: survey.faults.len(),
    })
}
