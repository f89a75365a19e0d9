//! Findings name causes: the innermost slow thing, once, and what cost most comes first.

use super::test_trace::Script;
use super::*;

fn titles<T>(section: &Section<T>) -> Vec<&str> {
    section.findings.iter().map(|finding| &*finding.title).collect()
}

/// This many quick spans of a name, one after the other.
fn quick(script: &mut Script, from: u32, many: u32, length: f64, name: &str) {
    for number in from..from + many {
        let at = f64::from(number - from) * 0.1;
        script.open(at, 1, number, name).close(at + length, 1, number);
    }
}

#[test]
fn the_innermost_slow_span_is_told_once_and_what_cost_most_comes_first() {
    let mut script = Script::new(60, &[]);
    // Six names; one span of each took a hundred times as long as usual, and cost little.
    for (at, name) in ["a", "b", "c", "d", "e", "f"].iter().enumerate() {
        let first = 1000 * (at as u32 + 1);
        quick(&mut script, first, 20, 0.05, name);
        script.open(10.0, 1, first + 500, name).close(110.0, 1, first + 500);
    }
    // Requests that take half a second, mostly for a query; ten of them hang.
    for number in 1..=20 {
        let at = 200.0 + f64::from(number);
        script.open(at, 1, number, "request").inside(number);
        script.open(at, 1, 100 + number, "query").enter(at, 1, 100 + number).exit(
            at + 1.0,
            1,
            100 + number,
        );
        script.close(at + 499.0, 1, 100 + number).close(at + 500.0, 1, number);
    }
    for number in 21..=30 {
        let at = 5000.0 + f64::from(number);
        script.open(at, 1, number, "request").inside(number);
        script.open(at, 1, 100 + number, "query").enter(at, 1, 100 + number).exit(
            at + 1.0,
            1,
            100 + number,
        );
        script.close(at + 5499.0, 1, 100 + number).close(at + 5500.0, 1, number);
    }
    let report = script.report();
    let told = titles(&report.spans);
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(told[0].starts_with("Span `query` took 5.5 s, where the median of 30 is"), "{told:#?}");
    // Ten times five seconds, to within 3 %.
    let (_, lost) = told[0].split_once("(9 more like it, ").unwrap();
    let lost: f64 = lost.split(' ').next().unwrap().parse().unwrap();
    assert!((49.0..53.0).contains(&lost), "{told:#?}");
    assert!(!told.iter().any(|title| title.contains("`request`")), "{told:#?}");
    // In the list of all findings, a high ratio that cost little does not come first.
    let first = report.findings()[0];
    assert!(first.title.starts_with("Span `query`"), "{}", first.title);
}

#[test]
fn a_span_that_is_slow_by_itself_is_told_beside_those_with_a_slow_one_in_them() {
    let mut script = Script::new(20, &[]);
    quick(&mut script, 1, 20, 1.0, "request");
    quick(&mut script, 101, 20, 1.0, "query");
    for number in 201..=206 {
        let at = 1000.0 * f64::from(number - 200);
        // Three contain a slow query; three do not, and are shorter.
        let (length, slow) = if number <= 203 { (800.0, true) } else { (300.0, false) };
        script.open(at, 1, number, "request");
        if slow {
            script.inside(number).open(at, 1, 300 + number, "query").close(
                at + length - 1.0,
                1,
                300 + number,
            );
        }
        script.close(at + length, 1, number);
    }
    let report = script.report();
    let told = titles(&report.spans);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].starts_with("Span `query` took 799 ms"), "{told:#?}");
    assert!(told[1].starts_with("Span `request` took 300 ms"), "{told:#?}");
    assert!(told.iter().all(|title| title.contains("(2 more like it, ")), "{told:#?}");
}

#[test]
fn spans_are_compared_with_those_of_their_route() {
    let mut script = Script::new(20, &[]);
    for number in 1..=20 {
        let at = f64::from(number) * 500.0;
        // One route always takes long; on the other, one request did.
        script.with("method", "GET").with("route", "/export").open(at, 1, number, "request");
        script.close(at + 400.0, 1, number);
        let length = if number == 7 { 350.0 } else { 1.0 };
        script.with("method", "GET").with("route", "/items").open(at, 2, 100 + number, "request");
        script.close(at + length, 2, 100 + number);
    }
    // A route that becomes known only later.
    script.open(15_000.0, 1, 300, "request").with("http.route", "/late").record(15_001.0, 1, 300);
    script.close(15_002.0, 1, 300);
    let report = script.report();
    let told = titles(&report.spans);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].starts_with(
            "Span `request` {method=GET route=/items} took 350 ms, where the median of 20"
        ),
        "{told:#?}"
    );
    let groups: Vec<_> =
        report.spans.table.names.iter().map(|of| (&*of.group, of.lengths.count())).collect();
    assert_eq!(
        groups,
        [
            ("request {method=GET route=/export}", 20),
            ("request {method=GET route=/items}", 20),
            ("request {http.route=/late}", 1)
        ]
    );
    assert!(report.spans.table.names.iter().all(|of| of.name == "request"));
}

#[test]
fn routes_without_end_are_told_apart_no_more() {
    let mut script = Script::new(2, &[]);
    for number in 1..=1000 {
        script
            .with("route", &format!("/items/{number}"))
            .open(0.1, 1, number, "request")
            .close(0.2, 1, number);
    }
    let report = script.report();
    assert_eq!(report.spans.table.names.len(), 65);
    let rest = report.spans.table.names.iter().find(|of| of.group == "request").unwrap();
    assert_eq!(rest.lengths.count(), 936);
}

#[test]
fn a_span_that_somebody_only_holds_is_told_apart() {
    let mut script = Script::new(20, &[]);
    quick(&mut script, 1, 20, 1.0, "request");
    // The first one's task has ended; the second one's continues elsewhere; the third one's waits in it.
    for (task, span) in [(1, 101), (2, 102), (3, 103)] {
        script.spawn(100.0, 1, task, "serve").poll(101.0, 1, task);
        script.open(102.0, 1, span, "request").enter(102.0, 1, span).exit(103.0, 1, span);
        match task {
            1 => script.ready(104.0, 1),
            _ => script.pending(104.0, 1),
        };
    }
    for turn in 0..5 {
        let at = 1000.0 + f64::from(turn);
        script.wake(at, 1, 2).poll(at, 1, 2).pending(at + 0.5, 1);
    }
    let report = script.report();
    let told = titles(&report.spans);
    assert!(told[0].starts_with("Span `request` was still open after 19.9 s"), "{told:#?}");
    assert!(!told[0].contains("more like it"), "{told:#?}");
    assert_eq!(
        told[1],
        "Span `request` has been open for 19.9 s with no thread inside it: its task `serve` (1) is over, and \
         something still holds the span (1 more like it)"
    );
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(report.spans.table.names[0].open, 3);
}

#[test]
fn the_innermost_slow_region_is_told_though_it_is_not_the_worst_of_its_name() {
    let mut script = Script::new(20, &[]);
    for turn in 0..20 {
        let at = f64::from(turn) * 10.0;
        script
            .begin(at, 1, "job")
            .region(at + 1.0, at + 2.0, 1, "lock.cache")
            .end_region(at + 3.0, 1);
    }
    // The lock's worst region is elsewhere; the job's own is not the longest of its name.
    script.region(1000.0, 1900.0, 2, "lock.cache");
    script.begin(3000.0, 1, "job").region(3100.0, 3534.0, 1, "lock.cache").end_region(3559.0, 1);
    let report = script.report();
    let told = titles(&report.regions);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("w-2#2 was in region `lock.cache` for 900 ms"), "{told:#?}");
    assert!(told[0].contains("(1 more like it, 1.33 s lost by all of them)"), "{told:#?}");
    let evidence: Vec<_> =
        report.regions.findings[0].evidence.iter().map(|evidence| &*evidence.what).collect();
    assert_eq!(evidence, ["in it for 900 ms", "in it for 434 ms, inside of job"]);
}

#[test]
fn a_slow_region_names_what_took_most_of_it_where_that_is_not_told_by_itself() {
    let mut script = Script::new(20, &[]);
    for turn in 0..20 {
        script.region(f64::from(turn), f64::from(turn) + 0.5, 1, "job");
    }
    script.begin(3000.0, 1, "job");
    for part in 0..3 {
        let at = 3010.0 + f64::from(part) * 100.0;
        script.region(at, at + 90.0, 1, "read");
    }
    script.end_region(3400.0, 1);
    let report = script.report();
    let told = titles(&report.regions);
    assert!(told[0].contains("`job` for 400 ms"), "{told:#?}");
    assert!(told[0].ends_with("; 270 ms of it in `read`, 3 times"), "{told:#?}");
}

#[test]
fn what_a_task_waited_for_is_said_and_added_up() {
    let mut script = Script::new(10, &[]);
    script.worker(0.0, 1, 0);
    for number in 1..=3 {
        let at = f64::from(number);
        script.spawn(at, 1, number, "query").poll(at, 1, number).open(at, 1, number, "query");
        script.enter(at, 1, number).exit(at + 0.1, 1, number).waits(at + 0.5, 1, "pool permit");
    }
    // One is woken after 100 ms, one is polled after 200 ms without a visible wake, one is cancelled.
    script.wake(101.5, 1, 1).poll(105.0, 1, 1).ready(106.0, 1).close(106.0, 1, 1);
    script.poll(202.5, 1, 2).ready(203.0, 1).close(203.0, 1, 2);
    script.cancel(303.5, 1, 3).close(303.5, 1, 3);
    // One waits for something else until the end; one is woken before it could.
    script.spawn(500.0, 1, 4, "query").poll(500.0, 1, 4).waits(1000.0, 1, "answer");
    script
        .spawn(500.0, 1, 5, "query")
        .poll(1500.0, 1, 5)
        .wake(1500.5, 2, 5)
        .waits(1501.0, 1, "answer");
    let report = script.report();
    let told: Vec<_> = report
        .waits
        .table
        .reasons
        .iter()
        .map(|of| (&*of.reason, of.count(), of.open, of.total.0 / 1_000_000, of.most_at_once))
        .collect();
    assert_eq!(told, [("answer", 2, 1, 9000, 2), ("pool permit", 3, 0, 600, 3)]);
    let permit = &report.waits.table.reasons[1];
    assert_eq!(permit.longest[0].length, Nanos(300_000_000));
    let spans = &report.spans.table.names[0];
    let second = spans.slowest.iter().find(|span| span.span.span.index == 2).unwrap();
    let spent = second.spent.as_ref().unwrap();
    assert_eq!(spent.unknown, Nanos(0));
    assert_eq!(spent.split(), "200 ms waiting for `pool permit`, 1 ms being polled");
    assert_eq!(spent.gaps[0].waits_for.as_deref(), Some("pool permit"));
}

#[test]
fn a_wait_that_touches_losses_is_not_added_up() {
    let mut script = Script::new(3, &[(1, 5)]);
    script.spawn(0.0, 1, 1, "query").poll(1.0, 1, 1).waits(2.0, 1, "answer");
    script.wake(1500.0, 1, 1).poll(1501.0, 1, 1).waits(1502.0, 1, "answer");
    script.wake(2500.0, 1, 1).poll(2501.0, 1, 1).waits(2502.0, 1, "answer").wake(2600.0, 1, 1);
    let report = script.report();
    let [answer] = &report.waits.table.reasons[..] else { panic!() };
    assert_eq!((answer.count(), answer.total), (1, Nanos(98_000_000)));
    let because = &report.waits.not_assessed[0];
    assert!(
        because.starts_with("2 waits touch times from which events are missing: 5 events"),
        "{because}"
    );
}

#[test]
fn long_polls_of_one_task_name_are_told_apart_by_what_they_were_for() {
    let mut script = Script::new(20, &[]);
    script.worker(0.0, 1, 0);
    let mut request = |number: u32, at: f64, route: &str, length: f64| {
        script.spawn(at, 1, number, "http request").poll(at, 1, number);
        script
            .with("method", "GET")
            .with("route", route)
            .open(at, 1, number, "request")
            .enter(at, 1, number);
        script.inside(number).open(at, 1, 5000 + number, "work").enter(at, 1, 5000 + number);
        let end = at + length;
        script.exit(end, 1, 5000 + number).close(end, 1, 5000 + number);
        script.exit(end, 1, number).close(end, 1, number).ready(end, 1);
    };
    // Twenty polls of one route take longer than the faulty one of another.
    for number in 1..=20 {
        request(number, 10.0 + f64::from(number) * 200.0, "/export", 150.0);
    }
    request(100, 6000.0, "/items", 60.0);
    let report = script.report();
    let told = titles(&report.polls);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].contains(
            "for 150 ms in span `work`, inside span `request` {method=GET route=/export}"
        ),
        "{told:#?}"
    );
    assert!(told[0].contains("(19 more like it)"), "{told:#?}");
    assert!(
        told[1]
            .contains("for 60 ms in span `work`, inside span `request` {method=GET route=/items}"),
        "{told:#?}"
    );
}

#[test]
fn who_stands_in_a_lock_at_the_end_is_found() {
    let mut script = Script::new(5, &[]);
    script.begin(1100.0, 1, "lock a").begin(1100.0, 2, "lock b");
    script.begin(1200.0, 1, "lock b").begin(1250.0, 2, "lock a");
    let report = script.report();
    let told = titles(&report.standing);
    assert_eq!(
        told,
        [
            "w-1#1 has been inside of region `lock b` for the last 3.8 s of the snapshot, and has recorded \
          nothing since; 1 more stands in a lock or waits for one at the end"
        ]
    );
    let evidence: Vec<_> = report.standing.findings[0]
        .evidence
        .iter()
        .map(|evidence| (evidence.thread.as_ref().unwrap().number.0, &*evidence.what))
        .collect();
    assert_eq!(
        evidence,
        [
            (1, "in region `lock b` up to the end, inside of lock a"),
            (2, "in region `lock a` up to the end, inside of lock b")
        ]
    );
    assert_eq!(report.findings().len(), 1);
}

#[test]
fn a_task_that_waits_for_a_lock_at_the_end_is_found() {
    let mut script = Script::new(5, &[]);
    script.spawn(0.0, 1, 1, "transfer").poll(1000.0, 1, 1).waits(1200.0, 1, "account lock");
    script.spawn(0.0, 1, 2, "listen").poll(1000.0, 1, 2).waits(1200.0, 1, "connection");
    let report = script.report();
    assert_eq!(
        titles(&report.standing),
        [
            "Task `transfer` (1) has waited for `account lock` for the last 3.8 s of the snapshot, and nobody woke it"
        ]
    );
}

#[test]
fn several_who_wait_for_a_lock_are_told_in_one_sentence_that_is_right() {
    let mut script = Script::new(5, &[]);
    for (task, at) in [(1, 1000.0), (2, 1010.0), (3, 1020.0)] {
        script.spawn(at, 1, task, "transfer").poll(at + 1.0, 1, task);
        script.waits(at + 2.0, 1, "pool permit");
    }
    let told = titles(&script.report().standing).join("\n");
    assert!(told.ends_with("; 2 more stand in a lock or wait for one at the end"), "{told}");
}

#[test]
fn who_goes_on_or_has_only_just_begun_does_not_stand_still() {
    let mut script = Script::new(5, &[]);
    // One records something while it holds the lock, one has just taken it, one waits for work.
    script.begin(1000.0, 1, "lock a").counter(4900.0, "rows", 7.0);
    script.begin(4500.0, 2, "lock a");
    script.begin(1000.0, 3, "wait for work");
    let report = script.report();
    assert_eq!(titles(&report.standing), [""; 0]);
    let [because] = &report.standing.not_assessed[..] else { panic!("{:?}", report.standing) };
    assert!(
        because
            .starts_with("1 thread has been in a region and recorded nothing for a second or more"),
        "{because}"
    );
    assert!(because.contains("`wait for work` on w-3"), "{because}");
    // What it logged just before it stopped is no sign of life.
    let mut said = Script::new(5, &[]);
    said.begin(1000.0, 1, "transfer").begin(1001.0, 1, "lock b").counter(1100.0, "wants", 7.0);
    let report = said.report();
    assert_eq!(
        titles(&report.standing),
        [
            "w-1#1 has been inside of region `lock b` for the last 4 s of the snapshot, and has recorded nothing \
          for the last 3.9 s"
        ]
    );
    // Where events are missing, the thread may have recorded something.
    let mut lossy = Script::new(5, &[(3, 1)]);
    lossy.begin(1000.0, 1, "lock a");
    assert_eq!(lossy.report().standing.findings, []);
}
