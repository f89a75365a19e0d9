//! The packets of a trace (`perfetto/trace/trace_packet.proto`): descriptions of tracks, and events on them, which name what
//! was named before by numbers.

use crate::export::protobuf::Message;
use crate::read::Value;
use std::collections::HashMap;
use std::io::{self, Write};

/// A track: a number of its own in the whole trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Track(pub(super) u64);

/// What kind of event it is: `TrackEvent.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Begin = 1,
    End = 2,
    Instant = 3,
    Counter = 4,
}

/// So many names are numbered; further ones are written out each time.
const MOST_NAMES: usize = 50_000;
const SEQUENCE: u64 = 1;
/// Of clocks and tracks: a thread's description would make all spans that follow on its sequence belong to that thread.
const OF_TRACKS: u64 = 2;

mod packet {
    pub const CLOCK_SNAPSHOT: u32 = 6;
    pub const TIMESTAMP: u32 = 8;
    pub const SEQUENCE: u32 = 10;
    pub const TRACK_EVENT: u32 = 11;
    pub const INTERNED_DATA: u32 = 12;
    pub const SEQUENCE_FLAGS: u32 = 13;
    pub const DEFAULTS: u32 = 59;
    pub const TRACK_DESCRIPTOR: u32 = 60;
    pub const PERF_SAMPLE: u32 = 66;
}

const STATE_CLEARED: u64 = 1;
const NEEDS_STATE: u64 = 2;

/// What is numbered, by its field in `InternedData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interned {
    Category = 1,
    EventName = 2,
    AnnotationName = 3,
}

#[derive(Debug, Default)]
struct Names(HashMap<Box<str>, u64>);

impl Names {
    /// The number of a name, and whether it is new; `None` if there are too many.
    fn number(&mut self, name: &str) -> Option<(u64, bool)> {
        if let Some(known) = self.0.get(name) {
            return Some((*known, false));
        }
        let number = self.0.len() as u64 + 1;
        (self.0.len() < MOST_NAMES).then(|| {
            self.0.insert(name.into(), number);
            (number, true)
        })
    }
}

/// Writes packets.
#[derive(Debug)]
pub(super) struct Packets<W> {
    out: W,
    length: u64,
    is_begun: bool,
    samples_per_second: u64,
    categories: Names,
    events: Names,
    annotations: Names,
}

/// An event that is being put together.
#[derive(Debug)]
pub(super) struct TrackEvent {
    timestamp: u64,
    event: Message,
    interned: Message,
}

impl<W: Write> Packets<W> {
    pub(super) fn new(out: W, samples_per_second: u64) -> Self {
        let names = Names::default;
        Self {
            out,
            length: 0,
            is_begun: false,
            samples_per_second,
            categories: names(),
            events: names(),
            annotations: names(),
        }
    }

    /// A packet, as a field of `message Trace`.
    fn packet(&mut self, packet: &Message) -> io::Result<()> {
        let mut trace = Message::default();
        trace.message(1, packet);
        self.length += trace.as_bytes().len() as u64;
        self.out.write_all(trace.as_bytes())
    }

    /// What clocks showed at the same time: the one of all timestamps, and the wall clock.
    pub(super) fn clocks(&mut self, monotonic: u64, wall: u64) -> io::Result<()> {
        const REALTIME: u64 = 1;
        const BOOTTIME: u64 = 6;
        let mut snapshot = Message::default();
        for (id, time) in [(BOOTTIME, monotonic), (REALTIME, wall)] {
            let mut clock = Message::default();
            clock.exactly(1, id);
            clock.exactly(2, time);
            snapshot.message(1, &clock);
        }
        let mut packet = Message::default();
        packet.message(packet::CLOCK_SNAPSHOT, &snapshot);
        packet.number(packet::TIMESTAMP, monotonic);
        packet.number(packet::SEQUENCE, OF_TRACKS);
        self.packet(&packet)
    }

    /// Describes a track: `about` adds what kind it is.
    pub(super) fn track(
        &mut self,
        track: Track,
        parent: Option<Track>,
        name: &str,
        about: impl FnOnce(&mut Message),
    ) -> io::Result<()> {
        let mut descriptor = Message::default();
        descriptor.exactly(1, track.0);
        if !name.is_empty() {
            descriptor.text(2, name);
        }
        if let Some(parent) = parent {
            descriptor.exactly(5, parent.0);
        }
        about(&mut descriptor);
        let mut packet = Message::default();
        packet.number(packet::SEQUENCE, OF_TRACKS);
        packet.message(packet::TRACK_DESCRIPTOR, &descriptor);
        self.packet(&packet)
    }

    /// Begins an event.
    pub(super) fn event(&self, kind: Type, track: Track, timestamp: u64) -> TrackEvent {
        let mut event = Message::default();
        event.number(9, kind as u64);
        event.exactly(11, track.0);
        TrackEvent { timestamp, event, interned: Message::default() }
    }

    /// Its category and name.
    pub(super) fn name(&mut self, of: &mut TrackEvent, category: &str, name: &str) {
        if let Some(number) = intern(&mut self.categories, Interned::Category, category, of) {
            of.event.number(3, number);
        }
        match intern(&mut self.events, Interned::EventName, name, of) {
            Some(number) => of.event.number(10, number),
            None => of.event.text(23, name),
        }
    }

    /// A named value of it.
    pub(super) fn annotate(&mut self, of: &mut TrackEvent, name: &str, value: &Value<'_>) {
        let mut annotation = Message::default();
        match intern(&mut self.annotations, Interned::AnnotationName, name, of) {
            Some(number) => annotation.number(1, number),
            None => annotation.text(10, name),
        }
        match value {
            Value::Bool(value) => annotation.exactly(2, u64::from(*value)),
            // The trace processor has signed numbers alone.
            Value::Unsigned(value) if *value <= i64::MAX as u64 => annotation.exactly(3, *value),
            Value::Signed(value) => annotation.exactly(4, value.cast_unsigned()),
            Value::Float(value) => annotation.float(5, *value),
            Value::Text(text) | Value::Error(text) if !text.cut => annotation.text(6, text),
            other => annotation.text(6, &other.to_string()),
        }
        of.event.message(4, &annotation);
    }

    /// Writes the event.
    pub(super) fn write(&mut self, of: &TrackEvent) -> io::Result<()> {
        self.with_names(of.timestamp, &of.interned, packet::TRACK_EVENT, &of.event)
    }

    /// Writes a CPU sample, with the names that are new.
    pub(super) fn sample(&mut self, at: u64, new: &Message, sample: &Message) -> io::Result<()> {
        self.with_names(at, new, packet::PERF_SAMPLE, sample)
    }

    fn with_names(&mut self, at: u64, new: &Message, field: u32, data: &Message) -> io::Result<()> {
        let mut packet = Message::default();
        packet.number(packet::TIMESTAMP, at);
        packet.number(packet::SEQUENCE, SEQUENCE);
        if self.is_begun {
            packet.number(packet::SEQUENCE_FLAGS, NEEDS_STATE);
        } else {
            self.is_begun = true;
            packet.number(packet::SEQUENCE_FLAGS, NEEDS_STATE | STATE_CLEARED);
            packet.message(packet::DEFAULTS, &defaults(self.samples_per_second));
        }
        if !new.as_bytes().is_empty() {
            packet.message(packet::INTERNED_DATA, new);
        }
        packet.message(field, data);
        self.packet(&packet)
    }

    /// Ends the trace, and says how long it is.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.out.flush()?;
        Ok(self.length)
    }
}

impl TrackEvent {
    /// An arrow with this number begins here.
    pub(super) fn begins_flow(&mut self, flow: u64) {
        self.event.fixed(47, flow);
    }

    /// An arrow with this number ends here.
    pub(super) fn ends_flow(&mut self, flow: u64) {
        self.event.fixed(48, flow);
    }

    /// The value of a counter.
    pub(super) fn value(&mut self, value: &Value<'_>) {
        let as_signed = match value {
            Value::Unsigned(value) => i64::try_from(*value).ok(),
            Value::Signed(value) => Some(*value),
            _ => None,
        };
        match (as_signed, value) {
            (Some(value), _) => self.event.exactly(30, value.cast_unsigned()),
            (None, Value::Float(value)) => self.event.float(44, *value),
            (None, Value::Unsigned(value)) => self.event.float(44, *value as f64),
            _ => self.event.float(44, f64::NAN),
        }
    }

    /// Where it is in the source.
    pub(super) fn place(&mut self, file: &str, line: u32) {
        let mut place = Message::default();
        place.text(2, file);
        place.number(4, u64::from(line));
        self.event.message(33, &place);
    }
}

/// What holds for all samples: how many there are for each second of CPU time.
fn defaults(samples_per_second: u64) -> Message {
    let (mut timebase, mut samples, mut defaults) =
        (Message::default(), Message::default(), Message::default());
    timebase.number(2, samples_per_second);
    timebase.text(10, "CPU time");
    samples.message(1, &timebase);
    defaults.message(12, &samples);
    defaults
}

/// The number of a name, which is told with the event if it is new.
fn intern(names: &mut Names, kind: Interned, name: &str, of: &mut TrackEvent) -> Option<u64> {
    let (number, is_new) = names.number(name)?;
    if is_new {
        let mut entry = Message::default();
        entry.number(1, number);
        entry.text(2, name);
        of.interned.message(kind as u32, &entry);
    }
    Some(number)
}
