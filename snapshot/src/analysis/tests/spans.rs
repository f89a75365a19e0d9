//! Spans: where the time of a slow one went, and which task it belongs to.

use super::polls::blocked;
use super::tasks::stuck;
use super::*;

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
            (3, "`disk` (53) was woken by w-9#9, outside of any task"),
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

/// As in an HTTP layer: the span is entered once where the request arrives, outside any task, and then in the
/// polls of the task that serves it.
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

/// The task is inside the span here, instead of the span inside the task.
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

/// The parts of a span's time add up to its length, whatever its task did.
fn sums(report: &Report) -> Vec<(String, SpanTime)> {
    let all = report.spans.table.names.iter().flat_map(|of| &of.slowest);
    let known = all.filter_map(|span| Some((span, span.spent.clone()?)));
    let told = known.map(|(span, spent)| {
        let sum = spent.polling.0 + spent.waiting.0 + spent.runnable.0 + spent.unknown.0;
        assert_eq!(sum, span.length.0, "{span:?}");
        (span.span.name.clone(), spent)
    });
    told.collect()
}

#[test]
fn a_cancelled_request_has_waited_up_to_its_end() {
    let mut script = Script::new(1, &[]);
    script.worker(0.0, 1, 0).spawn(1.0, 1, 1, "serve").poll(1.0, 1, 1).open(1.0, 1, 1, "GET");
    script.enter(1.0, 1, 1).exit(2.0, 1, 1).pending(2.0, 1).cancel(397.0, 1, 1);
    script.close(398.0, 1, 1);
    let report = script.report();
    let [(_, spent)] = &sums(&report)[..] else { panic!("one span") };
    assert_eq!((spent.polling, spent.waiting), (Nanos(1_000_000), Nanos(395_000_000)));
    assert_eq!((spent.runnable, spent.unknown), (Nanos(0), Nanos(1_000_000)));
    assert_eq!(spent.split(), "395 ms waiting to be woken, 1 ms being polled");
}

#[test]
fn the_parts_of_a_span_add_up_to_its_length() {
    for report in [slow_span(&[], true), slow_span(&[], false), stuck(&[], true), blocked(&[])] {
        assert!(!sums(&report).is_empty());
    }
    let mut script = Script::new(2, &[]);
    script.worker(0.0, 1, 0).spawn(1.0, 1, 1, "accept").spawn(1.0, 1, 2, "serve");
    // Created by one task, entered by another, which is woken and then cancelled.
    script.poll(2.0, 1, 1).open(3.0, 1, 1, "handed on").pending(4.0, 1);
    script.poll(10.0, 1, 2).enter(10.0, 1, 1).exit(11.0, 1, 1).pending(11.0, 1);
    script.wake(50.0, 9, 2).cancel(60.0, 1, 2).close(70.0, 1, 1);
    // Its poll's end is not seen.
    script.spawn(100.0, 1, 3, "lost").poll(100.0, 1, 3).open(100.0, 1, 3, "lost");
    script.enter(100.0, 1, 3).exit(101.0, 1, 3).unseen(3, 1).poll(300.0, 2, 3);
    script.pending(310.0, 2).close(320.0, 1, 3);
    let of: std::collections::HashMap<_, _> = sums(&script.report()).into_iter().collect();
    let spent = &of["handed on"];
    assert_eq!((spent.polling, spent.waiting), (Nanos(2_000_000), Nanos(39_000_000)));
    assert_eq!((spent.runnable, spent.unknown), (Nanos(10_000_000), Nanos(16_000_000)));
    assert_eq!(of["lost"].polling, Nanos(10_000_000));
}

/// Short conversations with clients, and a long one: in it something is done every so many milliseconds, up to the end.
fn conversation(every: f64) -> Report {
    let mut script = Script::new(3, &[]);
    script.worker(0.0, 1, 0);
    for number in 1..=30 {
        let at = f64::from(number);
        script.spawn(at, 1, number, "serve").poll(at, 1, number).open(at, 1, number, "serve");
        script.enter(at, 1, number).exit(at + 0.5, 1, number);
        script.close(at + 0.5, 1, number).ready(at + 0.6, 1);
    }
    script.spawn(100.0, 1, 50, "serve").poll(100.0, 1, 50).open(100.0, 1, 50, "serve");
    script.enter(100.0, 1, 50).exit(100.5, 1, 50).pending(100.6, 1);
    let mut at = 100.0 + every;
    while at < 2900.0 {
        script.wake(at, 9, 50).poll(at + 0.1, 1, 50).enter(at + 0.2, 1, 50);
        script.exit(at + 0.3, 1, 50).pending(at + 0.4, 1);
        at += every;
    }
    script.report()
}

#[test]
fn an_open_span_in_which_things_are_done_all_the_while_is_marked_as_one_that_goes_on() {
    let goes_on = |every: f64| {
        let report = conversation(every);
        let of_span = report.spans.findings.iter().map(|finding| finding.goes_on);
        (of_span.collect::<Vec<_>>(), report.spans.table.names[0].open)
    };
    assert_eq!(goes_on(50.0), (vec![true], 1));
    assert_eq!(goes_on(1000.0), (vec![false], 1), "it stood still for most of the time");
}
