//! Reads the fields of what is encoded as a sequence of numbers, lengths and bytes.

use crate::wire::get_varint;

/// What is left to read. Each method takes one field off the front; `None` if it is damaged or cut off.
pub(crate) struct Rest<'a>(pub(crate) &'a [u8]);

impl<'a> Rest<'a> {
    pub(crate) fn number(&mut self) -> Option<u64> {
        let (value, length) = get_varint(self.0)?;
        self.0 = &self.0[length..];
        Some(value)
    }

    pub(crate) fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// How many of something follow: not more than these.
    pub(crate) fn count(&mut self, most: usize) -> Option<u64> {
        self.number().filter(|count| *count <= most as u64)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
}
