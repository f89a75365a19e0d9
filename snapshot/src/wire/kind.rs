//! The event table: what stands in a block, record by record.
//!
//! A record is one byte, its [`Kind`], followed by its arguments; an *event* has the time since the
//! record before it (in ticks, a varint) as its first argument. This table alone drives the encoder,
//! the decoder and the names, and a copy of it stands in every file, so that an older reader can
//! skip what it does not know.

use super::varint::{get_varint, put_varint};

/// What kind of record it is: whether it has a time, and whether it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Gives an id its meaning, for one generation. Valid for the whole of it, wherever it stands.
    Definition = 0,
    /// Restates what was so before the next record of this stream.
    Status = 1,
    /// Something that happened: has a time, and counts.
    Event = 2,
}

/// How an argument is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Argument {
    /// An unsigned number: a varint.
    Unsigned = 0,
    /// A signed number: a zigzag varint.
    Signed = 1,
    /// A 64-bit IEEE 754 number, little-endian.
    Float = 2,
    /// The id of a definition of the same generation: a varint.
    Id = 3,
    /// A text: a varint `tag`. Low bit 1: `tag >> 1` is the id of a `string`. Low bit 0: `tag >> 2`
    /// bytes of UTF-8 follow, which bit 1 marks as cut off.
    Text = 4,
    /// The fields of a schema: their number, then for each its [`ValueType`] (one byte) and its
    /// name (a [`Text`](Argument::Text)).
    Fields = 5,
    /// Values as the schema named by the argument before says, one after the other.
    Values = 6,
    /// Pairs of unsigned numbers: how many, then two varints each.
    Pairs = 7,
}

/// The type of one field of a typed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueType {
    /// A varint.
    Unsigned = 1,
    /// A zigzag varint.
    Signed = 2,
    /// A 64-bit IEEE 754 number, little-endian.
    Float = 3,
    /// One byte, 0 or 1.
    Bool = 4,
    /// As [`Argument::Text`].
    Text = 5,
}

impl ValueType {
    /// The type of this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        use ValueType::{Bool, Float, Signed, Text, Unsigned};
        [Unsigned, Signed, Float, Bool, Text].into_iter().find(|kind| *kind as u8 == code)
    }
}

impl Argument {
    /// The argument type of this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        use Argument::{Fields, Float, Id, Pairs, Signed, Text, Unsigned, Values};
        [Unsigned, Signed, Float, Id, Text, Fields, Values, Pairs]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }
}

/// One row of the event table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The byte that a record begins with.
    pub code: u8,
    /// Its name in tools.
    pub name: &'static str,
    /// Whether it has a time and is counted.
    pub class: Class,
    /// The arguments, in the order in which they are written, each with its name.
    pub arguments: &'static [(&'static str, Argument)],
}

macro_rules! event_table {
    ($($(#[$doc:meta])* $code:literal $variant:ident $name:literal $class:ident
        [$($argument:ident: $type:ident),*];)*) => {
        /// What a record says. The number is the byte that it begins with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $variant = $code,)* }

        /// The event table of this version of the format, in the order of the codes.
        pub const EVENT_TABLE: &[Row] = &[$(Row {
            code: $code,
            name: $name,
            class: Class::$class,
            arguments: &[$((stringify!($argument), Argument::$type)),*],
        },)*];

        impl Kind {
            /// The kind of this code, if this version of the format has it.
            #[inline]
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The row of the event table.
            #[must_use]
            pub const fn row(self) -> &'static Row {
                let mut index = 0;
                while EVENT_TABLE[index].code != self as u8 { index += 1; }
                &EVENT_TABLE[index]
            }
        }
    };
}

// Codes 32 to 47 are kept for tasks, 48 to 55 for workers, 56 to 71 for spans, 72 to 79 for stacks.
event_table! {
    /// A text that later records of the generation refer to.
    1 String "string" Definition [id: Id, text: Text];
    /// A place in the source that has a name: of a region, a log's category, a counter.
    2 Site "site" Definition [id: Id, name: Text, file: Text, line: Unsigned];
    /// A typed event: its name, its place, its fields.
    3 Schema "schema" Definition [id: Id, name: Text, file: Text, line: Unsigned, fields: Fields];

    /// The thread that the records after it belong to.
    8 ThreadStatus "thread_status" Status [thread: Unsigned, os_thread: Unsigned, name: Text];
    /// A region that is open on the thread of the status before it, outermost first; `ago` is how
    /// many ticks before the block's base time it began.
    9 RegionStatus "region_status" Status [site: Id, ago: Unsigned];
    /// So many regions more are open, deeper than the recorder restates.
    10 RegionsDeeper "regions_deeper" Status [count: Unsigned];
    /// Here this many events of the stream were lost, for the [`Loss`](super::Loss) of that code.
    11 Lost "lost" Status [cause: Unsigned, count: Unsigned];
    /// The end record: what the generation held, what it lost (by cause), and how long, in
    /// nanoseconds, advances, waits for writers and snapshots took since the end record before
    /// (histograms: the upper bound of a bucket, and how many were in it).
    12 End "end" Status [events: Unsigned, bytes: Unsigned, blocks: Unsigned, lost: Pairs,
        advances: Pairs, waits: Pairs, snapshots: Pairs];

    /// So many statuses were left out for want of room: of threads (`what` 1) with all their regions.
    13 Omitted "omitted" Status [what: Unsigned, count: Unsigned];

    /// A thread emits its first event.
    16 ThreadStart "thread_start" Event [thread: Unsigned, os_thread: Unsigned, name: Text];
    /// The thread ends.
    17 ThreadExit "thread_exit" Event [];
    /// A region begins.
    18 RegionBegin "region_begin" Event [site: Id];
    /// The innermost region of the thread ends.
    19 RegionEnd "region_end" Event [];
    /// A message. Levels are 1 (trace) to 5 (error).
    20 Log "log" Event [level: Unsigned, site: Id, message: Text];
    /// A typed event.
    21 Event "event" Event [schema: Id, values: Values];
    /// A counter's value at this instant.
    22 CounterUnsigned "counter" Event [site: Id, value: Unsigned];
    /// A counter's value at this instant, signed.
    23 CounterSigned "counter" Event [site: Id, value: Signed];
    /// A counter's value at this instant, with a fraction.
    24 CounterFloat "counter" Event [site: Id, value: Float];
}

/// The event table as bytes, for a file's metadata: the number of rows, then for each its code and
/// class (a byte each), its name, the number of its arguments, and for each argument its type (a
/// byte) and its name; names as length (varint) and UTF-8.
#[must_use]
pub fn encode_event_table() -> Vec<u8> {
    let mut out = Vec::new();
    let name = |out: &mut Vec<u8>, text: &str| {
        put_varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    };
    put_varint(&mut out, EVENT_TABLE.len() as u64);
    for row in EVENT_TABLE {
        out.extend([row.code, row.class as u8]);
        name(&mut out, row.name);
        put_varint(&mut out, row.arguments.len() as u64);
        for (argument, kind) in row.arguments {
            out.push(*kind as u8);
            name(&mut out, argument);
        }
    }
    out
}

/// A row of a file's own event table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    /// The byte that a record begins with.
    pub code: u8,
    /// Its name.
    pub name: String,
    /// Whether it has a time and is counted.
    pub class: Class,
    /// Names and types of the arguments.
    pub arguments: Vec<(String, Argument)>,
}

/// Reads what [`encode_event_table`] wrote. `None` if it is damaged, or uses a type of argument that
/// this version does not know.
#[must_use]
pub fn decode_event_table(mut bytes: &[u8]) -> Option<Vec<FileRow>> {
    fn number(bytes: &mut &[u8]) -> Option<u64> {
        let (value, length) = get_varint(bytes)?;
        *bytes = &bytes[length..];
        Some(value)
    }
    fn byte(bytes: &mut &[u8]) -> Option<u8> {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(*first)
    }
    fn name(bytes: &mut &[u8]) -> Option<String> {
        let length = usize::try_from(number(bytes)?).ok()?;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        String::from_utf8(text.to_vec()).ok()
    }
    let bytes = &mut bytes;
    let mut rows = Vec::new();
    for _ in 0..number(bytes)? {
        let code = byte(bytes)?;
        let class = match byte(bytes)? {
            0 => Class::Definition,
            1 => Class::Status,
            2 => Class::Event,
            _ => return None,
        };
        let row_name = name(bytes)?;
        let mut arguments = Vec::new();
        for _ in 0..number(bytes)? {
            let kind = Argument::from_code(byte(bytes)?)?;
            arguments.push((name(bytes)?, kind));
        }
        rows.push(FileRow { code, name: row_name, class, arguments });
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_ascending() {
        assert!(EVENT_TABLE.windows(2).all(|pair| pair[0].code < pair[1].code));
        for row in EVENT_TABLE {
            assert_eq!(Kind::from_code(row.code).unwrap().row(), row);
        }
    }

    #[test]
    fn the_table_survives_its_encoding() {
        let rows = decode_event_table(&encode_event_table()).unwrap();
        assert_eq!(rows.len(), EVENT_TABLE.len());
        for (read, row) in rows.iter().zip(EVENT_TABLE) {
            assert_eq!(
                (read.code, read.name.as_str(), read.class),
                (row.code, row.name, row.class)
            );
            assert_eq!(read.arguments.len(), row.arguments.len());
        }
    }

    #[test]
    fn a_cut_table_is_refused() {
        let bytes = encode_event_table();
        for length in 0..bytes.len() {
            assert_eq!(decode_event_table(&bytes[..length]), None);
        }
    }
}
