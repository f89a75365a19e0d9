//! Checks a snapshot: is anything instrumented, what is lost, how much is covered.

use super::{Findings, locks};
use crate::format::{count, counted, duration, escape};
use lookback::read::analysis::{Coverage, Report, UNINSTRUMENTED};
use lookback::read::wire::{HOOKED_TASK, Nanos, key};
use lookback::read::{EventKind, Lent, Site, Trace};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A service that has recorded nothing for this long probably never will.
const SILENT: Nanos = Nanos(1_000_000_000);
/// Before this much time, missing kinds of events may still come.
const EARLY: Nanos = Nanos(2_000_000_000);
/// With less work or fewer polls, the share of recorded work means nothing: a starting runtime does most of
/// it.
const ENOUGH_WORK: Nanos = Nanos(500_000_000);
const ENOUGH_POLLS: u64 = 100;
/// With fewer requests, there may have been none of a route.
const ENOUGH_REQUESTS: u64 = 10;
/// Where the HTTP layer makes its spans.
const HTTP_LAYER: &str = "src/axum/request.rs";
/// A poll that has not returned for this long is said to stand.
const STANDING: Nanos = Nanos(1_000_000_000);
/// How many generations are usually incomplete if a process was killed, or is read from outside.
const USUAL_INCOMPLETE: usize = 2;
/// How many places of spawns are listed.
const MOST_PLACES: usize = 10;
/// The default names of Tokio's threads.
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
        findings.problem("damage", error.to_string(), "the intact parts can be read all the same");
    }
    instrumented(trace, &report, findings);
    lost(&report, findings);
    statuses(&report.coverage.table, findings);
    left_out(&report, findings);
    covered(&report.coverage.table, findings);
    counters(trace, findings);
    locks::look(trace, &report.locks.table, findings);
}

fn instrumented(trace: &Trace, report: &Report, findings: &mut Findings) {
    let seen = &report.coverage.table;
    let mut threads = BTreeMap::new();
    let mut bare = 0;
    let mut requests = Requests::default();
    let mut events = trace.events();
    while let Some(next) = events.lend() {
        let Ok(Lent { event, .. }) = next else { continue };
        bare += u64::from(matches!(
            event.kind(),
            EventKind::ThreadStart
                | EventKind::ThreadExit
                | EventKind::CpuSample { .. }
                | EventKind::ThreadStands { .. }
                | EventKind::AllocationSample { .. }
                | EventKind::LockWait { .. }
        ));
        if let EventKind::SpanCreate { site, .. } = event.kind()
            && site.name == "request"
            && site.file.ends_with(HTTP_LAYER)
        {
            requests.all += 1;
            requests.routed += u64::from(event.fields().any(|(name, _)| name == "route"));
        }
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
        let advice = "a recorder runs, but nothing is instrumented: set `lookback::tracing::subscriber()` \
                      or add `lookback::tracing::layer()`, spawn with `lookback::spawn`, use `lookback::region!`";
        return findings.problem("content", what, advice);
    }
    let kinds = [
        (seen.task_events, "of tasks"),
        (seen.worker_events, "of workers"),
        (seen.span_events, "of spans"),
        (seen.region_events, "of regions"),
        (seen.range_events, "of ranges"),
        (seen.lock_events, "of locks"),
        (seen.logs, if seen.logs == 1 { "log" } else { "logs" }),
        (seen.typed, "typed"),
        (seen.counters, "of counters"),
        (seen.thread_events, "of threads"),
        (seen.cpu_samples, "of CPU time"),
        (seen.allocation_samples, "of the heap"),
    ];
    let kinds = kinds.iter().filter(|(many, _)| *many > 0);
    let kinds: Vec<_> = kinds.map(|(many, what)| format!("{} {what}", count(*many))).collect();
    let on = counted(threads.len() as u64, "thread");
    findings.ok("content", format!("{} events on {on}: {}", count(seen.events), kinds.join(", ")));
    standing_polls(report, findings);
    spawns(&Spawns::of(trace), findings);
    requests.look(findings);
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
    } else if seen.span_events == 0 && seen.logs == 0 && !seen.filters.is_empty() {
        let what =
            format!("no span and no log was recorded in {time}, though a filter is set for them");
        let advice = "if the program made `lookback::tracing::subscriber()` or `layer()`, another subscriber may be the \
                      global default, so that nothing reaches it: does a library, or `fmt::init()`, set one first? Then \
                      `set_global_default` returned an error";
        findings.warning("spans", what, advice);
    } else if seen.span_events == 0 && seen.logs == 0 {
        let advice = "if it uses `tracing`, add `lookback::tracing::layer()` to its subscriber; `record_log()` needs \
                      that, too, or `lookback::tracing::subscriber()`";
        findings.warning("spans", format!("no span and no log was recorded in {time}"), advice);
    }
}

/// Which counters of the process, its control group and the machine are read, and what cannot be read.
fn counters(trace: &Trace, findings: &mut Findings) {
    let metadata = trace.metadata();
    let Some(groups) = metadata.text(key::SYSTEM_COUNTERS) else { return };
    if groups.is_empty() {
        return findings.ok("counters", "of the process and the machine: none are read");
    }
    let mut what = format!("of the process and the machine: {}", escape(groups));
    let troubles: Vec<_> = metadata.texts(key::SYSTEM_COUNTERS_TROUBLE).map(escape).collect();
    if !troubles.is_empty() {
        what += &format!("; not readable here: {}", troubles.join("; "));
    }
    findings.ok("counters", what);
}

/// How many requests the HTTP layer recorded, and how many of them with a route.
#[derive(Default)]
struct Requests {
    all: u64,
    routed: u64,
}

impl Requests {
    fn look(&self, findings: &mut Findings) {
        if self.all < ENOUGH_REQUESTS || self.routed > 0 {
            return;
        }
        let what = format!(
            "none of {} has a route: the layer knows those of axum 0.8 alone, and only if `Router::layer` added it",
            counted(self.all, "request")
        );
        findings.unknown("routes", what);
    }
}

/// Workers that make no progress: their poll has not returned.
fn standing_polls(report: &Report, findings: &mut Findings) {
    let polls = report.polls.table.longest.iter();
    for poll in polls.filter(|poll| poll.running && !poll.handed_over && poll.length >= STANDING) {
        let by = match poll.worker {
            Some(worker) => format!("worker {worker}"),
            None => format!("thread `{}`", poll.thread.name),
        };
        let task = &poll.task;
        let what = format!(
            "{by} has been in one poll of task `{}` ({}) for {}",
            task.name,
            task.task,
            duration(poll.length.0)
        );
        let advice = "it blocks or computes, and runs no other task meanwhile: `lookback summary` of a snapshot says what \
                      waits for it, `lookback stacks` where it stands";
        findings.warning("workers", what, advice);
    }
}

/// Whether every filter turns `tracing` and `log` off.
fn is_off(seen: &Coverage) -> bool {
    !seen.filters.is_empty() && seen.filters.iter().all(|filter| filter == "off")
}

/// Whether tasks and workers are recorded, as far as the names of threads show a runtime.
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
    // Tasks are recorded on any executor; only the names of its threads identify it.
    let tokio = threads
        .filter(|name| TOKIO.iter().any(|thread| name.starts_with(thread)))
        .min()
        .map(|thread| format!("Tokio runs here (thread `{thread}`)"));
    match &tokio {
        Some(tokio) if !has_tasks => {
            let advice = "spawn with `lookback::spawn` instead of `tokio::spawn` in your own code";
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
            let advice = "call `lookback::tokio::instrument(&mut builder)` before you build the runtime, or use \
                          `#[lookback::main]`";
            findings.warning("workers", what, advice);
        }
        None if !has_workers && has_tasks => {
            let what =
                "tasks are recorded, but no worker, so how busy their executor is cannot be said";
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
    let what = format!("{words}; {:.0} % of that time was outside these", unseen * 100.0);
    if unseen <= UNINSTRUMENTED {
        return findings.ok("work", what);
    }
    let advice = "part of that is the runtime's own work (I/O, timers, looking for tasks); the rest is tasks spawned with \
                  `tokio::spawn`, by your own code or a library's: `lookback::spawn` records them, and a build with \
                  `--cfg tokio_unstable` names their places here";
    findings.warning("work", what, advice);
}

/// How many unwrapped tasks were spawned at each place, as an unstable Tokio reports.
#[derive(Default)]
struct Spawns {
    own: BTreeMap<(String, u32), u64>,
    of_libraries: BTreeMap<(String, u32), u64>,
}

impl Spawns {
    fn of(trace: &Trace) -> Self {
        let mut spawns = Self::default();
        // Those that were there when the snapshot begins; later ones begin in it.
        let first = trace.generations().first();
        if let Some(Ok(first)) = first.map(|first| trace.generation(first.number)) {
            first.tasks().for_each(|task| spawns.add(task.site));
        }
        for event in trace.events().filter_map(Result::ok) {
            if let EventKind::TaskCreate { site, .. } = event.kind() {
                spawns.add(site);
            }
        }
        spawns
    }

    fn add(&mut self, site: Site<'_>) {
        if site.name != HOOKED_TASK {
            return;
        }
        let places =
            if is_of_a_library(site.file) { &mut self.of_libraries } else { &mut self.own };
        *places.entry((site.file.to_owned(), site.line)).or_default() += 1;
    }
}

/// Whether Cargo fetched this file, or it came with the toolchain: a user cannot change it.
fn is_of_a_library(file: &str) -> bool {
    ["/registry/src/", "/git/checkouts/", "/rustc/", "/vendor/"]
        .iter()
        .any(|part| file.contains(part))
}

/// The places that spawn unwrapped tasks, most frequent first.
fn spawns(spawns: &Spawns, findings: &mut Findings) {
    let words = |places: &BTreeMap<(String, u32), u64>| {
        let mut all: Vec<_> = places.iter().collect();
        all.sort_by_key(|(_, many)| Reverse(**many));
        let listed = all.iter().take(MOST_PLACES);
        let listed =
            listed.map(|((file, line), many)| format!("{file}:{line} ({})", count(**many)));
        let mut listed: Vec<_> = listed.collect();
        if all.len() > MOST_PLACES {
            listed.push(counted((all.len() - MOST_PLACES) as u64, "further place"));
        }
        let many = counted(places.values().sum(), "task");
        let were = if places.values().sum::<u64>() == 1 { "was" } else { "were" };
        format!("{many} {were} spawned without a wrapper: {}", listed.join(", "))
    };
    if !spawns.own.is_empty() {
        let what = format!(
            "{}; their types, wakes and cancellations are not recorded",
            words(&spawns.own)
        );
        let advice = "put `use lookback::tokio;` at the top of those files, or spawn with `lookback::spawn` there";
        findings.warning("spawns", what, advice);
    }
    if !spawns.of_libraries.is_empty() {
        findings.ok("spawns", format!("by libraries, {}", words(&spawns.of_libraries)));
    }
}

fn lost(report: &Report, findings: &mut Findings) {
    let losses = &report.losses.table;
    if losses.lost.is_empty() && losses.damaged.is_empty() {
        findings.ok("losses", "no event was lost");
    }
    for (cause, many) in &losses.lost {
        let advice = match &**cause {
            "arena_full" => {
                "set a larger `max_bytes`: the whole arena was in use by generations that had not ended"
            }
            "reentrant" => {
                "a signal handler or an allocator recorded while it interrupted another event: \
                            record less there"
            }
            "no_slot" => "too many threads at once, or events of a thread that has ended",
            "no_id" => {
                "too many different names in one generation: use fixed names, with fields for what varies, \
                        or a shorter `generation_period`"
            }
            "no_place" => "too many tasks or spans at once: are they ever dropped?",
            _ => "this program does not know the cause; use a newer one",
        };
        findings.problem("losses", format!("{} lost: {cause}", counted(*many, "event")), advice);
    }
}

/// Whether the collector wrote the statuses of silent threads and tasks. A generation or two without them are
/// usual: they had not ended when the snapshot was taken.
fn statuses(seen: &Coverage, findings: &mut Findings) {
    if seen.incomplete.len() > USUAL_INCOMPLETE
        && let Some(words) = &seen.without_statuses
    {
        let advice = "the recorder's thread got no processor to write them: are there more busy threads than processors, \
                      or does a CPU quota throttle the process? No event is missing because of it";
        findings.warning("statuses", words.clone(), advice);
    }
}

/// What was recorded only in part.
fn left_out(report: &Report, findings: &mut Findings) {
    let left_out = &report.losses.table.left_out;
    if left_out.statuses > 0 {
        let what = format!(
            "{} left out for want of room: some tasks, spans or threads may be unknown",
            counted(left_out.statuses, "status")
        );
        findings.warning("left out", what, "set a larger `max_bytes`");
    }
    // A text that was cut is marked where it stands: not a fault, but not all of it.
    let mut others = *left_out;
    others.statuses = 0;
    if !others.is_nothing() {
        findings.ok("left out", others.words().join(", "));
    }
    if report.losses.table.refused_barriers > 0 {
        let what = "the kernel refuses `membarrier` to a recording thread (it has a seccomp filter of its own): while the \
             collector is late, that thread loses events";
        let advice = "allow the call in the filter, or set `Barrier::Fence`";
        findings.warning("barrier", what.to_owned(), advice);
    }
    let unshared = report.losses.table.unshared_texts;
    if unshared > 0 {
        // Nothing is missing because of it.
        findings.ok("texts", crate::summary::unshared(unshared));
    }
    let nameless = report.losses.table.nameless;
    if nameless > 0 {
        let what = format!(
            "at least {} found no room in the recorder's table: their values and the names of their spans are not \
             recorded",
            counted(nameless, "callsite")
        );
        let advice = "does the program create `tracing` callsites or task names at run time? There is room for 65,000";
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
    // A recorder that has just started cannot cover its window yet.
    let share = seen.covered.0 as f64 / window.0 as f64;
    if seen.from_begin || share >= 0.8 {
        let why = if seen.from_begin && share < 0.8 { ": all since it was started" } else { "" };
        return findings.ok("window", format!("{words}{why}"));
    }
    let why = seen.too_small().map_or(String::new(), |why| format!("; {why}"));
    let advice = seen.would_do().unwrap_or_else(|| "set a larger `max_bytes`".to_owned());
    findings.warning("window", format!("{words}{why}"), advice);
}
