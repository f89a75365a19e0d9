//! `lookback report`: a snapshot as a page for a browser.

mod columns;
mod lanes;
mod moments;
mod names;
mod page;
mod slices;
mod stacks;
mod things;
mod timeline;

use crate::exit::{Damage, Verdict, complain, open};
use crate::format::{bytes, counted, escape};
use crate::output::Output;
use crate::part::Part;
use crate::terminal::{dim, odd, strong};
use crate::{frames, summary, why};
use clap::Args;
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use timeline::Timeline;

/// Write a page that shows a snapshot in a browser: what stood out, and everything over time.
#[derive(Args, Debug)]
#[command(after_help = "\
The page is one file, which needs no network and no server: send it, attach it, open it anywhere. It has all names, logs and \
fields that the snapshot has, so treat it as you treat that.

It shows what fired, what stood out, and over time workers and what they polled, threads, requests as trees of spans, \
regions, ranges, counters and logs; flame graphs, tables, and where the time of the slowest span went. `?` in the page \
lists its keys. What a very large snapshot has no room for is put together or left out, and the page says so.

With --json: one object with `file`, `out`, `bytes`, `events`, `missing` [what is not all there], and `damage` [what \
cannot be read].

Examples:
  lookback report incident.lbk
  lookback report incident.lbk -o incident.html --open
  lookback report trace.lbk --last 2s -o end.html")]
pub struct Report {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The page to write, or `-` [default: FILE with .html in place of .lbk]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Open it in the browser
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    part: Part,
    /// Name the functions of stacks even if the snapshot comes from another machine or from before this one's last boot,
    /// and also look for debug information in this directory
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Print one JSON value about it
    #[arg(long)]
    json: bool,
}

impl Report {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trace = self.part.of(open(&self.file)?)?;
        let path = self.out.clone().unwrap_or_else(|| self.file.with_extension("html"));
        let output = Output::new(&path, &self.file)?;
        if output.is_stdout() && (self.json || self.open) {
            let asked = if self.json { "--json prints to" } else { "--open cannot open" };
            crate::export::conflict(&format!("{asked} standard output, so -o must name a file\n"));
        }
        let mut damage = Damage::of(&trace);
        let summary = summary::value(&trace, &self.symbols, &mut damage);
        let why = why::slowest(&trace, &self.symbols);
        let symbolizer = frames::symbolizer(&trace, &self.symbols);
        let mut contents = Timeline::of(&trace, symbolizer, |error| damage.note(error));
        contents.header["summary"] = summary;
        contents.header["why"] = why.into();
        contents.header["program"] = concat!("lookback ", env!("CARGO_PKG_VERSION")).into();
        let length = output.write(|out| page::write(&contents.header, &contents.bytes, out))?;
        if self.json {
            let value = json!({
                "file": trace.file(),
                "out": path.display().to_string(),
                "bytes": length,
                "events": contents.events,
                "missing": contents.missing,
                "damage": damage.lines(),
            });
            writeln!(io::stdout(), "{value:#}")?;
        } else if !output.is_stdout() {
            let shown = path.display().to_string();
            let of = counted(contents.events, "event");
            let mut out = io::stdout().lock();
            let name = escape(&shown);
            writeln!(out, "{}: {of}, {}", strong().apply_to(name), bytes(length))?;
            for what in &contents.missing {
                writeln!(out, "  {}  {}", dim().apply_to("not all"), odd().apply_to(what))?;
            }
        }
        if self.open {
            show(&path)?;
        }
        Ok(damage.tell())
    }
}

/// Opens the page with what the desktop opens pages with.
fn show(path: &Path) -> anyhow::Result<()> {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    // One that begins with `-` would be an option.
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let started = Command::new(opener)
        .arg(whole)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if started.is_err() {
        complain(&format!(
            "{}: written, but `{opener}`, which opens pages, is not here; open it with a browser",
            path.display()
        ));
    }
    Ok(())
}
