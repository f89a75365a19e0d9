//! Fields in words, from their bytes.

#![forbid(unsafe_code)]

use lookback_snapshot::wire::{ValueType, get_varint, unzigzag};
use std::fmt::Write;

/// How long a reason may become by its fields.
const MOST: usize = 512;

/// Each field that `bytes` hold, as ` name=value`; what cannot be read ends it.
pub(crate) fn fields<'a>(name: impl Fn(usize) -> &'a str, mut bytes: &[u8]) -> String {
    let mut out = String::new();
    while out.len() < MOST
        && let Some(rest) = field(&name, bytes, &mut out)
    {
        bytes = rest;
    }
    out
}

fn field<'a, 'b>(
    name: &impl Fn(usize) -> &'a str,
    bytes: &'b [u8],
    out: &mut String,
) -> Option<&'b [u8]> {
    let (head, used) = get_varint(bytes)?;
    let mut rest = &bytes[used..];
    let kind = ValueType::from_code((head & 7) as u8)?;
    let _ = write!(out, " {}=", name(usize::try_from(head >> 3).ok()?));
    let mut number = || {
        let (value, used) = get_varint(rest)?;
        rest = rest.get(used..)?;
        Some(value)
    };
    let _ = match kind {
        ValueType::Unsigned => write!(out, "{}", number()?),
        ValueType::Signed => write!(out, "{}", unzigzag(number()?)),
        ValueType::Float => {
            let (value, after) = rest.split_first_chunk()?;
            rest = after;
            write!(out, "{}", f64::from_le_bytes(*value))
        }
        ValueType::Bool => {
            let (value, after) = rest.split_first()?;
            rest = after;
            write!(out, "{}", *value != 0)
        }
        ValueType::Text | ValueType::Error => {
            let head = number()?;
            let (text, after) = rest.split_at_checked(usize::try_from(head >> 2).ok()?)?;
            rest = after;
            let text = std::str::from_utf8(text).ok()?;
            write!(out, "{}{}", text, if head & 2 == 0 { "" } else { "…" })
        }
    };
    Some(rest)
}

#[cfg(test)]
mod tests {
    use crate::fields::{Fields, Room};

    #[test]
    fn every_type_is_told_and_damage_ends_it() {
        let mut room = Room::new();
        let mut fields = Fields::new(&mut room);
        fields.unsigned(0, 300);
        fields.signed(1, -5);
        fields.float(2, 1.5);
        fields.flag(0, true);
        fields.text(1, "café");
        fields.error(2, format_args!("no {}", "route"));
        let name = |index: usize| ["a", "b", "c"][index];
        let words = super::fields(name, fields.bytes());
        assert_eq!(words, " a=300 b=-5 c=1.5 a=true b=café c=no route");
        for length in 0..fields.bytes().len() {
            let _ = super::fields(name, &fields.bytes()[..length]);
        }
    }
}
