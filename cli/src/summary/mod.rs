//! `lookback summary`: explains what happened in a snapshot.

mod cpu;
mod findings;
mod json;
mod locks;
mod machine;
mod machine_json;
mod numbers;
mod outside;
mod tables;
mod waiting;
mod wrap;

pub use findings::{section, unshared};
pub use json::left_out;
pub use wrap::{fit, moment, wrap};

use crate::diff::Against;
use crate::exit::{Damage, Verdict, open};
use crate::frames;
use crate::stacks::is_of_threads_alone;
use crate::terminal::width;
use clap::Args;
use console::truncate_str;
use cpu::CpuTimes;
use lookback::read::Trace;
use lookback::read::analysis::{Finding, Report};
use lookback::read::hangs::Hangs;
use serde_json::Value;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Explain a snapshot: long polls and the tasks that waited meanwhile, slow spans and what they waited for,
/// stuck tasks, busy loops, workers, counters, losses, the last logs.
#[derive(Args, Debug)]
#[command(after_help = "\
Findings come first, worst on top. Each has a score from 0 (at its limit) towards 1, its value and its \
limit, and its evidence: times in seconds since the first event, and the command that shows the events \
there. An analysis that cannot be done, because events are missing or were never recorded, is listed as \
not assessed, with the reason.

With --json: one object with `file`, `coverage` {process, pid, reason, trigger, taken, covered_ns, \
window_ns, generations, incomplete, gaps, events, task_events, …}, `end_ns`, and
  `incident`      {causes [{trigger, reason, where (as evidence below, or null), regions, stack [the
                  frames, as `lookback stacks --json` has them]}], panics (count), stacks (count)}
  `findings`      the worst first [{analysis, title, ago_ns, score, value, limit, unit, lock (that it waited
                  for, as in `going_on` below, or null), commands [that show it], evidence [{what,
                  depth, t_ns, until_ns, before_end_ns, thread, thread_name, task, task_name, span,
                  span_name, span_fields, events [the arguments of `lookback events`]}]}]
  `not_assessed`  [{analysis, because}]
  `polls`         {count, p50_ns, p90_ns, p99_ns, max_ns, long, longest [{task, task_name, thread,
                  worker, span, region, t_ns, length_ns, running, waited, victims, …}]}
  `delays`        {count, p50_ns, …, long, causes_unknown, longest [{task, runnable_ns, length_ns,
                  wakes [{t_ns, thread, task, …}], polled_by, blocker}]}
  `blocking`      closures that may block {begun, late (waited too long for a thread), queued (at the end), running,
                  longest_ns, had_by [{name, count}]}
  `failures`      {failed, cancelled}, of all spans
  `spans`         {names [{name, group, open, count, p50_ns, …, failed, cancelled, outcomes {how:
                  count}, first_failed_ns, slowest [{span, t_ns, length_ns,
                  open, task, spent {polling_ns, waiting_ns, runnable_ns, unknown_ns,
                  reasons, gaps}, …}]}]}
  `regions`       {names [{name, open, count, p50_ns, …, slowest}]}
  `locks`         {waits, waited_ns, many (different locks), locks [{lock, kind, waits, given_up, waited_ns, longest_ns, waiters,
                  most_at_once, places [{at, waits, waited_ns}], held_at}], going_on [waits that have not
                  ended: {thread, task, span, lock, kind, at, since_ns, length_ns, over, holder,
                  holder_task, held_at, held_ns, held_at_least, across_await}],
                  across_await [{at, kind, times, most_polls, waits, longest_wait_ns}]}
  `standing`      threads inside a lock or waiting for one at the end {locks [{thread, task, what,
                  within, since_ns, length_ns}], others}
  `stuck`         {live, active, idle_throughout, longest [{…, waits_at [{earlier, frames}], or null}],
                  idle {placed (it is known where they wait), unwrapped, left_out, unknown}}
  `waiting`       where tasks wait at the end, null if no names are known {places [{count, awaited,
                  functions [{name, file, line}], longest_ns, shortest_ns, others, timed, tasks}],
                  left_out}
  `waits`         what tasks waited for {reasons [{reason, count, open, total_ns, most_at_once,
                  p50_ns, …, longest [{…, open, waits_at [{earlier, frames}], or null}]}]}
  `busy`          {self_wakes, longest}
  `endings`       {spawned, ready, dropped, panicked, panics}
  `workers`       {busy, uninstrumented, workers [{worker, observed_ns, parked_ns, polling_ns,
                  outside_ns, busy, …}]}
  `counters`      {counters [{name, samples, first, last, min, max, mean, …}]}
  `system`        how the process, its control group and the machine fared {counters [{name, group, unit,
                  increase (each value is what was added since the reading before), readings, time_ns,
                  first, last, min, max, max_t_ns, sum (of an increase)}]}
  `starved`       {ran_ns, waited_ns (threads that wanted a core, added up), time_ns, cores, used}
  `runtimes`      counters of instrumented runtimes {runtimes [{runtime, counters [as those of `system`]}]}
  `ranges`        of the whole process {names [{name, count, open, total_ns, max_ns, max_t_ns}]}
  `tasks`         {names [{name, size (bytes of a future), first, last, max (alive), spawned, max_spawned,
                  max_spawned_t_ns}]}
  `heap`          {first, last, peak (bytes alive), allocated, growing [{bytes, samples, frames}], burst [the same]}
  `cpu`           null without CPU samples; else {per_second, last {samples, ns}, before, functions [{name,
                  file, line, last, before}]}: samples of the last second and of before, by the
                  innermost function of the service itself
  `changes`       what differed in the last second {changes [{kind, name, last, before}]}
  `losses`        {lost {cause: count}, generations, share, omitted, nameless, left_out {statuses,
                  texts, fields, deeper}, damaged}
  `logs`          {levels {level: count}, last, warnings [{…, stack [frames]}]}
  `outside`       of a snapshot taken from outside: threads that wait for each other, and for locks
                  {threads, deadlocks [[{os_thread, name, waits}]], locks [{address, holder, waiters}]}
  `against`       what differs from a baseline, as `lookback diff --json` has it; null without one
  `damage`        [what cannot be read]
Times are nanoseconds since the first event. `analysis` is the key of the table behind a finding; a \
table that could not be assessed is empty.

For a damaged file, the summary covers what can be read, stderr names the damage, and the exit code is 1.

Examples:
  lookback summary incident.lbk
  lookback summary incident.lbk --against yesterday.lbk
  lookback summary incident.lbk --json | jq -r '.findings[] | \"\\(.score) \\(.title)\"'")]
pub struct Summary {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also look for debug information in this directory, and name the functions of stacks even if the snapshot comes from
    /// another machine or from before this one's last boot
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Also say what differs from this snapshot, or this directory of snapshots, of a time at which all was well: as `lookback
    /// diff GOOD FILE` does
    #[arg(long, value_name = "GOOD")]
    against: Option<PathBuf>,
    /// Print all findings, not only the first five
    #[arg(long)]
    all: bool,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

/// How many findings are printed, unless all are asked for.
const MOST_FINDINGS: usize = 5;

impl Summary {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trace = open(&self.file)?;
        let mut damage = Damage::of(&trace);
        let against = match &self.against {
            Some(good) => Some(Against::read(good, &self.file, &self.symbols)?),
            None => None,
        };
        against.iter().flat_map(|of| &of.damage).for_each(|line| damage.add(line.clone()));
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            let mut value = value(&trace, &self.symbols, &mut damage);
            value["against"] = against.as_ref().map(Against::json).into();
            writeln!(out, "{value:#}")?;
            out.flush()?;
            return Ok(damage.tell());
        }
        let report = read(&trace, &mut damage);
        let mut symbolizer = frames::symbolizer(&trace, &self.symbols);
        let samples = report.coverage.table.cpu_samples;
        let cpu = CpuTimes::of(&trace, samples, symbolizer.as_mut());
        let hangs = symbolizer.as_mut().map(|names| Hangs::of(&trace, &report, names));
        let found = found(&report, hangs.as_ref());
        let threads = outside::lines(&trace, symbolizer.as_mut(), &self.file);
        if is_of_threads_alone(&trace) {
            findings::threads_alone(&report, &found, &self.file, &threads, &mut out)?;
            out.flush()?;
            return Ok(damage.tell());
        }
        let names = symbolizer.as_mut();
        let most = if self.all { usize::MAX } else { MOST_FINDINGS };
        findings::print(&report, &found, most, &self.file, names, &threads, &mut out)?;
        if let Some(against) = &against {
            against.print(&mut out)?;
        }
        if let Some(names) = &symbolizer {
            findings::unnamed(&names.problems(), &mut out)?;
        }
        // On a narrow terminal the last columns are cut, so that a row stays on one line.
        let mut wide = Vec::new();
        if let Some(hangs) = &hangs {
            waiting::print(hangs, &mut wide)?;
        }
        if let Some(cpu) = &cpu {
            cpu.print(&mut wide)?;
        }
        tables::print(&report, symbolizer.as_mut(), &mut wide)?;
        for line in String::from_utf8_lossy(&wide).lines() {
            writeln!(out, "{}", truncate_str(line, width(), "…"))?;
        }
        out.flush()?;
        Ok(damage.tell())
    }
}

/// The summary as JSON.
pub fn value(trace: &Trace, symbols: &[PathBuf], damage: &mut Damage) -> Value {
    let report = read(trace, damage);
    let mut symbolizer = frames::symbolizer(trace, symbols);
    let samples = report.coverage.table.cpu_samples;
    let cpu = CpuTimes::of(trace, samples, symbolizer.as_mut());
    let hangs = symbolizer.as_mut().map(|names| Hangs::of(trace, &report, names));
    let found = found(&report, hangs.as_ref());
    let mut value = json::report(&report, &found, trace, damage.lines(), symbolizer.as_mut());
    value["waiting"] = waiting::json(hangs.as_ref());
    value["cpu"] = cpu.as_ref().map(CpuTimes::json).into();
    value["outside"] = outside::json(trace, symbolizer.as_mut());
    value
}

fn read(trace: &Trace, damage: &mut Damage) -> Report {
    let report = Report::of(trace);
    report.damage.iter().for_each(|error| damage.note(error));
    for generation in trace.generations() {
        generation.damage.iter().for_each(|error| damage.note(error));
    }
    report
}

/// With names, a finding about a hang says more.
fn found<'a>(report: &'a Report, hangs: Option<&'a Hangs>) -> Vec<&'a Finding> {
    match hangs {
        Some(hangs) => hangs.findings.iter().collect(),
        None => report.findings(),
    }
}
