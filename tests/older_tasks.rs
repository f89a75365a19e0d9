//! Tasks that are older than the recording: they are recorded from their next poll on, whenever that is.

mod common;
#[path = "../snapshot/tests/go_tool/mod.rs"]
mod go_tool;

use common::alone;
use lookback::read::{EventKind, Trace};
use lookback::tokio::instrument;
use lookback::{RecordExt, Recorder};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

fn runtime(workers: usize) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).enable_all();
    assert!(instrument(&mut builder).is_whole());
    builder.build().expect("a runtime")
}

fn start(max_bytes: usize, period: Duration) -> Recorder {
    common::start_with(max_bytes, period)
}

/// How often a task of this name is polled.
fn polls(trace: &Trace, name: &str) -> usize {
    let is_poll = |event: &lookback::read::Event| {
        matches!(event.kind(), EventKind::TaskPoll { .. }) && event.name() == name
    };
    common::events(trace).filter(is_poll).count()
}

/// No event says that a task's entry has changed hands, if the task's beginning was not recorded.
#[test]
fn a_task_that_is_taken_up_gets_no_place_that_another_has_just_left() {
    alone("a_task_that_is_taken_up_gets_no_place_that_another_has_just_left", || {
        use futures::FutureExt;
        let unseen = || Box::pin(async { tokio::task::yield_now().await }.recorded("unseen"));
        let mut all: Vec<_> = (0..3).map(|_| unseen()).collect();
        let recorder = start(1 << 20, Duration::from_secs(3600));
        for unseen in &mut all {
            assert!(async {}.recorded("seen").now_or_never().is_some());
            let _ = unseen.now_or_never();
            let trace = common::read(&recorder.snapshot().expect("a snapshot is taken"));
            common::assert_sound(&trace);
        }
        drop(all);
        common::assert_sound(&common::stop(recorder));
    });
}

#[test]
fn tasks_that_began_before_the_recording_are_recorded_from_then_on() {
    alone("tasks_that_began_before_the_recording_are_recorded_from_then_on", || {
        let runtime = runtime(2);
        let (send, mut receive) = mpsc::channel::<u64>(1);
        let task = async move {
            let mut sum = 0;
            while let Some(number) = receive.recv().await {
                sum += number;
            }
            sum
        };
        let task = runtime.spawn(task.recorded("long-lived"));
        for _ in 0..2 {
            let recorder = start(4 << 20, Duration::from_secs(3600));
            for number in 0..10 {
                runtime.block_on(send.send(number)).unwrap();
            }
            let busy = || runtime.block_on(async { send.capacity() == 0 });
            while busy() {}
            let trace = common::stop(recorder);
            common::assert_sound(&trace);
            assert!(polls(&trace, "long-lived") > 0);
            // It also continues while nothing is recorded.
            for number in 0..10 {
                runtime.block_on(send.send(number)).unwrap();
            }
        }
        drop(send);
        assert_eq!(runtime.block_on(task).unwrap(), 180);
    });
}

/// Like the main task of a program that starts its recorder itself: it is polled again after generations,
/// none of which has listed it.
#[test]
fn a_task_that_began_before_the_recording_may_be_taken_up_in_any_generation() {
    alone("a_task_that_began_before_the_recording_may_be_taken_up_in_any_generation", || {
        let recorder = runtime(1).block_on(async {
            let main = async {
                let recorder = start(4 << 20, Duration::from_secs(3600));
                for _ in 0..3 {
                    lookback::event!("something");
                    common::advance(&recorder);
                }
                tokio::task::yield_now().await;
                for _ in 0..3 {
                    common::advance(&recorder);
                    tokio::task::yield_now().await;
                }
                recorder
            };
            lookback::spawn(main.recorded("main")).await.unwrap()
        });
        let trace = common::stop(recorder);
        common::assert_sound(&trace);
        let mut exported = Vec::new();
        let report = lookback::read::export::go::export(&trace, &mut exported).unwrap();
        if let Some(go) = go_tool::go_tool() {
            go.parse(&exported).expect("Go accepts it").assert_equals(&report);
        }
        assert_eq!(
            polls(&trace, "main"),
            4,
            "all since the start but the one in which it was started"
        );
    });
}
