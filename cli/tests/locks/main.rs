//! Locks that say who waits for whom: convoys, locks held across an `.await`, and deadlocks of threads and of tasks are found, by
//! file and line of both ends, and programs that nearly have the fault have no finding. Deadlocks also from outside, and in what
//! is left after SIGKILL.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../command/mod.rs"]
mod command;
#[path = "../../../snapshot/tests/go_tool/mod.rs"]
mod go_tool;
mod programs;
mod told;

use command::lookback;
use go_tool::go_tool;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const KIND: &str = "LOOKBACK_TEST_LOCKS";
const PLACE: &str = "LOOKBACK_TEST_PLACE";
/// What has not happened by then never will.
const EVER: Duration = Duration::from_secs(120);

/// The body of the processes.
#[test]
fn runs_if_asked() {
    let Ok(kind) = std::env::var(KIND) else { return };
    programs::run(&kind, std::env::var_os(PLACE).unwrap().as_ref());
}

/// A program that has got as far as it gets; it is killed when the test ends.
struct Running {
    child: Child,
    pid: u32,
    place: tempfile::TempDir,
    /// What stands at which line, as it has said.
    lines: BTreeMap<String, u32>,
}

impl Running {
    fn start(kind: &str) -> Self {
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["runs_if_asked", "--exact", "--nocapture", "--test-threads=1"])
            .env(KIND, kind)
            .env(PLACE, place.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BTreeMap::new();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut pid = None;
        for line in said {
            if let Some((what, number)) = line.strip_prefix("at ").and_then(|at| at.split_once('='))
            {
                lines.insert(what.to_owned(), number.parse().unwrap());
            }
            pid = line.strip_prefix("ready ").map(|pid| pid.parse().unwrap());
            if pid.is_some() {
                break;
            }
        }
        Self { child, pid: pid.expect("it gets ready"), place, lines }
    }

    /// `programs.rs:31`, where this stands.
    fn at(&self, what: &str) -> String {
        format!("programs.rs:{}", self.lines[what])
    }

    /// The snapshot that it has saved itself.
    fn saved(&self) -> String {
        let find = || {
            let entries = self.place.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
            entries.into_iter().find(|path| path.extension().is_some_and(|end| end == "lbk"))
        };
        until("it saves a snapshot", || find().ok_or_else(|| "there is none".to_owned()))
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn kill(&mut self) {
        // SAFETY: no preconditions; the process is ours.
        unsafe { libc::kill(self.pid.cast_signed(), libc::SIGKILL) };
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries until this succeeds: under load it takes a while.
fn until<T>(of: &str, mut found: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match found() {
            Ok(found) => return found,
            Err(why) => assert!(began.elapsed() < EVER, "{of}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn summary(file: &str) -> Value {
    let said = lookback(&["summary", file, "--json"]);
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// The findings about locks whose titles begin with this.
fn findings(summary: &Value, begins: &str) -> Vec<Value> {
    let all = summary["findings"].as_array().unwrap().iter();
    let of_locks = all.filter(|finding| finding["analysis"] == "locks");
    let is_it = |of: &&Value| of["title"].as_str().unwrap().starts_with(begins);
    of_locks.filter(is_it).cloned().collect()
}

/// The text of all evidence.
fn evidence(finding: &Value) -> Vec<String> {
    let all = finding["evidence"].as_array().unwrap().iter();
    all.map(|of| of["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_convoy_is_one_lock_many_waits_and_several_threads() {
    let running = Running::start("a convoy");
    let file = running.saved();
    let summary = summary(&file);
    let found = findings(&summary, "Lock convoy");
    let [convoy] = found.as_slice() else { panic!("{:#}", summary["findings"]) };
    let title = convoy["title"].as_str().unwrap();
    let lock = &summary["locks"]["locks"][0];
    // A thread that always comes first waits for nobody.
    let waiters = lock["waiters"].as_u64().unwrap();
    assert!((2..=4).contains(&waiters), "{lock:#}");
    let begin = format!("{waiters} threads or tasks");
    assert!(title.contains(&begin) && title.contains("one Mutex"), "{title}");
    assert!(title.contains(&running.at("asked")), "{title}");
    assert!(evidence(convoy)[0].contains("took at"), "{convoy:#}");
    assert!(lock["waits"].as_u64().unwrap() >= 10, "{lock:#}");
    assert!(lock["held_at"][0]["at"].as_str().unwrap().ends_with(&running.at("asked")));
    // Each event has both ends, too.
    let events = lookback(&["events", &file, "--kind", "contention", "--json"]);
    assert_eq!(events.code, 0, "{events:?}");
    let mut holders = 0;
    for line in events.stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["site"].as_str().unwrap().ends_with(&running.at("asked")), "{event}");
        let fields = &event["fields"];
        assert!(fields["waited_ns"].as_u64().unwrap() >= 1_000_000, "{event}");
        assert!(fields["holder"].is_null() || fields["holder"] != event["thread"], "{event}");
        // A holder may have recorded nothing until then, or have come and gone unseen.
        holders += u64::from(!fields["holder"].is_null());
        assert!(event["stack"].is_object() || event["stack"].is_array(), "{event}");
    }
    assert!(2 * holders > lock["waits"].as_u64().unwrap(), "{holders}: {lock:#}");
    let words = lookback(&["events", &file, "--kind", "contention", "--limit", "1"]).stdout;
    assert!(words.contains("waited_ns=") && words.contains("held_at="), "{words}");
    let said = lookback(&["summary", "--all", &file]).stdout;
    assert!(said.contains("\nLocks") && said.contains("Lock convoy"), "{said}");
}

#[test]
fn tasks_that_wait_on_few_threads_are_a_convoy_of_as_many() {
    let running = Running::start("a convoy of tasks on two workers");
    let summary = summary(&running.saved());
    let found = findings(&summary, "Lock convoy");
    let [convoy] = found.as_slice() else { panic!("{:#}", summary["findings"]) };
    let title = convoy["title"].as_str().unwrap();
    assert!(title.contains("6 threads or tasks"), "{title}");
    assert!(title.contains(&running.at("asked")), "{title}");
}

#[test]
fn two_threads_that_wait_for_each_other_now_and_then_are_no_convoy() {
    let running = Running::start("two that wait for each other now and then");
    let summary = summary(&running.saved());
    assert!(findings(&summary, "").is_empty(), "{:#}", summary["findings"]);
    assert!(summary["locks"]["waits"].as_u64().unwrap() > 0, "{:#}", summary["locks"]);
}

#[test]
fn a_mutex_that_is_held_across_an_await_is_found_and_one_that_is_not_is_none() {
    let running = Running::start("a mutex held across an await");
    let held = summary(&running.saved());
    let found = findings(&held, "A Mutex is held across an .await");
    let [finding] = found.as_slice() else { panic!("{:#}", held["findings"]) };
    assert!(finding["title"].as_str().unwrap().contains(&running.at("held")), "{finding:#}");
    assert_eq!(held["locks"]["across_await"][0]["times"], 1, "{:#}", held["locks"]);
    let running = Running::start("a mutex released before an await");
    let released = summary(&running.saved());
    assert!(findings(&released, "").is_empty(), "{:#}", released["findings"]);
    assert_eq!(released["locks"]["across_await"].as_array().unwrap().len(), 0);
}

/// Asks for a deadlock of these, each with the line where it waits and that where it holds: in the snapshot that the program has
/// saved, in one from outside, and in what is left after SIGKILL.
fn is_deadlock(kind: &str, who: &[(&str, &str)], title: &str) {
    let mut running = Running::start(kind);
    let check = |running: &Running, file: &str| -> Result<(), String> {
        let summary = summary(file);
        let all = || format!("{:#} {:#}", summary["findings"], summary["locks"]);
        let found = findings(&summary, title);
        let [finding] = found.as_slice() else { return Err(all()) };
        let told = evidence(finding);
        for (at, (waits, holds)) in who.iter().enumerate() {
            let (waits, holds) = (running.at(waits), running.at(holds));
            let is_it = |what: &String| what.contains(&waits) && !what.ends_with(&waits);
            let Some(what) = told.iter().find(|what| is_it(what)) else { return Err(all()) };
            // Who holds it is told with the wait of the one before.
            if told.iter().any(|what| what.contains(&holds)) {
                continue;
            }
            return Err(format!("{at}: {what}: {holds}: {}", all()));
        }
        // It is told once.
        let hangs = summary["findings"].as_array().unwrap().iter();
        let twice: Vec<_> = hangs.filter(|of| of["analysis"] == "hangs").collect();
        if twice.is_empty() { Ok(()) } else { Err(format!("twice: {twice:#?}")) }
    };
    if let Err(why) = check(&running, &running.saved()) {
        panic!("{kind}, saved by itself: {why}");
    }
    let outside = running.file("outside.x").to_str().unwrap().to_owned();
    until(&format!("{kind}, from outside"), || {
        let _ = std::fs::remove_file(&outside);
        let said = lookback(&["snapshot", &running.pid.to_string(), "-o", &outside]);
        if said.code != 0 {
            return Err(format!("{said:?}"));
        }
        check(&running, &outside)
    });
    running.kill();
    let recovered = running.file("recovered.x").to_str().unwrap().to_owned();
    let black_box = running.file("black.box");
    let said = lookback(&["recover", black_box.to_str().unwrap(), "-o", &recovered]);
    assert_eq!(said.code, 0, "{said:?}");
    if let Err(why) = check(&running, &recovered) {
        panic!("{kind}, recovered: {why}");
    }
}

#[test]
fn a_deadlock_of_two_threads_is_told_with_both_ends() {
    is_deadlock(
        "two threads",
        &[("forth waits", "back holds"), ("back waits", "forth holds")],
        "Deadlock: ",
    );
}

#[test]
fn so_it_is_of_a_process_that_records_nothing_else_and_takes_no_stacks() {
    is_deadlock(
        "two threads, silent",
        &[("forth waits", "back holds"), ("back waits", "forth holds")],
        "Deadlock: ",
    );
}

#[test]
fn a_deadlock_of_a_reader_and_a_writer_is_told_with_both_ends() {
    is_deadlock(
        "a reader and a writer",
        &[("reader waits", "writer holds"), ("writer waits", "reader holds")],
        "Deadlock: ",
    );
}

#[test]
fn a_deadlock_of_two_tasks_is_told_with_both_ends() {
    is_deadlock(
        "two tasks",
        &[("forth waits", "back holds"), ("back waits", "forth holds")],
        "Deadlock: ",
    );
}

#[test]
fn a_deadlock_of_a_task_and_a_thread_is_told_with_both_ends() {
    is_deadlock(
        "a task and a thread",
        &[("task waits", "thread holds"), ("thread waits", "task holds")],
        "Deadlock: ",
    );
}

#[test]
fn a_thread_that_waits_for_a_mutex_which_a_task_of_its_own_holds_is_a_deadlock() {
    is_deadlock("a mutex that its own thread waits for", &[("waits", "held")], "Deadlock: ");
}

#[test]
fn long_waits_in_one_order_are_no_deadlock() {
    for kind in ["two threads in the same order", "two tasks in the same order"] {
        let running = Running::start(kind);
        let file = running.file("outside.x").to_str().unwrap().to_owned();
        let summary = until(kind, || {
            let _ = std::fs::remove_file(&file);
            let said = lookback(&["snapshot", &running.pid.to_string(), "-o", &file]);
            if said.code != 0 {
                return Err(format!("{said:?}"));
            }
            let summary = summary(&file);
            match summary["locks"]["going_on"].as_array().map(Vec::len) {
                Some(1) => Ok(summary),
                _ => Err(format!("{:#}", summary["locks"])),
            }
        });
        assert!(findings(&summary, "").is_empty(), "{kind}: {:#}", summary["findings"]);
        let waits = &summary["locks"]["going_on"][0];
        let holds = running.at("forth holds");
        assert!(waits["held_at"].as_str().unwrap().ends_with(&holds), "{kind}: {waits:#}");
    }
}

#[test]
fn who_has_let_go_of_a_mutex_of_tasks_is_in_no_deadlock_for_it() {
    for kind in [
        "a mutex that is handed on, and then waited for",
        "a mutex that is waited for, and then handed on",
    ] {
        let running = Running::start(kind);
        let summary = summary(&running.saved());
        assert!(findings(&summary, "").is_empty(), "{kind}: {:#}", summary["findings"]);
        // Each of the three waits.
        let waits = summary["locks"]["going_on"].as_array().unwrap();
        assert_eq!(waits.len(), 3, "{kind}: {waits:#?}");
    }
}

#[test]
fn a_wait_of_a_task_that_is_not_recorded_is_none_of_a_thread_that_has_polled_it() {
    let running = Running::start("a wait of a task that is not recorded");
    let summary = summary(&running.saved());
    assert!(findings(&summary, "").is_empty(), "{:#}", summary["findings"]);
    let waits = summary["locks"]["going_on"].as_array().unwrap();
    assert_eq!(waits.len(), 1, "{waits:#?}");
}

#[test]
fn waits_for_permits_are_waits_of_tasks() {
    let running = Running::start("a semaphore");
    let summary = summary(&running.saved());
    let lock = &summary["locks"]["locks"][0];
    assert_eq!(lock["kind"], "tokio Semaphore", "{lock:#}");
    assert!(lock["waiters"].as_u64().unwrap() >= 4, "{lock:#}");
    assert!(lock["places"][0]["at"].as_str().unwrap().ends_with(&running.at("asked")), "{lock:#}");
    assert_eq!(findings(&summary, "Deadlock").len(), 0, "{:#}", summary["findings"]);
}

#[test]
fn gos_profiler_reads_the_waits_and_so_do_flame_graphs() {
    let running = Running::start("a convoy");
    let file = running.saved();
    let waits = &summary(&file)["locks"];
    let out = running.file("contention.pb.gz");
    let path = out.to_str().unwrap();
    let export = |format, to| {
        lookback(&["export", &file, "--format", format, "--profile", "contention", "-o", to])
    };
    let said = export("pprof", path);
    assert!(said.code == 0 && said.stdout.contains("waits for locks in"), "{said:?}");
    let folded = export("folded", "-").stdout;
    let line = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    let sum: u64 = folded.lines().map(line).sum();
    assert_eq!(sum, waits["waited_ns"].as_u64().unwrap(), "{folded}");
    // The innermost function is the service's, whatever takes a lock inside of it.
    for line in folded.lines().filter(|line| !line.starts_with("(no stack")) {
        let leaf = line.rsplit(';').next().unwrap();
        assert!(leaf.contains("programs::convoy"), "{leaf}: {line}");
    }
    assert!(folded.contains("programs::convoy"), "{folded}");
    let Some(go) = go_tool() else { return };
    let raw = go.pprof(&["-raw"], &out).unwrap();
    let mut lines = raw.lines().skip_while(|line| !line.starts_with("Samples:")).skip(1);
    assert_eq!(lines.next().unwrap(), "contentions/count delay/nanoseconds[dflt]");
    let mut sums = [0; 2];
    for line in lines.take_while(|line| !line.starts_with("Locations")) {
        let Some((values, _)) = line.split_once(':') else { continue };
        for (sum, value) in sums.iter_mut().zip(values.split_whitespace()) {
            *sum += value.parse::<u64>().unwrap();
        }
    }
    let of = |name: &str| waits[name].as_u64().unwrap();
    assert_eq!(sums, [of("waits"), of("waited_ns")]);
    let comments = go.pprof(&["-comments"], &out).unwrap();
    assert!(comments.contains("waits for locks, "), "{comments}");
    let flat = go.pprof(&["-top"], &out).unwrap();
    assert!(!flat.contains("lookback"), "{flat}");
    for index in ["contentions", "delay"] {
        let top = go.pprof(&["-top", "-cum", &format!("-sample_index={index}")], &out).unwrap();
        assert!(top.contains("programs::convoy"), "{top}");
    }
}

#[test]
fn a_snapshot_without_waits_has_no_such_profile_and_says_why() {
    let file = "../snapshot/tests/golden/v1.lbk";
    let said = lookback(&[
        "export",
        file,
        "--format",
        "pprof",
        "--profile",
        "contention",
        "-o",
        "/dev/null",
    ]);
    assert!(said.code == 1 && said.stderr.contains("lookback::sync"), "{said:?}");
}
