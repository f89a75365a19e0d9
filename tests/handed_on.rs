//! A worker that Tokio hands on to another thread, and back.

mod common;

use lookback::Recorder;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// A turn blocks in place.
static BLOCKS: AtomicBool = AtomicBool::new(false);

/// With one worker and one thread more there are two threads that can be the worker.
#[test]
fn a_thread_that_gets_its_worker_back_is_that_worker() {
    common::alone("a_thread_that_gets_its_worker_back_is_that_worker", || {
        let recorder = Recorder::builder().max_bytes(4 << 20).start().unwrap();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(1).enable_all();
        assert!(lookback::tokio::instrument(&mut builder).is_whole());
        let runtime = builder.build().unwrap();
        // Sleeps as the worker, releases the turn before, and blocks in place until the next one releases it.
        let turn = |blocked: Option<mpsc::Receiver<()>>, then: Option<mpsc::Sender<()>>| async move {
            // The worker has nothing else to do, so it parks.
            tokio::time::sleep(Duration::from_millis(1)).await;
            lookback::event!("turn");
            drop(then);
            if let Some(blocked) = blocked {
                tokio::task::block_in_place(|| {
                    BLOCKS.store(true, Ordering::Release);
                    assert!(blocked.recv().is_err());
                });
            }
        };
        let (first_ends, first) = mpsc::channel();
        let (second_ends, second) = mpsc::channel();
        runtime.block_on(async {
            let first = lookback::spawn(turn(Some(first), None));
            let second = lookback::spawn(async move {
                // Once the first turn blocks, only another thread gets here.
                while !BLOCKS.load(Ordering::Acquire) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                turn(Some(second), Some(first_ends)).await;
            });
            first.await.unwrap();
            lookback::spawn(turn(None, Some(second_ends))).await.unwrap();
            second.await.unwrap();
        });
        drop(runtime);
        let trace = common::stop(recorder);
        let turns: Vec<_> = common::events(&trace).filter(|event| event.name() == "turn").collect();
        let threads: Vec<_> = turns.iter().map(|event| event.thread().unwrap().number).collect();
        assert!(threads[0] == threads[2] && threads[0] != threads[1], "{threads:?}");
        assert!(turns.iter().all(|event| event.worker().is_some()), "{turns:?}");
    });
}
