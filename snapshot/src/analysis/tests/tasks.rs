//! Tasks that are stuck, and tasks that never rest.

use super::*;

/// Tasks that wait for a few milliseconds again and again; one is never woken again.
pub(super) fn stuck(lost: &[(u64, u64)], spans: bool) -> Report {
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
                 it is inside span `handle`";
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
fn closures_that_find_all_threads_taken_have_a_finding_that_names_who_has_them() {
    let mut script = Script::new(3, &[]);
    script.worker(0.0, 1, 0);
    for number in 1..=8 {
        script.spawn(10.0, 1, number, "blocking report").poll(11.0, 10 + u64::from(number), number);
    }
    script.spawn(500.0, 1, 20, "blocking query").spawn(600.0, 1, 21, "blocking query");
    let report = script.report();
    let table = &report.blocking.table;
    assert_eq!((table.begun, table.late, table.queued, table.running), (8, 0, 2, 8));
    let [finding] = &report.blocking.findings[..] else { panic!("{:?}", report.blocking) };
    assert_eq!(
        finding.title,
        "2 closures of `spawn_blocking` wait for a thread, the longest for 2.5 s: `blocking query`; all threads \
         are taken, 8 by `blocking report`"
    );
    assert_eq!(finding.evidence[0].before_end, Nanos(2_500_000_000));
}

#[test]
fn a_closure_that_got_a_thread_late_has_a_finding_and_one_that_got_it_at_once_has_none() {
    let late = |after: f64| {
        let mut script = Script::new(2, &[]);
        script.worker(0.0, 1, 0).spawn(10.0, 1, 1, "blocking report").poll(11.0, 11, 1);
        script.spawn(20.0, 1, 2, "blocking query").poll(20.0 + after, 12, 2);
        script.ready(1000.0, 12).ready(1001.0, 11);
        script.report().blocking
    };
    let found = late(300.0);
    let title = "1 closure of `spawn_blocking` waited for a thread, the longest for 300 ms: `blocking query`; all \
                 threads were taken, 1 by `blocking report`";
    assert_eq!(found.findings[0].title, title);
    assert_eq!((found.table.late, found.table.queued), (1, 0));
    assert!(late(20.0).findings.is_empty());
}
