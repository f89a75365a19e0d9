//! `lookback events`: every event of a snapshot, in order, one per line.

use crate::counter_lines::{CounterLines, KINDS};
use crate::event_stacks::EventStacks;
use crate::exit::{Damage, Verdict, complain, open};
use crate::format::{duration, parse_duration, quote};
use crate::moment::AskedMoment;
use crate::wall_clock::{WallClock, When, rfc3339};
use crate::wanted::{Filters, Wanted};
use crate::{event_json, event_line};
use clap::Args;
use clap::builder::PossibleValuesParser;
use lookback::read::text::write_text;
use lookback::read::wire::{Class, EVENT_TABLE};
use lookback::read::{Event, EventKind, GenerationInfo, Lent, Level, Trace};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Print every event of a snapshot, one per line, in one order over all threads.
#[derive(Args, Debug)]
#[command(after_help = "\
Times are seconds since the first event of the snapshot; events inside a region are indented. The second \
column is the thread: its worker (r0/w1: runtime 0, worker 1), or its name and number.

With --json each line is one JSON object: `t` (nanoseconds since the first event; with `measured` \
if the event was written so late that it comes after later ones; with `wall`, a time in UTC, if --wall is given), `generation`, \
`thread` (the recorder's number), `thread_name`, `os_thread`, `kind`, `name`, `site`, where it \
happened (`task`, `span` and `worker`, if any), and `fields` with the typed values: those of an \
event or a span, `value` of a counter, `level` and `message` of a log, `duration_ns` of the end of a \
region; `range`, `duration_ns`, `ago_ns`, `late_ns` of a range; for tasks, workers and spans their id (`task`, `span`, `worker`) and `parent`, `by`, \
`waits_for`, `sequence`; for locks `at`, `waited_ns`, `waiters`, `lock` (a number), and the holder's `holder` (its \
thread), `holder_task`, `held_at` and `held_ns`. Ids of tasks and spans are strings like \"7.2\": the second one in entry 7. \
Numbers that JSON lacks (NaN) are null; integers of 128 bits and durations (\"1.5ms\") are strings. \
`cut` names fields that were too long to be recorded whole, `omitted` those for which there was no room.

With --counters there is a line for each counter at the end of its generation, of kind `system_counters` or \
`runtime_counters`: `fields` {value, unit, increase (the value was added within `time_ns`), time_ns, runtime}.

An event that has a stack (`thread_stack`, `cpu_sample`, `contention`) shows the innermost of the service's own functions, and with \
--json all frames as `stack`, in the form of `lookback stacks --json`.

A span with a field `otel.name` is named by its value everywhere; `callsite` then has the name of its \
call site.

Names in `fields` are unique. A field of the program that has one of the names above gets a \
prefix, such as `field.level`; of several with the same name the first keeps it, and the next are \
`name#2`, `name#3`, in order.

A filter that matches no event is an error, which lists what would match; the exit code is then 1.

With --records it prints the text form of the file: all of its content, record by record.

Examples:
  lookback events incident.lbk --last 300ms
  lookback events incident.lbk --thread http-1 --kind log
  lookback events incident.lbk --name 'cache*' --limit 20
  lookback events incident.lbk --around +2.004161 --worker r0/w3
  lookback events incident.lbk --since -2s --level warn --grep timeout
  lookback events incident.lbk --json | jq 'select(.fields.status == 503)'")]
pub struct Events {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Print every record of the file, definitions and statuses included
    #[arg(long, conflicts_with_all = ["json", "thread", "task", "span", "worker", "kind", "generation", "name", "last", "limit"])]
    records: bool,
    /// Only of this thread, by name, number or worker; may be repeated
    #[arg(long, value_name = "NAME|NUMBER|WORKER")]
    thread: Vec<String>,
    /// Only of this task (7, 7.2), or recorded while it was polled; may be repeated
    #[arg(long, value_name = "ID")]
    task: Vec<String>,
    /// Only of this worker, by number (r0/w1) or name; may be repeated
    #[arg(long, value_name = "WORKER")]
    worker: Vec<String>,
    /// Only of this span (7, 7.2, or all of a name, with `*` and `?`) and of those inside of it, or recorded in them; may be
    /// repeated
    #[arg(long, value_name = "ID|NAME")]
    span: Vec<String>,
    /// Only of spans that belong to this distributed trace (their field `traceparent` or `trace_id`), and of those inside of them
    #[arg(long, value_name = "TRACE", conflicts_with = "records")]
    trace_id: Option<String>,
    /// Only spans and logs of this target, which for `tracing` is the module's path unless the program says another; `*` matches
    /// any text, `?` any character
    #[arg(long, value_name = "PATTERN", conflicts_with = "records")]
    target: Option<String>,
    /// Only logs that are at least this important
    #[arg(long, value_name = "LEVEL", value_parser = parse_level, conflicts_with = "records")]
    level: Option<Level>,
    /// Only where this text stands in the line, which is the one for people
    #[arg(long, value_name = "TEXT", conflicts_with = "records")]
    grep: Option<String>,
    /// Only from this moment on: +1.204 (seconds since the first event, as printed), 500ms, -2s (before the end),
    /// 15:41:17.5 (in UTC), or 2026-11-24T15:41:17.5Z
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true, conflicts_with_all = ["last", "around", "records"])]
    since: Option<AskedMoment>,
    /// Only up to this moment
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true, conflicts_with_all = ["around", "records"])]
    until: Option<AskedMoment>,
    /// Only what is near this moment
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true, conflicts_with_all = ["last", "records"])]
    around: Option<AskedMoment>,
    /// How near
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "50ms", requires = "around")]
    within: Duration,
    /// Only of this generation; may be repeated
    #[arg(long, value_name = "NUMBER")]
    generation: Vec<u64>,
    /// Only of this kind; may be repeated
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    kind: Vec<String>,
    /// Only with this in their name; `*` matches any text, `?` any character
    #[arg(long, value_name = "PATTERN")]
    name: Option<String>,
    /// Also the counters that the recorder reads once a generation: of the process, its control group, the machine and its
    /// runtimes. `--kind system_counters` and `--kind runtime_counters` print only those
    #[arg(long, conflicts_with = "records")]
    counters: bool,
    /// Only the last part of the snapshot: 500ms, 2s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    last: Option<Duration>,
    /// Name the functions of stacks even if the snapshot comes from another machine or from before this one's last boot,
    /// and also look for debug information in this directory
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Times by the clock on the wall, in UTC; with --json in the key `wall`
    #[arg(long, conflicts_with = "records")]
    wall: bool,
    /// At most this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

fn kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(kind_names().into_iter().chain(KINDS))
}

/// The kinds of events.
pub fn recorded_kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(kind_names())
}

fn kind_names() -> Vec<&'static str> {
    // Several kinds of records may have one name. They stay in the order of the table.
    let mut names: Vec<&str> = Vec::new();
    for row in EVENT_TABLE.iter().filter(|row| row.class == Class::Event) {
        if !names.contains(&row.name) {
            names.push(row.name);
        }
    }
    names
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

    /// Prints the events. Returns the filters that matched nothing.
    fn print(
        &self,
        trace: &Trace,
        damage: &mut Damage,
        out: &mut impl Write,
    ) -> io::Result<Vec<String>> {
        let mut wanted = Wanted::new(&self.filters(trace), trace);
        let (mut all, mut found) = (true, false);
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut first = None;
        let mut lines = Vec::with_capacity(2 * CHUNK);
        let asked = self.kind.iter().any(|kind| KINDS.contains(&&**kind));
        let mut counters = (self.counters || asked).then(|| CounterLines::new(trace, self.json));
        let mut stacks = EventStacks::new(trace, &self.symbols);
        let wall = self.wall.then(|| WallClock::of(trace));
        let mut events = trace.events();
        while let Some(next) = events.lend() {
            let Some(Lent { event, state, .. }) = damage.noted(next) else { continue };
            let time = event.time().0;
            let since = time - *first.get_or_insert(time);
            if let Some(counters) = &mut counters {
                let start = (time - since, &mut left);
                counters.before(Some(event.generation()), start, &mut wanted, &mut lines)?;
            }
            if !wanted.includes(event) {
                continue;
            }
            let when = When { since, wall: wall.as_ref().and_then(|wall| wall.at(event)) };
            // The begin of a region is not inside of it.
            let begins = matches!(event.kind(), EventKind::RegionBegin { .. });
            let depth = state.depth().saturating_sub(usize::from(begins));
            if let Some(text) = &self.grep {
                if !event_line::has(text, event, when, depth) {
                    continue;
                }
                found = true;
            }
            if left == 0 {
                all = false;
                break;
            }
            left -= 1;
            if self.json {
                event_json::print(event, when, stacks.json(event).as_deref(), &mut lines)?;
            } else {
                event_line::print(
                    event,
                    when,
                    depth,
                    stacks.in_words(event).as_deref(),
                    &mut lines,
                )?;
            }
            if lines.len() >= CHUNK {
                out.write_all(&lines)?;
                lines.clear();
            }
        }
        if let (true, Some(counters)) = (all, &mut counters) {
            let start = (first.unwrap_or_default(), &mut left);
            counters.before(None, start, &mut wanted, &mut lines)?;
        }
        out.write_all(&lines)?;
        out.flush()?;
        // After `--limit`, the unread rest may have a match.
        let mut missing = if all { wanted.missing(trace) } else { Vec::new() };
        if let (Some(text), true, true, false) = (&self.grep, all, missing.is_empty(), found) {
            missing.push(format!("no line of these has {} in it", quote(text)));
        }
        if all
            && missing.is_empty()
            && wanted.is_empty()
            && trace.events().flatten().next().is_some()
        {
            let why = self.why_nothing(trace);
            // That there is nothing at once is no mistake; a time outside of the snapshot is one.
            match self.is_outside(trace) {
                true => missing.push(why),
                false => complain(&format!("{}: {why}", self.file.display())),
            }
        }
        Ok(missing)
    }

    /// Why no event was printed, although each filter alone, except the time, has matched one.
    fn why_nothing(&self, trace: &Trace) -> String {
        let given = [
            !self.thread.is_empty(),
            !self.task.is_empty(),
            !self.span.is_empty(),
            !self.kind.is_empty(),
            !self.generation.is_empty(),
            self.name.is_some(),
            !self.worker.is_empty(),
            self.trace_id.is_some(),
            self.level.is_some(),
            self.target.is_some(),
            self.since.is_some() || self.until.is_some() || self.around.is_some(),
        ];
        match (self.last, given.contains(&true)) {
            (Some(last), false) => {
                let nanos = |length: Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
                let newest = trace.events().flatten().map(|event| event.time().0).max();
                let before = end(trace).saturating_sub(newest.unwrap_or_default());
                let (last, before) = (duration(nanos(last)), duration(before));
                format!("no event in the last {last}: the newest is from {before} before the end")
            }
            _ if self.is_outside(trace) => {
                let infos = trace.generations();
                let wall = |at: Option<&GenerationInfo>| at.map_or(0, |info| info.wall.0);
                let (first, last) = (infos.first(), infos.last());
                let length = duration(last.map_or(0, |info| info.duration.0));
                format!(
                    "no event at that time: the snapshot begins at {}, and its last {length} at {}",
                    rfc3339(wall(first)),
                    rfc3339(wall(last)),
                )
            }
            _ => "no event matches all filters at once; drop one of them".to_owned(),
        }
    }

    /// Whether the time that is asked for has no event at all.
    fn is_outside(&self, trace: &Trace) -> bool {
        if [self.since, self.until, self.around].iter().all(Option::is_none) {
            return false;
        }
        let (since, until) = self.times(trace);
        let is_within = |event: &Event| (since..=until).contains(&event.time().0);
        !trace.events().flatten().any(|event| is_within(&event))
    }

    fn filters(&self, trace: &Trace) -> Filters<'_> {
        let (since, until) = self.times(trace);
        Filters {
            threads: &self.thread,
            tasks: &self.task,
            workers: &self.worker,
            spans: &self.span,
            trace_id: self.trace_id.as_deref(),
            level: self.level,
            kinds: &self.kind,
            generations: &self.generation,
            name: self.name.as_deref(),
            target: self.target.as_deref(),
            since,
            until,
        }
    }

    /// From when to when events are asked for.
    fn times(&self, trace: &Trace) -> (u64, u64) {
        let nanos = |length: Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let end = end(trace);
        let asked = [self.since, self.until, self.around].iter().any(Option::is_some);
        // The first event is read only if it is needed.
        let first = if asked { trace.events().flatten().next() } else { None };
        let first = first.map_or(0, |event| event.time().0);
        let resolve = |moment: AskedMoment| moment.resolve(trace, first, end);
        if let Some(around) = self.around.map(resolve) {
            let within = nanos(self.within);
            return (around.saturating_sub(within), around.saturating_add(within));
        }
        let last = self.last.map_or(0, |last| end.saturating_sub(nanos(last)));
        (self.since.map_or(last, resolve), self.until.map_or(u64::MAX, resolve))
    }
}

pub fn parse_level(text: &str) -> Result<Level, String> {
    let all = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];
    let found = all.into_iter().find(|level| level.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "write trace, debug, info, warn or error".to_owned())
}

/// When the snapshot ends.
fn end(trace: &Trace) -> u64 {
    let ends = trace.generations().iter().map(|g| g.start.0.saturating_add(g.duration.0));
    ends.max().unwrap_or_default()
}

/// How many bytes of lines are written at once.
const CHUNK: usize = 64 << 10;
