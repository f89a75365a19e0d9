//! What is in a snapshot: is anything instrumented, what is lost, how much is covered.

use super::Findings;
use crate::text::{count, counted, duration, escape};
use lookback::read::analysis::{Coverage, Report, UNINSTRUMENTED};
use lookback::read::wire::{Nanos, key};
use lookback::read::{EventKind, Trace};
use std::collections::BTreeMap;

/// Who has recorded nothing at all for this long will hardly do so.
const SILENT: Nanos = Nanos(1_000_000_000);
/// What is missing in less time than this may yet come.
const EARLY: Nanos = Nanos(2_000_000_000);
/// Of less work, and of fewer polls, it is not said how much of it is recorded: what a runtime does to
/// start is most of it then.
const ENOUGH_WORK: Nanos = Nanos(500_000_000);
const ENOUGH_POLLS: u64 = 100;
/// So many generations are incomplete where a process was killed, or is read from outside.
const USUAL_INCOMPLETE: usize = 2;
/// How Tokio calls its threads, if it is not told otherwise.
const TOKIO: [&str; 2] = ["tokio-rt-worker", "tokio-runtime"];

pub fn look(trace: &Trace, findings: &mut Findings) {
    if trace.metadata().number(key::ENABLED) == Some(0) {
        let what = "recording was turned off: nothing is recorded";
        let advice = "start it without `LOOKBACK_ENABLED=off`, or without `.enabled(false)`";
        return findings.problem("recording", what, advice);
    }
    let filters: Vec<_> = trace.metadata().texts(key::FILTER).map(escape).collect();
    if !filters.is_empty() {
        let what = format!("of `tracing` and `log`: {}", filters.join("; "));
        findings.ok("filter", what);
    }
    let report = Report::of(trace);
    for error in trace.damage().iter().chain(&report.damage) {
        findings.problem("damage", error.to_string(), "what is whole can be read all the same");
    }
    instrumented(trace, &report, findings);
    lost(&report, findings);
    statuses(&report.coverage.table, findings);
    left_out(&report, findings);
    covered(&report.coverage.table, findings);
}

fn instrumented(trace: &Trace, report: &Report, findings: &mut Findings) {
    let seen = &report.coverage.table;
    let mut threads = BTreeMap::new();
    let mut bare = 0;
    for event in trace.events().filter_map(Result::ok) {
        bare += u64::from(matches!(event.kind(), EventKind::ThreadStart | EventKind::ThreadExit));
        if let Some(thread) = event.thread() {
            threads.entry(thread.number).or_insert_with(|| thread.name.to_string());
        }
    }
    let time = duration(seen.covered.0);
    if seen.events <= bare && seen.covered < SILENT {
        let what = format!("nothing was recorded in its first {time}: too little to say why");
        return findings.unknown("content", what);
    }
    if seen.events <= bare {
        let what = format!("nothing was recorded in {time}");
        let advice = "a recorder runs, and nothing tells it anything: set `lookback::tracing::subscriber()` \
                      or add `lookback::tracing::layer()`, spawn with `lookback::spawn`, use `lookback::region!`";
        return findings.problem("content", what, advice);
    }
    let kinds = [
        (seen.task_events, "of tasks"),
        (seen.worker_events, "of workers"),
        (seen.span_events, "of spans"),
        (seen.region_events, "of regions"),
        (seen.logs, if seen.logs == 1 { "log" } else { "logs" }),
        (seen.typed, "typed"),
        (seen.counters, "of counters"),
        (seen.thread_events, "of threads"),
    ];
    let kinds = kinds.iter().filter(|(many, _)| *many > 0);
    let kinds: Vec<_> = kinds.map(|(many, what)| format!("{} {what}", count(*many))).collect();
    let on = counted(threads.len() as u64, "thread");
    findings.ok("content", format!("{} events on {on}: {}", count(seen.events), kinds.join(", ")));
    if seen.covered < EARLY {
        let what = format!(
            "{} in {time}: too little to say what is not recorded",
            counted(seen.events, "event")
        );
        return findings.unknown("missing", what);
    }
    executors(seen, report, threads.values(), findings);
    let omitted = report.losses.table.omitted;
    let open: u64 = report.spans.table.names.iter().map(|name| name.open).sum();
    if seen.span_events == 0 && seen.logs == 0 && open > 0 {
        let open = counted(open, "span");
        findings.ok("spans", format!("{open} open, and nothing happened in them in {time}"));
    } else if seen.span_events == 0 && seen.logs == 0 && omitted > 0 {
        let what = format!(
            "no span and no log was recorded in {time}; whether spans are open is not known: statuses were left out"
        );
        findings.unknown("spans", what);
    } else if seen.span_events == 0 && seen.logs == 0 && is_off(seen) {
        let what = format!("no span and no log was recorded in {time}: the filter is `off`");
        let advice = "let more through: `LOOKBACK_FILTER=info`, or `recorder.set_filter(…)`";
        findings.warning("spans", what, advice);
    } else if seen.span_events == 0 && seen.logs == 0 {
        let advice = "if it uses `tracing`, add `lookback::tracing::layer()` to its subscriber; `record_log()` needs \
                      that, too, or `lookback::tracing::subscriber()`";
        findings.warning("spans", format!("no span and no log was recorded in {time}"), advice);
    }
}

/// Whether nothing of `tracing` and `log` was let through, by any filter.
fn is_off(seen: &Coverage) -> bool {
    !seen.filters.is_empty() && seen.filters.iter().all(|filter| filter == "off")
}

/// Whether tasks and workers are recorded, as far as there is evidence of what runs them.
fn executors<'a>(
    seen: &Coverage,
    report: &Report,
    threads: impl Iterator<Item = &'a String>,
    findings: &mut Findings,
) {
    let time = duration(seen.covered.0);
    let workers = &report.workers.table;
    let has_workers = seen.worker_events > 0 || !workers.workers.is_empty();
    let has_tasks = seen.task_events > 0 || report.stuck.table.live > 0;
    // Tasks are recorded on any executor; who runs them is told by the names of its threads alone.
    let tokio = threads
        .filter(|name| TOKIO.iter().any(|thread| name.starts_with(thread)))
        .min()
        .map(|thread| format!("Tokio runs here (thread `{thread}`)"));
    match &tokio {
        Some(tokio) if !has_tasks => {
            let advice = "where your own code spawns, `lookback::spawn` instead of `tokio::spawn` records the task";
            findings.warning(
                "tasks",
                format!("{tokio}, and no task was recorded in {time}"),
                advice,
            );
        }
        _ => {}
    }
    match &tokio {
        Some(tokio) if !has_workers => {
            let what = format!("{tokio}, and no worker was recorded in {time}");
            let advice = "where your own code builds the runtime, call `lookback::tokio::instrument(&mut builder)` \
                          before that";
            findings.warning("workers", what, advice);
        }
        None if !has_workers && has_tasks => {
            let what =
                "tasks are recorded, and no worker: how busy their executor is, nobody can say";
            findings.unknown("workers", what);
        }
        _ => {}
    }
    if !has_workers || !has_tasks {
        return;
    }
    let (at_work, polls) = (workers.at_work(), workers.polls());
    let words =
        format!("{} at work, {} of recorded tasks", duration(at_work.0), counted(polls, "poll"));
    if at_work < ENOUGH_WORK || polls < ENOUGH_POLLS {
        let what = format!("{words}: too little to say how much of the work is recorded");
        return findings.unknown("work", what);
    }
    let unseen = workers.uninstrumented();
    let what = format!("{words}; {:.0} % of that time was outside of these", unseen * 100.0);
    if unseen <= UNINSTRUMENTED {
        return findings.ok("work", what);
    }
    let advice = "a runtime's own work (I/O, timers, looking for tasks) is part of that; tasks that are spawned with \
                  `tokio::spawn`, by your own code or by others', are the rest: `lookback::spawn` records them";
    findings.warning("work", what, advice);
}

fn lost(report: &Report, findings: &mut Findings) {
    let losses = &report.losses.table;
    if losses.lost.is_empty() && losses.damaged.is_empty() {
        findings.ok("losses", "no event was lost");
    }
    for (cause, many) in &losses.lost {
        let advice = match &**cause {
            "arena_full" => {
                "a larger `max_bytes`: all of the arena was of generations that are not over yet"
            }
            "reentrant" => {
                "events inside of a signal handler or an allocator that interrupted another event: \
                            record less there"
            }
            "no_slot" => "too many threads at once, or events of a thread that is over",
            "no_id" => {
                "too many different names in one generation: use fixed names, and fields for what varies; \
                        or a shorter `generation_period`"
            }
            "no_place" => "too many tasks or spans at once: are they ever dropped?",
            _ => "this program does not know the cause; a newer one may",
        };
        findings.problem("losses", format!("{} lost: {cause}", counted(*many, "event")), advice);
    }
}

/// Whether the collector got to write what was silent. A generation or two without it are usual: they were
/// not over when the snapshot was taken.
fn statuses(seen: &Coverage, findings: &mut Findings) {
    if seen.incomplete.len() > USUAL_INCOMPLETE
        && let Some(words) = &seen.without_statuses
    {
        let advice = "the recorder's thread did not get to write them: are there more busy threads than processors, \
                      or does a CPU quota hold the process back? No event is missing for it";
        findings.warning("statuses", words.clone(), advice);
    }
}

/// What was recorded in part.
fn left_out(report: &Report, findings: &mut Findings) {
    let left_out = &report.losses.table.left_out;
    if left_out.statuses > 0 {
        let what = format!(
            "{} left out for want of room: tasks, spans or threads may not be known",
            counted(left_out.statuses, "status")
        );
        findings.warning("left out", what, "a larger `max_bytes`");
    }
    // A text that was cut says so where it stands: it is no fault, but it is not all there.
    let mut others = *left_out;
    others.statuses = 0;
    if !others.is_nothing() {
        findings.ok("left out", others.words().join(", "));
    }
    if report.losses.table.refused_barriers > 0 {
        let what = "the kernel refuses `membarrier` to a thread that records (a filter of its own, as of seccomp): where \
             the collector is late it loses events";
        let advice = "let the filter allow it, or set `Barrier::Fence`";
        findings.warning("barrier", what.to_owned(), advice);
    }
    let unshared = report.losses.table.unshared_texts;
    if unshared > 0 {
        // Nothing is missing for it.
        findings.ok("texts", crate::summary::unshared(unshared));
    }
    let nameless = report.losses.table.nameless;
    if nameless > 0 {
        let what = format!(
            "{} at least had no place in the recorder's table: their values are not recorded, nor are the names of \
             their spans",
            counted(nameless, "callsite")
        );
        let advice = "are callsites of `tracing`, or tasks' names, made at run time? There is room for some 65,000";
        findings.warning("losses", what, advice);
    }
}

fn covered(seen: &Coverage, findings: &mut Findings) {
    let Some(window) = seen.window.filter(|window| window.0 > 0) else { return };
    let (all, asked) = (duration(seen.covered.0), duration(window.0));
    let words = match seen.covered > window && all != asked {
        true => format!("{all} are covered, more than the window of {asked}"),
        false => format!("{all} of {asked} are covered"),
    };
    // A recorder that has only begun has nothing to look back on.
    let share = seen.covered.0 as f64 / window.0 as f64;
    if seen.from_begin || share >= 0.8 {
        let why = if seen.from_begin && share < 0.8 { ": all since it was started" } else { "" };
        return findings.ok("window", format!("{words}{why}"));
    }
    let why = seen.too_small().map_or(String::new(), |why| format!("; {why}"));
    let advice = seen.would_do().unwrap_or_else(|| "a larger `max_bytes`".to_owned());
    findings.warning("window", format!("{words}{why}"), advice);
}
