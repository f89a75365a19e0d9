//! `lookback export --format perfetto`.

use super::{Export, Progress, profile};
use crate::exit::{Damage, Verdict};
use crate::format::{bytes, counted, escape, shell_word};
use crate::frames;
use crate::output::Output;
use crate::terminal::{name, odd, strong};
use lookback::read::Trace;
use lookback::read::export::perfetto::{self, Report};
use serde_json::json;
use std::io::{self, Write};

pub(super) fn run(args: &Export, trace: &Trace, output: &Output) -> anyhow::Result<Verdict> {
    let progress = Progress::new(trace);
    let mut symbolizer = frames::opening(trace, &args.symbols);
    let report = output.write(|out| {
        let show = |through, of| progress.show(through, of);
        perfetto::export_named(trace, out, show, |frame| profile::names(&mut symbolizer, frame))
    })?;
    progress.0.finish_and_clear();
    let mut damage = Damage::of(trace);
    report.damage.iter().for_each(|error| damage.note(error));
    if args.json {
        let value = json!({
            "file": trace.file(),
            "format": "perfetto",
            "out": args.out.display().to_string(),
            "bytes": report.bytes,
            "events": report.events,
            "written": {
                "slices": report.slices,
                "instants": report.instants,
                "counters": report.counters,
                "flows": report.flows,
                "samples": report.samples,
            },
            "open": report.open,
            "late_ends": report.late_ends,
            "unknown_ends": report.unknown_ends,
            "left_out": { "ends": report.without_begin, "deep": report.too_deep },
            "damage": damage.lines(),
        });
        writeln!(io::stdout(), "{value:#}")?;
    } else if !output.is_stdout() {
        print(args, &report, &mut io::stdout().lock())?;
    }
    Ok(damage.tell())
}

fn print(args: &Export, report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{}: {} of the snapshot, {}",
        strong().apply_to(escape(&args.out.display().to_string())),
        counted(report.events, "event"),
        bytes(report.bytes),
    )?;
    writeln!(
        out,
        "  {}, {}, {}, {}, {}",
        counted(report.slices, "slice"),
        counted(report.instants, "instant"),
        counted(report.counters, "counter value"),
        counted(report.flows, "arrow"),
        counted(report.samples, "CPU sample"),
    )?;
    if report.late_ends > 0 {
        let late = format!("{} after what was inside", counted(report.late_ends, "region"));
        writeln!(out, "  ended  {}", odd().apply_to(late))?;
    }
    if report.without_begin > 0 {
        let missing = counted(report.without_begin, "end");
        let words = format!("{missing} of regions whose begin is not in the snapshot");
        writeln!(out, "  left out  {}", odd().apply_to(words))?;
    }
    if report.too_deep > 0 {
        let words = format!(
            "{} inside of 500 others, or beside 256 other waits",
            counted(report.too_deep, "slice")
        );
        writeln!(out, "  left out  {}", odd().apply_to(words))?;
    }
    if report.unknown_ends > 0 {
        let ends = counted(report.unknown_ends, "slice");
        let words = format!("{ends} in what cannot be read");
        writeln!(out, "  ended  {}", odd().apply_to(words))?;
    }
    let path = shell_word(&args.out);
    writeln!(
        out,
        "To look at it:  open https://ui.perfetto.dev and drop {} on it; it stays on your machine",
        name().apply_to(escape(&path))
    )
}
