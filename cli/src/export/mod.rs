//! `lookback export`: a snapshot for other tools.

mod perfetto;
mod profile;

use crate::exit::{Damage, Verdict, open};
use crate::format::{bytes, count, counted, escape, shell_word};
use crate::frames;
use crate::output::Output;
use crate::part::Part;
use crate::terminal::{dim, name, odd, strong};
use crate::wanted::{Filters, Wanted};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use lookback::read::Trace;
use lookback::read::export::go::{self, Count, Report};
use profile::Profile;
use serde_json::{Map, json};
use std::io::{self, Write};
use std::path::PathBuf;

/// Write a snapshot in the format of another tool.
#[derive(Args, Debug)]
#[command(after_help = "\
Formats:
  go    an execution trace of Go 1.26, for `go tool trace`: threads, workers as processors, tasks as
        goroutines, spans as user tasks, regions, logs, CPU samples
  perfetto  a trace for https://ui.perfetto.dev and its trace processor: polls and regions by thread, spans as a tree of \
tracks, arrows from wakes to polls, counters, logs
  pprof   a profile, for `go tool pprof`: functions, files and lines
  folded  a profile as lines `thread;main;…;function COUNT`, for flame graphs

Profiles:
  cpu     CPU samples, if the service takes them (LOOKBACK_CPU_HZ=100)
  heap    what is alive and what was allocated, by stack, if the service has `lookback::Alloc`; in folded lines what is \
alive, in bytes
  contention  waits for locks of `lookback::sync` and `lookback::tokio::sync`, by the stack that waited; in folded lines in \
nanoseconds

Names come from the service's executable; --symbols as in `lookback stacks`.

With --last, --since or --until only a part is exported: the generations of the snapshot that lie in that time, at least in part \
(`lookback info` lists them).

An existing file is replaced once the new one is whole; `-o -` is standard output.

With --json: one object with `file`, `format`, `out`, `bytes`, `events` (of the snapshot), \
`written` {kind: {all, synthetic}}, `late_ends` (regions that appear longer than they were), \
`left_out` {reason: count}, and `damage` [what cannot be read]; for Perfetto `written` {kind: count}, `open` (slices \
that had not ended), and `unknown_ends` (slices whose end cannot be read). Synthetic events have no counterpart in \
the snapshot; the format needs them. Of a profile: `file`, `format`, `profile`, `out`, `bytes`, `samples` (by weight), \
`stacks` (different ones), `problems` [why there are no names for some files], and `damage`.

Examples:
  lookback export incident.lbk --format go -o trace.out
  go tool trace trace.out
  lookback export incident.lbk --format perfetto -o incident.pftrace
  lookback export incident.lbk --format pprof -o cpu.pb.gz && go tool pprof -top cpu.pb.gz
  lookback export incident.lbk --format pprof --profile heap -o heap.pb.gz
  lookback export incident.lbk --format folded -o - | inferno-flamegraph > cpu.svg
  lookback export incident.lbk --format folded --span checkout -o - | inferno-flamegraph > checkout.svg")]
pub struct Export {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// For which tool
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Format,
    /// Of what, with `pprof` and `folded` [default: cpu]
    #[arg(long, value_enum, value_name = "PROFILE")]
    profile: Option<Profile>,
    /// The file to write, or `-`
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    part: Part,
    /// In a profile of CPU time or of locks, only what this thread did, by name, number or worker; may be repeated
    #[arg(long, value_name = "NAME|NUMBER|WORKER")]
    thread: Vec<String>,
    /// The same, of this task (7, 7.2)
    #[arg(long, value_name = "ID")]
    task: Vec<String>,
    /// The same, of this span (7, 7.2, or all of a name, with `*` and `?`) and of those inside of it
    #[arg(long, value_name = "ID|NAME")]
    span: Vec<String>,
    /// Also look for debug information in this directory
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Print one JSON value about it
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    // An execution trace of Go.
    Go,
    // A trace of Perfetto.
    Perfetto,
    // A profile.
    Pprof,
    // A profile as lines.
    Folded,
}

impl Export {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trace = self.part.of(open(&self.file)?)?;
        let output = Output::new(&self.out, &self.file)?;
        if self.json && output.is_stdout() {
            conflict("--json prints to standard output, so -o must name a file\n");
        }
        let is_profile = matches!(self.format, Format::Pprof | Format::Folded);
        if !is_profile && self.profile.is_some() {
            conflict("--profile is for --format pprof and --format folded\n");
        }
        let is_filtered = !(self.thread.is_empty() && self.task.is_empty() && self.span.is_empty());
        if is_filtered && (!is_profile || self.profile == Some(Profile::Heap)) {
            conflict("--thread, --task and --span are for profiles of CPU time and of locks\n");
        }
        if is_profile {
            return profile::run(&self, &trace, &output);
        }
        if self.format == Format::Perfetto {
            return perfetto::run(&self, &trace, &output);
        }
        let progress = Progress::new(&trace);
        let mut symbolizer = frames::opening(&trace, &self.symbols);
        let report = output.write(|out| {
            let show = |through, of| progress.show(through, of);
            go::export_named(&trace, out, show, |frame| profile::names(&mut symbolizer, frame))
        })?;
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

    /// What is asked for of a profile.
    fn wanted<'a>(&'a self, trace: &Trace) -> Wanted<'a> {
        let filters = Filters {
            threads: &self.thread,
            tasks: &self.task,
            spans: &self.span,
            ..Filters::default()
        };
        Wanted::new(&filters, trace)
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
            ("metrics", &["metrics"]),
            ("CPU", &["samples"]),
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

/// Ends the program as arguments do that cannot be used together.
pub fn conflict(wrong: &str) -> ! {
    clap::Error::raw(ErrorKind::ArgumentConflict, wrong)
        .with_cmd(&crate::CommandLine::command())
        .exit()
}

/// What was written, by name.
fn written(report: &Report) -> [(&'static str, Count); 17] {
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
        ("metrics", report.metrics),
        ("samples", report.samples),
    ]
}

/// A progress bar: shown on a terminal only, and removed at the end.
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
