//! CPU samples: `lookback stacks --cpu`, and what `lookback export` makes of them.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod command;
#[path = "../../snapshot/tests/go_tool/mod.rs"]
mod go_tool;

use command::lookback;
use go_tool::go_tool;
use lookback::Recorder;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The lines that take the time.
const LINES: std::ops::Range<u32> = line!() + 2..line!() + 14;

/// Calls nothing, also if it is not optimised.
#[inline(never)]
fn takes_the_time(mut turns: u64) -> u64 {
    let mut count = 0;
    while count < 2_000_000_u32 {
        turns ^= turns >> 7 ^ 0x9e37_79b9;
        turns ^= (turns & 0xffff_ffff) << 9;
        count += 1;
    }
    turns
}

#[inline(never)]
fn calls_it(turns: u64) -> u64 {
    takes_the_time(turns) + std::hint::black_box(1)
}

/// Its method has a name in brackets.
struct Turns(u64);

impl Iterator for Turns {
    type Item = u64;

    #[inline(never)]
    fn next(&mut self) -> Option<u64> {
        self.0 = calls_it(self.0);
        Some(std::hint::black_box(self.0))
    }
}

/// A snapshot with samples, made once: a process has one recorder.
fn snapshot() -> &'static str {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, file) = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("busy.lbk");
        std::thread::Builder::new()
            .name("burner".to_owned())
            .spawn(make)
            .unwrap()
            .join()
            .unwrap()
            .save(&file)
            .unwrap();
        (folder, file)
    });
    file.to_str().unwrap()
}

fn make() -> lookback::Snapshot {
    let recorder = Recorder::builder().max_bytes(4 << 20).cpu_samples(250).start().unwrap();
    let began = Instant::now();
    while recorder.stats().unwind_tables.modules == 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    let before = recorder.stats().cpu_samples.taken;
    let mut turns = Turns(0);
    // The collector looks for threads once a generation.
    while recorder.stats().cpu_samples.taken < before + 50 {
        assert!(began.elapsed() < Duration::from_secs(300), "{:?}", recorder.stats());
        let dispatch: tracing::Dispatch = lookback::tracing::subscriber().into();
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info_span!("order").in_scope(|| (0..10).for_each(|_| _ = turns.next()));
        });
        (0..10).for_each(|_| _ = turns.next());
        lookback::event!("turns", turns = turns.0);
    }
    recorder.stop().unwrap()
}

#[test]
fn the_function_that_takes_the_time_comes_first_with_its_line() {
    let said = lookback(&["stacks", snapshot(), "--cpu"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("of CPU time in"), "{}", said.stdout);
    let first = said.stdout.lines().find(|line| line.contains("cpu_samples::")).unwrap();
    assert!(first.contains("cpu_samples::takes_the_time"), "{}", said.stdout);
    assert!(first.contains("cli/tests/cpu_samples.rs:"), "{first}");
    let all = lookback(&["stacks", snapshot(), "--cpu", "--all-frames"]);
    assert!(all.stdout.contains("std::") && all.stdout.contains("on burner"), "{}", all.stdout);
}

#[test]
fn as_json_there_are_the_functions_with_their_samples_and_the_stacks() {
    let said = lookback(&["stacks", snapshot(), "--cpu", "--json"]);
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    let all = found["samples"].as_u64().unwrap();
    assert!(all >= 50 && found["per_second"] == 250);
    assert_eq!(found["cpu_ns"], all * 4_000_000);
    let functions = found["functions"].as_array().unwrap();
    let of = |name: &str| {
        functions.iter().find(|of| of["name"] == name).unwrap_or_else(|| panic!("{found:#}"))
    };
    let (inner, outer) = (of("cpu_samples::takes_the_time"), of("cpu_samples::calls_it"));
    let number = |of: &Value, name: &str| of[name].as_u64().unwrap();
    assert!(number(inner, "self") * 2 > all, "{inner}");
    assert!(number(outer, "total") >= number(inner, "total"), "{outer}");
    assert!(LINES.contains(&(number(inner, "line") as u32)), "{inner}");
    let stacks = found["stacks"].as_array().unwrap();
    let sum: u64 = stacks.iter().map(|stack| stack["samples"].as_u64().unwrap()).sum();
    let unplaced: u64 =
        found["unplaced"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(sum + unplaced + found["left_out"].as_u64().unwrap(), all);
}

fn export(format: &str, out: &Path) -> command::Ended {
    lookback(&["export", snapshot(), "--format", format, "-o", out.to_str().unwrap()])
}

#[test]
fn folded_stacks_begin_with_the_thread_and_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("cpu.folded");
    let said = export("folded", &out);
    assert_eq!(said.code, 0, "{said:?}");
    let text = std::fs::read_to_string(&out).unwrap();
    let hot =
        text.lines().find(|line| line.contains("calls_it;cpu_samples::takes_the_time ")).unwrap();
    assert!(hot.starts_with("burner;"), "{hot}");
    let sum: u64 =
        text.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    let json = lookback(&["stacks", snapshot(), "--cpu", "--json"]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["samples"], sum);
    // What a thread did, and what was done in spans of a name: here about half of it.
    let samples = |more: &[&str]| {
        let arguments = ["export", snapshot(), "--format", "folded", "-o", "-"];
        let said = lookback(&[&arguments[..], more].concat());
        assert_eq!((said.code, &*said.stderr), (0, ""), "{more:?}: {said:?}");
        let lines = said.stdout.lines();
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum::<u64>()
    };
    let of_burner: u64 = text
        .lines()
        .filter(|line| line.starts_with("burner;"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert!(samples(&["--thread", "burner"]) >= of_burner);
    let of_span = samples(&["--span", "order"]);
    assert!(of_span > 0 && of_span < sum, "{of_span} of {sum}");
    assert_eq!(samples(&["--last", "1h"]), sum);
    let none =
        lookback(&["export", snapshot(), "--format", "folded", "-o", "-", "--span", "nosuch"]);
    assert!(none.code == 1 && none.stderr.contains("no span nosuch"), "{none:?}");
    let wrong = ["export", snapshot(), "--format", "go", "-o", "-", "--span", "order"];
    assert_eq!(lookback(&wrong).code, 2);
}

#[test]
fn gos_profiler_reads_the_profile_and_names_the_same_function() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("cpu.pb.gz");
    let said = export("pprof", &out);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("go tool pprof -top"), "{said:?}");
    let Some(go) = go_tool() else { return };
    let top = go.pprof(&["-top", "-nodecount=5"], &out).unwrap();
    assert!(top.contains("Type: cpu") && top.contains("Duration: "), "{top}");
    let first = top.lines().skip_while(|line| !line.contains("flat%")).nth(1).unwrap();
    assert!(first.contains("cpu_samples::takes_the_time"), "{top}");
    let lines = go.pprof(&["-top", "-lines", "-sample_index=samples"], &out).unwrap();
    assert!(lines.contains("cli/tests/cpu_samples.rs:"), "{lines}");
    let method = "<cpu_samples::Turns as core::iter::traits::iterator::Iterator>::next";
    let all = go.pprof(&["-top", "-cum"], &out).unwrap();
    assert!(all.contains(method), "what stands in brackets stays: {all}");
    let tags = go.pprof(&["-tags"], &out).unwrap();
    assert!(tags.contains("thread") && tags.contains("burner"), "{tags}");
}

#[test]
fn go_sees_the_samples_in_its_trace_with_their_functions() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("trace.out");
    let file = out.to_str().unwrap();
    let said = lookback(&["export", snapshot(), "--format", "go", "-o", file, "--json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    let count = said["written"]["samples"]["all"].as_u64().unwrap();
    assert!(count >= 50, "{said}");
    let Some(go) = go_tool() else { return };
    let parsed = go.parse_file(&out).unwrap();
    assert_eq!(parsed.kinds()["StackSample"], count);
    let (function, place) = ("cpu_samples::takes_the_time", "cli/tests/cpu_samples.rs:");
    assert!(parsed.text.contains(function) && parsed.text.contains(place), "{}", parsed.text);
    // A sample of a thread that runs its own goroutine.
    let own = parsed.with(&["StackSample"]).into_iter().filter(|line| !line.contains(" G=-1 "));
    assert!(own.count() > 20, "{}", parsed.text);
}

#[test]
fn the_summary_says_where_the_last_seconds_cpu_time_went() {
    let said = lookback(&["summary", snapshot()]);
    assert_eq!(said.code, 0, "{said:?}");
    let table = said.stdout.split("\nCPU time\n").nth(1).unwrap();
    let mut lines = table.lines().skip(1);
    assert!(lines.next().unwrap().ends_with("in all"), "{table}");
    let first = lines.next().unwrap();
    assert!(first.contains("cpu_samples::takes_the_time") && first.contains('%'), "{table}");
    let json: Value =
        serde_json::from_str(&lookback(&["summary", snapshot(), "--json"]).stdout).unwrap();
    let (last, before) = (&json["cpu"]["last"]["samples"], &json["cpu"]["before"]["samples"]);
    let all = lookback(&["stacks", snapshot(), "--cpu", "--json"]).stdout;
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(last.as_u64().unwrap() + before.as_u64().unwrap(), all["samples"].as_u64().unwrap());
}

#[test]
fn where_there_are_no_samples_it_says_what_was_set() {
    let trace = |metadata: &str| {
        let text = format!(
            "{metadata}generation 1 incomplete began=1000000:5000000:5000000:200000000 \
             ended=2000000:10000000:10000000:200000000\nblock slot=1 thread=1\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("none.lbk");
        std::fs::write(&file, lookback::read::text::from_text(&text).unwrap()).unwrap();
        let file = file.to_str().unwrap();
        let said = lookback(&["stacks", file, "--cpu"]);
        assert_eq!(said.code, 0, "{said:?}");
        let refused = lookback(&["export", file, "--format", "pprof", "-o", "/dev/null"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("no CPU samples: "), "{refused:?}");
        said.stdout
    };
    for (metadata, why) in [
        ("", "were not turned on; `LOOKBACK_CPU_HZ=100`"),
        ("metadata \"stacks\" 0\n", "stacks were turned off"),
        ("metadata \"cpu_samples_hz\" 100\n", "no thread has used as much CPU time"),
        (
            "metadata \"cpu_samples_hz\" 100\nmetadata \"cpu_samples.trouble\" \"the kernel\"\n",
            "no CPU samples: the kernel",
        ),
    ] {
        let said = trace(metadata);
        assert!(said.starts_with("no CPU samples: ") && said.contains(why), "{said}");
    }
}
