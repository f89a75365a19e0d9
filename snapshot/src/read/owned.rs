//! Values that are kept when the generation they are of is gone.

use super::fields::{Fields, Found};
use super::generation::Contents;
use super::{Text, Value};
use crate::wire::{ValueType, put_varint, zigzag, zigzag_wide};
use std::time::Duration;

/// A value of a span's field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Owned {
    Unsigned(u64),
    Signed(i64),
    Float(u64),
    Bool(bool),
    /// A text, whether it was cut off, and whether it is that of an error.
    Text(Box<str>, bool, bool),
    Wide(u128),
    WideSigned(i128),
    Duration(Duration),
    /// There was no room for it.
    Omitted,
}

impl Owned {
    fn new(value: Value<'_>) -> Self {
        match value {
            Value::Wide(value) => Self::Wide(value),
            Value::WideSigned(value) => Self::WideSigned(value),
            Value::Duration(value) => Self::Duration(value),
            Value::Unsigned(value) => Self::Unsigned(value),
            Value::Signed(value) => Self::Signed(value),
            Value::Float(value) => Self::Float(value.to_bits()),
            Value::Bool(value) => Self::Bool(value),
            Value::Text(Text { text, cut }) => Self::Text(text.into(), cut, false),
            Value::Error(Text { text, cut }) => Self::Text(text.into(), cut, true),
        }
    }

    /// Adds the values that begin at `given`; of a field that is there, the later one stays.
    pub(super) fn add_given(
        of: &Contents,
        site: u32,
        given: u32,
        fields: &mut Vec<(Box<str>, Self)>,
    ) {
        let mut given = Fields::given(of, site, given, &[]);
        let given = std::iter::from_fn(|| given.found());
        for (name, found) in given.take(MANY) {
            let value = match found {
                Found::Value(value) => Self::new(value),
                Found::Omitted => Self::Omitted,
                Found::Nothing => continue,
            };
            let known = fields.iter().position(|(known, _)| **known == *name);
            match known {
                Some(known) => fields[known].1 = value,
                None if fields.len() < MANY => fields.push((name.into(), value)),
                None => {}
            }
        }
    }

    /// Whether a restatement may say `stated` of this: a text may have been cut shorter.
    pub(super) fn may_be(&self, stated: &Self) -> bool {
        match (self, stated) {
            (Self::Text(text, _, error), Self::Text(short, true, other)) => {
                error == other && text.starts_with(&**short)
            }
            _ => self == stated,
        }
    }

    /// Writes it as a given value of this field.
    pub(super) fn put(&self, index: u64, out: &mut Vec<u8>) {
        let tag = |kind: ValueType| index << 3 | kind as u64;
        let mut wide = |kind: ValueType, first: u64, second: u64| {
            put_varint(out, tag(ValueType::Any));
            out.push(kind as u8);
            put_varint(out, first);
            put_varint(out, second);
        };
        let halves = |value: u128| (value as u64, (value >> 64) as u64);
        match self {
            Self::Wide(value) => {
                let (low, high) = halves(*value);
                wide(ValueType::Wide, low, high);
            }
            Self::WideSigned(value) => {
                let (low, high) = halves(zigzag_wide(*value));
                wide(ValueType::WideSigned, low, high);
            }
            Self::Duration(value) => {
                let nanos = u64::from(value.subsec_nanos());
                wide(ValueType::Duration, value.as_secs(), nanos);
            }
            Self::Omitted => {
                put_varint(out, tag(ValueType::Any));
                out.push(ValueType::Omitted as u8);
            }
            Self::Unsigned(value) => {
                put_varint(out, tag(ValueType::Unsigned));
                put_varint(out, *value);
            }
            Self::Signed(value) => {
                put_varint(out, tag(ValueType::Signed));
                put_varint(out, zigzag(*value));
            }
            Self::Float(bits) => {
                put_varint(out, tag(ValueType::Float));
                out.extend(bits.to_le_bytes());
            }
            Self::Bool(value) => {
                put_varint(out, tag(ValueType::Bool));
                out.push(u8::from(*value));
            }
            Self::Text(text, cut, error) => {
                put_varint(out, tag(if *error { ValueType::Error } else { ValueType::Text }));
                put_varint(out, (text.len() as u64) << 2 | u64::from(*cut) << 1);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

/// So many fields of a span are carried.
const MANY: usize = 64;
