//! `lookback stacks --heap` says what is alive and what has allocated it, or what a program does to have that counted.

mod command;
#[path = "../../snapshot/tests/go_tool/mod.rs"]
mod go_tool;

use command::lookback;
use go_tool::go_tool;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::OnceLock;

const WITH: &str = "../snapshot/tests/golden/v3.lbk";
const WITHOUT: &str = "../snapshot/tests/golden/v1.lbk";

#[test]
fn totals_come_first_and_then_stacks_with_what_is_alive_of_theirs() {
    let said = lookback(&["stacks", WITH, "--heap"]);
    assert_eq!(said.code, 0, "{said:?}");
    let lines: Vec<_> = said.stdout.lines().collect();
    assert_eq!(lines[0], "684 KiB alive in 1,800 objects");
    assert!(lines[1].starts_with("within 1 s: 879 KiB allocated in 4,000 objects"), "{said:?}");
    let first = lines.iter().position(|line| line.contains("alive in about 20 objects"));
    assert!(lines[first.unwrap()].starts_with("100.0 % about 625 KiB (2 samples)"), "{said:?}");
    assert!(said.stdout.contains("no stack: the recorder had no unwind tables yet"), "{said:?}");
}

#[test]
fn as_json_it_is_one_value() {
    let said = lookback(&["stacks", WITH, "--heap", "--json"]);
    let value: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&value["live"]["bytes"], &value["samples"]), (&700_000.into(), &2.into()));
    let stacks = value["stacks"].as_array().unwrap();
    assert_eq!(stacks[0]["live"]["bytes"], 640_000);
    assert_eq!(stacks[0]["frames"].as_array().unwrap().len(), 2);
    assert_eq!(value["left_out"]["live_bytes"], 1000);
}

#[test]
fn a_program_that_counts_nothing_is_told_how_to_and_a_process_is_no_snapshot() {
    let said = lookback(&["stacks", WITHOUT, "--heap"]);
    assert!(said.code == 0 && said.stdout.contains("lookback::Alloc"), "{said:?}");
    let said = lookback(&["stacks", "1", "--heap"]);
    assert!(said.code == 2 && said.stderr.contains("--heap reads a snapshot"), "{said:?}");
}

#[global_allocator]
static ALLOCATOR: lookback::Alloc = lookback::Alloc::system();

/// So many objects are kept, and as many freed, and so large is one.
const OBJECTS: u64 = 200;
const SIZE: u64 = 256 << 10;

#[inline(never)]
fn keeps_what_it_allocates(kept: &mut Vec<Vec<u8>>) {
    kept.push(std::hint::black_box(vec![1; SIZE as usize]));
}

#[inline(never)]
fn frees_what_it_allocates() {
    drop(std::hint::black_box(vec![1_u8; SIZE as usize]));
}

/// A snapshot of a program that has done both, made once: a process has one recorder.
fn snapshot() -> &'static str {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, file) = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("heap.lbk");
        let builder = lookback::Recorder::builder().max_bytes(4 << 20).heap_samples(64 << 10);
        let recorder = builder.start().unwrap();
        while recorder.stats().unwind_tables.modules == 0 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let mut kept = Vec::new();
        for _ in 0..OBJECTS {
            keeps_what_it_allocates(&mut kept);
            frees_what_it_allocates();
        }
        recorder.stop().unwrap().save(&file).unwrap();
        drop(kept);
        (folder, file)
    });
    file.to_str().unwrap()
}

/// The sum that a stack's samples of all that was kept stand for is this, but for four standard deviations.
fn is_about_all(objects: u64) -> bool {
    // An object of four distances is a sample with probability 0.98.
    let probability = 1.0 - (-(SIZE as f64) / 65536.0).exp();
    let deviation = (OBJECTS as f64 * (1.0 - probability) / probability).sqrt();
    (objects as f64 - OBJECTS as f64).abs() <= 4.0 * deviation + 1.0
}

#[test]
fn gos_profiler_reads_what_is_alive_and_what_was_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("heap.pb.gz");
    let file = out.to_str().unwrap();
    let arguments = ["export", snapshot(), "--format", "pprof", "--profile", "heap", "-o", file];
    let said = lookback(&arguments);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("samples of the heap in"), "{said:?}");
    let json = lookback(&["stacks", snapshot(), "--heap", "--json"]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let Some(go) = go_tool() else { return };
    let raw = go.pprof(&["-raw"], &out).unwrap();
    let mut lines = raw.lines().skip_while(|line| !line.starts_with("Samples:")).skip(1);
    let types = lines.next().unwrap();
    let expected =
        "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes[dflt]";
    assert_eq!(types, expected);
    let mut sums = [0; 4];
    for line in lines.take_while(|line| !line.starts_with("Locations")) {
        let Some((values, _)) = line.split_once(':') else { continue };
        for (sum, value) in sums.iter_mut().zip(values.split_whitespace()) {
            *sum += value.parse::<u64>().unwrap();
        }
    }
    let stacks = json["stacks"].as_array().unwrap();
    let live: u64 = stacks.iter().map(|of| of["live"]["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sums[3], live + json["left_out"]["live_bytes"].as_u64().unwrap());
    let of = |index: &str, name: &str| {
        let top = go.pprof(&["-top", "-cum", "-unit=B", &format!("-sample_index={index}")], &out);
        let top = top.unwrap();
        let line = top.lines().find(|line| line.ends_with(name)).map(str::to_owned);
        line.map(|line| {
            let cumulative = line.split_whitespace().nth(3).unwrap().trim_end_matches('B');
            cumulative.parse::<u64>().unwrap_or_else(|_| panic!("{top}"))
        })
    };
    let kept = of("inuse_space", "heap::keeps_what_it_allocates").expect("it is alive");
    assert!(is_about_all(kept / SIZE), "{kept}");
    assert_eq!(of("inuse_space", "heap::frees_what_it_allocates"), None);
    for name in ["heap::keeps_what_it_allocates", "heap::frees_what_it_allocates"] {
        let allocated = of("alloc_space", name).expect("it has allocated");
        assert!(is_about_all(allocated / SIZE), "{name}: {allocated}");
    }
}

#[test]
fn folded_lines_have_what_is_alive_in_bytes() {
    let arguments = ["export", snapshot(), "--format", "folded", "--profile", "heap", "-o", "-"];
    let said = lookback(&arguments);
    assert_eq!(said.code, 0, "{said:?}");
    let all = said.stdout.lines().filter(|line| line.contains("heap::keeps_what_it_allocates"));
    let kept: u64 = all.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    assert!(is_about_all(kept / SIZE), "{}", said.stdout);
    assert!(!said.stdout.contains("heap::frees_what_it_allocates"), "{}", said.stdout);
}

#[test]
fn an_export_of_what_is_not_there_says_why() {
    let arguments = ["--format", "pprof", "--profile", "heap", "-o", "/dev/null"];
    let said = lookback(&[&["export", WITHOUT], &arguments[..]].concat());
    assert!(said.code == 1 && said.stderr.contains("lookback::Alloc"), "{said:?}");
    let arguments = ["--format", "go", "--profile", "heap", "-o", "/dev/null"];
    let said = lookback(&[&["export", WITH], &arguments[..]].concat());
    assert!(said.code == 2 && said.stderr.contains("--profile is for"), "{said:?}");
}
