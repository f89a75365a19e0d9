//! The trace's file: a header, batches, and the mark that the generation is whole.

use crate::wire::{ClockRecord, put_varint};
use std::io::{self, Write};

/// The beginning of a file of this version.
const HEADER: &[u8; 16] = b"go 1.26 trace\0\0\0";
/// The one generation of the trace.
const GENERATION: u64 = 1;
/// The thread of a batch that belongs to none.
pub(super) const NO_THREAD: u64 = u64::MAX;

const EVENT_BATCH: u8 = 1;
const FREQUENCY: u8 = 8;
const SYNC: u8 = 50;
const CLOCK_SNAPSHOT: u8 = 51;
const END_OF_GENERATION: u8 = 52;

/// The file. It keeps the first error of the writer, and writes nothing after it.
pub(super) struct File<W> {
    out: W,
    bytes: u64,
    failed: Option<io::Error>,
}

impl<W: Write> File<W> {
    /// Begins a file whose clock counts nanoseconds and showed `time` when the process's clocks showed
    /// `clock`.
    pub(super) fn new(out: W, time: u64, clock: &ClockRecord) -> Self {
        let mut file = Self { out, bytes: 0, failed: None };
        file.write(HEADER);
        let mut content = vec![SYNC, FREQUENCY];
        put_varint(&mut content, 1_000_000_000);
        content.push(CLOCK_SNAPSHOT);
        let wall = clock.wall.0;
        for number in [0, clock.monotonic.0.max(1), wall / 1_000_000_000, wall % 1_000_000_000] {
            put_varint(&mut content, number);
        }
        file.batch(NO_THREAD, time, &content);
        file
    }

    /// Writes a batch.
    pub(super) fn batch(&mut self, thread: u64, time: u64, content: &[u8]) {
        let mut header = vec![EVENT_BATCH];
        for number in [GENERATION, thread, time, content.len() as u64] {
            put_varint(&mut header, number);
        }
        self.write(&header);
        self.write(content);
    }

    /// Ends the file, and returns its length in bytes.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.write(&[END_OF_GENERATION]);
        self.check()?;
        self.out.flush()?;
        Ok(self.bytes)
    }

    /// Whether everything was written so far.
    pub(super) fn check(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).err();
            self.bytes += bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Nanos, Ticks};

    #[test]
    fn an_empty_trace_is_a_header_a_clock_and_an_end() {
        let (monotonic, wall) = (Nanos(300), Nanos(2_000_000_007));
        let clock = ClockRecord { ticks: Ticks(0), monotonic, wall, frequency: 1 };
        let mut out = Vec::new();
        let bytes = File::new(&mut out, 2048, &clock).finish().unwrap();
        assert_eq!(bytes, out.len() as u64);
        let mut expected = b"go 1.26 trace\0\0\0".to_vec();
        expected.extend([1, 1]);
        expected.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        expected.extend([0x80, 0x10, 13, 50, 8, 0x80, 0x94, 0xeb, 0xdc, 3]);
        expected.extend([51, 0, 0xac, 2, 2, 7, 52]);
        assert_eq!(out, expected);
    }

    #[test]
    fn what_the_writer_refuses_is_an_error() {
        let clock =
            ClockRecord { ticks: Ticks(0), monotonic: Nanos(1), wall: Nanos(1), frequency: 1 };
        let mut small = [0; 20];
        let mut file = File::new(&mut small[..], 2048, &clock);
        assert_eq!(file.check().unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
