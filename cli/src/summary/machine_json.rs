//! What is in JSON of the process, its machine, its runtimes, its tasks and its heap.

use crate::frames;
use lookback::read::analysis::{HeapStackChange, Report, SystemRange};
use lookback::read::symbols::Symbolizer;
use serde_json::{Value, json};

fn counter(one: &SystemRange) -> Value {
    json!({
        "name": one.counter.name(),
        "group": one.counter.group().name(),
        "unit": one.counter.unit().name(),
        "increase": one.counter.is_increase(),
        "readings": one.readings,
        "time_ns": one.time.0,
        "first": one.first,
        "last": one.last,
        "min": one.least,
        "max": one.most,
        "max_t_ns": one.most_at.0,
        "sum": one.counter.is_increase().then_some(one.sum),
    })
}

pub fn system(report: &Report) -> Value {
    let counters = report.system.table.counters.iter().map(counter);
    json!({ "counters": counters.collect::<Vec<_>>() })
}

pub fn blocking(report: &Report) -> Value {
    let of = &report.blocking.table;
    let had_by = of.had_by.iter().map(|(name, count)| json!({ "name": name, "count": count }));
    json!({
        "begun": of.begun,
        "late": of.late,
        "queued": of.queued,
        "running": of.running,
        "longest_ns": of.longest.0,
        "had_by": had_by.collect::<Vec<_>>(),
    })
}

pub fn starved(report: &Report) -> Value {
    let of = &report.starved.table;
    json!({
        "ran_ns": of.ran.0,
        "waited_ns": of.waited.0,
        "time_ns": of.time.0,
        "cores": of.cores,
        "used": of.used,
    })
}

pub fn runtimes(report: &Report) -> Value {
    let runtimes = report.runtimes.table.runtimes.iter().map(|of| {
        json!({
            "runtime": format!("r{}", of.runtime),
            "counters": of.counters.iter().map(counter).collect::<Vec<_>>(),
        })
    });
    json!({ "runtimes": runtimes.collect::<Vec<_>>() })
}

pub fn ranges(report: &Report) -> Value {
    let names = report.ranges.table.names.iter().map(|of| {
        json!({
            "name": of.name,
            "count": of.count,
            "open": of.open,
            "total_ns": of.total.0,
            "max_ns": of.longest.0,
            "max_t_ns": of.longest_at.0,
        })
    });
    json!({ "names": names.collect::<Vec<_>>(), "others": report.ranges.table.others })
}

pub fn tasks(report: &Report) -> Value {
    let names = report.tasks.table.names.iter().map(|of| {
        json!({
            "name": of.name,
            "size": (of.size > 0).then_some(of.size),
            "first": of.first,
            "last": of.last,
            "max": of.most,
            "spawned": of.spawned,
            "max_spawned": of.most_spawned.0,
            "max_spawned_t_ns": of.most_spawned.1.0,
        })
    });
    json!({ "names": names.collect::<Vec<_>>(), "others": report.tasks.table.others })
}

pub fn heap(report: &Report, mut symbolizer: Option<&mut Symbolizer>) -> Value {
    let of = &report.heap.table;
    let mut changes = |changes: &[HeapStackChange]| -> Vec<_> {
        let one = |change: &HeapStackChange| {
            json!({
                "bytes": change.bytes,
                "samples": change.samples,
                "frames": frames::json(&change.stack, symbolizer.as_deref_mut()),
            })
        };
        changes.iter().map(one).collect()
    };
    let (growing, burst) = (changes(&of.growing), changes(&of.burst));
    json!({
        "first": of.live.map(|(first, _)| first),
        "last": of.live.map(|(_, last)| last),
        "peak": of.peak,
        "allocated": of.allocated,
        "growing": growing,
        "burst": burst,
    })
}
