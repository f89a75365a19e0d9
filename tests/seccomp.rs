//! Invariant 6 where the kernel begins to refuse: `advance` returns only when no thread can still write to
//! the previous generation. If that cannot be known any more, because a seccomp filter that was installed
//! later forbids `membarrier`, recording stops by itself and says why; it never continues with an unsound
//! advance. If the filter is there from the beginning, writers use a fence.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use common::seccomp::{forbid, forbid_membarrier};
use lookback::read::Trace;
use lookback::{Barrier, Error, Recorder};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn start() -> Result<Recorder, Error> {
    Recorder::builder()
        .found_ranges(false)
        .window(Duration::from_secs(3600))
        .max_bytes(4 << 20)
        .generation_period(Duration::from_secs(3600))
        .start()
}

fn numbers(trace: &Trace, name: &str) -> Vec<u64> {
    common::events(trace)
        .filter(|event| event.name() == name)
        .map(|event| common::number(&event, "number").expect("it has one"))
        .collect()
}

/// The same sites in every recording.
fn write(numbers: std::ops::Range<u64>) {
    for number in numbers {
        let _region = lookback::region!("writing");
        lookback::event!("written", number = number, text = "a text that recurs");
    }
}

#[test]
fn a_filter_that_is_set_later_ends_the_recording_in_words() {
    common::alone("a_filter_that_is_set_later_ends_the_recording_in_words", || {
        let recorder = start().expect("a recorder starts");
        if recorder.stats().barrier != Barrier::Membarrier {
            println!("::no membarrier here, so nothing to forbid");
            return;
        }
        write(0..500);
        common::advance(&recorder);
        write(500..1000);
        let go_on = Arc::new(AtomicBool::new(true));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let go_on = Arc::clone(&go_on);
                std::thread::spawn(move || {
                    while go_on.load(Ordering::Relaxed) {
                        lookback::event!("beside", number = 0);
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        if !forbid_membarrier() {
            println!("::no seccomp here");
            go_on.store(false, Ordering::Relaxed);
            return;
        }
        assert_eq!(recorder.stats().broken, None, "nobody has asked the kernel yet");
        write(1000..1001);
        assert!(!recorder.advance(), "it cannot be known who is where");
        // Nothing is recorded from now on, and no harm is done.
        assert!(!lookback::is_recording(), "recording has stopped by itself");
        write(5000..6000);
        assert!(!recorder.advance(), "nor can it later");
        let reason = recorder.stats().broken.expect("it says why");
        assert!(reason.contains("membarrier"), "{reason}");
        assert!(!reason.contains('\n'), "{reason}");

        // Everything recorded until then is there, again and again.
        for snapshot in [recorder.snapshot(), lookback::snapshot(), recorder.snapshot()] {
            let snapshot = snapshot.expect("a snapshot can still be taken");
            let trace = common::read(&snapshot);
            common::assert_sound(&trace);
            let expected: Vec<_> = (0..1001).collect();
            assert_eq!(numbers(&trace, "written"), expected, "all until the filter and no more");
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("kept.lbk");
        recorder.snapshot().and_then(|snapshot| snapshot.save(&path)).expect("it can be saved");

        go_on.store(false, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().expect("no writer panics"));
        let error = recorder.stop().expect_err("it had stopped already");
        assert!(matches!(error, Error::Broken(_)), "{error}");
        assert!(error.to_string().contains("membarrier"), "{error}");

        // In a new recording, threads that still count on the barrier could not be told apart.
        let words = start().expect_err("this process was promised the barrier").to_string();
        assert!(words.contains("membarrier") && !words.contains('\n'), "{words}");
        assert!(!lookback::is_recording());
        // A recording that did not begin leaves no black box that looks like a dead process's.
        let path = directory.path().join("service.box");
        let started = Recorder::builder().max_bytes(1 << 20).black_box(&path).start();
        assert!(started.is_err() && !path.exists());
        write(7000..7100);
        assert!(matches!(lookback::snapshot(), Err(Error::NotRecording)));
    });
}

#[test]
fn under_a_filter_from_the_beginning_writers_have_a_fence() {
    common::alone("under_a_filter_from_the_beginning_writers_have_a_fence", || {
        if !forbid_membarrier() {
            println!("::no seccomp here");
            return;
        }
        let refused = Recorder::builder().barrier(Barrier::Membarrier).start();
        let words = refused.expect_err("it is forbidden").to_string();
        assert!(words.contains("membarrier"), "{words}");
        let recorder = start().expect("a recorder starts");
        assert_eq!(recorder.stats().barrier, Barrier::Fence);
        let writers: Vec<_> = (0..2).map(|_| std::thread::spawn(|| write(0..1000))).collect();
        for _ in 0..20 {
            common::advance(&recorder);
        }
        writers.into_iter().for_each(|writer| writer.join().expect("no writer panics"));
        common::advance(&recorder);
        let stats = recorder.stats();
        assert_eq!((stats.recorded, stats.lost_in_all()), (2 * (3 * 1000 + 2), 0), "{stats:?}");
        let trace = common::read(&recorder.stop().expect("it stops"));
        common::assert_sound(&trace);
        assert_eq!(numbers(&trace, "written").len(), 2000);
    });
}

/// The collector gets no core. A thread that may not issue the barrier cannot make room in its place.
#[test]
#[cfg(any(debug_assertions, feature = "fault_injection"))]
fn a_writer_to_which_it_is_refused_loses_events_and_that_is_told() {
    use lookback::fault_injection::{Point, hold};
    common::alone("a_writer_to_which_it_is_refused_loses_events_and_that_is_told", || {
        hold(Point::Advance, Duration::MAX, 1);
        let recorder = Recorder::builder().max_bytes(256 << 10).start().unwrap();
        let writer = || {
            if recorder.stats().barrier != Barrier::Membarrier
                || !forbid(&[libc::SYS_membarrier], false, 0)
            {
                return false;
            }
            write(0..20_000);
            true
        };
        let is_refused = std::thread::scope(|scope| scope.spawn(writer).join().unwrap());
        hold(Point::Advance, Duration::ZERO, 1);
        if !is_refused {
            println!("::nothing to refuse here");
            return;
        }
        let stats = recorder.stats();
        assert!(stats.refused_barriers > 0 && stats.lost_in_all() > 0, "{stats:?}");
        assert_eq!(stats.broken, None, "others may issue it");
        let trace = common::stop(recorder);
        let told = trace.metadata().number(lookback::read::wire::key::REFUSED_BARRIERS);
        assert_eq!(told, Some(stats.refused_barriers));
    });
}
