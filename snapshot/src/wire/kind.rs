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
    /// Values of some of the fields of a callsite: how many, then for each a varint,
    /// `index << 3 | type` ([`ValueType`]), and the value. A type above 7 is written as 7, and as a byte
    /// behind that. Of a field that is given twice, the last value counts.
    Given = 8,
    /// The names of a callsite's fields: how many, then each as a [`Text`](Argument::Text).
    Names = 9,
    /// So many bytes (a varint), whose meaning is that of the record's kind.
    Bytes = 10,
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
    /// As [`Argument::Text`]: what an error says of itself, and behind that what its sources say.
    Error = 6,
    /// The type of the value, one byte, and the value; 0 if there is none. Never of this type, or
    /// omitted.
    Any = 7,
    /// An unsigned number of 128 bits: two varints, the low half and the high half.
    Wide = 8,
    /// A signed number of 128 bits: zigzag, as [`Wide`](ValueType::Wide).
    WideSigned = 9,
    /// A length of time: two varints, seconds and nanoseconds.
    Duration = 10,
    /// There was a value, but no room for it. Only among given values; takes no bytes.
    Omitted = 11,
}

impl ValueType {
    /// All of them, by code.
    pub const ALL: [Self; 11] = {
        use ValueType::*;
        [Unsigned, Signed, Float, Bool, Text, Error, Any, Wide, WideSigned, Duration, Omitted]
    };

    /// The type of this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }
}

impl Argument {
    /// The argument type of this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        use Argument::{
            Bytes, Fields, Float, Given, Id, Names, Pairs, Signed, Text, Unsigned, Values,
        };
        [Unsigned, Signed, Float, Id, Text, Fields, Values, Pairs, Given, Names, Bytes]
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

// Codes 32 to 47 are for tasks, 48 to 55 for workers, 56 to 71 for spans; 72 to 79 are kept for stacks,
// 96 to 103 are for what came to tasks and workers later.
event_table! {
    /// A text that later records of the generation refer to.
    1 String "string" Definition [id: Id, text: Text];
    /// A place in the source that has a name: of a region, a log's category, a counter.
    2 Site "site" Definition [id: Id, name: Text, file: Text, line: Unsigned];
    /// A typed event: its name, its place, its fields.
    3 Schema "schema" Definition [id: Id, name: Text, file: Text, line: Unsigned, fields: Fields];
    /// A span's or an event's place in the source, as `tracing` knows it. The level is one of
    /// [`Level`](super::Level)'s codes.
    4 Callsite "callsite" Definition [id: Id, name: Text, file: Text, line: Unsigned, target: Text,
        level: Unsigned, fields: Names];

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
    /// So many statuses of this name were left out for want of room: of tasks (`what` 2), of spans
    /// (3), or of the fields of spans (4).
    14 OmittedOf "omitted_of" Status [what: Unsigned, site: Id, count: Unsigned];

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

    /// The state of a task before the next record of its stream; see [`TaskState`](super::TaskState)
    /// for `state`. One that is running is polled by the stream's thread, innermost last.
    32 TaskStatus "task_status" Status [task: Unsigned, incarnation: Unsigned, sequence: Unsigned,
        state: Unsigned, site: Id];
    /// The state of tasks that nobody who polls them mentioned in the generation: see
    /// [`TaskList`](super::TaskListItem).
    33 TaskList "task_list" Status [tasks: Bytes];
    /// A task is spawned, by the task that is being polled on this thread, if one is.
    34 TaskCreate "task_create" Event [task: Unsigned, incarnation: Unsigned, sequence: Unsigned,
        site: Id];
    /// A poll of a task begins.
    35 TaskPoll "task_poll" Event [task: Unsigned, sequence: Unsigned];
    /// The innermost poll of the thread ends: the task has to wait.
    36 TaskPending "task_pending" Event [];
    /// As [`TaskPending`](Kind::TaskPending), and it is known what for.
    37 TaskWaits "task_pending" Event [site: Id];
    /// The innermost poll of the thread ends, and with it the task: it is done.
    38 TaskReady "task_ready" Event [];
    /// The innermost poll of the thread ends, and with it the task: it panicked.
    39 TaskPanic "task_panic" Event [];
    /// A task is dropped that was not done: it is cancelled.
    40 TaskDrop "task_drop" Event [task: Unsigned, sequence: Unsigned];
    /// A task is woken for its next poll, by this thread (and the task being polled on it, if one
    /// is), which saw the task as it was after the transition of this number.
    41 TaskWake "task_wake" Event [task: Unsigned, sequence: Unsigned];
    /// As [`TaskWake`](Kind::TaskWake), but what was seen may be from before the generation.
    42 TaskWakeStale "task_wake" Event [task: Unsigned, sequence: Unsigned];

    /// The worker that the stream's thread is; `state` is 1 if it is parked, 2 if it runs.
    48 WorkerStatus "worker_status" Status [runtime: Unsigned, worker: Unsigned, tenure: Unsigned,
        state: Unsigned];
    /// The thread becomes a worker of a runtime. The worker's tenures count up, whatever thread has
    /// them: from a higher one on, a lower one is over.
    49 WorkerStart "worker_start" Event [runtime: Unsigned, worker: Unsigned, tenure: Unsigned];
    /// The thread's worker has nothing to do and goes to sleep.
    50 WorkerPark "worker_park" Event [];
    /// The thread's worker goes on.
    51 WorkerUnpark "worker_unpark" Event [];
    /// The thread is no worker any more.
    52 WorkerStop "worker_stop" Event [];
    /// The thread belongs to the pool of a runtime: it is a worker, or for what blocks.
    53 PoolThread "pool_thread" Event [runtime: Unsigned];
    /// The pool that the stream's thread belongs to.
    54 PoolStatus "pool_status" Status [runtime: Unsigned];

    /// The state of a span that is open. It began `ago` ticks before the block's base time; no parent
    /// is 0.
    56 SpanStatus "span_status" Status [span: Unsigned, incarnation: Unsigned, parent: Unsigned,
        parent_incarnation: Unsigned, ago: Unsigned, site: Id, fields: Given];
    /// As [`SpanStatus`](Kind::SpanStatus), but not with all of its fields as they were recorded last,
    /// for want of room; perhaps with none.
    57 SpanStatusPart "span_status" Status [span: Unsigned, incarnation: Unsigned,
        parent: Unsigned, parent_incarnation: Unsigned, ago: Unsigned, site: Id, fields: Given];
    /// A span that the stream's thread is inside of, outermost first.
    58 SpanEntered "span_entered" Status [span: Unsigned, incarnation: Unsigned];
    /// So many spans more, deeper than the recorder restates.
    59 SpansDeeper "spans_deeper" Status [count: Unsigned];
    /// A span begins, as a child of the innermost one that the thread is inside of.
    60 SpanCreate "span_create" Event [span: Unsigned, incarnation: Unsigned, site: Id,
        fields: Given];
    /// A span begins, as a child of the one named, or of none (0).
    61 SpanCreateIn "span_create" Event [span: Unsigned, incarnation: Unsigned, parent: Unsigned,
        parent_incarnation: Unsigned, site: Id, fields: Given];
    /// The thread enters the span that it created last.
    62 SpanEnterLast "span_enter" Event [];
    /// The thread enters a span.
    63 SpanEnter "span_enter" Event [span: Unsigned, incarnation: Unsigned];
    /// The thread leaves the innermost span that it is inside of.
    64 SpanExit "span_exit" Event [];
    /// The thread leaves a span that is not the innermost one.
    65 SpanExitOther "span_exit" Event [span: Unsigned, incarnation: Unsigned];
    /// The span that the thread left last is over.
    66 SpanCloseLast "span_close" Event [];
    /// A span is over.
    67 SpanClose "span_close" Event [span: Unsigned, incarnation: Unsigned];
    /// Fields of a span that were not known when it began.
    68 SpanRecord "span_record" Event [span: Unsigned, incarnation: Unsigned, site: Id,
        fields: Given];
    /// A span follows from another one.
    69 SpanFollows "span_follows" Event [span: Unsigned, incarnation: Unsigned, from: Unsigned,
        from_incarnation: Unsigned];
    /// A message with fields. Its site is a callsite.
    70 LogFields "log" Event [level: Unsigned, site: Id, message: Text, fields: Given];
    /// As [`LogFields`](Kind::LogFields), said of this span, or of none (0), not of the innermost one
    /// of the thread.
    71 LogIn "log" Event [span: Unsigned, incarnation: Unsigned, level: Unsigned, site: Id,
        message: Text, fields: Given];

    /// A region of the thread ends that is not the innermost one: so many others are open inside of it.
    90 RegionEndOther "region_end" Event [inside: Unsigned];
    /// As [`SpanFollows`](Kind::SpanFollows), from a span that is over.
    91 SpanFollowsClosed "span_follows" Event [span: Unsigned, incarnation: Unsigned, from: Unsigned,
        from_incarnation: Unsigned];
    /// As [`SpanCreateIn`](Kind::SpanCreateIn), as a child of one that is over, or (both numbers
    /// 2^32 - 1) of one of which it is not known which it is.
    92 SpanCreateUnder "span_create" Event [span: Unsigned, incarnation: Unsigned, parent: Unsigned,
        parent_incarnation: Unsigned, site: Id, fields: Given];
    /// As [`SpanExitOther`](Kind::SpanExitOther), where a reader may not know all that the thread is
    /// inside of: so many spans were entered since.
    93 SpanExitDeep "span_exit" Event [span: Unsigned, incarnation: Unsigned, inside: Unsigned];
    /// The spans that are open and that nobody named in the generation: see
    /// [`SpanList`](super::SpanListItem).
    94 SpanList "span_list" Status [spans: Bytes];
    /// As [`Site`](Kind::Site), of a closure that runs where blocking is allowed: its tasks hold no
    /// worker.
    96 BlockingSite "blocking_site" Definition [id: Id, name: Text, file: Text, line: Unsigned];
    /// The thread is called so, in the whole generation.
    97 ThreadName "thread_name" Event [thread: Unsigned, name: Text];
    /// As [`WorkerStart`](Kind::WorkerStart), for as long as the thread drives the runtime, which it
    /// ceases to do unseen.
    98 WorkerVisit "worker_visit" Event [runtime: Unsigned, worker: Unsigned, tenure: Unsigned];
    /// As [`WorkerStatus`](Kind::WorkerStatus), of a [`WorkerVisit`](Kind::WorkerVisit).
    99 VisitStatus "visit_status" Status [runtime: Unsigned, worker: Unsigned, tenure: Unsigned,
        state: Unsigned];
    /// The worker is called so.
    100 WorkerName "worker_name" Definition [runtime: Unsigned, worker: Unsigned, name: Text];
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
