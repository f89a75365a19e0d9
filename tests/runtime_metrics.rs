//! Tokio's own figures of instrumented runtimes, once a generation.

mod common;

use common::{alone, assert_sound, read};
use lookback::read::{CounterGroup, RuntimeReading, SystemCounter, Trace};
use lookback::{Builder, Recorder};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::runtime;

fn recorder() -> Builder {
    Recorder::builder().max_bytes(4 << 20).generation_period(Duration::from_millis(50))
}

fn readings(trace: &Trace) -> Vec<RuntimeReading> {
    let numbers = trace.generations().iter().map(|info| info.number);
    numbers
        .flat_map(|number| trace.generation(number).unwrap().runtime_counters().to_vec())
        .collect()
}

/// Records until a counter of this runtime has such a value.
fn until(recorder: &Recorder, runtime: u32, counter: SystemCounter, is_it: impl Fn(u64) -> bool) {
    loop {
        lookback::event!("goes on");
        std::thread::sleep(Duration::from_millis(20));
        let trace = read(&recorder.snapshot().unwrap());
        assert_sound(&trace);
        let is_so = |of: &RuntimeReading| {
            of.runtime == u64::from(runtime)
                && of.reading.counter == counter
                && is_it(of.reading.value)
        };
        if readings(&trace).iter().any(is_so) {
            return;
        }
    }
}

#[test]
fn each_generation_has_the_figures_of_a_runtime() {
    alone("each_generation_has_the_figures_of_a_runtime", || {
        let mut builder = runtime::Builder::new_multi_thread();
        builder.worker_threads(3).enable_all();
        let number = lookback::tokio::instrument(&mut builder).runtime();
        // Before the recorder, and goes on.
        let runtime = builder.build().unwrap();
        let recorder = recorder().start().unwrap();
        until(&recorder, number, SystemCounter::Workers, |value| value == 3);
        let sleepers: Vec<_> = (0..17)
            .map(|_| runtime.spawn(async { tokio::time::sleep(Duration::from_secs(3600)).await }))
            .collect();
        until(&recorder, number, SystemCounter::AliveTasks, |value| value == 17);
        sleepers.iter().for_each(|task| task.abort());
        until(&recorder, number, SystemCounter::AliveTasks, |value| value == 0);
        let spins = || {
            let began = std::time::Instant::now();
            while began.elapsed() < Duration::from_millis(30) {
                std::hint::spin_loop();
            }
        };
        drop(runtime.spawn(async move { (0..20).for_each(|_| spins()) }));
        until(&recorder, number, SystemCounter::BusiestWorker, |value| value >= 30_000_000);
        until(&recorder, number, SystemCounter::Parks, |value| value > 0);
        // No reading keeps a runtime alive, and none follows its end.
        drop(runtime);
        // The newest generations say nothing of it any more.
        let is_silent = |trace: &Trace| {
            let complete = trace.generations().iter().rev().filter(|info| info.complete);
            let of = |number| trace.generation(number).unwrap().runtime_counters().is_empty();
            complete.take(5).filter(|info| of(info.number)).count() == 5
        };
        while !is_silent(&read(&recorder.snapshot().unwrap())) {
            lookback::event!("goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn a_runtime_of_one_thread_is_asked_while_it_is_driven() {
    alone("a_runtime_of_one_thread_is_asked_while_it_is_driven", || {
        let mut builder = runtime::Builder::new_current_thread();
        builder.enable_all();
        let number = lookback::tokio::instrument(&mut builder).runtime();
        let runtime = builder.build().unwrap();
        let recorder = recorder().start().unwrap();
        lookback::block_on(&runtime, async {
            let sleeper = lookback::spawn(tokio::time::sleep(Duration::from_secs(3600)));
            loop {
                lookback::event!("goes on");
                tokio::time::sleep(Duration::from_millis(20)).await;
                let trace = read(&recorder.snapshot().unwrap());
                let is_so = |of: &RuntimeReading| {
                    of.runtime == u64::from(number)
                        && of.reading.counter == SystemCounter::AliveTasks
                        && of.reading.value == 1
                };
                if readings(&trace).iter().any(is_so) {
                    break;
                }
            }
            sleeper.abort();
        });
    });
}

#[test]
fn what_is_turned_off_is_not_asked_and_two_runtimes_are_told_apart() {
    alone("what_is_turned_off_is_not_asked_and_two_runtimes_are_told_apart", || {
        let build = || {
            let mut builder = runtime::Builder::new_multi_thread();
            builder.worker_threads(1);
            let number = lookback::tokio::instrument(&mut builder).runtime();
            (number, builder.build().unwrap())
        };
        let (one, _first) = build();
        let (other, _second) = build();
        let off = recorder().system_counters([CounterGroup::Memory]).start().unwrap();
        for _ in 0..10 {
            lookback::event!("goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(readings(&read(&off.stop().unwrap())).is_empty());
        let on = recorder().system_counters([CounterGroup::Runtime]).start().unwrap();
        until(&on, one, SystemCounter::Workers, |value| value == 1);
        until(&on, other, SystemCounter::Workers, |value| value == 1);
        let trace = read(&on.stop().unwrap());
        let runtimes: BTreeSet<_> = readings(&trace).iter().map(|of| of.runtime).collect();
        assert_eq!(runtimes, BTreeSet::from([u64::from(one), u64::from(other)]));
    });
}

/// How many epoll descriptors this process has. A runtime has two of them for as long as anything keeps it.
#[cfg(target_os = "linux")]
fn polls() -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_one = |link: std::path::PathBuf| link.to_string_lossy().contains("eventpoll");
    links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|at| is_one(at.clone()))
        .count()
}

/// Records until this process has so many epoll descriptors.
#[cfg(target_os = "linux")]
fn until_polls(wanted: usize) {
    while polls() != wanted {
        lookback::event!("goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_runtime_is_freed_although_its_hook_for_the_end_of_threads_was_replaced() {
    alone("a_runtime_is_freed_although_its_hook_for_the_end_of_threads_was_replaced", || {
        let mut builder = runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all();
        let number = lookback::tokio::instrument(&mut builder).runtime();
        builder.on_thread_stop(|| ());
        let before = polls();
        let recorder = recorder().start().unwrap();
        let runtime = builder.build().unwrap();
        until(&recorder, number, SystemCounter::Workers, |value| value == 2);
        assert_ne!(polls(), before);
        drop(runtime);
        until_polls(before);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_first_runtime_of_a_builder_is_freed_while_the_second_one_goes_on() {
    alone("the_first_runtime_of_a_builder_is_freed_while_the_second_one_goes_on", || {
        let mut builder = runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all();
        let number = lookback::tokio::instrument(&mut builder).runtime();
        let recorder = recorder().start().unwrap();
        let first = builder.build().unwrap();
        until(&recorder, number, SystemCounter::Workers, |value| value == 2);
        let with_one = polls();
        let _second = builder.build().unwrap();
        // What has one number is one reading.
        until(&recorder, number, SystemCounter::Workers, |value| value == 4);
        assert_ne!(polls(), with_one);
        drop(first);
        until_polls(with_one);
        until(&recorder, number, SystemCounter::Workers, |value| value == 2);
    });
}

#[test]
fn a_runtime_that_is_driven_and_has_threads_is_asked_once() {
    alone("a_runtime_that_is_driven_and_has_threads_is_asked_once", || {
        let mut builder = runtime::Builder::new_current_thread();
        builder.enable_all();
        let number = lookback::tokio::instrument(&mut builder).runtime();
        let runtime = builder.build().unwrap();
        let recorder = recorder().start().unwrap();
        let workers = |trace: &Trace| {
            let is_so = |of: &&RuntimeReading| {
                of.runtime == u64::from(number) && of.reading.counter == SystemCounter::Workers
            };
            readings(trace).iter().filter(is_so).map(|of| of.reading.value).collect::<Vec<_>>()
        };
        lookback::block_on(&runtime, async {
            let (ends, waits) = std::sync::mpsc::channel::<()>();
            let blocks = lookback::spawn_blocking(move || waits.recv());
            loop {
                lookback::event!("goes on");
                tokio::time::sleep(Duration::from_millis(20)).await;
                let all = workers(&read(&recorder.snapshot().unwrap()));
                assert!(all.iter().all(|of| *of == 1), "a single thread drives it: {all:?}");
                if all.len() >= 5 {
                    break;
                }
            }
            drop(ends);
            assert!(blocks.await.unwrap().is_err());
        });
    });
}

#[test]
fn a_runtime_that_is_driven_before_the_recorder_starts_is_asked() {
    alone("a_runtime_that_is_driven_before_the_recorder_starts_is_asked", || {
        let mut builder = runtime::Builder::new_current_thread();
        builder.enable_all();
        let number = lookback::tokio::instrument(&mut builder).runtime();
        let runtime = builder.build().unwrap();
        lookback::block_on(&runtime, async {
            tokio::task::yield_now().await;
            let recorder = recorder().start().unwrap();
            loop {
                lookback::event!("goes on");
                tokio::time::sleep(Duration::from_millis(20)).await;
                let all = readings(&read(&recorder.snapshot().unwrap()));
                if all.iter().any(|of| of.runtime == u64::from(number)) {
                    break;
                }
            }
        });
    });
}
