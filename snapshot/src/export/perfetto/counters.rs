//! Counters: each has a track, below the process or below what the process and its machine have in common.

use super::packets::{Track, Type};
use super::timeline::Timeline;
use crate::export::protobuf::Message;
use crate::read::{DecodedGeneration, Value};
use crate::wire::CounterUnit;
use std::io::{self, Write};

impl<W: Write> Timeline<'_, W> {
    /// What was read when a generation ended, of the machine and of the runtimes.
    pub(super) fn counters_of(&mut self, generation: &DecodedGeneration) -> io::Result<()> {
        let at = generation.ended().monotonic.0;
        let of_machine = generation.system_counters().iter().map(|reading| (None, reading));
        let runtimes = generation.runtime_counters().iter();
        let of_runtimes = runtimes.map(|of| (Some(of.runtime), &of.reading));
        for (runtime, reading) in of_machine.chain(of_runtimes) {
            let (name, unit) = (reading.counter.name(), reading.counter.unit());
            let group = match self.machine_root {
                Some(known) => known,
                None => {
                    let track = self.new_track();
                    self.machine_root = Some(track);
                    let parent = Some(self.process);
                    self.packets.track(track, parent, "the process and its machine", |_| {})?;
                    track
                }
            };
            let value = Value::Unsigned(reading.value);
            match runtime {
                None => self.counter(group, name, Some(unit), at, &value)?,
                Some(runtime) => {
                    self.counter(group, &format!("r{runtime}.{name}"), Some(unit), at, &value)?;
                }
            }
        }
        Ok(())
    }

    /// A value of a counter.
    pub(super) fn counter(
        &mut self,
        parent: Track,
        name: &str,
        unit: Option<CounterUnit>,
        at: u64,
        value: &Value<'_>,
    ) -> io::Result<()> {
        let known = self.counters.get(&parent).and_then(|of| of.get(name)).copied();
        let track = match known {
            Some(known) => known,
            None => self.new_counter(parent, name, unit)?,
        };
        let mut written = self.packets.event(Type::Counter, track, at);
        written.value(value);
        self.report.counters += 1;
        self.packets.write(&written)
    }

    fn new_counter(
        &mut self,
        parent: Track,
        name: &str,
        unit: Option<CounterUnit>,
    ) -> io::Result<Track> {
        let track = self.new_track();
        self.packets.track(track, Some(parent), name, |descriptor| {
            let mut about = Message::default();
            let unit = match unit {
                Some(CounterUnit::Nanos) => 1,
                Some(CounterUnit::Count) => 2,
                Some(CounterUnit::Bytes) => 3,
                None => 0,
            };
            about.number(3, unit);
            descriptor.message(8, &about);
        })?;
        self.counters.entry(parent).or_default().insert(name.into(), track);
        Ok(track)
    }
}
