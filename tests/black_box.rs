//! The black box: an arena in a file that outlives its process, and never destroys another's.

mod common;

use common::{alone, assert_sound};
use lookback::read::recover::{Recovered, recover};
use lookback::{Builder, Recorder, Trace};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BYTES: usize = 1 << 20;
/// What a child should do, and with which box.
const CHILD: &str = "LOOKBACK_TEST_BOX_CHILD";
const PATH: &str = "LOOKBACK_TEST_BOX_PATH";

fn builder(path: &Path) -> Builder {
    Recorder::builder().max_bytes(BYTES).black_box(path)
}

/// A directory for boxes: in memory if possible, and writable.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs this test again, as a child with a task.
fn child(test: &str, task: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, task)
        .env(PATH, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// The task of this process, if it is such a child, and its box.
fn task() -> Option<(String, PathBuf)> {
    Some((std::env::var(CHILD).ok()?, std::env::var_os(PATH)?.into()))
}

/// Records `text`, and is killed.
fn record_and_die(path: &Path, text: &str) -> ! {
    let recorder = builder(path).start().unwrap();
    lookback::event!("word", text = text);
    std::mem::forget(recorder);
    // SAFETY: sends a signal to this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("it was killed");
}

fn words(recovered: &mut Recovered<'_>) -> Vec<String> {
    let mut file = Vec::new();
    recovered.write_to(&mut file, "a test", "test").unwrap();
    let trace = Trace::from_bytes(file).unwrap();
    assert_sound(&trace);
    let text = |event: lookback::read::Event| Some(common::text(&event, "text")?.0);
    trace.events().map(|event| event.unwrap()).filter_map(text).collect()
}

fn words_in(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap();
    let mut recovered = recover(&bytes).unwrap();
    assert!(recovered.damage().is_empty(), "{:?}", recovered.damage());
    words(&mut recovered)
}

#[test]
fn a_box_that_died_is_kept_and_never_overwritten() {
    const NAME: &str = "a_box_that_died_is_kept_and_never_overwritten";
    if let Some((text, path)) = task() {
        record_and_die(&path, &text);
    }
    alone(NAME, || {
        let directory = directory();
        let path = directory.path().join("service.box");
        for text in ["first", "second", "third"] {
            assert!(!child(NAME, text, &path).output().unwrap().status.success());
        }
        // Later ones moved aside the two before the last.
        let aside = names(directory.path());
        assert_eq!(aside.len(), 3, "{aside:?}");
        let recorder = builder(&path).black_boxes_kept(2).start().unwrap();
        let predecessor = recorder.predecessor().expect("the last one died").to_owned();
        assert_eq!(words_in(&predecessor), ["third"]);
        // Three were moved aside, and the newest two are kept.
        let kept: Vec<_> =
            names(directory.path()).into_iter().filter(|name| name != "service.box").collect();
        assert_eq!(kept.len(), 2, "{kept:?}");
        let texts: Vec<_> =
            kept.iter().flat_map(|name| words_in(&directory.path().join(name))).collect();
        assert!(texts.contains(&"third".to_owned()), "{texts:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().len(), BYTES as u64);
        // Not sparse: a full file system is an error at start.
        assert!(fs::metadata(&path).unwrap().blocks() * 512 >= BYTES as u64);
        drop(recorder);
    });
}

#[test]
fn a_box_that_was_ended_in_order_is_replaced() {
    alone("a_box_that_was_ended_in_order_is_replaced", || {
        let directory = directory();
        let path = directory.path().join("service.box");
        for round in 0..3 {
            let recorder = builder(&path).start().unwrap();
            assert_eq!(recorder.predecessor(), None, "round {round}");
            lookback::event!("word", text = "in order");
            recorder.stop().unwrap();
            assert_eq!(names(directory.path()), ["service.box"]);
            let bytes = fs::read(&path).unwrap();
            let mut recovered = recover(&bytes).unwrap();
            assert_eq!(recovered.reason(), "the recording was ended in order");
            assert_eq!(words(&mut recovered), ["in order"]);
        }
    });
}

#[test]
fn a_recorder_that_is_dropped_in_a_panic_has_not_ended_in_order() {
    alone("a_recorder_that_is_dropped_in_a_panic_has_not_ended_in_order", || {
        let directory = directory();
        let path = directory.path().join("service.box");
        let panicked = std::panic::catch_unwind(|| {
            let _recorder = builder(&path).start().unwrap();
            lookback::event!("word", text = "about to panic");
            panic!("as planned");
        });
        assert!(panicked.is_err());
        let recorder = builder(&path).start().unwrap();
        let predecessor = recorder.predecessor().expect("it is kept");
        assert!(words_in(predecessor).contains(&"about to panic".to_owned()));
    });
}

#[test]
fn what_is_no_box_is_left_alone_and_named() {
    alone("what_is_no_box_is_left_alone_and_named", || {
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("text"), "somebody's diary").unwrap();
        symlink(at("text"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        let fifo = std::ffi::CString::new(at("fifo").to_str().unwrap()).unwrap();
        // SAFETY: a string that ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        for (name, why) in [
            ("text", "this is not a black box, and is not overwritten"),
            ("link", "a symbolic link"),
            ("dangling", "a symbolic link"),
            ("folder", "directory"),
            ("fifo", "not a regular file"),
            ("no/such/folder", "No such file"),
        ] {
            let error = builder(&at(name)).start().unwrap_err().to_string();
            let path = at(name);
            let front = format!("the black box {}: ", path.display());
            assert!(error.starts_with(&front), "{error}");
            assert!(error.contains(why), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert_eq!(fs::read(at("text")).unwrap(), b"somebody's diary");
        assert!(fs::symlink_metadata(at("fifo")).unwrap().file_type().is_fifo());
        assert_eq!(names(directory.path()), ["dangling", "fifo", "folder", "link", "text"]);
        // An empty file belongs to nobody.
        fs::write(at("empty"), "").unwrap();
        builder(&at("empty")).start().unwrap().stop().unwrap();
    });
}

#[test]
fn a_second_process_is_told_whose_box_it_is() {
    const NAME: &str = "a_second_process_is_told_whose_box_it_is";
    if let Some((_, path)) = task() {
        let error = builder(&path).start().unwrap_err();
        println!("\nsays: {error}");
        return;
    }
    alone(NAME, || {
        let directory = directory();
        let path = directory.path().join("service.box");
        let recorder = builder(&path).start().unwrap();
        let output = child(NAME, "second", &path).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let pid = std::process::id();
        let expected =
            format!("process {pid} records into it; give each process a path of its own");
        assert!(said.contains(&expected), "{said}");
        assert_eq!(names(directory.path()), ["service.box"]);
        lookback::event!("word", text = "undisturbed");
        recorder.stop().unwrap();
        assert_eq!(words_in(&path), ["undisturbed"]);
    });
}

#[test]
fn a_forked_child_that_keeps_the_lock_does_not_keep_the_next_process_from_recording() {
    const NAME: &str =
        "a_forked_child_that_keeps_the_lock_does_not_keep_the_next_process_from_recording";
    if let Some((_, path)) = task() {
        let recorder = builder(&path).start().unwrap();
        lookback::event!("word", text = "the parent's");
        // SAFETY: the child only sleeps until it is killed.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            loop {
                // SAFETY: the call has no preconditions.
                unsafe { libc::pause() };
            }
        }
        println!("\nforked {forked}");
        std::io::stdout().flush().unwrap();
        std::mem::forget(recorder);
        // SAFETY: sends a signal to this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        return;
    }
    alone(NAME, || {
        let directory = directory();
        let path = directory.path().join("service.box");
        let mut first = child(NAME, "fork", &path).stdout(Stdio::piped()).spawn().unwrap();
        // The forked child has the output, too, so it never ends: read lines as they come.
        let output = std::io::BufReader::new(first.stdout.take().unwrap());
        let forked = std::io::BufRead::lines(output)
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("forked ")?.parse::<libc::pid_t>().ok())
            .expect("it says whom it forked");
        first.wait().unwrap();
        let recorder = builder(&path).start().unwrap();
        let predecessor = recorder.predecessor().expect("the parent died").to_owned();
        // SAFETY: the forked child is alive until this.
        assert_eq!(unsafe { libc::kill(forked, libc::SIGKILL) }, 0);
        assert_eq!(words_in(&predecessor), ["the parent's"]);
        recorder.stop().unwrap();
    });
}

#[test]
fn a_forked_child_does_not_keep_its_parent_from_recording_again() {
    alone("a_forked_child_does_not_keep_its_parent_from_recording_again", || {
        let directory = directory();
        let path = directory.path().join("service.box");
        let recorder = builder(&path).start().unwrap();
        // SAFETY: the child only sleeps until it is killed.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            loop {
                // SAFETY: the call has no preconditions.
                unsafe { libc::pause() };
            }
        }
        recorder.stop().unwrap();
        let again = builder(&path).start();
        // SAFETY: the forked child is alive until this.
        assert_eq!(unsafe { libc::kill(forked, libc::SIGKILL) }, 0);
        let again = again.unwrap();
        assert_eq!(again.predecessor(), None, "nobody has died");
        lookback::event!("word", text = "again");
        again.stop().unwrap();
        assert_eq!(words_in(&path), ["again"]);
        assert_eq!(names(directory.path()), ["service.box"]);
    });
}

#[test]
fn many_that_start_at_once_never_share_a_box() {
    const NAME: &str = "many_that_start_at_once_never_share_a_box";
    if let Some((text, path)) = task() {
        // A process that cannot get the box says so; one that can dies in it.
        match builder(&path).black_boxes_kept(100).start() {
            Ok(recorder) => {
                lookback::event!("word", text = text.as_str());
                println!("\nhad it: {text}");
                std::mem::forget(recorder);
                // SAFETY: sends a signal to this process.
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            }
            Err(error) => println!("\nsays: {error}"),
        }
        return;
    }
    alone(NAME, || {
        let directory = directory();
        let path = directory.path().join("service.box");
        let started: Vec<_> = (0..24)
            .map(|number| child(NAME, &format!("word {number}"), &path).spawn().unwrap())
            .collect();
        let outputs: Vec<_> = started
            .into_iter()
            .map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
            .collect();
        let mut had: Vec<_> = outputs
            .iter()
            .flat_map(|output| output.lines().filter_map(|line| line.strip_prefix("had it: ")))
            .map(str::to_owned)
            .collect();
        let mut found: Vec<_> = names(directory.path())
            .iter()
            .flat_map(|name| words_in(&directory.path().join(name)))
            .collect();
        had.sort();
        found.sort();
        assert!(!had.is_empty(), "{outputs:?}");
        assert_eq!(found, had, "each that recorded is there, each once: {outputs:?}");
    });
}

#[test]
fn a_file_system_without_room_is_an_error_in_words() {
    alone("a_file_system_without_room_is_an_error_in_words", || {
        let directory = tempfile::tempdir().unwrap();
        let Some(_mounted) = Mounted::small(directory.path()) else {
            println!("::skipped: this user cannot mount a file system");
            return;
        };
        let path = directory.path().join("service.box");
        let error = builder(&path).max_bytes(16 << 20).start().unwrap_err().to_string();
        assert!(error.contains("no room for 16384 KiB there"), "{error}");
        assert!(names(directory.path()).is_empty(), "nothing is left behind");
        // What fits is recorded, and old boxes are kept as long as there is room.
        builder(&path).start().unwrap().stop().unwrap();
    });
}

/// A file system of 4 MiB, while this exists.
struct Mounted(std::ffi::CString);

impl Mounted {
    fn small(at: &Path) -> Option<Self> {
        let at = std::ffi::CString::new(at.to_str()?).ok()?;
        // SAFETY: all are strings that end with a zero.
        let mounted = unsafe {
            let kind = c"tmpfs".as_ptr();
            libc::mount(kind, at.as_ptr(), kind, 0, c"size=4m".as_ptr().cast())
        };
        (mounted == 0).then_some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // SAFETY: a string that ends with a zero.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
    alone("a_limit_on_file_sizes_is_an_error_and_no_signal", || {
        let directory = directory();
        let limit = libc::rlimit { rlim_cur: 4096, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        let error = builder(&directory.path().join("box")).start().unwrap_err().to_string();
        assert!(error.contains("RLIMIT_FSIZE"), "{error}");
    });
}
