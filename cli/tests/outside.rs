//! Snapshots of other processes, whatever state these are in, and the list of them.

mod command;
mod service;

use command::lookback;
use lookback::Trace;
use serde_json::Value;
use service::Service;
use std::path::Path;

#[test]
fn service() {
    service::serve();
}

/// Takes a snapshot of a process, checks that it is sound, and returns the command's output.
fn snapshot(service: &Service, directory: &Path) -> (Value, String) {
    let out = directory.join("a.lbk");
    let (pid, out) = (service.text(), out.to_str().unwrap());
    let taken = lookback(&["snapshot", &pid, "-o", out]);
    assert_eq!((taken.code, &*taken.stderr), (0, ""), "{taken:?}");
    let validate = lookback(&["validate", out]);
    assert_eq!((validate.code, &*validate.stderr), (0, ""), "{validate:?}");
    let json = lookback(&["snapshot", &pid, "-o", out, "--json"]);
    assert_eq!(json.code, 0, "{json:?}");
    (serde_json::from_str(&json.stdout).unwrap(), taken.stdout)
}

fn thread<'a>(json: &'a Value, name: &str) -> &'a Value {
    let threads = json["last_events"].as_array().unwrap();
    threads.iter().find(|thread| thread["thread_name"] == name).expect(name)
}

#[test]
fn two_threads_that_wait_for_each_other_are_named() {
    let directory = service::directory();
    let service = Service::start("deadlock");
    let (json, text) = snapshot(&service, directory.path());
    for (name, region, wants) in
        [("forth", "transfer_forth", "second"), ("back", "transfer_back", "first")]
    {
        let thread = thread(&json, name);
        assert_eq!(thread["inside"][0], region, "{thread}");
        assert_eq!(thread["events"][0]["name"], "wants");
        assert_eq!(thread["events"][0]["fields"]["lock"], wants);
        let line = text.lines().find(|line| line.contains(&format!(" {name}#"))).expect(&text);
        assert!(line.contains("wants") && line.contains(wants) && line.contains(region), "{line}");
        // It can be found by the label shown there.
        let called =
            line.split_whitespace().find(|word| word.starts_with(&format!("{name}#"))).unwrap();
        let file = directory.path().join("a.lbk");
        let events = lookback(&["events", file.to_str().unwrap(), "--thread", called]);
        assert!(events.code == 0 && events.stdout.contains(region), "{events:?}");
    }
    assert_eq!((&json["over"], &json["standstill"]), (&false.into(), &Value::Null));
}

#[test]
fn a_deadlock_is_a_finding_of_the_summary() {
    let directory = service::directory();
    let service = Service::start("locks");
    // A task that waits for less than a second may still continue.
    std::thread::sleep(std::time::Duration::from_millis(1050));
    snapshot(&service, directory.path());
    let file = directory.path().join("a.lbk");
    let summary = lookback(&["summary", "--json", file.to_str().unwrap()]);
    let summary: Value = serde_json::from_str(&summary.stdout).unwrap();
    let findings = summary["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["analysis"] != "standing"), "it is told once");
    let finding = &findings[0];
    let title = finding["title"].as_str().unwrap();
    assert!(title.starts_with("Deadlock, suspected: "), "{title}");
    let evidence = finding["evidence"].as_array().unwrap().iter();
    let is_in_region =
        |one: &Value| one["what"].as_str().unwrap().contains("inside of `lock account`");
    assert!(evidence.clone().all(is_in_region), "{finding:#}");
    let mut threads: Vec<_> = evidence.map(|one| one["thread_name"].as_str().unwrap()).collect();
    threads.sort_unstable();
    assert_eq!(threads, ["back", "forth"]);
}

#[test]
fn a_stopped_process_is_read_as_any_other() {
    let directory = service::directory();
    let service = Service::start("hang");
    service.signal(libc::SIGSTOP);
    while !std::fs::read_to_string(format!("/proc/{}/stat", service.pid)).unwrap().contains(") T ")
    {
    }
    let (json, text) = snapshot(&service, directory.path());
    assert_eq!(json["standstill"], "stopped by a signal");
    assert!(text.contains("stopped by a signal"), "{text}");
    let last = thread(&json, "service");
    assert_eq!(last["events"][0]["fields"]["message"], "it works", "{last}");
}

#[test]
fn a_process_that_spins_is_read_while_it_does() {
    let directory = service::directory();
    let service = Service::start("spin");
    for _ in 0..5 {
        let (json, _) = snapshot(&service, directory.path());
        assert!(json["events"].as_u64().unwrap() > 0, "{json}");
    }
}

#[test]
fn a_process_that_has_closed_all_descriptors_is_read_all_the_same() {
    let directory = service::directory();
    let service = Service::start("closed");
    let (json, _) = snapshot(&service, directory.path());
    assert!(json["events"].as_u64().unwrap() > 1000);
}

#[test]
fn without_a_name_a_snapshot_is_called_as_the_recorder_calls_them() {
    use std::os::unix::fs::PermissionsExt;
    let directory = service::directory();
    let service = Service::start("hang");
    let mut command = std::process::Command::new(command::LOOKBACK);
    command.args(["snapshot", &service.text()]).current_dir(directory.path());
    let (one, two) = (command::ended(&mut command), command::ended(&mut command));
    assert_eq!((one.code, two.code), (0, 0), "{one:?} {two:?}");
    let files = service::snapshots(directory.path());
    assert_eq!(files.len(), 2, "none is overwritten");
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(&format!("service-{}-20", service.pid)), "{name}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Trace::open(&file).is_ok());
    }
}

#[test]
fn what_cannot_be_taken_gets_one_line() {
    for (pid, code, reason) in [
        ("4194304", 1, "no such process"),
        ("0", 2, "`lookback ps` lists"),
        ("my-service", 2, "`lookback ps` lists"),
        ("18446744073709551616", 2, "`lookback ps` lists"),
    ] {
        let ended = lookback(&["snapshot", pid]);
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.stderr.contains(reason), "{ended:?}");
        assert!(code == 2 || ended.stderr.lines().count() == 1, "{ended:?}");
    }
}

#[test]
fn who_asks_the_doctor_for_a_name_is_told_where_numbers_are() {
    for target in ["my-service", "0", "18446744073709551616"] {
        let ended = lookback(&["doctor", target]);
        assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{ended:?}");
        assert!(
            ended.stderr.contains(target) && ended.stderr.contains("`lookback ps` lists"),
            "{ended:?}"
        );
    }
}

#[test]
fn recorded_processes_are_listed() {
    let directory = service::directory();
    let path = directory.path().join("a box");
    let (one, two) = (Service::start("hang"), Service::with_box("spin", &path));
    let bare = Service::start("bare");
    let rows = || -> Vec<Value> {
        let list = lookback(&["ps", "--json"]);
        assert_eq!((list.code, &*list.stderr), (0, ""));
        serde_json::from_str(&list.stdout).unwrap()
    };
    let row = |service: &Service| rows().into_iter().find(|row| row["pid"] == service.pid);
    let (first, second) = (row(&one).unwrap(), row(&two).unwrap());
    assert_eq!((&first["name"], &first["black_box"]), (&"service".into(), &Value::Null));
    assert_eq!(second["black_box"], path.to_str().unwrap());
    assert!(second["used_bytes"].as_u64() <= second["capacity_bytes"].as_u64());
    assert_eq!(row(&bare), None);
    while row(&two).unwrap()["events_per_second"].as_f64().is_none_or(|rate| rate < 1.0) {}
    let text = lookback(&["ps"]).stdout;
    assert!(text.contains("memory") && text.contains("service"), "{text}");
    one.kill();
}

#[test]
fn a_list_in_a_pipe_cuts_no_path_and_says_what_stands_still() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a-name-that-is-too-long-for-the-rest-of-a-row.box");
    let service = Service::with_box("hang", &path);
    service.signal(libc::SIGSTOP);
    let row = || {
        let list = lookback(&["ps"]).stdout;
        list.lines().find(|line| line.contains(&*path.to_string_lossy())).map(str::to_owned)
    };
    // It stops when it gets the signal.
    while !row().expect("its path is there").contains("stopped by a signal, /") {
        std::thread::yield_now();
    }
}

#[test]
fn of_a_process_that_is_over_it_says_so() {
    let mut service = Service::start("hang");
    service.child.kill().unwrap();
    // SAFETY: the information is plain data, and the process is a child that stays.
    let ended = unsafe {
        let mut information = std::mem::zeroed();
        let how = libc::WEXITED | libc::WNOWAIT;
        libc::waitid(libc::P_PID, service.child.id(), &mut information, how)
    };
    assert_eq!(ended, 0);
    let asked = lookback(&["snapshot", &service.text()]);
    assert_eq!((asked.code, asked.stderr.lines().count()), (1, 1), "{asked:?}");
    assert!(asked.stderr.contains("it has ended"), "{asked:?}");
}

#[test]
fn without_the_right_to_look_the_error_says_what_helps() {
    let service = Service::start("hang");
    // As the user `nobody`; if this test is not root, everything belongs to one user.
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    let binary = copy.path().join("lookback");
    // By another process: while this one has it open, a test that forks keeps it from being executed.
    let copy_to = |from: &Path, to: &Path| {
        let mut command = std::process::Command::new("cp");
        assert!(command.arg(from).arg(to).status().unwrap().success());
    };
    copy_to(Path::new(command::LOOKBACK), &binary);
    let open = |path: &Path| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    };
    open(copy.path());
    open(&binary);
    let as_nobody = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&binary);
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        let output = command.args(arguments).output().unwrap();
        command::Ended {
            code: output.status.code().expect("it was not killed"),
            // It may be a snapshot.
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    };
    let nobody = |task: &str| {
        let test = copy.path().join("test");
        if !test.exists() {
            copy_to(&std::env::current_exe().unwrap(), &test);
            open(&test);
        }
        let mut command = std::process::Command::new(&test);
        command.args(["service", "--exact", "--nocapture"]).env("LOOKBACK_TEST_SERVICE", task);
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        Service::run(command.current_dir("/"))
    };
    let own = nobody("hang");
    assert_eq!(
        as_nobody(&["snapshot", &own.text(), "-o", "-"]).code,
        0,
        "its own it may look into"
    );
    assert!(as_nobody(&["ps"]).stdout.contains("service"));
    // Where the kernel restricts attaching, not even the stacks of one's own.
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    let stacks = as_nobody(&["stacks", &own.text()]);
    if yama.is_ok_and(|scope| scope.trim() != "0") {
        assert!(stacks.stderr.contains("ptrace_scope"), "{stacks:?}");
    } else {
        assert!(stacks.stdout.contains("hang"), "{stacks:?}");
    }
    own.kill();
    let hidden = nobody("undumpable");
    let doctor = as_nobody(&["doctor", &hidden.text()]);
    assert_eq!(doctor.code, 1);
    assert!(doctor.stdout.contains("not dumpable (prctl"), "{doctor:?}");
    assert!(as_nobody(&["ps"]).stdout.contains("cannot be looked into"));
    hidden.kill();
    let ended = as_nobody(&["snapshot", &service.text()]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{ended:?}");
    assert!(ended.stderr.contains("CAP_SYS_PTRACE") && ended.stderr.contains("black box"));
    let stacks = as_nobody(&["stacks", &service.text()]);
    assert_eq!((stacks.code, stacks.stderr.lines().count()), (1, 1), "{stacks:?}");
    assert!(stacks.stderr.contains("its stacks cannot be read (Permission denied"), "{stacks:?}");
    assert!(stacks.stderr.contains("CAP_SYS_PTRACE"), "{stacks:?}");
    let list = as_nobody(&["ps"]);
    assert_eq!((list.code, &*list.stderr), (0, ""));
    assert!(list.stdout.starts_with("No process"), "{list:?}");
    let doctor = as_nobody(&["doctor", &service.text()]);
    assert_eq!(doctor.code, 1);
    assert!(doctor.stdout.contains("belongs to user 0"), "{doctor:?}");
}

#[test]
fn whatever_a_process_passes_off_as_its_arena_is_survived() {
    use lookback::read::wire::{ARENA_MAGIC, offset};
    use std::os::unix::fs::FileExt;
    let directory = service::directory();
    let out = directory.path().join("a.lbk");
    let hostile = Service::start("hostile");
    let number = hostile.said.iter().find_map(|line| line.strip_prefix("arena ")).unwrap();
    let path = format!("/proc/{}/fd/{number}", hostile.pid);
    let arena = std::fs::File::options().write(true).open(path).unwrap();
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..60 {
        let mut bytes = vec![0; service::HOSTILE_BYTES];
        bytes[..8].copy_from_slice(&ARENA_MAGIC);
        let mut put =
            |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(offset::VERSION, 1 | (offset::DATA as u64) << 32);
        put(offset::CAPACITY, 64 << 10);
        put(offset::PID, hostile.pid.into());
        // Small numbers, adjacent numbers, and numbers at the end of the range.
        let mut odd = || match random() % 4 {
            0 => random() % 4,
            1 => 1024 + random() % 4,
            2 => u64::MAX - random() % 3,
            _ => random(),
        };
        for at in [offset::HEAD, offset::TAIL, offset::OLDEST, offset::COMPLETE, offset::RUNNING] {
            put(at, odd());
        }
        for at in (offset::GENERATIONS..offset::DATA).step_by(8) {
            put(at, odd());
        }
        for index in 0..1024 {
            put(offset::GENERATIONS + index * offset::ENTRY, (index as u64) + (odd() % 3) * 1024);
        }
        if odd() % 4 == 0 {
            put(offset::PROCESS_START + (odd() % 100) as usize * 8, odd());
        }
        arena.write_all_at(&bytes, 0).unwrap();
        let pid = hostile.text();
        let commands = [
            &["ps"][..],
            &["ps", "--json"],
            &["snapshot", &pid, "-o", out.to_str().unwrap()],
            &["doctor", &pid],
        ];
        for command in commands {
            let ended = lookback(command);
            assert!([0, 1].contains(&ended.code), "{command:?}: {ended:?}");
            assert!(!ended.stderr.contains("panicked"), "{command:?}: {ended:?}");
        }
        let row = lookback(&["ps"]).stdout;
        assert!(row.contains(&pid), "there is a line for it: {row}");
    }
}

#[test]
fn of_two_recorders_in_a_process_each_is_listed_and_one_is_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start("twice");
    let pid = service.text();
    let list = lookback(&["ps", "--json"]);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    let ours = list.as_array().unwrap().iter().filter(|row| row["pid"] == service.pid);
    let numbers: Vec<_> = ours.map(|row| row["recorder"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2]);
    let out = directory.path().join("a.lbk");
    let out = out.to_str().unwrap();
    let neither = lookback(&["snapshot", &pid, "-o", out]);
    assert_eq!((neither.code, &*neither.stdout), (1, ""), "{neither:?}");
    let said = "several recorders run in it: 1 (service, memory), 2 (service, memory); choose one with `--recorder N`";
    assert!(neither.stderr.contains(said) && !Path::new(out).exists(), "{neither:?}");
    for number in ["1", "2"] {
        let taken = lookback(&["snapshot", &pid, "-o", out, "--recorder", number]);
        assert_eq!((taken.code, &*taken.stderr), (0, ""), "{taken:?}");
        let doctor = lookback(&["doctor", &pid, "--recorder", number]);
        assert!(!doctor.stdout.contains("several run"), "{doctor:?}");
    }
    let third = lookback(&["snapshot", &pid, "-o", out, "--recorder", "3"]);
    assert!(
        third.code == 1 && third.stderr.contains("no such recorder; there is 1 ("),
        "{third:?}"
    );
    let doctor = lookback(&["doctor", &pid]);
    assert!(
        doctor.stdout.contains("several recorders run in the process: 1 (service, memory), 2"),
        "{doctor:?}"
    );
    assert_eq!(doctor.stdout.matches("number 2").count(), 1, "{doctor:?}");
    assert!(lookback(&["doctor", &pid, "--recorder", "1"]).code == 0);
}
