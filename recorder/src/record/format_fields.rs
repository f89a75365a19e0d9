//! Formats encoded fields as text.

#![forbid(unsafe_code)]

use crate::record::sparse_fields::{FieldValue, Values};
use lookback_snapshot::wire::{ValueType, get_varint, unzigzag, unzigzag_wide};
use std::fmt::Write;
use std::time::Duration;

/// The most bytes that fields add to a reason.
const MOST: usize = 512;

/// Each field in `bytes`, as ` name=value`, followed by the number of omitted ones. Stops at bytes
/// that cannot be decoded.
pub(crate) fn fields<'a>(name: impl Fn(usize) -> &'a str, bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut more = 0_usize;
    for given in Values(bytes) {
        if given.kind == ValueType::Omitted || out.len() >= MOST {
            more += 1;
            continue;
        }
        let Ok(index) = usize::try_from(given.index) else { break };
        let _ = write!(out, " {}=", name(index));
        if value(&given, &mut out).is_none() {
            break;
        }
    }
    match more {
        0 => {}
        1 => out += " and 1 field more",
        more => drop(write!(out, " and {more} fields more")),
    }
    out
}

fn value(given: &FieldValue<'_>, out: &mut String) -> Option<()> {
    let bytes = given.value;
    let (first, used) = get_varint(bytes).unwrap_or_default();
    let second = || get_varint(&bytes[used..]).map(|(second, _)| second);
    let wide = || Some(u128::from(first) | u128::from(second()?) << 64);
    let _ = match given.kind {
        ValueType::Unsigned => write!(out, "{first}"),
        ValueType::Signed => write!(out, "{}", unzigzag(first)),
        ValueType::Float => write!(out, "{}", f64::from_le_bytes(*bytes.first_chunk()?)),
        ValueType::Bool => write!(out, "{}", *bytes.first()? != 0),
        ValueType::Text | ValueType::Error => {
            let (text, is_cut) = given.text()?;
            write!(out, "{text}{}", if is_cut { "…" } else { "" })
        }
        ValueType::Wide => write!(out, "{}", wide()?),
        ValueType::WideSigned => write!(out, "{}", unzigzag_wide(wide()?)),
        ValueType::Duration => {
            let nanos = u32::try_from(second()?).ok().filter(|nanos| *nanos < 1_000_000_000)?;
            write!(out, "{:?}", Duration::new(first, nanos))
        }
        ValueType::Any | ValueType::Omitted => return None,
    };
    Some(())
}

#[cfg(test)]
mod tests {
    use crate::record::fields::{FieldBuf, Fields};

    #[test]
    fn every_type_is_told_and_damage_ends_it() {
        let mut room = FieldBuf::new();
        let mut fields = Fields::new(&mut room);
        fields.unsigned(0, 300);
        fields.signed(1, -5);
        fields.float(2, 1.5);
        fields.flag(0, true);
        fields.text(1, "café");
        fields.error(2, &std::fmt::Error);
        fields.wide(0, u128::MAX);
        fields.wide_signed(1, i128::MIN);
        fields.duration(2, std::time::Duration::from_micros(1500));
        fields.omit(1);
        let name = |index: usize| ["a", "b", "c"][index];
        let words = super::fields(name, fields.bytes());
        assert_eq!(
            words,
            format!(
                " a=300 b=-5 c=1.5 a=true b=café c={} a={} b={} c=1.5ms and 1 field more",
                std::fmt::Error,
                u128::MAX,
                i128::MIN,
            )
        );
        for length in 0..fields.bytes().len() {
            let _ = super::fields(name, &fields.bytes()[..length]);
        }
    }
}
