//! The named values of an event or a span.

use super::bytes::{Bytes, TextAt};
use super::codec::skip_argument;
use super::contents::Contents;
use super::definitions::Field;
use super::owned_value::Owned;
use super::value::{Text, Value};
use crate::wire::{Argument, ValueType, unzigzag_wide};

/// Where the values of a span are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValuesAt {
    /// Unknown.
    Nowhere,
    /// At this offset in the content.
    Content(u32),
    /// Among those carried over from the previous generation.
    Carried(u32),
}

impl From<u32> for ValuesAt {
    /// Records have 0 if there are none.
    fn from(given: u32) -> Self {
        if given == 0 { Self::Nowhere } else { Self::Content(given) }
    }
}

/// The named values of an event or a span.
pub struct Fields<'a> {
    pub(crate) of: &'a Contents,
    pub(crate) bytes: Bytes<'a>,
    pub(crate) first: [Option<(&'a str, Value<'a>)>; 2],
    pub(crate) rest: Rest<'a>,
}

/// What follows the first ones.
pub(crate) enum Rest<'a> {
    Nothing,
    Typed(&'a [Field]),
    /// Given values of these fields: this many more.
    Given(&'a [Field], u64),
    Foreign(&'a [(String, Argument)]),
    Carried(&'a [(Box<str>, Owned)]),
}

impl<'a> Fields<'a> {
    /// The values that are present of a callsite's fields, after one or two others.
    pub(crate) fn given(
        of: &'a Contents,
        site: u32,
        values: ValuesAt,
        before: &[Option<(&'a str, Value<'a>)>],
    ) -> Self {
        let mut first = [None, None];
        first[..before.len()].copy_from_slice(before);
        let given = if let ValuesAt::Content(given) = values { given } else { 0 };
        let mut bytes = Bytes::new(&of.content, given, of.content.len() as u32);
        let rest = match values {
            ValuesAt::Nowhere => Rest::Nothing,
            ValuesAt::Carried(index) => Rest::Carried(of.begin.carried(index)),
            ValuesAt::Content(_) => {
                let count = bytes.number().unwrap_or_default();
                let fields = of.tables.site(site).map_or(&[][..], |site| of.tables.fields(site));
                Rest::Given(fields, count)
            }
        };
        Fields { of, bytes, first, rest }
    }
}

/// Whether this field is given again: only its last value counts.
fn is_given_again(index: u64, mut bytes: Bytes<'_>, left: u64) -> bool {
    /// If there are more than this, all values are shown.
    const MANY: u64 = 64;
    left < MANY
        && (0..left).any(|_| match bytes.given() {
            Ok((other, kind)) => other == index || bytes.skip_value(kind).is_err(),
            Err(_) => false,
        })
}

/// What a field has in place of its value.
pub(crate) enum Found<'a> {
    Value(Value<'a>),
    /// No value.
    Nothing,
    /// A value that found no room.
    Omitted,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.found()? {
                (name, Found::Value(value)) => return Some((name, value)),
                (_, Found::Nothing | Found::Omitted) => {}
            }
        }
    }
}

/// The names of fields whose values found no room.
pub struct Omitted<'a>(pub(crate) Fields<'a>);

impl<'a> Iterator for Omitted<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            if let (name, Found::Omitted) = self.0.found()? {
                return Some(name);
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// The next field, and what it has.
    pub(crate) fn found(&mut self) -> Option<(&'a str, Found<'a>)> {
        if let Some((name, first)) = self.first.iter_mut().find_map(Option::take) {
            return Some((name, Found::Value(first)));
        }
        let (of, bytes) = (self.of, &mut self.bytes);
        match &mut self.rest {
            Rest::Nothing => None,
            Rest::Typed(fields) => {
                let (field, rest) = fields.split_first()?;
                *fields = rest;
                let name = of.tables.text(&of.content, field.name);
                Some((name, of.found(field.kind, bytes)?))
            }
            Rest::Given(names, left) => loop {
                *left = left.checked_sub(1)?;
                let (index, kind) = bytes.given().ok()?;
                let value = of.found(kind, bytes)?;
                if is_given_again(index, *bytes, *left) {
                    continue;
                }
                let name = usize::try_from(index).ok().and_then(|index| names.get(index));
                let name = name.map_or("?", |field| of.tables.text(&of.content, field.name));
                break Some((name, value));
            },
            Rest::Carried(fields) => {
                let ((name, value), rest) = fields.split_first()?;
                *fields = rest;
                Some((name, value.found()))
            }
            Rest::Foreign(arguments) => loop {
                let ((name, kind), rest) = arguments.split_first()?;
                *arguments = rest;
                let value = match kind {
                    Argument::Unsigned => Value::Unsigned(bytes.number().ok()?),
                    Argument::Signed => Value::Signed(bytes.signed().ok()?),
                    Argument::Float => Value::Float(bytes.float().ok()?),
                    Argument::Text => Value::Text(of.value_text(bytes.text().ok())),
                    Argument::Id => {
                        let id = bytes.number().ok()?;
                        match of.tables.name_of(id) {
                            Some(text) => Value::Text(of.value_text(Some(text))),
                            None => Value::Unsigned(id),
                        }
                    }
                    // Nothing that follows values that cannot be shown is shown either.
                    Argument::Values => return None,
                    Argument::Fields
                    | Argument::Pairs
                    | Argument::Given
                    | Argument::Names
                    | Argument::Bytes => {
                        skip_argument(*kind, bytes, &of.tables, &mut 0).ok()?;
                        continue;
                    }
                };
                break Some((name, Found::Value(value)));
            },
        }
    }
}

impl Contents {
    fn found(&self, kind: ValueType, bytes: &mut Bytes<'_>) -> Option<Found<'_>> {
        let kind = match kind {
            ValueType::Omitted => return Some(Found::Omitted),
            ValueType::Any => match bytes.any().ok()? {
                None => return Some(Found::Nothing),
                Some(kind) => kind,
            },
            kind => kind,
        };
        self.value(kind, bytes).map(Found::Value)
    }

    fn value(&self, kind: ValueType, bytes: &mut Bytes<'_>) -> Option<Value<'_>> {
        Some(match kind {
            ValueType::Wide => Value::Wide(bytes.wide().ok()?),
            ValueType::WideSigned => Value::WideSigned(unzigzag_wide(bytes.wide().ok()?)),
            ValueType::Duration => Value::Duration(bytes.duration().ok()?),
            ValueType::Any | ValueType::Omitted => return None,
            ValueType::Unsigned => Value::Unsigned(bytes.number().ok()?),
            ValueType::Signed => Value::Signed(bytes.signed().ok()?),
            ValueType::Float => Value::Float(bytes.float().ok()?),
            ValueType::Bool => Value::Bool(bytes.byte().ok()? != 0),
            ValueType::Text => Value::Text(self.value_text(bytes.text().ok())),
            ValueType::Error => Value::Error(self.value_text(bytes.text().ok())),
        })
    }

    pub(crate) fn value_text(&self, text: Option<TextAt>) -> Text<'_> {
        match text.and_then(|text| self.tables.span(text)) {
            Some(span) => Text { text: span.of(&self.content), cut: span.is_cut() },
            None => Text { text: "?", cut: false },
        }
    }
}
