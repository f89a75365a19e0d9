//! The list of spans that no event named in a generation, each encoded as its difference from the previous
//! one.

use super::event_table::ValueType;
use super::units::SpanId;
use super::varint::{MAX_VARINT, get_varint, put_varint, unzigzag, zigzag};
use std::collections::HashMap;

/// One span of a `span_list`. Spans are in the order of their entries. Each begins with a varint:
///
/// | bits | meaning |
/// |---|---|
/// | 0 | its site is that of the previous span; otherwise the site's id follows (a varint) |
/// | 1 | its incarnation is that of the previous span; otherwise the difference follows (zigzag) |
/// | 2, 3 | its parent: 0 none, 1 that of the previous span, 2 the previous span itself, 3 it follows: its entry and its incarnation, each minus the span's own (two zigzags) |
/// | 4, 5 | its fields: see [`ListedFields`] |
/// | 6 and up | its entry, minus that of the previous span, minus one |
///
/// Then follows (zigzag) how many ticks it began before the block's base, minus the same of the previous
/// span, and then its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanListItem {
    /// The span.
    pub span: SpanId,
    /// Its parent; zeroes if it has none.
    pub parent: SpanId,
    /// How many ticks before the block's base it began.
    pub ago: u64,
    /// The id of its site.
    pub site: u32,
    /// How its fields are written.
    pub fields: ListedFields,
}

/// How the fields of a listed span are written. If they are written out, they consist of their number (a
/// varint) and, if there are any, of a varint whose bits, lowest first, say which of the first 64 equal those
/// at the same index of the list's last span of that site with fields; then of the others, as given values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListedFields {
    /// It has none.
    #[default]
    None = 0,
    /// They equal those of the list's last span of this site with fields.
    Same = 1,
    /// They follow.
    All = 2,
    /// Some of them follow, or none: fields are missing, or are not the latest.
    Part = 3,
}

/// The most bytes that one item takes, without its values.
pub const MAX_SPAN_LIST_ITEM: usize = 6 + 4 + 5 + 2 * 5 + MAX_VARINT + 5 + MAX_VARINT;

const SAME_SITE: u64 = 1;
const SAME_INCARNATION: u64 = 2;
const PARENT_SHIFT: u32 = 2;
const FIELDS_SHIFT: u32 = 4;
const GAP_SHIFT: u32 = 6;

const NO_PARENT: u64 = 0;
const SAME_PARENT: u64 = 1;
const BEFORE_IS_PARENT: u64 = 2;
const PARENT_FOLLOWS: u64 = 3;

/// Appends the difference between two numbers.
fn put_difference(out: &mut Vec<u8>, number: u32, than: u32) {
    put_varint(out, zigzag(i64::from(number) - i64::from(than)));
}

impl SpanListItem {
    /// Appends this item, without its values, as a difference from `before`, which is the
    /// [`default`](Self::default) for the first one.
    pub fn put(&self, before: &Self, out: &mut Vec<u8>) {
        let Self { span, parent, ago, site, fields } = *self;
        let of_parent = match parent {
            parent if parent == SpanId::default() => NO_PARENT,
            parent if parent == before.parent => SAME_PARENT,
            parent if parent == before.span => BEFORE_IS_PARENT,
            _ => PARENT_FOLLOWS,
        };
        let same_incarnation = span.incarnation == before.span.incarnation;
        let mut head = of_parent << PARENT_SHIFT | (fields as u64) << FIELDS_SHIFT;
        head |= if site == before.site { SAME_SITE } else { 0 };
        head |= if same_incarnation { SAME_INCARNATION } else { 0 };
        let gap = span.index.wrapping_sub(before.span.index).wrapping_sub(1);
        put_varint(out, head | u64::from(gap) << GAP_SHIFT);
        if site != before.site {
            put_varint(out, u64::from(site));
        }
        if !same_incarnation {
            put_difference(out, span.incarnation, before.span.incarnation);
        }
        if of_parent == PARENT_FOLLOWS {
            put_difference(out, parent.index, span.index);
            put_difference(out, parent.incarnation, span.incarnation);
        }
        put_varint(out, zigzag(ago.wrapping_sub(before.ago).cast_signed()));
    }

    /// Reads the item that follows `before` from the front of `bytes`: the item, and its length in bytes.
    /// `None` if it is cut off or invalid.
    #[must_use]
    pub fn get(before: &Self, bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, mut length) = get_varint(bytes)?;
        let mut number = || -> Option<u64> {
            let (value, more) = get_varint(&bytes[length..])?;
            length += more;
            Some(value)
        };
        let more = |than: u32, difference: u64| -> Option<u32> {
            u32::try_from(i64::from(than).checked_add(unzigzag(difference))?).ok()
        };
        let site =
            if head & SAME_SITE != 0 { before.site } else { u32::try_from(number()?).ok()? };
        let incarnation = match head & SAME_INCARNATION {
            0 => more(before.span.incarnation, number()?)?,
            _ => before.span.incarnation,
        };
        let index = u64::from(before.span.index).checked_add((head >> GAP_SHIFT) + 1)?;
        let span = SpanId { index: u32::try_from(index).ok()?, incarnation };
        let parent = match head >> PARENT_SHIFT & 3 {
            NO_PARENT => SpanId::default(),
            SAME_PARENT => before.parent,
            BEFORE_IS_PARENT => before.span,
            _ => {
                let index = more(span.index, number()?)?;
                SpanId { index, incarnation: more(span.incarnation, number()?)? }
            }
        };
        let fields = match head >> FIELDS_SHIFT & 3 {
            0 => ListedFields::None,
            1 => ListedFields::Same,
            2 => ListedFields::All,
            _ => ListedFields::Part,
        };
        let ago = before.ago.wrapping_add(unzigzag(number()?).cast_unsigned());
        Some((Self { span, parent, ago, site, fields }, length))
    }
}

/// The values of the last span of a site.
#[derive(Default)]
struct Values {
    part: bool,
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
}

impl Values {
    fn begin(&mut self, part: bool) {
        self.part = part;
        self.bytes.clear();
        self.ends.clear();
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.bytes.get(start..end)
    }

    fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len() as u32);
    }
}

/// How many values can be marked as unchanged.
const MARKED: usize = 64;

/// Writes a `span_list`.
///
/// ```
/// use lookback_snapshot::wire::{SpanId, SpanListItem, SpanListWriter};
/// let mut list = SpanListWriter::default();
/// for index in 1..=3 {
///     let span = SpanId { index, incarnation: 1 };
///     list.push(SpanListItem { span, site: 9, ..SpanListItem::default() }, false, &[]);
/// }
/// // The first one has a site and an incarnation, the others share them.
/// assert_eq!(list.bytes(), [0, 9, 2, 0, 0b11, 0, 0b11, 0]);
/// ```
#[derive(Default)]
pub struct SpanListWriter {
    out: Vec<u8>,
    before: SpanListItem,
    last: HashMap<u32, Values>,
    values: Values,
}

impl SpanListWriter {
    /// Reserves memory for a span of at most this many bytes and fields. Returns whether there is enough:
    /// then [`push`](Self::push) does not allocate.
    #[must_use]
    pub fn try_reserve(&mut self, size: usize, fields: usize) -> bool {
        self.values.begin(false);
        self.out.try_reserve(size).is_ok()
            && self.last.try_reserve(1).is_ok()
            && self.values.bytes.try_reserve(size).is_ok()
            && self.values.ends.try_reserve(fields).is_ok()
    }

    /// Appends a span, whose `fields` are given values, back to back. `part` says that some are missing or
    /// not the latest. The `fields` of `item` are ignored.
    pub fn push(&mut self, item: SpanListItem, part: bool, fields: &[u8]) {
        let mut item = item;
        if fields.is_empty() && !part {
            item.fields = ListedFields::None;
            self.put(item);
            return;
        }
        let last = self.last.entry(item.site).or_default();
        let is_first = last.ends.is_empty() && !last.part;
        if !is_first && last.part == part && last.bytes == fields {
            item.fields = ListedFields::Same;
            self.put(item);
            return;
        }
        item.fields = if part { ListedFields::Part } else { ListedFields::All };
        let values = &mut self.values;
        values.begin(part);
        let mut rest = fields;
        while let Some(length) = given_length(rest) {
            values.push(&rest[..length]);
            rest = &rest[length..];
        }
        let same = (0..values.ends.len().min(MARKED))
            .filter(|at| last.get(*at) == values.get(*at))
            .fold(0_u64, |same, at| same | 1 << at);
        std::mem::swap(last, values);
        self.put(item);
        let last = &self.last[&item.site];
        put_varint(&mut self.out, last.ends.len() as u64);
        if last.ends.is_empty() {
            return;
        }
        put_varint(&mut self.out, same);
        for at in (0..last.ends.len()).filter(|at| *at >= MARKED || same >> at & 1 == 0) {
            self.out.extend_from_slice(last.get(at).unwrap_or_default());
        }
    }

    fn put(&mut self, item: SpanListItem) {
        item.put(&self.before, &mut self.out);
        self.before = item;
    }

    /// The bytes written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }
}

/// A span read from a `span_list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedSpan<'a> {
    /// All of it except its fields.
    pub item: SpanListItem,
    /// Whether fields are missing or not the latest.
    pub part: bool,
    /// How many values there are.
    pub count: u64,
    /// The given values, back to back.
    pub values: &'a [u8],
}

/// Reads a `span_list`.
pub struct SpanListReader<'a> {
    rest: &'a [u8],
    before: SpanListItem,
    last: HashMap<u32, Values>,
    values: Values,
}

impl<'a> SpanListReader<'a> {
    /// Reads what [`SpanListWriter::bytes`] returned.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let (before, last, values) = (SpanListItem::default(), HashMap::new(), Values::default());
        Self { rest: bytes, before, last, values }
    }

    /// Whether all of it was read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next span. `None` if there is none, or if it is cut off or invalid. Unchanged values are copied,
    /// at most `room` bytes of them.
    pub fn next(&mut self, room: usize) -> Option<ListedSpan<'_>> {
        let (item, length) = SpanListItem::get(&self.before, self.rest)?;
        self.rest = &self.rest[length..];
        self.before = item;
        match item.fields {
            ListedFields::None => {
                return Some(ListedSpan { item, part: false, count: 0, values: &[] });
            }
            ListedFields::Same => {}
            ListedFields::All | ListedFields::Part => self.read(item, room)?,
        }
        let values = self.last.get(&item.site)?;
        let count = values.ends.len() as u64;
        Some(ListedSpan { item, part: values.part, count, values: &values.bytes })
    }

    /// Reads values, and keeps them as the last ones of their site.
    fn read(&mut self, item: SpanListItem, room: usize) -> Option<()> {
        let count = self.number()?;
        let same = if count > 0 { self.number()? } else { 0 };
        let last = self.last.entry(item.site).or_default();
        let values = &mut self.values;
        values.begin(item.fields == ListedFields::Part);
        for at in 0..usize::try_from(count).ok()? {
            if at < MARKED && same >> at & 1 != 0 {
                values.push(last.get(at)?);
            } else {
                let length = given_length(self.rest)?;
                values.push(&self.rest[..length]);
                self.rest = &self.rest[length..];
            }
            if values.bytes.len() > room {
                return None;
            }
        }
        std::mem::swap(last, values);
        Some(())
    }

    fn number(&mut self) -> Option<u64> {
        let (value, length) = get_varint(self.rest)?;
        self.rest = &self.rest[length..];
        Some(value)
    }
}

/// The length of the given value at the front of `bytes`. `None` if there is none, or it cannot be read.
fn given_length(bytes: &[u8]) -> Option<usize> {
    let (head, mut at) = get_varint(bytes)?;
    let mut kind = ValueType::from_code((head & 7) as u8)?;
    if kind == ValueType::Any {
        let long = |kind: &ValueType| *kind as u8 > ValueType::Any as u8;
        kind = ValueType::from_code(*bytes.get(at)?).filter(long)?;
        at += 1;
    }
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
            let tag = number()?;
            let length = if tag & 1 != 0 { 0 } else { tag >> 2 };
            at = at.checked_add(usize::try_from(length).ok()?)?;
        }
        ValueType::Float => at += 8,
        ValueType::Bool => at += 1,
        ValueType::Omitted => {}
        ValueType::Any => return None,
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A span, whether fields are missing, and its fields.
    type Listed = (SpanListItem, bool, Vec<u8>);

    fn written(spans: &[Listed]) -> Vec<u8> {
        let mut list = SpanListWriter::default();
        spans.iter().for_each(|(item, part, fields)| list.push(*item, *part, fields));
        list.bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Vec<Listed>> {
        let (mut list, mut spans) = (SpanListReader::new(bytes), Vec::new());
        while !list.is_at_end() {
            let span = list.next(1 << 20)?;
            let fields = ListedFields::None;
            spans.push((SpanListItem { fields, ..span.item }, span.part, span.values.to_vec()));
        }
        Some(spans)
    }

    fn unsigned(index: u64, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, index << 3 | ValueType::Unsigned as u64);
        put_varint(&mut out, value);
        out
    }

    fn text(index: u64, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, index << 3 | ValueType::Text as u64);
        put_varint(&mut out, (text.len() as u64) << 2);
        out.extend_from_slice(text.as_bytes());
        out
    }

    fn item(index: u32, site: u32, ago: u64) -> SpanListItem {
        let span = SpanId { index, incarnation: 1 };
        SpanListItem { span, site, ago, ..SpanListItem::default() }
    }

    #[test]
    fn what_is_as_before_takes_two_bytes() {
        let spans: Vec<_> = (1..=100_u32)
            .map(|index| (item(index, 300, 9000 - 20 * u64::from(index)), false, Vec::new()))
            .collect();
        let bytes = written(&spans);
        assert_eq!(bytes.len(), 99 * 2 + 7);
        assert_eq!(read(&bytes).unwrap(), spans);
    }

    #[test]
    fn a_child_of_the_span_before_names_no_parent() {
        let mut child = item(2, 1, 50);
        child.parent = SpanId { index: 1, incarnation: 1 };
        let mut sibling = item(3, 1, 40);
        sibling.parent = child.parent;
        let spans = [item(1, 1, 60), child, sibling].map(|item| (item, false, Vec::new()));
        let bytes = written(&spans);
        assert_eq!(bytes.len(), 4 + 2 + 2);
        assert_eq!(read(&bytes).unwrap(), spans);
    }

    #[test]
    fn values_that_the_last_span_of_the_site_had_are_not_written_again() {
        let fields = |id: u64| [text(0, "GET"), unsigned(1, id), text(2, "/checkout")].concat();
        let mut spans = vec![(item(1, 1, 0), false, fields(1)), (item(2, 2, 0), false, Vec::new())];
        spans.push((item(3, 1, 0), false, fields(2)));
        let two = written(&spans);
        spans.push((item(4, 1, 0), false, fields(2)));
        let three = written(&spans);
        assert_eq!(read(&three).unwrap(), spans);
        // The whole of it; then a head, how many values, which are as before, and one of them.
        let first = 4 + 2 + fields(1).len();
        assert_eq!((two.len(), three.len()), (first + 3 + 3 + 2 + 2, two.len() + 2));
    }

    #[test]
    fn a_span_without_all_of_its_fields_says_so() {
        let spans = [
            (item(1, 1, 0), true, Vec::new()),
            (item(2, 1, 0), true, Vec::new()),
            (item(3, 1, 0), true, unsigned(0, 7)),
            (item(4, 1, 0), false, unsigned(0, 7)),
        ];
        assert_eq!(read(&written(&spans)).unwrap(), spans);
    }

    #[test]
    fn more_values_than_can_be_marked_are_all_there() {
        let fields: Vec<_> = (0..100).flat_map(|index| unsigned(index, 1)).collect();
        let other: Vec<_> = (0..100).flat_map(|index| unsigned(index, index / 99)).collect();
        let spans = [(item(1, 1, 0), false, fields), (item(2, 1, 0), false, other)];
        assert_eq!(read(&written(&spans)).unwrap(), spans);
    }

    #[test]
    fn values_do_not_grow_beyond_the_room() {
        let fields = text(0, &"x".repeat(1000));
        let bytes = written(&[(item(1, 1, 0), false, fields)]);
        assert!(SpanListReader::new(&bytes).next(999).is_none());
        assert!(SpanListReader::new(&bytes).next(2000).is_some());
    }

    proptest! {
        #[test]
        fn a_list_is_read_as_it_was_written(
            spans in prop::collection::vec(
                (1_u32..200, any::<bool>(), 0_u32..3, any::<u32>(), any::<u64>(), 0_u32..3,
                    any::<bool>(), prop::collection::vec((0_u64..9, 0_u64..3), 0..5)),
                0..50,
            )
        ) {
            let (mut index, mut before) = (0_u32, SpanId::default());
            let spans: Vec<_> = spans
                .into_iter()
                .map(|(gap, same, of, number, ago, site, part, fields)| {
                    index += gap;
                    let incarnation = if same { 1 } else { number };
                    let span = SpanId { index, incarnation };
                    let parents = [SpanId::default(), before, SpanId { index: number, incarnation: 7 }];
                    before = span;
                    let parent = parents[of as usize];
                    let item = SpanListItem { span, parent, ago, site, fields: ListedFields::None };
                    let fields = fields.iter().flat_map(|(at, value)| match at % 2 {
                        0 => unsigned(*at, *value),
                        _ => text(*at, &"x".repeat(*value as usize)),
                    });
                    (item, part, fields.collect::<Vec<_>>())
                })
                .collect();
            prop_assert_eq!(read(&written(&spans)).unwrap(), spans);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            read(&bytes);
        }
    }
}
