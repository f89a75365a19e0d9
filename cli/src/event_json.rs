//! An event as a JSON object.

use crate::event_facts::{Fact, facts, own_fields};
use crate::keys::Keys;
use crate::wall_clock::{When, rfc3339};
use lookback::read::{Event, EventKind, Value};
use std::borrow::Cow;
use std::io::{self, Write};

/// The event as a JSON object.
pub fn json_of(event: &Event, since: u64) -> serde_json::Value {
    let mut line = Vec::new();
    // Writing to memory cannot fail, and the line is valid JSON.
    let _ = print(event, When { since, wall: None }, None, &mut line);
    serde_json::from_slice(&line).unwrap_or_default()
}

/// A line for programs; `stack` is JSON.
pub fn print(event: &Event, when: When, stack: Option<&str>, out: &mut Vec<u8>) -> io::Result<()> {
    let since = when.since;
    write!(out, r#"{{"t":{since},"#)?;
    if let Some(wall) = when.wall {
        write!(out, r#""wall":"{}","#, rfc3339(wall))?;
    }
    let late = event.time().0 - event.measured().0.min(event.time().0);
    if late != 0 {
        write!(out, r#""measured":{},"#, since.saturating_sub(late))?;
    }
    write!(out, r#""generation":{},"thread":"#, event.generation())?;
    match event.thread() {
        Some(thread) => {
            write!(out, r#"{},"thread_name":"#, thread.number)?;
            json_text(&thread.name, out)?;
            write!(out, r#","os_thread":{}"#, thread.os_thread)?;
        }
        None => write!(out, r#"null,"thread_name":null,"os_thread":null"#)?,
    }
    write!(out, r#","kind":"#)?;
    json_text(event.kind_name(), out)?;
    write!(out, r#","name":"#)?;
    json_text(event.name(), out)?;
    if let Some(callsite) = event.callsite_name() {
        write!(out, r#","callsite":"#)?;
        json_text(callsite, out)?;
    }
    if let Some(site) = event.site() {
        write!(out, r#","site":"#)?;
        json_text(site.file, out)?;
        // The line number goes inside the quotes.
        out.pop();
        write!(out, r#":{}""#, site.line)?;
    }
    if let Some(task) = event.task() {
        write!(out, r#","task":"{task}""#)?;
    }
    if let Some(span) = event.span() {
        write!(out, r#","span":"{span}""#)?;
    }
    if let Some(worker) = event.worker() {
        write!(out, r#","worker":"{worker}""#)?;
        if let Some(name) = event.worker_name() {
            write!(out, r#","worker_name":"#)?;
            json_text(name, out)?;
        }
    }
    write!(out, r#","fields":{{"#)?;
    let mut comma = "";
    let mut cut = Vec::new();
    let (facts, mut keys) = (facts(event), Keys::default());
    for (name, value) in &facts {
        write!(out, r#"{comma}"{}":"#, keys.own(name))?;
        comma = ",";
        match value {
            Fact::Number(_) | Fact::Is => write!(out, "{value}")?,
            value => json_text(&value.to_string(), out)?,
        }
    }
    let own = own_fields(event);
    for (at, (name, value)) in event.fields().enumerate() {
        out.write_all(comma.as_bytes())?;
        comma = ",";
        let field = if at < own { Cow::Borrowed(keys.own(name)) } else { keys.of(name) };
        json_text(&field, out)?;
        out.write_all(b":")?;
        match value {
            Value::Text(text) | Value::Error(text) => {
                json_text(&text, out)?;
                cut.extend(text.cut.then_some(field));
            }
            // JSON has neither NaN nor infinities: they become null.
            Value::Float(value) => serde_json::to_writer(&mut *out, &value)?,
            // Most JSON readers have no integers of 128 bits, and none with a unit.
            value @ (Value::Wide(_) | Value::WideSigned(_) | Value::Duration(_)) => {
                json_text(&value.to_string(), out)?;
            }
            value => write!(out, "{value}")?,
        }
    }
    if let EventKind::RegionEnd { duration: Some(took), .. } = event.kind() {
        write!(out, r#""duration_ns":{took}"#)?;
    }
    out.write_all(b"}")?;
    if !cut.is_empty() {
        write!(out, r#","cut":"#)?;
        serde_json::to_writer(&mut *out, &cut)?;
    }
    let omitted: Vec<_> = event.omitted_fields().collect();
    if !omitted.is_empty() {
        write!(out, r#","omitted":"#)?;
        serde_json::to_writer(&mut *out, &omitted)?;
    }
    if let Some(stack) = stack {
        write!(out, r#","stack":{stack}"#)?;
    }
    out.write_all(b"}\n")
}

fn json_text(text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return Ok(());
    }
    Ok(serde_json::to_writer(out, text)?)
}
