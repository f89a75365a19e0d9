//! From text to a file.

use super::is_first;
use super::literal::{Reason, Words};
use super::print::TYPES;
use crate::file::{FileBlock, FileWriter, GenerationFrame};
use crate::wire::{
    Argument, Block, BlockHeader, Class, ClockRecord, FileRow, Generation, Kind, Metadata, Nanos,
    Position, ThreadNumber, Ticks, Value, decode_event_table, encode_event_table, key, put_varint,
    zigzag,
};
use std::collections::HashMap;

/// A text that is not a file's text form: in which line, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct TextError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads the text form of a file, and returns the bytes of the file.
///
/// ```
/// use lookback_snapshot::{Trace, text};
/// let written = "\
/// generation 1 incomplete began=0:0:0:1000000000 ended=500:500:500:1000000000
/// block slot=1 thread=1
///   @10 thread_start thread=1 os_thread=4001 name=\"main\"
/// ";
/// let trace = Trace::from_bytes(text::from_text(written)?).unwrap();
/// assert_eq!(trace.events().count(), 1);
/// # Ok::<(), text::TextError>(())
/// ```
///
/// # Errors
/// The first line that cannot be read, and why.
pub fn from_text(text: &str) -> Result<Vec<u8>, TextError> {
    let mut file = File::default();
    for (index, line) in text.lines().enumerate() {
        file.line(line).map_err(|reason| TextError { line: index + 1, reason })?;
    }
    let at_end = |reason: String| TextError { line: text.lines().count(), reason };
    file.finish().map_err(at_end)
}

#[derive(Default)]
struct File {
    metadata: Metadata,
    rows: Vec<FileRow>,
    generations: Vec<Gen>,
    /// The number of each slot's next event.
    numbers: HashMap<u32, u64>,
}

struct Gen {
    number: Generation,
    complete: bool,
    began: ClockRecord,
    ended: ClockRecord,
    blocks: Vec<Written>,
    /// The number of blocks of each slot.
    sequences: HashMap<u32, u32>,
}

struct Written {
    header: BlockHeader,
    records: Vec<u8>,
    ticks: u64,
    events: u32,
    said_events: Option<u32>,
    cut: Option<u32>,
}

impl File {
    fn line(&mut self, line: &str) -> Result<(), Reason> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let mut words = Words::new(line);
        if let Some(rest) = line.strip_prefix("metadata ") {
            return self.metadata(Words::new(rest));
        }
        if self.rows.is_empty() {
            self.rows = self.table()?;
        }
        if words.take("generation ") {
            self.generation(words)
        } else if words.take("block ") {
            self.block(words)
        } else {
            let block = self
                .generations
                .last_mut()
                .and_then(|last| Some((last.began.ticks.0, last.blocks.last_mut()?)));
            let (began, block) = block.ok_or("a record stands in a block")?;
            if line == "cut" {
                block.cut = Some(block.records.len() as u32);
            } else if words.take("raw ") {
                block.records.extend(words.bytes()?);
            } else if record(&self.rows, words, began, block)? {
                *self.numbers.entry(block.header.slot).or_default() += 1;
            }
            Ok(())
        }
    }

    /// The event table for reading the records.
    fn table(&mut self) -> Result<Vec<FileRow>, Reason> {
        if self.metadata.get(key::EVENT_TABLE).is_none() {
            self.metadata.add(key::EVENT_TABLE, encode_event_table());
        }
        match self.metadata.get(key::EVENT_TABLE) {
            Some(Value::Bytes(bytes)) => {
                decode_event_table(bytes).ok_or_else(|| "the event table is damaged".to_owned())
            }
            _ => Err("the event table is no bytes".to_owned()),
        }
    }

    fn metadata(&mut self, mut words: Words<'_>) -> Result<(), Reason> {
        if !self.rows.is_empty() {
            return Err("metadata stands before the generations".to_owned());
        }
        let name = words.quoted()?;
        let value = match words.rest.chars().next() {
            Some('"') => Value::Text(words.quoted()?),
            Some('f') => Value::Float(words.float()?),
            Some('+' | '-') => Value::Signed(words.number()?),
            _ if words.rest.starts_with("0x") => Value::Bytes(words.bytes()?),
            _ => Value::Unsigned(words.number()?),
        };
        end(&words)?;
        self.metadata.add(&name, value);
        Ok(())
    }

    fn generation(&mut self, mut words: Words<'_>) -> Result<(), Reason> {
        let number = Generation(words.number()?);
        let complete = words.take("complete");
        if !complete {
            words.expect("incomplete")?;
        }
        words.expect("began=")?;
        let began = clock(&mut words)?;
        words.expect("ended=")?;
        let ended = clock(&mut words)?;
        end(&words)?;
        let (blocks, sequences) = (Vec::new(), HashMap::new());
        self.generations.push(Gen { number, complete, began, ended, blocks, sequences });
        Ok(())
    }

    fn block(&mut self, mut words: Words<'_>) -> Result<(), Reason> {
        let generation = self.generations.last_mut().ok_or("a block stands in a generation")?;
        words.expect("slot=")?;
        let slot: u32 = words.number()?;
        let next = generation.sequences.entry(slot).or_default();
        let sequence = *next;
        *next += 1;
        let mut header = BlockHeader {
            length: 256,
            position: Position(0),
            generation: generation.number,
            base: generation.began.ticks,
            first_event: self.numbers.get(&slot).copied().unwrap_or(0),
            slot,
            sequence,
            thread: ThreadNumber(0),
        };
        let (mut said_events, mut cut) = (None, None);
        while !words.rest.is_empty() {
            let name = words.word().to_owned();
            words.expect("=")?;
            match &*name {
                "sequence" => header.sequence = words.number()?,
                "thread" => header.thread = ThreadNumber(words.number()?),
                "base" => {
                    let base: i64 = words.number()?;
                    let began = generation.began.ticks.0;
                    header.base = Ticks(began.wrapping_add(base.cast_unsigned()));
                }
                "first_event" => header.first_event = words.number()?,
                "events" => said_events = Some(words.number()?),
                "cut" => cut = Some(words.number()?),
                _ => return Err(format!("a block has no `{name}`")),
            }
        }
        self.numbers.insert(slot, header.first_event);
        let ticks = header.base.0;
        let (records, events) = (Vec::new(), 0);
        generation.blocks.push(Written { header, records, ticks, events, said_events, cut });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, Reason> {
        if self.rows.is_empty() {
            self.table()?;
        }
        let wrong = |error: std::io::Error| error.to_string();
        let mut writer = FileWriter::new(Vec::new(), &self.metadata).map_err(wrong)?;
        for generation in &self.generations {
            let blocks = generation.blocks.iter().map(|block| FileBlock {
                block: Block {
                    header: block.header,
                    events: block.said_events.unwrap_or(block.events),
                    records: &block.records,
                },
                cut: block.cut.unwrap_or(block.records.len() as u32),
            });
            let mut frame = GenerationFrame {
                number: generation.number,
                complete: generation.complete,
                began: generation.began,
                ended: generation.ended,
                blocks: blocks.collect(),
            };
            writer.generation(&mut frame).map_err(wrong)?;
        }
        writer.finish().map_err(wrong)
    }
}

fn end(words: &Words<'_>) -> Result<(), Reason> {
    if words.rest.is_empty() {
        Ok(())
    } else {
        Err(format!("nothing was to come at `{}`", words.front()))
    }
}

fn clock(words: &mut Words<'_>) -> Result<ClockRecord, Reason> {
    let ticks = Ticks(words.number()?);
    words.expect(":")?;
    let monotonic = Nanos(words.number()?);
    words.expect(":")?;
    let wall = Nanos(words.number()?);
    words.expect(":")?;
    Ok(ClockRecord { ticks, monotonic, wall, frequency: words.number()? })
}

/// Reads a record into its block. Returns whether it is an event.
fn record(
    rows: &[FileRow],
    mut words: Words<'_>,
    began: u64,
    block: &mut Written,
) -> Result<bool, Reason> {
    let time: Option<i64> = if words.take("@") { Some(words.number()?) } else { None };
    let name = words.word().to_owned();
    let code: Option<u8> = if words.take("#") { Some(words.number()?) } else { None };
    let given = names(words.rest);
    let fits = |row: &FileRow| row.arguments.iter().map(|(name, _)| name).eq(&given);
    let index = (0..rows.len())
        .find(|&index| {
            let row = &rows[index];
            row.name == name
                && match code {
                    Some(code) => row.code == code,
                    None => fits(row) && is_first(rows, index),
                }
        })
        .ok_or_else(|| format!("there is no record `{name}` with {}", given.join(", ")))?;
    let row = &rows[index];
    block.records.push(row.code);
    let timed = row.class == Class::Event;
    match (timed, time) {
        (true, Some(time)) => {
            let ticks = began.wrapping_add(time.cast_unsigned());
            put_varint(&mut block.records, ticks.wrapping_sub(block.ticks));
            block.ticks = ticks;
            block.events += 1;
        }
        (false, None) => {}
        (true, None) => return Err(format!("`{name}` has a time: `@10 {name}`")),
        (false, Some(_)) => return Err(format!("`{name}` has no time")),
    }
    for (name, kind) in &row.arguments {
        words.expect(&format!("{name}="))?;
        argument((row.code, *kind), &mut words, &mut block.records)?;
    }
    end(&words)?;
    Ok(timed)
}

/// The names before each `=` that is neither in quotes nor in brackets.
fn names(text: &str) -> Vec<String> {
    let (mut names, mut name, mut depth, mut quoted, mut escaped) =
        (Vec::new(), String::new(), 0_u32, false, false);
    for character in text.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '=' if depth == 0 => names.push(std::mem::take(&mut name)),
            ' ' => name.clear(),
            character => name.push(character),
        }
    }
    names
}

fn argument(
    (code, kind): (u8, Argument),
    words: &mut Words<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    let mut items = Vec::new();
    match kind {
        Argument::Unsigned | Argument::Id => put_varint(out, words.number()?),
        Argument::Signed => put_varint(out, zigzag(words.number()?)),
        Argument::Float => out.extend(words.float()?.to_le_bytes()),
        Argument::Text => words.text(out)?,
        Argument::Fields => {
            let count = words.list(["[", "]"], |words| {
                let name = words.word();
                let kind = TYPES.iter().find(|(_, known)| *known == name);
                let (kind, _) = kind.ok_or_else(|| format!("`{name}` is no type"))?;
                items.push(*kind as u8);
                words.text(&mut items)
            })?;
            put_varint(out, count);
        }
        Argument::Values => {
            words.list(["(", ")"], |words| words.value(&mut items).map(drop))?;
        }
        Argument::Pairs => {
            let count = words.list(["[", "]"], |words| {
                put_varint(&mut items, words.number()?);
                words.expect(":")?;
                put_varint(&mut items, words.number()?);
                Ok(())
            })?;
            put_varint(out, count);
        }
        Argument::Given => {
            let count = words.list(["{", "}"], |words| words.given(&mut items))?;
            put_varint(out, count);
        }
        Argument::Names => {
            let count = words.list(["[", "]"], |words| words.text(&mut items))?;
            put_varint(out, count);
        }
        Argument::Bytes => {
            items = match Kind::from_code(code) {
                _ if !words.rest.starts_with('[') => words.bytes()?,
                Some(Kind::SpanList) => words.spans()?,
                Some(Kind::TaskStackList | Kind::TaskSpawnList) => words.task_stacks()?,
                _ => words.tasks()?,
            };
            put_varint(out, items.len() as u64);
        }
    }
    out.extend(items);
    Ok(())
}
