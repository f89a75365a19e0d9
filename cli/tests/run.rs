//! A service under `lookback run`: however it ends, its last seconds are there, and its exit code is passed
//! on.

mod command;
mod service;

use command::{Ended, ended, lookback};
use lookback::Trace;
use lookback::read::wire::key;
use serde_json::Value;
use service::{Service, held, snapshots};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

#[test]
fn service() {
    service::serve();
}

/// The reason of the only snapshot in a directory, which must be sound and have the last event.
fn reason(directory: &Path) -> String {
    let [file] = &snapshots(directory)[..] else { panic!("{:?}", snapshots(directory)) };
    let path = file.to_str().unwrap();
    let validate = lookback(&["validate", path]);
    assert_eq!((validate.code, &*validate.stderr), (0, ""), "{validate:?}");
    let events = lookback(&["events", path, "--kind", "log"]);
    assert!(events.stdout.contains("it works"), "{events:?}");
    let trace = Trace::open(file).unwrap();
    assert_eq!(trace.metadata().text(key::TRIGGER), Some("run"));
    trace.metadata().text(key::REASON).unwrap().to_owned()
}

/// Our lines on stderr.
fn said(ended: &Ended) -> Vec<&str> {
    ended.stderr.lines().filter(|line| line.starts_with("lookback: ")).collect()
}

#[test]
fn however_a_service_ends_its_last_seconds_are_saved() {
    for (task, code, why) in [
        ("abort", 134, "SIGABRT in thread"),
        ("segfault", 139, "SIGSEGV at address 0x10 in thread"),
        ("exit-3", 3, "exited with 3"),
    ] {
        let directory = service::directory();
        let ended = ended(&mut held(task, directory.path(), &[]));
        assert_eq!(ended.code, code, "{task}: {ended:?}");
        let reason = reason(directory.path());
        assert!(reason.starts_with(why), "{task}: {reason}");
        let [line] = &said(&ended)[..] else { panic!("{ended:?}") };
        assert!(line.contains(why) && line.contains(directory.path().to_str().unwrap()), "{line}");
    }
}

#[test]
fn a_directory_that_has_vanished_is_made_again() {
    let place = service::directory();
    let directory = place.path().join("incidents");
    let mut service = Service::run(&mut held("hang", &directory, &[]));
    std::fs::remove_dir(&directory).unwrap();
    service.signal(libc::SIGKILL);
    service.child.wait().unwrap();
    assert_eq!(reason(&directory), "killed by SIGKILL");
}

#[test]
fn a_panic_is_saved_and_its_code_passed_on() {
    let directory = service::directory();
    let ended = ended(&mut held("panic", directory.path(), &[]));
    // The recorder is dropped while the stack unwinds, so this is an orderly end; with 101.
    assert_eq!(ended.code, 101, "{ended:?}");
    assert_eq!(reason(directory.path()), "exited with 101");
}

#[test]
fn an_abort_by_a_panic_that_no_hook_saw_is_told() {
    let directory = service::directory();
    assert_eq!(ended(&mut held("panic-unseen", directory.path(), &[])).code, 134);
    let reason = reason(directory.path());
    assert!(reason.starts_with("SIGABRT in thread"), "{reason}");
    assert!(reason.ends_with(", which panicked; the panic hook was replaced"), "{reason}");
}

#[test]
fn an_end_in_order_is_not_saved_unless_asked_for() {
    let directory = service::directory();
    let quiet = ended(&mut held("in-order", directory.path(), &[]));
    assert_eq!((quiet.code, said(&quiet).len()), (0, 0), "{quiet:?}");
    assert!(snapshots(directory.path()).is_empty());
    let always = ended(&mut held("in-order", directory.path(), &["--always"]));
    assert_eq!(always.code, 0, "{always:?}");
    assert_eq!(reason(directory.path()), "exited with 0");
}

/// Starts a service under `lookback run`, kills it, and returns how that ended.
fn kill(command: &mut Command, signal: libc::c_int) -> (i32, Service) {
    let mut service = Service::run(command);
    service.signal(signal);
    let code = service.child.wait().unwrap().code().expect("it was not killed itself");
    (code, service)
}

#[test]
fn a_killed_service_is_saved() {
    for task in ["hang", "spin", "closed", "deadlock"] {
        let directory = service::directory();
        let (code, _) = kill(&mut held(task, directory.path(), &[]), libc::SIGKILL);
        assert_eq!(code, 137, "{task}");
        if task != "spin" {
            assert_eq!(reason(directory.path()), "killed by SIGKILL", "{task}");
            continue;
        }
        // Its log may be outside the window by then; everything else is as it should be.
        let [file] = &snapshots(directory.path())[..] else { panic!("{task}") };
        let validate = lookback(&["validate", file.to_str().unwrap()]);
        assert_eq!((validate.code, &*validate.stderr), (0, ""), "{validate:?}");
    }
}

#[test]
fn a_black_box_stays_where_it_is() {
    let directory = service::directory();
    let path = directory.path().join("a.box");
    let mut command = held("hang", directory.path(), &[]);
    let (code, _) = kill(command.env("LOOKBACK_TEST_BOX", &path), libc::SIGKILL);
    assert_eq!((code, &*reason(directory.path())), (137, "killed by SIGKILL"));
    let out = directory.path().join("a");
    let recovered = lookback(&["recover", path.to_str().unwrap(), "-o", out.to_str().unwrap()]);
    assert_eq!(recovered.code, 0, "{recovered:?}");
}

#[test]
fn what_a_shell_starts_is_held_too() {
    let directory = service::directory();
    let mut command = Command::new(command::LOOKBACK);
    command.args(["run", "-o"]).arg(directory.path()).args(["--", "sh", "-c"]);
    command.arg("\"$0\" service --exact --nocapture; echo shell: $?; exit 5");
    command.arg(std::env::current_exe().unwrap()).env("LOOKBACK_TEST_SERVICE", "hang");
    let (code, _) = kill(&mut command, libc::SIGKILL);
    assert_eq!(code, 5, "the shell's own");
    assert!(reason(directory.path()).contains("killed"));
}

#[test]
fn what_is_left_behind_is_waited_for() {
    let directory = service::directory();
    let mut command = held("parent", directory.path(), &[]);
    let mut service = Service::run(&mut command);
    // Until the command is reaped, a signal would go to it, and it is ending.
    let mut lines = BufReader::new(service.child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("left behind")));
    std::thread::spawn(move || lines.for_each(drop));
    assert!(snapshots(directory.path()).is_empty());
    // A signal goes to the remaining processes.
    // SAFETY: no preconditions.
    unsafe { libc::kill(service.child.id().cast_signed(), libc::SIGUSR1) };
    assert_eq!(service.child.wait().unwrap().code(), Some(4), "that of the command");
    assert_eq!(reason(directory.path()), "killed by SIGUSR1");
}

#[test]
fn an_end_that_was_asked_for_is_no_incident() {
    for (task, code) in [("hang", 143), ("quits", 0), ("quits-143", 143)] {
        for always in [false, true] {
            let directory = service::directory();
            let options: &[&str] = if always { &["--always"] } else { &[] };
            let mut command = held(task, directory.path(), options);
            heed_signals(&mut command);
            let mut service = Service::run(&mut command);
            // SAFETY: no preconditions.
            unsafe { libc::kill(service.child.id().cast_signed(), libc::SIGTERM) };
            assert_eq!(service.child.wait().unwrap().code(), Some(code), "{task}");
            let saved = snapshots(directory.path());
            assert_eq!(saved.len(), usize::from(always), "{task}: {saved:?}");
        }
    }
    // A signal that went to the service alone, by another program, is one.
    let directory = service::directory();
    let mut command = held("hang", directory.path(), &[]);
    heed_signals(&mut command);
    let (code, _) = kill(&mut command, libc::SIGTERM);
    assert_eq!((code, &*reason(directory.path())), (143, "killed by SIGTERM"));
}

#[test]
fn a_service_that_dies_again_and_again_does_not_fill_the_disk() {
    let directory = service::directory();
    let kept = |options: &[&str], variables: &[(&str, &str)]| {
        for _ in 0..4 {
            let mut command = held("abort", directory.path(), options);
            command.envs(variables.iter().copied());
            assert_eq!(ended(&mut command).code, 134);
        }
        snapshots(directory.path())
    };
    let by_option = kept(&["--files", "2"], &[("LOOKBACK_SNAPSHOT_FILES", "3")]);
    assert_eq!(by_option.len(), 2, "{by_option:?}");
    let by_variable = kept(&[], &[("LOOKBACK_SNAPSHOT_FILES", "3")]);
    assert_eq!(by_variable.len(), 3, "{by_variable:?}");
    let by_bytes = kept(&["--max-bytes", "1"], &[]);
    assert_eq!(by_bytes.len(), 1, "the newest stays: {by_bytes:?}");
    assert!(by_bytes[0].to_str().unwrap().ends_with("-run.lbk"), "{by_bytes:?}");
    let wrong = held("abort", directory.path(), &[]).env("LOOKBACK_SNAPSHOT_FILES", "few").output();
    let wrong = String::from_utf8(wrong.unwrap().stderr).unwrap();
    assert!(wrong.contains("LOOKBACK_SNAPSHOT_FILES = \"few\": expected a number"), "{wrong}");
}

/// A process that a shell starts in the background, or `nohup`, ignores some signals, and so does everything
/// that it starts. This one does not.
fn heed_signals(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: these may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM, libc::SIGUSR1] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

#[test]
fn signals_are_passed_on() {
    for (signal, code) in [(libc::SIGTERM, 7), (libc::SIGUSR1, 8), (libc::SIGHUP, 8)] {
        let directory = service::directory();
        let mut command = held("signal", directory.path(), &[]);
        heed_signals(&mut command);
        let service = Service::run(&mut command);
        is_passed_on(service.child.id(), signal, code, service, &directory);
    }
}

/// A signal to process `to` makes the service exit with this code.
fn is_passed_on(
    to: u32,
    signal: libc::c_int,
    code: i32,
    mut service: Service,
    directory: &tempfile::TempDir,
) {
    // SAFETY: no preconditions.
    unsafe { libc::kill(to.cast_signed(), signal) };
    let ended = service.child.wait().unwrap().code();
    let told = std::io::read_to_string(service.child.stderr.take().unwrap()).unwrap();
    assert_eq!(ended, Some(code), "{signal}: {told}");
    assert_eq!(reason(directory.path()), format!("exited with {code}"));
}

#[test]
fn what_a_terminal_sends_arrives_once() {
    use std::io::Write;
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::os::unix::process::CommandExt;
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: both are valid places for a descriptor; the rest may be left out.
    let opened = unsafe { libc::openpty(&mut ours, &mut theirs, null, null.cast(), null.cast()) };
    assert_eq!(opened, 0);
    // SAFETY: new descriptors, which nothing else owns.
    let (terminal, theirs) =
        unsafe { (std::fs::File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let directory = service::directory();
    let mut command = held("count", directory.path(), &[]);
    let end = || theirs.try_clone().unwrap();
    command.stdin(end()).stdout(end()).stderr(end());
    heed_signals(&mut command);
    // SAFETY: all of these may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let led = libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0;
            if led { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        })
    };
    let mut run = command.spawn().unwrap();
    let lines = BufReader::new(terminal.try_clone().unwrap()).lines().map_while(Result::ok);
    let mut lines = lines.map(|line| line.trim_end().to_owned());
    let mut wait_for = |what: &str| assert!(lines.any(|line| line.contains(what)), "{what}");
    wait_for("service is ready");
    (&terminal).write_all(b"\x03").unwrap();
    wait_for("interrupted");
    let send = |signal| {
        // SAFETY: no preconditions.
        unsafe { libc::kill(run.id().cast_signed(), signal) };
    };
    // Of two pending signals of a kind, the kernel keeps only one.
    service::wait_until(|| !service::is_pending(run.id(), libc::SIGINT));
    send(libc::SIGINT);
    wait_for("interrupted");
    send(libc::SIGTERM);
    assert_eq!(run.wait().unwrap().code(), Some(2), "one of each");
}

#[test]
fn the_service_outlives_its_holder() {
    let directory = service::directory();
    let mut service = Service::run(&mut held("hang", directory.path(), &[]));
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    let list: Value = serde_json::from_str(&lookback(&["ps", "--json"]).stdout).unwrap();
    assert!(list.as_array().unwrap().iter().any(|row| row["pid"] == service.pid), "{list}");
    service.signal(libc::SIGKILL);
}

#[test]
fn a_command_that_records_nothing_is_told_so() {
    let run = |arguments: &[&str]| lookback(&[&["run", "--"], arguments].concat());
    for (arguments, code) in
        [(&["true"][..], 0), (&["sh", "-c", "exit 9"], 9), (&["sh", "-c", "kill -TERM $$"], 143)]
    {
        let ended = run(arguments);
        assert_eq!(ended.code, code, "{ended:?}");
        let [line] = &said(&ended)[..] else { panic!("{ended:?}") };
        assert!(line.contains("no recorder handed its arena over"), "{line}");
    }
    let missing = run(&["/no/such/command"]);
    assert_eq!((missing.code, said(&missing).len()), (127, 1), "{missing:?}");
    assert_eq!(run(&["/dev/null"]).code, 126);
    assert_eq!(lookback(&["run"]).code, 2);
}

/// A command in a namespace of its own; `None` if this process may not make one.
fn unshare(rest: &[&str]) -> Option<Command> {
    let command = |rest: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc"]).args(rest);
        command
    };
    let output = command(&["true"]).output();
    output.is_ok_and(|output| output.status.success()).then(|| command(rest))
}

/// After entering a container, a process's group and session may lie outside: then both are 0.
#[test]
fn signals_are_passed_on_in_a_namespace_that_was_entered() {
    for (signal, code) in [(libc::SIGTERM, 7), (libc::SIGHUP, 8)] {
        let Some(mut command) = unshare(&[command::LOOKBACK, "run", "-o"]) else { return };
        let directory = service::directory();
        command.arg(directory.path()).arg(std::env::current_exe().unwrap());
        command.args(["service", "--exact", "--nocapture", "--test-threads=1"]);
        heed_signals(command.env("LOOKBACK_TEST_SERVICE", "signal"));
        let service = Service::run(&mut command);
        let outside = service.child.id();
        let children = std::fs::read_to_string(format!("/proc/{outside}/task/{outside}/children"));
        let run = children.unwrap().trim().parse().unwrap();
        is_passed_on(run, signal, code, service, &directory);
    }
}

#[test]
fn as_process_1_of_a_namespace_it_takes_leave_of_orphans() {
    let script = "for n in 1 2 3; do (sh -c 'exit 1' &); done; \
                  for n in $(seq 600); do sleep 0.1; \
                  grep -q '^State:.Z' /proc/[0-9]*/status || exit 6; done";
    let Some(mut orphaning) = unshare(&[command::LOOKBACK, "run", "--", "sh", "-c", script]) else {
        return;
    };
    let ended = ended(&mut orphaning);
    assert_eq!((ended.code, &*ended.stdout), (6, ""), "{ended:?}");
    let directory = service::directory();
    let mut command = unshare(&[command::LOOKBACK, "run", "-o"]).unwrap();
    command.arg(directory.path()).arg(std::env::current_exe().unwrap());
    command.args(["service", "--exact", "--nocapture"]).env("LOOKBACK_TEST_SERVICE", "abort");
    assert_eq!(command::ended(&mut command).code, 134);
    assert!(reason(directory.path()).starts_with("SIGABRT"));
}

#[test]
fn no_arena_is_handed_over_to_another_user() {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    // If this test is not root, everything belongs to one user.
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let as_user = |test: &Path, user| {
        let mut command = Command::new(test);
        command.args(["service", "--exact", "--nocapture"]).uid(user).current_dir("/");
        command
    };
    // The path of a socket must be short, and the other user must be able to reach and execute the program:
    // not every TMPDIR allows that, nor every /dev/shm.
    let places = [std::env::temp_dir(), "/dev/shm".into(), "/tmp".into(), "/var/tmp".into()];
    let found = places.iter().find_map(|place| {
        let place = tempfile::tempdir_in(place).ok()?;
        let (test, socket) = (place.path().join("test"), place.path().join("socket"));
        let listener = std::os::unix::net::UnixListener::bind(&socket).ok()?;
        // By another process: while this one has it open, a test that forks keeps it from being executed.
        let mut copy = Command::new("cp");
        copy.arg(std::env::current_exe().unwrap())
            .arg(&test)
            .status()
            .ok()?
            .success()
            .then_some(())?;
        for path in [place.path(), &test, &socket] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).ok()?;
        }
        // With nothing to do, it ends.
        let runs = as_user(&test, 65534).output().is_ok_and(|output| output.status.success());
        runs.then_some((place, test, socket, listener))
    });
    let (_place, test, socket, listener) =
        found.unwrap_or_else(|| panic!("another user can run nothing in any of {places:?}"));
    for (user, bytes) in [(65534, 0), (0, 1)] {
        let mut command = as_user(&test, user);
        command.env("LOOKBACK_TEST_SERVICE", "hang").env(lookback::command::RUN_SOCKET, &socket);
        let service = Service::run(&mut command);
        let mut handed_over = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut handed_over).unwrap();
        assert_eq!(handed_over.len(), bytes, "to root, by user {user}");
        service.kill();
    }
}

#[test]
fn without_a_place_for_its_socket_the_service_runs_all_the_same() {
    // A path that is too long for a socket, in every directory.
    let place = tempfile::tempdir().unwrap();
    let long = place.path().join("x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    let Some(mut command) = mount_away("/dev/shm") else { return };
    command.args([command::LOOKBACK, "run", "--", "sh", "-c", "echo $LOOKBACK_RUN_SOCKET; exit 7"]);
    command.env("TMPDIR", &long).env("XDG_RUNTIME_DIR", &long).env("LOOKBACK_RUN_SOCKET", "/outer");
    let ended = ended(&mut command);
    assert_eq!((ended.code, ended.stdout.trim()), (7, ""), "{ended:?}");
    let [line] = &said(&ended)[..] else { panic!("{ended:?}") };
    assert!(
        line.contains("no directory for a socket") && line.contains("nothing is saved"),
        "{line}"
    );
}

/// A command that does not see a directory; `None` if this process may not hide it.
fn mount_away(path: &str) -> Option<Command> {
    let command = |rest: &[&str]| {
        let mut command = Command::new("unshare");
        let script = format!("mount -t tmpfs -o ro none {path} && exec \"$@\"");
        command.args(["--mount", "sh", "-c", &script, "sh"]).args(rest);
        command
    };
    let output = command(&["true"]).output();
    let works = output.is_ok_and(|output| output.status.success());
    if !works {
        println!("skipped: nothing can be mounted here");
    }
    works.then(|| command(&[]))
}

#[test]
fn a_service_may_change_its_directory_before_it_records() {
    let place = service::directory();
    let incidents = place.path().join("incidents");
    let executable = std::env::current_exe().unwrap();
    let mut command = Command::new(command::LOOKBACK);
    command.args(["run", "-o"]).arg(&incidents).args(["--", "sh", "-c"]);
    command.arg(format!("cd / && exec {} service --exact --nocapture", executable.display()));
    command.env("TMPDIR", ".").env("LOOKBACK_TEST_SERVICE", "abort").current_dir(place.path());
    assert_eq!(ended(&mut command).code, 134);
    assert!(reason(&incidents).starts_with("SIGABRT"));
}

/// The kernel gives no ID for a process in a namespace around this one.
#[test]
fn a_process_of_another_namespace_is_held_until_the_command_ends() {
    let place = service::directory();
    let incidents = place.path().join("incidents");
    let Some(mut command) = unshare(&[command::LOOKBACK, "run", "-o"]) else {
        println!("skipped: no namespace can be made here");
        return;
    };
    command.arg(&incidents).args([
        "--",
        "sh",
        "-c",
        "for n in $(seq 6000); do test -e go && exit; sleep 0.01; done",
    ]);
    command.env("TMPDIR", ".").current_dir(place.path()).stderr(std::process::Stdio::piped());
    let run = command.spawn().unwrap();
    let socket =
        |entry: std::fs::DirEntry| Some(entry.path().join("socket")).filter(|path| path.exists());
    let socket = loop {
        let mut entries = place.path().read_dir().unwrap().filter_map(Result::ok);
        if let Some(socket) = entries.find_map(socket) {
            break socket;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    let mut outside = Command::new(std::env::current_exe().unwrap());
    outside.args(["service", "--exact", "--nocapture", "--test-threads=1"]);
    outside.env("LOOKBACK_TEST_SERVICE", "hang").env("LOOKBACK_RUN_SOCKET", socket);
    let service = Service::run(&mut outside);
    let pid = service.pid;
    // It sent its arena before it said that it was ready, and is alive: nothing is saved.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!incidents.exists() || snapshots(&incidents).is_empty());
    service.signal(libc::SIGKILL);
    std::fs::write(place.path().join("go"), "").unwrap();
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("process {pid} is in another PID namespace")), "{said}");
    let [_] = &snapshots(&incidents)[..] else { panic!("{said}") };
}
