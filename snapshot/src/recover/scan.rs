//! Finds the blocks of an arena whose process has ended, whatever its header says.
//!
//! The scan checks every place where a block can begin. A block contains its position, which distinguishes it
//! from one of an earlier lap, and a hash over its header, which distinguishes it from anything else. It
//! holds what was committed. So the block itself is enough to find it.
//!
//! Blocks of earlier laps lie where nothing was written since: in reclaimed space, and in the hole of a
//! writer that was stopped between carving a block and writing its header. Such a block may overlap newer
//! ones. So of overlapping blocks, the one with the highest position counts, and none is skipped.

use crate::wire::{BLOCK_GRANULE, Block, Position};
use std::collections::BTreeMap;
use std::ops::Range;

/// The blocks of a ring of `capacity` bytes, of which `data` is left, newest first.
pub(super) fn blocks(data: &[u8], capacity: u64) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    for (index, place) in data.chunks_exact(BLOCK_GRANULE).enumerate() {
        let at = index * BLOCK_GRANULE;
        let position = Block::claimed_position(place);
        let Some(position) = position.filter(|position| position.0 % capacity == at as u64) else {
            continue;
        };
        if let Some((block, length)) = Block::find(&data[at..], position) {
            found.push((position, index..index + length / BLOCK_GRANULE, block));
        }
    }
    found.sort_by_key(|(position, ..)| std::cmp::Reverse(*position));
    let mut taken = Taken::default();
    let mut blocks = Vec::new();
    for (_, places, block) in found {
        let free = taken.take(places);
        blocks.extend(block.filter(|block| free && !block.records.is_empty()));
    }
    blocks
}

/// The occupied ranges: they neither overlap nor touch, and are keyed by their begin. A block may claim the
/// length of the whole arena, so ranges are not walked place by place.
#[derive(Default)]
struct Taken(BTreeMap<usize, usize>);

impl Taken {
    /// Takes a range, and returns whether all of it was free. Every range that it meets becomes part of the
    /// new one, so in total this takes no longer than sorting the blocks did.
    fn take(&mut self, places: Range<usize>) -> bool {
        let Range { mut start, mut end } = places;
        let mut free = true;
        while let Some((&first, &behind)) = self.0.range(..=end).next_back() {
            if behind < start {
                break;
            }
            free &= behind == start || first == end;
            (start, end) = (start.min(first), end.max(behind));
            self.0.remove(&first);
        }
        self.0.insert(start, end);
        free
    }
}

/// The capacity that fits the data: that of the header, unless no block lies where that requires one, while
/// some do if the file is whole.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BLOCK_HEADER, BlockHeader, Generation, ThreadNumber, Ticks, pack_committed};
    use proptest::prelude::*;

    const CAPACITY: u64 = 8192;

    fn put(data: &mut [u8], position: u64, length: u32) {
        let header = BlockHeader {
            length,
            position: Position(position),
            generation: Generation(1 + position / CAPACITY),
            base: Ticks(1),
            first_event: 0,
            slot: 1,
            sequence: 0,
            thread: ThreadNumber(1),
        };
        let place = &mut data[(position % CAPACITY) as usize..][..BLOCK_HEADER];
        place[..4].copy_from_slice(&header.check().to_le_bytes());
        place[4..8].copy_from_slice(&length.to_le_bytes());
        for (at, word) in [
            (8, position),
            (16, header.generation.0),
            (24, 1),
            (32, 0),
            (40, 1),
            (48, 1),
            (56, pack_committed(3, 1)),
        ] {
            place[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
    }

    fn positions(data: &[u8]) -> Vec<u64> {
        let mut found: Vec<_> =
            blocks(data, CAPACITY).iter().map(|block| block.header.position.0).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn a_hole_in_which_an_old_block_begins_hides_no_new_one() {
        let mut data = vec![0; CAPACITY as usize];
        put(&mut data, 0, 4096);
        put(&mut data, 4096, 4096);
        assert_eq!(positions(&data), [0, 4096]);
        // The next lap: a hole of 512 bytes, and two blocks behind it.
        put(&mut data, CAPACITY + 512, 512);
        put(&mut data, CAPACITY + 1024, 256);
        assert_eq!(positions(&data), [4096, CAPACITY + 512, CAPACITY + 1024]);
    }

    proptest! {
        #[test]
        fn places_are_free_until_they_are_taken(
            asked in prop::collection::vec((0_usize..60, 1_usize..12), 0..40),
        ) {
            let (mut taken, mut right) = (Taken::default(), [false; 80]);
            for (start, length) in asked {
                let places = &mut right[start..start + length];
                let free = !places.contains(&true);
                places.fill(true);
                prop_assert_eq!(taken.take(start..start + length), free);
                let runs = right.chunk_by(|one, other| one == other).filter(|run| run[0]).count();
                prop_assert_eq!(taken.0.len(), runs);
            }
        }
    }
}
