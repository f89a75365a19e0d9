//! An event, as users see it.

use super::bytes::{Bytes, TextAt};
use super::generation::Contents;
use super::stream::Raw;
use super::tables::Field;
use super::{Level, Site, Text, Thread, Value};
use crate::wire::{Argument, Generation, Kind, Nanos, Ticks, ValueType};
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

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum EventKind<'a> {
    /// The thread emits its first event.
    ThreadStart,
    /// The thread ends.
    ThreadExit,
    /// A region begins.
    RegionBegin {
        /// Which.
        site: Site<'a>,
    },
    /// The innermost region of the thread ends.
    RegionEnd {
        /// Which, if its begin or a status of it is in the snapshot.
        site: Option<Site<'a>>,
        /// How long it took, if it is known when it began.
        duration: Option<Nanos>,
    },
    /// A message.
    Log {
        /// How important it is.
        level: Level,
        /// The place, named by the category.
        site: Site<'a>,
        /// The message itself.
        message: Text<'a>,
    },
    /// A typed event; its values are its [`fields`](Event::fields).
    Typed {
        /// The place, with the event's name.
        site: Site<'a>,
    },
    /// A counter's value at this instant.
    Counter {
        /// The place, with the counter's name.
        site: Site<'a>,
        /// The value.
        value: Value<'a>,
    },
    /// Something that a later version recorded; what is known of it are its
    /// [`fields`](Event::fields).
    Other {
        /// What the file's event table calls it.
        name: &'a str,
    },
}

const UNKNOWN: Site<'static> = Site { name: "?", file: "?", line: 0 };

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

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> EventKind<'_> {
        let site = || self.site().unwrap_or(UNKNOWN);
        match self.raw.kind() {
            Some(Kind::ThreadStart) => EventKind::ThreadStart,
            Some(Kind::ThreadExit) => EventKind::ThreadExit,
            Some(Kind::RegionBegin) => EventKind::RegionBegin { site: site() },
            Some(Kind::RegionEnd) => {
                let site = self.site();
                let took = self.of.timeline.length(self.raw.began, self.raw.ticks);
                EventKind::RegionEnd { site, duration: site.map(|_| took) }
            }
            Some(Kind::Log) => {
                let (level, message) = self.message();
                EventKind::Log { level, site: site(), message }
            }
            Some(Kind::Event) => EventKind::Typed { site: site() },
            Some(Kind::CounterUnsigned | Kind::CounterSigned | Kind::CounterFloat) => {
                EventKind::Counter { site: site(), value: self.counter() }
            }
            _ => EventKind::Other { name: self.kind_name() },
        }
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
    /// log, the thread that started or ended. `?` if it is not known.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.raw.kind() {
            Some(Kind::ThreadStart | Kind::ThreadExit) => {
                self.thread().map_or("?", |thread| &thread.name)
            }
            None => self.kind_name(),
            Some(_) => self.site().map_or("?", |site| site.name),
        }
    }

    /// The place in the source, if the kind has one and it is known.
    #[must_use]
    pub fn site(&self) -> Option<Site<'_>> {
        self.raw.kind().and_then(|_| self.of.site(self.raw.site))
    }

    /// The named values: of a typed event; `value` of a counter; `level` and `message` of a log.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        let of = &*self.of;
        let mut bytes = self.bytes();
        let rest = match self.raw.kind() {
            Some(Kind::Event) => {
                let _ = bytes.number();
                let schema = of.tables.site(self.raw.site);
                Rest::Typed(schema.map_or(&[], |schema| of.tables.fields(schema)))
            }
            Some(Kind::CounterUnsigned | Kind::CounterSigned | Kind::CounterFloat) => {
                Rest::Two([None, Some(("value", self.counter()))])
            }
            Some(Kind::Log) => {
                let (level, message) = self.message();
                let level = Value::Text(Text { text: level.name(), cut: false });
                Rest::Two([Some(("level", level)), Some(("message", Value::Text(message)))])
            }
            Some(_) => Rest::Two([None, None]),
            None => Rest::Foreign(&of.plan.row(self.raw.site as u16).arguments),
        };
        Fields { of, bytes, rest }
    }

    fn bytes(&self) -> Bytes<'_> {
        let end = self.of.blocks[self.raw.block as usize].end;
        Bytes::new(&self.of.content, self.raw.at, end)
    }

    fn message(&self) -> (Level, Text<'_>) {
        let mut bytes = self.bytes();
        let level = Level::from_code(bytes.number().unwrap_or_default());
        let _ = bytes.number();
        (level, self.of.value_text(bytes.text().ok()))
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

impl Contents {
    /// Whether a log's message or a text of a typed event is not in the tables.
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
                    self.tables.fields(schema).iter().any(|field| match field.kind {
                        ValueType::Text => bytes.text().is_ok_and(unknown),
                        kind => bytes.skip_value(kind).is_err(),
                    })
                })
            }
            _ => false,
        }
    }

    fn value_text(&self, text: Option<TextAt>) -> Text<'_> {
        match text.and_then(|text| self.tables.span(text)) {
            Some(span) => Text { text: span.of(&self.content), cut: span.is_cut() },
            None => Text { text: "?", cut: false },
        }
    }
}

/// The named values of an event.
pub struct Fields<'a> {
    of: &'a Contents,
    bytes: Bytes<'a>,
    rest: Rest<'a>,
}

enum Rest<'a> {
    Typed(&'a [Field]),
    Two([Option<(&'a str, Value<'a>)>; 2]),
    Foreign(&'a [(String, Argument)]),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (of, bytes) = (self.of, &mut self.bytes);
        match &mut self.rest {
            Rest::Two(pairs) => pairs.iter_mut().find_map(Option::take),
            Rest::Typed(fields) => {
                let (field, rest) = fields.split_first()?;
                *fields = rest;
                let name = of.tables.text(&of.content, field.name);
                let value = match field.kind {
                    ValueType::Unsigned => Value::Unsigned(bytes.number().ok()?),
                    ValueType::Signed => Value::Signed(bytes.signed().ok()?),
                    ValueType::Float => Value::Float(bytes.float().ok()?),
                    ValueType::Bool => Value::Bool(bytes.byte().ok()? != 0),
                    ValueType::Text => Value::Text(of.value_text(bytes.text().ok())),
                };
                Some((name, value))
            }
            Rest::Foreign(arguments) => loop {
                let ((name, kind), rest) = arguments.split_first()?;
                *arguments = rest;
                let value = match kind {
                    Argument::Unsigned => Value::Unsigned(bytes.number().ok()?),
                    Argument::Signed => Value::Signed(bytes.signed().ok()?),
                    Argument::Float => Value::Float(bytes.float().ok()?),
                    Argument::Text => Value::Text(of.value_text(bytes.text().ok())),
                    Argument::Id => {
                        let id = bytes.number().ok()?;
                        match of.tables.name_of(id) {
                            Some(text) => Value::Text(of.value_text(Some(text))),
                            None => Value::Unsigned(id),
                        }
                    }
                    // What comes behind values that cannot be shown is not shown either.
                    Argument::Values => return None,
                    Argument::Fields | Argument::Pairs => {
                        bytes.skip_argument(*kind, &of.tables, &mut 0).ok()?;
                        continue;
                    }
                };
                break Some((name, value));
            },
        }
    }
}
