//! Programs that hang are explained, with both ends by file and line: a deadlock of threads and one of tasks, a blocked
//! worker, an exhausted pool, a forgotten channel. Each in a snapshot that the program itself has saved, in one taken from
//! outside, and in one recovered after SIGKILL.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../command/mod.rs"]
mod command;
mod hangs;

use command::lookback;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const KIND: &str = "LOOKBACK_TEST_HANG";
const PLACE: &str = "LOOKBACK_TEST_PLACE";
/// What has not happened by then never will.
const EVER: Duration = Duration::from_secs(120);

/// The body of the processes that hang.
#[test]
fn hangs_if_asked() {
    let Ok(kind) = std::env::var(KIND) else { return };
    hangs::hang(&kind, std::env::var_os(PLACE).unwrap().as_ref());
}

/// A program that hangs; it is killed when the test ends.
struct Hanging {
    child: Child,
    pid: u32,
    place: tempfile::TempDir,
    /// Who waits at which line, as it has said.
    lines: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Hanging {
    fn start(kind: &str) -> Self {
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["hangs_if_asked", "--exact", "--nocapture", "--test-threads=1"])
            .env(KIND, kind)
            .env(PLACE, place.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let lines = Arc::new(Mutex::new(BTreeMap::new()));
        let note = |lines: &Mutex<BTreeMap<_, _>>, said: &str| {
            let Some((who, line)) = said.strip_prefix("at ").and_then(|at| at.split_once('='))
            else {
                return;
            };
            lines.lock().unwrap().insert(who.to_owned(), line.parse().unwrap());
        };
        let pid = said.by_ref().find_map(|line| {
            note(&lines, &line);
            line.strip_prefix("ready ").map(|pid| pid.parse().unwrap())
        });
        let pid = pid.expect("it gets ready");
        let noted = Arc::clone(&lines);
        std::thread::spawn(move || said.for_each(|line| note(&noted, &line)));
        Self { child, pid, place, lines }
    }

    fn line(&self, who: &str) -> Result<u32, String> {
        self.lines.lock().unwrap().get(who).copied().ok_or_else(|| format!("{who} has not said it"))
    }

    /// The newest snapshot that it has saved itself.
    fn saved(&self) -> Option<PathBuf> {
        let entries = self.place.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.extension().is_some_and(|end| end == "lbk"));
        files.filter(|path| path.to_string_lossy().contains("request")).max()
    }

    fn kill(&mut self) {
        // SAFETY: no preconditions; the process is ours.
        unsafe { libc::kill(self.pid.cast_signed(), libc::SIGKILL) };
        self.child.wait().unwrap();
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries until this holds: a program under load takes a while to hang, and its recorder to notice.
fn until_told(of: &str, mut told: impl FnMut() -> Result<(), String>) {
    let began = Instant::now();
    while let Err(why) = told() {
        assert!(began.elapsed() < EVER, "{of}: {why}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What is asked of the explanations of a file.
type Asked<'a> = &'a dyn Fn(&Hanging, &str) -> Result<(), String>;

/// Asks it of a snapshot that the program has saved, of one from outside, and of one recovered after SIGKILL.
fn ask(kind: &str, asked: Asked<'_>) {
    let mut hanging = Hanging::start(kind);
    let file = |name: &str| hanging.place.path().join(name).to_str().unwrap().to_owned();
    let (outside, recovered, copy) = (file("outside.x"), file("recovered.x"), file("saved.x"));
    until_told(&format!("{kind}, from outside"), || {
        let _ = std::fs::remove_file(&outside);
        let ended = lookback(&["snapshot", &hanging.pid.to_string(), "-o", &outside]);
        if ended.code != 0 {
            return Err(format!("{ended:?}"));
        }
        asked(&hanging, &outside)
    });
    until_told(&format!("{kind}, saved by itself"), || {
        // The oldest are deleted as new ones come.
        let saved = hanging.saved().ok_or("it has saved none")?;
        std::fs::copy(saved, &copy).map_err(|error| error.to_string())?;
        asked(&hanging, &copy)
    });
    hanging.kill();
    let black_box = hanging.place.path().join("black.box");
    let ended = lookback(&["recover", black_box.to_str().unwrap(), "-o", &recovered]);
    assert_eq!(ended.code, 0, "{ended:?}");
    if let Err(why) = asked(&hanging, &recovered) {
        panic!("{kind}, recovered: {why}");
    }
}

fn json(arguments: &[&str]) -> Result<Value, String> {
    let ended = lookback(&[arguments, &["--json"]].concat());
    serde_json::from_str(&ended.stdout).map_err(|error| format!("{error}: {ended:?}"))
}

/// `deadlocks/hangs.rs:17`, where it has said that this one waits.
fn place(hanging: &Hanging, who: &str) -> Result<String, String> {
    Ok(format!("deadlocks/hangs.rs:{}", hanging.line(who)?))
}

fn holds(text: &str, wanted: &str) -> Result<(), String> {
    if text.contains(wanted) { Ok(()) } else { Err(format!("no {wanted} in {text}")) }
}

/// The first finding that has this in its title names all of these, and leads; the text of the summary has them, too.
fn is_one_finding(hanging: &Hanging, file: &str, title: &str, ends: &[&str]) -> Result<(), String> {
    let summary = json(&["summary", file])?;
    let findings = summary["findings"].as_array().ok_or("no findings")?;
    let is_it = |of: &&Value| of["title"].as_str().is_some_and(|text| text.contains(title));
    let found =
        findings.iter().find(is_it).ok_or_else(|| format!("no {title} in {findings:#?}"))?;
    let evidence = found["evidence"].as_array().ok_or("no evidence")?.iter();
    let all: String = evidence.map(|one| format!("{}\n", one["what"])).collect();
    let text = lookback(&["summary", "--all", file]).stdout;
    for who in ends {
        let place = place(hanging, who)?;
        holds(&format!("{}\n{all}", found["title"]), &place)?;
        holds(&text, &place)?;
    }
    if findings[0]["title"] != found["title"] {
        return Err(format!("another one leads: {}", findings[0]["title"]));
    }
    Ok(())
}

/// `lookback stacks` shows all of these, as text and as JSON.
fn are_in_stacks(
    hanging: &Hanging,
    file: &str,
    option: &[&str],
    ends: &[&str],
) -> Result<(), String> {
    let text = lookback(&[&["stacks", file], option].concat()).stdout;
    let json = json(&[&["stacks", file], option].concat())?.to_string();
    for who in ends {
        holds(&text, &place(hanging, who)?)?;
        holds(&json, &format!("\"line\":{}", hanging.line(who)?))?;
    }
    Ok(())
}

#[test]
fn a_deadlock_of_two_mutexes_of_the_standard_library() {
    ask("std mutexes", &|hanging, file| {
        is_one_finding(hanging, file, "Deadlock, suspected: ", &["forth", "back"])?;
        are_in_stacks(hanging, file, &[], &["forth", "back"])?;
        holds(&lookback(&["stacks", file]).stdout, "Deadlock, it seems: ")
    });
}

#[test]
fn a_deadlock_of_mutexes_in_statics_with_others_that_wait_behind_it() {
    ask("static mutexes", &|hanging, file| {
        is_one_finding(hanging, file, "Deadlock, suspected: ", &["forth", "back"])?;
        let found = json(&["summary", file])?["findings"][0].clone();
        holds(found["title"].as_str().unwrap(), "back (")?;
        if found["title"].as_str().unwrap().contains("victim") {
            return Err(format!("a victim leads: {found:#}"));
        }
        holds(&found["evidence"].to_string(), "victim too (")?;
        are_in_stacks(hanging, file, &[], &["forth", "back"])
    });
}

#[test]
fn a_deadlock_of_a_task_and_a_thread() {
    ask("a mutex between a task and a thread", &|hanging, file| {
        is_one_finding(hanging, file, "Deadlock, suspected: ", &["forth", "back"])?;
        are_in_stacks(hanging, file, &[], &["forth", "back"])
    });
}

#[test]
fn a_deadlock_of_two_mutexes_of_tokio() {
    ask("tokio mutexes", &|hanging, file| {
        is_one_finding(hanging, file, "Deadlock, suspected: ", &["forth", "back"])?;
        holds(&lookback(&["summary", "--all", file]).stdout, "for a Mutex at")?;
        are_in_stacks(hanging, file, &["--tasks"], &["forth", "back"])
    });
}

#[test]
fn a_worker_that_a_task_blocks() {
    ask("a blocked worker", &|hanging, file| {
        is_one_finding(hanging, file, " held ", &["blocks"])?;
        let spawned = place(hanging, "spawned")?;
        holds(&lookback(&["summary", "--all", file]).stdout, &spawned)?;
        are_in_stacks(hanging, file, &[], &["blocks"])
    });
}

#[test]
fn a_worker_that_a_task_has_blocked_for_a_while() {
    ask("a worker blocked for a while", &|hanging, file| {
        let summary = json(&["summary", file])?;
        let findings = summary["findings"].as_array().ok_or("no findings")?.iter();
        let polls = findings.filter(|finding| finding["analysis"] == "polls");
        let evidence: Vec<_> =
            polls.flat_map(|finding| finding["evidence"].as_array().unwrap().windows(2)).collect();
        let wanted = place(hanging, "blocks")?;
        let is_told = |pair: &&[Value]| {
            let is_over = pair[0]["depth"] == 0 && pair[0]["until_ns"].is_number();
            is_over
                && pair[1]["what"]
                    .as_str()
                    .is_some_and(|what| what.starts_with("was at ") && what.contains(&wanted))
        };
        let found = evidence.iter().any(is_told);
        found.then_some(()).ok_or_else(|| format!("no {wanted} in {evidence:#?}"))
    });
}

#[test]
fn a_deadlock_in_commands_of_connections_of_which_others_are_idle() {
    ask("locks of commands", &|hanging, file| {
        is_one_finding(hanging, file, "Locks at 2 places: ", &["forth", "back"])?;
        let summary = json(&["summary", file])?;
        let idle = place(hanging, "idle")?;
        let title = summary["findings"][0]["title"].to_string();
        if title.contains(&idle) { Err(format!("{idle} is accused in {title}")) } else { Ok(()) }
    });
}

#[test]
fn a_pool_that_is_exhausted() {
    is_exhausted("an exhausted pool", "a permit of a Semaphore at");
}

#[test]
fn a_pool_of_deadpool_that_is_exhausted() {
    is_exhausted("an exhausted pool of deadpool", "something of a pool at");
}

fn is_exhausted(kind: &str, for_what: &str) {
    ask(kind, &|hanging, file| {
        let ends = ["waits for one", "has one"];
        is_one_finding(hanging, file, "may hold what others want: 5 tasks wait", &ends)?;
        holds(&lookback(&["summary", "--all", file]).stdout, for_what)?;
        are_in_stacks(hanging, file, &["--tasks"], &ends)
    });
}

#[test]
fn a_channel_that_is_forgotten() {
    ask("a forgotten channel", &|hanging, file| {
        let ends = ["receives", "keeps the sender"];
        let summary = json(&["summary", file])?;
        let places = summary["waiting"]["places"].to_string();
        let text = lookback(&["summary", "--all", file]).stdout;
        let table = text.split("\nWhere tasks wait\n").nth(1).ok_or("no table")?;
        let table = table.split("\n\n").next().unwrap_or_default();
        for who in ends {
            holds(table, &place(hanging, who)?)?;
            holds(&places, &format!("\"line\":{}", hanging.line(who)?))?;
        }
        holds(table, "a message (mpsc) at")?;
        holds(table, "a Notify at")?;
        are_in_stacks(hanging, file, &["--tasks"], &ends)
    });
}

#[test]
fn a_deadlock_of_five_threads_whose_locks_are_in_one_vector() {
    ask("five in a circle", &|hanging, file| {
        is_one_finding(hanging, file, "Deadlock, suspected: ", &["dines"])?;
        let found = json(&["summary", file])?["findings"][0]["title"].to_string();
        (0..5).try_for_each(|seat| holds(&found, &format!("seat {seat} (")))?;
        holds(&lookback(&["stacks", file]).stdout, "Deadlock, it seems: ")
    });
}

/// None of these is called a deadlock.
fn is_no_deadlock(file: &str) -> Result<(), String> {
    for command in [&["summary", file][..], &["stacks", file]] {
        let said = lookback(command).stdout;
        if said.contains("Deadlock") {
            return Err(format!("a deadlock in {said}"));
        }
    }
    Ok(())
}

#[test]
fn threads_that_wait_for_one_that_waits_for_work_are_no_deadlock() {
    ask("a lock held while waiting for work", &|hanging, file| {
        is_one_finding(hanging, file, "audits (", &["audits", "looks"])?;
        is_no_deadlock(file)
    });
}

#[test]
fn threads_that_take_turns_to_receive_are_no_finding() {
    ask("a receiver that several share", &|hanging, file| {
        is_one_finding(hanging, file, "sleeps (", &["sleeps", "waits"])?;
        let said = lookback(&["summary", "--all", file]).stdout;
        if said.contains("pool (") && said.contains("may hold a lock for which 3 threads") {
            return Err(format!("a pool that has nothing to do: {said}"));
        }
        is_no_deadlock(file)
    });
}

#[test]
fn tasks_that_wait_for_one_that_takes_long_are_no_deadlock() {
    ask("a mutex of tokio held for long", &|hanging, file| {
        is_one_finding(
            hanging,
            file,
            "or for one of 1 task elsewhere",
            &["reads", "writes", "holds"],
        )?;
        is_no_deadlock(file)
    });
}

#[test]
fn a_poll_that_holds_a_mutex_comes_before_a_longer_one_that_waits_for_it() {
    ask("polls that wait for a mutex", &|hanging, file| {
        is_one_finding(hanging, file, &place(hanging, "sleeps")?, &["sleeps", "asks"])?;
        let first = json(&["summary", file])?["findings"][0].clone();
        let title = first["title"].as_str().ok_or("no title")?;
        let (sleeps, asks) = (place(hanging, "sleeps")?, place(hanging, "asks")?);
        // Whoever is to blame is named first.
        if title.find(&sleeps) < title.find(&asks) { Ok(()) } else { Err(first.to_string()) }
    });
}

#[test]
fn spans_that_are_all_slow_say_what_they_wait_for() {
    ask("a channel that is read slowly", &|hanging, file| {
        let summary = json(&["summary", file])?;
        let titles = summary["findings"].as_array().ok_or("no findings")?.iter();
        // Where others have the cores, that may come first.
        let titles: Vec<_> = titles.filter_map(|finding| finding["title"].as_str()).collect();
        let place = place(hanging, "sends")?;
        let is_it = |title: &&&str| {
            title.starts_with("Spans `lend` take ")
                && title.contains(" and wait for room in a channel at ")
                && title.contains(&place)
        };
        titles.iter().find(is_it).map(|_| ()).ok_or_else(|| format!("{place} in {titles:#?}"))
    });
}
