//! Who waited for a lock is not told as the cause of it: who held the lock is.

use super::*;
use crate::wire::LockKind;

const MUTEX: (u64, LockKind) = (77, LockKind::Mutex);
const OF_TASKS: (u64, LockKind) = (78, LockKind::TaskMutex);

/// Task 2 blocks its worker for 490 ms, nearly all of it for a lock; `holds` adds what held that.
fn victim(holds: impl Fn(&mut Script)) -> Report {
    let mut script = Script::new(3, &[]);
    healthy(&mut script, 1);
    script.unpark(1000.0, 1).unpark(1000.0, 2);
    script.spawn(1000.1, 1, 1, "checkout").spawn(1000.2, 2, 2, "report");
    holds(&mut script);
    script.poll(1010.0, 2, 2);
    script.held_by(Some(1), Some(1), 30, 485.0).waited(1490.0, 2, MUTEX, 475.0);
    script.pending(1500.0, 2).park(1501.0, 2);
    script.report()
}

#[test]
fn a_poll_that_waited_for_a_lock_comes_after_that_of_the_holder_and_names_both_ends() {
    // The holder's poll is shorter, and ranks lower by itself.
    let report = victim(|script| {
        script.poll(1005.0, 1, 1).pending(1450.0, 1).park(1451.0, 1);
    });
    let titles = titles(&report);
    assert!(
        titles[0].starts_with("Task `checkout` (1) held worker r0/w0 for 445 ms"),
        "{titles:#?}"
    );
    assert_eq!(
        titles[1],
        "Task `report` (2) held worker r0/w1 for 490 ms: it waited 475 ms of 490 ms for a Mutex \
         (src/main.rs:12), held by r0/w0, polling task `checkout` (1), for 485 ms, taken at src/main.rs:30"
    );
    assert_eq!(titles.len(), 2, "{titles:#?}");
    let victim = &report.polls.findings[0];
    assert_eq!(victim.lock.as_ref().unwrap().holder.1.as_ref().unwrap().name, "checkout");
    assert!(victim.evidence[1].what.starts_with("waited 475 ms at src/main.rs:12"), "{victim:#?}");
    let poll = &report.polls.table.longest[0];
    assert_eq!((poll.lock_waited, poll.length), (Nanos(475_000_000), Nanos(490_000_000)));
}

#[test]
fn without_another_finding_about_the_holder_there_is_one_about_the_lock() {
    let report = victim(|script| {
        // It held the lock in a poll that was no long one.
        script.poll(1005.0, 1, 1).pending(1006.0, 1).park(1007.0, 1);
    });
    let titles = titles(&report);
    assert_eq!(
        titles[0],
        "A Mutex, taken at src/main.rs:30, was held by r0/w0, polling task `checkout` (1), for 485 ms; \
         r0/w1, polling task `report` (2) waited for it for 475 ms"
    );
    assert!(titles[1].starts_with("Task `report` (2) held worker r0/w1"), "{titles:#?}");
    assert_eq!(titles.len(), 2, "{titles:#?}");
    let found = &report.locks.findings[0];
    assert_eq!(found.evidence[0].task.as_ref().unwrap().name, "checkout");
    assert!(found.evidence[1].what.starts_with("r0/w1, polling task `report` (2) waited 475 ms"));
}

#[test]
fn of_a_lock_that_was_held_for_long_twice_each_holder_is_told_with_those_that_waited_for_it() {
    let mut script = Script::new(3, &[]);
    healthy(&mut script, 1);
    script.unpark(1000.0, 1).unpark(1000.0, 2);
    script.spawn(1000.1, 1, 1, "first").spawn(1000.2, 1, 2, "second").spawn(1000.3, 2, 3, "waits");
    script.spawn(1000.4, 2, 4, "waits too");
    script.poll(1001.0, 1, 1).pending(1002.0, 1).poll(1010.0, 2, 3);
    script.held_by(None, Some(1), 30, 485.0).waited(1490.0, 2, MUTEX, 475.0).pending(1500.0, 2);
    script.poll(2001.0, 1, 2).pending(2002.0, 1).poll(2010.0, 2, 4);
    script.held_by(None, Some(2), 40, 285.0).waited(2290.0, 2, MUTEX, 275.0).pending(2300.0, 2);
    script.park(2301.0, 1).park(2302.0, 2);
    let report = script.report();
    let titles: Vec<_> = report.locks.findings.iter().map(|of| of.title.as_str()).collect();
    let of = |task, line, held, waits, waited| {
        format!(
            "A Mutex, taken at src/main.rs:{line}, was held by task `{task}`, for {held} ms; \
             r0/w1, polling task `{waits}` waited for it for {waited} ms"
        )
    };
    let expected = [
        of("first` (1)", 30, 485, "waits` (3)", 475),
        of("second` (2)", 40, 285, "waits too` (4)", 275),
    ];
    let expected = expected.map(|of| of.replace(")`", ")"));
    assert_eq!(titles, expected);
    assert!(report.locks.findings.iter().all(|of| of.evidence.len() == 2), "{report:#?}");
}

/// A mutex that is passed along a queue is had from the waiter before, who held it for a moment.
#[test]
fn all_who_waited_in_a_queue_waited_for_the_one_that_held_the_lock_for_most_of_the_time() {
    let mut script = Script::new(3, &[]);
    for thread in 1..=4 {
        script.worker(1.0, thread, thread - 1);
    }
    for number in 1..=4 {
        let name = if number == 1 { "holds" } else { "waits" };
        script.spawn(1000.0, u64::from(number), number, name);
    }
    script.poll(1001.0, 1, 1).pending(1002.0, 1);
    for (thread, number) in [(2, 2), (3, 3), (4, 4)] {
        script.poll(1010.0 + thread as f64, thread, number);
    }
    script.held_by(None, Some(1), 30, 490.0).waited(1490.0, 2, MUTEX, 478.0).pending(1491.0, 2);
    script.held_by(Some(2), Some(2), 12, 0.6).waited(1490.6, 3, MUTEX, 477.6).pending(1491.1, 3);
    script.held_by(Some(3), Some(3), 12, 0.5).waited(1491.1, 4, MUTEX, 477.1).pending(1491.6, 4);
    for thread in 1..=4 {
        script.park(1500.0, thread);
    }
    let report = script.report();
    let titles = titles(&report);
    assert_eq!(
        titles[0],
        "A Mutex, taken at src/main.rs:30, was held by task `holds` (1), for 490 ms; r0/w1, polling task `waits` (2) waited \
         for it for 478 ms; 2 more threads or tasks waited"
    );
    let own = report.locks.findings.len();
    assert_eq!(own, 1, "{titles:#?}");
    for poll in &report.polls.findings {
        assert!(
            poll.title.contains("held by task `holds` (1), for 490 ms, taken at"),
            "{titles:#?}"
        );
    }
    assert_eq!(report.polls.findings.len(), 1, "{titles:#?}");
    let places = &report.locks.table.locks[0].held_at;
    assert_eq!(places.len(), 1, "{places:?}");
    assert_eq!((&*places[0].0, places[0].1), ("src/main.rs:30", 3));
}

/// In a long queue many have the lock for a while before the last one does, together for much less than the first one.
#[test]
fn all_who_waited_in_a_long_queue_waited_for_the_one_that_held_the_lock_for_most_of_the_time() {
    const QUEUE: u64 = 100;
    let mut script = Script::new(3, &[]);
    for thread in 1..=QUEUE + 1 {
        script.worker(1.0, thread, thread - 1);
    }
    script.held_by(Some(1), None, 30, 2000.0).waited(2100.0, 2, MUTEX, 1990.0);
    for thread in 3..=QUEUE + 1 {
        let had = (thread - 2) as f64 * 2.0;
        script.held_by(Some(thread - 1), None, 12, 2.0);
        script.waited(2100.0 + had, thread, MUTEX, 1990.0 + had);
    }
    let report = script.report();
    let held_at = &report.locks.table.locks[0].held_at;
    let held_at: Vec<_> = held_at.iter().map(|(at, waits, _)| (&**at, *waits)).collect();
    assert_eq!(held_at, [("src/main.rs:30", QUEUE)]);
}

#[test]
fn a_poll_that_waited_for_a_lock_for_less_than_half_of_it_is_told_as_any_other() {
    let mut script = Script::new(3, &[]);
    script.worker(1.0, 1, 0).spawn(2.0, 1, 1, "report").poll(10.0, 1, 1);
    script.held_by(Some(2), None, 30, 200.0).waited(200.0, 1, MUTEX, 190.0);
    script.pending(500.0, 1).park(501.0, 1);
    let report = script.report();
    assert_eq!(titles(&report), ["Task `report` (1) held worker r0/w0 for 490 ms"]);
}

#[test]
fn a_task_that_is_dropped_while_it_waits_for_a_lock_has_waited_and_not_the_thread_that_drops_it() {
    let mut script = Script::new(3, &[]);
    script.worker(1.0, 1, 0);
    for number in 1..=12 {
        let at = 10.0 + f64::from(number);
        script.spawn(at, 1, number, "report").poll(at + 0.1, 1, number);
        script.pending(at + 0.3, 1);
    }
    for number in 1..=12 {
        let at = 100.0 + f64::from(number);
        // The event comes a little after the wait's end.
        script.cancel(at, 1, number).gave_up(at + 0.2, 1, OF_TASKS, 89.9);
    }
    // What is given up after the next poll is nobody's that is known.
    script.spawn(200.0, 1, 13, "other").poll(200.1, 1, 13).pending(200.2, 1);
    script.gave_up(200.3, 1, OF_TASKS, 89.0);
    let report = script.report();
    let convoy = &report.locks.findings[0];
    assert!(
        convoy.title.starts_with("Lock convoy: 13 threads or tasks waited 13 times"),
        "{convoy:#?}"
    );
    let told: Vec<_> = convoy.evidence.iter().map(|of| of.what.as_str()).collect();
    assert!(told.contains(&"task `report` (1) waited 89.9 ms"), "{told:#?}");
}

#[test]
fn a_wait_of_another_poll_is_none_of_this_one() {
    let mut script = Script::new(3, &[]);
    script.worker(1.0, 1, 0).spawn(2.0, 1, 1, "report").poll(10.0, 1, 1);
    script.held_by(Some(2), None, 30, 9.0).waited(19.0, 1, MUTEX, 9.0);
    script.pending(19.5, 1).poll(20.0, 1, 1).pending(40.0, 1).park(501.0, 1);
    let report = script.report();
    assert_eq!(report.polls.findings[0].title, "Task `report` (1) held worker r0/w0 for 20 ms");
    assert_eq!(report.polls.findings[0].lock, None);
}

#[test]
fn a_slow_span_that_waited_for_a_lock_of_tasks_names_it() {
    let mut script = Script::new(3, &[]);
    script.worker(0.0, 1, 0);
    for number in 1..=20 {
        let at = f64::from(number);
        script.open(at, 1, number, "request").close(at + 0.5, 1, number);
    }
    script.spawn(30.0, 1, 1, "handler").poll(30.1, 1, 1).open(30.2, 1, 50, "request");
    script.enter(30.3, 1, 50).exit(30.4, 1, 50).pending(30.5, 1);
    script.spawn(31.0, 1, 2, "cache").poll(400.0, 1, 2).wake(400.1, 1, 1).ready(400.2, 1);
    script.poll(400.5, 1, 1).enter(400.6, 1, 50);
    // Its holder has ended; its name is known all the same.
    script.held_by(None, Some(2), 30, 380.0).waited(400.7, 1, OF_TASKS, 370.0);
    script.exit(400.8, 1, 50).close(400.9, 1, 50).ready(401.0, 1).park(402.0, 1);
    let report = script.report();
    let span = &report.spans.findings[0];
    assert!(
        span.title.contains("it waited 370 ms of 371 ms for a tokio Mutex (src/main.rs:12), held by task `cache` (2), for"),
        "{}",
        span.title
    );
    let titles = titles(&report);
    let at = |begins: &str| titles.iter().position(|title| title.starts_with(begins)).unwrap();
    assert!(at("A tokio Mutex, taken at src/main.rs:30") < at("Span `request`"), "{titles:#?}");
}

#[test]
fn a_poll_that_waits_for_a_lock_at_the_end_says_so_and_so_does_a_task() {
    let mut script = Script::new(3, &[]);
    script.worker(0.0, 1, 0).spawn(1.0, 1, 1, "report").spawn(1.0, 1, 2, "cart");
    script.poll(2.0, 1, 2).pending(3.0, 1).poll(1000.0, 1, 1);
    script.held_by(Some(5), None, 30, 1900.0);
    script.still_waits(2900.0, (Some(1), Some(1)), MUTEX, 1899.0);
    script.held_by(Some(5), None, 31, 2900.0).still_waits(
        2901.0,
        (None, Some(2)),
        OF_TASKS,
        2898.0,
    );
    let report = script.report();
    let titles = titles(&report);
    let at = |begins: &str| titles.iter().position(|title| title.starts_with(begins)).unwrap();
    let lock = at("A Mutex, taken at src/main.rs:30, was held by thread 5");
    let poll = at(
        "Task `report` (1) held worker r0/w0 for at least 2 s: it waited 2 s of 2 s for a Mutex (src/main.rs:12), \
         held by thread 5, for 2 s, taken at src/main.rs:30",
    );
    assert_eq!(lock + 1, poll, "{titles:#?}");
    let reasons: Vec<_> =
        report.waits.table.reasons.iter().map(|of| (&*of.reason, of.open, of.count())).collect();
    assert_eq!(
        reasons,
        [("tokio Mutex at src/main.rs:12", 1, 1), ("Mutex at src/main.rs:12", 1, 1)]
    );
    let idle = report.stuck.table.longest.iter().find(|idle| idle.task.name == "cart").unwrap();
    assert_eq!(idle.lock.as_ref().unwrap().held_at.as_deref(), Some("src/main.rs:31"));
}

#[test]
fn waits_for_locks_are_what_tasks_waited_for() {
    let report = victim(|_| {});
    let [reason] = report.waits.table.reasons.as_slice() else { panic!("{:#?}", report.waits) };
    assert_eq!((&*reason.reason, reason.count()), ("Mutex at src/main.rs:12", 1));
    assert_eq!(reason.longest[0].task.name, "report");
    assert_eq!(reason.total, Nanos(475_000_000));
}

#[test]
fn who_waits_is_told_by_name_and_how_many_more_do() {
    let mut script = Script::new(3, &[]);
    script.worker(0.0, 1, 0);
    for number in 1..=8 {
        let at = 10.0 * f64::from(number);
        script.spawn(at, 1, number, "clerk").poll(at + 1.0, 1, number);
        for turn in 1..=2 {
            script.held_by(Some(2), None, 30, 40.0);
            let length = if number == 3 { 400.0 } else { 30.0 };
            script.waited(at + f64::from(turn), 1, OF_TASKS, length);
        }
        script.ready(at + 5.0, 1);
    }
    let report = script.report();
    let convoy =
        report.locks.findings.iter().find(|of| of.title.starts_with("Lock convoy")).unwrap();
    let said: Vec<_> = convoy.evidence.iter().map(|of| &*of.what).collect();
    assert!(said[0].starts_with("the longest wait: waited 400 ms"), "{said:#?}");
    assert_eq!(said[1], "task `clerk` (3) waited 2 times, 800 ms in all");
    assert_eq!(convoy.evidence[1].task.as_ref().unwrap().name, "clerk");
    // Since the first time.
    assert_eq!(convoy.evidence[1].at, Moment(31_000_000 - 400_000_000));
    assert_eq!(said[6], "and 3 more");
}

#[test]
fn any_number_of_locks_and_waiters_is_told_in_bounded_words() {
    let mut script = Script::new(3, &[]);
    script.worker(0.0, 1, 0);
    for number in 1..=800_u32 {
        let thread = u64::from(1000 + number);
        let next = u64::from(1000 + number % 800 + 1);
        // Each waits for what the next one holds, since before the snapshot.
        script.held_by(Some(next), None, 30, 90_000.0);
        script.still_waits(
            2000.0,
            (Some(thread), None),
            (u64::from(number), LockKind::Mutex),
            60_000.0,
        );
    }
    for number in 1..=3000_u32 {
        let lock = (u64::from(1_000_000 + number % 300), LockKind::Permits);
        script.held_by(None, Some(7), 30, 90_000.0);
        script.spawn(2100.0, 1, number, "\u{1b}[2Jclerk\n").poll(2100.0, 1, number);
        script.waited(2100.1, 1, lock, 90_000.0).ready(2100.2, 1);
    }
    let report = script.report();
    let begins = |begin: &str| titles(&report).iter().filter(|of| of.starts_with(begin)).count();
    assert_eq!((begins("Deadlock: "), begins("Lock convoy")), (1, 5));
    for finding in report.findings() {
        assert!(finding.title.len() < 2000, "{}", finding.title);
        assert!(finding.evidence.len() < 2000, "{}: {}", finding.title, finding.evidence.len());
    }
    assert_eq!(report.locks.table.going_on.len(), 20);
}

#[test]
fn who_took_the_last_of_many_permits_and_waits_for_one_more_is_in_no_deadlock() {
    let mut script = Script::new(3, &[]);
    script.worker(0.0, 1, 0).spawn(1.0, 1, 1, "accept").poll(2.0, 1, 1).pending(3.0, 1);
    script.held_by(None, Some(1), 30, 2998.0);
    script.still_waits(2900.0, (None, Some(1)), (7, LockKind::Permits), 2897.0);
    let report = script.report();
    let titles = titles(&report);
    assert!(!titles.iter().any(|title| title.starts_with("Deadlock")), "{titles:#?}");
    let told = "All permits of a tokio Semaphore are taken, and 1 task waits for one at src/main.rs:12, for 3 s; the \
                last was taken at src/main.rs:30 by task `accept` (1)";
    assert!(titles.iter().any(|title| title.starts_with(told)), "{titles:#?}");
}

/// Its worker is seen to do nothing else.
#[test]
fn a_worker_that_waits_for_locks_is_not_at_work() {
    let report = |waits: bool| {
        let mut script = Script::new(3, &[]);
        script.worker(0.0, 1, 0).spawn(1.0, 1, 1, "serve");
        for at in (10..2900).step_by(10) {
            let at = f64::from(at);
            script.poll(at, 1, 1);
            if waits {
                script.held_by(Some(2), None, 30, 9.0).waited(at + 9.0, 1, MUTEX, 9.0);
            }
            script.pending(at + 9.9, 1);
        }
        script.report()
    };
    let busy = |report: &Report| {
        let is_it = |finding: &&Finding| finding.title.contains("was at work for");
        report.workers.findings.iter().filter(is_it).count()
    };
    assert_eq!((busy(&report(false)), busy(&report(true))), (1, 0));
}

#[test]
fn what_the_holders_did_is_asked_of_the_time_in_which_they_held_it_and_of_locks_of_tasks_alone() {
    let holders = |lock: (u64, LockKind)| {
        let mut script = Script::new(3, &[]);
        script.worker(0.0, 1, 0);
        for number in 1..=4 {
            script.spawn(1.0, 1, number, "asks");
        }
        // Task 1 holds it at 100 ms and at 2 s, for 40 ms each, and for the waits in between others do.
        for turn in 0..12_u32 {
            let at = 100.0 + 160.0 * f64::from(turn);
            let (asks, holds) = if turn % 11 == 0 { (2, 1) } else { (2 + turn % 3, 4 - turn % 2) };
            let holds = if holds == asks { 1 } else { holds };
            script.poll(at, 1, asks).held_by(None, Some(holds), 30, 40.0).waited(at, 1, lock, 30.0);
            script.pending(at + 0.1, 1);
        }
        let locks = script.report().locks;
        let convoy = locks.findings.into_iter().find(|of| of.title.starts_with("Lock convoy"));
        convoy.unwrap().holders
    };
    let of_tasks = holders(OF_TASKS);
    assert!(!of_tasks.is_empty());
    for (task, since, until) in of_tasks {
        assert_eq!(until.0 - since.0, 40_000_000, "{task:?}");
    }
    assert_eq!(holders(MUTEX), [], "a thread holds it, whatever its tasks do");
}
