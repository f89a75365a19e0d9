//! The writer: metadata first, then generation after generation, then the index.
//!
//! A generation is compressed in place and written in pieces, so the memory that a writer needs does not
//! depend on its size: about 2 MiB for the compressor, and the headers of its blocks. If writing fails, the
//! file is valid up to there.

use super::frame::reserve;
use super::index::{IndexEntry, encode_index, encode_metadata_copy, encode_stacks, encode_trailer};
use super::{FILE_MAGIC, FORMAT_VERSION, GenerationFrame};
use crate::wire::{Metadata, ProcessStacks};
use std::io::{self, Write};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// The level of compression. Measured on the records of a service (`benches/read.rs`), 1 is at the
/// bend: level 2 takes up to twice the time to save a twentieth, level 3 four times for a tenth.
const LEVEL: i32 = 1;

/// Writes a file.
///
/// ```
/// use lookback_snapshot::file::{FileWriter, GenerationFrame};
/// use lookback_snapshot::wire::{ClockRecord, Generation, Metadata, key};
///
/// let mut metadata = Metadata::default();
/// metadata.add(key::PROCESS_NAME, "shop");
/// let mut writer = FileWriter::new(Vec::new(), &metadata)?;
/// writer.generation(&mut GenerationFrame {
///     number: Generation(1),
///     complete: true,
///     began: ClockRecord::default(),
///     ended: ClockRecord::default(),
///     blocks: Vec::new(),
/// })?;
/// let file = writer.finish()?;
/// assert_eq!(file[..4], [0x28, 0xb5, 0x2f, 0xfd]);
/// # std::io::Result::Ok(())
/// ```
pub struct FileWriter<W: Write> {
    out: W,
    written: u64,
    compressor: Encoder<'static>,
    metadata: Vec<u8>,
    index: Vec<IndexEntry>,
    front: Vec<u8>,
    /// Compressed data that is not written yet.
    piece: Vec<u8>,
}

/// How much is written at a time.
const PIECE: usize = 128 << 10;

impl<W: Write> FileWriter<W> {
    /// Begins a file: writes the metadata.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, metadata: &Metadata) -> io::Result<Self> {
        Self::with_level(out, metadata, LEVEL)
    }

    /// Begins a file with another level of compression.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn with_level(out: W, metadata: &Metadata, level: i32) -> io::Result<Self> {
        let mut compressor = Encoder::new(level)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
        let mut content = FILE_MAGIC.to_vec();
        content.extend(FORMAT_VERSION.to_le_bytes());
        content.extend([0; 2]);
        content.extend(metadata.encode());
        let mut writer = Self {
            out,
            written: 0,
            compressor,
            metadata: content,
            index: Vec::new(),
            front: Vec::new(),
            piece: Vec::new(),
        };
        let metadata = std::mem::take(&mut writer.metadata);
        writer.write_frame(std::iter::once(&metadata[..]))?;
        writer.metadata = metadata;
        Ok(writer)
    }

    /// Writes a generation. Sorts its blocks.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn generation(&mut self, frame: &mut GenerationFrame<'_>) -> io::Result<()> {
        let mut front = std::mem::take(&mut self.front);
        frame.encode_front(&mut front)?;
        let offset = self.written;
        let content = self.write_frame(std::iter::once(&front[..]).chain(frame.records()))?;
        self.front = front;
        self.index.push(IndexEntry {
            number: frame.number,
            offset,
            compressed: self.written - offset,
            content,
            flags: frame.flags(),
            began: frame.began.monotonic,
            ended: frame.ended.monotonic,
            events: frame.events(),
        });
        Ok(())
    }

    /// Writes the stacks of the process's threads, which were taken from outside: behind the last generation.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn stacks(&mut self, stacks: &ProcessStacks) -> io::Result<()> {
        let mut frame = Vec::new();
        encode_stacks(&mut frame, stacks);
        self.out.write_all(&frame)?;
        self.written += frame.len() as u64;
        Ok(())
    }

    /// Ends the file: writes index, copy of the metadata and trailer, and flushes.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        let (index, mut end) = (self.written, Vec::new());
        encode_index(&mut end, &self.index);
        let metadata = index + end.len() as u64;
        encode_metadata_copy(&mut end, &self.metadata);
        encode_trailer(&mut end, index, metadata);
        self.out.write_all(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// How many bytes were written so far.
    pub fn bytes_written(&self) -> u64 {
        self.written
    }

    /// Writes a frame of these pieces, back to back. Returns the length of its content.
    fn write_frame<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> io::Result<u64> {
        let content = pieces.clone().map(|piece| piece.len() as u64).sum();
        self.compressor.reinit()?;
        self.compressor.set_pledged_src_size(Some(content))?;
        self.piece.clear();
        reserve(&mut self.piece, PIECE)?;
        self.piece.resize(PIECE, 0);
        for piece in pieces {
            let mut rest = InBuffer::around(piece);
            while rest.pos() < piece.len() {
                self.step(|compressor, out| compressor.run(&mut rest, out))?;
            }
        }
        while self.step(|compressor, out| compressor.finish(out, true))? > 0 {}
        Ok(content)
    }

    /// Compresses one step, and writes the output.
    fn step(
        &mut self,
        compress: impl FnOnce(&mut Encoder<'static>, &mut OutBuffer<'_, [u8]>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut out = OutBuffer::around(&mut self.piece[..]);
        let left = compress(&mut self.compressor, &mut out)?;
        let written = out.pos();
        if written > 0 {
            self.out.write_all(&self.piece[..written])?;
            self.written += written as u64;
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::FileBlock;
    use crate::wire::{Block, BlockHeader, ClockRecord, Generation, Position, ThreadNumber, Ticks};

    fn block(slot: u32, sequence: u32, records: &[u8]) -> FileBlock<'_> {
        let header = BlockHeader {
            length: 256,
            position: Position(0),
            generation: Generation(3),
            base: Ticks(90),
            first_event: 0,
            slot,
            sequence,
            thread: ThreadNumber(1),
        };
        FileBlock { block: Block { header, events: 1, records }, cut: records.len() as u32 }
    }

    fn frame<'a>(blocks: Vec<FileBlock<'a>>) -> GenerationFrame<'a> {
        let began = ClockRecord { ticks: Ticks(100), ..ClockRecord::default() };
        GenerationFrame { number: Generation(3), complete: true, began, ended: began, blocks }
    }

    /// Takes a limited number of bytes, as a full disk does.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.len() > self.0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn zstd_alone_reads_a_file() {
        let mut writer = FileWriter::new(Vec::new(), &Metadata::default()).unwrap();
        let blocks = vec![block(2, 0, b"later"), block(1, 1, b"second"), block(1, 0, b"first")];
        writer.generation(&mut frame(blocks)).unwrap();
        assert!(writer.bytes_written() > 0);
        let file = writer.finish().unwrap();
        let content = zstd::decode_all(&file[..]).unwrap();
        assert!(content.starts_with(b"LOOKBACK\x03\0\0\0LBGN\x03\x01"));
        assert!(content.ends_with(b"firstsecondlater"), "sorted by slot and sequence");
    }

    #[test]
    fn a_full_disk_is_an_error_wherever_it_hits() {
        let whole = {
            let mut writer = FileWriter::new(Vec::new(), &Metadata::default()).unwrap();
            writer.generation(&mut frame(vec![block(0, 0, b"x")])).unwrap();
            writer.finish().unwrap().len()
        };
        for room in 0..whole {
            let result =
                FileWriter::new(Full(room), &Metadata::default()).and_then(|mut writer| {
                    writer.generation(&mut frame(vec![block(0, 0, b"x")]))?;
                    writer.finish().map(drop)
                });
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull, "room for {room}");
        }
    }

    #[test]
    fn every_frame_has_its_checksum_and_its_size() {
        let file = FileWriter::new(Vec::new(), &Metadata::default()).unwrap().finish().unwrap();
        // The frame header's descriptor: bit 2 says that a checksum follows, bits 6 and 7 or bit 5
        // that the content's size is there.
        assert_ne!(file[4] & 0b100, 0);
        assert_ne!(file[4] & 0b1110_0000, 0);
    }
}
