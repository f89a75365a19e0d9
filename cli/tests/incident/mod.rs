//! A snapshot of an executor with two workers, written by hand. Forty requests are served quickly. Then one
//! waits for a database task, which waits for the disk; when it is finally woken, its thread is in a long
//! poll of a task that reloads prices.

use lookback::read::file::{FileBlock, FileWriter, GenerationFrame};
use lookback::read::wire::{
    Block, BlockHeader, ClockRecord, Generation, Kind, Metadata, Nanos, Position, ThreadNumber,
    Ticks, ValueType, encode_event_table, key, put_varint,
};
use std::collections::HashMap;

/// Sites: of tasks, and callsites of spans and logs.
const REQUEST: u64 = 1;
const DB: u64 = 2;
const RELOAD: u64 = 3;
const HANDLE: u64 = 4;
const RELOAD_PRICES: u64 = 5;
const LOG: u64 = 6;

/// What one slot has recorded. A tick is a nanosecond.
struct Slot {
    number: u32,
    records: Vec<u8>,
    events: u32,
    last: u64,
}

struct Incident {
    slots: Vec<Slot>,
    sequences: HashMap<u64, u64>,
    /// The innermost task of each slot.
    polls: HashMap<u32, u64>,
}

fn text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, (text.len() as u64) << 2);
    out.extend_from_slice(text.as_bytes());
}

impl Incident {
    /// A slot whose thread has the same number, and may be a worker.
    fn thread(&mut self, number: u32, name: &str, worker: Option<u64>) {
        self.slots.push(Slot { number, records: Vec::new(), events: 0, last: 0 });
        self.event(number, 1, Kind::ThreadStart, |out| {
            put_varint(out, u64::from(number));
            put_varint(out, 4000 + u64::from(number));
            text(out, name);
        });
        if let Some(worker) = worker {
            self.numbers(number, 2, Kind::WorkerStart, &[0, worker, 1]);
        }
    }

    /// Microseconds since the beginning; within a slot, the order of calls counts.
    fn event(&mut self, slot: u32, micros: u64, kind: Kind, put: impl FnOnce(&mut Vec<u8>)) {
        let slot = self.slots.iter_mut().find(|known| known.number == slot).unwrap();
        let at = micros * 1000;
        slot.records.push(kind as u8);
        put_varint(&mut slot.records, at - slot.last);
        (slot.last, slot.events) = (at, slot.events + 1);
        put(&mut slot.records);
    }

    fn numbers(&mut self, slot: u32, micros: u64, kind: Kind, numbers: &[u64]) {
        self.event(slot, micros, kind, |out| numbers.iter().for_each(|n| put_varint(out, *n)));
    }

    fn spawn(&mut self, slot: u32, micros: u64, task: u64, site: u64) {
        self.sequences.insert(task, 2);
        self.numbers(slot, micros, Kind::TaskCreate, &[task, 1, 2, site]);
    }

    fn poll(&mut self, slot: u32, micros: u64, task: u64) {
        let sequence = self.sequences.get_mut(&task).unwrap();
        *sequence += 1;
        let numbers = [task, *sequence];
        self.polls.insert(slot, task);
        self.numbers(slot, micros, Kind::TaskPoll, &numbers);
    }

    fn end(&mut self, slot: u32, micros: u64, kind: Kind) {
        let task = self.polls.remove(&slot).unwrap();
        *self.sequences.get_mut(&task).unwrap() += 1;
        self.numbers(slot, micros, kind, &[]);
    }

    fn wake(&mut self, slot: u32, micros: u64, task: u64) {
        let numbers = [task, self.sequences[&task]];
        self.numbers(slot, micros, Kind::TaskWake, &numbers);
    }

    fn open(&mut self, slot: u32, micros: u64, span: u64, callsite: u64) {
        self.event(slot, micros, Kind::SpanCreate, |out| {
            [span, 1, callsite, 1, ValueType::Unsigned as u64, span]
                .iter()
                .for_each(|number| put_varint(out, *number));
        });
        self.numbers(slot, micros, Kind::SpanEnterLast, &[]);
    }
}

/// The file.
pub fn incident() -> Vec<u8> {
    let (slots, sequences, polls) = Default::default();
    let mut of = Incident { slots, sequences, polls };
    of.thread(1, "worker-1", Some(0));
    of.thread(2, "worker-2", Some(1));
    of.thread(3, "disk", None);
    define(&mut of.slots[0].records);

    of.spawn(1, 10, 1, DB);
    of.poll(1, 20, 1);
    of.end(1, 30, Kind::TaskPending);
    for number in 0..40 {
        let (at, task, slot) = (1000 + number * 1000, 100 + number, 1 + (number % 2) as u32);
        of.spawn(slot, at, task, REQUEST);
        of.poll(slot, at + 10, task);
        of.open(slot, at + 20, 1 + number, HANDLE);
        of.numbers(slot, at + 300, Kind::SpanExit, &[]);
        of.numbers(slot, at + 300, Kind::SpanCloseLast, &[]);
        of.end(slot, at + 310, Kind::TaskReady);
    }
    of.numbers(2, 45_000, Kind::WorkerPark, &[]);

    // The request that will be slow: it queries the database, and waits.
    of.spawn(1, 50_000, 500, REQUEST);
    of.poll(1, 50_010, 500);
    of.open(1, 50_020, 500, HANDLE);
    of.wake(1, 50_100, 1);
    of.numbers(1, 50_200, Kind::SpanExit, &[]);
    of.end(1, 50_210, Kind::TaskPending);
    of.poll(1, 50_300, 1);
    of.end(1, 50_400, Kind::TaskPending);
    of.numbers(1, 50_500, Kind::WorkerPark, &[]);
    // The disk is done after 200 ms. Just before, the prices are reloaded.
    of.numbers(1, 249_900, Kind::WorkerUnpark, &[]);
    of.spawn(1, 249_950, 600, RELOAD);
    of.poll(1, 250_000, 600);
    of.wake(3, 250_100, 1);
    of.numbers(2, 250_110, Kind::WorkerUnpark, &[]);
    of.poll(2, 250_200, 1);
    of.wake(2, 250_300, 500);
    of.end(2, 250_400, Kind::TaskPending);
    of.numbers(2, 250_500, Kind::WorkerPark, &[]);
    of.open(1, 251_000, 600, RELOAD_PRICES);
    of.event(1, 252_000, Kind::LogFields, |out| {
        put_varint(out, 3);
        put_varint(out, LOG);
        text(out, "reloading");
        put_varint(out, 0);
    });
    of.numbers(1, 399_000, Kind::SpanExit, &[]);
    of.numbers(1, 399_000, Kind::SpanCloseLast, &[]);
    of.end(1, 400_000, Kind::TaskPending);
    of.poll(1, 400_100, 500);
    of.numbers(1, 400_110, Kind::SpanEnter, &[500, 1]);
    of.numbers(1, 400_200, Kind::SpanExit, &[]);
    of.numbers(1, 400_200, Kind::SpanCloseLast, &[]);
    of.end(1, 400_300, Kind::TaskReady);
    of.numbers(1, 400_400, Kind::WorkerPark, &[]);
    file(&of)
}

fn define(out: &mut Vec<u8>) {
    for (id, name) in [(REQUEST, "shop::request"), (DB, "shop::db"), (RELOAD, "shop::reload")] {
        out.push(Kind::Site as u8);
        put_varint(out, id);
        text(out, name);
        text(out, "src/shop.rs");
        put_varint(out, 10 + id);
    }
    for (id, name) in
        [(HANDLE, "handle"), (RELOAD_PRICES, "reload_prices"), (LOG, "event src/shop.rs:9")]
    {
        out.push(Kind::Callsite as u8);
        put_varint(out, id);
        text(out, name);
        text(out, "src/shop.rs");
        put_varint(out, 10 + id);
        text(out, "shop::prices");
        put_varint(out, 3);
        put_varint(out, 2);
        text(out, "order");
        text(out, "x");
    }
}

fn file(of: &Incident) -> Vec<u8> {
    let clock = |ticks: u64| ClockRecord {
        ticks: Ticks(ticks),
        monotonic: Nanos(5_000_000_000 + ticks),
        wall: Nanos(1_700_000_000_000_000_000 + ticks),
        frequency: 1_000_000_000,
    };
    let blocks = of.slots.iter().map(|slot| {
        let header = BlockHeader {
            length: 256,
            position: Position(0),
            generation: Generation(1),
            base: Ticks(0),
            first_event: 0,
            slot: slot.number,
            sequence: 0,
            thread: ThreadNumber(0),
        };
        let block = Block { header, events: slot.events, records: &slot.records };
        FileBlock { block, cut: slot.records.len() as u32 }
    });
    let mut frame = GenerationFrame {
        number: Generation(1),
        complete: false,
        began: clock(0),
        ended: clock(500_000_000),
        blocks: blocks.collect(),
    };
    let mut metadata = Metadata::default();
    metadata.add(key::PROCESS_NAME, "shop");
    metadata.add(key::REASON, "an order took too long");
    metadata.add(key::EVENT_TABLE, encode_event_table());
    let mut writer = FileWriter::new(Vec::new(), &metadata).unwrap();
    writer.generation(&mut frame).unwrap();
    writer.finish().unwrap()
}
