//! `lookback export`: what it writes, what it prints, and what it refuses.

mod command;
#[path = "../../snapshot/tests/go_tool/mod.rs"]
mod go_tool;

use command::{LOOKBACK, ended, lines, lookback};
use go_tool::go_tool;
use lookback::Recorder;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A small snapshot, made once: a process has one recorder.
fn recorded() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        // Counters of the machine would be more logs.
        let builder = Recorder::builder().max_bytes(1 << 20).name("small").system_counters([]);
        let recorder = builder.start().unwrap();
        for round in 0..3_u32 {
            let _region = lookback::region!("round");
            for n in 0..50_u32 {
                lookback::event!("step", n = n, ratio = 0.5);
            }
            lookback::log!(WARN, "cache", "round {round} is \"over\"\n");
            lookback::counter!("round", round);
            assert!(recorder.advance());
        }
        let mut bytes = Vec::new();
        recorder.stop().unwrap().write_to(&mut bytes).unwrap();
        bytes
    })
}

/// The snapshot, in a directory of its own.
fn snapshot() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("small.lbk");
    std::fs::write(&path, recorded()).unwrap();
    (directory, path)
}

fn export(file: &Path, out: &Path, more: &[&str]) -> command::Ended {
    let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
    lookback(&[&["export", file, "--format", "go", "-o", out], more].concat())
}

#[test]
fn go_opens_what_is_exported_and_counts_the_same() {
    let (directory, file) = snapshot();
    let out = directory.path().join("trace.out");
    let said = export(&file, &out, &["--json"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(said["format"], "go");
    assert_eq!(said["bytes"], std::fs::metadata(&out).unwrap().len());
    assert_eq!(said["written"]["logs"]["all"], 3 * 52);
    assert_eq!(said["written"]["regions_begun"]["all"], 3);
    let Some(go) = go_tool() else { return };
    let parsed = go.parse_file(&out).unwrap();
    let kinds = parsed.kinds();
    for (kind, name) in [
        ("Log", "logs"),
        ("RegionBegin", "regions_begun"),
        ("RegionEnd", "regions_ended"),
        ("Go Runnable->Running", "starts"),
    ] {
        let read = kinds.get(kind).copied().unwrap_or_default();
        assert_eq!(said["written"][name]["all"], read, "{kind}");
    }
    let step = parsed.with(&["Log ", "\"step\"", "Message=\"n=49 ratio=0.5\""]);
    assert_eq!(step.len(), 3);
}

/// What is cut out is whole generations, in every format, and other tools read it.
#[test]
fn a_part_of_a_snapshot_is_exported_with_what_was_open_when_it_began() {
    let (directory, file) = snapshot();
    let out = directory.path().join("trace.out");
    let events = |format: &str, more: &[&str]| {
        let arguments = ["export", file.to_str().unwrap(), "--format", format, "--json", "-o"];
        let said = lookback(&[&arguments[..], &[out.to_str().unwrap()], more].concat());
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
        serde_json::from_str::<Value>(&said.stdout).unwrap()["events"].as_u64().unwrap()
    };
    let info = lookback(&["info", "--json", file.to_str().unwrap()]).stdout;
    let info: Value = serde_json::from_str(&info).unwrap();
    let generations = info["generations"].as_array().unwrap();
    let of = |at: usize, key: &str| generations[at][key].as_u64().unwrap();
    // When an event in the middle of the second generation was.
    let arguments = ["events", file.to_str().unwrap(), "--generation", "2", "--json"];
    let lines = lookback(&arguments).stdout;
    let middle = lines.lines().nth(lines.lines().count() / 2).unwrap();
    let middle = serde_json::from_str::<Value>(middle).unwrap()["t"].as_u64().unwrap();
    let second = format!("+{}.{:09}", middle / 1_000_000_000, middle % 1_000_000_000);
    for format in ["go", "perfetto"] {
        let all = events(format, &[]);
        assert_eq!(all, info["events"].as_u64().unwrap());
        assert_eq!(events(format, &["--last", "1h"]), all);
        assert_eq!(events(format, &["--until", &second]), of(0, "events") + of(1, "events"));
        let middle = ["--since", &second, "--until", &second];
        assert_eq!(events(format, &middle), of(1, "events"));
        if format == "go"
            && let Some(go) = go_tool()
        {
            let parsed = go.parse_file(&out).unwrap();
            assert_eq!(parsed.with(&["Log ", "\"step\"", "Message=\"n=49 ratio=0.5\""]).len(), 1);
        }
    }
    let none = export(&file, &out, &["--until", "2020-01-01T00:00:00Z"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.stderr.contains("nothing was recorded at that time"), "{none:?}");
    assert_eq!(export(&file, &out, &["--last", "1s", "--since", "1"]).code, 2);
}

#[test]
fn people_get_a_few_lines_and_the_command_to_go_on_with() {
    let (directory, file) = snapshot();
    let out = directory.path().join("trace.out");
    let said = export(&file, &out, &[]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert!(said.stdout.contains(&format!("go tool trace {}", out.display())), "{}", said.stdout);
    assert!(said.stdout.lines().count() < 12);
}

#[test]
fn a_file_that_is_there_is_replaced_by_a_whole_one() {
    let (directory, file) = snapshot();
    let out = directory.path().join("trace.out");
    std::fs::write(&out, "something else").unwrap();
    assert_eq!(export(&file, &out, &[]).code, 0);
    assert!(std::fs::read(&out).unwrap().starts_with(b"go 1.26 trace\0\0\0"));
    let names = directory.path().read_dir().unwrap().count();
    assert_eq!(names, 2, "nothing else is left");
}

#[test]
fn the_standard_output_gets_the_trace_and_nothing_else() {
    let (directory, file) = snapshot();
    let out = directory.path().join("trace.out");
    assert_eq!(export(&file, &out, &[]).code, 0);
    let mut command = Command::new(LOOKBACK);
    command.args(["export", file.to_str().unwrap(), "--format", "go", "-o", "-"]);
    let output = command.stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, std::fs::read(&out).unwrap());
    let said = export(&file, Path::new("-"), &["--json"]);
    assert_eq!(said.code, 2, "{said:?}");
}

#[test]
fn what_cannot_be_done_is_said_on_one_line() {
    let (directory, file) = snapshot();
    let missing = directory.path().join("missing");
    for (from, to, reason) in [
        (&missing, &directory.path().join("x"), "no such file"),
        (&file, &directory.path().to_owned(), "a directory"),
        (&file, &file, "the input file"),
        (&file, &missing.join("x"), "cannot be written"),
        (&file, &PathBuf::from("/dev/full"), "cannot be written"),
    ] {
        let said = export(from, to, &[]);
        assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
        let [line] = &lines(said.stderr.as_bytes())[..] else { panic!("{said:?}") };
        assert!(line.starts_with("lookback: ") && line.contains(reason), "{line}");
    }
    assert!(std::fs::read(&file).unwrap().len() > 100, "the snapshot is as it was");
}

#[test]
fn of_a_damaged_snapshot_the_rest_is_exported() {
    let (directory, file) = snapshot();
    let sound = lookback::Trace::open(&file).unwrap();
    let second = &sound.generations()[1];
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[(second.offset + second.compressed / 2) as usize] ^= 4;
    let damaged = directory.path().join("damaged.lbk");
    std::fs::write(&damaged, bytes).unwrap();
    let out = directory.path().join("trace.out");
    let said = export(&damaged, &out, &["--json"]);
    assert_eq!(said.code, 1);
    assert_eq!(lines(said.stderr.as_bytes()).len(), 1, "{said:?}");
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(said["damage"].as_array().unwrap().len(), 1);
    assert_eq!(said["written"]["logs"]["all"], 2 * 52);
    if let Some(go) = go_tool() {
        go.parse_file(&out).unwrap();
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for wrong in [
        &["export", "x"][..],
        &["export", "x", "--format", "go"],
        &["export", "x", "-o", "y"],
        &["export", "x", "--format", "nothing", "-o", "y"],
    ] {
        let said = ended(Command::new(LOOKBACK).args(wrong));
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{wrong:?}");
    }
}

/// A file of every kind of record: with counters of the machine and of a runtime, and with ranges.
#[test]
fn go_reads_counters_as_logs_and_what_is_alive_as_its_metric() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("trace.out");
    let said = export(Path::new("../snapshot/tests/golden/v3.lbk"), &out, &["--json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let Some(go) = go_tool() else { return };
    let parsed = go.parse_file(&out).unwrap();
    assert_eq!(parsed.with(&["Metric", "objects:bytes", "700000"]).len(), 1);
    assert_eq!(parsed.with(&["Log", "memory.resident", "52428800 bytes"]).len(), 1);
    assert_eq!(parsed.with(&["Log", "r1.runtime.alive_tasks"]).len(), 1);
    assert_eq!(parsed.with(&["Log", "took_ns"]).len(), 1);
}
