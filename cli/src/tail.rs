//! `lookback tail`: the events of a running process, as they are recorded.
//!
//! Each generation is read once, from outside, as soon as it is complete. It can be read without the others, so it is
//! explained as a snapshot of its own, and no more than one is in memory. Where generations were overwritten before they
//! could be read, or the recorder has lost events, there is a line that says how many.

use crate::events::{parse_level, recorded_kinds};
use crate::exit::{Verdict, complain};
use crate::format::{counted, escape, parse_duration};
use crate::process::{self, is_alive};
use crate::ps::chosen;
use crate::terminal::odd;
use crate::wall_clock::{WallClock, When};
use crate::wanted::{Filters, Wanted};
use crate::{event_json, event_line};
use anyhow::Context;
use clap::Args;
use lookback::read::file::FileWriter;
use lookback::read::{EventKind, GenerationInfo, Lent, Level, Trace};
use lookback::{Follower, OutsideError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often to look whether a generation is complete.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How little a generation is compressed, which is read again at once.
const LEVEL: i32 = -7;

/// Follow a running process: print its events as they are recorded.
#[derive(Args, Debug)]
#[command(after_help = "\
The process need not cooperate, and is not slowed down. Events appear when their generation is complete: after a second with the \
default settings. They come in order within a generation. If generations were overwritten before they could be read, or the \
recorder has lost events, a line says how many; with --json that is an object with `gap` {generations, events, cause}.

Lines are those of `lookback events --wall`: times are by the clock on the wall, in UTC, as `--around` of that command takes \
them. Stacks are not shown: `lookback snapshot` has them. It ends with the process, after --for or --limit, or with Ctrl-C.

Exit codes: 0 it has ended; 1 it cannot be read; 2 wrong usage.

Examples:
  lookback tail 4711
  lookback tail \"$(pidof my-service)\" --kind log --level warn
  lookback tail 4711 --json --for 10s | jq 'select(.fields.status == 503)'")]
pub struct Tail {
    /// The process
    #[arg(value_name = "PID", value_parser = process::parse_pid)]
    pid: u32,
    /// Which recorder, if the process has several; `lookback ps` numbers them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    recorder: Option<u32>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Begin with all that the process still has in memory
    #[arg(long)]
    all: bool,
    /// Only of this thread, by name, number or worker; may be repeated
    #[arg(long, value_name = "NAME|NUMBER|WORKER")]
    thread: Vec<String>,
    /// Only of this task (7, 7.2), or recorded while it was polled; may be repeated
    #[arg(long, value_name = "ID")]
    task: Vec<String>,
    /// Only of this worker, by number (r0/w1) or name; may be repeated
    #[arg(long, value_name = "WORKER")]
    worker: Vec<String>,
    /// Only of this kind; may be repeated
    #[arg(long, value_name = "KIND", value_parser = recorded_kinds())]
    kind: Vec<String>,
    /// Only with this in their name; `*` matches any text, `?` any character
    #[arg(long, value_name = "PATTERN")]
    name: Option<String>,
    /// Only of this span (7, 7.2, or all of a name, with `*` and `?`) and of those inside of it, or recorded in them; may be
    /// repeated
    #[arg(long, value_name = "ID|NAME")]
    span: Vec<String>,
    /// Only spans and logs of this target; `*` matches any text, `?` any character
    #[arg(long, value_name = "PATTERN")]
    target: Option<String>,
    /// Only where this text stands in the line, which is the one for people
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Only logs that are at least this important
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    level: Option<Level>,
    /// End after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    length: Option<Duration>,
    /// End after this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

impl Tail {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let arena = chosen(self.pid, self.recorder).map_err(|error| error.explain(self.pid))?;
        let start = arena.header()?.process_start;
        if let Some(why) = process::standstill(self.pid) {
            complain(&format!("process {}: {why}, so nothing new is recorded", self.pid));
        }
        let ends = self.length.map(|length| Instant::now() + length);
        let mut follower = arena.follow();
        let mut lines = Lines {
            asked: &self,
            out: io::BufWriter::with_capacity(64 << 10, io::stdout().lock()),
            first: None,
            since: if self.all { 0 } else { process::monotonic() },
            left: self.limit.unwrap_or(u64::MAX),
            next: None,
        };
        loop {
            // Checked first: everything recorded before is printed.
            let is_alive = is_alive(self.pid, start);
            let is_over = follower.arena().header().is_ok_and(|header| header.ended);
            let is_time = ends.is_some_and(|ends| Instant::now() >= ends);
            match turn(&mut follower, &mut lines) {
                Err(Stopped::Closed) => return Ok(Verdict::Sound),
                Err(Stopped::Failed(error)) => return Err(error),
                Ok(()) => {}
            }
            if is_over || !is_alive {
                complain(&format!("process {}: {}", self.pid, how_it_ended(is_over)));
                return Ok(Verdict::Sound);
            }
            if is_time || lines.left == 0 || !is_read() {
                return Ok(Verdict::Sound);
            }
        }
    }
}

fn how_it_ended(in_order: bool) -> &'static str {
    match in_order {
        true => "it records no more",
        false => {
            "it has ended without an end of its recording, so its newest events, of a second at most, are not here; \
             `lookback run` and a black box keep them"
        }
    }
}

/// Waits a moment; `false` once nobody reads the output any more.
fn is_read() -> bool {
    let out = io::stdout();
    let mut fds = [PollFd::from_borrowed_fd(out.as_fd(), PollFlags::empty())];
    // Nothing is asked for, so only an error ends the wait: a pipe whose other end is closed.
    let changed = poll(&mut fds, Some(&INTERVAL)).unwrap_or(0);
    changed == 0 || !fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Why no more can be printed.
enum Stopped {
    /// The reader of the lines has ended.
    Closed,
    Failed(anyhow::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(error.into()),
        }
    }
}

/// Prints what has been completed since the last turn.
fn turn(follower: &mut Follower, lines: &mut Lines<'_>) -> Result<(), Stopped> {
    let mut stopped = None;
    let read = follower.read("followed", "outside", |metadata, generation| {
        let mut writer = FileWriter::with_level(Vec::new(), metadata, LEVEL)?;
        writer.generation(generation)?;
        let snapshot = writer.finish()?;
        let printed = lines.tell_missed(generation.number.0).and_then(|()| lines.print(snapshot));
        printed.map_err(|error| {
            stopped = Some(error);
            io::ErrorKind::Interrupted.into()
        })
    });
    if let Some(stopped) = stopped {
        return Err(stopped);
    }
    failed(read)?;
    lines.out.flush()?;
    Ok(())
}

fn failed(read: Result<u64, OutsideError>) -> Result<(), Stopped> {
    read.map(drop).map_err(|error| Stopped::Failed(error.into()))
}

struct Lines<'a> {
    asked: &'a Tail,
    out: io::BufWriter<io::StdoutLock<'static>>,
    /// The time of the first event.
    first: Option<u64>,
    /// Events before this are not wanted, in nanoseconds of the monotonic clock.
    since: u64,
    /// How many more events are wanted.
    left: u64,
    /// The number of the generation that comes next.
    next: Option<u64>,
}

impl Lines<'_> {
    /// Prints the events of a snapshot of one generation.
    fn print(&mut self, snapshot: Vec<u8>) -> Result<(), Stopped> {
        let trace = Trace::from_bytes(snapshot)
            .with_context(|| format!("process {}: a generation is damaged", self.asked.pid))
            .map_err(Stopped::Failed)?;
        let mut wanted = Wanted::new(&self.asked.filters(self.since), &trace);
        let wall = WallClock::of(&trace);
        let mut line = Vec::new();
        let mut events = trace.events();
        while let Some(next) = events.lend() {
            let Lent { event, state, .. } = match next {
                Ok(lent) => lent,
                Err(error) => {
                    complain(&format!("process {}: {error}", self.asked.pid));
                    continue;
                }
            };
            let time = event.time().0;
            if self.left == 0 || time < self.since {
                continue;
            }
            let first = *self.first.get_or_insert(time);
            if !wanted.includes(event) {
                continue;
            }
            let when = When { since: time.saturating_sub(first), wall: wall.at(event) };
            let begins = matches!(event.kind(), EventKind::RegionBegin { .. });
            let depth = state.depth().saturating_sub(usize::from(begins));
            let grep = self.asked.grep.as_ref();
            if grep.is_some_and(|text| !event_line::has(text, event, when, depth)) {
                continue;
            }
            self.left -= 1;
            line.clear();
            if self.asked.json {
                event_json::print(event, when, None, &mut line)?;
            } else {
                event_line::print(event, when, depth, None, &mut line)?;
            }
            self.out.write_all(&line)?;
        }
        if trace.generations().iter().all(|generation| end_of(generation) < self.since) {
            return Ok(());
        }
        let lost = trace.generations().iter().flat_map(|generation| &generation.lost);
        for lost in lost.filter(|lost| lost.count > 0) {
            let gap = json!({ "gap": { "events": lost.count, "cause": lost.name() } });
            let words = format!("{} lost: {}", counted(lost.count, "event"), escape(&lost.name()));
            self.gap(&gap, &words)?;
        }
        Ok(())
    }

    /// Says how many generations before this one were overwritten before they could be read.
    fn tell_missed(&mut self, generation: u64) -> Result<(), Stopped> {
        let expected = self.next.replace(generation.saturating_add(1)).unwrap_or(generation);
        let missed = generation.saturating_sub(expected);
        if missed == 0 {
            return Ok(());
        }
        let gap = json!({ "gap": { "generations": missed, "cause": "overwritten" } });
        let many = counted(missed, "generation");
        self.gap(&gap, &format!("{many} overwritten before they could be read"))
    }

    fn gap(&mut self, json: &serde_json::Value, words: &str) -> Result<(), Stopped> {
        match self.asked.json {
            true => writeln!(self.out, "{json}")?,
            false => writeln!(self.out, "{}", odd().apply_to(format_args!("-- {words}")))?,
        }
        Ok(())
    }
}

fn end_of(generation: &GenerationInfo) -> u64 {
    generation.start.0.saturating_add(generation.duration.0)
}

impl Tail {
    fn filters(&self, since: u64) -> Filters<'_> {
        Filters {
            threads: &self.thread,
            tasks: &self.task,
            workers: &self.worker,
            spans: &self.span,
            level: self.level,
            kinds: &self.kind,
            name: self.name.as_deref(),
            target: self.target.as_deref(),
            since,
            ..Filters::default()
        }
    }
}
