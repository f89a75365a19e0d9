//! An event, as users see it.

use super::bytes::{Bytes, TextAt};
use super::fields::{Fields, Omitted, Rest};
use super::generation::Contents;
use super::mention::Mention;
use super::spans::UNKNOWN_PARENT;
use super::stream::{NO_TASK, Raw};
use super::{EventKind, Level, Site, Text, Thread, Value, WorkerId};
use crate::wire::{Generation, Kind, Nanos, SpanId, TaskId, Ticks, ValueType};
use std::fmt;
use std::sync::Arc;

/// Something that happened. It holds on to the generation that it is of, and looks up names and
/// values there when asked.
#[derive(Clone)]
pub struct Event {
    of: Arc<Contents>,
    raw: Raw,
    time: Nanos,
}

pub(super) const UNKNOWN: Site<'static> = Site { name: "?", file: "?", line: 0, blocking: false };

impl Event {
    #[inline]
    pub(super) fn new(of: &Arc<Contents>, raw: Raw, time: Nanos) -> Self {
        Self { of: Arc::clone(of), raw, time }
    }

    /// When, in nanoseconds of the monotonic clock (since boot, on Linux). Never less than that of
    /// an event that came before it in [`Trace::events`](super::Trace::events).
    #[must_use]
    pub fn time(&self) -> Nanos {
        self.time
    }

    /// When, as the clock of its own thread had it, in the unit of [`time`](Self::time): for lengths of
    /// time. The order of events is that of cause and effect, a generation after the other, and a thread
    /// that was held up in the middle of an event while a generation ended writes it late; then this is
    /// less than the time of an event that came before it.
    #[must_use]
    pub fn measured(&self) -> Nanos {
        self.of.timeline.at(self.raw.ticks)
    }

    /// When, by the recorder's own clock.
    #[must_use]
    pub fn ticks(&self) -> Ticks {
        self.raw.ticks
    }

    /// The generation that it is of.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.of.spot.number
    }

    /// The thread that it happened on, if that is known.
    #[must_use]
    pub fn thread(&self) -> Option<&Thread> {
        self.of.threads.get(self.raw.thread)
    }

    /// The slot that recorded it.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.of.blocks[self.raw.block as usize].slot
    }

    /// The innermost task that its thread was polling when it happened. The begin and the end of a
    /// poll are of the task that is polled.
    #[must_use]
    pub fn task(&self) -> Option<TaskId> {
        (self.raw.task != NO_TASK).then_some(self.raw.task)
    }

    /// The innermost span that its thread was inside of when it happened. Entering and leaving a
    /// span are inside of it; a message that was said of another span is inside of that one.
    #[must_use]
    pub fn span(&self) -> Option<SpanId> {
        (self.raw.span.index != 0).then_some(self.raw.span)
    }

    /// The worker that its thread was.
    #[must_use]
    pub fn worker(&self) -> Option<WorkerId> {
        self.of.begin.workers.get(self.raw.worker)
    }

    /// The name that this worker was given, by `lookback::worker`; nothing if it is known by its
    /// number alone.
    #[must_use]
    pub fn worker_name(&self) -> Option<&str> {
        self.of.begin.workers.given_name(self.worker()?)
    }

    /// Of a task's transition: the number that it has in its place's life, which goes on over all
    /// tasks that had this place. Of a wake: that of the transition which the waker saw.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        match self.raw.kind()? {
            Kind::TaskPoll
            | Kind::TaskPending
            | Kind::TaskWaits
            | Kind::TaskReady
            | Kind::TaskPanic => (self.raw.extra != 0).then_some(self.raw.extra),
            Kind::TaskCreate | Kind::TaskDrop | Kind::TaskWake | Kind::TaskWakeStale => {
                Some(self.mention().number)
            }
            _ => None,
        }
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> EventKind<'_> {
        let raw = &self.raw;
        let site = || self.site().unwrap_or(UNKNOWN);
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
                    Kind::RegionEndOther => self.bytes().number().unwrap_or_default(),
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
        let site = || self.site().unwrap_or(UNKNOWN);
        match kind {
            Kind::TaskCreate => EventKind::TaskCreate {
                task: self.mention().task(),
                site: site(),
                parent: self.task(),
            },
            Kind::TaskPoll => EventKind::TaskPoll { task },
            Kind::TaskPending => EventKind::TaskPending { task, waits_for: None },
            Kind::TaskWaits => {
                let index = self.of.tables.place_index(self.mention().site);
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
            Kind::PoolThread => EventKind::PoolThread { runtime: self.mention().number },
            Kind::SpanCreate => EventKind::SpanCreate {
                span: self.mention().span(),
                site: site(),
                parent: self.span(),
            },
            Kind::SpanCreateIn | Kind::SpanCreateUnder => {
                let Mention { other, .. } = self.mention();
                let is_known = other.index != 0 && other != UNKNOWN_PARENT;
                let parent = is_known.then_some(other);
                EventKind::SpanCreate { span: self.mention().span(), site: site(), parent }
            }
            Kind::SpanEnter | Kind::SpanEnterLast => EventKind::SpanEnter { span },
            Kind::SpanExit | Kind::SpanExitOther | Kind::SpanExitDeep => {
                EventKind::SpanExit { span }
            }
            Kind::SpanClose | Kind::SpanCloseLast => EventKind::SpanClose { span },
            Kind::SpanRecord => EventKind::SpanRecord { span },
            Kind::SpanFollows | Kind::SpanFollowsClosed => {
                EventKind::SpanFollows { span, from: self.mention().other }
            }
            _ => EventKind::Other { name: self.kind_name() },
        }
    }

    /// What the record says of tasks, workers and spans.
    fn mention(&self) -> Mention {
        let mut mention = Mention::default();
        if let Some(kind) = self.raw.kind() {
            let _ = mention.read(kind, &mut self.bytes());
        }
        mention
    }

    /// What the event table calls this kind of event: `region_begin`, say.
    #[must_use]
    pub fn kind_name(&self) -> &str {
        match self.raw.kind() {
            Some(kind) => kind.row().name,
            None => &self.of.plan.row(self.raw.site as u16).name,
        }
    }

    /// The name of what happened: of the region, the typed event, the counter, the category of a
    /// log, the thread that started or ended, the task, the span. `?` if it is not known. Of a worker
    /// it is `r0/w3`: runtime 0, worker 3; or the name that it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.raw.kind() {
            Some(Kind::ThreadStart | Kind::ThreadExit | Kind::ThreadName) => {
                self.thread().map_or("?", |thread| &thread.name)
            }
            Some(
                Kind::WorkerStart
                | Kind::WorkerVisit
                | Kind::WorkerPark
                | Kind::WorkerUnpark
                | Kind::WorkerStop,
            ) => self.of.begin.workers.name(self.raw.worker),
            Some(Kind::PoolThread) => "pool",
            None => self.kind_name(),
            Some(_) => self.site().map_or("?", |site| site.name),
        }
    }

    /// The place in the source, if the kind has one and it is known: of a task's and a span's events,
    /// where that one was created.
    #[must_use]
    pub fn site(&self) -> Option<Site<'_>> {
        match self.raw.kind()? {
            Kind::LogFields | Kind::LogIn => self.of.category(self.raw.site),
            _ => self.of.site(self.raw.site),
        }
    }

    /// What the callsite of a span is called, if the span has another [name](Self::name): that of its
    /// field `otel.name`.
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

    /// The named values: of a typed event; `value` of a counter; `level` and `message` of a log, and
    /// what else it says; those of a span, when it begins or they become known.
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
            Some(kind @ (Kind::Log | Kind::LogFields | Kind::LogIn)) => {
                let (level, message, given) = self.message(kind);
                let level = Value::Text(Text { text: level.name(), cut: false });
                let pairs = [Some(("level", level)), Some(("message", Value::Text(message)))];
                return Fields::given(of, self.raw.site, given, &pairs);
            }
            Some(
                Kind::SpanCreate | Kind::SpanCreateIn | Kind::SpanCreateUnder | Kind::SpanRecord,
            ) => {
                let mention = self.mention();
                let site = of.tables.place_index(mention.site);
                return Fields::given(of, site, mention.given, &[]);
            }
            Some(_) => Rest::Nothing,
            None => Rest::Foreign(&of.plan.row(self.raw.site as u16).arguments),
        };
        Fields { of, bytes, first, rest }
    }

    /// The names of the fields that had values for which there was no room when they were recorded, or
    /// of which no room was left for the name (`?`): so many fields more there were.
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

    fn bytes(&self) -> Bytes<'_> {
        let end = self.of.blocks[self.raw.block as usize].end;
        Bytes::new(&self.of.content, self.raw.at, end)
    }

    /// A log's level, its message, and where its given values begin.
    fn message(&self, kind: Kind) -> (Level, Text<'_>, u32) {
        let mut bytes = self.bytes();
        if kind == Kind::LogIn {
            let _ = (bytes.number(), bytes.number());
        }
        let level = Level::from_code(bytes.number().unwrap_or_default());
        let _ = bytes.number();
        let message = self.of.value_text(bytes.text().ok());
        (level, message, if kind == Kind::Log { 0 } else { bytes.at as u32 })
    }

    fn counter(&self) -> Value<'_> {
        let mut bytes = self.bytes();
        let _ = bytes.number();
        match self.raw.kind() {
            Some(Kind::CounterSigned) => Value::Signed(bytes.signed().unwrap_or_default()),
            Some(Kind::CounterFloat) => Value::Float(bytes.float().unwrap_or_default()),
            _ => Value::Unsigned(bytes.number().unwrap_or_default()),
        }
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
    /// The task that it names.
    pub(super) fn named_task(&self) -> TaskId {
        TaskId { index: self.extra as u32, incarnation: (self.extra >> 32) as u32 }
    }

    /// The span that it names.
    pub(super) fn named_span(&self) -> SpanId {
        SpanId { index: self.extra as u32, incarnation: (self.extra >> 32) as u32 }
    }
}

impl Contents {
    /// Whether a log's message or a text among an event's values is not in the tables.
    pub(super) fn has_unknown_text(&self, raw: &Raw) -> bool {
        let end = self.blocks[raw.block as usize].end;
        let mut bytes = Bytes::new(&self.content, raw.at, end);
        let unknown = |text: TextAt| self.tables.span(text).is_none();
        match raw.kind() {
            Some(Kind::Log) => {
                let _ = (bytes.number(), bytes.number());
                bytes.text().is_ok_and(unknown)
            }
            Some(Kind::Event) => {
                let _ = bytes.number();
                let schema = self.tables.site(raw.site);
                schema.is_some_and(|schema| {
                    self.tables.fields(schema).iter().any(|field| match bytes.kind(field.kind) {
                        Some(ValueType::Text | ValueType::Error) => bytes.text().is_ok_and(unknown),
                        Some(kind) => bytes.skip_value(kind).is_err(),
                        None => false,
                    })
                })
            }
            Some(kind @ (Kind::LogFields | Kind::LogIn)) => {
                if kind == Kind::LogIn {
                    let _ = (bytes.number(), bytes.number());
                }
                let _ = (bytes.number(), bytes.number());
                bytes.text().is_ok_and(unknown) || self.has_unknown_given(raw.site, bytes.at as u32)
            }
            Some(
                kind @ (Kind::SpanCreate
                | Kind::SpanCreateIn
                | Kind::SpanCreateUnder
                | Kind::SpanRecord),
            ) => {
                let mut mention = Mention::default();
                if mention.read(kind, &mut bytes).is_err() {
                    return false;
                }
                self.has_unknown_given(self.tables.place_index(mention.site), mention.given)
            }
            _ => false,
        }
    }

    /// Whether given values have a text that is not in the tables, or are of no field.
    pub(super) fn has_unknown_given(&self, site: u32, given: u32) -> bool {
        let site = self.tables.site(site);
        let names = site.map_or(0, |site| self.tables.fields(site).len()) as u64;
        let mut bytes = Bytes::new(&self.content, given, self.content.len() as u32);
        let mut read = || -> Result<bool, super::bytes::Fault> {
            for _ in 0..bytes.number()? {
                let (index, kind) = bytes.given()?;
                let unknown = match kind {
                    ValueType::Text | ValueType::Error => self.tables.span(bytes.text()?).is_none(),
                    // Its callsite may have more fields than have names.
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
