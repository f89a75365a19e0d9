//! Storms of processes: that fork, that execute programs, and that end while their threads are sampled.

use crate::common::{alone, wait_for};
use crate::judge::Judge;
use crate::{Over, PER_SECOND, builder, busy_leaf, spawn_bystanders, start, storm, time};
use lookback::Recorder;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Ends a child that hangs.
const HANGS: u32 = 120;

/// Forks, lets the child do this, and returns how it ended.
fn forked(child: impl FnOnce() -> i32) -> ExitStatus {
    // SAFETY: the child does what the C library says it may, and more: that it works is what is tested.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "it can fork");
    if process == 0 {
        // SAFETY: no preconditions.
        unsafe { libc::alarm(HANGS) };
        let code = child();
        // SAFETY: no preconditions.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: a valid place. A handler may interrupt it.
    while unsafe { libc::waitpid(process, &mut status, 0) } != process {}
    ExitStatus::from_raw(status)
}

/// A child that computes, records on as if nothing had happened, and cannot start a recorder.
fn records_on() -> i32 {
    let mut sum = 0;
    for number in 0..100_u64 {
        let _region = lookback::region!("in the child");
        lookback::event!("in the child", number = number);
        sum += black_box(busy_leaf(number));
    }
    black_box(sum);
    let is_off = !lookback::is_recording() && lookback::snapshot().is_err();
    let has_none = Recorder::builder().max_bytes(1 << 20).cpu_samples(PER_SECOND).start().is_err();
    if is_off && has_none { 7 } else { 8 }
}

#[test]
fn forks_whose_children_compute_and_record_on() {
    alone("processes::forks_whose_children_compute_and_record_on", || {
        storm(2, Judge::new(), |round| {
            let status = match round % 2 {
                0 => forked(|| 7),
                _ => forked(records_on),
            };
            assert_eq!(status.code(), Some(7), "{status}");
        });
    });
}

#[test]
fn forks_that_execute_programs() {
    alone("processes::forks_that_execute_programs", || {
        storm(2, Judge::new(), |round| {
            // By `posix_spawn`, and by a fork of ours.
            if round.is_multiple_of(2) {
                let status = Command::new("sh").args(["-c", "exit 3"]).status();
                assert_eq!(status.expect("there is a shell").code(), Some(3));
            } else {
                let arguments =
                    [c"sh".as_ptr(), c"-c".as_ptr(), c"exit 3".as_ptr(), std::ptr::null()];
                // SAFETY: a list of texts that ends with a null pointer.
                let status =
                    forked(|| unsafe { libc::execv(c"/bin/sh".as_ptr(), arguments.as_ptr()) });
                assert_eq!(status.code(), Some(3), "{status}");
            }
        });
    });
}

const ENDS: &str = "LOOKBACK_TEST_ENDS";

#[inline(never)]
fn overflows(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { overflows(depth + 1) + room[3] }
}

/// Ends this process in this way.
fn end(how: &str) {
    match how {
        "exit" => std::process::exit(5),
        // SAFETY: no preconditions.
        "_exit" => unsafe { libc::_exit(6) },
        "abort" => std::process::abort(),
        "overflow" => _ = black_box(overflows(0)),
        "panic" => panic!("that is how it ends"),
        _ => {}
    }
}

/// Samples its threads, and ends while they run: the main thread or another one.
fn be_a_child(how: &str) {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid limit, and no preconditions.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::alarm(HANGS);
    }
    static OVER: AtomicBool = AtomicBool::new(false);
    let recorder = start();
    let (how, elsewhere) = how.strip_suffix(" elsewhere").map_or((how, false), |how| (how, true));
    let _over = Over(&OVER);
    std::thread::scope(|scope| {
        spawn_bystanders(scope, &OVER);
        let _over = Over(&OVER);
        assert!(wait_for(|| recorder.stats().cpu_samples.taken > 5));
        if elsewhere {
            // On a thread that is sampled itself.
            let ends = || {
                let before = Instant::now();
                while before.elapsed() < builder_period() {
                    black_box(busy_leaf(1));
                }
                end(how);
            };
            let _ = scope.spawn(ends).join();
        } else {
            end(how);
        }
    });
}

fn builder_period() -> std::time::Duration {
    std::time::Duration::from_millis(30)
}

#[test]
fn processes_that_end_in_every_way_while_threads_are_sampled() {
    const NAME: &str = "processes::processes_that_end_in_every_way_while_threads_are_sampled";
    if let Ok(how) = std::env::var(ENDS) {
        return be_a_child(&how);
    }
    let _ = builder;
    let began = Instant::now();
    let by = |signal: i32| move |status: ExitStatus| status.signal() == Some(signal);
    let with = |code: i32| move |status: ExitStatus| status.code() == Some(code);
    type Is = Box<dyn Fn(ExitStatus) -> bool>;
    let ways: [(&str, Is); 8] = [
        ("return", Box::new(with(0))),
        ("exit", Box::new(with(5))),
        ("exit elsewhere", Box::new(with(5))),
        ("_exit", Box::new(with(6))),
        ("_exit elsewhere", Box::new(with(6))),
        ("abort elsewhere", Box::new(by(libc::SIGABRT))),
        ("overflow elsewhere", Box::new(by(libc::SIGABRT))),
        ("panic", Box::new(with(101))),
    ];
    for round in 0.. {
        if round > 0 && began.elapsed() >= time() {
            break;
        }
        for (how, is_right) in &ways {
            let output = Command::new(std::env::current_exe().unwrap())
                .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
                .env(ENDS, how)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(is_right(output.status), "{how}: {}\n{said}", output.status);
            let is_told = said.contains("has overflowed its stack");
            assert_eq!(is_told, how.starts_with("overflow"), "{how}: {said}");
        }
    }
}
