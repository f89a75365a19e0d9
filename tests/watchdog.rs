//! The watchdog: it finds a poll that does not return while the poll is stalled, and nothing else; and it
//! wakes no thread while every worker is parked.

#![cfg(target_os = "linux")]

mod common;

use common::saved::{builder, saved, start, told};
use common::{events, number, text, wait_for};
use lookback::{RecordExt, Recorder, Trigger};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const STALL: Duration = Duration::from_millis(200);

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    assert!(lookback::tokio::instrument(&mut builder).is_whole());
    builder.build().unwrap()
}

/// Recorders come and go, each with a sleeping watchdog, while workers keep parking and continuing.
#[test]
fn workers_that_go_on_while_a_recorder_ends_do_no_harm() {
    common::alone("workers_that_go_on_while_a_recorder_ends_do_no_harm", || {
        let place = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let busy: Vec<_> = (0..4)
            .map(|_| {
                runtime.spawn(async {
                    loop {
                        tokio::time::sleep(Duration::from_micros(100)).await;
                    }
                })
            })
            .collect();
        let rounds = if common::long() { 2000 } else { 20 };
        for _ in 0..rounds {
            let recorder = start(place.path(), Trigger::stalled_poll(STALL));
            std::thread::sleep(Duration::from_millis(5));
            common::stop(recorder);
        }
        busy.iter().for_each(|task| task.abort());
    });
}

#[test]
fn a_poll_that_does_not_come_back_is_found_while_it_does_not() {
    common::alone("a_poll_that_does_not_come_back_is_found_while_it_does_not", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path(), Trigger::stalled_poll(STALL).cool_down(Duration::ZERO));
        let runtime = runtime();
        // It also ends if this test fails.
        let (go_on, blocks) = std::sync::mpsc::channel::<()>();
        let blocked = lookback::spawn_on(runtime.handle(), async move {
            let _ = blocks.recv();
        });
        let trace = saved(&recorder, place.path(), 1);
        let (trigger, reason) = told(&trace);
        assert_eq!(trigger, "stalled_poll");
        assert!(
            reason.contains("has not come back from a poll for at least")
                && reason.contains("in state S")
        );
        let stall = events(&trace).find(|event| event.name() == "stall").expect("it is recorded");
        assert!(number(&stall, "at_least_ns").unwrap() >= STALL.as_nanos() as u64);
        assert_eq!(text(&stall, "state").unwrap().0, "S");
        let poll = events(&trace).find(|event| event.task().is_some()).expect("it was polled");
        let id = poll.task().expect("it has one").to_string();
        assert_eq!(text(&stall, "task_id").unwrap().0, id, "as every view calls it");
        let os_thread = number(&stall, "os_thread").unwrap();
        assert!(Path::new(&format!("/proc/self/task/{os_thread}")).exists());
        // Once per poll, however long it takes.
        std::thread::sleep(STALL * 4);
        assert_eq!(recorder.stats().triggers.fired, 1);
        drop(go_on);
        runtime.block_on(blocked).unwrap();
        let is_over = || {
            let trace = common::read(&recorder.snapshot().unwrap());
            events(&trace).any(|event| event.name() == "stall_over")
        };
        assert!(wait_for(is_over), "that it has come back is recorded");
        let trace = common::stop(recorder);
        assert_eq!(events(&trace).filter(|event| event.name() == "stall").count(), 1);
    });
}

#[test]
fn tasks_that_run_long_but_yield_and_closures_that_may_block_are_no_stalls() {
    common::alone(
        "tasks_that_run_long_but_yield_and_closures_that_may_block_are_no_stalls",
        || {
            let place = tempfile::tempdir().unwrap();
            // No machine is so slow that a poll of a millisecond takes this long.
            let limit = Duration::from_secs(2);
            let recorder = start(place.path(), Trigger::stalled_poll(limit));
            let runtime = runtime();
            let until = Instant::now() + limit * 3;
            let yields = lookback::spawn_on(runtime.handle(), async move {
                while Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(1));
                    tokio::task::yield_now().await;
                }
            });
            let entered = runtime.enter();
            let blocks = lookback::spawn_blocking(move || std::thread::sleep(limit * 3));
            drop(entered);
            let moves = lookback::spawn_on(runtime.handle(), async move {
                tokio::task::block_in_place(|| std::thread::sleep(limit * 3));
            });
            // Another thread takes its place as a worker only if there is something to do.
            let works = lookback::spawn_on(runtime.handle(), async move {
                while Instant::now() < until {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            runtime.block_on(async {
                let _ = (yields.await, blocks.await, moves.await, works.await);
            });
            let trace = common::stop(recorder);
            let stalls: Vec<_> = events(&trace).filter(|event| event.name() == "stall").collect();
            assert!(stalls.is_empty(), "{stalls:?}");
        },
    );
}

#[test]
fn a_limit_that_no_poll_ever_reaches_is_one() {
    common::alone("a_limit_that_no_poll_ever_reaches_is_one", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path(), Trigger::stalled_poll(Duration::MAX));
        futures::executor::block_on(async { lookback::event!("a quick one") }.recorded("quick"));
        let blocks = async {
            for _ in 0..3 {
                lookback::event!("alive");
                common::advance(&recorder);
            }
        };
        futures::executor::block_on(blocks.recorded("slow"));
        recorder.stop().unwrap();
    });
}

#[test]
fn a_stall_on_a_thread_that_is_no_worker_is_found_too() {
    common::alone("a_stall_on_a_thread_that_is_no_worker_is_found_too", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path(), Trigger::stalled_poll(STALL));
        futures::executor::block_on(async { lookback::event!("a quick one") }.recorded("quick"));
        let blocks = async {
            assert!(wait_for(|| recorder.stats().triggers.fired == 1), "it is found");
        };
        futures::executor::block_on(blocks.recorded("slow"));
        let trace = saved(&recorder, place.path(), 1);
        assert!(told(&trace).1.starts_with("task slow has not come back"), "{:?}", told(&trace));
    });
}

/// How often the collector's thread has gone to sleep.
fn sleeps() -> u64 {
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "lookback") {
            let status = fs::read_to_string(task.join("status")).unwrap();
            let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
            return line.unwrap().trim().parse().unwrap();
        }
    }
    panic!("there is no collector");
}

/// A task that blocks its worker is found while it does.
fn blocks_until_it_is_found(runtime: &tokio::runtime::Runtime, recorder: &Recorder, round: usize) {
    let found = |fired: u64| wait_for(|| recorder.stats().triggers.fired > fired);
    let block = || {
        let (go_on, blocks) = std::sync::mpsc::channel::<()>();
        let blocked = lookback::spawn_on(runtime.handle(), async move {
            let _ = blocks.recv();
        });
        (go_on, blocked)
    };
    let before = recorder.stats().triggers.fired;
    let (first, blocked) = block();
    let first_found = found(before);
    // And another one, while that is known.
    let (second, also_blocked) = block();
    let second_found = found(before + 1);
    drop((first, second));
    runtime.block_on(async { (blocked.await.unwrap(), also_blocked.await.unwrap()) });
    assert!(first_found && second_found, "round {round}: {first_found}, {second_found}");
}

#[test]
fn a_worker_that_goes_on_wakes_the_watchdog_long_before_the_next_generation() {
    common::alone(
        "a_worker_that_goes_on_wakes_the_watchdog_long_before_the_next_generation",
        || {
            let place = tempfile::tempdir().unwrap();
            let recorder = builder(place.path())
                .generation_period(Duration::from_secs(3600))
                .trigger(Trigger::stalled_poll(Duration::from_millis(20)).cool_down(Duration::ZERO))
                .start()
                .expect("a recorder starts");
            let runtime = runtime();
            for round in 1..=3 {
                // Time to go to sleep. If that was not enough, it need not be woken.
                std::thread::sleep(Duration::from_millis(300));
                blocks_until_it_is_found(&runtime, &recorder, round);
            }
        },
    );
}

#[test]
fn the_watchdog_sleeps_while_every_worker_is_parked_and_wakes_with_one() {
    common::alone("the_watchdog_sleeps_while_every_worker_is_parked_and_wakes_with_one", || {
        let place = tempfile::tempdir().unwrap();
        let period = Duration::from_millis(500);
        let recorder = builder(place.path())
            .window(period * 100)
            .generation_period(period)
            .trigger(Trigger::stalled_poll(Duration::from_millis(20)).cool_down(Duration::ZERO))
            .start()
            .expect("a recorder starts");
        let runtime = runtime();
        for round in 1..=2 {
            lookback::block_on(&runtime, async {
                let tasks = (0..100).map(|_| lookback::spawn(tokio::task::yield_now()));
                for task in tasks.collect::<Vec<_>>() {
                    task.await.unwrap();
                }
            });
            std::thread::sleep(period * 3);
            let (began, before) = (Instant::now(), sleeps());
            std::thread::sleep(period * 6);
            let after = sleeps();
            let generations = began.elapsed().as_millis() / period.as_millis() + 1;
            // With the watchdog awake it would be 50 in each generation.
            assert!(u128::from(after - before) <= 2 * generations + 2, "{before}, then {after}");
            // A worker that continues wakes it.
            blocks_until_it_is_found(&runtime, &recorder, round);
        }
    });
}

#[test]
fn a_task_that_saves_a_snapshot_is_no_stall_and_no_finding() {
    common::alone("a_task_that_saves_a_snapshot_is_no_stall_and_no_finding", || {
        const LIMIT: Duration = Duration::from_millis(400);
        let place = tempfile::tempdir().unwrap();
        let recorder = std::sync::Arc::new(start(place.path(), Trigger::stalled_poll(LIMIT)));
        let runtime = runtime();
        let (asks, asked) = std::sync::mpsc::channel::<()>();
        let saver = std::sync::Arc::clone(&recorder);
        let mut task = None;
        recorder.while_saver_waits(|| {
            task = Some(lookback::spawn_on(runtime.handle(), async move {
                asks.send(()).unwrap();
                saver.save("a request failed").unwrap()
            }));
            asked.recv().unwrap();
            std::thread::sleep(LIMIT * 3);
        });
        let path = runtime.block_on(task.unwrap()).unwrap();
        assert!(path.exists());
        assert_eq!(recorder.stats().triggers.fired, 0, "{:?}", recorder.stats().triggers);
        drop(runtime);
        let recorder = std::sync::Arc::into_inner(recorder).expect("nobody else has it");
        let trace = common::stop(recorder);
        let marked = events(&trace).filter(|event| {
            matches!(event.kind(), lookback::read::EventKind::RegionBegin { .. })
                && event.name() == lookback::read::wire::OWN_REGION
        });
        assert_eq!(marked.count(), 1);
        let report = lookback::read::analysis::Report::of(&trace);
        let own =
            report.polls.table.longest.iter().find(|poll| poll.length.0 > LIMIT.as_nanos() as u64);
        assert_eq!(own, None);
        assert!(report.regions.table.names.iter().all(|r| !r.name.contains("lookback")));
    });
}
