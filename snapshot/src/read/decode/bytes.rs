//! A position in a generation's content that advances as records are read.

use crate::wire::{MAX_TEXT, ValueType, get_varint, unzigzag};
use std::time::Duration;

/// A text as a record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextAt {
    /// The string with this id.
    Id(u64),
    /// The text itself.
    Span(Span),
}

/// A text in a generation's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    /// Its length; the top bit says that the recorder cut it.
    length: u32,
}

impl Span {
    const CUT: u32 = 1 << 31;

    pub(crate) fn new(start: u32, length: u32, cut: bool) -> Self {
        Self { start, length: length & !Self::CUT | if cut { Self::CUT } else { 0 } }
    }

    pub(crate) fn is_cut(self) -> bool {
        self.length & Self::CUT != 0
    }

    /// Its bytes, which may not be UTF-8.
    pub(crate) fn bytes(self, content: &[u8]) -> &[u8] {
        let start = self.start as usize;
        content.get(start..start + (self.length & !Self::CUT) as usize).unwrap_or_default()
    }

    /// The text, up to the first byte that is not UTF-8.
    pub(crate) fn of(self, content: &[u8]) -> &str {
        let bytes = self.bytes(content);
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}

/// Why something cannot be read, in words.
pub(crate) type Fault = &'static str;

const CUT_OFF: Fault = "a record is cut off";
const NO_TYPE: Fault = "a field has a type that no version has";

/// See the module. Never reads at or beyond `end`.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    content: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Bytes<'a> {
    /// The bytes of `content` from `at` up to `end`, which must both be in it.
    #[inline]
    pub(crate) fn new(content: &'a [u8], at: u32, end: u32) -> Self {
        Self { content: &content[..end as usize], at: at as usize }
    }

    #[inline]
    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.content.len()
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.content.get(self.at).ok_or(CUT_OFF)?;
        self.at += 1;
        Ok(byte)
    }

    // Always inlined: the decoder calls it for nearly each argument of each kind, too often for the compiler
    // to inline it by itself.
    #[inline(always)]
    pub(crate) fn number(&mut self) -> Result<u64, Fault> {
        let rest = self.content.get(self.at..).unwrap_or_default();
        // Most numbers take one byte or two. One branch recognizes each of these and is nearly always
        // predicted right, so the position of the next record depends on no computation.
        match *rest {
            [first, ..] if first < 0x80 => {
                self.at += 1;
                Ok(u64::from(first))
            }
            [first, second, ..] if second < 0x80 => {
                self.at += 2;
                Ok(u64::from(first & 0x7f) | u64::from(second) << 7)
            }
            _ => self.long_number(),
        }
    }

    #[inline(never)]
    fn long_number(&mut self) -> Result<u64, Fault> {
        let rest = self.content.get(self.at..).unwrap_or_default();
        let (value, length) = get_varint(rest).ok_or("a number is cut off or too large")?;
        self.at += length;
        Ok(value)
    }

    /// The entry of a task or span, or its incarnation.
    #[inline]
    pub(crate) fn place(&mut self) -> Result<u32, Fault> {
        u32::try_from(self.number()?).map_err(|_| "a task or span is larger than any may be")
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Fault> {
        self.number().map(unzigzag)
    }

    pub(crate) fn float(&mut self) -> Result<f64, Fault> {
        let rest = self.content.get(self.at..).unwrap_or_default();
        let raw = rest.first_chunk().ok_or(CUT_OFF)?;
        self.at += 8;
        Ok(f64::from_le_bytes(*raw))
    }

    #[inline]
    pub(crate) fn text(&mut self) -> Result<TextAt, Fault> {
        let tag = self.number()?;
        if tag & 1 != 0 {
            return Ok(TextAt::Id(tag >> 1));
        }
        let length = tag >> 2;
        if length > MAX_TEXT as u64 {
            return Err("a text is longer than any may be");
        }
        let start = self.at;
        self.skip(length as usize)?;
        Ok(TextAt::Span(Span::new(start as u32, length as u32, tag & 2 != 0)))
    }

    #[inline]
    pub(crate) fn skip(&mut self, length: usize) -> Result<(), Fault> {
        if length > self.content.len().saturating_sub(self.at) {
            return Err(CUT_OFF);
        }
        self.at += length;
        Ok(())
    }

    #[inline]
    pub(crate) fn skip_value(&mut self, kind: ValueType) -> Result<(), Fault> {
        match kind {
            ValueType::Unsigned | ValueType::Signed => self.number().map(drop),
            ValueType::Float => self.skip(8),
            ValueType::Bool => self.skip(1),
            ValueType::Text | ValueType::Error => self.text().map(drop),
            ValueType::Wide | ValueType::WideSigned | ValueType::Duration => {
                self.number()?;
                self.number().map(drop)
            }
            ValueType::Any => match self.any()? {
                Some(kind) => self.skip_value(kind),
                None => Ok(()),
            },
            ValueType::Omitted => Ok(()),
        }
    }

    /// The type of a value that states its own type; `None` if there is no value.
    pub(crate) fn any(&mut self) -> Result<Option<ValueType>, Fault> {
        match self.byte()? {
            0 => Ok(None),
            code => match ValueType::from_code(code) {
                None | Some(ValueType::Any | ValueType::Omitted) => Err(NO_TYPE),
                kind => Ok(kind),
            },
        }
    }

    /// The type of the next value, in a field of this type; `None` if there is none.
    pub(crate) fn kind(&mut self, kind: ValueType) -> Option<ValueType> {
        if kind == ValueType::Any { self.any().ok()? } else { Some(kind) }
    }

    /// The front of a given value: the index of the callsite's field, and the value's type.
    pub(crate) fn given(&mut self) -> Result<(u64, ValueType), Fault> {
        let tag = self.number()?;
        let kind = match ValueType::from_code((tag & 7) as u8) {
            Some(ValueType::Any) => {
                ValueType::from_code(self.byte()?).filter(|kind| *kind as u8 > ValueType::Any as u8)
            }
            kind => kind,
        };
        Ok((tag >> 3, kind.ok_or(NO_TYPE)?))
    }

    pub(crate) fn wide(&mut self) -> Result<u128, Fault> {
        Ok(u128::from(self.number()?) | u128::from(self.number()?) << 64)
    }

    pub(crate) fn duration(&mut self) -> Result<Duration, Fault> {
        let (seconds, nanos) = (self.number()?, self.number()?);
        match u32::try_from(nanos) {
            Ok(nanos) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
            _ => Err("a length of time has a second or more in its nanoseconds"),
        }
    }

    /// Skips the given values of a span or a message.
    #[inline]
    pub(crate) fn skip_given(&mut self) -> Result<(), Fault> {
        for _ in 0..self.number()? {
            let (_, kind) = self.given()?;
            self.skip_value(kind)?;
        }
        Ok(())
    }

    /// The range of bytes that follow a length.
    pub(crate) fn counted(&mut self) -> Result<(usize, usize), Fault> {
        let length = usize::try_from(self.number()?).map_err(|_| CUT_OFF)?;
        let start = self.at;
        self.skip(length)?;
        Ok((start, self.at))
    }

    pub(crate) fn value_type(&mut self) -> Result<ValueType, Fault> {
        let kind = ValueType::from_code(self.byte()?);
        kind.filter(|kind| *kind != ValueType::Omitted).ok_or(NO_TYPE)
    }

    /// Pairs of numbers; at most as many as the bytes suffice for.
    pub(crate) fn pairs(&mut self) -> Result<Vec<(u64, u64)>, Fault> {
        let count = self.number()?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((self.number()?, self.number()?));
        }
        Ok(pairs)
    }
}

/// Whether arguments of this name are read by [`Bytes::place`], which refuses what is too large.
pub(crate) const fn is_place(argument: &str) -> bool {
    matches!(
        argument.as_bytes(),
        b"task"
            | b"span"
            | b"incarnation"
            | b"parent"
            | b"parent_incarnation"
            | b"from"
            | b"from_incarnation"
    )
}
