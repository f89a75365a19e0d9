//! The content of a generation's frame, before compression.
//!
//! The headers of all blocks come first, then the records of all blocks, back to back. So a reader knows
//! where each block lies before it reads a single record, and the compressor sees similar data together.

use super::GENERATION_TAG;
use crate::wire::{Block, ClockRecord, Generation, MAX_VARINT, put_varint, zigzag};
use std::io;

/// A block of a generation to write.
#[derive(Clone, Copy, Debug)]
pub struct FileBlock<'a> {
    /// The block.
    pub block: Block<'a>,
    /// How many bytes of its records count in full. From `cut` on, only definitions and statuses count. In a
    /// complete generation it is the length of the records.
    pub cut: u32,
}

/// A generation to write.
#[derive(Clone, Debug)]
pub struct GenerationFrame<'a> {
    /// Its number.
    pub number: Generation,
    /// Whether it had ended when it was copied, with statuses and end record.
    pub complete: bool,
    /// When it began.
    pub began: ClockRecord,
    /// When it ended, or when it was copied if it had not ended.
    pub ended: ClockRecord,
    /// Its blocks; the writer sorts them by slot and sequence.
    pub blocks: Vec<FileBlock<'a>>,
}

impl GenerationFrame<'_> {
    /// How many events its blocks hold.
    pub(super) fn events(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.block.events)).sum()
    }

    pub(super) fn flags(&self) -> u64 {
        u64::from(self.complete)
    }

    /// Sorts the blocks and appends the content to `out`.
    ///
    /// # Errors
    /// There is no memory for it.
    #[cfg(feature = "read")]
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.encode_front(out)?;
        reserve(out, self.records().map(<[u8]>::len).sum())?;
        self.records().for_each(|records| out.extend_from_slice(records));
        Ok(())
    }

    /// The records of its blocks, which follow the front back to back.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.blocks.iter().map(|block| block.block.records)
    }

    /// Sorts the blocks and appends the front, everything before their records, to `out`.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(super) fn encode_front(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.blocks
            .sort_unstable_by_key(|block| (block.block.header.slot, block.block.header.sequence));
        out.clear();
        // The headers are eight numbers each, most of which are small.
        reserve(out, 128 + 24 * self.blocks.len())?;
        out.extend(GENERATION_TAG);
        put_varint(out, self.number.0);
        put_varint(out, self.flags());
        for clock in [self.began, self.ended] {
            for value in [clock.ticks.0, clock.monotonic.0, clock.wall.0, clock.frequency] {
                put_varint(out, value);
            }
        }
        put_varint(out, self.blocks.len() as u64);
        for FileBlock { block, cut } in &self.blocks {
            let header = &block.header;
            let base = header.base.0.wrapping_sub(self.began.ticks.0).cast_signed();
            let behind = block.records.len().saturating_sub(*cut as usize);
            for value in [
                u64::from(header.slot),
                u64::from(header.sequence),
                header.thread.0,
                zigzag(base),
                header.first_event,
                u64::from(block.events),
                block.records.len() as u64,
                behind as u64,
            ] {
                put_varint(out, value);
            }
            reserve(out, 8 * MAX_VARINT)?;
        }
        Ok(())
    }
}

/// Reserves memory. The writer may be a service without memory left, which must not die of that.
pub(super) fn reserve(out: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
    out.try_reserve(bytes).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

#[cfg(feature = "read")]
pub(crate) use decode::{BlockEntry, FrameHeader, FramePrefix};

#[cfg(feature = "read")]
mod decode {
    use super::{ClockRecord, GENERATION_TAG, Generation};
    use crate::wire::{Nanos, ThreadNumber, Ticks, get_varint, unzigzag};

    /// The start of a generation's frame, before its blocks.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct FramePrefix {
        pub(crate) number: Generation,
        pub(crate) complete: bool,
        pub(crate) began: ClockRecord,
        pub(crate) ended: ClockRecord,
        /// How many blocks it claims to have.
        blocks: u64,
        /// Where their headers begin.
        length: usize,
    }

    /// A block's header in a file.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct BlockEntry {
        pub(crate) slot: u32,
        pub(crate) sequence: u32,
        pub(crate) thread: ThreadNumber,
        pub(crate) base: Ticks,
        pub(crate) first_event: u64,
        pub(crate) events: u32,
        /// Where its records begin in the content, where they end, and where events end.
        pub(crate) start: u32,
        pub(crate) end: u32,
        pub(crate) cut: u32,
        /// Whether more follows its end; none of that is needed.
        pub(crate) goes_on: bool,
    }

    impl BlockEntry {
        /// Whether there are records after the cut.
        pub(crate) fn is_cut(&self) -> bool {
            self.cut < self.end || self.goes_on
        }
    }

    /// A generation's frame up to its records.
    #[derive(Clone, Debug)]
    pub(crate) struct FrameHeader {
        pub(crate) prefix: FramePrefix,
        pub(crate) blocks: Vec<BlockEntry>,
    }

    struct Numbers<'a> {
        content: &'a [u8],
        at: usize,
    }

    impl Numbers<'_> {
        fn next(&mut self) -> Result<u64, &'static str> {
            let (value, length) = get_varint(&self.content[self.at..])
                .ok_or("a number in the generation's header is cut off or too large")?;
            self.at += length;
            Ok(value)
        }

        fn next_u32(&mut self) -> Result<u32, &'static str> {
            u32::try_from(self.next()?).map_err(|_| "a number in a block's header is too large")
        }

        fn clock(&mut self) -> Result<ClockRecord, &'static str> {
            Ok(ClockRecord {
                ticks: Ticks(self.next()?),
                monotonic: Nanos(self.next()?),
                wall: Nanos(self.next()?),
                frequency: self.next()?,
            })
        }
    }

    impl FramePrefix {
        /// Reads the front of a frame's content.
        pub(crate) fn decode(content: &[u8]) -> Result<Self, &'static str> {
            if !content.starts_with(&GENERATION_TAG) {
                return Err("the frame is no generation");
            }
            let mut numbers = Numbers { content, at: GENERATION_TAG.len() };
            let number = Generation(numbers.next()?);
            let complete = numbers.next()? & 1 != 0;
            let (began, ended) = (numbers.clock()?, numbers.clock()?);
            let blocks = numbers.next()?;
            Ok(Self { number, complete, began, ended, blocks, length: numbers.at })
        }
    }

    impl FrameHeader {
        /// Reads everything up to the records, and checks that those fill the rest. Holds no more
        /// than `limit` blocks.
        pub(crate) fn decode(content: &[u8], limit: usize) -> Result<Self, &'static str> {
            let prefix = FramePrefix::decode(content)?;
            if prefix.blocks > limit as u64 {
                return Err("the generation has more blocks than the limit allows");
            }
            let mut numbers = Numbers { content, at: prefix.length };
            let mut blocks = Vec::new();
            let mut length: u32 = 0;
            for _ in 0..prefix.blocks {
                let (slot, sequence) = (numbers.next_u32()?, numbers.next_u32()?);
                let thread = ThreadNumber(numbers.next()?);
                let base = unzigzag(numbers.next()?).cast_unsigned();
                let (first_event, events) = (numbers.next()?, numbers.next_u32()?);
                let (bytes, behind) = (numbers.next_u32()?, numbers.next_u32()?);
                let start = length;
                let too_long = "the blocks are longer than the frame";
                length = length.checked_add(bytes).ok_or(too_long)?;
                let cut = length.checked_sub(behind).filter(|cut| *cut >= start);
                blocks.push(BlockEntry {
                    slot,
                    sequence,
                    thread,
                    base: Ticks(prefix.began.ticks.0.wrapping_add(base)),
                    first_event,
                    events,
                    start,
                    end: length,
                    cut: cut.ok_or("a block is cut before it begins")?,
                    goes_on: false,
                });
            }
            if (content.len() - numbers.at) as u64 != u64::from(length) {
                return Err("the blocks do not fill the frame");
            }
            let front = numbers.at as u32;
            for block in &mut blocks {
                block.start += front;
                block.end += front;
                block.cut += front;
            }
            Ok(Self { prefix, blocks })
        }
    }
}
