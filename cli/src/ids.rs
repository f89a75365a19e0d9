//! Ids of tasks and spans, as `lookback events` prints them.

use lookback::read::wire::{SpanId, TaskId};

/// `7` or `7.2`.
pub fn parse_span(text: &str) -> Option<SpanId> {
    parse(text).map(|(index, incarnation)| SpanId { index, incarnation })
}

/// The same, or what is to be written.
pub fn parse_task(text: &str) -> Result<TaskId, String> {
    let id = parse(text).ok_or("write 7 or 7.2, as `lookback events` does")?;
    Ok(TaskId { index: id.0, incarnation: id.1 })
}

/// The entry, and which one in it.
fn parse(text: &str) -> Option<(u32, u32)> {
    let (index, incarnation) = text.split_once('.').unwrap_or((text, "1"));
    Some((index.parse().ok()?, incarnation.parse().ok()?))
}
