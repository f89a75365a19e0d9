//! `lookback info`: what is in a snapshot.

use crate::exit::{Damage, Verdict, open};
use crate::format::{
    bar, bytes, count, counted, covered_of, duration, escape, first_line, without_fraction,
};
use crate::losses;
use crate::summary::{fit, left_out, unshared};
use crate::terminal::{bad, dim, good, name, odd, strong, width};
use clap::Args;
use console::truncate_str;
use lookback::read::analysis::{LeftOut, without_statuses};
use lookback::read::wire::{ClockKind, Generation, Metadata, ThreadNumber, Value, key};
use lookback::read::{Event, EventKind, GenerationInfo, Trace};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Show what is in a snapshot: its process, why it was taken, what it covers.
#[derive(Args, Debug)]
#[command(after_help = "\
With --json: one object with `process` {name, pid, …}, `reason`, `covered_ns`, `events`, `lost` \
{cause: count}, `left_out` {what was recorded only in part: count}, `generations` [{number, start_ns, duration_ns, events, \
lost, bytes, complete, …}], \
`threads` [{number, name, os_thread, worker, events}], `kinds` {kind: count}, `damage` [what cannot be \
read], and more about file, host, clock and recorder. `start_ns` is in nanoseconds since the first \
generation of the snapshot began; `bytes` counts the records, before compression.

For a damaged file, the intact generations are shown, stderr names the damage, and the exit code is 1.

Examples:
  lookback info incident.lbk
  lookback info incident.lbk --json | jq '.generations[] | {number, events}'")]
pub struct Info {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

impl Info {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trace = open(&self.file)?;
        let summary = Summary::of(&trace);
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            writeln!(out, "{:#}", summary.json())?;
        } else {
            summary.print_header(&mut out)?;
            summary.print_generations(&mut out)?;
            summary.print_threads(&mut out)?;
        }
        out.flush()?;
        Ok(summary.damage.tell())
    }
}

/// The content of a snapshot.
pub struct Summary<'a> {
    trace: &'a Trace,
    metadata: &'a Metadata,
    generations: &'a [GenerationInfo],
    threads: BTreeMap<ThreadNumber, Thread>,
    kinds: BTreeMap<String, u64>,
    left_out: LeftOut,
    /// When the first generation with a known begin began.
    first_start: Option<u64>,
    pub damage: Damage,
}

/// What one thread recorded.
struct Thread {
    name: String,
    os_thread: u64,
    /// Its last worker.
    worker: Option<String>,
    events: u64,
}

impl<'a> Summary<'a> {
    /// Reads all of it once.
    pub fn of(trace: &'a Trace) -> Self {
        let mut summary = Self {
            trace,
            metadata: trace.metadata(),
            generations: trace.generations(),
            threads: BTreeMap::new(),
            kinds: BTreeMap::new(),
            left_out: LeftOut::default(),
            first_start: trace.generations().iter().map(|g| g.start.0).filter(|s| *s > 0).min(),
            damage: Damage::of(trace),
        };
        summary.left_out.generations(summary.generations);
        if let Some(first) = summary.generations.first()
            && let Ok(first) = trace.generation(first.number)
        {
            summary.left_out.begin(&first);
        }
        let mut events = trace.events();
        while let Some(next) = events.lend() {
            match next {
                Ok(lent) => summary.count(lent.event),
                Err(error) => summary.damage.note(&error),
            }
        }
        for generation in summary.generations {
            if let Some(error) = &generation.damage {
                summary.damage.note(error);
            }
        }
        summary
    }

    fn count(&mut self, event: &Event) {
        self.left_out.event(event);
        match self.kinds.get_mut(event.kind_name()) {
            Some(count) => *count += 1,
            None => drop(self.kinds.insert(event.kind_name().to_owned(), 1)),
        }
        let Some(thread) = event.thread() else { return };
        let entry = self.threads.entry(thread.number).or_insert_with(|| Thread {
            name: String::new(),
            os_thread: thread.os_thread,
            worker: None,
            events: 0,
        });
        entry.events += 1;
        let starts =
            matches!(event.kind(), EventKind::WorkerStart { .. } | EventKind::WorkerVisit { .. });
        if (starts || entry.worker.is_none())
            && let Some(worker) = event.worker()
        {
            let given = event.worker_name().map(str::to_owned);
            entry.worker = Some(given.unwrap_or_else(|| worker.to_string()));
        }
        if entry.name.is_empty() && !thread.name.is_empty() {
            entry.name = thread.name.to_string();
        }
    }

    /// The readable events.
    pub fn events(&self) -> u64 {
        self.generations.iter().map(|generation| generation.events).sum()
    }

    /// The lost events, by cause.
    fn lost(&self) -> BTreeMap<String, u64> {
        losses::by_cause(self.generations)
    }

    /// The time that it covers; in a damaged file, that of the intact generations.
    fn covered(&self) -> u64 {
        let known = self.metadata.number(key::COVERED).filter(|_| self.damage.lines().is_empty());
        known.unwrap_or_else(|| {
            let readable =
                |generation: &&GenerationInfo| generation.damage.is_none() || generation.events > 0;
            self.generations.iter().filter(readable).map(|g| g.duration.0).sum()
        })
    }

    /// The length of the file, if it is a regular one.
    fn file_bytes(&self) -> Option<u64> {
        let metadata = std::fs::metadata(self.trace.file()).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// When a generation began, relative to the first, if known.
    fn start(&self, generation: &GenerationInfo) -> Option<u64> {
        generation.start.0.checked_sub(self.first_start?)
    }

    fn json(&self) -> serde_json::Value {
        let text = |name| self.metadata.text(name);
        let number = |name| self.metadata.number(name);
        let generations = self.generations.iter().map(|generation| {
            json!({
                "number": generation.number.0,
                "start_ns": self.start(generation),
                "duration_ns": generation.duration.0,
                "wall_ns": (generation.wall.0 > 0).then_some(generation.wall.0),
                "events": generation.events,
                "lost": lost(generation),
                "bytes": generation.bytes,
                "complete": generation.complete,
                "blocks": generation.blocks,
                "threads": generation.threads,
                "offset": generation.offset,
                "compressed": generation.compressed,
                "statuses_omitted": generation.omitted,
                "damage": generation.damage.as_ref().map(ToString::to_string),
            })
        });
        let threads = self.threads.iter().map(|(number, thread)| {
            json!({
                "number": number.0,
                "name": thread.name,
                "os_thread": thread.os_thread,
                "worker": thread.worker,
                "events": thread.events,
            })
        });
        let lost_total: Map<_, _> = self
            .metadata
            .iter()
            .filter_map(|(name, value)| match (name.strip_prefix(key::LOST), value) {
                (Some(cause), Value::Unsigned(count)) => Some((cause.to_owned(), json!(count))),
                _ => None,
            })
            .collect();
        json!({
            "file": {
                "path": self.trace.file(),
                "bytes": self.file_bytes(),
                "format_version": self.trace.format_version(),
            },
            "process": {
                "name": text(key::PROCESS_NAME),
                "pid": number(key::PROCESS_PID),
                "executable": text(key::PROCESS_EXECUTABLE),
                "arguments": self.metadata.texts(key::PROCESS_ARGUMENT).collect::<Vec<_>>(),
                "build_id": text(key::PROCESS_BUILD_ID),
            },
            "host": {
                "name": text(key::HOST_NAME),
                "system": text(key::HOST_SYSTEM),
                "boot_id": text(key::BOOT_ID),
            },
            "reason": text(key::REASON),
            "trigger": text(key::TRIGGER),
            "reasons": self.metadata.texts(key::REASON).collect::<Vec<_>>(),
            "trigger_thread": text(key::TRIGGER_THREAD),
            "panic": text(key::PANIC_MESSAGE).map(|message| json!({
                "message": message,
                "location": text(key::PANIC_LOCATION),
                "task": text(key::PANIC_TASK),
                "span": text(key::PANIC_SPAN),
            })),
            "crash": number(key::CRASH_SIGNAL).map(|signal| json!({
                "signal": signal,
                "address": number(key::CRASH_ADDRESS),
                "instruction": number(key::CRASH_INSTRUCTION),
                "thread": number(key::CRASH_THREAD),
                "os_thread": number(key::CRASH_OS_THREAD),
                "thread_name": text(key::CRASH_THREAD_NAME),
                "wall_ns": number(key::CRASH_WALL),
            })),
            "taken": text(key::TAKEN),
            "taken_wall_ns": number(key::TAKEN_WALL),
            "window_ns": number(key::WINDOW),
            "covered_ns": self.covered(),
            "events": self.events(),
            "lost": self.lost(),
            "left_out": left_out(&self.left_out),
            "recorder": {
                "version": text(key::RECORDER),
                "max_bytes": number(key::MAX_BYTES),
                "recorded_total": number(key::RECORDED),
                "lost_total": lost_total,
                "enabled": number(key::ENABLED) != Some(0),
                "filters": self.metadata.texts(key::FILTER).collect::<Vec<_>>(),
                "nameless": number(key::NAMELESS).unwrap_or_default(),
                "unshared_texts": number(key::UNSHARED_TEXTS).unwrap_or_default(),
                "needed_bytes": number(key::NEEDED_BYTES),
            },
            "clock": {
                "kind": text(key::CLOCK),
                "frequency": number(key::CLOCK_FREQUENCY),
                "divisor": text(key::CLOCK).and_then(ClockKind::from_name).map(ClockKind::divisor),
            },
            "generations": generations.collect::<Vec<_>>(),
            "threads": threads.collect::<Vec<_>>(),
            "kinds": self.kinds,
            "damage": self.damage.lines(),
        })
    }

    /// Prints an overview.
    pub fn print_header(&self, out: &mut impl Write) -> io::Result<()> {
        let text = |name| self.metadata.text(name).map(|text| escape(text).into_owned());
        let unknown = || "not known".to_owned();
        let process = text(key::PROCESS_NAME).unwrap_or_else(|| "an unknown process".to_owned());
        let pid = self.metadata.number(key::PROCESS_PID).map(|pid| format!(" (pid {pid})"));
        let size = self.file_bytes().map(|size| format!(", {}", bytes(size)));
        writeln!(
            out,
            "{}  {}",
            strong().apply_to(escape(self.trace.file())),
            dim().apply_to(format!(
                "a snapshot of {process}{}{}",
                pid.unwrap_or_default(),
                size.unwrap_or_default()
            )),
        )?;
        writeln!(out)?;

        let mut row =
            |label: &str, value: &str| writeln!(out, "  {:<9} {value}", dim().apply_to(label));
        let line = |reason: &str| escape(&first_line(reason)).into_owned();
        let reason = self.metadata.text(key::REASON).map_or_else(unknown, line);
        row("reason", &strong().apply_to(reason).to_string())?;
        let reasons: Vec<_> = self.metadata.texts(key::REASON).map(line).collect();
        for more in reasons.iter().skip(1) {
            row("and", more)?;
        }
        if let Some(more) = self.metadata.number(key::MORE_REASONS) {
            row("and", &format!("{} more", count(more)))?;
        }
        // A thread of the recorder reports signals and stalls.
        let told = self.metadata.text(key::TRIGGER);
        let thread = text(key::TRIGGER_THREAD);
        let thread = thread.filter(|_| !matches!(told, Some("signal" | "stalled_poll")));
        if let Some(thread) = thread {
            let mut place = format!("thread {thread}");
            for (what, name) in [("task", key::PANIC_TASK), ("span", key::PANIC_SPAN)] {
                place += &text(name).map_or(String::new(), |name| format!(", {what} {name}"));
            }
            row("on", &place)?;
        }
        let mut taken = text(key::TAKEN).map_or_else(unknown, |taken| without_fraction(&taken));
        if let Some(trigger) = text(key::TRIGGER) {
            taken += &format!(", by {trigger}");
        }
        if let Some(host) = text(key::HOST_NAME) {
            taken += &format!(", on {host}");
        }
        row("taken", &taken)?;
        let mut covered = duration(self.covered());
        if let Some(window) = self.metadata.number(key::WINDOW) {
            covered = covered_of(self.covered(), window);
        }
        covered += &format!(", in {}", counted(self.generations.len() as u64, "generation"));
        row("covered", &covered)?;
        let begin = Generation(self.metadata.number(key::FIRST_GENERATION).unwrap_or(1));
        if let Some(words) = without_statuses(self.generations, begin) {
            row("statuses", &odd().apply_to(words).to_string())?;
        }
        let lost = self.lost();
        let lost = if lost.is_empty() {
            good().apply_to("none lost".to_owned())
        } else {
            let causes = lost.iter().map(|(cause, many)| format!("{cause} {}", count(*many)));
            let all = count(losses::sum(lost.values().copied()));
            bad().apply_to(format!("{all} lost ({})", causes.collect::<Vec<_>>().join(", ")))
        };
        let threads = counted(self.threads.len() as u64, "thread");
        row("events", &format!("{} on {threads}, {lost}", count(self.events())))?;
        if !self.left_out.is_nothing() {
            row("left out", &odd().apply_to(self.left_out.words().join(", ")).to_string())?;
        }
        let mut recorder = format!("lookback {}", text(key::RECORDER).unwrap_or_else(unknown));
        if let Some(clock) = text(key::CLOCK) {
            recorder += &format!(", clock {clock}");
        }
        if let Some(frequency) = self.metadata.number(key::CLOCK_FREQUENCY) {
            // The counter's own frequency: the recorder drops its lowest bits.
            let kind = self.metadata.text(key::CLOCK).and_then(ClockKind::from_name);
            let frequency = frequency.saturating_mul(kind.map_or(1, ClockKind::divisor));
            recorder += &format!(" at {} MHz", count(frequency / 1_000_000));
        }
        if let Some(bound) = self.metadata.number(key::MAX_BYTES) {
            recorder += &format!(", at most {}", bytes(bound));
        }
        row("recorder", &recorder)?;
        let filters: Vec<_> = self.metadata.texts(key::FILTER).map(escape).collect();
        if !filters.is_empty() {
            row("filter", &filters.join("; "))?;
        }
        if let Some(many) = self.metadata.number(key::NAMELESS) {
            let what = format!("{}: there was no place for more", counted(many, "callsite"));
            row("nameless", &odd().apply_to(what).to_string())?;
        }
        if let Some(many) = self.metadata.number(key::UNSHARED_TEXTS) {
            row("texts", &unshared(many))?;
        }
        if self.metadata.number(key::ENABLED) == Some(0) {
            row("recording", &bad().apply_to("was turned off").to_string())?;
        }
        let arguments: Vec<_> = self.metadata.texts(key::PROCESS_ARGUMENT).map(escape).collect();
        if !arguments.is_empty() {
            let room = width().saturating_sub(12);
            row("command", &truncate_str(&arguments.join(" "), room, "…"))?;
        }
        if !self.damage.lines().is_empty() {
            let found = counted(self.damage.lines().len() as u64, "place");
            row("damage", &bad().apply_to(format!("in {found}, see below")).to_string())?;
        }
        Ok(())
    }

    /// Prints the generations, with bars for their events.
    pub fn print_generations(&self, out: &mut impl Write) -> io::Result<()> {
        if self.generations.is_empty() {
            return Ok(());
        }
        let header = format!(
            "  {:>10} {:>10} {:>9} {:>11} {:>7} {:>9}",
            "generation", "begins", "lasts", "events", "lost", "records"
        );
        writeln!(out, "\n{}", dim().apply_to(&header))?;
        let earlier = self.generations.len().saturating_sub(MOST_ROWS);
        if earlier > 0 {
            let events: u64 = self.generations[..earlier].iter().map(|g| g.events).sum();
            let line = format!("{} before, with {} events", count(earlier as u64), count(events));
            writeln!(out, "  {}", dim().apply_to(line))?;
        }
        let most = self.generations.iter().map(|g| g.events).max().unwrap_or_default();
        let room = width().saturating_sub(header.len() + 2).min(40);
        for generation in &self.generations[earlier..] {
            let begins = self
                .start(generation)
                .map_or("?".to_owned(), |start| format!("{:.3} s", start as f64 / 1e9));
            let lost = lost(generation);
            write!(
                out,
                "  {:>10} {begins:>10} {:>9} {:>11} {} {:>9}  ",
                generation.number.0,
                duration(generation.duration.0),
                count(generation.events),
                if lost > 0 { bad() } else { dim() }.apply_to(format!("{:>7}", count(lost))),
                bytes(generation.bytes),
            )?;
            let bar = bar(generation.events as f64 / most.max(1) as f64, room);
            write!(out, "{}", name().apply_to(&bar))?;
            let space = if bar.is_empty() { "" } else { " " };
            match (&generation.damage, generation.complete) {
                (Some(_), _) => writeln!(out, "{space}{}", bad().apply_to("damaged"))?,
                (None, false) => writeln!(out, "{space}{}", odd().apply_to("incomplete"))?,
                (None, true) => writeln!(out)?,
            }
        }
        Ok(())
    }

    /// Prints the threads, with bars for their events.
    fn print_threads(&self, out: &mut impl Write) -> io::Result<()> {
        if self.threads.is_empty() {
            return Ok(());
        }
        let header = format!(
            "  {:>10} {:<20} {:<9} {:>9} {:>11}",
            "thread", "name", "worker", "os thread", "events"
        );
        writeln!(out, "\n{}", dim().apply_to(&header))?;
        let most = self.threads.values().map(|thread| thread.events).max().unwrap_or_default();
        let room = width().saturating_sub(header.len() + 2).min(40);
        // If there are too many, the busiest.
        let mut shown: Vec<_> = self.threads.iter().collect();
        shown.sort_by_key(|(_, thread)| std::cmp::Reverse(thread.events));
        let hidden: u64 = shown.drain(shown.len().min(MOST_ROWS)..).map(|(_, t)| t.events).sum();
        shown.sort_by_key(|(number, _)| **number);
        for (number, thread) in &shown {
            writeln!(
                out,
                "  {:>10} {} {} {:>9} {:>11}  {}",
                number.0,
                strong().apply_to(fit(&thread.name, 20)),
                fit(thread.worker.as_deref().unwrap_or_default(), 9),
                thread.os_thread,
                count(thread.events),
                name().apply_to(bar(thread.events as f64 / most.max(1) as f64, room)),
            )?;
        }
        if hidden > 0 {
            let more = count((self.threads.len() - shown.len()) as u64);
            let line = format!("{more} more, with {} events; see --json", count(hidden));
            writeln!(out, "  {}", dim().apply_to(line))?;
        }
        Ok(())
    }
}

/// How many generations or threads are shown one by one.
const MOST_ROWS: usize = 40;

fn lost(generation: &GenerationInfo) -> u64 {
    losses::sum(generation.lost.iter().map(|lost| lost.count))
}
