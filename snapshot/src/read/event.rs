//! An event, as users see it.

mod lock;

use super::decode::bytes::{Bytes, TextAt};
use super::decode::codec::{Arguments, record};
use super::decode::contents::Contents;
use super::decode::fields::{Fields, Omitted, Rest};
use super::decode::initial_state::UNKNOWN_PARENT;
use super::decode::stream::Raw;
use super::{EventKind, Level, Site, Stack, Text, Thread, Value, WorkerId};
use crate::wire::{
    Generation, Kind, Nanos, SpanId, StackReason, StackSource, TaskId, ThreadNumber, Ticks,
    ValueType, Waits, get_wait,
};
use std::fmt;
use std::sync::Arc;

/// Something that happened. It keeps its generation in memory, and looks up names and values there when
/// asked.
#[derive(Clone)]
pub struct Event {
    of: Arc<Contents>,
    raw: Raw,
    time: Nanos,
}

impl Event {
    /// No event: one is put here later.
    pub(crate) fn none(of: &Arc<Contents>) -> Self {
        Self { of: Arc::clone(of), raw: Raw::NONE, time: Nanos(0) }
    }

    /// It is this one of the same generation now.
    #[inline]
    pub(crate) fn set(&mut self, raw: &Raw, time: Nanos) {
        (self.raw, self.time) = (*raw, time);
    }

    /// When, in nanoseconds of the monotonic clock (since boot, on Linux). Never less than the time of an
    /// earlier event in [`Trace::events`](super::Trace::events).
    #[must_use]
    pub fn time(&self) -> Nanos {
        self.time
    }

    /// When, as its own thread read the clock, in the unit of [`time`](Self::time): use it to compute
    /// durations. Events are ordered by cause and effect, one generation after the other; a thread that is
    /// held up in the middle of an event while a generation ends writes the event late, and then this is less
    /// than the time of an earlier event.
    #[must_use]
    pub fn measured(&self) -> Nanos {
        self.of.timeline.at(self.raw.ticks)
    }

    /// When, by the recorder's own clock.
    #[must_use]
    pub fn ticks(&self) -> Ticks {
        self.raw.ticks
    }

    /// The generation it belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.of.spot.number
    }

    /// The thread it happened on, if known.
    #[must_use]
    pub fn thread(&self) -> Option<&Thread> {
        self.of.threads.get(self.raw.thread)
    }

    /// The slot that recorded it.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.of.blocks[self.raw.block as usize].slot
    }

    /// The innermost task that its thread was polling when it happened. A poll's own begin and end have the
    /// polled task here.
    #[must_use]
    pub fn task(&self) -> Option<TaskId> {
        (self.raw.task != TaskId::NONE).then_some(self.raw.task)
    }

    /// The innermost span that its thread was in when it happened. Entering and leaving a span count as
    /// inside it; a message recorded for another span counts as inside that one.
    #[must_use]
    pub fn span(&self) -> Option<SpanId> {
        (self.raw.span.index != 0).then_some(self.raw.span)
    }

    /// The worker that its thread was at the time.
    #[must_use]
    pub fn worker(&self) -> Option<WorkerId> {
        self.of.begin.workers.get(self.raw.worker)
    }

    /// The name that `lookback::worker` gave this worker; `None` if it has only a number.
    #[must_use]
    pub fn worker_name(&self) -> Option<&str> {
        self.of.begin.workers.given_name(self.worker()?)
    }

    /// For a task's transition: its number among all transitions of the task's place, counted across all
    /// tasks that had this place. For a wake: the number of the transition that the waker saw.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        match self.raw.kind()? {
            Kind::TaskPoll
            | Kind::TaskPending
            | Kind::TaskWaits
            | Kind::TaskReady
            | Kind::TaskPanic => (self.raw.extra != 0).then_some(self.raw.extra),
            Kind::TaskCreate | Kind::TaskDrop | Kind::TaskWake | Kind::TaskWakeStale => {
                Some(self.args().number)
            }
            _ => None,
        }
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> EventKind<'_> {
        let raw = &self.raw;
        let site = || self.site().unwrap_or(Site::UNKNOWN);
        let Some(kind) = raw.kind() else { return EventKind::Other { name: self.kind_name() } };
        match kind {
            Kind::ThreadStart => EventKind::ThreadStart,
            Kind::ThreadExit => EventKind::ThreadExit,
            Kind::ThreadName => EventKind::ThreadName,
            Kind::RegionBegin => EventKind::RegionBegin { site: site() },
            Kind::RegionEnd | Kind::RegionEndOther => {
                let site = self.site();
                let took = self.of.timeline.length(Ticks(raw.extra), raw.ticks);
                let inside = match kind {
                    Kind::RegionEndOther => self.args().number,
                    _ => 0,
                };
                EventKind::RegionEnd { site, duration: site.map(|_| took), inside }
            }
            Kind::Log | Kind::LogFields | Kind::LogIn => {
                let (level, message, _) = self.message(kind);
                EventKind::Log { level, site: site(), message }
            }
            Kind::Event => EventKind::Typed { site: site() },
            Kind::CounterUnsigned | Kind::CounterSigned | Kind::CounterFloat => {
                EventKind::Counter { site: site(), value: self.counter() }
            }
            _ => self.mentioned(kind),
        }
    }

    /// What happened to a task, a worker or a span.
    fn mentioned(&self, kind: Kind) -> EventKind<'_> {
        let (task, named) = (self.raw.task, self.raw.named_task());
        let (span, worker) = (self.raw.named_span(), self.worker().unwrap_or_default());
        let site = || self.site().unwrap_or(Site::UNKNOWN);
        match kind {
            Kind::TaskCreate => EventKind::TaskCreate {
                task: self.args().task(),
                site: site(),
                parent: self.task(),
            },
            Kind::TaskPoll => EventKind::TaskPoll { task },
            Kind::TaskPending => EventKind::TaskPending { task, waits_for: None },
            Kind::TaskWaits => {
                let index = self.of.tables.place_index(self.args().site);
                EventKind::TaskPending { task, waits_for: self.of.site(index) }
            }
            Kind::TaskReady => EventKind::TaskReady { task },
            Kind::TaskPanic => EventKind::TaskPanic { task },
            Kind::TaskDrop => EventKind::TaskDrop { task: named },
            Kind::TaskWake | Kind::TaskWakeStale => EventKind::TaskWake { task: named },
            Kind::WorkerStart => EventKind::WorkerStart { worker },
            Kind::WorkerVisit => EventKind::WorkerVisit { worker },
            Kind::WorkerPark => EventKind::WorkerPark { worker },
            Kind::WorkerUnpark => EventKind::WorkerUnpark { worker },
            Kind::WorkerStop => EventKind::WorkerStop { worker },
            Kind::PoolThread => EventKind::PoolThread { runtime: self.args().worker.runtime },
            Kind::SpanCreate => EventKind::SpanCreate {
                span: self.args().span(),
                site: site(),
                parent: self.span(),
            },
            Kind::SpanCreateIn | Kind::SpanCreateUnder => {
                let Arguments { other, .. } = self.args();
                let is_known = other.index != 0 && other != UNKNOWN_PARENT;
                let parent = is_known.then_some(other);
                EventKind::SpanCreate { span: self.args().span(), site: site(), parent }
            }
            Kind::SpanEnter | Kind::SpanEnterLast => EventKind::SpanEnter { span },
            Kind::SpanExit | Kind::SpanExitOther | Kind::SpanExitDeep => {
                EventKind::SpanExit { span }
            }
            Kind::SpanClose | Kind::SpanCloseLast => EventKind::SpanClose { span },
            Kind::SpanRecord => EventKind::SpanRecord { span },
            Kind::SpanFollows | Kind::SpanFollowsClosed => {
                EventKind::SpanFollows { span, from: self.args().other }
            }
            Kind::ThreadStack => {
                let [thread, _, reason, source] = self.first_numbers();
                EventKind::ThreadStack {
                    thread: ThreadNumber(thread),
                    reason: StackReason::from_code(reason),
                    source: StackSource::from_code(source),
                }
            }
            Kind::CpuSample => {
                let [_, _, source, weight, ago] = self.first_numbers();
                let Ticks(now) = self.raw.ticks;
                EventKind::CpuSample {
                    thread: self.stack_thread().unwrap_or_default(),
                    weight,
                    source: StackSource::from_code(source),
                    ago: self.of.timeline.length(Ticks(now.saturating_sub(ago)), Ticks(now)),
                }
            }
            Kind::ThreadStands => {
                let [thread, _, source, since] = self.first_numbers();
                EventKind::ThreadStands {
                    thread: ThreadNumber(thread),
                    since: Nanos(since),
                    source: StackSource::from_code(source),
                }
            }
            Kind::Contention | Kind::LockWait | Kind::LockHeld => self.of_lock(kind),
            Kind::AllocationSample => {
                let [_, source, size, interval] = self.first_numbers();
                EventKind::AllocationSample {
                    size,
                    interval,
                    source: StackSource::from_code(source),
                }
            }
            Kind::RangeBegin => {
                let [range, _, ago] = self.first_numbers();
                EventKind::RangeBegin { site: site(), range, ago: self.length(ago) }
            }
            Kind::RangeEnd => {
                let [range, _, took, late] = self.first_numbers();
                let (duration, late) = (self.length(took), self.length(late));
                EventKind::RangeEnd { site: site(), range, duration, late }
            }
            _ => EventKind::Other { name: self.kind_name() },
        }
    }

    /// So many ticks.
    fn length(&self, ticks: u64) -> Nanos {
        self.of.timeline.length(Ticks(0), Ticks(ticks))
    }

    /// What a thread waits for that stands, and which of the things that others wait for it uses: on its stack, and in
    /// its functions.
    pub(crate) fn stands_for(&self) -> Option<(Waits, Vec<u64>, Vec<u64>)> {
        if self.raw.kind() != Some(Kind::ThreadStands) {
            return None;
        }
        let mut bytes = self.bytes();
        for _ in 0..4 {
            bytes.number().ok()?;
        }
        let (start, end) = bytes.counted().ok()?;
        get_wait(self.of.content.get(start..end)?)
    }

    /// The stack that it reports, if it reports one and the stack was taken.
    #[must_use]
    pub fn stack(&self) -> Option<Stack<'_>> {
        match self.raw.kind()? {
            Kind::ThreadStack | Kind::CpuSample | Kind::ThreadStands => {
                let [_, stack] = self.first_numbers();
                Stack::new(&self.of, stack)
            }
            Kind::AllocationSample | Kind::Contention => {
                let [stack] = self.first_numbers();
                Stack::new(&self.of, stack)
            }
            _ => None,
        }
    }

    /// The first arguments, which are numbers. Of a stack: the thread, the stack, the reason, the source. Of a sample of CPU
    /// time: the thread, the stack, the source, the weight, how long ago. Of a sample of the heap: the stack, the source,
    /// the size, the interval.
    fn first_numbers<const N: usize>(&self) -> [u64; N] {
        let mut bytes = self.bytes();
        std::array::from_fn(|_| bytes.number().unwrap_or_default())
    }

    /// The thread that a stack is of; `None` if it is unknown.
    fn stack_thread(&self) -> Option<ThreadNumber> {
        let [number] = self.first_numbers();
        match self.raw.kind()? {
            Kind::CpuSample if number == 0 => self.thread().map(|thread| thread.number),
            _ => Some(ThreadNumber(number)),
        }
    }

    /// What the record says about tasks, workers and spans.
    fn args(&self) -> Arguments {
        let mut args = Arguments::default();
        if let Some(kind) = self.raw.kind() {
            let _ = args.read(kind, &mut self.bytes(), &self.of.tables);
        }
        args
    }

    /// The name of this kind of event in the event table, such as `region_begin`.
    #[must_use]
    pub fn kind_name(&self) -> &str {
        match self.raw.kind() {
            Some(kind) => kind.row().name,
            None => &self.of.plan.row(self.raw.site as u16).name,
        }
    }

    /// The name of what happened: of the region, the typed event, the counter, the category of a log, the
    /// thread that started or ended, the task, the span. `?` if unknown. For a worker it is the name it was
    /// given, or `r0/w3`: runtime 0, worker 3.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.raw.kind() {
            Some(
                Kind::ThreadStart | Kind::ThreadExit | Kind::ThreadName | Kind::AllocationSample,
            ) => self.thread().map_or("?", |thread| &thread.name),
            Some(
                Kind::WorkerStart
                | Kind::WorkerVisit
                | Kind::WorkerPark
                | Kind::WorkerUnpark
                | Kind::WorkerStop,
            ) => self.of.begin.workers.name(self.raw.worker),
            Some(Kind::PoolThread) => "pool",
            Some(Kind::ThreadStack | Kind::CpuSample | Kind::ThreadStands) => {
                let threads = &self.of.threads;
                let thread = self.stack_thread().and_then(|of| threads.get(threads.index(of)));
                thread.map_or("?", |thread| &thread.name)
            }
            None => self.kind_name(),
            Some(_) => self.site().map_or("?", |site| site.name),
        }
    }

    /// The place in the source, if the kind has one and it is known. For a task's or a span's events, the
    /// place where it was created.
    #[must_use]
    pub fn site(&self) -> Option<Site<'_>> {
        match self.raw.kind()? {
            Kind::LogFields | Kind::LogIn => self.of.category(self.raw.site),
            _ => self.of.site(self.raw.site),
        }
    }

    /// The target of a span or a log of `tracing`, or of a log of the `log` crate: the path of its module, unless the program
    /// says otherwise.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.raw.kind()?;
        self.of.target(self.raw.site)
    }

    /// The name of a span's callsite, if the span has another [name](Self::name), from its field `otel.name`.
    #[must_use]
    pub fn callsite_name(&self) -> Option<&str> {
        match self.raw.kind()? {
            Kind::LogFields | Kind::LogIn => None,
            _ => {
                let (site, _) = self.of.renamed.get(self.raw.site)?;
                self.of.site(site).map(|site| site.name)
            }
        }
    }

    /// The named values: of a typed event; `value` of a counter; `level`, `message` and the given values of a
    /// log; a span's values, when it begins or when they become known.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        let of = &*self.of;
        let mut bytes = self.bytes();
        let mut first = [None, None];
        let rest = match self.raw.kind() {
            Some(Kind::Event) => {
                let _ = bytes.number();
                let schema = of.tables.site(self.raw.site);
                Rest::Typed(schema.map_or(&[], |schema| of.tables.fields(schema)))
            }
            Some(Kind::CounterUnsigned | Kind::CounterSigned | Kind::CounterFloat) => {
                first[1] = Some(("value", self.counter()));
                Rest::Nothing
            }
            Some(Kind::ThreadStack) => {
                let [_, _, reason, source] = self.first_numbers();
                let text = |words| Value::Text(Text { text: words, cut: false });
                first = [
                    StackReason::from_code(reason).map(|it| ("reason", text(it.in_words()))),
                    StackSource::from_code(source).map(|it| ("taken", text(it.in_words()))),
                ];
                Rest::Nothing
            }
            Some(Kind::ThreadStands) => {
                let [_, _, source, since] = self.first_numbers();
                let text = |words| Value::Text(Text { text: words, cut: false });
                first = [
                    Some(("stands_ns", Value::Unsigned(since))),
                    StackSource::from_code(source).map(|it| ("taken", text(it.in_words()))),
                ];
                Rest::Nothing
            }
            Some(Kind::CpuSample) => {
                let [_, _, source, weight] = self.first_numbers();
                let text = |words| Value::Text(Text { text: words, cut: false });
                first = [
                    Some(("weight", Value::Unsigned(weight))),
                    StackSource::from_code(source).map(|it| ("taken", text(it.in_words()))),
                ];
                Rest::Nothing
            }
            Some(Kind::AllocationSample) => {
                let [_, source, size] = self.first_numbers();
                let text = |words| Value::Text(Text { text: words, cut: false });
                first = [
                    Some(("size", Value::Unsigned(size))),
                    StackSource::from_code(source).map(|it| ("taken", text(it.in_words()))),
                ];
                Rest::Nothing
            }
            Some(kind @ (Kind::Log | Kind::LogFields | Kind::LogIn)) => {
                let (level, message, given) = self.message(kind);
                let level = Value::Text(Text { text: level.name(), cut: false });
                let pairs = [Some(("level", level)), Some(("message", Value::Text(message)))];
                return Fields::given(of, self.raw.site, given.into(), &pairs);
            }
            Some(
                Kind::SpanCreate | Kind::SpanCreateIn | Kind::SpanCreateUnder | Kind::SpanRecord,
            ) => {
                let args = self.args();
                let site = of.tables.place_index(args.site);
                return Fields::given(of, site, args.given.into(), &[]);
            }
            Some(_) => Rest::Nothing,
            None => Rest::Foreign(&of.plan.row(self.raw.site as u16).arguments),
        };
        Fields { of, bytes, first, rest }
    }

    /// The names of the fields whose values did not fit when they were recorded; `?` where there was no room
    /// for the name either. There is one entry for each such field.
    #[must_use]
    pub fn omitted_fields(&self) -> Omitted<'_> {
        Omitted(match self.raw.kind() {
            Some(
                Kind::SpanCreate
                | Kind::SpanCreateIn
                | Kind::SpanRecord
                | Kind::LogFields
                | Kind::LogIn,
            ) => self.fields(),
            _ => Fields {
                of: &self.of,
                bytes: self.bytes(),
                first: [None, None],
                rest: Rest::Nothing,
            },
        })
    }

    /// What its generation consists of.
    pub(crate) fn contents(&self) -> &Arc<Contents> {
        &self.of
    }

    fn bytes(&self) -> Bytes<'_> {
        let end = self.of.blocks[self.raw.block as usize].end;
        Bytes::new(&self.of.content, self.raw.at, end)
    }

    /// A log's level, its message, and where its given values begin.
    fn message(&self, kind: Kind) -> (Level, Text<'_>, u32) {
        let bytes = &mut self.bytes();
        let read = match kind {
            Kind::Log => record::Log::read(bytes).map(|log| (log.level, Some(log.message), 0)),
            Kind::LogFields => {
                record::LogFields::read(bytes).map(|log| (log.level, Some(log.message), log.fields))
            }
            _ => record::LogIn::read(bytes).map(|log| (log.level, Some(log.message), log.fields)),
        };
        // The first pass has already read it.
        let (level, message, given) = read.unwrap_or_default();
        (Level::from_code(level), self.of.value_text(message), given)
    }

    fn counter(&self) -> Value<'_> {
        let bytes = &mut self.bytes();
        let value = match self.raw.kind() {
            Some(Kind::CounterSigned) => {
                record::CounterSigned::read(bytes).map(|counter| Value::Signed(counter.value))
            }
            Some(Kind::CounterFloat) => {
                record::CounterFloat::read(bytes).map(|counter| Value::Float(counter.value))
            }
            _ => record::CounterUnsigned::read(bytes).map(|counter| Value::Unsigned(counter.value)),
        };
        value.unwrap_or(Value::Unsigned(0))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("time", &self.time)
            .field("generation", &self.generation())
            .field("thread", &self.thread().map(|thread| thread.number))
            .field("kind", &self.kind())
            .field("fields", &self.fields().collect::<Vec<_>>())
            .finish()
    }
}

impl Raw {
    /// The task that the event names.
    pub(crate) fn named_task(&self) -> TaskId {
        TaskId { index: self.extra as u32, incarnation: (self.extra >> 32) as u32 }
    }

    /// The span that the event names.
    pub(crate) fn named_span(&self) -> SpanId {
        SpanId { index: self.extra as u32, incarnation: (self.extra >> 32) as u32 }
    }
}

impl Contents {
    /// Whether a log's message or a text among an event's values is not in the tables.
    pub(crate) fn has_unknown_text(&self, raw: &Raw) -> bool {
        let end = self.blocks[raw.block as usize].end;
        let bytes = &mut Bytes::new(&self.content, raw.at, end);
        let unknown = |text: TextAt| self.tables.span(text).is_none();
        match raw.kind() {
            Some(Kind::Log) => record::Log::read(bytes).is_ok_and(|log| unknown(log.message)),
            Some(Kind::Event) => {
                let Ok(event) = record::Event::read(bytes) else { return false };
                bytes.at = event.values as usize;
                let schema = self.tables.site(raw.site);
                schema.is_some_and(|schema| {
                    self.tables.fields(schema).iter().any(|field| match bytes.kind(field.kind) {
                        Some(ValueType::Text | ValueType::Error) => bytes.text().is_ok_and(unknown),
                        Some(kind) => bytes.skip_value(kind).is_err(),
                        None => false,
                    })
                })
            }
            Some(Kind::LogFields) => record::LogFields::read(bytes).is_ok_and(|log| {
                unknown(log.message) || self.has_unknown_given(raw.site, log.fields)
            }),
            Some(Kind::LogIn) => record::LogIn::read(bytes).is_ok_and(|log| {
                unknown(log.message) || self.has_unknown_given(raw.site, log.fields)
            }),
            Some(
                kind @ (Kind::SpanCreate
                | Kind::SpanCreateIn
                | Kind::SpanCreateUnder
                | Kind::SpanRecord),
            ) => {
                let mut args = Arguments::default();
                args.read(kind, bytes, &self.tables).is_ok()
                    && self.has_unknown_given(self.tables.place_index(args.site), args.given)
            }
            _ => false,
        }
    }

    /// Whether given values have a text that is not in the tables, or belong to no field.
    pub(crate) fn has_unknown_given(&self, site: u32, given: u32) -> bool {
        let site = self.tables.site(site);
        let names = site.map_or(0, |site| self.tables.fields(site).len()) as u64;
        let mut bytes = Bytes::new(&self.content, given, self.content.len() as u32);
        let mut read = || -> Result<bool, super::decode::bytes::Fault> {
            for _ in 0..bytes.number()? {
                let (index, kind) = bytes.given()?;
                let unknown = match kind {
                    ValueType::Text | ValueType::Error => self.tables.span(bytes.text()?).is_none(),
                    // A callsite may have more fields than it has names for.
                    ValueType::Omitted => continue,
                    kind => bytes.skip_value(kind).is_err(),
                };
                if unknown || index >= names {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        read().unwrap_or(true)
    }
}
