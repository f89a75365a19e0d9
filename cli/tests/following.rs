//! One thing is followed through a snapshot: a span with what is inside of it, a distributed trace, a stretch of time, a text.

mod command;

use command::{Ended, lookback};
use lookback::Recorder;
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;

fn events(file: &std::path::Path, filters: &[&str]) -> Ended {
    lookback(&[&["events", file.to_str().unwrap()], filters].concat())
}

/// A service with a request that has a trace id, a span inside of it, and one beside it.
fn service() -> (TempDir, PathBuf) {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("requests.lbk");
    std::fs::write(&file, BYTES.get_or_init(recorded)).unwrap();
    (directory, file)
}

/// Its snapshot: a process has one recorder at a time.
fn recorded() -> Vec<u8> {
    let recorder = Recorder::builder().max_bytes(1 << 20).start().unwrap();
    let dispatch: tracing::Dispatch = lookback::tracing::subscriber().into();
    tracing::dispatcher::with_default(&dispatch, || {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let request = tracing::info_span!("request", traceparent = parent).entered();
        lookback::event!("outer");
        tracing::info_span!("query").in_scope(|| {
            tracing::warn!("slow disk");
            tracing::info!("all rows read");
        });
        drop(request);
        tracing::info_span!("other")
            .in_scope(|| tracing::error!(target: "store::rows", "no route"));
        let handler = tracing::info_span!("handler", otel.name = tracing::field::Empty);
        handler.in_scope(|| tracing::info!("routed"));
        handler.record("otel.name", "GET /carts");
        handler.in_scope(|| tracing::info!("served"));
        drop(handler);
        tracing::info_span!("7.2").in_scope(|| tracing::info!("numbered"));
        std::thread::sleep(std::time::Duration::from_millis(20));
        lookback::event!("late");
    });
    let mut bytes = Vec::new();
    recorder.stop().unwrap().write_to(&mut bytes).unwrap();
    bytes
}

/// The events that a filter leaves, by kind and name, and when they were.
fn left(file: &std::path::Path, filters: &[&str]) -> Vec<(String, u64)> {
    let found = events(file, &[&["--json"], filters].concat());
    assert_eq!((found.code, &*found.stderr), (0, ""), "{filters:?}");
    let event = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = event["fields"]["message"].as_str().or(event["name"].as_str()).unwrap();
        (format!("{} {name}", event["kind"].as_str().unwrap()), event["t"].as_u64().unwrap())
    };
    found.stdout.lines().map(event).collect()
}

fn names(file: &std::path::Path, filters: &[&str]) -> Vec<String> {
    left(file, filters).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn one_span_is_followed_with_what_is_inside_and_so_is_a_distributed_trace() {
    let (_directory, file) = service();
    let spans: Vec<_> =
        lookback(&["events", file.to_str().unwrap(), "--json", "--kind", "span_create"])
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|event| event["fields"]["span"].as_str().unwrap().to_owned())
            .collect();
    let request = names(&file, &["--span", &spans[0]]);
    for inside in ["event outer", "span_create query", "log slow disk", "span_close request"] {
        assert!(request.iter().any(|name| name == inside), "{inside} in {request:?}");
    }
    assert!(!request.iter().any(|name| name.contains("no route")), "{request:?}");
    let of_trace = names(&file, &["--trace-id", "4BF92F3577B34DA6A3CE929D0E0E4736"]);
    assert_eq!(of_trace, request);
    let query = names(&file, &["--span", &spans[1]]);
    assert!(query.len() < request.len() && query.contains(&"log slow disk".to_owned()));
    // By name, as a whole or as a pattern.
    assert_eq!(names(&file, &["--span", "request"]), request);
    assert_eq!(names(&file, &["--span", "q?e*"]), query);
    let both = names(&file, &["--span", "query", "--span", "other"]);
    assert!(both.contains(&"log no route".to_owned()) && both.len() > query.len(), "{both:?}");
    let none = events(&file, &["--span", "quer"]);
    assert!(none.code == 1 && none.stderr.contains("no span quer;"), "{none:?}");
    let none = events(&file, &["--trace-id", "77"]);
    assert!(none.code == 1 && none.stderr.contains("no span of trace 77"), "{none:?}");
}

#[test]
fn a_span_that_gets_its_name_late_is_followed_by_either_name() {
    let (_directory, file) = service();
    let whole = names(&file, &["--span", "handler"]);
    assert!(whole.contains(&"log routed".to_owned()), "{whole:?}");
    let renamed = whole.iter().position(|name| name == "span_record GET /carts").unwrap();
    assert_eq!(names(&file, &["--span", "GET /*"]), whole[renamed..]);
    assert_eq!(whole.last().unwrap(), "span_close GET /carts");
    let numbered = names(&file, &["--span", "7.2"]);
    assert!(numbered.contains(&"log numbered".to_owned()), "{numbered:?}");
}

#[test]
fn logs_are_filtered_by_how_important_they_are_and_lines_by_their_text() {
    let (_directory, file) = service();
    assert_eq!(names(&file, &["--level", "warn"]), ["log slow disk", "log no route"]);
    assert_eq!(names(&file, &["--level", "ERROR"]), ["log no route"]);
    assert_eq!(names(&file, &["--grep", "rows read"]), ["log all rows read"]);
    let none = events(&file, &["--grep", "nosuch"]);
    assert!(
        none.code == 1 && none.stderr.contains("no line of these has nosuch in it"),
        "{none:?}"
    );
    let none = events(&file, &["--worker", "r7/w1"]);
    assert!(none.code == 1 && none.stderr.contains("no event of worker r7/w1"), "{none:?}");
    assert_eq!(events(&file, &["--level", "loud"]).code, 2);
    let all = names(&file, &["--target", "following"]);
    assert!(all.contains(&"log slow disk".to_owned()), "{all:?}");
    assert!(all.contains(&"span_create query".to_owned()), "{all:?}");
    assert!(!all.contains(&"event late".to_owned()), "{all:?}");
    assert_eq!(names(&file, &["--target", "store*"]), ["log no route"]);
    let none = events(&file, &["--target", "nosuch"]);
    assert!(none.code == 1 && none.stderr.contains("no span and no log of target"), "{none:?}");
}

#[test]
fn a_stretch_of_time_is_what_lies_between_two_moments_or_around_one() {
    let (_directory, file) = service();
    let all = left(&file, &[]);
    let late = all.iter().find(|(name, _)| name == "event late").unwrap().1;
    let exact = |nanos: u64| format!("+{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let is_right = |filters: &[&str], includes: &dyn Fn(u64) -> bool| {
        let right: Vec<_> = all.iter().filter(|(_, at)| includes(*at)).cloned().collect();
        assert_eq!(left(&file, filters), right, "{filters:?}");
        assert!(!right.is_empty(), "{filters:?}");
    };
    is_right(&["--since", &exact(late)], &|at| at >= late);
    is_right(&["--until", &exact(late - 1)], &|at| at < late);
    is_right(&["--since", &exact(late - 1), "--until", &exact(late)], &|at| {
        at + 1 >= late && at <= late
    });
    is_right(&["--around", &exact(late), "--within", "10ms"], &|at| at + 10_000_000 >= late);
    assert_eq!(left(&file, &["--since", "-1h"]), all);
    // By the clock on the wall: when the program ran.
    assert_eq!(
        left(&file, &["--since", "2020-01-01T00:00:00Z", "--until", "2120-01-01T00:00:00Z"]),
        all
    );
    let none = events(&file, &["--until", "2020-01-01T00:00:00Z"]);
    assert!(none.stdout.is_empty() && none.code == 1, "{none:?}");
    assert!(none.stderr.contains("no event at that time: the snapshot begins at 20"), "{none:?}");
    // What is printed with the time on the wall is found by it.
    let line = events(&file, &["--wall", "--kind", "event", "--name", "late", "--json"]).stdout;
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    let wall = event["wall"].as_str().unwrap();
    is_right(&["--since", wall], &|at| at >= late);
    let clock = wall.split_once('T').unwrap().1;
    let told = events(&file, &["--wall", "--kind", "event", "--name", "late"]).stdout;
    assert_eq!(told.split_whitespace().next(), Some(&clock[..15]), "{told}");
    for wrong in [
        &["--since", "soon"][..],
        &["--since", "1", "--last", "1s"],
        &["--around", "1", "--until", "2"],
    ] {
        assert_eq!(events(&file, wrong).code, 2, "{wrong:?}");
    }
}
