//! `lookback symbolize`: a snapshot that has its names with it reads the same without the program.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod command;

use command::{Ended, lookback};
use lookback::read::{Reason, Trace};
use lookback::{RecordExt, Recorder};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

#[inline(never)]
fn takes_what_is_not_there(number: Option<u32>) -> u32 {
    number.expect("there is a number")
}

/// Never done.
struct Never(Option<Waker>);

impl Future for Never {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0 = Some(cx.waker().clone());
        Poll::Pending
    }
}

async fn waits_for_its_turn() {
    Never(None).await;
}

/// Panics and waits, and saves a snapshot.
#[test]
#[ignore = "part of the tests below, in a process of its own"]
fn another_program() {
    let Ok(path) = std::env::var("LOOKBACK_TEST_SNAPSHOT") else { return };
    let recorder = Recorder::builder().max_bytes(4 << 20).start().unwrap();
    let began = Instant::now();
    while recorder.stats().unwind_tables.modules == 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(std::thread::spawn(|| takes_what_is_not_there(None)).join().is_err());
    let mut task = Box::pin(waits_for_its_turn().recorded("guest"));
    assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    while !recorder.advance() {}
    recorder.snapshot().unwrap().save(path).unwrap();
}

struct Made {
    folder: tempfile::TempDir,
    /// Where the program was, and its snapshot.
    program: PathBuf,
    plain: PathBuf,
    named: PathBuf,
    /// What the commands say of the plain one while the program is there.
    before: Vec<String>,
}

/// A snapshot, with names and without; the program is gone.
fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        // By another process: a child of another test could have the copy open for writing, and it could not be executed.
        let made = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
        assert!(made.unwrap().success());
        let plain = folder.path().join("incident.lbk");
        let made = Command::new(&program)
            .args(["another_program", "--exact", "--ignored", "--test-threads=1"])
            .env("LOOKBACK_TEST_SNAPSHOT", &plain)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let before = all(&plain).into_iter().map(|ended| ended.stdout).collect();
        let said = lookback(&["symbolize", text(&plain)]);
        assert_eq!(said.code, 0, "{said:?}");
        let named = folder.path().join("incident.named.lbk");
        assert!(said.stdout.starts_with(text(&named)), "{said:?}");
        std::fs::create_dir(folder.path().join("moved")).unwrap();
        std::fs::rename(&program, folder.path().join("moved/program")).unwrap();
        Made { folder, program, plain, named, before }
    })
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What each command says that shows names.
fn all(file: &Path) -> Vec<Ended> {
    let file = text(file);
    let commands = [
        &["stacks", file, "--all-frames"][..],
        &["stacks", file],
        &["stacks", file, "--tasks"],
        &["events", file, "--json"],
        &["summary", file],
    ];
    commands.into_iter().map(lookback).collect()
}

/// The same as before, but for the name of the file.
#[track_caller]
fn assert_same(made: &Made, file: &Path) {
    for (ended, before) in all(file).iter().zip(&made.before) {
        assert_eq!(ended.stdout.replace(text(file), text(&made.plain)), *before);
        let program = made.program.to_string_lossy();
        assert!(!ended.stderr.contains(&*program), "{ended:?}");
    }
}

#[test]
fn without_the_program_all_is_said_as_with_it() {
    let made = made();
    let has = |part: &str| made.before.iter().filter(|said| said.contains(part)).count();
    assert!(has("takes_what_is_not_there") >= 3);
    assert!(has("cli/tests/symbolize.rs:") >= 4 && has("waits_for_its_turn") >= 1);
    assert_same(made, &made.named);
    let plain = lookback(&["stacks", text(&made.plain)]);
    assert!(!plain.stdout.contains("takes_what_is_not_there"), "{plain:?}");
    assert_eq!(lookback(&["validate", text(&made.named)]).code, 0);
}

#[test]
fn of_a_program_of_another_build_no_name_is_taken() {
    let made = made();
    // In a place of its own: the tests run at the same time.
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy("/bin/sh", folder.path().join("program")).unwrap();
    let said = lookback(&["stacks", text(&made.named), "--symbols", text(folder.path())]);
    assert!(said.stdout.contains("takes_what_is_not_there"), "{said:?}");
    assert!(!said.stderr.contains("program: "), "{said:?}");
}

#[test]
fn named_again_without_the_program_it_keeps_its_names_and_its_size() {
    let made = made();
    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("again.lbk");
    let said = lookback(&["symbolize", text(&made.named), "-o", text(&again), "--json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let said: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert!(said["named"].as_u64() > Some(20), "{said:#}");
    assert_eq!(said["bytes"], std::fs::metadata(&again).unwrap().len());
    assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&made.named).unwrap());
    assert_same(made, &again);
}

#[test]
fn all_else_stays_as_it_is() {
    let made = made();
    let records = |file: &Path| lookback(&["events", text(file), "--records"]).stdout;
    assert_eq!(records(&made.named), records(&made.plain));
    let (plain, named) = (Trace::open(&made.plain).unwrap(), Trace::open(&made.named).unwrap());
    assert!(named.damage().is_empty());
    for (a, b) in plain.generations().iter().zip(named.generations()) {
        assert_eq!((a.number, a.offset, a.events), (b.number, b.offset, b.events));
    }
}

#[test]
fn it_goes_to_standard_output_too() {
    let made = made();
    let output = Command::new(command::LOOKBACK)
        .args(["symbolize", text(&made.named), "-o", "-"])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, std::fs::read(&made.named).unwrap());
}

#[test]
fn what_is_no_snapshot_is_refused_in_one_line_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.lbk");
    std::fs::write(&file, "some words").unwrap();
    let said = lookback(&["symbolize", text(&file)]);
    assert_eq!((said.code, &*said.stdout, said.stderr.lines().count()), (1, "", 1), "{said:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let made = made();
    let said = lookback(&["symbolize", text(&made.plain), "-o", text(&made.plain)]);
    assert!(said.code == 1 && said.stderr.contains("this is the input file"), "{said:?}");
}

#[test]
fn a_file_that_is_cut_gets_names_and_stays_cut() {
    let made = made();
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.lbk");
    let bytes = std::fs::read(&made.plain).unwrap();
    let last = Trace::open(&made.plain).unwrap();
    let last = last.generations().last().unwrap();
    // Within the index behind the last generation.
    std::fs::write(&cut, &bytes[..(last.offset + last.compressed) as usize + 10]).unwrap();
    let moved = made.folder.path().join("moved");
    let said = lookback(&["symbolize", text(&cut), "--symbols", text(&moved)]);
    assert_eq!(said.code, 1, "what was damaged is still told: {said:?}");
    let named = folder.path().join("cut.named.lbk");
    let said = lookback(&["stacks", text(&named)]);
    assert!(said.stdout.contains("takes_what_is_not_there"), "{said:?}");
}

#[test]
fn damaged_names_cost_the_names_alone() {
    let made = made();
    let mut bytes = std::fs::read(&made.named).unwrap();
    let tag = bytes.windows(4).rposition(|window| window == b"LBNM").unwrap();
    for at in [tag, tag + 4, tag + 20, tag + 400] {
        bytes[at] ^= 0x10;
        let trace = Trace::from_bytes(bytes.clone()).unwrap();
        let told: Vec<_> = trace.damage().iter().map(|error| error.reason().clone()).collect();
        assert_eq!(told, [Reason::NamesDamaged], "at {at}");
        let events = Trace::open(&made.plain).unwrap().events().count();
        assert_eq!(trace.events().flatten().count(), events);
        bytes[at] ^= 0x10;
    }
}
