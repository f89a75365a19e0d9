//! `lookback summary`: what happened, and what stood out.

mod findings;
mod json;
mod lines;
mod tables;

pub use findings::unshared;
pub use json::left_out;
pub use lines::{fit, wrap};

use crate::outcome::{Damage, Verdict, open};
use crate::terminal::width;
use clap::Args;
use console::truncate_str;
use lookback::read::analysis::Report;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Print what happened, and what stood out: long polls and who waited for them, slow spans and whom
/// they waited for, stuck tasks, busy loops, workers, counters, losses, the last logs.
#[derive(Args, Debug)]
#[command(after_help = "\
Findings come first, the worst on top. Each has a score from 0 (at its limit) towards 1, its value \
and its limit, and its evidence: times in seconds since the first event, and the command that shows \
the events there. What cannot be told, because events are missing or were never recorded, is listed \
as not assessed, with the reason.

With --json: one object with `file`, `coverage` {process, pid, reason, trigger, taken, covered_ns, \
window_ns, generations, incomplete, gaps, events, task_events, …}, `end_ns`, and
  `incident`      {causes [{trigger, reason, where (as evidence below, or null), regions}],
                  panics (how many)}
  `findings`      the worst first [{analysis, title, score, value, limit, unit, evidence [{what,
                  depth, t_ns, until_ns, before_end_ns, thread, thread_name, task, task_name, span,
                  span_name, span_fields, events [the arguments of `lookback events`]}]}]
  `not_assessed`  [{analysis, because}]
  `polls`         {count, p50_ns, p90_ns, p99_ns, max_ns, long, longest [{task, task_name, thread,
                  worker, span, region, t_ns, length_ns, running, waited, victims, …}]}
  `delays`        {count, p50_ns, …, long, causes_unknown, longest [{task, runnable_ns, length_ns,
                  wakes [{t_ns, thread, task, …}], polled_by, blocker}]}
  `spans`         {names [{name, group, open, count, p50_ns, …, slowest [{span, t_ns, length_ns,
                  open, task, spent {polling_ns, waiting_ns, runnable_ns, unknown_ns,
                  reasons, gaps}, …}]}]}
  `regions`       {names [{name, open, count, p50_ns, …, slowest}]}
  `standing`      who stood in a lock or waited for one at the end {locks [{thread, task, what,
                  within, since_ns, length_ns}], others}
  `stuck`         {live, active, idle_throughout, longest}
  `waits`         what tasks waited for {reasons [{reason, count, open, total_ns, most_at_once,
                  p50_ns, …, longest}]}
  `busy`          {self_wakes, longest}
  `endings`       {spawned, ready, dropped, panicked, panics}
  `workers`       {busy, uninstrumented, workers [{worker, observed_ns, parked_ns, polling_ns,
                  outside_ns, busy, …}]}
  `counters`      {counters [{name, samples, first, last, min, max, mean, …}]}
  `changes`       what was different in the last second {changes [{kind, name, last, before}]}
  `losses`        {lost {cause: how many}, generations, share, omitted, nameless, left_out {statuses,
                  texts, fields, deeper}, damaged}
  `logs`          {levels {level: how many}, last, warnings}
  `damage`        [what cannot be read]
Times are nanoseconds since the first event. `analysis` is the key of the table that a finding is \
from; a table of which nothing could be assessed is empty.

Of a damaged file what can be read is summed up, the damage is named on stderr, and the exit code \
is 1.

Examples:
  lookback summary incident.lbk
  lookback summary incident.lbk --json | jq -r '.findings[] | \"\\(.score) \\(.title)\"'")]
pub struct Summary {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

impl Summary {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trace = open(&self.file)?;
        let report = Report::of(&trace);
        let mut damage = Damage::of(&trace);
        report.damage.iter().for_each(|error| damage.note(error));
        for generation in trace.generations() {
            generation.damage.iter().for_each(|error| damage.note(error));
        }
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            writeln!(out, "{:#}", json::report(&report, &trace, damage.lines()))?;
        } else {
            findings::print(&report, &self.file, &mut out)?;
            // On a narrow terminal the last columns are cut, so that a row stays a line.
            let mut wide = Vec::new();
            tables::print(&report, &mut wide)?;
            for line in String::from_utf8_lossy(&wide).lines() {
                writeln!(out, "{}", truncate_str(line, width(), "…"))?;
            }
        }
        out.flush()?;
        Ok(damage.tell())
    }
}
