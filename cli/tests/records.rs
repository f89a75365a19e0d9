//! Tasks, workers and spans as the command shows them.

mod command;

use command::lookback;
use std::path::Path;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../snapshot/tests/golden/v2.lbk");

#[test]
fn records_are_printed_as_they_stand_in_the_file() {
    let file = FILE.replace("v2", "v3");
    let output = lookback(&["events", &file, "--records"]);
    assert_eq!(output.code, 0);
    let text = Path::new(&file).with_extension("text");
    assert_eq!(output.stdout, std::fs::read_to_string(text).unwrap());
}

#[test]
fn json_tells_what_happened_and_inside_of_what() {
    let output = lookback(&["events", FILE, "--json", "--kind", "task_wake", "--limit", "1"]);
    let line: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&line["kind"], &line["name"]), (&"task_wake".into(), &"Serve".into()));
    assert_eq!((&line["task"], &line["worker"]), (&"0".into(), &"r0/w0".into()));
    assert_eq!(line["fields"], serde_json::json!({"task": "1", "by": "0", "sequence": 2}));
    let output = lookback(&["events", FILE, "--json", "--kind", "span_record"]);
    let line: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&line["name"], &line["span"]), (&"request".into(), &"1".into()));
    assert_eq!(line["fields"], serde_json::json!({"span": "1", "status": 503}));
}

#[test]
fn people_see_it_on_a_line() {
    let output = lookback(&["events", FILE, "--kind", "task_pending", "--limit", "1"]);
    let line = output.stdout;
    assert!(
        line.trim_end().ends_with("r0/w0       task_pending  Serve  task=0 waits_for=sleep"),
        "{line}"
    );
}
