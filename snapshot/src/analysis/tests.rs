//! Each analysis finds what is planted, and cries no wolf.

use super::script::Script;
use super::*;
use crate::read::Level;

fn titles(report: &Report) -> Vec<String> {
    report.findings().iter().map(|finding| finding.title.clone()).collect()
}

/// A healthy service of two workers: requests that wait for a database task, and are soon served.
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
    assert_eq!(report.not_assessed(), []);
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

/// Task 1 blocks worker 1 for 300 ms; task 2, which it woke, must wait for that thread.
fn blocked(lost: &[(u64, u64)]) -> Report {
    let mut script = Script::new(3, lost);
    healthy(&mut script, 1);
    script.unpark(1000.0, 1);
    script.spawn(1000.0, 1, 1, "reload").spawn(1000.1, 1, 2, "victim");
    script.open(1000.2, 1, 1, "reload_prices");
    script.poll(1001.0, 1, 1).enter(1001.5, 1, 1).region(1002.0, 1290.0, 1, "parse");
    script.exit(1300.0, 1, 1).pending(1301.0, 1).poll(1302.0, 1, 2).ready(1303.0, 1);
    script.park(1304.0, 1).close(1305.0, 1, 1);
    script.report()
}

#[test]
fn a_long_poll_is_found_with_its_span_and_its_victims() {
    let report = blocked(&[]);
    let titles = titles(&report);
    let poll = &report.polls.table.longest[0];
    assert_eq!(poll.length, Nanos(300_000_000));
    assert_eq!(poll.task.name, "reload");
    assert_eq!(poll.span.as_ref().unwrap().name, "reload_prices");
    assert_eq!(poll.region.as_deref(), Some("parse"));
    assert_eq!((poll.waited, poll.victims.len()), (1, 1));
    assert_eq!(poll.victims[0].task.name, "victim");
    assert!(poll.victims[0].same_thread);
    assert!(
        titles[0].starts_with(
            "Task `victim` (2) was spawned and then not polled for 302 ms, until r0/w0 did"
        ),
        "{titles:?}"
    );
    assert!(titles[0].ends_with("which had been polling `reload` (1) for 300 ms"), "{titles:?}");
    assert_eq!(
        titles[1],
        "Task `reload` (1) held worker r0/w0 for 300 ms in span `reload_prices`; \
         1 task waited meanwhile, 1 of them for this thread"
    );
    assert_eq!(titles.len(), 2, "{titles:?}");
    let finding = &report.polls.findings[0];
    assert!((finding.score.number() - (1.0 - 10.0 / 300.0)).abs() < 1e-6);
    assert_eq!(finding.evidence[0].at, Moment(1_001_000_000));
    assert_eq!(finding.evidence[0].before_end, Nanos(1_999_000_000));
}

#[test]
fn that_no_worker_was_free_is_said_only_if_none_was() {
    let title = |second_is_held: bool, other_runtime: bool| {
        let mut script = Script::new(4, &[]);
        script.worker(1.0, 1, 0).worker(1.0, 2, 1);
        if other_runtime {
            script.worker_of(1.0, 3, 1);
        }
        script.spawn(2.0, 1, 1, "one").spawn(2.0, 1, 2, "other");
        script.poll(10.0, 1, 1).poll(11.0, 2, 2);
        if !second_is_held {
            script.pending(40.0, 2).park(41.0, 2);
        }
        let report = script.report();
        report.polls.findings[0].title.clone()
    };
    let none = "and still did at the end, when none of the 2 workers of its runtime was free";
    assert!(title(true, false).contains(none), "{}", title(true, false));
    assert!(title(true, true).contains(none), "another runtime's worker could not help");
    assert!(!title(false, false).contains("was free"), "{}", title(false, false));
}

#[test]
fn a_poll_across_losses_is_not_assessed() {
    let report = blocked(&[(1, 31)]);
    assert_eq!(report.polls.findings, []);
    assert_eq!(report.polls.table.long, 0);
    let because = &report.polls.not_assessed[0];
    assert!(
        because.contains("(1 of more than 10 ms)")
            && because.contains("31 events were lost (arena_full)"),
        "{because}"
    );
    // Sequence numbers prove that the poll was the one that the spawn was for.
    assert_eq!(report.delays.findings.len(), 1);
    assert!(report.losses.table.share > 0.05);
    assert!(report.losses.findings[0].title.starts_with("31 events were lost"));
    // Elsewhere is no matter.
    assert_eq!(blocked(&[(2, 31)]).polls.table.long, 1);
}

#[test]
fn a_poll_that_is_not_over_at_the_end_is_found() {
    let mut script = Script::new(3, &[]);
    script.worker(0.0, 1, 0).spawn(1.0, 1, 1, "hangs").spawn(1.0, 1, 2, "waits").poll(1000.0, 1, 1);
    let report = script.report();
    let poll = &report.polls.table.longest[0];
    assert_eq!((poll.running, poll.length), (true, Nanos(2_000_000_000)));
    let titles = titles(&report);
    assert!(
        titles.iter().any(|title| title.contains("at least 2 s, and still did at the end")),
        "{titles:?}"
    );
    let waits = "Task `waits` (2) was spawned and not polled for the last 3 s of the snapshot";
    assert!(titles.iter().any(|title| title == waits), "{titles:?}");
}

#[test]
fn who_hands_its_worker_over_blocks_it_no_longer() {
    let mut script = Script::new(1, &[]);
    script.worker(0.0, 1, 0).spawn(1.0, 1, 1, "in_place").poll(2.0, 1, 1);
    script.worker(3.0, 2, 0).park(4.0, 2).ready(900.0, 1);
    let report = script.report();
    assert_eq!(titles(&report), [""; 0]);
    assert_eq!(report.workers.table.workers[0].polling, Nanos(1_000_000));
}

#[test]
fn a_poll_inside_of_a_poll_is_told_once() {
    let mut script = Script::new(1, &[]);
    script.spawn(0.0, 1, 1, "outer").spawn(0.0, 1, 2, "inner");
    script.poll(1.0, 1, 1).poll(2.0, 1, 2).pending(102.0, 1).pending(103.0, 1);
    let report = script.report();
    let longest = report.polls.table.longest.iter();
    let longest: Vec<_> = longest.map(|poll| (&*poll.task.name, poll.length.0)).collect();
    assert_eq!(longest, [("inner", 100_000_000), ("outer", 2_000_000)]);
    assert_eq!((report.polls.table.long, report.polls.findings.len()), (1, 1));
}

/// Thirty quick spans, and one that waits for a task that itself had to wait.
fn slow_span(lost: &[(u64, u64)], closes: bool) -> Report {
    let mut script = Script::new(2, lost);
    script.worker(0.0, 1, 0).worker(0.0, 2, 1);
    for number in 1..=30 {
        let at = f64::from(number);
        script.spawn(at, 1, number, "request").poll(at, 1, number).open(at, 1, number, "handle");
        script.enter(at, 1, number).exit(at + 0.5, 1, number);
        script.close(at + 0.5, 1, number).ready(at + 0.6, 1);
    }
    script.spawn(40.0, 1, 51, "request").spawn(40.0, 1, 52, "db").spawn(40.0, 1, 53, "disk");
    script.spawn(40.0, 1, 54, "other");
    script.poll(41.0, 1, 52).pending(42.0, 1).poll(41.0, 2, 53).pending(42.0, 2);
    script.poll(50.0, 1, 51).open(50.0, 1, 51, "handle").enter(50.0, 1, 51);
    script.exit(51.0, 1, 51).pending(51.0, 1);
    if closes {
        // The disk is done after 100 ms, the db 10 ms later; then the thread is busy.
        script.wake(150.0, 9, 53).poll(151.0, 2, 53).wake(152.0, 2, 52).pending(153.0, 2);
        script.poll(160.0, 2, 52);
        script.poll(160.5, 1, 54).wake(161.0, 2, 51).pending(162.0, 2);
        script.pending(260.0, 1).poll(261.0, 1, 51).enter(261.0, 1, 51).exit(262.0, 1, 51);
        script.close(262.0, 1, 51).ready(263.0, 1);
    }
    script.report()
}

#[test]
fn the_chain_of_a_slow_span_tells_who_it_waited_for() {
    let report = slow_span(&[], true);
    let finding = &report.spans.findings[0];
    assert_eq!(
        finding.title,
        "Span `handle` took 212 ms, where the median of 31 is 508 µs: \
         110 ms waiting to be woken, 100 ms ready but not polled, 2 ms being polled"
    );
    let told: Vec<_> =
        finding.evidence.iter().map(|evidence| (evidence.depth, &*evidence.what)).collect();
    assert_eq!(
        told,
        [
            (0, "the span"),
            (1, "waited for 110 ms, until woken by task `db` (52) on r0/w1"),
            (2, "`db` (52) was woken by task `disk` (53) on r0/w1"),
            (3, "`disk` (53) was woken by w-9 (thread 9), outside of any task"),
            (
                1,
                "ready for 100 ms until r0/w0 polled it, which was in a poll of `other` (54) for 99.5 ms"
            ),
        ]
    );
}

#[test]
fn a_slow_span_that_is_open_waits_for_nobody_known() {
    let report = slow_span(&[], false);
    let finding = &report.spans.findings[0];
    assert!(finding.title.contains("was still open after 1.95 s"), "{}", finding.title);
    assert_eq!(finding.evidence[1].what, "waited for 1.95 s, and nobody woke it");
    assert!(report.stuck.findings.is_empty(), "requests have too few waits to compare with");
    let lossy = slow_span(&[(1, 5)], false);
    assert_eq!(lossy.spans.findings, []);
    assert!(
        lossy.spans.not_assessed[0].starts_with("1 span may be open or not: 5 events were lost")
    );
    let lossy = slow_span(&[(0, 5)], true);
    assert!(lossy.spans.table.names[0].slowest[0].spent.is_none());
    assert_eq!(
        lossy.spans.findings[0].evidence.len(),
        1,
        "its length is certain, its chain is not"
    );
}

/// Tasks that wait for some milliseconds again and again; one is never woken again.
fn stuck(lost: &[(u64, u64)], spans: bool) -> Report {
    let mut script = Script::new(5, lost);
    script.worker(0.0, 1, 0);
    for number in 1..=3 {
        script.spawn(1.0, 1, number, "request");
    }
    for number in 1..=11_u32 {
        if spans {
            script.open(1.0, 1, number, "handle");
        }
        if spans && number > 3 {
            script.close(1.0 + f64::from(number), 1, number);
        }
    }
    for turn in 0..20 {
        for number in 1..=3 {
            let at = 2.0 + f64::from(turn * 3 + number as i32);
            script.wake(at, 1, number).poll(at, 1, number);
            if spans {
                script.enter(at, 1, number).exit(at + 0.5, 1, number);
            }
            script.pending(at + 0.5, 1);
        }
    }
    for turn in 0..50_u32 {
        let at = 100.0 + f64::from(turn) * 90.0;
        for number in [1, 3] {
            script.wake(at, 1, number).poll(at, 1, number).pending(at + 0.5, 1);
        }
    }
    script.report()
}

#[test]
fn a_task_that_nobody_wakes_is_stuck() {
    let report = stuck(&[], true);
    let finding = &report.stuck.findings[0];
    let title = "Task `request` (2) has not been polled for 4.94 s, and nobody woke it; \
                 it is inside of span `handle`";
    assert_eq!((report.stuck.findings.len(), &*finding.title), (1, title));
    assert_eq!(finding.score.limit, 1e9);
    let plain = stuck(&[], false);
    let title = "Task `request` (2) has not been polled for 4.94 s, and nobody woke it";
    assert_eq!(plain.stuck.findings[0].title, title);
    let lossy = stuck(&[(3, 2)], true);
    assert_eq!(lossy.stuck.findings, []);
    let because = &lossy.stuck.not_assessed[0];
    assert!(because.contains("1 task may have been polled or woken unseen: 2 events"), "{because}");
}

#[test]
fn a_task_that_wakes_itself_all_the_time_is_a_busy_loop() {
    let mut script = Script::new(1, &[]);
    script.worker(0.0, 1, 0).spawn(0.0, 1, 1, "spin").spawn(0.0, 1, 2, "yields");
    for turn in 0..5000 {
        let at = 1.0 + f64::from(turn) * 0.1;
        script.poll(at, 1, 1).wake(at + 0.01, 1, 1).pending(at + 0.02, 1);
        if turn % 10 == 0 {
            script.poll(at + 0.03, 1, 2).wake(at + 0.04, 1, 2).pending(at + 0.05, 1);
        }
    }
    let report = script.report();
    let titles: Vec<_> = report.busy.findings.iter().map(|finding| &*finding.title).collect();
    assert_eq!(titles.len(), 1);
    assert!(
        titles[0].starts_with("Task `spin` (1) woke itself for 5,000 polls in a row"),
        "{titles:?}"
    );
    assert_eq!(report.busy.table.longest.len(), 2);
    assert_eq!(report.busy.table.self_wakes, 5500);
}

#[test]
fn a_task_that_a_timer_wakes_is_no_busy_loop_where_no_worker_is_recorded() {
    let mut script = Script::new(40, &[]);
    script.spawn(0.0, 1, 1, "ticks");
    for turn in 0..2000 {
        let at = 1.0 + f64::from(turn) * 20.0;
        // Nothing else happens on the thread from the end of a poll until the timer is due.
        script.wake(at, 1, 1).poll(at + 0.04, 1, 1).pending(at + 0.06, 1);
    }
    let report = script.report();
    assert_eq!((titles(&report), report.busy.table.self_wakes), (Vec::new(), 0));
}

#[test]
fn a_task_that_its_executor_wakes_when_it_has_yielded_is_a_busy_loop_too() {
    let mut script = Script::new(1, &[]);
    script.worker(0.0, 1, 0).spawn(0.0, 1, 1, "yields");
    for turn in 0..3000 {
        let at = 1.0 + f64::from(turn) * 0.1;
        script.poll(at, 1, 1).pending(at + 0.02, 1).wake(at + 0.03, 1, 1);
    }
    let report = script.report();
    assert_eq!(report.busy.table.self_wakes, 3000);
    assert!(report.busy.findings[0].title.contains("`yields`"));
}

#[test]
fn a_panic_is_found() {
    let mut script = Script::new(1, &[]);
    script.spawn(0.0, 1, 1, "boom").poll(1.0, 1, 1).panic(2.0, 1);
    let report = script.report();
    assert_eq!(titles(&report), ["Task `boom` (1) panicked"]);
    assert_eq!(report.findings()[0].score.number(), 1.0);
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
        [
            "w-1 (thread 1) was still in region `lock` after 999 ms, where the median of 20 is 900 µs; \
          998 ms of it in `fetch`"
        ]
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
        "changes", "logs",
    ];
    assert_eq!(not, all);
}

#[test]
fn a_wake_for_another_poll_is_not_the_cause_of_this_one() {
    let mut script = Script::new(1, &[(0, 1)]);
    script.spawn(0.0, 1, 1, "a").poll(1.0, 1, 1).pending(2.0, 1).wake(3.0, 2, 1);
    // Its poll and the end of that one are lost.
    script.unseen(1, 2).poll(100.0, 1, 1).pending(101.0, 1);
    let report = script.report();
    assert_eq!(report.delays.table.long, 0);
    assert_eq!(report.delays.table.causes_unknown, 1);
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
fn who_cannot_run_on_a_blocked_thread_is_no_victim_of_it() {
    // Two current-thread runtimes without hooks, on threads 1 and 2; a third one with hooks, on 3.
    let mut script = Script::new(2, &[]);
    script.worker_of(1.0, 3, 7);
    for (thread, number) in [(1, 11), (2, 12), (3, 13), (1, 21)] {
        script.spawn(2.0, thread, number, "idle").poll(3.0, thread, number).pending(4.0, thread);
    }
    // All of them are woken from outside, and one more is spawned, while thread 1 is blocked.
    script.spawn(10.0, 1, 1, "blocks").poll(11.0, 1, 1);
    for number in 11..14 {
        script.wake(12.0, 4, number);
    }
    script.wake(12.0, 4, 21).spawn(12.5, 4, 30, "here").spawn(12.5, 4, 31, "elsewhere");
    script.pending(211.0, 1);
    for (thread, number) in [(1, 11), (2, 12), (3, 13), (1, 21), (1, 30), (2, 31)] {
        script.poll(212.0, thread, number).pending(213.0, thread);
    }
    let report = script.report();
    let poll = &report.polls.table.longest[0];
    let mut victims: Vec<_> = poll.victims.iter().map(|victim| victim.task.task.index).collect();
    victims.sort_unstable();
    assert_eq!((poll.task.name.as_str(), poll.waited), ("blocks", 3));
    assert_eq!(victims, [11, 21, 30], "the tasks of its own thread, whenever they were spawned");
}

#[test]
fn a_closure_that_may_block_is_no_long_poll_and_waits_for_no_worker() {
    let mut script = Script::new(2, &[]);
    healthy(&mut script, 1);
    // It waits for a thread of the pool for 300 ms, runs for 400 ms, and polls a task meanwhile.
    script.spawn(1000.0, 1, 1, "blocking job").poll(1300.0, 5, 1);
    script.spawn(1301.0, 5, 2, "inside").poll(1302.0, 5, 2).ready(1600.0, 5).ready(1700.0, 5);
    let report = script.report();
    assert_eq!(titles(&report), [""; 0]);
    assert_eq!((report.polls.table.long, report.delays.table.long), (0, 0));
    assert!(report.polls.table.longest.iter().all(|poll| poll.length < Nanos(2_000_000)));
    assert_eq!(report.endings.table.ready, 22, "but it is a task");
}

#[test]
fn what_a_thread_does_that_may_have_left_its_runtime_is_not_known() {
    let mut script = Script::new(10, &[]);
    script.visit(0.0, 1, 3).spawn(0.0, 1, 1, "root");
    for turn in 0..10 {
        let at = f64::from(turn) * 100.0;
        script.poll(at, 1, 1).pending(at + 10.0, 1).park(at + 10.0, 1).unpark(at + 90.0, 1);
    }
    // Nothing more is heard of it for nine seconds.
    let report = script.report();
    let [worker] = &report.workers.table.workers[..] else { panic!() };
    assert_eq!((worker.polling, worker.parked), (Nanos(100_000_000), Nanos(800_000_000)));
    assert_eq!((worker.outside, worker.unknown), (Nanos(0), Nanos(9_100_000_000)));
    assert!(worker.busy() < 0.02, "{}", worker.busy());
    assert_eq!(titles(&report), [""; 0]);
    assert!(report.not_assessed().iter().any(|(_, what)| what.contains("is not known for 9.1 s")));
}

/// As an HTTP layer does it: the span is entered once where the request arrives, outside of any task,
/// and then in the polls of the task that serves it.
#[test]
fn a_span_is_of_the_task_that_enters_it_first() {
    let mut script = Script::new(2, &[]);
    healthy(&mut script, 1);
    script.open(1000.0, 1, 1, "http request").enter(1001.0, 1, 1).exit(1002.0, 1, 1);
    script.spawn(1003.0, 1, 1, "connection").poll(1004.0, 1, 1).enter(1005.0, 1, 1);
    script.exit(1009.0, 1, 1).pending(1010.0, 1);
    script.wake(1400.0, 2, 1).poll(1450.0, 1, 1).enter(1451.0, 1, 1);
    script.exit(1498.0, 1, 1).close(1499.0, 1, 1).ready(1500.0, 1);
    let report = script.report();
    let slowest = report.spans.table.names.iter().find(|of| of.name == "http request").unwrap();
    let span = &slowest.slowest[0];
    assert_eq!(span.task.as_ref().map(|task| &*task.name), Some("connection"));
    let breakdown = span.spent.as_ref().expect("its task is known");
    assert_eq!(breakdown.waiting, Nanos(390_000_000));
    assert_eq!(breakdown.runnable, Nanos(50_000_000));
    assert_eq!(breakdown.polling, Nanos((1010 - 1004 + 1499 - 1450) * 1_000_000));
}

/// As it is where the task is inside of the span, and not the span inside of the task.
#[test]
fn a_span_is_of_the_task_that_is_polled_inside_of_it() {
    let mut script = Script::new(2, &[]);
    healthy(&mut script, 1);
    script.open(1000.0, 1, 1, "request").spawn(1000.0, 1, 1, "handler");
    script.enter(1001.0, 1, 1).poll(1001.0, 1, 1).pending(1011.0, 1).exit(1011.0, 1, 1);
    script.wake(1400.0, 2, 1);
    script.enter(1450.0, 1, 1).poll(1450.0, 1, 1).ready(1500.0, 1).exit(1500.0, 1, 1);
    script.close(1500.0, 1, 1);
    let report = script.report();
    let of = report.spans.table.names.iter().find(|of| of.name == "request").unwrap();
    let span = &of.slowest[0];
    assert_eq!(span.task.as_ref().map(|task| &*task.name), Some("handler"));
    let spent = span.spent.as_ref().expect("its task is known");
    assert!(!spent.shared);
    assert_eq!((spent.polling, spent.waiting), (Nanos(60_000_000), Nanos(389_000_000)));
    assert_eq!(spent.runnable, Nanos(51_000_000));
}
