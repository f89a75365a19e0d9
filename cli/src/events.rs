//! `lookback events`: every event of a snapshot, in order, a line each.

use crate::glob::Pattern;
use crate::open_regions::OpenRegions;
use crate::outcome::{Damage, Verdict, open};
use crate::terminal::{bad, dim, name, odd, strong};
use crate::text::{duration, escape, parse_duration, quote, seconds};
use clap::Args;
use clap::builder::PossibleValuesParser;
use lookback::read::wire::{Class, EVENT_TABLE};
use lookback::read::{Event, EventKind, Level, Trace, Value};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Print every event of a snapshot, in one order over all threads, a line each.
#[derive(Args, Debug)]
#[command(after_help = "\
Times are seconds since the first event of the snapshot; what is inside of a region is indented.

With --json each line is one JSON object: `t` (nanoseconds since the first event), `generation`,
`thread` (the recorder's number), `thread_name`, `os_thread`, `kind`, `name`, `site`, and `fields`
with the typed values: those of an event, `value` of a counter, `level` and `message` of a log,
`duration_ns` of the end of a region. Numbers that JSON does not have (NaN) are null; `cut` names
the fields that were too long to be recorded as a whole.

Examples:
  lookback events incident.lbk --last 300ms
  lookback events incident.lbk --thread http-1 --kind log
  lookback events incident.lbk --name 'cache*' --limit 20
  lookback events incident.lbk --json | jq 'select(.fields.status == 503)'")]
pub struct Events {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
    /// Only of this thread, by name or number; may be given more than once
    #[arg(long, value_name = "NAME|NUMBER")]
    thread: Vec<String>,
    /// Only of this kind; may be given more than once
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    kind: Vec<String>,
    /// Only with this in their name; `*` and `?` stand for any characters, any character
    #[arg(long, value_name = "PATTERN")]
    name: Option<String>,
    /// Only what happened in the last so much of the snapshot: 500ms, 2s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    last: Option<Duration>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

fn kinds() -> PossibleValuesParser {
    let mut names: Vec<_> =
        EVENT_TABLE.iter().filter(|row| row.class == Class::Event).map(|row| row.name).collect();
    names.dedup();
    PossibleValuesParser::new(names)
}

impl Events {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trace = open(&self.file)?;
        let mut damage = Damage::of(&trace);
        match self.print(&trace, &mut damage, &mut io::stdout().lock()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(damage.tell()),
        }
    }

    fn print(&self, trace: &Trace, damage: &mut Damage, out: &mut impl Write) -> io::Result<()> {
        let wanted = Wanted::new(self, trace);
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut first = None;
        let mut regions = OpenRegions::new(trace);
        let mut lines = Vec::with_capacity(2 * CHUNK);
        for event in trace.events() {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    damage.note(&error);
                    continue;
                }
            };
            let time = event.time().0;
            let since = time - *first.get_or_insert(time);
            let depth = if self.json { 0 } else { regions.follow(&event) };
            if !wanted.includes(&event) {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            if self.json {
                print_json(&event, since, &mut lines)?;
            } else {
                print_line(&event, since, depth, &mut lines)?;
            }
            if lines.len() >= CHUNK {
                out.write_all(&lines)?;
                lines.clear();
            }
        }
        out.write_all(&lines)?;
        out.flush()
    }
}

/// So many bytes of lines are written at once.
const CHUNK: usize = 64 << 10;

/// Which events are asked for.
struct Wanted<'a> {
    threads: &'a [String],
    kinds: &'a [String],
    name: Option<Pattern>,
    since: u64,
}

impl<'a> Wanted<'a> {
    fn new(asked: &'a Events, trace: &Trace) -> Self {
        let since = asked.last.map_or(0, |last| {
            let ends = trace.generations().iter().map(|g| g.start.0.saturating_add(g.duration.0));
            let nanos = u64::try_from(last.as_nanos()).unwrap_or(u64::MAX);
            ends.max().unwrap_or_default().saturating_sub(nanos)
        });
        let name = asked.name.as_deref().map(Pattern::new);
        Self { threads: &asked.thread, kinds: &asked.kind, name, since }
    }

    fn includes(&self, event: &Event) -> bool {
        let is_thread = |wanted: &String| {
            event.thread().is_some_and(|thread| {
                *thread.name == **wanted || wanted.parse() == Ok(thread.number.0)
            })
        };
        event.time().0 >= self.since
            && (self.kinds.is_empty() || self.kinds.iter().any(|k| k == event.kind_name()))
            && (self.threads.is_empty() || self.threads.iter().any(is_thread))
            && self.name.as_ref().is_none_or(|pattern| pattern.matches(event.name()))
    }
}

/// A line for people.
fn print_line(event: &Event, since: u64, depth: usize, out: &mut Vec<u8>) -> io::Result<()> {
    write!(out, "{:>11}  ", dim().apply_to(seconds(since)))?;
    let thread = match event.thread() {
        Some(thread) if thread.name.is_empty() => format!("#{}", thread.number),
        Some(thread) => escape(&thread.name).into_owned(),
        None => "?".to_owned(),
    };
    write!(out, "{:<10}  ", name().apply_to(thread))?;
    write!(out, "{:<12}  ", dim().apply_to(escape(event.kind_name())))?;
    // Deeper than this, the indentation would say less than it hides.
    write!(out, "{:1$}", "", 2 * depth.min(20))?;
    describe(event, out)?;
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
        EventKind::Log { level, message, .. } => {
            let style = match level {
                Level::Error => bad(),
                Level::Warn => odd(),
                _ => dim(),
            };
            let level = style.apply_to(level.name().to_uppercase());
            write!(out, "{level} {}: {}", strong().apply_to(called), escape(&message))?;
            out.write_all(if message.cut { "…".as_bytes() } else { b"" })
        }
        _ => {
            write!(out, "{}", strong().apply_to(called))?;
            let mut space = "  ";
            for (field, value) in event.fields() {
                write!(out, "{space}{}", dim().apply_to(format_args!("{}=", escape(field))))?;
                space = " ";
                match value {
                    Value::Text(text) => {
                        write!(out, "{}{}", quote(&text), if text.cut { "…" } else { "" })?;
                    }
                    value => write!(out, "{value}")?,
                }
            }
            Ok(())
        }
    }
}

/// A line for programs.
fn print_json(event: &Event, since: u64, out: &mut Vec<u8>) -> io::Result<()> {
    write!(out, r#"{{"t":{since},"generation":{},"thread":"#, event.generation())?;
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
    if let Some(site) = event.site() {
        write!(out, r#","site":"#)?;
        json_text(site.file, out)?;
        // The line goes inside of the quotes.
        out.pop();
        write!(out, r#":{}""#, site.line)?;
    }
    write!(out, r#","fields":{{"#)?;
    let mut comma = "";
    let mut cut = Vec::new();
    for (field, value) in event.fields() {
        out.write_all(comma.as_bytes())?;
        comma = ",";
        json_text(field, out)?;
        out.write_all(b":")?;
        match value {
            Value::Text(text) => {
                json_text(&text, out)?;
                cut.extend(text.cut.then_some(field));
            }
            // JSON has neither NaN nor infinities: they become null.
            Value::Float(value) => serde_json::to_writer(&mut *out, &value)?,
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
