//! `lookback events`: every event of a snapshot, in order, a line each.

use crate::keys::Keys;
use crate::open_regions::OpenRegions;
use crate::outcome::{Damage, Verdict, complain, open};
use crate::terminal::{bad, dim, name, odd, strong};
use crate::text::{counted, duration, escape, parse_duration, quote, seconds};
use crate::wanted::{Filters, Wanted};
use clap::Args;
use clap::builder::PossibleValuesParser;
use lookback::read::read::text::write_text;
use lookback::read::wire::{Class, EVENT_TABLE, SpanId, TaskId};
use lookback::read::{Event, EventKind, Level, Trace, Value, WorkerId};
use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Print every event of a snapshot, in one order over all threads, a line each.
#[derive(Args, Debug)]
#[command(after_help = "\
Times are seconds since the first event of the snapshot; what is inside of a region is indented. The \
second column is the thread: the worker that it is (r0/w1: runtime 0, worker 1), or its name and number.

With --json each line is one JSON object: `t` (nanoseconds since the first event; `measured` beside it \
where the event was written so late that it stands behind later ones), `generation`, \
`thread` (the recorder's number), `thread_name`, `os_thread`, `kind`, `name`, `site`, where it \
happened (`task`, `span` and `worker`, if in any), and `fields` with the typed values: those of an \
event or a span, `value` of a counter, `level` and `message` of a log, `duration_ns` of the end of a \
region; of a task, a worker or a span which it is (`task`, `span`, `worker`), and what belongs to it: \
`parent`, `by`, `waits_for`, `sequence`. Tasks and spans are texts like \"7.2\": the second that had \
place 7. Numbers that JSON does not have (NaN) are null; integers of 128 bits and lengths of time \
(\"1.5ms\") are texts. `cut` names the fields that were too long to be recorded as a whole, `omitted` \
those for which there was no room.

A span that has a field `otel.name` is called by its value, everywhere; `callsite` is what its place \
in the source is called then.

Every name in `fields` is there once. A field of the program's that is called as one of ours is \
`field.level`, say; of several with one name the first one keeps it, and the next ones are `name#2`, \
`name#3`, in their order.

A thread, task, span, kind, generation or name of which there is no event is an error, which says what \
there is; the exit code is 1 then.

With --records it prints the text form of the file, which says all that is in it, record by record.

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
    /// Print every record as it stands in the file, definitions and statuses included
    #[arg(long, conflicts_with_all = ["json", "thread", "task", "span", "kind", "generation", "name", "last", "limit"])]
    records: bool,
    /// Only of this thread, by name, by number, or by the worker that it is; may be given more than once
    #[arg(long, value_name = "NAME|NUMBER|WORKER")]
    thread: Vec<String>,
    /// Only of this task, by its id (7, 7.2), or while it was polled; may be given more than once
    #[arg(long, value_name = "ID")]
    task: Vec<String>,
    /// Only of this span, by its id, or directly inside of it; may be given more than once
    #[arg(long, value_name = "ID")]
    span: Vec<String>,
    /// Only of this generation; may be given more than once
    #[arg(long, value_name = "NUMBER")]
    generation: Vec<u64>,
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
    // Several kinds of records may have one name. They stay in the order of the table.
    let mut names: Vec<&str> = Vec::new();
    for row in EVENT_TABLE.iter().filter(|row| row.class == Class::Event) {
        if !names.contains(&row.name) {
            names.push(row.name);
        }
    }
    PossibleValuesParser::new(names)
}

impl Events {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trace = open(&self.file)?;
        let mut damage = Damage::of(&trace);
        let out = &mut io::stdout().lock();
        let printed = if self.records {
            self.print_records(&trace, &mut damage, out)
        } else {
            self.print(&trace, &mut damage, out)
        };
        match printed {
            Ok(missing) if !missing.is_empty() => {
                damage.tell();
                missing
                    .iter()
                    .for_each(|what| complain(&format!("{}: {what}", self.file.display())));
                Ok(Verdict::Bad)
            }
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(damage.tell()),
        }
    }

    fn print_records(
        &self,
        trace: &Trace,
        damage: &mut Damage,
        out: &mut impl Write,
    ) -> io::Result<Vec<String>> {
        let mut out = io::BufWriter::with_capacity(CHUNK, out);
        write_text(trace, &mut out)?;
        for generation in trace.generations() {
            if let Some(error) = &generation.damage {
                damage.note(error);
            }
        }
        out.flush()?;
        Ok(Vec::new())
    }

    /// Says what was asked for and is not there.
    fn print(
        &self,
        trace: &Trace,
        damage: &mut Damage,
        out: &mut impl Write,
    ) -> io::Result<Vec<String>> {
        let mut wanted = Wanted::new(&self.filters(trace));
        let mut all = true;
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
                all = false;
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
        out.flush()?;
        // What was not read may have what is missing.
        let missing = if all { wanted.missing(trace) } else { Vec::new() };
        if all && missing.is_empty() && wanted.is_empty() && trace.events().next().is_some() {
            complain(&format!("{}: no event is all of what was asked for", self.file.display()));
        }
        Ok(missing)
    }

    fn filters(&self, trace: &Trace) -> Filters<'_> {
        let since = self.last.map_or(0, |last| {
            let ends = trace.generations().iter().map(|g| g.start.0.saturating_add(g.duration.0));
            let nanos = u64::try_from(last.as_nanos()).unwrap_or(u64::MAX);
            ends.max().unwrap_or_default().saturating_sub(nanos)
        });
        Filters {
            threads: &self.thread,
            tasks: &self.task,
            spans: &self.span,
            kinds: &self.kind,
            generations: &self.generation,
            name: self.name.as_deref(),
            since,
        }
    }
}

/// So many bytes of lines are written at once.
const CHUNK: usize = 64 << 10;

/// A line for people.
fn print_line(event: &Event, since: u64, depth: usize, out: &mut Vec<u8>) -> io::Result<()> {
    write!(out, "{:>11}  ", dim().apply_to(seconds(since)))?;
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

/// The values of an event: what belongs to it, and those of the program.
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
            // They stand in front of the line already.
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

/// How many of an event's fields are ours: `level` and `message`, or `value`.
fn own_fields(event: &Event) -> usize {
    match event.kind() {
        EventKind::Log { .. } => 2,
        EventKind::Counter { .. } => 1,
        _ => 0,
    }
}

/// Something that belongs to an event of a task, a worker or a span.
enum Fact<'a> {
    Task(TaskId),
    Span(SpanId),
    Worker(WorkerId),
    Number(u64),
    Name(&'a str),
}

impl Display for Fact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => task.fmt(f),
            Self::Span(span) => span.fmt(f),
            Self::Worker(worker) => worker.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(&quote(name)),
        }
    }
}

/// What belongs to an event of a task, a worker or a span: which it is, and what else.
fn facts(event: &Event) -> Vec<(&'static str, Fact<'_>)> {
    let mut facts = Vec::new();
    match event.kind() {
        EventKind::TaskCreate { task, parent, .. } => {
            facts.push(("task", Fact::Task(task)));
            facts.extend(parent.map(|parent| ("parent", Fact::Task(parent))));
        }
        EventKind::TaskPending { task, waits_for } => {
            facts.push(("task", Fact::Task(task)));
            facts.extend(waits_for.map(|site| ("waits_for", Fact::Name(site.name))));
        }
        EventKind::TaskPoll { task }
        | EventKind::TaskReady { task }
        | EventKind::TaskPanic { task }
        | EventKind::TaskDrop { task } => facts.push(("task", Fact::Task(task))),
        EventKind::TaskWake { task } => {
            facts.push(("task", Fact::Task(task)));
            facts.extend(event.task().map(|by| ("by", Fact::Task(by))));
        }
        EventKind::WorkerStart { worker }
        | EventKind::WorkerVisit { worker }
        | EventKind::WorkerPark { worker }
        | EventKind::WorkerUnpark { worker }
        | EventKind::WorkerStop { worker } => facts.push(("worker", Fact::Worker(worker))),
        EventKind::PoolThread { runtime } => facts.push(("runtime", Fact::Number(runtime))),
        EventKind::SpanCreate { span, parent, .. } => {
            facts.push(("span", Fact::Span(span)));
            facts.extend(parent.map(|parent| ("parent", Fact::Span(parent))));
        }
        EventKind::SpanEnter { span }
        | EventKind::SpanExit { span }
        | EventKind::SpanClose { span }
        | EventKind::SpanRecord { span } => facts.push(("span", Fact::Span(span))),
        EventKind::SpanFollows { span, from } => {
            facts.extend([("span", Fact::Span(span)), ("from", Fact::Span(from))]);
        }
        _ => {}
    }
    facts.extend(event.sequence().map(|number| ("sequence", Fact::Number(number))));
    facts
}

/// The event as a JSON object.
pub fn json_of(event: &Event, since: u64) -> serde_json::Value {
    let mut line = Vec::new();
    // Memory takes every byte, and what is written is JSON.
    let _ = print_json(event, since, &mut line);
    serde_json::from_slice(&line).unwrap_or_default()
}

/// A line for programs.
fn print_json(event: &Event, since: u64, out: &mut Vec<u8>) -> io::Result<()> {
    write!(out, r#"{{"t":{since},"#)?;
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
        // The line goes inside of the quotes.
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
            Fact::Number(value) => write!(out, "{value}")?,
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
            // Most readers of JSON have no number that is so long, and none that has a unit.
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
