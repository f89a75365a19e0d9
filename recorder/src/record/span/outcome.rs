//! Whether a span that has ended failed, as its fields say.

#![forbid(unsafe_code)]

use crate::record::site::Site;
use crate::record::sparse_fields::{FieldValue, Values};
use lookback_snapshot::wire::{Outcome, Told, ValueType, get_varint, unzigzag};

/// Whether these fields of a span, encoded, say that it failed.
pub(crate) fn has_failed(site: &Site, fields: &[u8]) -> bool {
    Values(fields).any(|given| {
        let name = usize::try_from(given.index).map_or("?", |index| site.field(index));
        Outcome::of_field(name, told(&given)).is_some_and(Outcome::is_failure)
    })
}

fn told<'a>(given: &FieldValue<'a>) -> Told<'a> {
    let number = || get_varint(given.value).map(|(number, _)| number);
    match given.kind {
        ValueType::Unsigned => number().map_or(Told::Other, Told::Number),
        ValueType::Signed => {
            let number = number().and_then(|number| u64::try_from(unzigzag(number)).ok());
            number.map_or(Told::Other, Told::Number)
        }
        ValueType::Text => given.text().map_or(Told::Other, |(text, _)| Told::Text(text)),
        ValueType::Bool => Told::Flag(given.value.first().is_some_and(|byte| *byte != 0)),
        ValueType::Error => Told::Error,
        _ => Told::Other,
    }
}
