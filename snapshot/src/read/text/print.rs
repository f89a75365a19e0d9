//! From a file to text.

use super::is_first;
use super::lists::{span_list, task_list, task_stack_list};
use super::literal::{put_float, put_hex, put_text};
use crate::file::FrameHeader;
use crate::read::Trace;
use crate::read::decode::bytes::{Bytes, Fault, TextAt};
use crate::read::decode::contents::{Contents, MAX_BLOCKS};
use crate::read::decode::decode_plan::Step;
use crate::wire::{
    Argument, Class, ClockRecord, Kind, Metadata, Value, ValueType, encode_event_table, key,
    unzigzag, unzigzag_wide,
};
use std::fmt::Write as _;
use std::io::{self, Write};

/// The text form of a file. Comments stand for what cannot be read.
#[must_use]
pub fn to_text(trace: &Trace) -> String {
    let mut out = Vec::new();
    // Writing to memory cannot fail.
    let _ = write_text(trace, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes the text form of a file, generation by generation.
///
/// # Errors
/// Those of `out`.
pub fn write_text(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    let mut text = String::new();
    metadata(trace.metadata(), &mut text);
    out.write_all(text.as_bytes())?;
    for frame in trace.spots() {
        text.clear();
        let contents = frame.clone().and_then(|spot| trace.contents(&spot, None));
        match contents {
            Ok(contents) => generation(&contents, &mut text),
            Err(error) => {
                let _ = writeln!(text, "# {}", error.to_string().replace('\n', " "));
            }
        }
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn metadata(metadata: &Metadata, out: &mut String) {
    let values: Vec<_> = metadata.iter().collect();
    for (index, (name, value)) in values.iter().enumerate() {
        // The table of this version at the end is implied.
        let own = matches!(value, Value::Bytes(bytes) if *bytes == encode_event_table());
        if own && *name == key::EVENT_TABLE && index + 1 == values.len() {
            continue;
        }
        out.push_str("metadata ");
        put_text(name.as_bytes(), false, out);
        out.push(' ');
        match value {
            Value::Unsigned(value) => drop(write!(out, "{value}")),
            Value::Signed(value) => drop(write!(out, "{value:+}")),
            Value::Float(value) => put_float(*value, out),
            Value::Text(text) => put_text(text.as_bytes(), false, out),
            Value::Bytes(bytes) => {
                out.push_str("0x");
                put_hex(bytes, out);
            }
        }
        out.push('\n');
    }
}

fn clock(clock: &ClockRecord) -> String {
    let ClockRecord { ticks, monotonic, wall, frequency } = clock;
    format!("{ticks}:{monotonic}:{wall}:{frequency}")
}

fn generation(of: &Contents, out: &mut String) {
    let complete = if of.info.complete { "complete" } else { "incomplete" };
    let (began, ended) = (clock(&of.began), clock(&of.ended));
    let _ = writeln!(out, "generation {} {complete} began={began} ended={ended}", of.info.number);
    // As they are in the file: the first pass has shortened those that it could not read.
    let Ok(FrameHeader { blocks, .. }) =
        FrameHeader::decode(&of.content[..of.frame_end], MAX_BLOCKS)
    else {
        return;
    };
    for block in &blocks {
        let base = block.base.0.wrapping_sub(of.began.ticks.0).cast_signed();
        let _ = write!(
            out,
            "block slot={} sequence={} thread={} base={base} first_event={}",
            block.slot, block.sequence, block.thread, block.first_event
        );
        let header = out.len();
        out.push('\n');
        let mut bytes = Bytes::new(&of.content, block.start, block.end);
        let (mut ticks, mut events, mut is_cut) = (block.base.0, 0_u32, block.cut == block.end);
        while !bytes.is_at_end() {
            if !is_cut && bytes.at == block.cut as usize {
                out.push_str("  cut\n");
                is_cut = true;
            }
            let (start, length) = (bytes.at, out.len());
            match record(of, &mut bytes, &mut ticks, out) {
                Ok(counts) => events += u32::from(counts),
                Err(_) => {
                    out.truncate(length);
                    out.push_str("  raw 0x");
                    put_hex(&of.content[start..block.end as usize], out);
                    out.push('\n');
                    break;
                }
            }
        }
        let mut more = String::new();
        if events != block.events {
            let _ = write!(more, " events={}", block.events);
        }
        if !is_cut {
            let _ = write!(more, " cut={}", block.cut - block.start);
        }
        out.insert_str(header, &more);
    }
}

/// Prints a record. Returns whether it is an event.
fn record(
    of: &Contents,
    bytes: &mut Bytes<'_>,
    ticks: &mut u64,
    out: &mut String,
) -> Result<bool, Fault> {
    let code = bytes.byte()?;
    let rows = of.plan.rows();
    let index = match of.plan.at(code) {
        Step::Absent => return Err("a record is of a kind that is not in the event table"),
        _ => rows.iter().rposition(|row| row.code == code).ok_or("no row")?,
    };
    let row = &rows[index];
    out.push_str("  ");
    let timed = row.class == Class::Event;
    if timed {
        *ticks = ticks.wrapping_add(bytes.number()?);
        let since = ticks.wrapping_sub(of.began.ticks.0).cast_signed();
        let _ = write!(out, "@{since} ");
    }
    out.push_str(&row.name);
    if !is_first(rows, index) {
        let _ = write!(out, "#{code}");
    }
    let mut id = 0;
    for (name, kind) in &row.arguments {
        let _ = write!(out, " {name}=");
        argument(of, (code, *kind), &mut id, bytes, out)?;
    }
    out.push('\n');
    Ok(timed)
}

fn argument(
    of: &Contents,
    (code, kind): (u8, Argument),
    id: &mut u64,
    bytes: &mut Bytes<'_>,
    out: &mut String,
) -> Result<(), Fault> {
    let content = &of.content[..];
    match kind {
        Argument::Unsigned => value(content, ValueType::Unsigned, bytes, out)?,
        Argument::Signed => value(content, ValueType::Signed, bytes, out)?,
        Argument::Float => value(content, ValueType::Float, bytes, out)?,
        Argument::Text => value(content, ValueType::Text, bytes, out)?,
        Argument::Id => {
            *id = bytes.number()?;
            let _ = write!(out, "{id}");
        }
        Argument::Fields => list(bytes, out, ["[", "]"], |bytes, out| {
            out.push_str(type_name(bytes.value_type()?));
            out.push(' ');
            value(content, ValueType::Text, bytes, out)
        })?,
        Argument::Values => {
            let schema = of.tables.schema(*id).ok_or("no schema")?;
            out.push('(');
            for (index, field) in of.tables.fields(schema).iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                value(content, field.kind, bytes, out)?;
            }
            out.push(')');
        }
        Argument::Pairs => list(bytes, out, ["[", "]"], |bytes, out| {
            let _ = write!(out, "{}:{}", bytes.number()?, bytes.number()?);
            Ok(())
        })?,
        Argument::Given => list(bytes, out, ["{", "}"], |bytes, out| given(content, bytes, out))?,
        Argument::Names => {
            list(bytes, out, ["[", "]"], |bytes, out| value(content, ValueType::Text, bytes, out))?;
        }
        Argument::Bytes => {
            let (start, end) = bytes.counted()?;
            let bytes = &of.content[start..end];
            let items = match Kind::from_code(code) {
                Some(Kind::TaskList) => task_list(bytes),
                Some(Kind::SpanList) => span_list(bytes),
                Some(Kind::TaskStackList | Kind::TaskSpawnList) => task_stack_list(bytes),
                _ => None,
            };
            match items {
                Some(items) => out.push_str(&items),
                None => {
                    out.push_str("0x");
                    put_hex(bytes, out);
                }
            }
        }
    }
    Ok(())
}

fn list(
    bytes: &mut Bytes<'_>,
    out: &mut String,
    brackets: [&str; 2],
    mut item: impl FnMut(&mut Bytes<'_>, &mut String) -> Result<(), Fault>,
) -> Result<(), Fault> {
    out.push_str(brackets[0]);
    for index in 0..bytes.number()? {
        out.push_str(if index > 0 { ", " } else { "" });
        item(bytes, out)?;
    }
    out.push_str(brackets[1]);
    Ok(())
}

/// A given value, with the index of its field.
pub(super) fn given(content: &[u8], bytes: &mut Bytes<'_>, out: &mut String) -> Result<(), Fault> {
    let (index, kind) = bytes.given()?;
    let _ = write!(out, "{index}: ");
    value(content, kind, bytes, out)
}

fn value(
    content: &[u8],
    kind: ValueType,
    bytes: &mut Bytes<'_>,
    out: &mut String,
) -> Result<(), Fault> {
    match kind {
        ValueType::Unsigned => drop(write!(out, "{}", bytes.number()?)),
        ValueType::Signed => drop(write!(out, "{:+}", unzigzag(bytes.number()?))),
        ValueType::Float => put_float(bytes.float()?, out),
        ValueType::Bool => out.push_str(match bytes.byte()? {
            0 => "false",
            1 => "true",
            _ => return Err("neither yes nor no"),
        }),
        ValueType::Text | ValueType::Error => {
            if kind == ValueType::Error {
                out.push('!');
            }
            match bytes.text()? {
                TextAt::Id(id) => drop(write!(out, "&{id}")),
                TextAt::Span(span) => put_text(span.bytes(content), span.is_cut(), out),
            }
        }
        ValueType::Any => {
            out.push('?');
            if let Some(kind) = bytes.any()? {
                value(content, kind, bytes, out)?;
            }
        }
        ValueType::Wide => drop(write!(out, "w{}", bytes.wide()?)),
        ValueType::WideSigned => drop(write!(out, "w{:+}", unzigzag_wide(bytes.wide()?))),
        ValueType::Duration => {
            let value = bytes.duration()?;
            let _ = write!(out, "d{}:{}", value.as_secs(), value.subsec_nanos());
        }
        ValueType::Omitted => out.push_str("omitted"),
    }
    Ok(())
}

pub(super) const TYPES: [(ValueType, &str); 11] = [
    (ValueType::Unsigned, "unsigned"),
    (ValueType::Signed, "signed"),
    (ValueType::Float, "float"),
    (ValueType::Bool, "bool"),
    (ValueType::Text, "text"),
    (ValueType::Error, "error"),
    (ValueType::Any, "any"),
    (ValueType::Wide, "wide"),
    (ValueType::WideSigned, "wide_signed"),
    (ValueType::Duration, "duration"),
    (ValueType::Omitted, "omitted"),
];

fn type_name(kind: ValueType) -> &'static str {
    TYPES.iter().find(|(known, _)| *known == kind).map_or("?", |(_, name)| name)
}
