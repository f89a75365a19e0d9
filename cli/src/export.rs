//! `lookback export`: a snapshot for other tools.

use crate::outcome::{Damage, Verdict, open};
use crate::output::Output;
use crate::terminal::{dim, name, odd, strong};
use crate::text::{bytes, count, counted, escape, shell_word};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use lookback::read::Trace;
use lookback::read::export::go::{self, Count, Report};
use serde_json::{Map, json};
use std::io::{self, Write};
use std::path::PathBuf;

/// Write a snapshot in the format of another tool.
#[derive(Args, Debug)]
#[command(after_help = "\
Formats:
  go    an execution trace of Go 1.26, for `go tool trace`: threads, workers as processors, tasks as
        goroutines, spans as user tasks, regions, logs

A file that is there is replaced once the new one is whole; `-o -` is the standard output.

With --json: one object with `file`, `format`, `out`, `bytes`, `events` (of the snapshot), \
`written` {kind: {all, synthetic}}, `late_ends` (regions that stand longer than they were), \
`left_out` {reason: how many}, and `damage` [what cannot be read]. Synthetic events stand for none of the snapshot; other events needed them.

Examples:
  lookback export incident.lbk --format go -o trace.out
  go tool trace trace.out")]
pub struct Export {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// For which tool
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Format,
    /// The file to write, or `-`
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON value about it
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    // An execution trace of Go.
    Go,
}

impl Export {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trace = open(&self.file)?;
        let output = Output::new(&self.out, &self.file)?;
        if self.json && output.is_stdout() {
            let wrong = "with --json the standard output is taken: name a file for -o\n";
            let error = clap::Error::raw(ErrorKind::ArgumentConflict, wrong);
            error.with_cmd(&crate::CommandLine::command()).exit();
        }
        let Format::Go = self.format;
        let progress = Progress::new(&trace);
        let report = output
            .write(|out| go::export_with(&trace, out, |through, of| progress.show(through, of)))?;
        progress.0.finish_and_clear();
        let mut damage = Damage::of(&trace);
        report.damage.iter().for_each(|error| damage.note(error));
        if self.json {
            writeln!(io::stdout(), "{:#}", self.json(&trace, &report, &damage))?;
        } else if !output.is_stdout() {
            self.print(&report, &mut io::stdout().lock())?;
        }
        Ok(damage.tell())
    }

    /// For people.
    fn print(&self, report: &Report, out: &mut impl Write) -> io::Result<()> {
        let path = self.out.display().to_string();
        writeln!(
            out,
            "{}: {} of the snapshot, {}",
            strong().apply_to(escape(&path)),
            counted(report.events, "event"),
            bytes(report.bytes),
        )?;
        for (label, kinds) in [
            ("tasks", &["creations", "starts", "blocks", "yields", "unblocks", "destroys"][..]),
            ("workers", &["processor_starts", "processor_stops"]),
            ("spans", &["tasks_begun", "tasks_ended"]),
            ("regions", &["regions_begun", "regions_ended"]),
            ("logs", &["logs"]),
        ] {
            let written = written(report);
            let numbers = kinds.iter().filter_map(|kind| {
                let (_, Count { all, .. }) = written.iter().find(|(name, _)| name == kind)?;
                Some(format!("{} {}", count(*all), kind.replace('_', " ")))
            });
            let numbers: Vec<_> = numbers.collect();
            writeln!(out, "  {:<8} {}", dim().apply_to(label), numbers.join(", "))?;
        }
        let synthetic: u64 = written(report).iter().map(|(_, count)| count.synthetic).sum();
        let added = format!("{} that stand for none of the snapshot", counted(synthetic, "event"));
        writeln!(out, "  {:<8} {added}", dim().apply_to("added"))?;
        let missing = report.left_out.sum();
        if missing > 0 {
            let missing = counted(missing, "event");
            writeln!(out, "  {:<8} {}", dim().apply_to("left out"), odd().apply_to(missing))?;
        }
        if report.late_ends > 0 {
            let late = format!("{} after what was inside", counted(report.late_ends, "region"));
            writeln!(out, "  {:<8} {}", dim().apply_to("ended"), odd().apply_to(late))?;
        }
        writeln!(
            out,
            "To look at it:  {}",
            name().apply_to(format!("go tool trace {}", escape(&shell_word(&self.out))))
        )
    }

    /// For programs.
    fn json(&self, trace: &Trace, report: &Report, damage: &Damage) -> serde_json::Value {
        let written: Map<_, _> = written(report)
            .into_iter()
            .map(|(name, Count { all, synthetic, .. })| {
                (name.to_owned(), json!({ "all": all, "synthetic": synthetic }))
            })
            .collect();
        let left_out = &report.left_out;
        json!({
            "file": trace.file(),
            "format": "go",
            "out": self.out.display().to_string(),
            "bytes": report.bytes,
            "events": report.events,
            "written": written,
            "late_ends": report.late_ends,
            "left_out": {
                "wakes": left_out.wakes,
                "ends": left_out.ends,
                "deep": left_out.deep,
                "unknown": left_out.unknown,
            },
            "damage": damage.lines(),
        })
    }
}

/// What was written, by name.
fn written(report: &Report) -> [(&'static str, Count); 15] {
    [
        ("statuses", report.statuses),
        ("creations", report.creations),
        ("starts", report.starts),
        ("blocks", report.blocks),
        ("yields", report.yields),
        ("unblocks", report.unblocks),
        ("destroys", report.destroys),
        ("processors", report.processors),
        ("processor_starts", report.processor_starts),
        ("processor_stops", report.processor_stops),
        ("tasks_begun", report.tasks_begun),
        ("tasks_ended", report.tasks_ended),
        ("regions_begun", report.regions_begun),
        ("regions_ended", report.regions_ended),
        ("logs", report.logs),
    ]
}

/// How far it is: on a terminal alone, and gone when it is done.
struct Progress(ProgressBar);

impl Progress {
    fn new(trace: &Trace) -> Self {
        let template = "exporting {msg}  {wide_bar} {pos}/{len} generations";
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::new(0)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(escape(trace.file()).to_string());
        Self(bar)
    }

    fn show(&self, through: usize, of: usize) {
        self.0.set_length(of as u64);
        self.0.set_position(through as u64);
    }
}
