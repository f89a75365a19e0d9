//! Reads encoded field values one by one, and packs as many of them as fit into a smaller buffer.

#![forbid(unsafe_code)]

use crate::record::fields::KEPT;
use crate::text::cut;
use lookback_snapshot::wire::{ValueType, get_varint};

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldValue<'a> {
    /// The index of the field in the callsite.
    pub(crate) index: u64,
    pub(crate) kind: ValueType,
    /// Only the value.
    pub(crate) value: &'a [u8],
    /// The value with its header.
    pub(crate) whole: &'a [u8],
}

/// The values in `bytes`, up to the first one that cannot be decoded.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = FieldValue<'a>;

    fn next(&mut self) -> Option<FieldValue<'a>> {
        let bytes = self.0;
        let (head, mut at) = get_varint(bytes)?;
        let mut kind = ValueType::from_code((head & 7) as u8)?;
        if kind == ValueType::Any {
            kind = ValueType::from_code(*bytes.get(at)?)?;
            at += 1;
        }
        let start = at;
        let mut number = || {
            let (value, used) = get_varint(bytes.get(at..)?)?;
            at += used;
            Some(value)
        };
        match kind {
            ValueType::Unsigned | ValueType::Signed => drop(number()?),
            ValueType::Wide | ValueType::WideSigned | ValueType::Duration => {
                number()?;
                number()?;
            }
            ValueType::Text | ValueType::Error => {
                let head = number()?;
                at = at.checked_add(usize::try_from(head >> 2).ok()?)?;
            }
            ValueType::Float => at += 8,
            ValueType::Bool => at += 1,
            ValueType::Omitted => {}
            ValueType::Any => return None,
        }
        let (value, whole) = (bytes.get(start..at)?, &bytes[..at]);
        self.0 = &bytes[at..];
        Some(FieldValue { index: head >> 3, kind, value, whole })
    }
}

impl<'a> FieldValue<'a> {
    /// The text of a text value, and whether it was cut.
    pub(crate) fn text(&self) -> Option<(&'a str, bool)> {
        if !matches!(self.kind, ValueType::Text | ValueType::Error) {
            return None;
        }
        let (head, used) = get_varint(self.value)?;
        Some((std::str::from_utf8(&self.value[used..]).ok()?, head & 2 != 0))
    }
}

/// What was packed of some values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// The number of values, including omitted ones.
    pub(crate) count: u32,
    pub(crate) length: usize,
    /// Whether some values were omitted or cut.
    pub(crate) part: bool,
}

/// Packs the last value of each field in `parts` into `limit` bytes of `out`, starting with the
/// first part. If they do not fit, long texts are cut; if that is not enough, the last values are
/// marked as omitted. The field `name` holds the span's name: it gets room before all others, but
/// at most half of it, so that the name stays intact.
pub(crate) fn pack(
    parts: [&[u8]; 2],
    name: Option<usize>,
    limit: usize,
    out: &mut [u8; KEPT],
) -> Packed {
    /// The limits on texts to try: none, then lower and lower ones.
    const TEXTS: [usize; 6] = [usize::MAX, 128, 64, 32, 16, 8];
    let limit = limit.min(out.len());
    let is_name = |given: &FieldValue<'_>| name.is_some_and(|name| given.index == name as u64);
    let longest = |given: &FieldValue<'_>, text: usize| match is_name(given) {
        true => text.max(limit / 2),
        false => text,
    };
    let sized = |given: &FieldValue<'_>, text| size(given, longest(given, text));
    let fits = |text: &usize| {
        last_of_each(parts).map(|given| sized(&given, *text)).sum::<usize>() <= limit
    };
    let text = TEXTS.into_iter().find(fits).unwrap_or(TEXTS[TEXTS.len() - 1]);
    // Reserve what the name needs, even against the marks of omitted values.
    let of_name: usize = last_of_each(parts).filter(is_name).map(|given| sized(&given, text)).sum();
    let mut into = Into { out, packed: Packed::default(), limit: limit.saturating_sub(of_name) };
    // Each remaining value may have to be omitted.
    let others = || last_of_each(parts).filter(|given| !is_name(given));
    let mut marks: usize = others().map(|given| mark(given.index)).sum();
    for given in last_of_each(parts) {
        let room = if is_name(&given) {
            into.limit = limit;
            limit.saturating_sub(into.packed.length)
        } else {
            marks -= mark(given.index);
            into.limit.saturating_sub(into.packed.length + marks)
        };
        if sized(&given, text) > room || given.kind == ValueType::Omitted {
            into.omit(given.index);
        } else {
            into.put(&given, longest(&given, text));
        }
    }
    into.packed
}

/// The last value of each field.
fn last_of_each<'a>(parts: [&'a [u8]; 2]) -> impl Iterator<Item = FieldValue<'a>> {
    let [first, second] = parts.map(Values);
    let is_given_again =
        |mut later: Values<'a>, index: u64| later.any(|other| other.index == index);
    let mut rest = first;
    let first = std::iter::from_fn(move || {
        loop {
            let given = rest.next()?;
            if !is_given_again(rest, given.index) && !is_given_again(second, given.index) {
                return Some(given);
            }
        }
    });
    let mut rest = second;
    first.chain(std::iter::from_fn(move || {
        loop {
            let given = rest.next()?;
            if !is_given_again(rest, given.index) {
                return Some(given);
            }
        }
    }))
}

/// The size of a value in bytes, with its text cut at this limit.
fn size(given: &FieldValue<'_>, limit: usize) -> usize {
    match given.text() {
        Some((text, _)) if text.len() > limit => {
            let text = cut(text, limit);
            length_of(given.index << 3) + length_of((text.len() as u64) << 2) + text.len()
        }
        _ => given.whole.len(),
    }
}

/// The size of the mark of an omitted value, in bytes.
fn mark(index: u64) -> usize {
    length_of(index << 3) + 1
}

fn length_of(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// The destination of packing.
struct Into<'a> {
    out: &'a mut [u8; KEPT],
    packed: Packed,
    limit: usize,
}

impl Into<'_> {
    fn omit(&mut self, index: u64) {
        self.packed.part = true;
        if self.packed.length + mark(index) <= self.limit {
            self.number(index << 3 | ValueType::Any as u64);
            self.bytes(&[ValueType::Omitted as u8]);
            self.packed.count += 1;
        }
    }

    /// Adds a value for which there is room.
    fn put(&mut self, given: &FieldValue<'_>, limit: usize) {
        self.packed.count += 1;
        match given.text() {
            Some((text, _)) if text.len() > limit => {
                let text = cut(text, limit);
                self.packed.part = true;
                self.number(given.index << 3 | given.kind as u64);
                self.number((text.len() as u64) << 2 | 2);
                self.bytes(text.as_bytes());
            }
            _ => self.bytes(given.whole),
        }
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes(&[number as u8 | 0x80]);
            number >>= 7;
        }
        self.bytes(&[number as u8]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let at = self.packed.length;
        if let Some(place) = self.out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
            self.packed.length += bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fields::{FieldBuf, Fields};
    use proptest::prelude::*;

    fn packed(parts: [&[u8]; 2], limit: usize) -> (Packed, Vec<(u64, String)>) {
        packed_with(parts, None, limit)
    }

    fn packed_with(
        parts: [&[u8]; 2],
        name: Option<usize>,
        limit: usize,
    ) -> (Packed, Vec<(u64, String)>) {
        let mut out = [0; KEPT];
        let packed = pack(parts, name, limit, &mut out);
        let told: Vec<_> = Values(&out[..packed.length])
            .map(|given| match given.text() {
                Some((text, is_cut)) => {
                    (given.index, format!("{text}{}", if is_cut { "…" } else { "" }))
                }
                None if given.kind == ValueType::Omitted => (given.index, "-".to_owned()),
                None => (given.index, get_varint(given.value).unwrap().0.to_string()),
            })
            .collect();
        assert_eq!(told.len(), packed.count as usize);
        (packed, told)
    }

    #[test]
    fn the_last_value_of_each_field_is_kept() {
        let (mut first, mut second) = (FieldBuf::new(), FieldBuf::new());
        let (mut first, mut second) = (Fields::new(&mut first), Fields::new(&mut second));
        first.unsigned(0, 1);
        first.unsigned(1, 2);
        first.text(2, "a");
        second.unsigned(1, 3);
        second.unsigned(1, 4);
        let (packed, told) = packed([first.bytes(), second.bytes()], KEPT);
        let expected = [(0, "1"), (2, "a"), (1, "4")].map(|(index, text)| (index, text.to_owned()));
        assert_eq!(told, expected);
        assert!(!packed.part);
    }

    #[test]
    fn long_texts_are_cut_before_a_field_is_omitted() {
        let mut room = FieldBuf::new();
        let mut fields = Fields::new(&mut room);
        fields.text(0, &"x".repeat(700));
        fields.unsigned(1, 503);
        let (packed, told) = packed([fields.bytes(), &[]], KEPT);
        assert_eq!(told, [(0, "x".repeat(128) + "…"), (1, "503".to_owned())]);
        assert!(packed.part);
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_omitted() {
        let mut room = FieldBuf::new();
        let mut fields = Fields::new(&mut room);
        (0..10).for_each(|index| fields.text(index, &"y".repeat(20)));
        let (packed, told) = packed([fields.bytes(), &[]], 60);
        assert_eq!(told.len(), 10);
        assert_eq!(told[0], (0, "y".repeat(8) + "…"));
        assert_eq!(told[9], (9, "-".to_owned()));
        assert!(packed.part && packed.length <= 60);
    }

    #[test]
    fn the_name_of_a_span_is_kept_before_all_else() {
        let mut room = FieldBuf::new();
        let mut fields = Fields::new(&mut room);
        (0..28).for_each(|index| fields.unsigned(index, u64::MAX / 3));
        let name = "GET /api/v1/users/create";
        fields.text(28, name);
        let mut out = [0; KEPT];
        for limit in [KEPT, 128, 64] {
            let packed = pack([fields.bytes(), &[]], Some(28), limit, &mut out);
            let last = Values(&out[..packed.length]).last().unwrap();
            assert_eq!((last.index, last.text()), (28, Some((name, false))));
            assert!(packed.length <= limit && packed.part);
        }
    }

    proptest! {
        #[test]
        fn nothing_overruns_and_every_field_is_there_or_omitted(
            sizes in prop::collection::vec((0_usize..20, 0_usize..300), 0..30),
            limit in 64..=KEPT,
            name in prop::option::of(0_usize..20),
        ) {
            let mut room = FieldBuf::new();
            let mut fields = Fields::new(&mut room);
            for (index, size) in &sizes {
                fields.text(*index, &"ü".repeat(size / 2));
            }
            let (packed, told) = packed_with([fields.bytes(), &[]], name, limit);
            prop_assert!(packed.length <= limit);
            let mut given: Vec<_> = sizes.iter().map(|(index, _)| *index as u64).collect();
            given.sort_unstable();
            given.dedup();
            let mut kept: Vec<_> = told.iter().map(|(index, _)| *index).collect();
            kept.sort_unstable();
            // The name takes precedence over the marks of omitted values.
            match name.filter(|name| given.contains(&(*name as u64))) {
                Some(name) => prop_assert!(kept.contains(&(name as u64))),
                None => prop_assert_eq!(kept, given),
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let mut out = [0; KEPT];
            prop_assert!(pack([&bytes, &bytes], Some(0), KEPT, &mut out).length <= KEPT);
        }
    }
}
