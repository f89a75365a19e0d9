//! What is in a snapshot: is anything instrumented, what is lost, how much is covered.

use super::Findings;
use crate::text::{bytes, count, counted, duration};
use lookback::read::analysis::{Coverage, Report, UNINSTRUMENTED};
use lookback::read::wire::key;
use lookback::read::{EventKind, Trace};
use std::collections::BTreeMap;

/// So many of the bytes of an arena are of complete generations, about.
const SPARE: f64 = 1.25;

pub fn look(trace: &Trace, findings: &mut Findings) {
    let report = Report::of(trace);
    for error in trace.damage().iter().chain(&report.damage) {
        findings.problem("damage", error.to_string(), "what is whole can be read all the same");
    }
    instrumented(trace, &report, findings);
    lost(&report, findings);
    covered(trace, &report.coverage.table, findings);
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
    if seen.events <= bare {
        let what = format!("nothing was recorded in {}", duration(seen.covered.0));
        let advice = "a recorder runs, and nothing tells it anything: set `lookback::tracing::subscriber()` \
                      or add `lookback::tracing::layer()`, spawn with `lookback::spawn`, use `lookback::region!`";
        return findings.problem("content", what, advice);
    }
    let kinds = [
        (seen.task_events, "of tasks"),
        (seen.worker_events, "of workers"),
        (seen.span_events, "of spans"),
        (seen.region_events, "of regions"),
        (seen.logs, "logs"),
        (seen.typed, "typed"),
        (seen.counters, "of counters"),
    ];
    let kinds = kinds.iter().filter(|(many, _)| *many > 0);
    let kinds: Vec<_> = kinds.map(|(many, what)| format!("{} {what}", count(*many))).collect();
    let on = counted(threads.len() as u64, "thread");
    findings.ok("content", format!("{} events on {on}: {}", count(seen.events), kinds.join(", ")));
    let is_tokio =
        |name: &String| name.starts_with("tokio-rt-worker") || name.starts_with("tokio-runtime");
    let tokio = threads.values().any(is_tokio) || seen.worker_events + seen.task_events > 0;
    if tokio && seen.task_events == 0 {
        let advice = "spawn with `lookback::spawn` instead of `tokio::spawn`";
        findings.warning("tasks", "it runs on Tokio, and no task is recorded", advice);
    }
    if tokio && seen.worker_events == 0 && report.workers.table.workers.is_empty() {
        let advice = "call `lookback::tokio::instrument(&mut builder)` before the runtime is built";
        findings.warning("workers", "it runs on Tokio, and no worker is recorded", advice);
    }
    let unseen = report.workers.table.uninstrumented();
    if !report.workers.table.workers.is_empty() && unseen > UNINSTRUMENTED {
        let what =
            format!("{:.0} % of the time at work is outside of recorded tasks", unseen * 100.0);
        findings.warning("tasks", what, "spawn with `lookback::spawn` instead of `tokio::spawn`");
    }
    if seen.span_events == 0 && seen.logs == 0 {
        let advice = "if it uses `tracing`, add `lookback::tracing::layer()` to its subscriber";
        findings.warning("spans", "no span and no log is recorded", advice);
    }
}

fn lost(report: &Report, findings: &mut Findings) {
    let losses = &report.losses.table;
    if losses.lost.is_empty() {
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
    if losses.omitted > 0 {
        let what = format!(
            "{} left out for want of room",
            counted(losses.omitted, "status").replace("statuss", "statuses")
        );
        findings.warning("losses", what, "a larger `max_bytes`");
    }
}

fn covered(trace: &Trace, seen: &Coverage, findings: &mut Findings) {
    let Some(window) = seen.window.filter(|window| window.0 > 0) else { return };
    let words = format!("{} of {} are covered", duration(seen.covered.0), duration(window.0));
    // A recorder that has only begun has nothing to look back on.
    let from_begin = trace.generations().first().is_some_and(|first| first.number.0 <= 1);
    let share = seen.covered.0 as f64 / window.0 as f64;
    if from_begin || share >= 0.8 {
        let why = if from_begin && share < 0.8 { ": it has only begun" } else { "" };
        return findings.ok("window", format!("{words}{why}"));
    }
    let bound = trace.metadata().number(key::MAX_BYTES).unwrap_or_default();
    let need = (bound as f64 / share.max(1e-6) * SPARE) as u64;
    let advice = format!("for all of it `max_bytes` would have to be about {}", bytes(need));
    findings.warning("window", words, advice);
}
