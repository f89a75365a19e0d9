//! Blocks: the contiguous pieces of the arena that one slot fills in one generation.
//!
//! A block begins with a header of 64 bytes, all fields little-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | check: a hash of the fields up to `committed`, which also tells a block from padding |
//! | 4 | 4 | length of the block with its header, a multiple of 256 |
//! | 8 | 8 | its own position, written last |
//! | 16 | 8 | generation |
//! | 24 | 8 | base time in ticks: the first event's delta counts from it |
//! | 32 | 8 | number of the block's first event among those of its slot |
//! | 40 | 4 | slot |
//! | 44 | 4 | sequence: how many blocks with records the slot had in this generation before |
//! | 48 | 8 | the thread that the slot belonged to when the block was opened, 0 for none |
//! | 56 | 8 | committed: bytes of records in the low half, events among them in the high half |
//!
//! `committed` is 0 until the header is whole, and is stored after each event, so everything up to it can be
//! read at any instant. The position distinguishes the header from one of an earlier lap.

use super::{Generation, Position, ThreadNumber, Ticks};

/// The size of a block's header in bytes.
pub const BLOCK_HEADER: usize = 64;

/// Blocks begin at multiples of this many bytes, and no block is smaller.
pub const BLOCK_GRANULE: usize = 256;

/// The longest text, in bytes.
pub const MAX_TEXT: usize = 1024;

/// The seed that marks padding at the arena's end, in place of a block's.
pub const PADDING_MAGIC: u64 = u64::from_le_bytes(*b"LBKpaddi");

const BLOCK_MAGIC: u64 = u64::from_le_bytes(*b"LBKblock");

/// A block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Length of the block with its header, in bytes.
    pub length: u32,
    /// Where it begins.
    pub position: Position,
    /// The generation that it belongs to.
    pub generation: Generation,
    /// The time that the first event's delta counts from.
    pub base: Ticks,
    /// The number of its first event among those of its slot, from 0, lost ones included.
    pub first_event: u64,
    /// The slot that fills it.
    pub slot: u32,
    /// How many blocks with records the slot had in this generation before this one.
    pub sequence: u32,
    /// The thread whose events come first.
    pub thread: ThreadNumber,
}

impl BlockHeader {
    /// The hash at the front of the header.
    #[must_use]
    pub fn check(&self) -> u32 {
        self.check_with(BLOCK_MAGIC)
    }

    /// The hash at the front if this is padding.
    #[must_use]
    pub fn padding_check(&self) -> u32 {
        self.check_with(PADDING_MAGIC)
    }

    fn check_with(&self, seed: u64) -> u32 {
        let words = [
            u64::from(self.length),
            self.position.0,
            self.generation.0,
            self.base.0,
            self.first_event,
            u64::from(self.slot) << 32 | u64::from(self.sequence),
            self.thread.0,
        ];
        let mut hash = seed;
        for word in words {
            hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 32;
        }
        hash as u32
    }

    /// Reads a header and its `committed` word from the front of `bytes`. `None` unless it is the
    /// header of a block or of padding, at this position. The flag says that it is padding.
    fn parse(bytes: &[u8], at: Position) -> Option<(Self, u64, bool)> {
        let bytes: &[u8; BLOCK_HEADER] = bytes.first_chunk()?;
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if u64_at(8) != at.0 {
            return None;
        }
        let header = Self {
            length: u32_at(4),
            position: at,
            generation: Generation(u64_at(16)),
            base: Ticks(u64_at(24)),
            first_event: u64_at(32),
            slot: u32_at(40),
            sequence: u32_at(44),
            thread: ThreadNumber(u64_at(48)),
        };
        let length = header.length as usize;
        if length < BLOCK_GRANULE || !length.is_multiple_of(BLOCK_GRANULE) {
            return None;
        }
        let check = u32_at(0);
        if check == header.check() {
            Some((header, u64_at(56), false))
        } else if check == header.padding_check() {
            Some((header, 0, true))
        } else {
            None
        }
    }
}

/// The `committed` word of a block: bytes of records and events among them.
#[inline]
#[must_use]
pub const fn pack_committed(bytes: u32, events: u32) -> u64 {
    (events as u64) << 32 | bytes as u64
}

/// A block found in a copy of the arena.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Its header.
    pub header: BlockHeader,
    /// How many events it holds.
    pub events: u32,
    /// Its records, up to what was committed.
    pub records: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads the block or padding at the front of `bytes`, if it is at this position and `bytes` hold it
    /// whole. Returns the block, unless it is padding or claims the impossible, and its length.
    #[must_use]
    pub fn find(bytes: &'a [u8], at: Position) -> Option<(Option<Self>, usize)> {
        let (header, committed, padding) = BlockHeader::parse(bytes, at)?;
        let length = header.length as usize;
        let whole = bytes.get(..length)?;
        let records = whole[BLOCK_HEADER..].get(..committed as u32 as usize);
        let block = records.filter(|_| !padding).map(|records| Self {
            header,
            events: (committed >> 32) as u32,
            records,
        });
        Some((block, length))
    }

    /// Like [`find`](Self::find), from the front of a block only: its header, and how many bytes of records
    /// were committed; `None` for padding, or if it claims the impossible.
    #[must_use]
    pub fn front(bytes: &[u8], at: Position) -> Option<(BlockHeader, Option<u32>)> {
        let (header, committed, padding) = BlockHeader::parse(bytes, at)?;
        let (records, room) = (committed as u32, header.length - BLOCK_HEADER as u32);
        Some((header, (!padding && records <= room).then_some(records)))
    }

    /// The position that the block at the front of `bytes` claims, if there is one.
    #[must_use]
    pub fn claimed_position(bytes: &[u8]) -> Option<Position> {
        let word = bytes.get(8..16)?;
        Some(Position(u64::from_le_bytes(std::array::from_fn(|i| word[i]))))
    }
}

/// Walks the blocks of a copy of the arena, in the order of their positions. It skips anything else: holes
/// that writers left, padding, blocks that are cut off.
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    bytes: &'a [u8],
    at: Position,
    skipped: u64,
}

impl<'a> Blocks<'a> {
    /// Walks `bytes`, a copy of the data from `start` on.
    #[must_use]
    pub fn new(bytes: &'a [u8], start: Position) -> Self {
        Self { bytes, at: start, skipped: 0 }
    }

    /// How many bytes so far belonged to no block and to no padding.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn step(&mut self, bytes: usize) {
        self.bytes = &self.bytes[bytes..];
        self.at = self.at + bytes as u64;
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        while self.bytes.len() >= BLOCK_GRANULE {
            let Some((block, length)) = Block::find(self.bytes, self.at) else {
                self.skipped += BLOCK_GRANULE as u64;
                self.step(BLOCK_GRANULE);
                continue;
            };
            self.step(length);
            if block.is_some() {
                return block;
            }
        }
        self.skipped += self.bytes.len() as u64;
        self.bytes = &[];
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(position: u64, length: u32) -> BlockHeader {
        BlockHeader {
            length,
            position: Position(position),
            generation: Generation(7),
            base: Ticks(99),
            first_event: 5,
            slot: 3,
            sequence: 1,
            thread: ThreadNumber(12),
        }
    }

    fn write(bytes: &mut [u8], header: &BlockHeader, committed: u64, check: u32) {
        bytes[0..4].copy_from_slice(&check.to_le_bytes());
        bytes[4..8].copy_from_slice(&header.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&header.position.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&header.generation.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&header.base.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&header.first_event.to_le_bytes());
        bytes[40..44].copy_from_slice(&header.slot.to_le_bytes());
        bytes[44..48].copy_from_slice(&header.sequence.to_le_bytes());
        bytes[48..56].copy_from_slice(&header.thread.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&committed.to_le_bytes());
    }

    #[test]
    fn a_walk_steps_over_holes_padding_and_earlier_laps() {
        let start = 1 << 20;
        let mut bytes = vec![0_u8; 256 * 8];
        let first = header(start, 256);
        write(&mut bytes, &first, pack_committed(10, 2), first.check());
        // A hole at 256, a header of an earlier lap at 512, padding at 768, a block at 1280.
        let lap = header(512, 256);
        write(&mut bytes[512..], &lap, 0, lap.check());
        let padding = header(start + 768, 512);
        write(&mut bytes[768..], &padding, 0, padding.padding_check());
        let last = header(start + 1280, 512);
        write(&mut bytes[1280..], &last, pack_committed(448, 1), last.check());
        let mut blocks = Blocks::new(&bytes, Position(start));
        let found: Vec<_> =
            blocks.by_ref().map(|b| (b.header.position.0 - start, b.records.len())).collect();
        assert_eq!(found, [(0, 10), (1280, 448)]);
        assert_eq!(blocks.skipped(), 256 * 3);
    }

    #[test]
    fn a_header_with_any_bit_flipped_is_no_header() {
        let whole = header(4096, 256);
        let mut bytes = vec![0_u8; 256];
        write(&mut bytes, &whole, pack_committed(0, 0), whole.check());
        for bit in 0..56 * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Blocks::new(&bytes, Position(4096)).count(), 0, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Blocks::new(&bytes, Position(4096)).count(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, start: u64) {
            let _ = Blocks::new(&bytes, Position(start)).count();
        }
    }
}
