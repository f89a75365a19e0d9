//! Polls: what is long, whom it keeps from its turn, and what its evidence allows.

use super::*;

/// Task 1 blocks worker 1 for 300 ms; task 2, which it woke, can run only on that thread.
pub(super) fn blocked(lost: &[(u64, u64)]) -> Report {
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
        titles[1]
            .starts_with("Task `victim` (2) waited 302 ms from its spawn to its poll on r0/w0"),
        "{titles:?}"
    );
    assert!(titles[1].ends_with("which had been polling `reload` (1) for 300 ms"), "{titles:?}");
    assert_eq!(
        titles[0],
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
    let none = "and still held it at the end, when none of the 2 workers of its runtime was free";
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
    // A loss elsewhere does not matter.
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
        titles.iter().any(|title| title.contains("at least 2 s, and still held it at the end")),
        "{titles:?}"
    );
    let waits =
        "Task `waits` (2) has not been polled since its spawn, 3 s before the end of the snapshot";
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
fn a_thread_that_notices_late_that_its_worker_was_taken_does_not_stop_it() {
    let mut script = Script::new(1, &[]);
    script.worker(0.0, 1, 0).worker(3.0, 2, 0).park(4.0, 2);
    script.stop_worker(500.0, 1).unpark(900.0, 2).stop_worker(950.0, 2);
    let report = script.report();
    let [worker] = &report.workers.table.workers[..] else { panic!() };
    assert_eq!(worker.parked, Nanos(896_000_000));
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

#[test]
fn a_wake_for_another_poll_is_not_the_cause_of_this_one() {
    let mut script = Script::new(1, &[(0, 1)]);
    script.spawn(0.0, 1, 1, "a").poll(1.0, 1, 1).pending(2.0, 1).wake(3.0, 2, 1);
    // Its poll and the end of that poll are lost.
    script.unseen(1, 2).poll(100.0, 1, 1).pending(101.0, 1);
    let report = script.report();
    assert_eq!(report.delays.table.long, 0);
    assert_eq!(report.delays.table.causes_unknown, 1);
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
    // Nothing more happens to it for nine seconds.
    let report = script.report();
    let [worker] = &report.workers.table.workers[..] else { panic!() };
    assert_eq!((worker.polling, worker.parked), (Nanos(100_000_000), Nanos(800_000_000)));
    assert_eq!((worker.outside, worker.unknown), (Nanos(0), Nanos(9_100_000_000)));
    assert!(worker.busy() < 0.02, "{}", worker.busy());
    assert_eq!(titles(&report), [""; 0]);
    assert!(report.not_assessed().iter().any(|(_, what)| what.contains("is not known for 9.1 s")));
}

#[test]
fn of_a_short_long_poll_it_says_that_the_kernel_may_have_run_another_thread() {
    let mut script = Script::new(1, &[]);
    script.worker(0.0, 1, 0).spawn(1.0, 1, 1, "short").spawn(1.0, 1, 2, "long");
    script.spawn(1.0, 1, 3, "explained");
    script.poll(10.0, 1, 1).pending(30.0, 1).poll(100.0, 1, 2).pending(400.0, 1);
    script.poll(500.0, 1, 3).region(501.0, 519.0, 1, "parse").pending(520.0, 1);
    let report = script.report();
    let said: Vec<_> = report
        .polls
        .findings
        .iter()
        .map(|finding| finding.evidence[0].what.contains("the kernel ran another one"))
        .collect();
    assert_eq!(said.len(), 3);
    assert_eq!(said.iter().filter(|said| **said).count(), 1);
    assert!(report.polls.findings.iter().any(|finding| finding.title.contains("`short`")
        && finding.evidence[0].what.contains("is not recorded")));
}
