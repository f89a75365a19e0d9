//! Messages of Protocol Buffers, as much as the exports need.

use crate::wire::put_varint;

/// A message, as bytes.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A number; 0 is what a reader assumes where there is none.
    pub(super) fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.exactly(field, value);
        }
    }

    /// A number, also if it is 0: where it makes a difference that there is one.
    pub(super) fn exactly(&mut self, field: u32, value: u64) {
        put_varint(&mut self.0, u64::from(field) << 3);
        put_varint(&mut self.0, value);
    }

    /// A number of 64 bits that takes as many.
    pub(super) fn fixed(&mut self, field: u32, value: u64) {
        put_varint(&mut self.0, u64::from(field) << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A number with a fraction.
    pub(super) fn float(&mut self, field: u32, value: f64) {
        self.fixed(field, value.to_bits());
    }

    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        put_varint(&mut self.0, u64::from(field) << 3 | 2);
        put_varint(&mut self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A text; readers in C++ take a NUL for its end, so it is written as it is in Rust's sources.
    pub(super) fn text(&mut self, field: u32, text: &str) {
        match text.contains('\0') {
            true => self.bytes(field, text.replace('\0', "\\u{0}").as_bytes()),
            false => self.bytes(field, text.as_bytes()),
        }
    }

    pub(super) fn message(&mut self, field: u32, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// Numbers, one after the other.
    #[cfg(feature = "symbols")]
    pub(super) fn packed(&mut self, field: u32, numbers: &[u64]) {
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| put_varint(&mut bytes, *number));
        self.bytes(field, &bytes);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
