//! Each analysis finds what is planted, and raises no false alarm.

use super::test_trace::Script;
use super::*;
use crate::read::Level;

mod failures;
mod locks;
mod polls;
mod spans;
mod tasks;

fn titles(report: &Report) -> Vec<String> {
    report.findings().iter().map(|finding| finding.title.clone()).collect()
}

/// A healthy service with two workers: requests that wait for a database task, and are soon served.
fn healthy(script: &mut Script, seconds: u64) {
    script.worker(0.0, 1, 0).worker(0.1, 2, 1);
    script.spawn(0.2, 1, 900, "accept").poll(0.3, 1, 900).pending(0.4, 1);
    script.spawn(0.5, 1, 901, "db").poll(0.6, 2, 901).pending(0.7, 2);
    script.park(0.8, 1).park(0.8, 2);
    for turn in 0..seconds * 20 {
        let (at, number) = (2.0 + turn as f64 * 49.0, 1000 + turn as u32);
        script.unpark(at, 1).wake(at, 1, 900).poll(at + 0.01, 1, 900);
        script.spawn(at + 0.02, 1, number, "request").pending(at + 0.03, 1);
        script.poll(at + 0.05, 1, number).open(at + 0.06, 1, number, "handle");
        script.enter(at + 0.07, 1, number).wake(at + 0.1, 1, 901);
        script.exit(at + 0.11, 1, number).pending(at + 0.12, 1).park(at + 0.2, 1);
        script.unpark(at + 0.2, 2).poll(at + 0.3, 2, 901).wake(at + 0.8, 2, number);
        script.pending(at + 0.9, 2).park(at + 1.0, 2);
        script.unpark(at + 0.9, 1).poll(at + 1.0, 1, number).enter(at + 1.1, 1, number);
        script.exit(at + 1.2, 1, number).close(at + 1.3, 1, number).ready(at + 1.4, 1);
        script.counter(at + 1.4, "queue", f64::from(number % 7)).park(at + 1.5, 1);
    }
}

#[test]
fn a_message_that_was_cut_says_so() {
    let mut script = Script::new(1, &[]);
    script.log_cut(1.0, 1, Level::Info, "a long sto", true);
    script.log(1.1, 1, Level::Info, "a story");
    let report = script.report();
    let said: Vec<_> = report.logs.table.last.iter().map(|log| log.message.as_str()).collect();
    assert_eq!(said, ["a long sto…", "a story"]);
}

#[test]
fn a_healthy_service_has_nothing_to_find() {
    let mut script = Script::new(3, &[]);
    healthy(&mut script, 3);
    script.log(2990.0, 1, Level::Info, "still here");
    let report = script.report();
    assert_eq!(titles(&report), [""; 0]);
    let not: Vec<_> = report.not_assessed().iter().map(|(analysis, _)| *analysis).collect();
    assert_eq!(not, ["starved", "heap"], "neither is recorded");
    assert_eq!(report.polls.table.lengths.count(), 2 + 4 * 60);
    assert_eq!(report.delays.table.long, 0);
    assert_eq!(report.spans.table.names[0].lengths.count(), 60);
    let counter = &report.counters.table.counters[0];
    assert_eq!((counter.least, counter.most, counter.samples), (0.0, 6.0, 60));
    assert_eq!(report.logs.table.last[0].message, "still here");
    assert_eq!(report.endings.table.ready, 60);
    let [first, second] = &report.workers.table.workers[..] else { panic!() };
    assert!(first.busy() < 0.1 && second.busy() < 0.1, "{first:?} {second:?}");
    assert!(first.polling.0 > 0 && first.outside.0 > 0);
}

#[test]
fn work_that_is_not_recorded_is_told() {
    let mut script = Script::new(1, &[]);
    script.worker(0.0, 1, 0).spawn(1.0, 1, 1, "small").poll(2.0, 1, 1).ready(5.0, 1);
    script.park(500.0, 1);
    let report = script.report();
    assert_eq!(
        titles(&report),
        ["99 % of the workers' time at work was outside of the polls of recorded tasks"]
    );
    let worker = &report.workers.table.workers[0];
    assert_eq!((worker.outside, worker.parked), (Nanos(497_000_000), Nanos(500_000_000)));
}

#[test]
fn a_region_that_is_still_open_is_compared_with_others_of_its_name() {
    let mut script = Script::new(2, &[]);
    for turn in 0..20 {
        let at = f64::from(turn) * 10.0;
        script
            .begin(at, 1, "request")
            .region(at + 0.1, at + 1.0, 1, "lock")
            .end_region(at + 2.0, 1);
    }
    script.begin(1000.0, 1, "request").begin(1001.0, 1, "lock").begin(1001.5, 1, "fetch");
    let report = script.report();
    assert_eq!(
        titles(&report),
        ["w-1#1 was still in region `lock` after 999 ms, where the median of 20 is 900 µs; \
          998 ms of it in `fetch`"]
    );
    assert_eq!(
        report.regions.findings[0].evidence[0].what,
        "in it up to the end, inside of request"
    );
    let names: Vec<_> = report.regions.table.names.iter().map(|of| (&*of.name, of.open)).collect();
    assert_eq!(names, [("request", 1), ("lock", 1), ("fetch", 1)]);
}

#[test]
fn without_tasks_nothing_is_said_of_them() {
    let mut script = Script::new(1, &[]);
    script.region(1.0, 500.0, 1, "parse");
    let report = script.report();
    assert_eq!(titles(&report), [""; 0]);
    let not: Vec<_> = report.not_assessed().iter().map(|(analysis, _)| *analysis).collect();
    let all = [
        "polls", "delays", "spans", "stuck", "waits", "busy", "endings", "workers", "counters",
        "starved", "tasks", "heap", "changes", "logs",
    ];
    assert_eq!(not, all);
}

#[test]
fn what_was_different_in_the_last_second_is_told() {
    let mut script = Script::new(5, &[]);
    for turn in 0..500 {
        let at = f64::from(turn) * 10.0;
        script.region(at, at + 0.5, 1, "steady");
        if turn < 400 {
            script.region(at + 1.0, at + 1.5, 1, "gone");
        } else {
            script.log(at + 2.0, 1, Level::Error, "no connection");
        }
    }
    let report = script.report();
    let changes: Vec<_> = report
        .changes
        .table
        .changes
        .iter()
        .map(|change| (change.kind, &*change.name, change.last, change.before.round()))
        .collect();
    assert_eq!(changes, [("error log", "shop", 100, 0.0), ("region", "gone", 0, 100.0)]);
}

#[test]
fn what_was_over_before_the_window_comes_last_with_its_age() {
    let mut script = Script::new(20, &[]);
    script.worker(0.0, 1, 0).spawn(1.0, 1, 1, "early").spawn(1.0, 1, 2, "late");
    script.poll(2.0, 1, 2).pending(3.0, 1);
    script.poll(1000.0, 1, 1).pending(2000.0, 1);
    script.wake(15_000.0, 1, 2).poll(15_000.0, 1, 2).pending(15_020.0, 1);
    let mut report = script.report();
    let order = |report: &Report| -> Vec<_> {
        let found = report.findings().into_iter().filter(|one| one.analysis == "polls");
        found
            .map(|one| (one.title.contains("`early`"), report.before_window(one).map(|ago| ago.0)))
            .collect()
    };
    assert_eq!(order(&report), [(true, None), (false, None)], "without a window");
    report.coverage.table.window = Some(Nanos(10_000_000_000));
    assert_eq!(order(&report), [(false, None), (true, Some(18_000_000_000))]);
    report.coverage.table.window = Some(Nanos(18_000_000_000));
    assert_eq!(order(&report), [(true, None), (false, None)]);
}
