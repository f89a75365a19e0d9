//! Fatal signals are noted in the black box, and the process dies as it would have.

#[path = "../common/mod.rs"]
mod common;
mod handlers;

use common::alone;
use lookback::Recorder;
use lookback::read::recover::recover;
use lookback::read::wire::CrashNote;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

const CHILD: &str = "LOOKBACK_TEST_SIGNAL_CHILD";
const PATH: &str = "LOOKBACK_TEST_SIGNAL_PATH";

/// What a child should do, and its box.
fn task() -> Option<(String, PathBuf)> {
    Some((std::env::var(CHILD).ok()?, std::env::var_os(PATH)?.into()))
}

/// Runs this test again as a child with a box and a task. Returns how it ended, its stderr, and its note.
fn end(test: &str, what: &str) -> (ExitStatus, String, Option<CrashNote>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("service.box");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, what)
        .env(PATH, &path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let recovered = recover(&bytes).unwrap();
    assert!(recovered.damage().is_empty(), "{:?}", recovered.damage());
    (status, said, recovered.header().crash.clone())
}

fn record(path: &Path) -> Recorder {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid limit.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    let recorder = Recorder::builder().max_bytes(1 << 20).black_box(path).start().unwrap();
    lookback::event!("alive");
    recorder
}

/// Fails in the requested way.
fn fail(how: &str) {
    match how {
        // SAFETY: none; that is what it is for.
        "SIGSEGV" => unsafe { std::ptr::without_provenance_mut::<u8>(0x123).write_volatile(1) },
        "SIGBUS" => {
            let file = tempfile::tempfile().unwrap();
            file.set_len(4096).unwrap();
            // SAFETY: a new mapping, whose file is then truncated.
            unsafe {
                let (rights, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
                let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
                let base = libc::mmap(std::ptr::null_mut(), 4096, rights, shared, descriptor, 0);
                file.set_len(0).unwrap();
                base.cast::<u8>().write_volatile(1);
            }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: none; that is what it is for.
        "SIGILL" => unsafe { std::arch::asm!("ud2") },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: none; that is what it is for.
        "SIGFPE" => unsafe {
            std::arch::asm!(
                "xor edx, edx", "xor ecx, ecx", "div ecx",
                inout("eax") 1 => _, out("ecx") _, out("edx") _,
            );
        },
        "SIGABRT" => std::process::abort(),
        "overflow" => {
            fn deeper(depth: u64) -> u64 {
                let room = std::hint::black_box([depth; 512]);
                if depth == u64::MAX { 0 } else { deeper(depth + 1) + room[3] }
            }
            std::hint::black_box(deeper(0));
        }
        // SAFETY: sends a signal to this process.
        _ => unsafe {
            libc::kill(libc::getpid(), libc::SIGFPE);
        },
    }
}

#[test]
fn each_is_noted_with_its_thread_and_the_process_dies_of_it() {
    const NAME: &str = "each_is_noted_with_its_thread_and_the_process_dies_of_it";
    if let Some((what, path)) = task() {
        let _recorder = record(&path);
        let failing = move || {
            lookback::event!("about to fail");
            fail(&what);
        };
        let thread = std::thread::Builder::new().name("the-culprit".to_owned()).spawn(failing);
        let _ = thread.unwrap().join();
        return;
    }
    let mut cases = vec![
        ("SIGSEGV", libc::SIGSEGV, 0x123),
        ("SIGBUS", libc::SIGBUS, 1),
        ("SIGABRT", libc::SIGABRT, 0),
    ];
    if cfg!(target_arch = "x86_64") {
        cases.extend([("SIGILL", libc::SIGILL, 1), ("SIGFPE", libc::SIGFPE, 1)]);
    }
    for (what, signal, address) in cases {
        let (status, _, note) = end(NAME, what);
        assert_eq!(status.signal(), Some(signal), "{what}");
        let note = note.unwrap_or_else(|| panic!("{what} is not noted"));
        assert_eq!((note.signal, note.signal_name()), (signal, Some(what)), "{note:?}");
        assert_eq!(note.thread_name, "the-culprit");
        assert!(note.thread.0 != 0 && note.os_thread != 0 && note.wall.0 != 0, "{note:?}");
        assert!(!note.survived);
        assert!(cfg!(not(target_arch = "x86_64")) || note.instruction != 0, "{note:?}");
        match address {
            0 => assert_eq!(note.address, 0, "{note:?}"),
            1 => assert_ne!(note.address, 0, "{note:?}"),
            exact => assert_eq!(note.address, exact, "{note:?}"),
        }
    }
}

#[test]
fn a_stack_that_overflows_is_noted_and_told_as_ever() {
    const NAME: &str = "a_stack_that_overflows_is_noted_and_told_as_ever";
    if let Some((what, path)) = task() {
        let _recorder = record(&path);
        let _ = std::thread::spawn(move || fail(&what)).join();
        return;
    }
    let (status, said, note) = end(NAME, "overflow");
    // The standard library's handler, which was there before, has printed its message.
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert!(said.contains("has overflowed its stack"), "{said}");
    // The fault stays noted, although an abort followed it.
    assert_eq!(note.expect("it is noted").signal, libc::SIGSEGV);
}

#[test]
fn a_signal_that_somebody_sends_is_noted_with_who_it_was() {
    const NAME: &str = "a_signal_that_somebody_sends_is_noted_with_who_it_was";
    if let Some((what, path)) = task() {
        let _recorder = record(&path);
        fail(&what);
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let (status, _, note) = end(NAME, "sent");
    assert_eq!(status.signal(), Some(libc::SIGFPE));
    let note = note.expect("it is noted");
    assert!(note.sender != 0 && note.code <= 0 && note.address == 0, "{note:?}");
}

#[test]
fn a_forked_child_notes_nothing_in_its_parents_box() {
    alone("a_forked_child_notes_nothing_in_its_parents_box", || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.box");
        let recorder = record(&path);
        // SAFETY: the child does nothing but fail.
        let child = unsafe { libc::fork() };
        if child == 0 {
            fail("SIGSEGV");
        }
        let mut status = 0;
        // SAFETY: a valid place.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(ExitStatus::from_raw(status).signal(), Some(libc::SIGSEGV));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(recover(&bytes).unwrap().header().crash, None);
        recorder.stop().unwrap();
    });
}

#[test]
fn without_a_box_or_when_told_not_to_no_handler_is_installed() {
    alone("without_a_box_or_when_told_not_to_no_handler_is_installed", || {
        let handler = || {
            // SAFETY: a valid place.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                libc::sigaction(libc::SIGILL, std::ptr::null(), &mut action);
                action.sa_sigaction
            }
        };
        let before = handler();
        Recorder::builder().max_bytes(1 << 20).start().unwrap().stop().unwrap();
        assert_eq!(handler(), before);
        let directory = tempfile::tempdir().unwrap();
        let builder =
            || Recorder::builder().max_bytes(1 << 20).black_box(directory.path().join("b"));
        builder().fatal_signals(false).start().unwrap().stop().unwrap();
        assert_eq!(handler(), before);
        builder().start().unwrap().stop().unwrap();
        assert_ne!(handler(), before);
    });
}

#[test]
fn of_two_threads_that_fault_at_once_one_is_noted_whole() {
    const NAME: &str = "of_two_threads_that_fault_at_once_one_is_noted_whole";
    if let Some((what, path)) = task() {
        let _recorder = record(&path);
        let (what, together) = (&*what, std::sync::Barrier::new(4));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    lookback::event!("about to fail");
                    together.wait();
                    fail(what);
                });
            }
        });
        return;
    }
    for _ in 0..if common::long() { 500 } else { 20 } {
        let (status, said, note) = end(NAME, "SIGFPE");
        assert_eq!(status.signal(), Some(libc::SIGFPE), "{said}");
        let note = note.expect("it is noted");
        assert_eq!((note.signal, note.survived), (libc::SIGFPE, false), "{note:?}");
        assert!(note.thread.0 != 0 && note.os_thread != 0 && note.wall.0 != 0, "{note:?}");
    }
}
