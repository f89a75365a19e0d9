//! Records as the event table describes them: how each kind's arguments are read, and how they are skipped.
//!
//! All of it is generated from the table's rows (`wire/event_table.rs`), so a kind that is added there can be
//! read. There are three ways to read a record, after its kind and, for an event, the time:
//!
//! * [`skip`] skips it;
//! * [`Arguments::read`] reads what is needed to follow tasks, spans, workers, regions and events into one
//!   structure, by the names of the arguments, and skips the rest;
//! * [`record`] has a type for each kind, with all of its arguments.

use super::bytes::{Bytes, Fault, is_place};
use super::definitions::{Definitions, Field, NO_SITE};
use super::workers::WorkerId;
use crate::wire::{Argument, Class, EVENT_TABLE, Kind, SpanId, TaskId, ValueType, event_table};

/// Why reading a record stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It cannot be read.
    Fault(Fault),
    /// It can be read once this schema is known.
    Schema(u64),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Stop {
    /// What is wrong, if no more schemas will become known.
    pub(crate) fn fault(self) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Schema(_) => "an event's schema is not defined",
        }
    }
}

/// Properties of each kind, by code: whether its records have a time, whether they concern tasks, workers or
/// spans, whether they have no arguments or only one id, and whether they change what their thread is inside.
const TRAITS: [u8; 256] = {
    let mut traits = [0; 256];
    let mut index = 0;
    while index < EVENT_TABLE.len() {
        let (code, class) = (EVENT_TABLE[index].code, EVENT_TABLE[index].class);
        let is_of_object = !(code < Kind::TaskStatus as u8
            || code == Kind::RegionEndOther as u8
            || code == Kind::BlockingSite as u8
            || code == Kind::ThreadName as u8
            || code == Kind::WorkerName as u8
            || code == Kind::Module as u8
            || code == Kind::Frame as u8
            || code == Kind::ThreadStack as u8
            || code == Kind::TaskStackList as u8
            || code == Kind::TaskSpawnList as u8
            || code == Kind::CpuSample as u8
            || code == Kind::ThreadStands as u8
            || code == Kind::ThreadTimes as u8
            || code == Kind::AllocationSample as u8
            || code == Kind::HeapTotals as u8
            || code == Kind::HeapStack as u8
            || code == Kind::HeapStacksOmitted as u8
            || code == Kind::SystemCounters as u8
            || code == Kind::Contention as u8
            || code == Kind::LockWait as u8
            || code == Kind::LockHeld as u8
            || code == Kind::RangeBegin as u8
            || code == Kind::RangeEnd as u8
            || code == Kind::RangeStatus as u8
            || code == Kind::RuntimeCounters as u8
            || code == Kind::TaskSize as u8);
        let timed = if matches!(class, Class::Event) { TIMED } else { 0 };
        let arguments = match EVENT_TABLE[index].arguments {
            [] => BARE,
            [(_, Argument::Id)] => ONE_ID,
            _ => 0,
        };
        let object = if is_of_object { OBJECT } else { 0 };
        let moves =
            is_of_object || code == Kind::ThreadStart as u8 || code == Kind::ThreadExit as u8;
        traits[code as usize] = timed | arguments | object | if moves { MOVES } else { 0 };
        index += 1;
    }
    traits
};
const TIMED: u8 = 1;
const OBJECT: u8 = 2;
const BARE: u8 = 4;
const ONE_ID: u8 = 8;
const MOVES: u8 = 16;

/// Whether records of this kind have a time: they are events.
#[inline]
pub(crate) fn is_timed(kind: Kind) -> bool {
    TRAITS[kind as usize] & TIMED != 0
}

/// Whether records of this kind concern tasks, workers or spans.
#[inline]
pub(crate) fn is_of_object(kind: Kind) -> bool {
    TRAITS[kind as usize] & OBJECT != 0
}

/// Whether an event of this code neither waits for anything nor changes what its thread is inside.
#[inline]
pub(crate) fn is_plain(code: u8) -> bool {
    TRAITS[code as usize] & MOVES == 0
}

/// The arguments of a record, by name. Reading sets only those that the kind has and leaves the rest
/// unchanged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments {
    /// The entry of the task or span, and its incarnation if the record has it.
    pub(crate) index: u32,
    pub(crate) incarnation: u32,
    /// A span's parent, or the span it follows from.
    pub(crate) other: SpanId,
    /// A thread, a task's sequence number, a worker's tenure, a count; for a list, its length in bytes.
    pub(crate) number: u64,
    /// The code of a state.
    pub(crate) state: u64,
    /// How many ticks before the block's base.
    pub(crate) ago: u64,
    /// A worker, or the runtime of a pool.
    pub(crate) worker: WorkerId,
    /// The id of a site or callsite.
    pub(crate) site: u64,
    /// The index of a typed event's schema among the sites.
    pub(crate) schema: u32,
    /// Where the given values, or the bytes of a list, begin.
    pub(crate) given: u32,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            index: 0,
            incarnation: 0,
            other: SpanId::NONE,
            number: 0,
            state: 0,
            ago: 0,
            worker: WorkerId::default(),
            site: 0,
            schema: NO_SITE,
            given: 0,
        }
    }
}

impl Arguments {
    pub(crate) fn task(&self) -> TaskId {
        TaskId { index: self.index, incarnation: self.incarnation }
    }

    pub(crate) fn span(&self) -> SpanId {
        SpanId { index: self.index, incarnation: self.incarnation }
    }
}

impl Arguments {
    /// Reads the arguments of a record, after the time. The schema of a typed event must be known.
    #[inline]
    pub(crate) fn read(
        &mut self,
        kind: Kind,
        bytes: &mut Bytes<'_>,
        definitions: &Definitions,
    ) -> Result<(), Fault> {
        // Most records are of these kinds, and not worth a call.
        match TRAITS[kind as usize] & (BARE | ONE_ID) {
            BARE => {}
            ONE_ID => self.site = bytes.number()?,
            _ => self.read_any(kind, bytes, definitions)?,
        }
        Ok(())
    }
}

/// Skips the arguments of a record, after the time.
#[inline]
pub(crate) fn skip(
    kind: Kind,
    bytes: &mut Bytes<'_>,
    definitions: &Definitions,
) -> Result<(), Stop> {
    match TRAITS[kind as usize] & (BARE | ONE_ID) {
        BARE => {}
        ONE_ID => drop(bytes.number()?),
        _ => skip_any(kind, bytes, definitions)?,
    }
    Ok(())
}

/// Skips an argument. `id` is the last id that was skipped.
#[inline(always)]
pub(crate) fn skip_argument(
    kind: Argument,
    bytes: &mut Bytes<'_>,
    definitions: &Definitions,
    id: &mut u64,
) -> Result<(), Stop> {
    match kind {
        Argument::Unsigned | Argument::Signed => drop(bytes.number()?),
        Argument::Id => *id = bytes.number()?,
        Argument::Float => bytes.skip(8)?,
        Argument::Text => drop(bytes.text()?),
        Argument::Fields => {
            for _ in 0..bytes.number()? {
                bytes.value_type()?;
                bytes.text()?;
            }
        }
        Argument::Values => drop(skip_values(*id, bytes, definitions)?),
        Argument::Pairs => {
            for _ in 0..bytes.number()? {
                bytes.number()?;
                bytes.number()?;
            }
        }
        Argument::Given => bytes.skip_given()?,
        Argument::Names => {
            for _ in 0..bytes.number()? {
                bytes.text()?;
            }
        }
        Argument::Bytes => drop(bytes.counted()?),
    }
    Ok(())
}

/// Skips arguments that this version does not know.
#[cold]
pub(crate) fn skip_foreign(
    arguments: &[(String, Argument)],
    bytes: &mut Bytes<'_>,
    definitions: &Definitions,
) -> Result<(), Stop> {
    let mut id = 0;
    arguments.iter().try_for_each(|(_, kind)| skip_argument(*kind, bytes, definitions, &mut id))
}

/// Skips the values of a schema, and returns its index among the sites.
#[inline]
fn skip_values(id: u64, bytes: &mut Bytes<'_>, definitions: &Definitions) -> Result<u32, Stop> {
    let index = definitions.schema_index(id).ok_or(Stop::Schema(id))?;
    let schema = definitions.site(index).ok_or(Stop::Schema(id))?;
    for field in definitions.fields(schema) {
        bytes.skip_value(field.kind)?;
    }
    Ok(index)
}

/// Reads an argument into the field of [`Arguments`] with its name, or skips it.
macro_rules! keep {
    ($to:ident, $bytes:ident, $definitions:ident, task: Unsigned) => {
        $to.index = $bytes.place()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, span: Unsigned) => {
        $to.index = $bytes.place()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, incarnation: Unsigned) => {
        $to.incarnation = $bytes.place()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, parent: Unsigned) => {
        $to.other.index = $bytes.place()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, parent_incarnation: Unsigned) => {
        $to.other.incarnation = $bytes.place()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, from: Unsigned) => {
        $to.other.index = $bytes.place()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, from_incarnation: Unsigned) => {
        $to.other.incarnation = $bytes.place()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, thread: Unsigned) => {
        $to.number = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, sequence: Unsigned) => {
        $to.number = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, tenure: Unsigned) => {
        $to.number = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, count: Unsigned) => {
        $to.number = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, inside: Unsigned) => {
        $to.number = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, state: Unsigned) => {
        $to.state = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, ago: Unsigned) => {
        $to.ago = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, runtime: Unsigned) => {
        $to.worker.runtime = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, worker: Unsigned) => {
        $to.worker.worker = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, site: Id) => {
        $to.site = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, schema: Id) => {
        $to.site = $bytes.number()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, $name:ident: Values) => {
        $to.schema = skip_values($to.site, $bytes, $definitions).map_err(Stop::fault)?
    };
    ($to:ident, $bytes:ident, $definitions:ident, $name:ident: Given) => {{
        $to.given = $bytes.at as u32;
        $bytes.skip_given()?;
    }};
    // Its thread is the number that is kept.
    ($to:ident, $bytes:ident, $definitions:ident, wait: Bytes) => {
        $bytes.counted()?
    };
    ($to:ident, $bytes:ident, $definitions:ident, $name:ident: Bytes) => {{
        let (start, end) = $bytes.counted()?;
        ($to.given, $to.number) = (start as u32, (end - start) as u64);
    }};
    ($to:ident, $bytes:ident, $definitions:ident, $name:ident: $type:ident) => {
        skip_argument(Argument::$type, $bytes, $definitions, &mut 0).map_err(Stop::fault)?
    };
}

/// The Rust type of an argument.
macro_rules! type_of {
    (Unsigned) => { u64 };
    (Signed) => { i64 };
    (Float) => { f64 };
    (Id) => { u64 };
    (Text) => { TextAt };
    (Fields) => { Vec<Field> };
    (Names) => { Vec<Field> };
    (Pairs) => { Vec<(u64, u64)> };
    (Values) => { u32 };
    (Given) => { u32 };
    (Bytes) => { (usize, usize) };
}

/// Reads an argument as its [`type_of`]. Values are represented by where they begin; only given ones are
/// skipped.
macro_rules! read {
    ($bytes:ident, Unsigned) => {
        $bytes.number()?
    };
    ($bytes:ident, Signed) => {
        $bytes.signed()?
    };
    ($bytes:ident, Float) => {
        $bytes.float()?
    };
    ($bytes:ident, Id) => {
        $bytes.number()?
    };
    ($bytes:ident, Text) => {
        $bytes.text()?
    };
    ($bytes:ident, Fields) => {
        fields($bytes)?
    };
    ($bytes:ident, Names) => {
        names($bytes)?
    };
    ($bytes:ident, Pairs) => {
        $bytes.pairs()?
    };
    ($bytes:ident, Values) => {
        $bytes.at as u32
    };
    ($bytes:ident, Given) => {{
        let at = $bytes.at as u32;
        $bytes.skip_given()?;
        at
    }};
    ($bytes:ident, Bytes) => {
        $bytes.counted()?
    };
}

macro_rules! codec {
    ($($(#[$doc:meta])* $code:literal $kind:ident $name:literal $class:ident
        [$($argument:ident: $type:ident),*];)*) => {
        /// Like [`skip`], for any kind.
        fn skip_any(
            kind: Kind,
            bytes: &mut Bytes<'_>,
            definitions: &Definitions,
        ) -> Result<(), Stop> {
            let mut id = 0;
            match kind {
                $(Kind::$kind => {
                    $(if const { is_place(stringify!($argument)) } {
                        bytes.place()?;
                    } else {
                        skip_argument(Argument::$type, bytes, definitions, &mut id)?;
                    })*
                })*
            }
            let _ = id;
            Ok(())
        }

        impl Arguments {
            /// Like [`read`](Self::read), for any kind.
            fn read_any(
                &mut self,
                kind: Kind,
                bytes: &mut Bytes<'_>,
                definitions: &Definitions,
            ) -> Result<(), Fault> {
                let to = self;
                match kind {
                    $(Kind::$kind => { $(keep!(to, bytes, definitions, $argument: $type);)* })*
                }
                Ok(())
            }
        }

        /// The arguments of each kind of record.
        // There is one for each row of the table, used or not.
        #[allow(dead_code)]
        pub(crate) mod record {
            use super::super::bytes::{Bytes, Fault, TextAt};
            use super::{Field, fields, names};

            $(pub(crate) struct $kind { $(pub(crate) $argument: type_of!($type),)* }

            impl $kind {
                pub(crate) fn read(bytes: &mut Bytes<'_>) -> Result<Self, Fault> {
                    let _ = &bytes;
                    Ok(Self { $($argument: read!(bytes, $type),)* })
                }
            })*
        }
    };
}

event_table!(codec);

/// The fields of a schema.
fn fields(bytes: &mut Bytes<'_>) -> Result<Vec<Field>, Fault> {
    let mut fields = Vec::new();
    for _ in 0..bytes.number()? {
        fields.push(Field { kind: bytes.value_type()?, name: bytes.text()? });
    }
    Ok(fields)
}

/// The names of a callsite's fields.
fn names(bytes: &mut Bytes<'_>) -> Result<Vec<Field>, Fault> {
    let mut names = Vec::new();
    for _ in 0..bytes.number()? {
        names.push(Field { kind: ValueType::Text, name: bytes.text()? });
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::bytes::{Span, TextAt};
    use super::*;
    use crate::wire::{put_varint, zigzag};

    const SCHEMA: u64 = 7;

    /// A schema whose values are a number and a text.
    fn definitions() -> Definitions {
        let text = TextAt::Span(Span::default());
        let mut definitions = Definitions::new(1 << 20);
        let field = |kind| Field { kind, name: text };
        let fields = [field(ValueType::Unsigned), field(ValueType::Text)];
        definitions.add_site(1, (text, text, 1), None).unwrap();
        definitions.add_site(SCHEMA, (text, text, 1), Some(&fields)).unwrap();
        definitions
    }

    fn put_text(out: &mut Vec<u8>) {
        put_varint(out, 2 << 2);
        out.extend(b"ab");
    }

    /// Writes an argument by the table alone, as minimally as possible. Returns its value if it is a number.
    fn put(out: &mut Vec<u8>, name: &str, kind: Argument, number: u64) -> Option<u64> {
        match kind {
            Argument::Unsigned => put_varint(out, number),
            Argument::Id => {
                let id = if name == "schema" { SCHEMA } else { number };
                put_varint(out, id);
                return Some(id);
            }
            Argument::Signed => put_varint(out, zigzag(-(number as i64))),
            Argument::Float => out.extend(1.5_f64.to_le_bytes()),
            Argument::Text => put_text(out),
            Argument::Fields => {
                out.extend([1, ValueType::Bool as u8]);
                put_text(out);
            }
            Argument::Values => {
                put_varint(out, number);
                put_text(out);
            }
            Argument::Pairs => out.extend([2, 1, 2, 3, 4]),
            Argument::Given => out.extend([1, 3 << 3 | ValueType::Bool as u8, 1]),
            Argument::Names => {
                out.push(1);
                put_text(out);
            }
            Argument::Bytes => out.extend([3, 9, 9, 9]),
        }
        (kind == Argument::Unsigned).then_some(number)
    }

    /// Reads a record by its own type. Values are left unread.
    fn read_whole(kind: Kind, bytes: &mut Bytes<'_>) -> Result<(), Fault> {
        macro_rules! whole {
            ($($(#[$doc:meta])* $code:literal $kind:ident $name:literal $class:ident
                [$($argument:ident: $type:ident),*];)*) => {
                match kind { $(Kind::$kind => { record::$kind::read(bytes)?; },)* }
            };
        }
        event_table!(whole);
        Ok(())
    }

    /// The field of [`Arguments`] with this name.
    fn kept(args: &Arguments, name: &str) -> Option<u64> {
        Some(match name {
            "task" | "span" => args.index.into(),
            "incarnation" => args.incarnation.into(),
            "parent" | "from" => args.other.index.into(),
            "parent_incarnation" | "from_incarnation" => args.other.incarnation.into(),
            "thread" | "sequence" | "tenure" | "count" | "inside" => args.number,
            "state" => args.state,
            "ago" => args.ago,
            "runtime" => args.worker.runtime,
            "worker" => args.worker.worker,
            "site" | "schema" => args.site,
            _ => return None,
        })
    }

    #[test]
    fn each_kind_is_read_as_the_table_has_it() {
        let definitions = definitions();
        for row in EVENT_TABLE {
            let kind = Kind::from_code(row.code).unwrap();
            let (mut written, mut numbers) = (vec![0xff; 3], Vec::new());
            for (at, (name, argument)) in row.arguments.iter().enumerate() {
                let number = 100_000 + u64::from(row.code) * 100 + at as u64;
                numbers.push((*name, put(&mut written, name, *argument, number)));
            }
            let end = written.len();
            let bytes = |end: usize| Bytes::new(&written, 3, end as u32);
            let mut skipped = bytes(end);
            assert_eq!(skip(kind, &mut skipped, &definitions), Ok(()), "{kind:?}");
            let (mut args, mut kept_of) = (Arguments::default(), bytes(end));
            assert_eq!(args.read(kind, &mut kept_of, &definitions), Ok(()), "{kind:?}");
            let mut whole = bytes(end);
            assert_eq!(read_whole(kind, &mut whole), Ok(()), "{kind:?}");
            let has_values = row.arguments.iter().any(|(_, kind)| *kind == Argument::Values);
            assert_eq!((skipped.at, kept_of.at), (end, end), "{kind:?}");
            assert!(whole.at == end || has_values, "{kind:?}");
            for (name, number) in numbers {
                if let (Some(number), Some(kept)) = (number, kept(&args, name)) {
                    assert_eq!(number, kept, "{kind:?}, {name}");
                }
            }
            for cut in 3..end {
                assert!(skip(kind, &mut bytes(cut), &definitions).is_err(), "{kind:?}");
                assert!(args.read(kind, &mut bytes(cut), &definitions).is_err(), "{kind:?}");
            }
        }
    }

    #[test]
    fn values_wait_for_their_schema() {
        let written = [9];
        let mut bytes = Bytes::new(&written, 0, 1);
        let mut args = Arguments::default();
        let read = args.read(Kind::Event, &mut bytes, &Definitions::default());
        assert_eq!(read, Err(Stop::Schema(9).fault()));
        bytes.at = 0;
        let skipped = skip(Kind::Event, &mut bytes, &Definitions::default());
        assert_eq!(skipped, Err(Stop::Schema(9)));
    }
}
