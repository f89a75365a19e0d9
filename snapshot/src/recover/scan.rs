//! Finding the blocks of an arena whose process is gone, whatever its header says.
//!
//! Every place where a block can begin is looked at. A block says where it lies, so one of an earlier
//! lap is told from one of this lap, and a hash over its header tells it from anything else. What it
//! holds is what was committed. So nothing but the block itself is needed to find it.

use crate::wire::{BLOCK_GRANULE, Block, Position};

/// The blocks of a ring of `capacity` bytes, of which `data` is what is there, in the order in which
/// they lie.
pub(super) fn blocks(data: &[u8], capacity: u64) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = data.get(at..).filter(|rest| rest.len() >= BLOCK_GRANULE) {
        let block = Block::claimed_position(rest)
            .filter(|position| position.0 % capacity == at as u64)
            .and_then(|position| Block::find(rest, position));
        let Some((block, length)) = block else {
            at += BLOCK_GRANULE;
            continue;
        };
        // One that is not closed yet may have a header of an earlier lap inside: it is stepped over.
        at += length;
        found.extend(block.filter(|block| !block.records.is_empty()));
    }
    found
}

/// The capacity that fits what is there: that of the header, unless no block lies where it would then
/// have to, and some do if the file is whole.
pub(super) fn capacity(data: &[u8], claimed: u64) -> Option<u64> {
    let whole = (data.len() / BLOCK_GRANULE * BLOCK_GRANULE) as u64;
    let fits = |capacity: u64| {
        capacity != 0
            && data.chunks_exact(BLOCK_GRANULE).enumerate().any(|(index, place)| {
                let at = (index * BLOCK_GRANULE) as u64;
                Block::claimed_position(place)
                    .filter(|position| position.0 % capacity == at)
                    .is_some_and(|position| Block::find(&data[at as usize..], position).is_some())
            })
    };
    [claimed, whole].into_iter().find(|capacity| fits(*capacity))
}

/// Whether a block lies between two positions.
pub(super) fn is_between(block: &Block<'_>, tail: Position, head: Position) -> bool {
    let end = block.header.position.0.checked_add(u64::from(block.header.length));
    block.header.position >= tail && end.is_some_and(|end| end <= head.0)
}
