//! Panics, and requests that failed.

use super::*;

#[test]
fn a_panic_is_found() {
    let mut script = Script::new(1, &[]);
    script.spawn(0.0, 1, 1, "boom").poll(1.0, 1, 1).panic(2.0, 1);
    let report = script.report();
    assert_eq!(titles(&report), ["Task `boom` (1) panicked"]);
    assert_eq!(report.findings()[0].score.number(), 1.0);
}

/// Requests of one route, one each millisecond, with this status.
fn requests(script: &mut Script, from: u32, many: u32, status: &str) {
    for number in from..from + many {
        let at = f64::from(number) * 0.5;
        script.with("method", "GET").with("route", "/buy").open(at, 1, number, "request");
        script.with("status", status).record(at + 0.3, 1, number).close(at + 0.3, 1, number);
    }
}

#[test]
fn a_storm_of_errors_is_a_finding() {
    let mut script = Script::new(2, &[]);
    requests(&mut script, 1, 8, "200");
    requests(&mut script, 9, 2000, "500");
    let report = script.report();
    let finding = report.findings()[0].clone();
    assert_eq!(
        finding.title,
        "2,000 of 2,008 spans `request {method=GET route=/buy}` ended with status 500, the first of \
         them after 8 that did not fail"
    );
    assert_eq!((finding.analysis, finding.score.number() > 0.98), ("failures", true));
    assert_eq!(finding.evidence[0].at, Moment(4_000_000));
    let of = &report.spans.table.names[0].outcomes;
    assert_eq!((of.failed, of.cancelled, of.by["status 500"]), (2000, 0, 2000));
    assert_eq!(report.failures.table.failed, 2000);
}

#[test]
fn a_lone_error_among_many_requests_is_no_finding_and_a_sudden_change_is() {
    let mut script = Script::new(3, &[]);
    requests(&mut script, 1, 2000, "200");
    requests(&mut script, 2001, 1, "503");
    requests(&mut script, 2002, 2000, "404");
    let report = script.report();
    assert_eq!(titles(&report), [""; 0]);
    assert_eq!(report.spans.table.names[0].outcomes.failed, 1);

    let mut script = Script::new(3, &[]);
    requests(&mut script, 1, 4000, "200");
    requests(&mut script, 4001, 40, "500");
    let report = script.report();
    assert_eq!(report.failures.findings.len(), 1);
    let late = report.failures.findings[0].score.number();
    let mut script = Script::new(3, &[]);
    for turn in 0..40 {
        requests(&mut script, 1 + turn * 101, 1, "500");
        requests(&mut script, 2 + turn * 101, 100, "200");
    }
    let even = script.report();
    let even = even.failures.findings.first().map_or(0.0, |finding| finding.score.number());
    assert!(late > 0.85 && even < 0.5, "{late} {even}");
}

#[test]
fn panics_errors_and_grpc_statuses_are_failures_and_cancellations_are_told_apart() {
    let mut script = Script::new(1, &[]);
    let all = [("panicked", "true"), ("error", "no route"), ("grpc_status", "13")];
    let fine = [("grpc_status", "5"), ("error", "false"), ("status", "1503"), ("other", "500")];
    for (number, (field, value)) in (1..).zip(all.into_iter().chain(fine)) {
        let at = f64::from(number);
        script.open(at, 1, number, "call").with(field, value).record(at, 1, number);
        script.close(at + 0.1, 1, number);
    }
    for number in 20..60 {
        let at = f64::from(number);
        script.open(at, 1, number, "call").with("cancelled", "true").record(at, 1, number);
        script.close(at + 0.1, 1, number);
    }
    let report = script.report();
    assert_eq!(
        titles(&report),
        [
            "40 of 47 spans `call` were cancelled before they had ended",
            "3 of 47 spans `call` failed (1 panicked, 1 grpc-status 13, 1 error)",
        ]
    );
}
