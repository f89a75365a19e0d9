//! `lookback ps`: lists the recorded processes.

use crate::exit::Verdict;
use crate::format::{bytes, count, counted, duration, escape};
use crate::process;
use crate::terminal::{bad, dim, odd, strong, width};
use anyhow::anyhow;
use clap::Args;
use console::{measure_text_width, truncate_str};
use lookback::read::wire::{ArenaHeader, Metadata, key};
use lookback::{OutsideArena, OutsideError};
use serde_json::json;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// List the recorded processes that this user may inspect.
#[derive(Args, Debug)]
#[command(after_help = "\
`running` is how long the process has been running, `in use` how much of its arena holds events, \
`events/s` how many it recorded a second in its last complete generations, `covers` how far back a \
snapshot would go, `window` how far back it should at least, and `arena` where that is: in memory, or the path of a black box. Only root sees \
other users' processes. A process with several recorders, because a shared object has its own, has a \
line for each.

With --json: one array of objects with `pid`, `recorder` (its number), `name`, `running_ns`, `used_bytes`, `capacity_bytes`, \
`events_per_second` (null if that is not known yet), `covered_ns`, `window_ns`, `black_box` (a path, \
or null), `standstill` (why it does not run, or null); for a process whose arena cannot be understood, \
`pid`, `name` and `error`.

Exit codes: 0 listed, even if there is none; 2 wrong usage.

Examples:
  lookback ps
  lookback ps --json | jq '.[] | select(.events_per_second > 100000) | .pid'")]
pub struct Ps {
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// How many processes without permission are named.
const MOST_CLOSED: usize = 5;

/// A recorded process, or one whose arena cannot be understood.
struct Row {
    pid: u32,
    /// Which recorder, if the process has several.
    recorder: Option<u32>,
    name: String,
    state: Result<State, String>,
}

struct State {
    running: Option<u64>,
    used: u64,
    capacity: u64,
    rate: Option<f64>,
    covered: u64,
    window: u64,
    black_box: Option<PathBuf>,
    standstill: Option<&'static str>,
}

impl Ps {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let mut rows = Vec::new();
        let mut closed = Vec::new();
        for pid in process::all() {
            match OutsideArena::all_of_process(pid) {
                Ok(arenas) => {
                    let arenas = running(arenas);
                    let several = arenas.len() > 1;
                    for (arena, number) in arenas.iter().zip(1..) {
                        rows.extend(Row::of(pid, several.then_some(number), arena));
                    }
                }
                Err(OutsideError::Denied { .. }) => closed.extend(is_ours(pid).then_some(pid)),
                Err(OutsideError::NoProcess(_) | OutsideError::NotRecorded(_)) => {}
                // The process may have ended meanwhile.
                Err(_) if process::Stat::of(pid).is_none_or(|stat| stat.has_ended()) => {}
                Err(error) => rows.push(Row::odd(pid, &error)),
            }
        }
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            let rows: serde_json::Value = rows.iter().map(Row::json).collect();
            writeln!(out, "{rows:#}")?;
        } else {
            print(&rows, &closed, &mut out)?;
        }
        out.flush()?;
        Ok(Verdict::Sound)
    }
}

/// The arenas that are being written to; if there is none, the first of those that were.
pub fn running(mut arenas: Vec<OutsideArena>) -> Vec<OutsideArena> {
    let ended = |arena: &OutsideArena| arena.header().is_ok_and(|header| header.ended);
    match arenas.iter().any(|arena| !ended(arena)) {
        true => arenas.retain(|arena| !ended(arena)),
        false => arenas.truncate(1),
    }
    arenas
}

/// The arena with this number, counted from 1 among those being written to. Without a number there must be
/// exactly one.
pub fn chosen(pid: u32, number: Option<u32>) -> Result<OutsideArena, Choice> {
    let mut arenas = running(OutsideArena::all_of_process(pid).map_err(Choice::Outside)?);
    let at = match number {
        None if arenas.len() > 1 => return Err(Choice::Several(names(pid, &arenas))),
        None => 0,
        Some(number) => (number as usize).wrapping_sub(1),
    };
    if at >= arenas.len() {
        return Err(Choice::NoSuch(names(pid, &arenas)));
    }
    Ok(arenas.swap_remove(at))
}

/// Why no arena could be chosen.
pub enum Choice {
    Outside(OutsideError),
    /// There are several, listed here.
    Several(String),
    /// There are only those listed here.
    NoSuch(String),
}

impl Choice {
    /// As an error that says what to do.
    pub fn explain(self, pid: u32) -> anyhow::Error {
        match self {
            Self::Outside(error) => error.into(),
            Self::Several(which) => {
                anyhow!(
                    "process {pid}: several recorders run in it: {which}; choose one with `--recorder N`"
                )
            }
            Self::NoSuch(which) => {
                anyhow!("process {pid}: no such recorder; there is {which}")
            }
        }
    }
}

/// `1 (shop, memory), 2 (plugin, /dev/shm/plugin.lookback)`.
fn names(pid: u32, arenas: &[OutsideArena]) -> String {
    let names = arenas.iter().zip(1_u32..).map(|(arena, number)| {
        let place = arena.path().map_or_else(|| "memory".into(), |path| path.to_string_lossy());
        format!("{number} ({}, {place})", called(pid, arena))
    });
    names.collect::<Vec<_>>().join(", ")
}

/// The process's name in the recorder.
fn called(pid: u32, arena: &OutsideArena) -> String {
    let header = arena.header().ok();
    let metadata = header.map(|header| Metadata::decode(&header.metadata).unwrap_or_default());
    let name = metadata.and_then(|metadata| metadata.text(key::PROCESS_NAME).map(str::to_owned));
    name.or_else(|| process::command(pid)).unwrap_or_default()
}

/// Whether a process belongs to this user.
fn is_ours(pid: u32) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    process::users(pid).is_some_and(|(real, effective)| real == ours || effective == ours)
}

fn print(rows: &[Row], closed: &[u32], out: &mut impl Write) -> io::Result<()> {
    if rows.is_empty() {
        writeln!(out, "No process that this user may inspect is being recorded.")?;
    } else {
        let header = format!(
            "{:>8}  {:<16}  {:>8}  {:>20}  {:>9}  {:>8}  {:>8}  arena",
            "pid", "name", "running", "in use", "events/s", "covers", "window"
        );
        writeln!(out, "{}", dim().apply_to(header))?;
        for row in rows {
            writeln!(out, "{}", truncate_str(&row.line(), width(), "…"))?;
        }
    }
    if !closed.is_empty() {
        let many = counted(closed.len() as u64, "process");
        let mut which: Vec<_> = closed.iter().take(MOST_CLOSED).map(u32::to_string).collect();
        which.extend((closed.len() > MOST_CLOSED).then(|| "…".to_owned()));
        let line = format!(
            "{many} of this user cannot be looked into: not dumpable, or with capabilities ({})",
            which.join(", ")
        );
        writeln!(out, "{}", dim().apply_to(line))?;
    }
    Ok(())
}

impl Row {
    /// `None` if the process has ended meanwhile.
    fn of(pid: u32, recorder: Option<u32>, arena: &OutsideArena) -> Option<Self> {
        let header = match arena.header() {
            Ok(header) => header,
            Err(_) if process::Stat::of(pid).is_none_or(|stat| stat.has_ended()) => return None,
            Err(error) => return Some(Self::odd(pid, &error)),
        };
        let metadata = Metadata::decode(&header.metadata).unwrap_or_default();
        let name = metadata.text(key::PROCESS_NAME).map(str::to_owned);
        let name = name.or_else(|| process::command(pid)).unwrap_or_default();
        let used = header.head.0.checked_sub(header.tail.0).filter(|used| *used <= header.capacity);
        let Some(used) = used else {
            let what =
                "its arena is damaged: the head and the tail contradict each other".to_owned();
            return Some(Self { pid, recorder, name, state: Err(what) });
        };
        let state = State {
            running: process::age(header.process_start),
            used,
            capacity: header.capacity,
            rate: rate(&header),
            covered: covered(&header),
            window: header.window.0,
            black_box: arena.path().map(ToOwned::to_owned),
            standstill: process::standstill(pid),
        };
        Some(Self { pid, recorder, name, state: Ok(state) })
    }

    fn odd(pid: u32, error: &OutsideError) -> Self {
        let name = process::command(pid).unwrap_or_default();
        Self { pid, recorder: None, name, state: Err(error.to_string()) }
    }

    fn line(&self) -> String {
        let called = escape(&self.name);
        let called = truncate_str(&called, 16, "…");
        let pad = " ".repeat(16_usize.saturating_sub(measure_text_width(&called)));
        let front = format!("{:>8}  {}{pad}", self.pid, strong().apply_to(&called));
        let state = match &self.state {
            Ok(state) => state,
            Err(error) => return format!("{front}  {}", bad().apply_to(escape(error))),
        };
        let running = state.running.map_or("?".to_owned(), long);
        let used = format!("{} of {}", bytes(state.used), bytes(state.capacity));
        let rate = state.rate.map_or("?".to_owned(), |rate| count(rate.round() as u64));
        let (covers, window) = (duration(state.covered), duration(state.window));
        let arena = match &state.black_box {
            Some(path) => escape(&path.to_string_lossy()).into_owned(),
            None => "memory".to_owned(),
        };
        // Before the path, which may be cut.
        let why = state.standstill.map(|why| odd().apply_to(format!("{why}, ")).to_string());
        let which = self.recorder.map(|number| format!("recorder {number}, "));
        let arena = why.unwrap_or_default() + &which.unwrap_or_default() + &arena;
        format!("{front}  {running:>8}  {used:>20}  {rate:>9}  {covers:>8}  {window:>8}  {arena}")
    }

    fn json(&self) -> serde_json::Value {
        match &self.state {
            Ok(state) => json!({
                "pid": self.pid,
                "recorder": self.recorder.unwrap_or(1),
                "name": self.name,
                "running_ns": state.running,
                "used_bytes": state.used,
                "capacity_bytes": state.capacity,
                "events_per_second": state.rate,
                "covered_ns": state.covered,
                "window_ns": state.window,
                "black_box": state.black_box,
                "standstill": state.standstill,
            }),
            Err(error) => json!({ "pid": self.pid, "name": self.name, "error": error }),
        }
    }
}

/// Events a second in the last complete generations.
pub fn rate(header: &ArenaHeader) -> Option<f64> {
    const LAST: u64 = 5;
    let last = header.complete;
    let until = header.entry(last.next()).map(|entry| entry.began.monotonic.0)?;
    let mut events = 0_u64;
    let mut since = until;
    let mut number = last.0;
    while number >= header.oldest.0.max(1) && last.0 - number < LAST {
        let entry = header.entry(lookback::read::wire::Generation(number));
        // An incomplete generation has no count of events.
        let Some(entry) = entry.filter(|entry| entry.is_complete()) else { break };
        events = events.saturating_add(entry.events);
        since = entry.began.monotonic.0;
        number -= 1;
    }
    let nanos = until.checked_sub(since).filter(|nanos| *nanos > 0)?;
    Some(events as f64 * 1e9 / nanos as f64)
}

/// How far back a snapshot would go, in nanoseconds.
pub fn covered(header: &ArenaHeader) -> u64 {
    let oldest = header.entry(header.oldest).or_else(|| header.generations().first().copied());
    oldest.map_or(0, |entry| process::monotonic().saturating_sub(entry.began.monotonic.0))
}

/// `3d 4h`, `12m 5s`: a long duration.
pub fn long(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, length)| seconds >= *length).unwrap_or(3);
    let (unit, length) = units[first];
    let mut text = format!("{}{unit}", seconds / length);
    if let Some((unit, smaller)) = units.get(first + 1).filter(|_| seconds >= 60) {
        text += &format!(" {}{unit}", seconds % length / smaller);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_have_two_units() {
        let second = 1_000_000_000;
        assert_eq!((long(0), long(59 * second)), ("0s".into(), "59s".into()));
        assert_eq!(long(61 * second), "1m 1s");
        assert_eq!(long((3 * 86_400 + 4 * 3_600) * second), "3d 4h");
    }
}
