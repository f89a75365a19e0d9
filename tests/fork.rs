//! Invariant 12: a forked child never writes to its parent's arena, and in a child the API says that it is
//! one.
//!
//! While the parent records, with advances back to back and another thread writing, it forks children that
//! emit as fast as they can, request snapshots and statistics, and start and drop recorders. The parent's
//! trace must hold the parent's events and no others.

mod common;

use common::Emitted;
use lookback::{Error, Recorder};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A child that hangs is killed after this many seconds.
const HANGS: u32 = 60;

/// What a child found wrong, as its exit code; 0 for nothing.
fn act_as_child(recorder: Recorder, open: lookback::Region) -> i32 {
    let mut wrong = 0;
    if lookback::is_recording() {
        wrong |= 1;
    }
    for number in 0..10_000_u64 {
        let _region = lookback::region!("of the child");
        lookback::event!("of the child", number = number);
        lookback::log!("child", "number {number}");
        lookback::counter!("of the child", number);
    }
    drop(open);
    if !matches!(recorder.snapshot(), Err(Error::Forked)) {
        wrong |= 2;
    }
    if !matches!(lookback::snapshot(), Err(Error::Forked)) {
        wrong |= 4;
    }
    if !matches!(lookback::save("child"), Err(Error::Forked)) {
        wrong |= 8;
    }
    if !matches!(Recorder::builder().start(), Err(Error::Forked)) {
        wrong |= 16;
    }
    // It must answer, whatever the answer, and not wait for a lock that was held at the fork.
    let _ = recorder.stats();
    // The child starts and ends threads of its own.
    let thread = std::thread::spawn(|| lookback::event!("of the child", number = 0));
    if thread.join().is_err() {
        wrong |= 32;
    }
    if recorder.stop().is_ok() {
        wrong |= 64;
    }
    wrong
}

/// Forks a child that does `act`, and returns how it ended.
fn fork(act: impl FnOnce() -> i32) -> libc::pid_t {
    // SAFETY: the child does what a forked child of a process with threads may do, and more: that
    // it works all the same is what is tested. It never returns from here.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: no preconditions.
            unsafe { libc::alarm(HANGS) };
            let act = std::panic::AssertUnwindSafe(act);
            let code = std::panic::catch_unwind(act).unwrap_or(128);
            // SAFETY: no preconditions.
            unsafe { libc::_exit(code) }
        }
        pid => pid,
    }
}

fn wait(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is a valid place.
    let ended = unsafe { libc::waitpid(pid, &mut status, 0) };
    assert_eq!(ended, pid, "the child can be waited for");
    status
}

#[test]
fn a_child_never_writes_to_its_parents_arena() {
    common::alone("a_child_never_writes_to_its_parents_arena", || {
        let children = if common::long() { 500 } else { 25 };
        let recorder = Recorder::builder()
            .found_ranges(false)
            .window(Duration::from_secs(3600))
            .max_bytes(8 << 20)
            .generation_period(Duration::ZERO)
            .start()
            .expect("a recorder starts");
        let emitted = Arc::new(Emitted::new());
        let go_on = Arc::new(AtomicBool::new(true));
        let other = std::thread::spawn({
            let (emitted, go_on) = (Arc::clone(&emitted), Arc::clone(&go_on));
            move || {
                let mut number = 0_u64;
                while go_on.load(Ordering::Relaxed) {
                    lookback::event!("of another thread", number = number);
                    number += 1;
                    if number.is_multiple_of(100) {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
                emitted.add(number + 2);
            }
        });
        // The thread's start, and what the loop below writes.
        emitted.add(1);
        for child in 0..children {
            let open = lookback::region!("open at the fork");
            lookback::event!("before the fork", child = child);
            // The child gets a handle and a guard of its own: the memory is copied.
            // SAFETY: each process has only one of the two copies.
            let (handle, guard) = unsafe { (std::ptr::read(&recorder), std::ptr::read(&open)) };
            let mut both = Some((handle, guard));
            let pid = fork(|| {
                let (recorder, open) = both.take().expect("there are both");
                act_as_child(recorder, open)
            });
            std::mem::forget(both);
            lookback::event!("after the fork", child = child);
            let status = wait(pid);
            assert_eq!(status, 0, "child {child}: {}", describe(status));
            drop(open);
            emitted.add(4);
        }
        go_on.store(false, Ordering::Relaxed);
        other.join().expect("the other thread does not panic");
        common::advance(&recorder);
        let stats = recorder.stats();
        assert_eq!(stats.lost_in_all(), 0, "{stats:?}");
        assert_eq!(stats.recorded, emitted.get(), "exactly the parent's events: {stats:?}");
        assert_eq!(stats.threads, 2, "no thread of a child is counted");
        let trace = common::read(&recorder.stop().expect("it stops"));
        common::assert_sound(&trace);
        let mut names = BTreeMap::new();
        for event in common::events(&trace) {
            *names.entry(event.name().to_owned()).or_insert(0_u64) += 1;
        }
        assert!(!names.contains_key("of the child"), "{names:?}");
        if stats.reclaimed == 0 {
            assert_eq!(names["before the fork"], children);
            assert_eq!(names["after the fork"], children);
            assert_eq!(names["open at the fork"], 2 * children);
        }
    });
}

fn describe(status: i32) -> String {
    if libc::WIFSIGNALED(status) {
        return format!("killed by signal {} (14: it hung)", libc::WTERMSIG(status));
    }
    let code = libc::WEXITSTATUS(status);
    let bits = [
        (1, "it seems to be recorded"),
        (2, "Recorder::snapshot did not say Forked"),
        (4, "snapshot did not say Forked"),
        (8, "save did not say Forked"),
        (16, "start did not say Forked"),
        (32, "a thread of it panicked"),
        (64, "stop was fine"),
        (128, "it panicked"),
    ];
    let found: Vec<_> = bits.iter().filter(|(bit, _)| code & bit != 0).map(|(_, s)| *s).collect();
    format!("{code}: {}", found.join(", "))
}
