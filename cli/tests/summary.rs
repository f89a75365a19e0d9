//! `lookback summary`: findings come first, with their evidence; what cannot be assessed says why.

mod command;
mod incident;

use command::{lines, lookback};
use lookback::Recorder;
use lookback::read::Trace;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A service that handles requests quickly, except the last one, which is still in its lock.
fn hanging(directory: &Path) -> PathBuf {
    let recorder = Recorder::builder().max_bytes(1 << 20).name("small").start().unwrap();
    for round in 0..40_u32 {
        let _request = lookback::region!("request");
        let _lock = lookback::region!("lock");
        lookback::counter!("depth", round % 5);
    }
    assert!(recorder.advance());
    lookback::log!(WARN, "evil", "first\nsecond \u{1b}[31mred\u{1b}[0m \u{202e}back");
    let file = directory.join("it hangs.lbk");
    {
        let _request = lookback::region!("request");
        let _lock = lookback::region!("lock");
        std::thread::sleep(Duration::from_millis(60));
        lookback::log!(ERROR, "shop", "no lock");
        recorder.snapshot().unwrap().save(&file).unwrap();
    }
    drop(recorder);
    file
}

fn json(file: &Path) -> Value {
    let summary = lookback(&["summary", "--json", file.to_str().unwrap()]);
    assert_eq!((summary.code, summary.stderr.as_str()), (0, ""), "{summary:?}");
    serde_json::from_str(&summary.stdout).unwrap()
}

// One recorder at a time in a process: one test.
#[test]
fn what_stands_out_comes_first_and_can_be_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let file = hanging(directory.path());
    let path = file.to_str().unwrap();
    let summary = lookback(&["summary", "--all", path]);
    assert_eq!((summary.code, summary.stderr.as_str()), (0, ""), "{summary:?}");
    let text = &summary.stdout;
    let places =
        ["reason", "covered", "What stood out", "Not assessed", "Regions", "The last logs"];
    let places = places.map(|said| text.find(said).unwrap_or_else(|| panic!("{said} in {text}")));
    assert!(places.is_sorted(), "{text}");
    for said in ["still in region `lock`", "against a limit of 10 ms", "inside of request"] {
        assert!(text.contains(said), "{said} in {text}");
    }
    let once = "Spans  none recorded\n";
    assert!(text.contains(once) && text.contains("Workers  none recorded"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "what is recorded commands no terminal");

    // The command that it names shows the events there.
    let shown = text.lines().find(|line| line.trim().starts_with("lookback events")).unwrap();
    let shell = format!("alias lookback={}\n{shown}", command::LOOKBACK);
    let shell = shell.replace("alias lookback=", "lookback() { ").replacen('\n', " \"$@\"; }\n", 1);
    let shown = std::process::Command::new("sh").args(["-c", &shell]).output().unwrap();
    let first = &lines(&shown.stdout)[0];
    assert!(shown.status.success() && first.contains("region_begin"), "{shown:?}");

    the_json_has_its_keys(&json(&file));
    it_is_a_table_for_machines_too(&file);
    of_a_damaged_file_the_rest_is_told(&file);
    colours_are_only_for_who_asks(path);
}

fn the_json_has_its_keys(summary: &Value) {
    for key in [
        "file",
        "coverage",
        "end_ns",
        "findings",
        "not_assessed",
        "polls",
        "delays",
        "spans",
        "regions",
        "stuck",
        "busy",
        "endings",
        "workers",
        "counters",
        "system",
        "changes",
        "losses",
        "logs",
        "damage",
    ] {
        assert!(!summary[key].is_null(), "{key} in {summary}");
    }
    // A machine that is short of something is another finding.
    let mut findings = summary["findings"].as_array().unwrap().iter();
    let finding = findings.find(|finding| finding["analysis"] != "system").unwrap();
    assert_eq!((&finding["analysis"], &finding["unit"]), (&"regions".into(), &"ns".into()));
    assert_eq!(finding["limit"], 1e7);
    let [score, value] = ["score", "value"].map(|key| finding[key].as_f64().unwrap());
    assert!((score - (1.0 - 1e7 / value)).abs() < 1e-3, "{finding}");
    let evidence = &finding["evidence"][0];
    assert_eq!(evidence["events"][0], "--last");
    assert!(evidence["t_ns"].as_i64().unwrap() > 0 && evidence["until_ns"].is_null());
    let because = summary["not_assessed"].as_array().unwrap();
    let polls = because.iter().find(|not| not["analysis"] == "polls").unwrap();
    assert!(polls["because"].as_str().unwrap().starts_with("no task is recorded"));
}

fn it_is_a_table_for_machines_too(file: &Path) {
    let summary = json(file);
    let counter = &summary["counters"]["counters"][0];
    assert_eq!(
        (&counter["name"], &counter["samples"], &counter["max"], &counter["min"]),
        (&"depth".into(), &40.into(), &4.0.into(), &0.0.into())
    );
    let logs = summary["logs"]["last"].as_array().unwrap();
    assert_eq!(logs.last().unwrap()["message"], "no lock");
    assert_eq!(summary["logs"]["levels"]["error"], 1);
    let lock = summary["regions"]["names"].as_array().unwrap();
    let lock = lock.iter().find(|of| of["name"] == "lock").unwrap();
    assert_eq!((&lock["count"], &lock["open"]), (&40.into(), &1.into()));
    assert_eq!(summary["losses"]["share"], 0.0);
}

fn of_a_damaged_file_the_rest_is_told(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let damaged = file.with_file_name("damaged.lbk");
    let trace = Trace::open(file).unwrap();
    let first = &trace.generations()[0];
    let middle = (first.offset + first.compressed / 2) as usize;
    bytes[middle..middle + 8].fill(0x55);
    std::fs::write(&damaged, bytes).unwrap();
    for option in [&[][..], &["--json"]] {
        let ended = lookback(&[&["summary", damaged.to_str().unwrap()], option].concat());
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stdout.contains("The file is damaged in 1 generation"), "{}", ended.stdout);
        let [line] = &lines(ended.stderr.as_bytes())[..] else { panic!("{ended:?}") };
        assert!(line.starts_with("lookback: ") && line.contains("damaged.lbk"), "{line}");
    }
    let missing = lookback(&["summary", "no such file"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (1, ""));
    assert_eq!(lines(missing.stderr.as_bytes()).len(), 1);
}

fn colours_are_only_for_who_asks(path: &str) {
    let never = lookback(&["summary", path, "--color", "never"]);
    assert!(!never.stdout.contains('\u{1b}'));
    assert!(lookback(&["--color=always", "summary", path]).stdout.contains('\u{1b}'));
}

#[test]
fn its_help_has_examples_and_the_keys() {
    let help = lookback(&["summary", "--help"]);
    assert_eq!(help.code, 0);
    for said in ["Examples:", "`findings`", "not_assessed", "--json", "score"] {
        assert!(help.stdout.contains(said), "{said} in {}", help.stdout);
    }
    assert!(help.stdout.lines().all(|line| line.chars().count() <= 100));
    assert_eq!(lookback(&["summary"]).code, 2);
}

#[test]
fn an_executor_that_was_blocked_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blocked.lbk");
    std::fs::write(&file, incident::incident()).unwrap();
    let validate = lookback(&["validate", file.to_str().unwrap()]);
    assert_eq!((validate.code, validate.stderr.as_str()), (0, ""), "the test's own trace is sound");
    let summary = lookback(&["summary", "--all", file.to_str().unwrap()]);
    assert_eq!((summary.code, summary.stderr.as_str()), (0, ""), "{summary:?}");
    // Lines are wrapped at the terminal's width.
    let text = summary.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "held worker r0/w0 for 150 ms in span `reload_prices` {order=600}",
        "1 task waited meanwhile, 1 of them for this thread",
        "Span `handle` {order=500} took 350 ms",
        "200 ms waiting to be woken, 150 ms ready but not polled",
        "until woken by task `shop::db` (1) on r0/w1",
        "`shop::db` (1) was woken by disk#",
        "until r0/w0 polled it, which was in a poll of `shop::reload` (600) for 150 ms",
        "the longest polls",
        "the longest from wake to poll",
        "INFO shop::prices: reloading",
    ] {
        assert!(text.contains(said), "{said} in {}", summary.stdout);
    }
    let json = json(&file);
    let analyses: std::collections::BTreeSet<_> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["analysis"].as_str().unwrap())
        .collect();
    assert!(analyses.is_superset(&["delays", "polls", "spans"].into()), "{analyses:?}");
    assert_eq!(json["endings"]["spawned"], 43);
    assert_eq!(json["polls"]["longest"][0]["victims"][0]["same_thread"], true);
    let spent = &json["spans"]["names"][0]["slowest"][0]["spent"];
    assert_eq!(spent["waiting_ns"].as_u64().unwrap() / 1_000_000, 200);
}
