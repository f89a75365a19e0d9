//! What the doctor finds: a healthy process, and the ways in which a process is not.

mod command;
mod service;

use command::{Ended, lookback};
use serde_json::Value;
use service::Service;
use std::path::Path;

#[test]
fn service() {
    service::serve();
}

/// The findings of one level, as `check: what`, and how it ended.
fn ask(target: &str, level: &str) -> (Vec<String>, Ended) {
    let ended = lookback(&["doctor", target, "--json"]);
    let json: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let findings = json["findings"].as_array().unwrap().iter();
    let of_level = findings.filter(|finding| finding["level"] == level);
    let words = of_level.map(|finding| {
        assert!(level == "ok" || level == "unknown" || finding["advice"].is_string(), "{finding}");
        format!("{}: {}", finding["check"].as_str().unwrap(), finding["what"].as_str().unwrap())
    });
    let words = words.collect();
    assert_eq!(json["healthy"], ended.code == 0);
    (words, ended)
}

fn has(findings: &[String], what: &str) {
    assert!(findings.iter().any(|finding| finding.contains(what)), "{what} in {findings:#?}");
}

/// Whether a directory lies on a tmpfs.
fn is_in_memory(directory: &Path) -> bool {
    rustix::fs::statfs(directory).unwrap().f_type == 0x0102_1994
}

#[test]
fn a_healthy_process_has_no_problem() {
    let directory = service::directory();
    let path = directory.path().join("a.box");
    let service = Service::with_box("hang", &path);
    let (problems, ended) = ask(&service.text(), "problem");
    assert_eq!((problems.len(), ended.code), (0, 0), "{ended:?}");
    let (fine, _) = ask(&service.text(), "ok");
    let what = ["recording: generation", "content: ", "losses: no event", "window: "];
    for what in what.into_iter().chain(["unwinding: ", "names: "]) {
        has(&fine, what);
    }
    match is_in_memory(directory.path()) {
        true => has(&fine, "in memory"),
        false => println!("::skipped: nothing can be written to a /dev/shm here"),
    }
    let text = lookback(&["doctor", &service.text()]);
    assert_eq!((text.code, &*text.stderr), (0, ""));
    let (fine, _) = ask(path.to_str().unwrap(), "ok");
    has(&fine, "records into it");
    service.kill();
    let (fine, ended) = ask(path.to_str().unwrap(), "ok");
    assert_eq!(ended.code, 0, "{ended:?}");
    has(&fine, "its process is gone");
    has(&fine, "the process was killed, or it exited");
}

#[test]
fn an_arena_in_memory_alone_is_a_warning() {
    let service = Service::start("hang");
    has(&ask(&service.text(), "warning").0, "lost with the process");
}

#[test]
fn a_box_on_a_disk_is_a_warning_that_says_what_that_costs() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    if is_in_memory(directory.path()) {
        return println!("::skipped: what is built is built in memory here");
    }
    let path = directory.path().join("a.box");
    let service = Service::with_box("hang", &path);
    let (warnings, ended) = ask(&service.text(), "warning");
    assert_eq!(ended.code, 0, "{ended:?}");
    has(&warnings, "a black box on a disk");
    assert!(ended.stdout.contains("write-back can stop a thread"), "{ended:?}");
}

#[test]
fn under_a_holder_the_arena_outlives_the_process() {
    let directory = service::directory();
    let service = Service::run(&mut service::held("hang", directory.path(), &[]));
    has(&ask(&service.text(), "ok").0, "held by `lookback run`");
    service.signal(libc::SIGKILL);
}

#[test]
fn a_holder_that_was_killed_holds_nothing() {
    let directory = service::directory();
    let mut service = Service::run(&mut service::held("hang", directory.path(), &[]));
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    let (warnings, _) = ask(&service.text(), "warning");
    has(&warnings, "the `lookback run` that held it is gone");
    let (fine, _) = ask(&service.text(), "ok");
    assert!(!fine.iter().any(|what| what.contains("outlives the process")), "{fine:#?}");
    service.signal(libc::SIGKILL);
}

#[test]
fn a_recorder_that_nobody_tells_anything_is_a_problem() {
    let service = Service::start("silent");
    // In its first second this is unknown; on a slow machine that second may be over.
    let began = std::time::Instant::now();
    let (problems, ended) = loop {
        let (problems, ended) = ask(&service.text(), "problem");
        if !problems.is_empty() || began.elapsed().as_secs() > 60 {
            break (problems, ended);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!(ended.code, 1);
    has(&problems, "nothing was recorded");
}

#[test]
fn losses_are_told_by_cause() {
    let service = Service::start("losses");
    // A generation reports its losses when it is complete.
    let began = std::time::Instant::now();
    let (problems, ended) = loop {
        let (problems, ended) = ask(&service.text(), "problem");
        let told = problems.iter().any(|problem| problem.contains("lost: reentrant"));
        if told || began.elapsed().as_secs() > 60 {
            break (problems, ended);
        }
    };
    assert_eq!(ended.code, 1);
    has(&problems, "lost: reentrant");
}

#[test]
fn a_forked_child_is_told_whose_arena_it_has() {
    let service = Service::start("forks");
    let child =
        service.said.iter().find_map(|line| line.strip_prefix("forked ")).unwrap().to_owned();
    let (problems, ended) = ask(&child, "problem");
    // SAFETY: no preconditions; it is the service's child.
    unsafe { libc::kill(child.parse().unwrap(), libc::SIGKILL) };
    assert_eq!(ended.code, 1);
    has(&problems, &format!("forked by process {}, which runs", service.pid));
}

#[test]
fn a_process_without_a_recorder_is_told_the_likely_reasons() {
    let bare = Service::start("bare");
    has(&ask(&bare.text(), "problem").0, "its executable contains a recorder");
    let mut sleep = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    // Until it is `sleep`, and no longer this test.
    let name = || std::fs::read_to_string(format!("/proc/{}/comm", sleep.id())).unwrap();
    while name() != "sleep\n" {}
    let (problems, _) = ask(&sleep.id().to_string(), "problem");
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    has(&problems, "its executable contains no recorder");
    assert_eq!(lookback(&["doctor", "4194304"]).code, 1);
    assert_eq!(lookback(&["doctor", "no such file"]).code, 1);
}

#[test]
fn a_stopped_process_is_a_warning() {
    let service = Service::start("hang");
    service.signal(libc::SIGSTOP);
    while !std::fs::read_to_string(format!("/proc/{}/stat", service.pid)).unwrap().contains(") T ")
    {
    }
    has(&ask(&service.text(), "warning").0, "stopped by a signal");
}

#[test]
fn a_process_whose_snapshots_cannot_be_saved_has_a_problem_that_says_why() {
    let directory = service::directory();
    let path = directory.path().join("snapshots");
    let service = Service::run(service::command("unsavable").env(service::SNAPSHOTS, &path));
    // It is noted with the next generation.
    service::wait_until(|| !ask(&service.text(), "problem").0.is_empty());
    let (problems, ended) = ask(&service.text(), "problem");
    let what = "saves: 1 snapshot that triggers asked for could not be saved; the last one: ";
    has(&problems, what);
    has(&problems, path.to_str().unwrap());
    assert_eq!((problems.len(), ended.code), (1, 1), "{ended:?}");
    service.kill();
}
