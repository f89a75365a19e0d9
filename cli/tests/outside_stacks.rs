//! Stacks of the threads of another process, whatever state that is in, recorded or not.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod command;
mod service;

use command::{Ended, lookback};
use serde_json::Value;
use service::{Service, wait_until};
use std::path::Path;

#[test]
fn service() {
    service::serve();
}

/// The line of the service's code that has this text.
fn line_of(text: &str) -> u32 {
    let lines: Vec<_> = include_str!("service/mod.rs").lines().collect();
    let at = lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(lines[at + 1..].iter().all(|line| !line.contains(text)), "it is there once");
    at as u32 + 1
}

fn json(ended: &Ended) -> Value {
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Saves a snapshot of a process, and returns the file and what the command says.
fn snapshot(service: &Service, directory: &Path, options: &[&str]) -> (String, Value) {
    let out = directory.join("a.lbk").to_str().unwrap().to_owned();
    let pid = service.text();
    let said = lookback(&[&["snapshot", &pid, "-o", &out, "--json"], options].concat());
    (out, json(&said))
}

fn thread<'a>(found: &'a Value, name: &str) -> &'a Value {
    let threads = found["threads"].as_array().unwrap();
    threads.iter().find(|thread| thread["name"] == name).unwrap()
}

/// The functions of a thread, innermost first, with their lines.
fn functions(thread: &Value) -> Vec<(String, u64)> {
    let frames = thread["frames"].as_array().unwrap().iter();
    let functions = frames.flat_map(|frame| frame["functions"].as_array().unwrap());
    let said = |of: &Value| {
        (of["name"].as_str().unwrap().to_owned(), of["line"].as_u64().unwrap_or_default())
    };
    functions.map(said).collect()
}

/// Whether a function has this name, in whatever module.
fn is(name: &str, function: &str) -> bool {
    name.rsplit("::").next() == Some(function)
}

/// Until both threads are where they stay: in a futex.
fn wait_for_locks(service: &Service) {
    let tasks = || std::fs::read_dir(format!("/proc/{}/task", service.pid)).unwrap().flatten();
    let of = |task: &std::fs::DirEntry, what| std::fs::read_to_string(task.path().join(what));
    let waits = |task: &std::fs::DirEntry| {
        let is_one = of(task, "comm").is_ok_and(|name| ["forth\n", "back\n"].contains(&&*name));
        is_one && of(task, "syscall").is_ok_and(|said| said.starts_with("202 "))
    };
    wait_until(|| tasks().filter(waits).count() == 2);
}

#[test]
fn a_deadlock_of_two_mutexes_is_named_by_both_ends_in_a_snapshot_and_right_now() {
    let directory = service::directory();
    let service = Service::start("locks");
    let line = u64::from(line_of("let _second = second.lock().unwrap();"));
    let pid = service.text();
    wait_for_locks(&service);
    let (file, said) = snapshot(&service, directory.path(), &[]);
    assert_eq!(said["stacks"]["error"], Value::Null);
    // But for a thread of the recorder's, which may be at work just then.
    let number = |what: &str| said["stacks"][what].as_u64().unwrap();
    assert!(number("with_stack") + 1 >= number("threads"), "all block: {said}");
    let validate = lookback(&["validate", &file]);
    assert_eq!((validate.code, &*validate.stderr), (0, ""), "{validate:?}");
    let found = json(&lookback(&["stacks", &file, "--json"]));
    for found in [&found["outside"], &json(&lookback(&["stacks", &pid, "--json"]))] {
        let (forth, back) = (thread(found, "forth"), thread(found, "back"));
        for (one, other) in [(forth, back), (back, forth)] {
            assert_eq!(one["waits_for"], "a lock");
            assert_eq!(one["call"], "futex");
            assert_eq!(one["holder"]["os_thread"], other["os_thread"]);
            assert_eq!(one["holder"]["certain"], false);
            assert_eq!(one["end"], "the thread's start");
            let place = functions(one).into_iter().find(|(name, _)| is(name, "locks"));
            assert_eq!(place.map(|(_, line)| line), Some(line), "{:?}", functions(one));
        }
        assert_ne!(forth["on"]["futex"], back["on"]["futex"], "two locks");
        let circles = found["deadlocks"].as_array().unwrap();
        let mut circle = circles[0].as_array().unwrap().clone();
        circle.sort_by_key(Value::as_u64);
        let mut both = vec![forth["os_thread"].clone(), back["os_thread"].clone()];
        both.sort_by_key(Value::as_u64);
        assert_eq!((circles.len(), circle), (1, both));
    }
    let summary = json(&lookback(&["summary", &file, "--json"]))["outside"].clone();
    assert_eq!(summary["deadlocks"][0].as_array().unwrap().len(), 2, "{summary}");
    let locks = summary["locks"].as_array().unwrap();
    assert_eq!(locks.len(), 2, "{summary}");
    assert!(locks.iter().all(|lock| lock["waiters"].as_array().unwrap().len() == 1), "{summary}");
    let text = lookback(&["summary", "--all", &file]).stdout;
    assert!(text.contains("\nThreads\n  Deadlock, it seems: "), "{text}");
    let text = lookback(&["stacks", &file]).stdout;
    let place = format!("service/mod.rs:{line} (");
    let circle: Vec<_> =
        text.split("\n\n").find(|part| part.starts_with("Deadlock")).unwrap().lines().collect();
    assert_eq!(circle.len(), 3, "{text}");
    for (name, other) in [("forth", "back"), ("back", "forth")] {
        let is_it = |line: &&&str| line.trim_start().starts_with(&format!("{name} ("));
        let line = circle.iter().find(is_it).unwrap();
        assert!(line.contains(&place) && line.contains(&format!("; {other} (")), "{text}");
    }
}

#[test]
fn a_process_without_a_recorder_shows_its_stacks_and_its_snapshot_has_them_alone() {
    let directory = service::directory();
    let service = Service::start("bare");
    let pid = service.text();
    // It is ready, and about to sleep.
    let main_sleeps = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let call = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("syscall"));
        tasks.flatten().any(|task| call(task).is_ok_and(|said| said.starts_with("230 ")))
    };
    wait_until(main_sleeps);
    let sleeps = |found: &Value| {
        let threads = found["threads"].as_array().unwrap();
        threads.iter().any(|of| functions(of).iter().any(|(name, _)| is(name, "hang")))
    };
    assert!(sleeps(&json(&lookback(&["stacks", &pid, "--json"]))));
    let text = lookback(&["stacks", &pid]);
    assert!(text.stdout.contains("service::hang") && text.stdout.contains(" sleeps"), "{text:?}");
    let (file, said) = snapshot(&service, directory.path(), &[]);
    assert_eq!((&said["recorded"], &said["events"]), (&false.into(), &0.into()));
    assert!(sleeps(&json(&lookback(&["stacks", &file, "--json"]))["outside"]));
    for command in ["stacks", "info", "events", "summary", "validate"] {
        let ended = lookback(&[command, &file]);
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{command}: {ended:?}");
    }
    let summary = lookback(&["summary", "--all", &file]).stdout;
    assert!(summary.contains("none was running in the process"), "{summary}");
    assert!(!summary.contains("Not assessed") && !summary.contains("Spans"), "{summary}");
    for option in ["--tasks", "--cpu"] {
        let none = lookback(&["stacks", &file, option]).stdout;
        assert!(none.contains("the process was not being recorded"), "{none}");
    }
    let none = lookback(&["snapshot", &pid, "--no-stacks"]);
    assert_eq!((none.code, none.stderr.lines().count()), (1, 1), "{none:?}");
    assert!(none.stderr.contains("not being recorded"), "{none:?}");
}

#[test]
fn a_stopped_process_has_stacks_and_stays_stopped() {
    let service = Service::start("spin");
    service.signal(libc::SIGSTOP);
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", service.pid)).unwrap();
    wait_until(|| state().contains(") T "));
    for options in [&[][..], &["--stop"]] {
        let asked = lookback(&[&["stacks", &service.text(), "--json"], options].concat());
        let found = json(&asked);
        let threads = found["threads"].as_array().unwrap();
        let spins = |of: &&Value| functions(of).iter().any(|(name, _)| is(name, "spin"));
        assert!(threads.iter().any(|of| spins(&of)));
        wait_until(|| state().contains(") T "));
    }
}

#[test]
fn a_thread_that_runs_has_a_stack_if_it_may_be_interrupted_and_runs_on() {
    let directory = service::directory();
    let service = Service::start("spin");
    let spins = |found: &Value| {
        let threads = found["threads"].as_array().unwrap().iter();
        let mut spin = threads.filter(|of| functions(of).iter().any(|(name, _)| is(name, "spin")));
        let one = spin.next().map(|of| of["os_thread"].as_u64().unwrap());
        one.filter(|_| spin.next().is_none())
    };
    let (file, _) = snapshot(&service, directory.path(), &["--stop"]);
    let found = json(&lookback(&["stacks", &file, "--json"]));
    let thread = spins(&found["outside"]).expect("one thread spins");
    let path = format!("/proc/{}/task/{thread}/schedstat", service.pid);
    let ran = || {
        let all = std::fs::read_to_string(&path).unwrap();
        all.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let before = ran();
    wait_until(|| ran() > before);
    let status =
        std::fs::read_to_string(format!("/proc/{}/task/{thread}/status", service.pid)).unwrap();
    assert!(status.contains("TracerPid:\t0\n"), "nobody traces it: {status}");
    let without = lookback(&["stacks", &service.text()]);
    let is_told =
        without.stdout.contains("the thread was running") && without.stdout.contains("--stop");
    // It may have waited for a page just then.
    assert!(is_told || without.stdout.contains("service::spin"), "{without:?}");
}

#[test]
fn a_process_that_is_not_there_is_an_error_of_one_line() {
    let ended = lookback(&["stacks", "4194304"]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{ended:?}");
    assert!(ended.stderr.contains("no such process"), "{ended:?}");
}

/// The files of a stack's frames, and the offsets in them, innermost first.
type Places = Vec<(String, u64)>;

/// What gdb finds, of each thread by its number.
fn by_gdb(pid: u32) -> Option<Vec<(u64, Places)>> {
    let program = "
import gdb
gdb.execute('set backtrace past-main on')
gdb.execute('set backtrace past-entry on')
for thread in gdb.selected_inferior().threads():
    thread.switch()
    frame = gdb.newest_frame()
    found = []
    while frame is not None:
        if frame.type() != gdb.INLINE_FRAME and frame.pc() != 0:
            found.append(str(frame.pc()))
        frame = frame.older()
    print('thread', thread.ptid[1] or thread.ptid[0], ' '.join(found))
";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("walk.py");
    std::fs::write(&path, program).unwrap();
    let mut gdb = std::process::Command::new("gdb");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-p", &pid.to_string(), "-x"]);
    let said = gdb.arg(&path).output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let mappings: Vec<(u64, u64, u64, String)> = maps
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (from, to) = fields[0].split_once('-').unwrap();
            let path = fields.get(5).copied().unwrap_or_default().to_owned();
            (number(from), number(to), number(fields[2]), path)
        })
        .collect();
    let placed = |address: u64| {
        let (.., path) =
            mappings.iter().find(|(from, to, ..)| (*from..*to).contains(&address)).unwrap();
        let begin = mappings.iter().find(|(_, _, offset, of)| *offset == 0 && of == path).unwrap();
        (path.clone(), address - begin.0)
    };
    let threads = said.lines().filter_map(|line| line.strip_prefix("thread ")).map(|line| {
        let mut words = line.split_whitespace().map(|word| word.parse::<u64>().unwrap());
        (words.next().unwrap(), words.map(placed).collect())
    });
    let threads: Vec<_> = threads.collect();
    (!threads.is_empty()).then_some(threads)
}

#[test]
fn stacks_are_those_that_a_debugger_finds_in_a_stopped_process() {
    let service = Service::start("locks");
    wait_for_locks(&service);
    let Some(judged) = by_gdb(service.pid) else {
        println!("skipped: there is no gdb that can walk a stack here");
        return;
    };
    let found = json(&lookback(&["stacks", &service.text(), "--json"]));
    let mut compared = 0;
    for thread in found["threads"].as_array().unwrap() {
        // The recorder's own threads go on.
        if thread["name"].as_str().unwrap().starts_with("lookback") {
            continue;
        }
        let number = thread["os_thread"].as_u64().unwrap();
        let frames = thread["frames"].as_array().unwrap().iter();
        let place = |of: &Value| {
            (of["module"].as_str().unwrap().to_owned(), of["offset"].as_u64().unwrap())
        };
        let frames: Vec<_> = frames.map(place).collect();
        let (_, of_gdb) = judged.iter().find(|(of, _)| *of == number).unwrap();
        assert_eq!(&frames, of_gdb, "thread {number}");
        assert!(frames.len() > 5, "{frames:?}");
        compared += 1;
    }
    assert!(compared >= 3, "{compared}");
}
