//! Findings that are alike are reported once; tasks of one name are distinguished by their purpose.

use super::test_trace::Script;
use super::*;

fn titles<T>(section: &Section<T>) -> Vec<&str> {
    section.findings.iter().map(|finding| &*finding.title).collect()
}

/// A task inside a request of this route, which is woken, and polled `delay` later.
fn request(script: &mut Script, number: u32, at: f64, route: &str, delay: f64) {
    script.spawn(at, 1, number, "http request").poll(at, 1, number);
    script.with("method", "GET").with("route", route).open(at, 1, number, "request");
    script.enter(at, 1, number).exit(at + 0.1, 1, number).pending(at + 0.1, 1);
    script.wake(at + 1.0, 1, number).poll(at + 1.0 + delay, 1, number);
    script.enter(at + 1.0 + delay, 1, number).exit(at + 1.1 + delay, 1, number);
}

#[test]
fn delays_of_one_task_name_are_told_apart_by_their_routes() {
    let mut script = Script::new(20, &[]);
    script.worker(0.0, 1, 0);
    // Twenty of one route take longer than the faulty one of another.
    for number in 1..=20 {
        let at = 10.0 + f64::from(number) * 200.0;
        request(&mut script, number, at, "/export", 150.0);
        script.close(at + 152.0, 1, number).ready(at + 152.0, 1);
    }
    request(&mut script, 100, 6000.0, "/items", 60.0);
    script.close(6062.0, 1, 100).ready(6062.0, 1);
    let report = script.report();
    let told = titles(&report.delays);
    assert_eq!(told.len(), 2, "{told:#?}");
    let parts = [
        ["waited 150 ms from its wake to its poll", "{method=GET route=/export} (19 more like it)"],
        ["waited 60 ms from its wake to its poll", "{method=GET route=/items}"],
    ];
    for (title, parts) in told.iter().zip(parts) {
        assert!(parts.iter().all(|part| title.contains(part)), "{told:#?}");
    }
    assert_eq!(report.delays.table.long, 21);
    assert_eq!(report.delays.table.longest.len(), 10);
}

#[test]
fn stuck_tasks_of_one_name_are_told_apart_by_their_routes() {
    let mut script = Script::new(20, &[]);
    script.worker(0.0, 1, 0);
    // Tasks that usually wait a few milliseconds.
    for number in 1..=150 {
        let (at, route) =
            (10.0 + f64::from(number) * 5.0, if number % 2 == 0 { "/items" } else { "/export" });
        request(&mut script, number, at, route, 1.0);
        script.close(at + 3.0, 1, number).ready(at + 3.0, 1);
    }
    for (number, route) in [(201, "/items"), (202, "/export"), (203, "/export")] {
        request(&mut script, number, 800.0 + f64::from(number) * 4.0, route, 1.0);
        script.pending(802.5 + f64::from(number) * 4.0, 1);
    }
    // Time passes.
    script.worker(9000.0, 2, 1);
    let report = script.report();
    let told = titles(&report.stuck);
    assert_eq!(told.len(), 2, "{told:#?} {:?}", report.stuck);
    assert!(told[0].contains("(201)") && told[0].contains("route=/items"), "{told:#?}");
    assert!(told[1].contains("(202)") && told[1].contains("route=/export"), "{told:#?}");
    assert!(told[1].contains("(1 more like it)"), "{told:#?}");
}
