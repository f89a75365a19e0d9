//! `lookback diff`: what is new, gone, slower, more often in one set of snapshots than in another.

mod against;
mod json;
mod print;
mod sides;

pub use against::Against;

use crate::exit::{Verdict, complain};
use clap::Args;
use lookback::read::analysis::Diff as Differences;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Compare two snapshots, or two directories of snapshots: what is new, gone, slower, more often in the second.
#[derive(Args, Debug)]
#[command(after_help = "\
Compared are spans, regions, ranges, polls, waits for locks, places where tasks wait, functions in samples of CPU time and of \
allocations, logs by the shape of their message, typed events, spawns, tasks that are alive, panics, and counters. A difference \
is listed if chance is an unlikely explanation, however many questions were asked, and if it is large enough to matter; \
docs/diff.md has the tests and their limits. What is large but not certain, or was seen on one side only and too rarely, is listed below, and so is what \
could not be compared, and why.

Generations that several files of a directory have count once. Exits with 1 if the sides cannot be compared at all.

With --json: one object with `good` and `bad` {path, files, program [names], covered_ns, events}, `headline`, `asked` (how many \
questions), `differences` [{kind, name, within, words, score, changes [{what, good, bad, ratio (null: from 0), p, score}], \
good and bad {count, per_second, failures, p50_ns, p90_ns, p99_ns, max_ns, time (seconds a second), polled, level}}], `uncertain`, `rare` and \
`around` [the same], `not_comparable` [{what, because}], and `damage` [what cannot be read]. `kind` is `error_log`, `panic`, \
`warn_log`, `span`, `region`, `range`, `lock`, `poll`, `wait`, `cpu`, `allocation`, `task`, `alive_tasks`, `cancelled`, \
`event`, `log`, `counter`, `system`, `runtime` or `machine`; `what` is `rate`, `median_ns`, `p99_ns`, `failures`, \
`long_polls`, `level` or `growth`.

Examples:
  lookback diff yesterday.lbk incident.lbk
  lookback diff snapshots-of-1.4/ snapshots-of-1.5/ --all
  lookback diff good.lbk bad.lbk --json | jq -r '.differences[].words'")]
pub struct Diff {
    /// The snapshot, or the directory of snapshots, to compare with
    #[arg(value_name = "GOOD")]
    good: PathBuf,
    /// The one that is asked about
    #[arg(value_name = "BAD")]
    bad: PathBuf,
    /// Print all differences, not only the first few
    #[arg(long)]
    all: bool,
    /// Compare them even if they are of different programs
    #[arg(long)]
    any_program: bool,
    /// Name the functions of stacks even if the snapshots come from another machine or from before this one's last boot,
    /// and also look for debug information in this directory
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let mut damage = Vec::new();
        let good = sides::read(&self.good, &self.symbols, &mut damage)?;
        let bad = sides::read(&self.bad, &self.symbols, &mut damage)?;
        let diff = Differences::between(&good, &bad, self.any_program);
        let sides = [(&*self.good, &good), (&*self.bad, &bad)];
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            writeln!(out, "{:#}", json::diff(&diff, sides, &damage))?;
        } else {
            print::diff(&diff, sides, self.all, &mut out)?;
        }
        out.flush()?;
        damage.iter().for_each(|line| complain(line));
        let is_comparable = diff.not_comparable.iter().all(|part| part.what != "all");
        Ok(if damage.is_empty() && is_comparable { Verdict::Sound } else { Verdict::Bad })
    }
}
