//! Black boxes of dead processes, and files that resemble them.

mod command;
mod service;

use command::{Ended, ended, lookback};
use serde_json::Value;
use service::Service;
use std::path::Path;
use std::process::Command;

#[test]
fn service() {
    service::serve();
}

fn recover(file: &Path, out: &Path) -> Ended {
    lookback(&["recover", file.to_str().unwrap(), "-o", out.to_str().unwrap(), "--json"])
}

fn is_sound(file: &Path) {
    let validate = lookback(&["validate", file.to_str().unwrap()]);
    assert_eq!((validate.code, &*validate.stderr), (0, ""), "{validate:?}");
}

#[test]
fn a_killed_process_left_its_last_event() {
    let directory = service::directory();
    let (path, out) = (directory.path().join("a.box"), directory.path().join("a.lbk"));
    Service::with_box("hang", &path).kill();
    let ended = recover(&path, &out);
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    let json: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&json["live"], &json["ended"]), (&false.into(), &false.into()));
    assert!(json["reason"].as_str().unwrap().contains("killed"));
    let threads = json["last_events"].as_array().unwrap();
    let thread = threads.iter().find(|thread| thread["thread_name"] == "service").unwrap();
    assert_eq!(thread["events"][0]["fields"]["message"], "it works");
    is_sound(&out);
}

#[test]
#[cfg(debug_assertions)]
fn what_was_lost_at_the_end_is_counted() {
    let directory = service::directory();
    let (path, out) = (directory.path().join("a.box"), directory.path().join("a.lbk"));
    let service = Service::with_box("flood", &path);
    let lost = service.said.iter().find_map(|line| line.strip_prefix("lost ")).unwrap();
    let lost: u64 = lost.parse().unwrap();
    let from_outside = directory.path().join("b.lbk");
    let pid = service.text();
    let taken = lookback(&["snapshot", &pid, "-o", from_outside.to_str().unwrap()]);
    assert_eq!(taken.code, 0, "{taken:?}");
    service.kill();
    assert_eq!(recover(&path, &out).code, 0);
    for file in [&out, &from_outside] {
        is_sound(file);
        let info = lookback(&["info", file.to_str().unwrap(), "--json"]);
        let info: Value = serde_json::from_str(&info.stdout).unwrap();
        assert_eq!(info["recorder"]["lost_total"]["arena_full"], lost, "{info}");
        // Its generations report as much, if all of them are there.
        let told = &info["lost"]["arena_full"];
        let all = info["generations"][0]["number"] == 1;
        assert!(if all { *told == lost } else { told.as_u64() <= Some(lost) }, "{info}");
        let summary = lookback(&["summary", file.to_str().unwrap(), "--json"]);
        let summary: Value = serde_json::from_str(&summary.stdout).unwrap();
        assert_eq!(summary["losses"]["lost"]["arena_full"], *told, "{summary}");
    }
}

/// Killed while it loses events, including those of tasks: what is there is sound, and no loss is reported
/// twice.
#[test]
fn what_is_left_of_a_process_that_was_losing_is_sound() {
    for n in 0..8 {
        let directory = service::directory();
        let (path, out) = (directory.path().join("a.box"), directory.path().join("a.lbk"));
        let service = Service::with_box("tasks", &path);
        std::thread::sleep(std::time::Duration::from_millis(n * 29));
        service.kill();
        assert_eq!(recover(&path, &out).code, 0);
        is_sound(&out);
        let info = lookback(&["info", out.to_str().unwrap(), "--json"]);
        let info: Value = serde_json::from_str(&info.stdout).unwrap();
        let count = |lost: &Value| lost["arena_full"].as_u64().unwrap_or_default();
        let (told, all) = (count(&info["lost"]), count(&info["recorder"]["lost_total"]));
        assert!(told <= all, "{info}");
    }
}

/// Numbers that no process could have counted are reported all the same.
#[test]
#[cfg(debug_assertions)]
fn losses_without_number_are_survived() {
    let directory = service::directory();
    let (path, out) = (directory.path().join("a.box"), directory.path().join("a.lbk"));
    Service::with_box("flood", &path).kill();
    let mut bytes = std::fs::read(&path).unwrap();
    for cause in 1..=5 {
        let at = lookback::read::wire::offset::LOST + 8 * cause;
        bytes[at..at + 8].fill(0xff);
    }
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(recover(&path, &out).code, 0);
    is_sound(&out);
    for command in ["info", "summary", "doctor"] {
        for more in [None, Some("--json")] {
            let mut arguments = vec![command, out.to_str().unwrap()];
            arguments.extend(more);
            let ended = lookback(&arguments);
            assert!(ended.code <= 1 && !ended.stderr.contains("panicked"), "{ended:?}");
        }
    }
}

#[test]
fn a_fault_is_told_with_its_address_and_its_thread() {
    let directory = service::directory();
    let (path, out) = (directory.path().join("a.box"), directory.path().join("a.lbk"));
    let output = service::command("segfault").env("LOOKBACK_TEST_BOX", &path).output().unwrap();
    assert!(!output.status.success());
    let ended = lookback(&["recover", path.to_str().unwrap(), "-o", out.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("SIGSEGV at address 0x10 in thread"), "{}", ended.stdout);
    let row = ended.stdout.lines().find(|line| line.contains("← here")).expect(&ended.stdout);
    assert!(row.contains("it works"), "{row}");
}

#[test]
fn a_running_process_is_not_taken_for_a_dead_one() {
    let directory = service::directory();
    let (path, out) = (directory.path().join("a.box"), directory.path().join("a.lbk"));
    let service = Service::with_box("spin", &path);
    let ended = recover(&path, &out);
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    let json: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&json["live"], &json["process"]["pid"]), (&true.into(), &service.pid.into()));
    is_sound(&out);
}

#[test]
fn a_cut_box_yields_what_is_whole() {
    let directory = service::directory();
    let path = directory.path().join("a.box");
    Service::with_box("hang", &path).kill();
    let whole = std::fs::read(&path).unwrap();
    let header = lookback::read::wire::offset::DATA;
    for at in [1, 8, 1000, header - 1, header, header + 100] {
        let cut = directory.path().join(format!("cut-{at}"));
        std::fs::write(&cut, &whole[..at]).unwrap();
        let ended = recover(&cut, &directory.path().join("none.lbk"));
        assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{at}: {ended:?}");
        assert!(ended.stderr.contains(cut.to_str().unwrap()));
    }
    for at in [header + 20_000, whole.len() - 4096, whole.len() - 1] {
        let (cut, out) = (directory.path().join("cut"), directory.path().join("cut.lbk"));
        std::fs::write(&cut, &whole[..at]).unwrap();
        let ended = recover(&cut, &out);
        assert_eq!(ended.code, 1, "it is damaged, {at}: {ended:?}");
        assert!(ended.stderr.contains("it was cut"), "{ended:?}");
        let json: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert!(json["events"].as_u64().unwrap() > 500, "{at}: {json}");
        assert!(!json["damage"].as_array().unwrap().is_empty());
        assert!(out.exists());
    }
}

#[test]
fn nothing_is_overwritten_unless_it_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let directory = service::directory();
    let path = directory.path().join("a.box");
    Service::with_box("hang", &path).kill();
    let working = tempfile::tempdir().unwrap();
    for name in ["a.box.lbk", "a.box-2.lbk", "a.box-3.lbk"] {
        let mut command = Command::new(command::LOOKBACK);
        let ended = ended(command.arg("recover").arg(&path).current_dir(working.path()));
        assert_eq!(ended.code, 0, "{ended:?}");
        let file = working.path().join(name);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(ended.stdout.starts_with(name), "{ended:?}");
    }
    let named = working.path().join("a.box.lbk");
    std::fs::write(&named, "old").unwrap();
    assert_eq!(recover(&path, &named).code, 0);
    is_sound(&named);
    let itself = recover(&path, &path);
    assert_eq!(itself.code, 1, "{itself:?}");
}

#[test]
fn what_is_no_black_box_gets_one_line() {
    let directory = service::directory();
    let at = |name: &str| directory.path().join(name);
    Service::with_box("hang", &at("a.box")).kill();
    let out = at("a.lbk");
    assert_eq!(recover(&at("a.box"), &out).code, 0);
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("text"), "This is the log of yesterday.").unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    std::os::unix::fs::symlink(at("a.box"), at("link")).unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    for (name, reason) in [
        ("empty", "the file is empty"),
        ("text", "not a black box"),
        ("directory", "a directory"),
        ("link", "a symbolic link"),
        ("fifo", "a FIFO"),
        ("a.lbk", "`lookback info"),
        ("none", "no such file"),
    ] {
        let ended = recover(&at(name), &at("none.lbk"));
        assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{ended:?}");
        assert!(ended.stderr.contains(reason), "{ended:?}");
        assert!(!at("none.lbk").exists());
    }
    assert_eq!(lookback(&["recover", "/dev/null"]).code, 1);
    for command in ["info", "events", "summary", "validate"] {
        let ended = lookback(&[command, at("a.box").to_str().unwrap()]);
        assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{ended:?}");
        assert!(ended.stderr.contains("`lookback recover"), "{ended:?}");
    }
}

#[test]
fn a_file_that_is_truncated_while_it_is_read_harms_nobody() {
    let directory = service::directory();
    let path = directory.path().join("a.box");
    Service::with_box("hang", &path).kill();
    let whole = std::fs::read(&path).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let done = &std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            use std::os::unix::fs::FileExt;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                file.set_len(100_000).unwrap();
                file.write_all_at(&whole, 0).unwrap();
            }
        });
        for number in 0..20 {
            let ended = recover(&path, &directory.path().join(format!("{number}.lbk")));
            assert!([0, 1].contains(&ended.code), "{ended:?}");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
