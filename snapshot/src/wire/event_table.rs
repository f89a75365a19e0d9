//! The event table: the kinds of records in a block.
//!
//! A record is one byte, its [`Kind`], followed by its arguments; the first argument of an *event* is the
//! time since the previous event (in ticks, a varint). This table alone drives the encoder, the decoder and
//! the names, and every file contains a copy of it, so that an older reader can skip what it does not know.

use super::varint::{get_varint, put_varint};

/// The class of a record: whether it has a time, and whether it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Gives an id its meaning for the whole of its generation, wherever it stands.
    Definition = 0,
    /// Restates what was true before the next record of this stream.
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
    /// The values of the schema that the preceding argument names, one after the other.
    Values = 6,
    /// Pairs of unsigned numbers: how many, then two varints each.
    Pairs = 7,
    /// Values of some of the fields of a callsite: how many, then for each a varint, `index << 3 | type`
    /// ([`ValueType`]), and the value. A type above 7 is written as 7, and repeated in a byte of its own. If
    /// a field is given twice, the last value counts.
    Given = 8,
    /// The names of a callsite's fields: how many, then each as a [`Text`](Argument::Text).
    Names = 9,
    /// A varint, then that many bytes; the record's kind gives them their meaning.
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
    /// Like [`Argument::Text`].
    Text = 5,
    /// Like [`Argument::Text`]: an error's message, followed by those of its sources.
    Error = 6,
    /// The type of the value, one byte, and the value; or 0 if there is none. The type is neither this one
    /// nor omitted.
    Any = 7,
    /// An unsigned number of 128 bits: two varints, the low half and the high half.
    Wide = 8,
    /// A signed number of 128 bits: zigzag-encoded, then as [`Wide`](ValueType::Wide).
    WideSigned = 9,
    /// A duration: two varints, seconds and nanoseconds.
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

// Codes 32 to 47 are for tasks, 48 to 55 for workers, 56 to 71 for spans, 72 to 79 for stacks, 80 to 89 for
// memory and the machine, 96 to 103 for later additions to tasks and workers, and 104 to 111 for ranges
// of the process and counters of runtimes.
/// Passes the rows of the event table to the macro of this name. They stand here alone: everything else about
/// kinds and their arguments, above all the decoder, is generated from them.
macro_rules! event_table {
    ($use:ident) => {
        $use! {
    /// A text that later records of the generation refer to.
    1 String "string" Definition [id: Id, text: Text];
    /// A named place in the source: of a region, a log category or a counter.
    2 Site "site" Definition [id: Id, name: Text, file: Text, line: Unsigned];
    /// A typed event: its name, its place in the source, its fields.
    3 Schema "schema" Definition [id: Id, name: Text, file: Text, line: Unsigned, fields: Fields];
    /// A span's or an event's place in the source, as `tracing` knows it. The level is one of
    /// [`Level`](super::Level)'s codes.
    4 Callsite "callsite" Definition [id: Id, name: Text, file: Text, line: Unsigned, target: Text,
        level: Unsigned, fields: Names];

    /// The thread that the following records belong to.
    8 ThreadStatus "thread_status" Status [thread: Unsigned, os_thread: Unsigned, name: Text];
    /// A region that is open on the thread of the preceding status, outermost first; it began `ago` ticks
    /// before the block's base time.
    9 RegionStatus "region_status" Status [site: Id, ago: Unsigned];
    /// This many more regions are open, deeper than the recorder restates.
    10 RegionsDeeper "regions_deeper" Status [count: Unsigned];
    /// This many events of the stream were lost here; `cause` is a [`Loss`](super::Loss).
    11 Lost "lost" Status [cause: Unsigned, count: Unsigned];
    /// The end record: what the generation held, what it lost (by cause), and how long, in nanoseconds,
    /// advances, waits for writers and snapshots took since the previous end record (histograms: the upper
    /// bound of a bucket, and its count).
    12 End "end" Status [events: Unsigned, bytes: Unsigned, blocks: Unsigned, lost: Pairs,
        advances: Pairs, waits: Pairs, snapshots: Pairs];

    /// This many statuses were left out for want of room: of threads (`what` 1), with all their regions; or where
    /// so many tasks were waiting (5).
    13 Omitted "omitted" Status [what: Unsigned, count: Unsigned];
    /// This many statuses of this name were left out for want of room: of tasks (`what` 2), of spans (3), or
    /// the fields of spans (4).
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

    /// The state of a task before the next record of its stream; see [`TaskState`](super::TaskState) for
    /// `state`. A running task is being polled by the stream's thread, innermost last.
    32 TaskStatus "task_status" Status [task: Unsigned, incarnation: Unsigned, sequence: Unsigned,
        state: Unsigned, site: Id];
    /// The state of tasks that no owner mentioned in the generation: see
    /// [`TaskListItem`](super::TaskListItem).
    33 TaskList "task_list" Status [tasks: Bytes];
    /// A task is spawned, by the innermost task that this thread is polling, if any.
    34 TaskCreate "task_create" Event [task: Unsigned, incarnation: Unsigned, sequence: Unsigned,
        site: Id];
    /// A poll of a task begins.
    35 TaskPoll "task_poll" Event [task: Unsigned, sequence: Unsigned];
    /// The innermost poll of the thread ends: the task has to wait.
    36 TaskPending "task_pending" Event [];
    /// Like [`TaskPending`](Kind::TaskPending), with what the task waits for.
    37 TaskWaits "task_pending" Event [site: Id];
    /// The innermost poll of the thread ends, and so does the task: it is done.
    38 TaskReady "task_ready" Event [];
    /// The innermost poll of the thread ends, and so does the task: it panicked.
    39 TaskPanic "task_panic" Event [];
    /// A task is dropped before it is done: it is cancelled.
    40 TaskDrop "task_drop" Event [task: Unsigned, sequence: Unsigned];
    /// A task is woken for its next poll, by this thread (and the task that it is polling, if any), which saw
    /// the task as the transition of this number left it.
    41 TaskWake "task_wake" Event [task: Unsigned, sequence: Unsigned];
    /// Like [`TaskWake`](Kind::TaskWake), but the waker may have seen a state from before the generation.
    42 TaskWakeStale "task_wake" Event [task: Unsigned, sequence: Unsigned];

    /// The worker that the stream's thread is; `state` is 1 if it is parked, 2 if it is running.
    48 WorkerStatus "worker_status" Status [runtime: Unsigned, worker: Unsigned, tenure: Unsigned,
        state: Unsigned];
    /// The thread becomes a worker of a runtime. The tenures of a worker are numbered in ascending order,
    /// across threads: a higher one ends a lower one.
    49 WorkerStart "worker_start" Event [runtime: Unsigned, worker: Unsigned, tenure: Unsigned];
    /// The thread's worker has nothing to do and goes to sleep.
    50 WorkerPark "worker_park" Event [];
    /// The thread's worker continues.
    51 WorkerUnpark "worker_unpark" Event [];
    /// The thread is no longer a worker.
    52 WorkerStop "worker_stop" Event [];
    /// The thread belongs to a runtime's pool, as a worker or for blocking work.
    53 PoolThread "pool_thread" Event [runtime: Unsigned];
    /// The pool that the stream's thread belongs to.
    54 PoolStatus "pool_status" Status [runtime: Unsigned];

    /// The state of an open span. It began `ago` ticks before the block's base time; parent 0 means none.
    56 SpanStatus "span_status" Status [span: Unsigned, incarnation: Unsigned, parent: Unsigned,
        parent_incarnation: Unsigned, ago: Unsigned, site: Id, fields: Given];
    /// Like [`SpanStatus`](Kind::SpanStatus), but fields are missing or differ from what was last recorded,
    /// for want of room; possibly all are missing.
    57 SpanStatusPart "span_status" Status [span: Unsigned, incarnation: Unsigned,
        parent: Unsigned, parent_incarnation: Unsigned, ago: Unsigned, site: Id, fields: Given];
    /// A span that the stream's thread has entered, outermost first.
    58 SpanEntered "span_entered" Status [span: Unsigned, incarnation: Unsigned];
    /// This many more spans, deeper than the recorder restates.
    59 SpansDeeper "spans_deeper" Status [count: Unsigned];
    /// A span begins, as a child of the innermost one that the thread has entered.
    60 SpanCreate "span_create" Event [span: Unsigned, incarnation: Unsigned, site: Id,
        fields: Given];
    /// A span begins, as a child of this parent, or of none (0).
    61 SpanCreateIn "span_create" Event [span: Unsigned, incarnation: Unsigned, parent: Unsigned,
        parent_incarnation: Unsigned, site: Id, fields: Given];
    /// The thread enters the span that it created last.
    62 SpanEnterLast "span_enter" Event [];
    /// The thread enters a span.
    63 SpanEnter "span_enter" Event [span: Unsigned, incarnation: Unsigned];
    /// The thread exits the innermost span that it has entered.
    64 SpanExit "span_exit" Event [];
    /// The thread exits a span that is not the innermost one.
    65 SpanExitOther "span_exit" Event [span: Unsigned, incarnation: Unsigned];
    /// The span that the thread exited last ends.
    66 SpanCloseLast "span_close" Event [];
    /// A span ends.
    67 SpanClose "span_close" Event [span: Unsigned, incarnation: Unsigned];
    /// Fields of a span that were not known when it began.
    68 SpanRecord "span_record" Event [span: Unsigned, incarnation: Unsigned, site: Id,
        fields: Given];
    /// A span follows from another one.
    69 SpanFollows "span_follows" Event [span: Unsigned, incarnation: Unsigned, from: Unsigned,
        from_incarnation: Unsigned];
    /// A message with fields. Its site is a callsite.
    70 LogFields "log" Event [level: Unsigned, site: Id, message: Text, fields: Given];
    /// Like [`LogFields`](Kind::LogFields), for this span, or none (0), instead of the thread's innermost
    /// one.
    71 LogIn "log" Event [span: Unsigned, incarnation: Unsigned, level: Unsigned, site: Id,
        message: Text, fields: Given];

    /// A file that code was loaded from, with the build id of the linker's note, or none.
    72 Module "module" Definition [id: Id, path: Text, build_id: Bytes];
    /// A stack frame, and thereby the stack whose innermost frame it is. `caller` is the frame that called
    /// it. `offset` counts from where the linker put the beginning of the module (0: the code belongs to
    /// none). It is doubled, plus 1 if it is the very instruction; otherwise it is the call's return address.
    /// A frame without a caller is no frame: its `offset` says why the stack ends, as one of
    /// [`StackEnd`](super::StackEnd)'s codes.
    73 Frame "frame" Definition [id: Id, caller: Id, module: Id, offset: Unsigned];
    /// A thread's stack, taken on this or another thread (0: there is none). `reason` is one of
    /// [`StackReason`](super::StackReason)'s codes, `source` one of [`StackSource`](super::StackSource)'s.
    74 ThreadStack "thread_stack" Event [thread: Unsigned, stack: Id, reason: Unsigned,
        source: Unsigned];

    /// Where tasks were waiting when the generation ended: see [`TaskStacksReader`](super::TaskStacksReader).
    75 TaskStackList "task_stack_list" Status [tasks: Bytes];
    /// The stacks of the threads that spawned tasks which were alive when the generation ended, as a
    /// [`TaskStackList`](Kind::TaskStackList) with one stack each.
    76 TaskSpawnList "task_spawn_list" Status [tasks: Bytes];

    /// The thread has used CPU time: `weight` times the interval at which it is sampled (see
    /// [`CPU_SAMPLES`](super::key::CPU_SAMPLES)). `stack` is where it was (0: there is none), and `source` one of
    /// [`StackSource`](super::StackSource)'s codes. Another thread may report it, and late: then `thread` is the thread's
    /// number (otherwise 0), and the sample was taken `ago` ticks before the event.
    77 CpuSample "cpu_sample" Event [thread: Unsigned, stack: Id, source: Unsigned, weight: Unsigned,
        ago: Unsigned];

    /// What the kernel says of a thread, for a time that ended with the generation or shortly before: within `time`
    /// nanoseconds it ran for `ran`, waited for a core for `waited`, and got one `slices` times.
    78 ThreadTimes "thread_times" Status [thread: Unsigned, time: Unsigned, ran: Unsigned, waited: Unsigned,
        slices: Unsigned];

    /// A thread that has recorded something has been blocked for `since` nanoseconds: its stack (0: there is none), how that
    /// was obtained (one of [`StackSource`](super::StackSource)'s codes), and what it waits for, as in
    /// [`ThreadAt`](super::ThreadAt). If `since` is 0, a thread of which that was said goes on.
    79 ThreadStands "thread_stands" Event [thread: Unsigned, stack: Id, source: Unsigned, since: Unsigned,
        wait: Bytes];

    /// The thread has allocated an object that is a sample: one of `size` bytes is one with probability
    /// `1 - exp(-size / interval)`. `stack` is where it was allocated (0: there is none), and `source` one of
    /// [`StackSource`](super::StackSource)'s codes.
    80 AllocationSample "allocation_sample" Event [stack: Id, source: Unsigned, size: Unsigned,
        interval: Unsigned];
    /// What the program has allocated and freed, in bytes and in objects, within `time` nanoseconds that ended with the
    /// generation or shortly before; how many bytes and objects are alive, and the most bytes that were within that time.
    81 HeapTotals "heap_totals" Status [time: Unsigned, allocated: Unsigned, allocations: Unsigned,
        freed: Unsigned, frees: Unsigned, live: Unsigned, live_objects: Unsigned, peak: Unsigned];
    /// What is alive of what one stack has allocated, as the samples say when the generation ends: how many of them there
    /// are, the objects and bytes that they stand for, and how many seconds ago the first of them was allocated. `stack` and
    /// `source` as in [`AllocationSample`](Kind::AllocationSample).
    82 HeapStack "heap_stack" Status [stack: Id, source: Unsigned, samples: Unsigned, objects: Unsigned,
        bytes: Unsigned, age: Unsigned];
    /// Of so many samples, and of so many bytes that they stand for, no record says by whom: there was no room.
    83 HeapStacksOmitted "heap_stacks_omitted" Status [samples: Unsigned, bytes: Unsigned];

    /// Counters of the process, its control group and the machine, as pairs of one of [`SystemCounter`](super::SystemCounter)'s
    /// codes and a value, at the end of the generation or shortly before. What they count up is what was added within `time`
    /// nanoseconds. There is a record for each group of them that was read.
    84 SystemCounters "system_counters" Status [time: Unsigned, counters: Pairs];

    /// The thread, or the task that it polls, has waited for a lock for `waited` nanoseconds, or has given up. `site` is where it
    /// asked for it; `lock` says only whether two locks are one; `kind` is one of [`LockKind`](super::LockKind)'s codes; `waiters`
    /// waited then, itself included. `stack` and `source` are as in [`AllocationSample`](Kind::AllocationSample). The holder is
    /// the one that released the lock last, or has it: a thread by the recorder's number (0: none) or else the kernel's, and a
    /// task, which held it or was being polled when the thread took it (incarnation 0: none); the place where it took it (0:
    /// unknown), and for how many nanoseconds it had held it (0: unknown). `flags` are [`LockFlags`](super::LockFlags).
    85 Contention "contention" Event [stack: Id, source: Unsigned, site: Id, lock: Unsigned, kind: Unsigned,
        waited: Unsigned, waiters: Unsigned, holder: Unsigned, holder_os_thread: Unsigned, holder_task: Unsigned,
        holder_incarnation: Unsigned, holder_site: Id, held: Unsigned, flags: Unsigned];
    /// A wait for a lock that goes on, as the recorder's own thread reports with each generation: of this thread, and of a task
    /// or the task that the thread polls (incarnation 0: none). The others are those of a [`Contention`](Kind::Contention).
    86 LockWait "lock_wait" Event [thread: Unsigned, os_thread: Unsigned, task: Unsigned, incarnation: Unsigned,
        site: Id, lock: Unsigned, kind: Unsigned, waited: Unsigned, waiters: Unsigned, holder: Unsigned,
        holder_os_thread: Unsigned, holder_task: Unsigned, holder_incarnation: Unsigned, holder_site: Id,
        held: Unsigned, flags: Unsigned];
    /// The thread has released a lock that it took at `site` in an earlier poll of this task: so many polls of it ended
    /// meanwhile.
    87 LockHeld "lock_held" Event [site: Id, lock: Unsigned, kind: Unsigned, task: Unsigned,
        incarnation: Unsigned, polls: Unsigned];

    /// A region of the thread ends that is not the innermost one: this many others are open inside it.
    90 RegionEndOther "region_end" Event [inside: Unsigned];
    /// Like [`SpanFollows`](Kind::SpanFollows), from a span that has ended.
    91 SpanFollowsClosed "span_follows" Event [span: Unsigned, incarnation: Unsigned, from: Unsigned,
        from_incarnation: Unsigned];
    /// Like [`SpanCreateIn`](Kind::SpanCreateIn), as a child of a span that has ended, or of an unknown one
    /// (both numbers are 2^32 - 1).
    92 SpanCreateUnder "span_create" Event [span: Unsigned, incarnation: Unsigned, parent: Unsigned,
        parent_incarnation: Unsigned, site: Id, fields: Given];
    /// Like [`SpanExitOther`](Kind::SpanExitOther), where a reader may not know all spans that the thread has
    /// entered: this many were entered since.
    93 SpanExitDeep "span_exit" Event [span: Unsigned, incarnation: Unsigned, inside: Unsigned];
    /// The open spans that no record named in the generation: see [`SpanListItem`](super::SpanListItem).
    94 SpanList "span_list" Status [spans: Bytes];
    /// Like [`Site`](Kind::Site), for a closure that runs where blocking is allowed: its tasks hold no
    /// worker.
    96 BlockingSite "blocking_site" Definition [id: Id, name: Text, file: Text, line: Unsigned];
    /// The thread's name, in the whole generation.
    97 ThreadName "thread_name" Event [thread: Unsigned, name: Text];
    /// Like [`WorkerStart`](Kind::WorkerStart), while the thread drives the runtime; no record says when it
    /// stops.
    98 WorkerVisit "worker_visit" Event [runtime: Unsigned, worker: Unsigned, tenure: Unsigned];
    /// Like [`WorkerStatus`](Kind::WorkerStatus), for a [`WorkerVisit`](Kind::WorkerVisit).
    99 VisitStatus "visit_status" Status [runtime: Unsigned, worker: Unsigned, tenure: Unsigned,
        state: Unsigned];
    /// The worker's name.
    100 WorkerName "worker_name" Definition [runtime: Unsigned, worker: Unsigned, name: Text];
    /// The futures of the tasks of a site take this many bytes each.
    101 TaskSize "task_size" Definition [site: Id, size: Unsigned];

    /// A range of the process begins, or began `ago` ticks before. Ranges have numbers, so any thread may end one.
    104 RangeBegin "range_begin" Event [range: Unsigned, site: Id, ago: Unsigned];
    /// A range of the process ends, `took` ticks after it began; it ended `late` ticks before this was recorded.
    105 RangeEnd "range_end" Event [range: Unsigned, site: Id, took: Unsigned, late: Unsigned];
    /// A range that was open when the generation ended or shortly before. It began `ago` ticks before the block's base time.
    106 RangeStatus "range_status" Status [range: Unsigned, site: Id, ago: Unsigned];
    /// Counters of an executor's runtime, as pairs of one of [`SystemCounter`](super::SystemCounter)'s codes and a value, as in
    /// [`SystemCounters`](Kind::SystemCounters).
    107 RuntimeCounters "runtime_counters" Status [runtime: Unsigned, time: Unsigned, counters: Pairs];
        }
    };
}
#[cfg(feature = "read")]
pub(crate) use event_table;

macro_rules! kinds {
    ($($(#[$doc:meta])* $code:literal $variant:ident $name:literal $class:ident
        [$($argument:ident: $type:ident),*];)*) => {
        /// The kind of a record. The number is the byte that the record begins with.
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

event_table!(kinds);

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
