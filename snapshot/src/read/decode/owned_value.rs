//! Values that outlive their generation.

use super::contents::Contents;
use super::fields::{Fields, Found, ValuesAt};
use super::value::{Text, Value};
use std::time::Duration;

/// A value of a span's field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owned {
    Unsigned(u64),
    Signed(i64),
    Float(u64),
    Bool(bool),
    /// A text, whether it was cut off, and whether it is an error's.
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

    /// Adds the values that are present; a later value replaces an earlier one of the same field.
    pub(crate) fn add_given(
        of: &Contents,
        site: u32,
        values: ValuesAt,
        fields: &mut Vec<(Box<str>, Self)>,
    ) {
        let mut given = Fields::given(of, site, values, &[]);
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

    /// Whether a restatement may say `stated` for this value: it may have cut a text shorter.
    pub(crate) fn may_be(&self, stated: &Self) -> bool {
        match (self, stated) {
            (Self::Text(text, _, error), Self::Text(short, true, other)) => {
                error == other && text.starts_with(&**short)
            }
            _ => self == stated,
        }
    }

    /// The value in the form that fields are read in.
    pub(crate) fn found(&self) -> Found<'_> {
        Found::Value(match self {
            Self::Omitted => return Found::Omitted,
            Self::Wide(value) => Value::Wide(*value),
            Self::WideSigned(value) => Value::WideSigned(*value),
            Self::Duration(value) => Value::Duration(*value),
            Self::Unsigned(value) => Value::Unsigned(*value),
            Self::Signed(value) => Value::Signed(*value),
            Self::Float(bits) => Value::Float(f64::from_bits(*bits)),
            Self::Bool(value) => Value::Bool(*value),
            Self::Text(text, cut, false) => Value::Text(Text { text, cut: *cut }),
            Self::Text(text, cut, true) => Value::Error(Text { text, cut: *cut }),
        })
    }
}

/// The most fields of a span that are carried.
const MANY: usize = 64;
