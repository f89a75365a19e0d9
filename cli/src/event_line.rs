//! An event as a line for people.

use crate::event_facts::{Fact, facts, own_fields};
use crate::format::{counted, duration, escape, quote, seconds};
use crate::keys::Keys;
use crate::terminal::{bad, dim, name, odd, strong};
use crate::wall_clock::{When, time_of_day};
use console::strip_ansi_codes;
use lookback::read::{Event, EventKind, Level, Value};
use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};

/// A line for people.
pub fn print(
    event: &Event,
    when: When,
    depth: usize,
    stack: Option<&str>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let time = when.wall.map_or_else(|| seconds(when.since), time_of_day);
    write!(out, "{:>11}  ", dim().apply_to(time))?;
    let thread = match (event.thread(), event.worker()) {
        (_, Some(worker)) => match event.worker_name() {
            Some(name) => escape(name).to_string(),
            None => worker.to_string(),
        },
        (Some(thread), None) => format!("{}#{}", escape(&thread.name), thread.number),
        (None, None) => "?".to_owned(),
    };
    write!(out, "{:<10}  ", name().apply_to(thread))?;
    write!(out, "{:<12}  ", dim().apply_to(escape(event.kind_name())))?;
    // Deeper indentation would hide more than it says.
    write!(out, "{:1$}", "", 2 * depth.min(20))?;
    describe(event, out)?;
    if let Some(stack) = stack {
        write!(out, "  {} {}", dim().apply_to("at"), escape(stack))?;
    }
    writeln!(out)
}

/// The event without when and where: its name and its values.
pub fn describe(event: &Event, out: &mut impl Write) -> io::Result<()> {
    let called = escape(event.name());
    match event.kind() {
        EventKind::RegionEnd { duration: took, .. } => {
            write!(out, "{}", dim().apply_to(called))?;
            if let Some(took) = took {
                write!(out, "  {}", duration(took.0))?;
            }
            Ok(())
        }
        EventKind::RegionBegin { .. } => write!(out, "{}", strong().apply_to(called)),
        EventKind::RangeEnd { duration: took, late, .. } => {
            write!(out, "{}  {}", dim().apply_to(called), duration(took.0))?;
            match late.0 {
                0 => Ok(()),
                late => write!(out, ", until {} ago", duration(late)),
            }
        }
        EventKind::RangeBegin { ago, .. } => {
            write!(out, "{}", strong().apply_to(called))?;
            match ago.0 {
                0 => Ok(()),
                ago => write!(out, "  began {} ago", duration(ago)),
            }
        }
        EventKind::Log { level, message, .. } => {
            let style = match level {
                Level::Error => bad(),
                Level::Warn => odd(),
                _ => dim(),
            };
            let level = style.apply_to(level.name().to_uppercase());
            write!(out, "{level} {}: {}", strong().apply_to(called), escape(&message))?;
            out.write_all(if message.cut { "…".as_bytes() } else { b"" })?;
            describe_fields(event, &[], out)
        }
        _ => {
            write!(out, "{}", strong().apply_to(called))?;
            let mut facts = facts(event);
            facts.retain(|(name, _)| !["sequence", "worker"].contains(name));
            describe_fields(event, &facts, out)
        }
    }
}

/// The values of an event: its facts, then the program's fields.
fn describe_fields(
    event: &Event,
    facts: &[(&'static str, Fact<'_>)],
    out: &mut impl Write,
) -> io::Result<()> {
    let mut space = "  ";
    let mut field = |name: &str, value: &dyn Display| -> io::Result<()> {
        write!(out, "{space}{}{value}", dim().apply_to(format_args!("{}=", escape(name))))?;
        space = " ";
        Ok(())
    };
    let mut keys = Keys::default();
    for (name, value) in facts {
        field(keys.own(name), value)?;
    }
    let (own, is_log) = (own_fields(event), matches!(event.kind(), EventKind::Log { .. }));
    for (at, (name, value)) in event.fields().enumerate() {
        let key = if at < own { Cow::Borrowed(keys.own(name)) } else { keys.of(name) };
        match value {
            // The line starts with them already.
            _ if is_log && at < own => {}
            Value::Text(text) | Value::Error(text) => {
                let more = if text.cut { "…" } else { "" };
                field(&key, &format_args!("{}{more}", quote(&text)))?;
            }
            value => field(&key, &value)?,
        }
    }
    let omitted: Vec<_> = event.omitted_fields().map(escape).collect();
    if !omitted.is_empty() {
        let many = format!("{} more:", counted(omitted.len() as u64, "field"));
        write!(out, "{space}{} {}", odd().apply_to(many), omitted.join(", "))?;
    }
    Ok(())
}

/// Whether this text stands in the line.
pub fn has(text: &str, event: &Event, when: When, depth: usize) -> bool {
    let mut line = Vec::new();
    // Writing to memory cannot fail.
    let _ = print(event, when, depth, None, &mut line);
    strip_ansi_codes(&String::from_utf8_lossy(&line)).contains(text)
}
