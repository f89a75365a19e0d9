//! Generations made by hand: what a recorder would write, and what none would.
#![allow(dead_code, reason = "each test file uses a part of it")]

use lookback_snapshot::file::{FileBlock, FileWriter, GenerationFrame};
use lookback_snapshot::wire::{
    Block, BlockHeader, Class, ClockRecord, Generation, Kind, Loss, Metadata, Nanos, Position,
    ThreadNumber, Ticks, ValueType, encode_event_table, key, put_varint, zigzag,
};
use std::collections::BTreeMap;

/// Ticks a second. A tick is 5 ns, and the monotonic clock was at [`BOOT`] when ticks were 0.
pub const FREQUENCY: u64 = 200_000_000;
pub const BOOT: u64 = 7_000_000_000;
/// How many ticks a generation takes.
pub const PERIOD: u64 = 100_000_000;

#[derive(Clone)]
pub struct BlockBuilder {
    pub header: BlockHeader,
    pub events: u32,
    pub records: Vec<u8>,
    pub cut: Option<u32>,
    /// The time of the last event.
    last: u64,
}

/// A generation in the making. Times are ticks since it began.
#[derive(Clone)]
pub struct Gen {
    pub number: u64,
    pub complete: bool,
    pub began: ClockRecord,
    pub ended: ClockRecord,
    pub blocks: Vec<BlockBuilder>,
    next_id: u64,
    /// The number of each slot's next event.
    pub numbers: BTreeMap<u32, u64>,
}

pub fn clock(ticks: u64) -> ClockRecord {
    let monotonic = Nanos(BOOT + ticks * 5);
    let wall = Nanos(1_700_000_000_000_000_000 + monotonic.0);
    ClockRecord { ticks: Ticks(ticks), monotonic, wall, frequency: FREQUENCY }
}

/// A value of a typed event.
#[derive(Clone, Debug)]
pub enum Val {
    U(u64),
    I(i64),
    F(f64),
    B(bool),
    T(String),
}

impl Val {
    pub fn kind(&self) -> ValueType {
        match self {
            Self::U(_) => ValueType::Unsigned,
            Self::I(_) => ValueType::Signed,
            Self::F(_) => ValueType::Float,
            Self::B(_) => ValueType::Bool,
            Self::T(_) => ValueType::Text,
        }
    }
}

impl Gen {
    pub fn new(number: u64) -> Self {
        Self {
            number,
            complete: true,
            began: clock(number * PERIOD),
            ended: clock((number + 1) * PERIOD),
            blocks: Vec::new(),
            next_id: 1,
            numbers: BTreeMap::new(),
        }
    }

    /// The generation after this one.
    pub fn next(&self) -> Self {
        let mut next = Self::new(self.number + 1);
        next.numbers.clone_from(&self.numbers);
        next
    }

    pub fn incomplete(mut self) -> Self {
        self.complete = false;
        self
    }

    /// Opens a block of a slot.
    pub fn block(&mut self, slot: u32, thread: u64, base: u64) -> &mut Self {
        let sequence = self.blocks.iter().filter(|block| block.header.slot == slot).count() as u32;
        let base = self.began.ticks.0 + base;
        let header = BlockHeader {
            length: 256,
            position: Position(0),
            generation: Generation(self.number),
            base: Ticks(base),
            first_event: *self.numbers.entry(slot).or_default(),
            slot,
            sequence,
            thread: ThreadNumber(thread),
        };
        self.blocks.push(BlockBuilder {
            header,
            events: 0,
            records: Vec::new(),
            cut: None,
            last: base,
        });
        self
    }

    pub fn last(&mut self, slot: u32) -> &mut BlockBuilder {
        let found = self.blocks.iter_mut().rev().find(|block| block.header.slot == slot);
        found.expect("a block was opened")
    }

    /// Adds a record that is not an event.
    pub fn put(&mut self, slot: u32, kind: Kind, put: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        assert_ne!(kind.row().class, Class::Event);
        let block = self.last(slot);
        block.records.push(kind as u8);
        put(&mut block.records);
        self
    }

    /// Adds an event at this time.
    pub fn at(
        &mut self,
        slot: u32,
        time: u64,
        kind: Kind,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> &mut Self {
        assert_eq!(kind.row().class, Class::Event);
        self.coded(slot, time, kind as u8, put)
    }

    /// Adds an event with any code.
    pub fn coded(
        &mut self,
        slot: u32,
        time: u64,
        code: u8,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> &mut Self {
        let time = self.began.ticks.0 + time;
        let block = self.last(slot);
        block.records.push(code);
        put_varint(&mut block.records, time - block.last);
        block.last = time;
        block.events += 1;
        put(&mut block.records);
        *self.numbers.entry(slot).or_default() += 1;
        self
    }

    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub fn string(&mut self, slot: u32, text: &str) -> u64 {
        let id = self.id();
        self.put(slot, Kind::String, |out| {
            put_varint(out, id);
            inline(out, text);
        });
        id
    }

    pub fn site(&mut self, slot: u32, name: &str) -> u64 {
        let id = self.id();
        self.put(slot, Kind::Site, |out| place(out, id, name));
        id
    }

    pub fn schema(&mut self, slot: u32, name: &str, fields: &[(&str, ValueType)]) -> u64 {
        let id = self.id();
        self.put(slot, Kind::Schema, |out| {
            place(out, id, name);
            put_varint(out, fields.len() as u64);
            for (name, kind) in fields {
                out.push(*kind as u8);
                inline(out, name);
            }
        });
        id
    }

    pub fn thread_status(&mut self, slot: u32, thread: u64, name: &str) -> &mut Self {
        self.put(slot, Kind::ThreadStatus, |out| identity(out, thread, name))
    }

    /// A region that has been open since `began`, in ticks since the generation began; may be negative.
    pub fn region_status(&mut self, slot: u32, site: u64, began: i64) -> &mut Self {
        let base = self.last(slot).header.base.0.cast_signed();
        let ago = base - (self.began.ticks.0.cast_signed() + began);
        self.put(slot, Kind::RegionStatus, |out| {
            put_varint(out, site);
            put_varint(out, ago.cast_unsigned());
        })
    }

    pub fn lost(&mut self, slot: u32, cause: Loss, count: u64) -> &mut Self {
        self.put(slot, Kind::Lost, |out| {
            put_varint(out, cause as u64);
            put_varint(out, count);
        })
    }

    pub fn thread_start(&mut self, slot: u32, time: u64, thread: u64, name: &str) -> &mut Self {
        self.at(slot, time, Kind::ThreadStart, |out| identity(out, thread, name))
    }

    pub fn thread_exit(&mut self, slot: u32, time: u64) -> &mut Self {
        self.at(slot, time, Kind::ThreadExit, |_| {})
    }

    pub fn region_begin(&mut self, slot: u32, time: u64, site: u64) -> &mut Self {
        self.at(slot, time, Kind::RegionBegin, |out| put_varint(out, site))
    }

    pub fn region_end(&mut self, slot: u32, time: u64) -> &mut Self {
        self.at(slot, time, Kind::RegionEnd, |_| {})
    }

    pub fn log(&mut self, slot: u32, time: u64, site: u64, level: u64, text: &str) -> &mut Self {
        self.at(slot, time, Kind::Log, |out| {
            put_varint(out, level);
            put_varint(out, site);
            inline(out, text);
        })
    }

    pub fn event(&mut self, slot: u32, time: u64, schema: u64, values: &[Val]) -> &mut Self {
        self.at(slot, time, Kind::Event, |out| {
            put_varint(out, schema);
            values.iter().for_each(|value| put_value(out, value));
        })
    }

    pub fn counter(&mut self, slot: u32, time: u64, site: u64, value: &Val) -> &mut Self {
        let kind = match value {
            Val::I(_) => Kind::CounterSigned,
            Val::F(_) => Kind::CounterFloat,
            _ => Kind::CounterUnsigned,
        };
        self.at(slot, time, kind, |out| {
            put_varint(out, site);
            put_value(out, value);
        })
    }

    /// Adds the end record in a block of the collector.
    pub fn end(&mut self, lost: &[(Loss, u64)]) -> &mut Self {
        let events: u64 = self.blocks.iter().map(|block| u64::from(block.events)).sum();
        let bytes: u64 = self.blocks.iter().map(|block| block.records.len() as u64).sum();
        let blocks = self.blocks.len() as u64;
        if !self.blocks.iter().any(|block| block.header.slot == 0) {
            self.block(0, 0, PERIOD);
        }
        self.put(0, Kind::End, |out| {
            [events, bytes, blocks].into_iter().for_each(|number| put_varint(out, number));
            put_varint(out, lost.len() as u64);
            for (cause, count) in lost {
                put_varint(out, *cause as u64);
                put_varint(out, *count);
            }
            for histogram in [&[(1000, 3), (2000, 1)][..], &[], &[]] {
                put_varint(out, histogram.len() as u64);
                for (bound, count) in histogram {
                    put_varint(out, *bound);
                    put_varint(out, *count);
                }
            }
        })
    }

    pub fn frame(&self) -> GenerationFrame<'_> {
        let blocks = self.blocks.iter().map(|block| FileBlock {
            block: Block { header: block.header, events: block.events, records: &block.records },
            cut: block.cut.unwrap_or(block.records.len() as u32),
        });
        GenerationFrame {
            number: Generation(self.number),
            complete: self.complete,
            began: self.began,
            ended: self.ended,
            blocks: blocks.collect(),
        }
    }
}

pub fn inline(out: &mut Vec<u8>, text: &str) {
    put_varint(out, (text.len() as u64) << 2);
    out.extend_from_slice(text.as_bytes());
}

fn place(out: &mut Vec<u8>, id: u64, name: &str) {
    put_varint(out, id);
    inline(out, name);
    inline(out, "src/main.rs");
    put_varint(out, 10 + id);
}

fn identity(out: &mut Vec<u8>, thread: u64, name: &str) {
    put_varint(out, thread);
    put_varint(out, 4000 + thread);
    inline(out, name);
}

fn put_value(out: &mut Vec<u8>, value: &Val) {
    match value {
        Val::U(value) => put_varint(out, *value),
        Val::I(value) => put_varint(out, zigzag(*value)),
        Val::F(value) => out.extend(value.to_le_bytes()),
        Val::B(value) => out.push(u8::from(*value)),
        Val::T(text) => inline(out, text),
    }
}

pub fn metadata() -> Metadata {
    let mut metadata = Metadata::default();
    metadata.add(key::RECORDER, "0.1.0");
    metadata.add(key::PROCESS_NAME, "shop");
    metadata.add(key::PROCESS_PID, 4711);
    metadata.add(key::REASON, "a request failed");
    metadata.add(key::COVERED, 1_500_000_000);
    metadata.add(key::EVENT_TABLE, encode_event_table());
    metadata
}

/// A file without its end: what exists while it is being written.
pub fn unfinished(generations: &[Gen]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = FileWriter::new(&mut out, &metadata()).unwrap();
    for generation in generations {
        writer.generation(&mut generation.frame()).unwrap();
    }
    drop(writer);
    out
}

pub fn file(generations: &[Gen]) -> Vec<u8> {
    file_with(&metadata(), generations)
}

pub fn file_with(metadata: &Metadata, generations: &[Gen]) -> Vec<u8> {
    let mut writer = FileWriter::new(Vec::new(), metadata).unwrap();
    for generation in generations {
        writer.generation(&mut generation.frame()).unwrap();
    }
    writer.finish().unwrap()
}

/// A sound trace of a small service: two workers and a thread that sleeps in a region, in `count` complete
/// generations.
pub fn service(count: u64) -> Vec<Gen> {
    let mut generations: Vec<Gen> = Vec::new();
    for number in 1..=count {
        let mut g = generations.last().map_or_else(|| Gen::new(1), Gen::next);
        for slot in [1, 2] {
            g.block(slot, u64::from(slot), 10);
            let request = g.site(slot, "request");
            if number == 1 {
                g.thread_start(slot, 20, u64::from(slot), &format!("worker-{slot}"));
            } else {
                g.thread_status(slot, u64::from(slot), &format!("worker-{slot}"));
                g.region_status(slot, request, 1000 - PERIOD.cast_signed());
                g.region_end(slot, 30);
            }
            let served = g.schema(
                slot,
                "served",
                &[("status", ValueType::Unsigned), ("path", ValueType::Text)],
            );
            for turn in 0..20 {
                let time = 100 + turn * 40 + u64::from(slot);
                g.region_begin(slot, time, request);
                g.event(
                    slot,
                    time + 10,
                    served,
                    &[Val::U(200 + turn), Val::T(format!("/item/{turn}"))],
                );
                g.region_end(slot, time + 20);
            }
            g.block(slot, u64::from(slot), 950);
            g.region_begin(slot, 1000, request);
        }
        if number == 1 {
            g.block(3, 3, 10);
            let sleep = g.site(3, "sleep");
            g.thread_start(3, 11, 3, "sleeper").region_begin(3, 12, sleep);
        } else {
            g.block(0, 0, PERIOD);
            g.thread_status(0, 3, "sleeper");
            let sleep = g.site(0, "sleep");
            // Sites carry their id in their line: as in the first generation.
            let line = g.last(0);
            *line.records.last_mut().unwrap() = 10 + 5;
            g.region_status(0, sleep, 12 - (PERIOD * (number - 1)).cast_signed());
        }
        g.end(&[]);
        generations.push(g);
    }
    generations
}
