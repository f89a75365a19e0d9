//! `lookback doctor`: says whether a process is recorded, what is missing, and what helps.

mod diagnose;
mod health;
mod instrumentation;
mod locks;
mod stacks;
#[cfg(test)]
mod states;
mod storage;

use crate::arena_file::{ArenaFile, Owner, is_arena};
use crate::exit::{Verdict, open};
use crate::format::escape;
use crate::process::parse_pid;
use crate::ps::{Choice, chosen, running};
use crate::terminal::{bad, dim, good, odd, strong, width};
use anyhow::anyhow;
use clap::Args;
use console::Style;
use lookback::read::Trace;
use lookback::read::recover::recover;
use lookback::{OutsideArena, OutsideError};
use serde_json::json;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Diagnose a recording: is the process recorded, what is missing, what helps.
#[derive(Args, Debug)]
#[command(after_help = "\
Checks a process, a black box or a snapshot: is it recording; is anything instrumented; what is lost and \
why; how much of the window is covered; where the arena is and what that costs; how stacks are unwound and what names \
they get; whether CPU samples are taken that were asked for. Each finding is ok, a \
warning or a problem, with advice; or unknown, if there is too little evidence.

A number is a process; write ./4711 for a file of that name.

With --json: one object with `target`, `healthy` and `findings` [{check, level: \"ok\" | \"unknown\" | \
\"warning\" | \"problem\", what, advice (or null)}].

Exit codes: 0 no problem; 1 a problem, or nothing can be read; 2 wrong usage.

Examples:
  lookback doctor 4711
  lookback doctor /dev/shm/my-service.lookback
  lookback doctor incident.lbk --json | jq -r '.findings[] | select(.level != \"ok\") | .what'")]
pub struct Doctor {
    /// A process, a black box, or a snapshot
    #[arg(value_name = "PID|FILE")]
    target: String,
    /// Which recorder, if the process has several; `lookback ps` numbers them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    recorder: Option<u32>,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    /// There is too little evidence.
    Unknown,
    Warning,
    Problem,
}

/// A finding.
struct Finding {
    check: &'static str,
    level: Level,
    what: String,
    advice: Option<String>,
}

/// The findings so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Ok, what: what.into(), advice: None });
    }

    /// It is well, and could be better.
    fn hint(&mut self, check: &'static str, what: impl Into<String>, advice: impl Into<String>) {
        let (level, advice) = (Level::Ok, Some(advice.into()));
        self.0.push(Finding { check, level, what: what.into(), advice });
    }

    fn unknown(&mut self, check: &'static str, what: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Unknown, what: what.into(), advice: None });
    }

    fn warning(&mut self, check: &'static str, what: impl Into<String>, advice: impl Into<String>) {
        let (level, advice) = (Level::Warning, Some(advice.into()));
        self.0.push(Finding { check, level, what: what.into(), advice });
    }

    fn problem(&mut self, check: &'static str, what: impl Into<String>, advice: impl Into<String>) {
        let (level, advice) = (Level::Problem, Some(advice.into()));
        self.0.push(Finding { check, level, what: what.into(), advice });
    }

    fn has_problem(&self) -> bool {
        self.0.iter().any(|finding| finding.level == Level::Problem)
    }
}

impl Doctor {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let mut findings = Findings::default();
        match parse_pid(&self.target) {
            Ok(pid) => process(pid, self.recorder, &mut findings)?,
            Err(_) => file(Path::new(&self.target), &mut findings)?,
        }
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            let rows = findings.0.iter().map(|finding| {
                json!({
                    "check": finding.check,
                    "level": finding.level.name(),
                    "what": finding.what,
                    "advice": finding.advice,
                })
            });
            let json = json!({
                "target": self.target,
                "healthy": !findings.has_problem(),
                "findings": rows.collect::<Vec<_>>(),
            });
            writeln!(out, "{json:#}")?;
        } else {
            findings.0.iter().try_for_each(|finding| finding.print(&mut out))?;
        }
        out.flush()?;
        Ok(if findings.has_problem() { Verdict::Bad } else { Verdict::Sound })
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => good(),
            Self::Unknown => dim(),
            Self::Warning => odd(),
            Self::Problem => bad(),
        }
    }
}

impl Finding {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let level = self.level.style().apply_to(format!("{:<8}", self.level.name()));
        let wrap = |text: &str| crate::summary::wrap(&escape(text), width().saturating_sub(22));
        for (at, line) in wrap(&self.what).iter().enumerate() {
            match at {
                0 => writeln!(out, "{level}  {:<10}  {line}", strong().apply_to(self.check))?,
                _ => writeln!(out, "{:20}  {line}", "")?,
            }
        }
        for line in self.advice.iter().flat_map(|advice| wrap(advice)) {
            writeln!(out, "{:20}  {}", "", dim().apply_to(line))?;
        }
        Ok(())
    }
}

/// A process.
fn process(pid: u32, number: Option<u32>, findings: &mut Findings) -> anyhow::Result<()> {
    match chosen(pid, number) {
        Ok(arena) => recorder(pid, &arena, findings),
        Err(Choice::Outside(error)) if !matches!(error, OutsideError::NoProcess(_)) => {
            diagnose::explain(pid, &error, findings);
            Ok(())
        }
        // Check each of them.
        Err(Choice::Several(which)) => {
            let what = format!(
                "several recorders run in the process: {which}; the findings of each follow"
            );
            findings.ok("recorders", what);
            for (arena, number) in running(OutsideArena::all_of_process(pid)?).iter().zip(1..) {
                findings.ok("recorder", format!("number {number}"));
                recorder(pid, arena, findings)?;
            }
            Ok(())
        }
        Err(error) => Err(error.explain(pid)),
    }
}

/// One recorder of a process.
fn recorder(pid: u32, arena: &OutsideArena, findings: &mut Findings) -> anyhow::Result<()> {
    let header = arena.header()?;
    health::look(pid, &header, findings);
    storage::look(pid, arena, findings);
    match arena.snapshot("looked at by lookback doctor", "doctor") {
        Ok(snapshot) => {
            let mut bytes = Vec::new();
            snapshot.write_to(&mut bytes)?;
            let trace = reread(bytes)?;
            instrumentation::look(&trace, findings);
            stacks::look_at_process(pid, &trace, findings);
        }
        Err(error) => findings.problem("snapshot", error.to_string(), "try again"),
    }
    Ok(())
}

/// A black box or a snapshot.
fn file(path: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    if !path.try_exists().unwrap_or(true) {
        return Err(anyhow!(
            "{}: no such file, and not a process ID; `lookback ps` lists the recorded processes",
            path.display()
        ));
    }
    if !is_arena(path) {
        let trace = open(path)?;
        instrumentation::look(&trace, findings);
        stacks::look_at_snapshot(&trace, findings);
        return Ok(());
    }
    let file = ArenaFile::open(path)?;
    let header = file.header();
    match header.as_ref().map(|header| (header, file.owner(header))) {
        Some((header, Owner::Alive(pid))) if process_seen(pid) => {
            findings.ok("state", format!("process {pid} records into it"));
            health::look(pid, header, findings);
        }
        Some((_, Owner::Alive(pid))) => {
            findings.ok("state", format!("process {pid} of another namespace records into it"));
        }
        Some((header, Owner::Gone)) if header.ended => {
            findings.ok("state", "its recording was ended in order");
        }
        Some((_, Owner::Gone)) => findings.ok("state", "its process is gone"),
        None => findings.problem(
            "state",
            "its header is damaged",
            "`lookback recover` saves what is whole",
        ),
    }
    storage::look_at(file.file_system(), path, findings);
    let bytes = file.read()?;
    let mut recovered = recover(&bytes).map_err(|error| anyhow!("{}: {error}", file.name))?;
    if header.is_some_and(|header| file.owner(&header) == Owner::Gone) {
        findings.ok("end", recovered.reason());
        for what in recovered.damage() {
            findings.problem("damage", what.as_str(), "`lookback recover` saves what is whole");
        }
    }
    let mut snapshot = Vec::new();
    recovered.write_to(&mut snapshot, "looked at by lookback doctor", "doctor")?;
    let trace = reread(snapshot)?;
    instrumentation::look(&trace, findings);
    stacks::look_at_snapshot(&trace, findings);
    Ok(())
}

fn process_seen(pid: u32) -> bool {
    crate::process::Stat::of(pid).is_some()
}

fn reread(snapshot: Vec<u8>) -> anyhow::Result<Trace> {
    Trace::from_bytes(snapshot).map_err(|error| {
        anyhow!(
            "the copied arena cannot be read: {error}; this is a bug of lookback, please report it"
        )
    })
}
