//! `lookback record`: every event of a service is in the files, once; files stay within their bounds; each
//! can be read alone; and the service does not notice when the command ends.

mod command;
mod service;

use command::{ended, lookback};
use lookback::Trace;
use service::{Service, held, snapshots};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn service() {
    service::serve();
}

/// `lookback record` of a service that does this.
fn recorded(task: &str, directory: &Path, options: &[&str]) -> Command {
    let run = held(task, directory, options);
    let mut record = Command::new(run.get_program());
    record.arg("record").args(run.get_args().skip(1));
    record.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    record
}

/// The numbers in the files, in the order of the files and of their events. Each file must be sound.
fn numbers(files: &[PathBuf]) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut files = files.to_vec();
    files.sort();
    for file in &files {
        let path = file.to_str().unwrap();
        let validate = lookback(&["validate", path]);
        // If the disk was full, a file ends with its last whole generation, and has no index.
        let is_cut = validate.stderr.contains("the file ends without an index");
        assert!(validate.code == 0 && validate.stderr.is_empty() || is_cut, "{validate:?}");
        let trace = Trace::open(file).unwrap();
        for event in trace.events() {
            let Ok(event) = event else { continue };
            if event.site().is_some_and(|site| site.name == "number") {
                let (_, number) = event.fields().find(|(name, _)| *name == "number").unwrap();
                numbers.push(number.to_string().parse().unwrap());
            }
        }
    }
    numbers
}

#[test]
fn every_event_of_a_service_is_in_the_files_once() {
    let directory = service::directory();
    let options = ["--file-bytes", "32KiB", "--max-bytes", "1GiB"];
    let ended = ended(&mut recorded("numbers", directory.path(), &options));
    assert_eq!(ended.code, 0, "{ended:?}");
    let files = snapshots(directory.path());
    assert!(files.len() > 2, "{files:?}: {ended:?}");
    // An overloaded machine may be slower than the window allows; then the command says so.
    let numbers = numbers(&files);
    if ended.stderr.contains("overwritten before") {
        assert!(numbers.is_sorted(), "{ended:?}");
        return;
    }
    assert!(numbers.iter().copied().eq(0..20_000), "{} numbers: {ended:?}", numbers.len());
    assert!(ended.stderr.contains(&format!("in {} files", files.len())), "{ended:?}");
}

#[test]
fn of_what_does_not_fit_the_oldest_is_deleted() {
    let directory = service::directory();
    let options = ["--file-bytes", "8KiB", "--max-bytes", "48KiB"];
    let ended = ended(&mut recorded("numbers", directory.path(), &options));
    assert_eq!(ended.code, 0, "{ended:?}");
    let files = snapshots(directory.path());
    let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    // A generation is written whole, so a file may exceed its limit by one.
    assert!(bytes <= 96 << 10, "{bytes} bytes in {files:?}");
    assert!(ended.stderr.contains("were deleted"), "{ended:?}");
    let numbers = numbers(&files);
    assert!(numbers.is_sorted() && numbers.last() == Some(&19_999), "{:?}", numbers.last());
    assert!(numbers[0] > 0, "the oldest are gone");
}

#[test]
fn a_running_process_is_recorded_until_a_signal_comes_and_goes_on() {
    let directory = service::directory();
    let service = Service::start("numbers-for-ever");
    let pid = service.child.id().to_string();
    let out = directory.path().to_str().unwrap();
    let mut record = Command::new(env!("CARGO_BIN_EXE_lookback"));
    record.args(["record", "--pid", &pid, "-o", out, "--file-bytes", "16KiB"]);
    let mut record = record.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while snapshots(directory.path()).len() < 2 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Not SIGINT, which stays ignored if the tests run in the background of a shell.
    // SAFETY: the child is ours and was not waited for.
    unsafe { libc::kill(record.id().cast_signed(), libc::SIGTERM) };
    let code = record.wait().unwrap().code();
    assert_eq!(code, Some(0));
    let numbers = numbers(&snapshots(directory.path()));
    assert!(numbers.len() > 100 && numbers.is_sorted());
    let still = lookback(&["ps"]);
    assert!(still.stdout.contains(&pid), "{still:?}");
}

#[test]
fn of_a_service_that_is_killed_the_last_seconds_are_saved_beside_the_files() {
    let directory = service::directory();
    let mut service = Service::run(&mut recorded("numbers-for-ever", directory.path(), &[]));
    let began = Instant::now();
    while snapshots(directory.path()).is_empty() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    service.signal(libc::SIGKILL);
    assert_eq!(service.child.wait().unwrap().code(), Some(137));
    let files = snapshots(directory.path());
    let [tape, last] = &files[..] else { panic!("{files:?}") };
    let (tape, last) = match tape.to_str().unwrap().ends_with("-0001.lbk") {
        true => (tape, last),
        false => (last, tape),
    };
    let (tape, last) = (numbers(std::slice::from_ref(tape)), numbers(std::slice::from_ref(last)));
    assert!(tape.is_sorted() && last.is_sorted());
    assert!(last.last() >= tape.last() && last.first() <= tape.last(), "nothing lies between them");
}

#[test]
fn on_a_full_disk_the_oldest_files_make_room_and_all_that_is_left_is_sound() {
    let directory = service::directory();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(directory.path())
        .output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        println!("skipped: this user may not mount a small file system");
        return;
    }
    let ended = ended(&mut recorded("numbers", directory.path(), &["--file-bytes", "8KiB"]));
    let files = snapshots(directory.path());
    let numbers = std::panic::catch_unwind(|| numbers(&files));
    assert!(Command::new("umount").arg(directory.path()).status().unwrap().success());
    let numbers = numbers.unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(numbers.is_sorted() && numbers.last() == Some(&19_999), "{ended:?}");
    assert!(ended.stderr.contains("were deleted"), "{ended:?}");
}

#[test]
fn what_ended_processes_of_the_same_name_left_counts_and_goes_first() {
    let directory = service::directory();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let parent = std::os::unix::process::parent_id();
    let make = |name: &str, pid: u32| {
        let path = directory.path().join(format!("{name}-{pid}-20260101T000000.000Z-0001.lbk"));
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        path
    };
    let (left, of_another, alive) =
        (make("service", gone.id()), make("other", gone.id()), make("service", parent));
    let options = ["--file-bytes", "8KiB", "--max-bytes", "512KiB"];
    let ended = ended(&mut recorded("numbers", directory.path(), &options));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!left.exists() && of_another.exists() && alive.exists(), "{ended:?}");
    assert!(snapshots(directory.path()).len() > 2, "{ended:?}");
}

#[test]
fn where_nothing_can_be_written_the_command_says_so_and_fails() {
    let service = Service::start("numbers-for-ever");
    let pid = service.child.id().to_string();
    let refused = lookback(&["record", "--pid", &pid, "-o", "/proc"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("it is no longer recorded to disk"), "{refused:?}");
}

#[test]
fn sizes_that_cannot_be_are_errors() {
    let small = lookback(&["record", "--file-bytes", "1GiB", "--", "true"]);
    assert_eq!(small.code, 1, "{small:?}");
    assert!(small.stderr.contains("at most half of --max-bytes"), "{small:?}");
    let none = lookback(&["record", "--max-bytes", "much", "--", "true"]);
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.contains("64MiB"), "{none:?}");
}
