//! `lookback validate`: whether a snapshot is sound.

use crate::exit::{Damage, Verdict, complain, open};
use crate::format::{bytes, count, counted, escape};
use crate::terminal::{good, strong};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lookback::read::{Trace, validate_with};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Check that a snapshot is sound: every frame, every record, every transition.
#[derive(Args, Debug)]
#[command(after_help = "\
Exits with 0 if the snapshot is sound. Otherwise exits with 1 and prints a line for each violation: its \
generation, its slot, and where it is in the file.

With --json: one object with `file`, `sound`, `generations`, `events` and `violations`.

Examples:
  lookback validate incident.lbk
  lookback validate incident.lbk --json | jq -r '.violations[]'")]
pub struct Validate {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

impl Validate {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trace = open(&self.file)?;
        let violations = self.check(&trace);
        let generations = trace.generations();
        let events: u64 = generations.iter().map(|generation| generation.events).sum();
        let mut out = std::io::stdout().lock();
        if self.json {
            let found = json!({
                "file": trace.file(),
                "sound": violations.is_empty(),
                "generations": generations.len(),
                "events": events,
                "violations": violations,
            });
            writeln!(out, "{found:#}")?;
            violations.iter().for_each(|violation| complain(violation));
        } else if violations.is_empty() {
            let size = std::fs::metadata(&self.file).ok().filter(std::fs::Metadata::is_file);
            writeln!(
                out,
                "{}: {}: {} in {}{}",
                strong().apply_to(escape(trace.file())),
                good().apply_to("sound"),
                counted(events, "event"),
                counted(generations.len() as u64, "generation"),
                size.map_or(String::new(), |file| format!(" ({})", bytes(file.len()))),
            )?;
        } else {
            violations.iter().for_each(|violation| complain(violation));
            let found = counted(violations.len() as u64, "violation");
            writeln!(out, "{}: {found} in {} events", escape(trace.file()), count(events))?;
        }
        Ok(if violations.is_empty() { Verdict::Sound } else { Verdict::Bad })
    }

    /// Every violation, without duplicates, a line each.
    fn check(&self, trace: &Trace) -> Vec<String> {
        // Shown on a terminal only, and removed at the end.
        let template = "checking {msg}  {wide_bar} {pos}/{len} generations";
        let style = ProgressStyle::with_template(template);
        let progress = ProgressBar::new(0)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(escape(trace.file()).to_string());
        let mut lines = Damage::of(trace).lines().to_vec();
        let violations = validate_with(trace, |checked, of| {
            progress.set_length(of as u64);
            progress.set_position(checked as u64);
        });
        for violation in violations {
            let line = violation.to_string();
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        progress.finish_and_clear();
        lines
    }
}
