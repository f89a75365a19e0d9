//! The summary as one JSON object. Its keys are stable.

use super::findings::{commands, events_at};
use super::locks;
use super::machine_json;
use crate::frames;
use crate::stacks::idle_json;
use lookback::read::Trace;
use lookback::read::analysis::{
    BlockerRef, Delay, Evidence, Finding, Histogram, IdleTasks, LeftOut, LogLine, LongPoll, Report,
    SlowSpan, SpanGap, SpanRef, Stand, TaskRef, ThreadRef, WakeRef,
};
use lookback::read::symbols::Symbolizer;
use lookback::read::wire::Nanos;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Without a symbolizer, the frames of stacks have no functions.
pub fn report(
    report: &Report,
    findings: &[&Finding],
    trace: &Trace,
    damage: &[String],
    mut symbolizer: Option<&mut Symbolizer>,
) -> Value {
    let incident = incident(report, symbolizer.as_deref_mut());
    let mut logs = |logs: &[LogLine]| -> Vec<_> {
        logs.iter().map(|line| log(line, symbolizer.as_deref_mut())).collect()
    };
    let (last, warnings) = (logs(&report.logs.table.last), logs(&report.logs.table.warnings));
    let mut chains = Chains { report, symbolizer };
    let (mut stuck, waits) = (stuck(&mut chains), waits(&mut chains));
    stuck["idle"] = idle(trace);
    let not_assessed: Vec<_> = report
        .not_assessed()
        .into_iter()
        .map(|(analysis, because)| json!({ "analysis": analysis, "because": because }))
        .collect();
    json!({
        "file": trace.file(),
        "coverage": coverage(report),
        "incident": incident,
        "end_ns": report.end.0,
        "findings": findings.iter().map(|one| finding(one, report, trace)).collect::<Vec<_>>(),
        "not_assessed": not_assessed,
        "polls": polls(report),
        "delays": delays(report),
        "failures": {
            "failed": report.failures.table.failed,
            "cancelled": report.failures.table.cancelled,
        },
        "spans": spans(report),
        "regions": regions(report),
        "locks": locks::json(report),
        "standing": standing(report),
        "stuck": stuck,
        "waits": waits,
        "busy": busy(report),
        "endings": endings(report),
        "workers": workers(report),
        "counters": counters(report),
        "system": machine_json::system(report),
        "blocking": machine_json::blocking(report),
        "starved": machine_json::starved(report),
        "runtimes": machine_json::runtimes(report),
        "ranges": machine_json::ranges(report),
        "tasks": machine_json::tasks(report),
        "heap": machine_json::heap(report, chains.symbolizer),
        "changes": changes(report),
        "losses": losses(report),
        "logs": {
            "levels": report.logs.table.levels,
            "last": last,
            "warnings": warnings,
        },
        "damage": damage,
    })
}

/// The union of these objects.
fn all(parts: impl IntoIterator<Item = Value>) -> Value {
    let mut sum = Map::new();
    for part in parts {
        if let Value::Object(part) = part {
            sum.extend(part);
        }
    }
    Value::Object(sum)
}

fn coverage(report: &Report) -> Value {
    let coverage = &report.coverage.table;
    let stops = coverage.stops.iter();
    let stops = stops.map(|stop| json!({ "t_ns": stop.at.0, "length_ns": stop.length.0 }));
    let incomplete = coverage.incomplete.iter().map(|generation| generation.0);
    json!({
        "process": coverage.process,
        "pid": coverage.pid,
        "reason": coverage.reason,
        "trigger": coverage.trigger,
        "taken": coverage.taken,
        "covered_ns": coverage.covered.0,
        "window_ns": coverage.window.map(|window| window.0),
        "max_bytes": coverage.max_bytes,
        "needed_bytes": coverage.needed_bytes,
        "generations": coverage.generations,
        "incomplete": incomplete.collect::<Vec<_>>(),
        "gaps": coverage.gaps,
        "stops": stops.collect::<Vec<_>>(),
        "events": coverage.events,
        "task_events": coverage.task_events,
        "thread_events": coverage.thread_events,
        "cpu_samples": coverage.cpu_samples,
        "worker_events": coverage.worker_events,
        "span_events": coverage.span_events,
        "region_events": coverage.region_events,
        "range_events": coverage.range_events,
        "typed": coverage.typed,
        "counters": coverage.counters,
        "logs": coverage.logs,
    })
}

fn incident(report: &Report, mut symbolizer: Option<&mut Symbolizer>) -> Value {
    let causes = report.incident.table.causes.iter().map(|cause| {
        json!({
            "trigger": cause.trigger,
            "reason": cause.reason,
            "where": cause.evidence.as_ref().map(evidence),
            "regions": cause.regions,
            "stack": frames::json(&cause.stack, symbolizer.as_deref_mut()),
        })
    });
    json!({
        "causes": causes.collect::<Vec<_>>(),
        "panics": report.incident.table.panics,
        "stacks": report.incident.table.stacks,
    })
}

fn finding(finding: &Finding, report: &Report, trace: &Trace) -> Value {
    json!({
        "analysis": finding.analysis,
        "title": finding.title,
        "ago_ns": report.before_window(finding).map(|ago| ago.0),
        "score": (finding.score.number() * 1e4).round() / 1e4,
        "value": finding.score.value,
        "limit": finding.score.limit,
        "unit": finding.score.unit.name(),
        "lock": finding.lock.as_ref().map(locks::waiter),
        "commands": commands(finding, Path::new(trace.file())),
        "evidence": finding.evidence.iter().map(evidence).collect::<Vec<_>>(),
    })
}

fn evidence(evidence: &Evidence) -> Value {
    all([
        json!({
            "what": evidence.what,
            "depth": evidence.depth,
            "t_ns": evidence.at.0,
            "until_ns": evidence.until.map(|until| until.0),
            "before_end_ns": evidence.before_end.0,
        }),
        thread(evidence.thread.as_ref()),
        task(evidence.task.as_ref()),
        span(evidence.span.as_ref()),
        json!({ "events": events_at(evidence) }),
    ])
}

fn thread(thread: Option<&ThreadRef>) -> Value {
    json!({
        "thread": thread.map(|thread| thread.number.0),
        "thread_name": thread.map(|thread| &*thread.name),
        "thread_worker": thread.and_then(ThreadRef::worker_label),
    })
}

fn task(task: Option<&TaskRef>) -> Value {
    json!({
        "task": task.map(|task| task.task.to_string()),
        "task_name": task.map(|task| &*task.name),
    })
}

fn span(span: Option<&SpanRef>) -> Value {
    json!({
        "span": span.map(|span| span.span.to_string()),
        "span_name": span.map(|span| &*span.name),
        "span_fields": span.map(|span| &*span.fields),
    })
}

fn lengths(lengths: &Histogram) -> Value {
    let at = |part| lengths.percentile(part).0;
    json!({
        "count": lengths.count(),
        "total_ns": lengths.total().0,
        "min_ns": lengths.least().0,
        "p50_ns": at(0.5),
        "p90_ns": at(0.9),
        "p99_ns": at(0.99),
        "max_ns": lengths.most().0,
    })
}

fn polls(report: &Report) -> Value {
    let polls = &report.polls.table;
    let longest: Vec<_> = polls.longest.iter().map(long_poll).collect();
    all([lengths(&polls.lengths), json!({ "long": polls.long, "longest": longest })])
}

fn long_poll(poll: &LongPoll) -> Value {
    let victims = poll.victims.iter().map(|victim| {
        let by = victim.polled_by.as_ref();
        all([
            task(Some(&victim.task)),
            json!({
                "runnable_ns": victim.runnable.0,
                "waited_ns": victim.waited.0,
                "polled_by": by.map(|thread| thread.number.0),
                "same_thread": victim.same_thread,
            }),
        ])
    });
    all([
        task(Some(&poll.task)),
        thread(Some(&poll.thread)),
        json!({ "worker": poll.worker.map(|worker| worker.to_string()) }),
        span(poll.span.as_ref()),
        json!({
            "region": poll.region,
            "route": poll.route.as_ref().map(SpanRef::label),
            "t_ns": poll.began.0,
            "length_ns": poll.length.0,
            "before": poll.before,
            "running": poll.running,
            "handed_over": poll.handed_over,
            "lock": poll.lock.as_ref().map(locks::waiter),
            "lock_waited_ns": poll.lock.as_ref().map(|_| poll.lock_waited.0),
            "waited": poll.waited,
            "victims": victims.collect::<Vec<_>>(),
        }),
    ])
}

fn delays(report: &Report) -> Value {
    let delays = &report.delays.table;
    let longest: Vec<_> = delays.longest.iter().map(delay).collect();
    let rest = json!({
        "long": delays.long,
        "causes_unknown": delays.causes_unknown,
        "longest": longest,
    });
    all([lengths(&delays.lengths), rest])
}

fn delay(delay: &Delay) -> Value {
    all([
        task(Some(&delay.task)),
        span(delay.span.as_ref()),
        json!({
            "runnable_ns": delay.runnable.0,
            "length_ns": delay.length.0,
            "wakes": delay.wakes.iter().map(wake).collect::<Vec<_>>(),
            "polled_by": delay.polled_by.as_ref().map(|thread| thread.number.0),
            "blocker": delay.blocker.as_ref().map(blocker),
        }),
    ])
}

fn wake(wake: &WakeRef) -> Value {
    all([
        json!({ "t_ns": wake.at.0, "spawned": wake.spawned }),
        thread(Some(&wake.thread)),
        task(wake.task.as_ref()),
        json!({ "polled_since_ns": wake.polled.map(|polled| polled.0) }),
    ])
}

fn blocker(blocker: &BlockerRef) -> Value {
    let times = json!({ "t_ns": blocker.began.0, "length_ns": blocker.length.0 });
    all([task(Some(&blocker.task)), times])
}

fn spans(report: &Report) -> Value {
    let names = report.spans.table.names.iter().map(|of| {
        let slowest: Vec<_> = of.slowest.iter().map(slow_span).collect();
        all([
            json!({ "name": of.name, "group": of.group, "open": of.open }),
            lengths(&of.lengths),
            json!({
                "failed": of.outcomes.failed,
                "cancelled": of.outcomes.cancelled,
                "outcomes": of.outcomes.by,
                "first_failed_ns": of.outcomes.first_failed.map(|at| at.0),
                "slowest": slowest,
            }),
        ])
    });
    json!({ "names": names.collect::<Vec<_>>(), "others": report.spans.table.others })
}

fn slow_span(slow: &SlowSpan) -> Value {
    let spent = slow.spent.as_ref().map(|spent| {
        json!({
            "polling_ns": spent.polling.0,
            "waiting_ns": spent.waiting.0,
            "runnable_ns": spent.runnable.0,
            "unknown_ns": spent.unknown.0,
            "reasons": spent.reasons.iter().map(reason).collect::<Vec<_>>(),
            "shared": spent.shared,
            "gaps": spent.gaps.iter().map(gap).collect::<Vec<_>>(),
        })
    });
    all([
        span(Some(&slow.span)),
        json!({ "t_ns": slow.began.0, "length_ns": slow.length.0, "open": slow.open, "before": slow.before }),
        thread(slow.thread.as_ref()),
        task(slow.task.as_ref()),
        json!({
            "inside_ns": slow.inside.map(|inside| inside.0),
            "spent": spent,
            "lock": slow.lock.as_ref().map(locks::waiter),
        }),
    ])
}

fn reason((waits_for, length): &(String, Nanos)) -> Value {
    json!({ "waits_for": waits_for, "waiting_ns": length.0 })
}

fn gap(gap: &SpanGap) -> Value {
    json!({
        "t_ns": gap.began.0,
        "waiting_ns": gap.waiting.0,
        "waits_for": gap.waits_for,
        "runnable_ns": gap.runnable.0,
        "wakes": gap.wakes.iter().map(wake).collect::<Vec<_>>(),
        "polled_by": gap.polled_by.as_ref().map(|thread| thread.number.0),
        "blocker": gap.blocker.as_ref().map(blocker),
    })
}

fn regions(report: &Report) -> Value {
    let names = report.regions.table.names.iter().map(|of| {
        let slowest = of.slowest.iter().map(|region| {
            let times = json!({
                "t_ns": region.began.0,
                "length_ns": region.length.0,
                "open": region.open,
                "within": region.within,
            });
            all([thread(Some(&region.thread)), times])
        });
        let slowest: Vec<_> = slowest.collect();
        all([
            json!({ "name": of.name, "open": of.open }),
            lengths(&of.lengths),
            json!({ "slowest": slowest }),
        ])
    });
    json!({ "names": names.collect::<Vec<_>>(), "others": report.regions.table.others })
}

fn standing(report: &Report) -> Value {
    let stand = |stand: &Stand| {
        all([
            thread(stand.thread.as_ref()),
            task(stand.task.as_ref()),
            json!({
                "what": stand.what,
                "within": stand.within,
                "since_ns": stand.since.0,
                "length_ns": stand.length.0,
            }),
        ])
    };
    let standing = &report.standing.table;
    json!({
        "locks": standing.locks.iter().map(stand).collect::<Vec<_>>(),
        "others": standing.others.iter().map(stand).collect::<Vec<_>>(),
    })
}

/// Where tasks wait.
struct Chains<'a, 'b> {
    report: &'a Report,
    symbolizer: Option<&'b mut Symbolizer>,
}

impl Chains<'_, '_> {
    /// The await chains of a task; null if they are unknown.
    fn of(&mut self, task: &TaskRef) -> Value {
        let places = self.report.waiting.get(&task.task).map(|at| &at.places[..]);
        let Some(places) = places.filter(|places| !places.is_empty()) else { return Value::Null };
        let chains = places.iter().map(|place| {
            let frames = frames::json(&place.stack, self.symbolizer.as_deref_mut());
            json!({ "earlier": place.is_earlier, "frames": frames })
        });
        chains.collect()
    }
}

/// Of how many idle tasks it is known where they wait.
fn idle(trace: &Trace) -> Value {
    let last = trace.generations().iter().rfind(|info| info.complete);
    let last = last.and_then(|last| trace.generation(last.number).ok());
    last.map_or(Value::Null, |last| idle_json(&IdleTasks::at_end_of(&last)))
}

fn waits(chains: &mut Chains<'_, '_>) -> Value {
    let report = chains.report;
    let reasons = report.waits.table.reasons.iter().map(|of| {
        let longest = of.longest.iter().map(|wait| {
            let times = json!({
                "t_ns": wait.began.0,
                "length_ns": wait.length.0,
                "open": wait.open,
                "waits_at": if wait.open { chains.of(&wait.task) } else { Value::Null },
            });
            all([task(Some(&wait.task)), times])
        });
        let longest: Vec<_> = longest.collect();
        all([
            json!({ "reason": of.reason, "open": of.open, "most_at_once": of.most_at_once }),
            lengths(&of.lengths),
            json!({
                "count": of.count(),
                "total_ns": of.total.0,
                "longest": longest,
            }),
        ])
    });
    json!({ "reasons": reasons.collect::<Vec<_>>(), "others": report.waits.table.others })
}

fn stuck(chains: &mut Chains<'_, '_>) -> Value {
    let stuck = &chains.report.stuck.table;
    let longest = stuck.longest.iter().map(|idle| {
        all([
            task(Some(&idle.task)),
            json!({
                "since_ns": idle.since.0,
                "length_ns": idle.length.0,
                "before": idle.before,
                "waits_for": idle.waits_for,
                "lock": idle.lock.as_ref().map(locks::waiter),
                "limit_ns": idle.limit.map(|limit| limit.0),
                "waits_at": chains.of(&idle.task),
            }),
            span(idle.span.as_ref()),
        ])
    });
    json!({
        "live": stuck.live,
        "active": stuck.active,
        "idle_throughout": stuck.idle_throughout,
        "longest": longest.collect::<Vec<_>>(),
    })
}

fn busy(report: &Report) -> Value {
    let longest = report.busy.table.longest.iter().map(|run| {
        let times = json!({
            "polls": run.polls,
            "t_ns": run.began.0,
            "length_ns": run.length.0,
            "polling_ns": run.polling.0,
        });
        all([task(Some(&run.task)), times])
    });
    json!({
        "self_wakes": report.busy.table.self_wakes,
        "longest": longest.collect::<Vec<_>>(),
    })
}

fn endings(report: &Report) -> Value {
    let endings = &report.endings.table;
    let panics = endings.panics.iter().map(|panic| {
        all([json!({ "t_ns": panic.at.0 }), task(Some(&panic.task)), thread(Some(&panic.thread))])
    });
    json!({
        "spawned": endings.spawned,
        "ready": endings.ready,
        "dropped": endings.dropped,
        "panicked": endings.panicked,
        "panics": panics.collect::<Vec<_>>(),
    })
}

fn workers(report: &Report) -> Value {
    let workers = &report.workers.table;
    let each = workers.workers.iter().map(|worker| {
        all([
            json!({ "worker": worker.worker.to_string(), "name": worker.name }),
            thread(Some(&worker.thread)),
            json!({
                "observed_ns": worker.observed.0,
                "parked_ns": worker.parked.0,
                "polling_ns": worker.polling.0,
                "outside_ns": worker.outside.0,
                "unknown_ns": worker.unknown.0,
                "busy": worker.busy(),
                "polls": worker.polls,
                "longest_ns": worker.longest.0,
                "gone": worker.gone,
            }),
        ])
    });
    json!({
        "busy": workers.busy(),
        "uninstrumented": workers.uninstrumented(),
        "workers": each.collect::<Vec<_>>(),
    })
}

fn counters(report: &Report) -> Value {
    let counters = report.counters.table.counters.iter().map(|counter| {
        json!({
            "name": counter.name,
            "samples": counter.samples,
            "first": counter.first,
            "last": counter.last,
            "min": counter.least,
            "min_t_ns": counter.least_at.0,
            "max": counter.most,
            "max_t_ns": counter.most_at.0,
            "mean": counter.mean,
        })
    });
    json!({
        "counters": counters.collect::<Vec<_>>(),
        "others": report.counters.table.others,
        "not_finite": report.counters.table.not_finite,
    })
}

fn changes(report: &Report) -> Value {
    let changes = report.changes.table.changes.iter().map(|change| {
        json!({
            "kind": change.kind,
            "name": change.name,
            "last": change.last,
            "before": change.before,
        })
    });
    json!({ "changes": changes.collect::<Vec<_>>() })
}

fn losses(report: &Report) -> Value {
    let losses = &report.losses.table;
    json!({
        "lost": losses.lost,
        "generations": losses.generations.iter().map(|g| g.0).collect::<Vec<_>>(),
        "share": losses.share,
        "omitted": losses.omitted,
        "left_out": left_out(&losses.left_out),
        "nameless": losses.nameless,
        "unshared_texts": losses.unshared_texts,
        "damaged": losses.damaged.iter().map(|g| g.0).collect::<Vec<_>>(),
    })
}

/// What was recorded only in part.
pub fn left_out(left_out: &LeftOut) -> Value {
    json!({
        "statuses": left_out.statuses,
        "texts": left_out.texts,
        "omitted_fields": left_out.omitted_fields,
        "fields": left_out.fields,
        "deeper": left_out.deeper,
    })
}

fn log(log: &LogLine, symbolizer: Option<&mut Symbolizer>) -> Value {
    all([
        json!({
            "t_ns": log.at.0,
            "level": log.level.name(),
            "category": log.category,
            "message": log.message,
            "fields": log.fields,
            "stack": frames::json(&log.stack, symbolizer),
        }),
        thread(Some(&log.thread)),
        task(log.task.as_ref()),
        span(log.span.as_ref()),
    ])
}
