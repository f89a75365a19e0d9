//! Values as the command shows them: each under a name of its own, and missing ones are marked in every view.

mod command;

use command::{Ended, lookback};
use lookback::read::text::from_text;
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;

/// A message with fields that have our names, and repeated names; values of every type; a span with an
/// omitted field, a cut one, and one that became known later; a counter that was never a number.
const TEXT: &str = r#"generation 1 complete began=1000:1000000000:1700000000000000000:1000000000 ended=900001000:1900000000:1700000000900000000:1000000000
block slot=0 sequence=0 thread=0 base=1000 first_event=0
  end events=12 bytes=0 blocks=2 lost=[] advances=[] waits=[] snapshots=[]
block slot=1 sequence=0 thread=1 base=1000 first_event=0
  callsite id=1 name="event src/a.rs:1" file="src/a.rs" line=1 target="shop" level=3 fields=["level", "message", "a", "a", "body", "took", "id"]
  callsite id=2 name="request" file="src/a.rs" line=2 target="shop" level=3 fields=["path", "status", "body", "span"]
  site id=3 name="ratio" file="src/a.rs" line=3
  schema id=4 name="measured" file="src/a.rs" line=4 fields=[any "there", any "not_there", wide "hash", wide_signed "delta", duration "took", error "why"]
  @1 thread_start thread=1 os_thread=4001 name="worker"
  @2 log level=4 site=1 message="two of each" fields={0: "mine", 1: "my own", 2: 1, 3: 2, 4: omitted, 5: d0:1500000, 6: w18446744073709551616}
  @3 span_create span=1 incarnation=1 site=2 fields={0: "/ca"…, 1: 0, 2: omitted, 3: 9}
  @4 span_enter
  @5 span_record span=1 incarnation=1 site=2 fields={1: 503}
  @6 event schema=4 values=(?+7, ?, w340282366920938463463374607431768211455, w-1, d2:0, !"no answer: refused")
  @7 counter#24 site=3 value=fx7ff8000000000000
  @8 counter#24 site=3 value=fx7ff0000000000000
  @9 log level=3 site=1 message="plain" fields={}
  @10 span_exit
  @800000000 span_close
  @800000001 thread_exit
"#;

fn snapshot() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("values.lbk");
    std::fs::write(&file, from_text(TEXT).unwrap()).unwrap();
    (directory, file)
}

fn run(arguments: &[&str]) -> Ended {
    let (_directory, file) = snapshot();
    let ended = lookback(&[arguments, &[file.to_str().unwrap()]].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    ended
}

/// The keys of an object in their order, each as often as it occurs.
fn keys(line: &str) -> Vec<String> {
    let fields = line.split_once(r#""fields":{"#).unwrap().1;
    let fields = &fields[..fields.find('}').unwrap()];
    let mut keys = Vec::new();
    for part in fields.split(',') {
        keys.push(part.split(':').next().unwrap().trim_matches('"').to_owned());
    }
    keys
}

#[test]
fn every_key_is_there_once_and_ours_are_ours() {
    let output = run(&["events", "--json", "--kind", "log", "--limit", "1"]).stdout;
    let line: Value = serde_json::from_str(&output).unwrap();
    let expected = json!({
        "level": "warn",
        "message": "two of each",
        "field.level": "mine",
        "field.message": "my own",
        "a": 1,
        "a#2": 2,
        "took": "1.5ms",
        "id": "18446744073709551616",
    });
    assert_eq!(line["fields"], expected);
    assert_eq!(line["omitted"], json!(["body"]));
    let all = ["level", "message", "field.level", "field.message", "a", "a#2", "took", "id"];
    assert_eq!(keys(&output), all);
}

#[test]
fn people_see_the_fields_of_a_message_and_what_is_missing() {
    let output = run(&["events", "--kind", "log"]).stdout;
    let lines: Vec<_> = output.lines().collect();
    let said = "WARN shop: two of each  field.level=mine field.message=\"my own\" a=1 a#2=2 took=1.5ms \
                id=18446744073709551616 1 field more: body";
    assert!(lines[0].ends_with(said), "{output}");
    assert!(lines[1].ends_with("INFO shop: plain"), "{output}");
    let output = run(&["events", "--kind", "span_create"]).stdout;
    assert!(
        output
            .trim_end()
            .ends_with("request  span=1 path=/ca… status=0 field.span=9 1 field more: body"),
        "{output}"
    );
}

#[test]
fn values_of_every_type_are_told() {
    let output = run(&["events", "--json", "--kind", "event"]).stdout;
    let line: Value = serde_json::from_str(&output).unwrap();
    let expected = json!({
        "there": 7,
        "hash": "340282366920938463463374607431768211455",
        "delta": "-1",
        "took": "2s",
        "why": "no answer: refused",
    });
    assert_eq!(line["fields"], expected);
    let output = run(&["events", "--kind", "event"]).stdout;
    let said = "measured  there=7 hash=340282366920938463463374607431768211455 delta=-1 took=2s \
                why=\"no answer: refused\"";
    assert!(output.trim_end().ends_with(said), "{output}");
}

#[test]
fn what_was_omitted_is_counted_and_marked_in_every_view() {
    let info = run(&["info"]).stdout;
    assert!(info.contains("2 fields of spans and messages for want of room"), "{info}");
    let info: Value = serde_json::from_str(&run(&["info", "--json"]).stdout).unwrap();
    assert_eq!(info["left_out"]["omitted_fields"], 2);
    let summary = run(&["summary", "--all"]).stdout;
    assert!(summary.contains("2 fields of spans and messages for want of room"), "{summary}");
    let summary: Value = serde_json::from_str(&run(&["summary", "--json"]).stdout).unwrap();
    assert_eq!(summary["losses"]["left_out"]["omitted_fields"], 2);
    let logs = summary["logs"].to_string();
    assert!(logs.contains("level=mine message=my own a=1 a=2 took=1.5ms"), "{logs}");
    assert!(logs.contains("body=…"), "{logs}");
    let spans = summary["spans"].to_string();
    assert!(spans.contains("path=/ca… status=503 span=9 body=…"), "{spans}");
}

#[test]
fn counters_that_never_were_numbers_are_not_said_to_be_missing() {
    let summary = run(&["summary", "--all"]).stdout;
    assert!(!summary.contains("no counter is recorded"), "{summary}");
    let summary: Value = serde_json::from_str(&run(&["summary", "--json"]).stdout).unwrap();
    assert!(
        summary.to_string().contains("2 samples of counters are no finite numbers"),
        "{summary:#}"
    );
}

/// A task that waits for a permit from its first poll to the end.
const WAITS: &str = r#"generation 1 complete began=1000:1000000000:1700000000000000000:1000000000 ended=900001000:1900000000:1700000000900000000:1000000000
block slot=0 sequence=0 thread=0 base=1000 first_event=0
  end events=4 bytes=0 blocks=2 lost=[] advances=[] waits=[] snapshots=[]
block slot=1 sequence=0 thread=1 base=1000 first_event=0
  site id=1 name="permit" file="src/a.rs" line=3
  site id=2 name="job" file="src/a.rs" line=4
  @1 thread_start thread=1 os_thread=4001 name="worker"
  @2 task_create task=0 incarnation=1 sequence=2 site=2
  @3 task_poll task=0 sequence=3
  @4 task_pending site=1
"#;

#[test]
fn of_waits_that_are_not_over_no_percentile_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("waits.lbk");
    std::fs::write(&file, from_text(WAITS).unwrap()).unwrap();
    let ended = lookback(&["summary", file.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let row = ended.stdout.lines().find(|line| line.trim_start().starts_with("permit"));
    // count, total, longest, at once, open
    let words: Vec<_> = row.expect("it waits").split_whitespace().skip(1).collect();
    assert_eq!(words, ["1", "900", "ms", "900", "ms", "1", "1"], "{}", ended.stdout);
    let kinds = ended.stdout.lines().find(|line| line.trim_start().starts_with("events"));
    assert!(kinds.unwrap().ends_with("4: 3 of tasks, 1 of threads"), "{kinds:?}");
}

#[test]
fn where_the_filter_lets_nothing_through_nobody_is_told_to_add_a_layer() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("off.lbk");
    let recorder = lookback::Recorder::builder()
        .filter("off".parse::<lookback::Filter>().unwrap())
        .start()
        .unwrap();
    lookback::event!("one");
    // The doctor does not complain about missing parts within the first two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    lookback::event!("two");
    recorder.stop().unwrap().save(&file).unwrap();
    let said = |command| lookback(&[command, file.to_str().unwrap()]).stdout;
    let doctor = said("doctor");
    assert!(doctor.contains(": the filter is `off`"), "{doctor}");
    assert!(!doctor.contains("layer()"), "{doctor}");
    let summary = said("summary").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(summary.contains("as far as the filter lets them through: `off`"), "{summary}");
}
