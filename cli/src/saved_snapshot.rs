//! Saves a snapshot that a command has made, and prints what is in it.

use crate::exit::Damage;
use crate::format::{bytes, count, counted, covered_of, duration, escape, shell_word};
use crate::frames;
use crate::last_events::{LastEvents, amount};
use crate::losses;
use crate::output::{Output, write_new};
use crate::terminal::{bad, dim, good, name, odd, strong};
use anyhow::anyhow;
use clap::Args;
use lookback::command::stem_from_outside;
use lookback::read::Trace;
use lookback::read::wire::{ArenaHeader, CrashNote, Metadata, key};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The options of every command that saves a snapshot.
#[derive(Args, Debug)]
pub struct Saving {
    /// Where to write the snapshot; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How many events of each thread to show
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub last: u16,
    /// Print one JSON value
    #[arg(long)]
    pub json: bool,
}

/// Where to save it.
pub enum To<'a> {
    /// Where the user says, even over an existing file.
    Named(Output<'a>),
    /// A new file of this name in this directory.
    New(&'a Path, String),
}

/// A snapshot that was saved.
pub struct Saved {
    /// Its file; `None` if it went to standard output.
    pub path: Option<PathBuf>,
    bytes: u64,
    pub trace: Trace,
    pub last: LastEvents,
    pub damage: Damage,
}

impl Saved {
    /// Saves it, and reads it back.
    pub fn save(snapshot: Vec<u8>, to: &To<'_>, last: usize) -> anyhow::Result<Self> {
        let path = match to {
            To::Named(output) => {
                output.write(|out| out.write_all(&snapshot))?;
                (!output.is_stdout()).then(|| output.path().to_owned())
            }
            To::New(directory, stem) => Some(write_new(directory, stem, &snapshot)?),
        };
        let bytes = snapshot.len() as u64;
        let trace = Trace::from_bytes(snapshot)
            .map_err(|error| anyhow!("the saved snapshot cannot be read back: {error}; this is a bug of lookback, please report it"))?;
        let mut damage = Damage::of(&trace);
        let last = LastEvents::of(&trace, last, &mut damage);
        trace.generations().iter().flat_map(|g| &g.damage).for_each(|error| damage.note(error));
        Ok(Self { path, bytes, trace, last, damage })
    }

    /// Events in it.
    pub fn events(&self) -> u64 {
        self.trace.generations().iter().map(|generation| generation.events).sum()
    }

    fn lost(&self) -> BTreeMap<String, u64> {
        losses::by_cause(self.trace.generations())
    }

    /// How far back it goes, in nanoseconds.
    pub fn covered(&self) -> u64 {
        self.trace.metadata().number(key::COVERED).unwrap_or_default()
    }

    /// Prints for people: what was done, how the process ended, the content, and the last events of each
    /// thread.
    pub fn print(
        &self,
        done: &str,
        ended: &[(&str, String)],
        crash: Option<&CrashNote>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut out = out;
        let file = match &self.path {
            Some(path) => path.display().to_string(),
            None => "the standard output".to_owned(),
        };
        let about = format!("{done}, {}", bytes(self.bytes));
        let (file, about) = (escape(&file), escape(&about));
        writeln!(out, "{}  {}\n", strong().apply_to(file), dim().apply_to(about))?;
        let mut row =
            |label: &str, value: String| writeln!(out, "  {:<9} {value}", dim().apply_to(label));
        let metadata = self.trace.metadata();
        row("process", escape(&whose(metadata)).into_owned())?;
        for (label, value) in ended {
            row(label, strong().apply_to(escape(value)).to_string())?;
        }
        if crash.is_some() {
            let stack = frames::of_crash(&self.trace);
            let mut symbolizer = frames::symbolizer(&self.trace, &[]);
            for (at, line) in frames::in_short(&stack, symbolizer.as_mut()).iter().enumerate() {
                row(if at == 0 { "stack" } else { "" }, escape(line).into_owned())?;
            }
        }
        let generations = self.trace.generations();
        let mut covered = duration(self.covered());
        if let Some(window) = metadata.number(key::WINDOW) {
            covered = covered_of(self.covered(), window);
        }
        covered += &format!(", in {}", counted(generations.len() as u64, "generation"));
        let incomplete: Vec<_> =
            generations.iter().filter(|g| !g.complete).map(|g| g.number.to_string()).collect();
        if !incomplete.is_empty() {
            let plural = if incomplete.len() == 1 { "number" } else { "numbers" };
            let which =
                format!(", {} incomplete ({plural} {})", incomplete.len(), incomplete.join(", "));
            covered += &odd().apply_to(which).to_string();
        }
        row("covered", covered)?;
        let lost = self.lost();
        let lost = if lost.is_empty() {
            good().apply_to("none lost".to_owned())
        } else {
            let causes = lost.iter().map(|(cause, many)| format!("{cause} {}", count(*many)));
            let causes = causes.collect::<Vec<_>>().join(", ");
            bad()
                .apply_to(format!("{} lost ({causes})", count(losses::sum(lost.values().copied()))))
        };
        row("events", format!("{}, {lost}", amount(self.events(), self.last.threads())))?;
        self.last.print(crash.map(|crash| crash.os_thread), &mut out)?;
        if let Some(path) = &self.path {
            let command = if generations.is_empty() && self.trace.process_stacks().is_some() {
                "stacks"
            } else {
                "summary"
            };
            let line = format!("lookback {command} {}", shell_word(path));
            writeln!(out, "\nTo look at it:  {}", name().apply_to(escape(&line)))?;
        }
        Ok(())
    }

    /// For programs: the keys common to every command that saves.
    pub fn json(&self) -> Map<String, Value> {
        let metadata = self.trace.metadata();
        let generations = self.trace.generations().iter().map(|generation| {
            json!({
                "number": generation.number.0,
                "events": generation.events,
                "complete": generation.complete,
            })
        });
        let value = json!({
            "file": self.path.as_ref().map(|path| path.display().to_string()),
            "bytes": self.bytes,
            "process": {
                "name": metadata.text(key::PROCESS_NAME),
                "pid": metadata.number(key::PROCESS_PID),
            },
            "reason": metadata.text(key::REASON),
            "covered_ns": self.covered(),
            "window_ns": metadata.number(key::WINDOW),
            "events": self.events(),
            "lost": self.lost(),
            "generations": generations.collect::<Vec<_>>(),
            "last_events": self.last.json(),
        });
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// `shop (pid 17)`.
pub fn whose(metadata: &Metadata) -> String {
    let process = metadata.text(key::PROCESS_NAME).unwrap_or("an unknown process");
    let pid = metadata.number(key::PROCESS_PID).map(|pid| format!(" (pid {pid})"));
    format!("{process}{}", pid.unwrap_or_default())
}

/// The default name of a snapshot, like those of the recorder: the process and the time.
pub fn name_for(header: Option<&ArenaHeader>, pid: u32) -> String {
    stem_from_outside(&name_of(header), pid)
}

/// The process's name, for a file's name.
pub fn name_of(header: Option<&ArenaHeader>) -> String {
    let metadata = header.and_then(|header| Metadata::decode(&header.metadata).ok());
    let name = metadata.as_ref().and_then(|metadata| metadata.text(key::PROCESS_NAME));
    name.unwrap_or("unknown").to_owned()
}

/// A note of a crash, for programs, with the stack in the snapshot.
pub fn crash_json(crash: Option<&CrashNote>, trace: &Trace) -> Value {
    crash.map_or(Value::Null, |crash| {
        let stack = frames::of_crash(trace);
        json!({
            "signal": crash.signal,
            "signal_name": crash.signal_name(),
            "address": crash.address,
            "instruction": crash.instruction,
            "thread": crash.thread.0,
            "os_thread": crash.os_thread,
            "thread_name": crash.thread_name,
            "sender": crash.sender,
            "panicked": crash.panicked,
            "survived": crash.survived,
            "words": crash.in_words(),
            "stack": frames::json(&stack, frames::symbolizer(trace, &[]).as_mut()),
        })
    })
}
