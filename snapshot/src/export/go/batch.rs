//! A thread's events that are not written to the file yet.

use crate::wire::put_varint;

/// The largest content of a batch that Go reads, in bytes.
pub(super) const MAX_BATCH: usize = 64 << 10;
/// The longest event: its code, its time, five arguments.
const MAX_EVENT: usize = 1 + 6 * 10;
/// The base of a batch is a multiple of this. Go converts it to a floating-point number, which is then exact
/// even on a machine that has been up for years.
const BASE_UNIT: u64 = 1024;

/// The events of one thread that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    base: u64,
    last: u64,
    content: Vec<u8>,
}

impl Batch {
    /// Whether another event may not fit.
    pub(super) fn is_full(&self) -> bool {
        self.content.len() + MAX_EVENT > MAX_BATCH
    }

    /// Adds an event.
    pub(super) fn put(&mut self, code: u8, time: u64, arguments: &[u64]) {
        if self.content.is_empty() {
            self.base = time - time % BASE_UNIT;
            self.last = self.base;
        }
        self.content.push(code);
        put_varint(&mut self.content, time - self.last);
        self.last = time;
        arguments.iter().for_each(|argument| put_varint(&mut self.content, *argument));
    }

    /// Its base time and its content.
    pub(super) fn parts(&self) -> (u64, &[u8]) {
        (self.base, &self.content)
    }

    /// Clears what was written.
    pub(super) fn clear(&mut self) {
        self.content.clear();
    }

    /// Clears what was written, and returns its memory.
    pub(super) fn release(&mut self) {
        self.content = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_differences_and_bases_are_round() {
        let mut batch = Batch::default();
        batch.put(16, 5000, &[7, 300]);
        batch.put(20, 5001, &[]);
        let (base, content) = batch.parts();
        assert_eq!(base, 4096);
        assert_eq!(content, [16, 0x88, 0x07, 7, 0xac, 0x02, 20, 1]);
        batch.clear();
        batch.put(20, 1 << 60, &[]);
        assert_eq!(batch.parts(), (1 << 60, &[20, 0][..]));
    }

    #[test]
    fn a_batch_is_full_before_it_is_too_long() {
        let mut batch = Batch::default();
        while !batch.is_full() {
            batch.put(44, u64::MAX, &[u64::MAX; 5]);
        }
        assert!(batch.parts().1.len() <= MAX_BATCH);
    }
}
