//! Where tasks wait at the end: those that have waited longest first.

use super::findings::section;
use crate::format::{count, duration, escape};
use crate::terminal::dim;
use lookback::read::hangs::{Hangs, WaitingGroup};
use serde_json::{Value, json};
use std::io::{self, Write};

/// How many groups are shown.
const MOST_ROWS: usize = 10;

pub fn print(hangs: &Hangs, out: &mut impl Write) -> io::Result<()> {
    if hangs.waiting.is_empty() {
        return Ok(());
    }
    section("Where tasks wait", out)?;
    writeln!(out, "  {}", dim().apply_to("  tasks   longest  for"))?;
    for group in hangs.waiting.iter().take(MOST_ROWS) {
        let limit = if group.is_timed { ", with a time limit" } else { "" };
        let words = group.in_words();
        let words = escape(&words);
        let (many, longest) = (count(group.count), duration(group.longest.0));
        writeln!(out, "  {many:>7} {longest:>9}  {words}{limit}")?;
    }
    let more = hangs.waiting.len().saturating_sub(MOST_ROWS);
    if more > 0 || hangs.left_out > 0 {
        let line = format!("{} more places: lookback stacks --tasks", count(more as u64));
        writeln!(out, "  {}", dim().apply_to(line))?;
    }
    Ok(())
}

pub fn json(hangs: Option<&Hangs>) -> Value {
    let Some(hangs) = hangs else { return Value::Null };
    let group = |group: &WaitingGroup| {
        let function = |location: &lookback::read::symbols::Location| {
            json!({
                "name": location.function.to_string(),
                "file": location.place.as_ref().map(|(file, _)| file),
                "line": location.place.as_ref().map(|(_, line)| line),
            })
        };
        json!({
            "count": group.count,
            "awaited": group.awaited.map(|awaited| awaited.in_words()),
            "functions": group.functions.iter().map(function).collect::<Vec<_>>(),
            "longest_ns": group.longest.0,
            "shortest_ns": group.shortest.0,
            "others": group.others,
            "timed": group.is_timed,
            "tasks": group.tasks.iter().map(|task| task.task.to_string()).collect::<Vec<_>>(),
        })
    };
    json!({
        "places": hangs.waiting.iter().map(group).collect::<Vec<_>>(),
        "left_out": hangs.left_out,
    })
}
