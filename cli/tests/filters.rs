//! A filter that matches nothing is reported, and output to a pipe is not cut.

mod command;
mod incident;

use command::{Ended, LOOKBACK, ended, lookback};
use lookback::Recorder;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

fn incident() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("incident.lbk");
    std::fs::write(&file, incident::incident()).unwrap();
    (directory, file)
}

fn events(file: &std::path::Path, filters: &[&str]) -> Ended {
    lookback(&[&["events", file.to_str().unwrap()], filters].concat())
}

#[test]
fn a_filter_that_nothing_meets_is_an_error_that_says_what_there_is() {
    let (_directory, file) = incident();
    for (filter, said) in [
        (["--thread", "nosuch"], "no event of thread nosuch; the threads are "),
        (["--thread", "4711"], "worker-1, worker-2"),
        (["--task", "99.7"], "no event of task 99.7"),
        (["--span", "0"], "no span 0"),
        (["--kind", "counter"], "no event of kind counter; the kinds are log, "),
        (["--generation", "77"], "no generation 77; this snapshot has 1 to 1"),
        (["--name", "nosuch*"], "no event has nosuch* in its name"),
    ] {
        let ended = events(&file, &filter);
        assert_eq!((ended.code, &*ended.stdout), (1, ""), "{ended:?}");
        assert!(ended.stderr.contains(said), "{said} in {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.contains("incident.lbk"), "{ended:?}");
    }
    // One of two exists: it is shown, and the other one is reported.
    let both = events(&file, &["--thread", "worker-1", "--thread", "nosuch"]);
    assert_eq!(both.code, 1);
    assert_eq!(both.stdout, events(&file, &["--thread", "worker-1"]).stdout);
    // Both exist, but not at once: that is no mistake.
    let neither = events(&file, &["--thread", "worker-1", "--name", "disk", "--last", "1ns"]);
    assert!(neither.code == 0 || neither.stderr.contains("in its name"), "{neither:?}");
    // Of a file without a whole generation, the damage is all that there is to say.
    let whole = std::fs::read(&file).unwrap();
    let cut = file.with_file_name("cut.lbk");
    std::fs::write(&cut, &whole[..whole.len() / 3]).unwrap();
    let none = events(&cut, &[]);
    assert!(none.stdout.is_empty() && none.stderr.contains("cut off"), "{none:?}");
    assert!(!none.stderr.contains("filter"), "{none:?}");
    // With the time alone there are no filters to drop.
    let late = events(&file, &["--last", "1ns"]);
    assert!(late.stderr.contains("no event in the last 1 ns: the newest is from "), "{late:?}");
    assert!(!late.stderr.contains("filters"), "{late:?}");
    // A file that was not read to its end says nothing about what is missing.
    assert_eq!(events(&file, &["--thread", "worker-1", "--limit", "1"]).code, 0);
}

#[test]
fn a_task_and_a_span_are_found_by_their_ids() {
    let (_directory, file) = incident();
    let all = events(&file, &["--json"]);
    let of = |filter: &[&str]| events(&file, &[&["--json"], filter].concat());
    for (what, id) in [("task", "600"), ("span", "600")] {
        let found = of(&[&format!("--{what}"), id]);
        assert_eq!(found.code, 0, "{found:?}");
        let is_of = |line: &&str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event[what] == id || event["fields"][what] == id
        };
        let right: Vec<_> = all.stdout.lines().filter(is_of).collect();
        assert!(!right.is_empty());
        assert_eq!(found.stdout.lines().collect::<Vec<_>>(), right);
    }
    assert_eq!(of(&["--generation", "1"]).stdout, all.stdout);
}

#[test]
fn a_thread_is_found_as_the_lines_call_it() {
    let (_directory, file) = incident();
    let lines = events(&file, &[]).stdout;
    let called: std::collections::BTreeSet<_> =
        lines.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert!(called.iter().any(|thread| thread.contains('#')), "{called:?}");
    for thread in called {
        let found = events(&file, &["--thread", thread]);
        assert_eq!(found.code, 0, "{found:?}");
        let right = lines.lines().filter(|line| line.split_whitespace().nth(1) == Some(thread));
        // A worker's thread may have events from before it was a worker.
        let found: Vec<_> = found.stdout.lines().collect();
        right.for_each(|line| assert!(found.contains(&line), "{line} of {thread}"));
    }
    // The number must match as well.
    assert_eq!(events(&file, &["--thread", "worker-1#4711"]).code, 1);
}

#[test]
fn the_help_lists_each_kind_once() {
    let help = lookback(&["events", "--help"]).stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, kinds) = help.split_once("--kind <KIND>").unwrap();
    let (_, kinds) = kinds.split_once("[possible values: ").unwrap();
    let kinds: Vec<_> = kinds.split(']').next().unwrap().split(", ").collect();
    let once: std::collections::BTreeSet<_> = kinds.iter().collect();
    assert_eq!(once.len(), kinds.len(), "{kinds:?}");
    assert!(once.contains(&"log") && once.contains(&"task_pending"));
}

#[test]
fn a_pipe_gets_all_and_columns_are_obeyed() {
    let (_directory, file) = incident();
    let summary = |columns: Option<&str>| {
        let mut command = Command::new(LOOKBACK);
        command.args(["summary", file.to_str().unwrap()]).env_remove("COLUMNS");
        columns.map(|columns| command.env("COLUMNS", columns));
        ended(&mut command).stdout
    };
    let piped = summary(None);
    assert!(piped.lines().any(|line| line.chars().count() > 132), "a long title is one line");
    assert!(!piped.contains('…'), "{piped}");
    for columns in [60, 100, 132] {
        let told = summary(Some(&columns.to_string()));
        // The command of a finding can be copied.
        let cut = told.lines().filter(|line| !line.contains("incident.lbk"));
        let widest = cut.map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns && widest > columns - 20, "{widest} of {columns}: {told}");
    }
    for odd in ["", "0", "wide", "-7"] {
        assert_eq!(summary(Some(odd)), piped, "{odd}");
    }
}

#[test]
fn a_reason_of_many_lines_leaves_the_findings_in_sight() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("reason.lbk");
    let recorder = Recorder::builder().max_bytes(1 << 20).start().unwrap();
    lookback::log!(INFO, "shop", "here");
    let reason = format!("assertion failed\n{}", "  left: a\n\n  right: b\n".repeat(7));
    recorder.snapshot_because(&reason).unwrap().save(&file).unwrap();
    for command in ["summary", "info"] {
        let told = lookback(&[command, file.to_str().unwrap()]).stdout;
        let line = told.lines().find(|line| line.contains("assertion failed")).unwrap();
        assert!(line.ends_with("assertion failed … (14 more lines, see --json)"), "{told}");
        assert!(!told.contains("left: a"), "{told}");
        let json = lookback(&[command, file.to_str().unwrap(), "--json"]).stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let whole = if command == "info" { &json["reason"] } else { &json["coverage"]["reason"] };
        assert_eq!(*whole, reason);
    }
    // The clock's frequency is that of the machine's data sheet, not the recorder's divided one.
    let json = lookback(&["info", file.to_str().unwrap(), "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let [ticks, divisor] = ["frequency", "divisor"].map(|key| json["clock"][key].as_u64().unwrap());
    let told = lookback(&["info", file.to_str().unwrap()]).stdout;
    let (_, megahertz) = told.split_once(" at ").unwrap();
    let megahertz = megahertz.split(" MHz").next().unwrap().replace(',', "");
    assert_eq!(megahertz.parse::<u64>().unwrap(), ticks * divisor / 1_000_000);
    // No x86-64 processor has a slower time stamp counter than this.
    assert!(json["clock"]["kind"] != "tsc" || ticks * divisor > 800_000_000);
}
