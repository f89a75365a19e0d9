//! `lookback stacks` names where threads were, by function and line.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod command;

use command::lookback;
use lookback::{RecordExt, Recorder, Trigger};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Part of the stack in any build: the name of a symbol.
#[inline(never)]
fn takes_what_is_not_there(number: Option<u32>) -> u32 {
    number.expect("there is a number")
}

const LINE: u32 = line!() - 3;

#[inline(never)]
fn sleeps_in_its_poll(over: &std::sync::atomic::AtomicBool) {
    while !over.load(std::sync::atomic::Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A snapshot of this process: of a panic that happened twice, and a stalled poll.
fn snapshot() -> &'static PathBuf {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &MADE.get_or_init(make).1
}

fn make() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::builder()
        .max_bytes(4 << 20)
        .stacks(true)
        .snapshot_dir(folder.path())
        .trigger(Trigger::stalled_poll(Duration::from_millis(200)))
        .start()
        .unwrap();
    let began = Instant::now();
    while recorder.stats().unwind_tables.modules == 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..2 {
        let panicked = std::thread::spawn(|| takes_what_is_not_there(None)).join();
        assert!(panicked.is_err());
    }
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let poll = async { sleeps_in_its_poll(&over) }.recorded("stuck");
            let mut poll = std::pin::pin!(poll);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = poll.as_mut().poll(&mut context);
        });
        // The panics leave one, too.
        while saved(folder.path()).is_none() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(10));
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let file = saved(folder.path()).unwrap();
    drop(recorder);
    (folder, file)
}

/// The snapshot of the stalled poll, once it is there.
fn saved(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.into_iter().find(|path| path.to_string_lossy().ends_with("stalled_poll.lbk"))
}

fn path() -> &'static str {
    snapshot().to_str().unwrap()
}

#[test]
fn a_panic_is_shown_by_function_and_line_once_with_its_count() {
    let said = lookback(&["stacks", path()]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("and 1 time more"), "{}", said.stdout);
    let lines: Vec<_> = said.stdout.lines().collect();
    let at = lines.iter().position(|line| line.contains("takes_what_is_not_there")).unwrap();
    let place = format!("cli/tests/stacks.rs:{LINE}");
    assert!(lines[at].ends_with(&place), "{place}: {}", said.stdout);
    assert!(lines[at - 1].contains('…'), "what leads to it is folded: {}", said.stdout);
}

#[test]
fn a_poll_that_has_stalled_is_shown_where_it_blocks() {
    let said = lookback(&["stacks", path()]);
    let stall = said.stdout.split("\n\n").find(|part| part.starts_with("stall ")).unwrap();
    assert!(stall.contains("stacks::sleeps_in_its_poll"), "{stall}");
    assert!(!stall.contains("nanosleep"), "{stall}");
    let all = lookback(&["stacks", path(), "--all-frames"]);
    assert!(all.stdout.contains("nanosleep"), "{}", all.stdout);
}

#[test]
fn the_summary_shows_the_functions_of_the_service_beneath_the_reason() {
    let said = lookback(&["summary", "--all", path()]);
    assert_eq!(said.code, 0, "{said:?}");
    let stack = said.stdout.lines().find(|line| line.trim_start().starts_with("stack ")).unwrap();
    assert!(stack.contains("stacks::sleeps_in_its_poll"), "{}", said.stdout);
    // A poll that lasts on is sampled again.
    let hint = format!(" stacks: lookback stacks {}", path());
    assert!(said.stdout.contains(&hint), "{}", said.stdout);
}

#[test]
fn as_json_there_is_every_frame_with_its_file_and_build() {
    let said = lookback(&["stacks", path(), "--json"]);
    let found: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let stacks = found["stacks"].as_array().unwrap();
    assert_eq!(stacks.len(), 2);
    let panic = stacks.iter().find(|stack| stack["reason"] == "panic").unwrap();
    assert_eq!((&panic["count"], &panic["end"]), (&2.into(), &"the thread's start".into()));
    let frames = panic["frames"].as_array().unwrap();
    let program = std::env::current_exe().unwrap();
    let own = frames.iter().filter(|frame| frame["module"] == program.to_string_lossy().as_ref());
    assert!(own.clone().count() > 3);
    assert!(own.clone().all(|frame| frame["build_id"].as_str().unwrap().len() >= 32));
    assert!(frames.iter().all(|frame| frame["functions"].is_array()));
}

#[test]
fn of_files_that_are_not_here_it_says_so_and_shows_offsets() {
    // The recorded program, as if it were another one: its path does not exist here.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("program");
    // By another process: a child of another test could have the copy open for writing, and it could not be executed.
    let made = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status();
    assert!(made.unwrap().success());
    let snapshot = folder.path().join("elsewhere.lbk");
    let made = Command::new(&copy)
        .args(["part_of_another_program", "--exact", "--ignored"])
        .env("LOOKBACK_TEST_SNAPSHOT", &snapshot)
        .status()
        .unwrap();
    assert!(made.success());
    let moved = folder.path().join("moved");
    std::fs::create_dir(&moved).unwrap();
    std::fs::rename(&copy, moved.join("program")).unwrap();
    let snapshot = snapshot.to_str().unwrap();
    let said = lookback(&["stacks", snapshot]);
    assert!(said.stderr.contains("program: not here"), "{said:?}");
    assert!(said.stdout.contains("program+0x"), "{said:?}");
    let said = lookback(&["stacks", snapshot, "--symbols", moved.to_str().unwrap()]);
    assert!(said.stdout.contains("takes_what_is_not_there"), "{said:?}");

    // The same build, stripped: without sections there are no symbols.
    let mut bytes = std::fs::read(moved.join("program")).unwrap();
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
    std::fs::write(&copy, bytes).unwrap();
    let said = lookback(&["stacks", snapshot]);
    assert!(said.stdout.contains("program+0x"), "{said:?}");
    let why =
        said.stderr.lines().filter(|line| line.contains("program: no symbols, it is stripped"));
    assert_eq!(why.count(), 1, "{said:?}");
    let said = lookback(&["stacks", snapshot, "--symbols", moved.to_str().unwrap()]);
    assert!(said.stdout.contains("takes_what_is_not_there"), "{said:?}");
    assert!(!said.stderr.contains("stripped"), "{said:?}");
}

/// A file without stacks that says this about itself.
fn none(metadata: &str) -> command::Ended {
    let text = format!(
        "{metadata}generation 1 incomplete began=1000000:5000000:5000000:200000000 \
         ended=2000000:10000000:10000000:200000000\nblock slot=1 thread=1\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none.lbk");
    std::fs::write(&file, lookback::read::text::from_text(&text).unwrap()).unwrap();
    lookback(&["stacks", file.to_str().unwrap()])
}

#[test]
fn where_there_are_no_stacks_it_says_what_was_set() {
    for (metadata, why) in [
        ("", "does not say whether they were recorded"),
        ("metadata \"stacks\" 0\n", "they were turned off; `LOOKBACK_STACKS=on`"),
        ("metadata \"stacks\" 1\n", "nothing watched for stalled polls"),
        (
            "metadata \"stacks\" 1\nmetadata \"stalled_poll_ns\" 250000000\n",
            "logged an error, and no poll stalled for 250 ms",
        ),
    ] {
        let said = none(metadata);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stdout.starts_with("no stacks: ") && said.stdout.contains(why), "{said:?}");
    }
}

#[test]
fn a_snapshot_says_whether_stacks_were_on_and_stalls_watched_for() {
    let trace = lookback::read::Trace::open(path()).unwrap();
    let number = |name| trace.metadata().number(name);
    assert_eq!((number("stacks"), number("stalled_poll_ns")), (Some(1), Some(200_000_000)));
}

#[test]
fn events_have_their_stacks_and_those_without_have_none() {
    let events = lookback(&["events", path(), "--json"]).stdout;
    let events =
        events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let (with, without): (Vec<_>, Vec<_>) =
        events.partition(|event| event["kind"] == "thread_stack");
    assert!(!without.is_empty() && without.iter().all(|event| event.get("stack").is_none()));
    let panic = with.iter().find(|event| event["fields"]["reason"] == "panic").unwrap();
    let frames = panic["stack"].as_array().unwrap();
    let functions = frames.iter().flat_map(|frame| frame["functions"].as_array().unwrap());
    let mut functions =
        functions.filter(|function| function["name"] == "stacks::takes_what_is_not_there");
    assert_eq!(functions.next().unwrap()["line"], LINE, "{panic:#}");
    assert!(frames[0]["module"].is_string() && frames[0]["offset"].is_u64(), "{panic:#}");
    let lines = lookback(&["events", path(), "--kind", "thread_stack"]).stdout;
    let stall = lines.lines().find(|line| line.contains("reason=stall")).unwrap();
    assert!(stall.contains("  at stacks::sleeps_in_its_poll  "), "{lines}");
    assert!(stall.contains("cli/tests/stacks.rs:") && stall.contains(" < "), "{lines}");
}

#[test]
fn times_count_from_the_first_event_as_everywhere() {
    let stacks = lookback(&["stacks", path(), "--json"]).stdout;
    let stacks: serde_json::Value = serde_json::from_str(&stacks).unwrap();
    let firsts = stacks["stacks"].as_array().unwrap().iter().map(|one| one["first_ns"].as_u64());
    let events = lookback(&["events", path(), "--json", "--kind", "thread_stack"]).stdout;
    let times: Vec<_> = events
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["t"].as_u64())
        .collect();
    firsts.for_each(|first| assert!(times.contains(&first), "{first:?} of {times:?}"));
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn part_of_another_program() {
    let Ok(path) = std::env::var("LOOKBACK_TEST_SNAPSHOT") else { return };
    let (_folder, made) = make();
    std::fs::copy(made, path).unwrap();
}

/// A file whose frames go round in a circle, with more different stacks than the command distinguishes.
#[test]
fn damaged_stacks_end_where_they_go_around_and_too_many_are_left_out() {
    let mut text = "generation 1 incomplete began=1000000:5000000:5000000:200000000 \
                    ended=2000000:10000000:10000000:200000000\n\
                    block slot=1 thread=1\n  module id=2 path=\"/srv/shop\" build_id=0x0123456789abcdef\n  \
                    frame id=3 caller=5 module=2 offset=2\n  frame id=4 caller=3 module=2 offset=4\n  \
                    frame id=5 caller=4 module=2 offset=6\n"
        .to_owned();
    for id in 6..1506 {
        text += &format!("  frame id={id} caller=5 module=2 offset={}\n", 2 * id);
    }
    for id in 6..1506 {
        text += &format!("  @{id} thread_stack thread=1 stack={id} reason=1 source=2\n");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("circle.lbk");
    std::fs::write(&file, lookback::read::text::from_text(&text).unwrap()).unwrap();
    let file = file.to_str().unwrap();
    let said = lookback(&["stacks", file, "--json"]);
    let found: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let stacks = found["stacks"].as_array().unwrap();
    assert_eq!((stacks.len(), &found["left_out"]), (1000, &500.into()));
    for stack in stacks {
        assert_eq!(stack["damaged"], true);
        assert!((4..20).contains(&stack["frames"].as_array().unwrap().len()), "{stack}");
    }
    let said = lookback(&["stacks", file]);
    assert!(said.stdout.contains("does not say how it goes on"), "{}", said.stdout);
    assert!(said.stdout.contains("500 records of other stacks are left out"));
}

#[test]
fn the_summary_of_another_machines_snapshot_opens_no_file_that_it_names() {
    // Every digit of the boot id differs.
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = lookback::read::text::to_text(&lookback::read::Trace::open(path()).unwrap());
    let other = "01234567-89ab-cdef-0123-456789abcdef";
    let text = text.replace(id.trim(), other);
    assert!(text.contains(other));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("foreign.lbk");
    std::fs::write(&file, lookback::read::text::from_text(&text).unwrap()).unwrap();
    let said = lookback(&["summary", "--all", file.to_str().unwrap()]);
    assert!(said.stdout.contains("stacks-") && said.stdout.contains("+0x"), "{}", said.stdout);
    assert!(!said.stdout.contains("sleeps_in_its_poll  "), "{}", said.stdout);
    let folder = folder.path().to_str().unwrap();
    let said = lookback(&["summary", file.to_str().unwrap(), "--symbols", folder]);
    assert!(said.stdout.contains("stacks::sleeps_in_its_poll"), "{}", said.stdout);
}

#[inline(never)]
fn writes_to_nowhere() {
    // SAFETY: none; that is what it is for.
    unsafe { std::ptr::without_provenance_mut::<u8>(0x123).write_volatile(1) };
    std::hint::black_box(0);
}

const CRASH: u32 = line!() - 4;

#[test]
#[ignore = "part of another test"]
fn crashes_into_a_black_box() {
    let Some(path) = std::env::var_os("LOOKBACK_TEST_BOX") else { return };
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid limit.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    let recorder = Recorder::builder().max_bytes(1 << 20).black_box(path).start().unwrap();
    let began = Instant::now();
    while recorder.stats().unwind_tables.modules == 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    lookback::event!("alive");
    writes_to_nowhere();
}

#[test]
fn a_crash_is_shown_by_function_and_line_wherever_its_black_box_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (black_box, file) = (path("a.box"), path("a.lbk"));
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["crashes_into_a_black_box", "--exact", "--ignored", "--test-threads=1"])
        .env("LOOKBACK_TEST_BOX", &black_box)
        .output()
        .unwrap()
        .status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGSEGV));
    let place = format!("cli/tests/stacks.rs:{CRASH}");
    let is_it = |said: &str| {
        let line = said.lines().find(|line| line.contains("stacks::writes_to_nowhere"));
        assert!(line.is_some_and(|line| line.ends_with(&place)), "{place}: {said}");
    };
    let is_in = |stack: &serde_json::Value| {
        let functions = stack[0]["functions"].as_array().expect("it has functions");
        let function = functions.last().unwrap();
        assert_eq!(function["name"], "stacks::writes_to_nowhere", "{stack}");
        assert_eq!((&function["line"], &stack[0]["exact"]), (&CRASH.into(), &true.into()));
    };
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&lookback(arguments).stdout).unwrap()
    };
    is_it(&lookback(&["recover", &black_box, "-o", &file]).stdout);
    is_in(&json(&["recover", &black_box, "-o", &path("b.lbk"), "--json"])["crash"]["stack"]);
    is_it(&lookback(&["summary", "--all", &file]).stdout);
    is_in(&json(&["summary", &file, "--json"])["incident"]["causes"][0]["stack"]);
    let said = lookback(&["stacks", &file]).stdout;
    assert!(said.starts_with("crash at "), "{said}");
    is_it(&said);
    is_in(&json(&["stacks", &file, "--json"])["stacks"][0]["frames"]);
    assert_eq!(lookback(&["validate", &file]).code, 0);
}

#[test]
fn a_summary_says_that_the_executable_is_of_another_build() {
    let text = lookback::read::text::to_text(&lookback::read::Trace::open(path()).unwrap());
    // The build ids of all files are others now.
    let mut changed = 0;
    let lines = text.lines().map(|line| match line.split_once(" build_id=0x") {
        Some((before, id)) => {
            changed += 1;
            let other: String = id.chars().map(|c| if c == '0' { '1' } else { '0' }).collect();
            format!("{before} build_id=0x{other}\n")
        }
        None => format!("{line}\n"),
    });
    let text: String = lines.collect();
    assert!(changed > 0, "no build id in the text");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("older.lbk");
    std::fs::write(&file, lookback::read::text::from_text(&text).unwrap()).unwrap();
    let said = lookback(&["summary", file.to_str().unwrap()]).stdout;
    let told = said.split("\nWithout names\n").nth(1).expect(&said);
    assert!(told.trim_start().contains("of another build than the recorded one"), "{told}");
    assert!(told.contains("--symbols"), "{told}");
    let said = lookback(&["summary", path()]).stdout;
    assert!(!said.contains("Without names"), "{said}");
}
