//! What a process does to itself, and what its surroundings do to it: the recorder continues, or says why
//! not; the service continues in any case.

mod common;

use common::{alone, assert_sound, read};
use lookback::read::recover::recover;
use lookback::{OutsideArena, Recorder, Snapshot};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const BYTES: usize = 1 << 20;
const EXECUTED: &str = "LOOKBACK_TEST_EXECUTED";

fn words_of(trace: &lookback::Trace) -> BTreeSet<String> {
    let text = |event: lookback::read::Event| Some(common::text(&event, "text")?.0);
    trace.events().map(|event| event.unwrap()).filter_map(text).collect()
}

fn words(snapshot: &Snapshot) -> BTreeSet<String> {
    let trace = read(snapshot);
    assert_sound(&trace);
    words_of(&trace)
}

fn words_in(path: &Path) -> BTreeSet<String> {
    let bytes = std::fs::read(path).unwrap();
    let mut file = Vec::new();
    recover(&bytes).unwrap().write_to(&mut file, "a test", "test").unwrap();
    let trace = lookback::Trace::from_bytes(file).unwrap();
    assert_sound(&trace);
    words_of(&trace)
}

fn say(text: &str) {
    lookback::event!("word", text = text);
}

fn c_string(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

/// Whether this user has the rights of root.
fn is_root() -> bool {
    // SAFETY: the call has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("::skipped: this takes root");
    }
    root
}

#[test]
fn a_process_that_executes_another_program_leaves_its_box_behind() {
    const NAME: &str = "a_process_that_executes_another_program_leaves_its_box_behind";
    alone(NAME, || {
        if let Some(path) = std::env::var_os(EXECUTED) {
            // The same process, with the same start time, but its own program.
            let recorder = Recorder::builder().max_bytes(BYTES).black_box(&path).start().unwrap();
            let predecessor = recorder.predecessor().expect("it is kept").to_owned();
            assert!(words_in(&predecessor).contains("before"));
            say("after");
            assert!(words(&recorder.stop().unwrap()).contains("after"));
            std::fs::remove_dir_all(Path::new(&path).parent().unwrap()).unwrap();
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.box");
        let recorder = Recorder::builder().max_bytes(BYTES).black_box(&path).start().unwrap();
        say("before");
        std::mem::forget(directory);
        let error = Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
            .env(EXECUTED, &path)
            .exec();
        drop(recorder);
        panic!("it was not executed: {error}");
    });
}

#[test]
fn a_process_that_becomes_a_daemon_is_told_that_it_is_not_recorded() {
    alone("a_process_that_becomes_a_daemon_is_told_that_it_is_not_recorded", || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.box");
        let recorder = Recorder::builder().max_bytes(BYTES).black_box(&path).start().unwrap();
        say("the parent's");
        // SAFETY: the child does only what a child of a process with threads may.
        let daemon = unsafe { libc::fork() };
        if daemon == 0 {
            // SAFETY: the call has no preconditions.
            unsafe { libc::setsid() };
            say("the daemon's");
            let told = [
                recorder.snapshot().unwrap_err().to_string(),
                lookback::snapshot().unwrap_err().to_string(),
                Recorder::builder().start().unwrap_err().to_string(),
                recorder.stats().broken.unwrap_or_default(),
            ];
            let good = !lookback::is_recording()
                && told.iter().all(|words| words.starts_with("this process was forked from a"));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if good { 42 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: a valid place.
        assert_eq!(unsafe { libc::waitpid(daemon, &mut status, 0) }, daemon);
        assert_eq!(libc::WEXITSTATUS(status), 42);
        say("the parent's, afterwards");
        recorder.stop().unwrap();
        let all: Vec<_> = words_in(&path).into_iter().collect();
        assert_eq!(all, ["the parent's", "the parent's, afterwards"]);
    });
}

#[test]
fn a_program_that_closes_all_descriptors_is_recorded_and_can_be_read_from_outside() {
    alone("a_program_that_closes_all_descriptors_is_recorded_and_can_be_read_from_outside", || {
        let recorder = Recorder::builder().max_bytes(BYTES).start().unwrap();
        say("before");
        for descriptor in 3..1024 {
            // SAFETY: nothing in this process relies on what is closed.
            unsafe { libc::close(descriptor) };
        }
        say("after");
        let both: BTreeSet<_> = ["before", "after"].map(str::to_owned).into();
        assert_eq!(words(&recorder.snapshot().unwrap()), both);
        // The descriptor is gone; the mapping is not.
        let outside = OutsideArena::of_process(std::process::id()).unwrap();
        assert_eq!(words(&outside.snapshot("a test", "test").unwrap()), both);
        // A file that gets the descriptor's number is not mistaken for the arena.
        let files: Vec<_> = (0..64).map(|_| tempfile::tempfile().unwrap()).collect();
        assert_eq!(words(&recorder.snapshot().unwrap()), both);
        drop(files);
        assert_eq!(words(&recorder.stop().unwrap()), both);
    });
}

#[test]
fn in_another_root_events_are_recorded_and_what_cannot_be_saved_is_said() {
    alone("in_another_root_events_are_recorded_and_what_cannot_be_saved_is_said", || {
        if !is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.box");
        let recorder = Recorder::builder()
            .max_bytes(BYTES)
            .black_box(&path)
            .snapshot_dir(directory.path().join("snapshots"))
            .start()
            .unwrap();
        let jail = tempfile::tempdir().unwrap();
        let root = std::fs::File::open("/").unwrap();
        // SAFETY: a string that ends with a zero.
        unsafe {
            assert_eq!(libc::chroot(c_string(jail.path()).as_ptr()), 0);
            assert_eq!(libc::chdir(c"/".as_ptr()), 0);
        }
        say("jailed");
        assert!(words(&recorder.snapshot().unwrap()).contains("jailed"));
        // The directory is created again in the new root, or that fails; nothing is lost because of it.
        match recorder.save("a test") {
            Ok(saved) => assert!(saved.exists()),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
        recorder.stop().unwrap();
        // SAFETY: back to where the temporary files are.
        unsafe {
            libc::fchdir(std::os::fd::AsRawFd::as_raw_fd(&root));
            libc::chroot(c".".as_ptr());
        }
        assert!(words_in(&path).contains("jailed"));
    });
}

#[test]
fn a_file_system_that_cannot_be_written_to_is_an_error_in_words() {
    alone("a_file_system_that_cannot_be_written_to_is_an_error_in_words", || {
        if !is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let at = c_string(directory.path());
        let kind = c"tmpfs".as_ptr();
        // SAFETY: all are strings that end with a zero.
        let mounted =
            unsafe { libc::mount(kind, at.as_ptr(), kind, libc::MS_RDONLY, std::ptr::null()) == 0 };
        if !mounted {
            println!("::skipped: this user cannot mount a file system");
            return;
        }
        let builder = || Recorder::builder().max_bytes(BYTES).snapshot_dir(directory.path());
        let error = builder().black_box(directory.path().join("box")).start().unwrap_err();
        assert!(error.to_string().contains("Read-only"), "{error}");
        let recorder = builder().start().unwrap();
        say("recorded");
        let error = recorder.save("a test").unwrap_err().to_string();
        assert!(error.contains("Read-only") && !error.contains('\n'), "{error}");
        assert!(words(&recorder.stop().unwrap()).contains("recorded"));
        // SAFETY: a string that ends with a zero.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    });
}

#[test]
fn a_limit_on_file_sizes_that_comes_later_is_an_error_and_no_signal() {
    alone("a_limit_on_file_sizes_that_comes_later_is_an_error_and_no_signal", || {
        let directory = tempfile::tempdir().unwrap();
        let builder = Recorder::builder().max_bytes(BYTES).snapshot_dir(directory.path());
        let recorder = builder.start().unwrap();
        say("recorded");
        let limit = libc::rlimit { rlim_cur: 100, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        let error = recorder.save("a test").unwrap_err().to_string();
        assert!(error.contains("RLIMIT_FSIZE") && !error.contains('\n'), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(words(&recorder.stop().unwrap()).contains("recorded"));
    });
}

#[test]
fn without_memory_a_snapshot_is_refused_in_words_and_recording_goes_on() {
    alone("without_memory_a_snapshot_is_refused_in_words_and_recording_goes_on", || {
        let recorder = Recorder::builder()
            .max_bytes(128 << 20)
            .window(Duration::from_secs(3600))
            .start()
            .unwrap();
        let fill = || {
            let text = "x".repeat(1000);
            for number in 0..110_000_u64 {
                lookback::event!("filling", text = format!("{number} {text}").as_str());
            }
        };
        fill();
        say("before");
        let used = {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
        };
        let whole = libc::RLIM_INFINITY;
        let limit = |bytes| {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: whole };
            // SAFETY: a valid limit.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        };
        // A little memory is left, for small things.
        limit(used + (1 << 20));
        let refused = recorder.snapshot().map(drop);
        for number in 0..110_000_u64 {
            lookback::event!("filling", number = number);
        }
        let advanced = recorder.advance();
        say("meanwhile");
        limit(whole);
        let words_of_it = refused.unwrap_err().to_string();
        assert!(words_of_it.contains("memory"), "{words_of_it}");
        assert!(advanced, "a generation ends without memory, too");
        let snapshot = recorder.snapshot().unwrap();
        assert!(words(&snapshot).contains("meanwhile"));
        // The copy exists, and there is no memory to compress it.
        limit(used + snapshot.bytes() as u64 + (1 << 20));
        let refused = snapshot.write_to(std::io::sink());
        limit(whole);
        // Memory that the allocator has kept may suffice for that.
        if let Err(error) = refused {
            assert!(error.to_string().contains("memory"), "{error}");
        }
        recorder.stop().unwrap();
    });
}
