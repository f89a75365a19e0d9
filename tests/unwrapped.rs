//! With `--cfg tokio_unstable`, unwrapped tasks show up, too:
//!
//! ```text
//! RUSTFLAGS="--cfg tokio_unstable" cargo test --test unwrapped --target-dir target/unstable
//! ```
#![cfg(tokio_unstable)]

mod common;

use common::alone;
use lookback::read::wire::HOOKED_TASK;
use lookback::read::{EventKind, TaskId};
use std::collections::HashMap;
use std::time::Duration;

#[test]
fn tasks_that_nobody_wrapped_are_recorded_by_the_runtime_s_hooks() {
    alone("tasks_that_nobody_wrapped_are_recorded_by_the_runtime_s_hooks", || {
        let recorder = common::start_with(4 << 20, Duration::from_secs(3600));
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all();
        assert!(lookback::tokio::instrument(&mut builder).is_whole());
        let runtime = builder.build().unwrap();
        runtime.block_on(async {
            for _ in 0..10 {
                tokio::spawn(async { tokio::task::yield_now().await }).await.unwrap();
            }
            for _ in 0..5 {
                lookback::spawn(async { tokio::task::yield_now().await }).await.unwrap();
            }
            let cancelled = tokio::spawn(std::future::pending::<()>());
            tokio::time::sleep(Duration::from_millis(20)).await;
            cancelled.abort();
            assert!(cancelled.await.unwrap_err().is_cancelled());
        });
        drop(runtime);
        let trace = common::stop(recorder);
        let mut ends: HashMap<TaskId, (bool, Vec<&str>)> = HashMap::new();
        for event in common::events(&trace) {
            match event.kind() {
                EventKind::TaskCreate { task, site, .. } => {
                    assert!(site.file.ends_with("unwrapped.rs"), "{}", site.file);
                    ends.insert(task, (site.name == HOOKED_TASK, Vec::new()));
                }
                EventKind::TaskReady { task } => ends.get_mut(&task).unwrap().1.push("ready"),
                EventKind::TaskDrop { task } => ends.get_mut(&task).unwrap().1.push("drop"),
                EventKind::TaskPoll { task } => ends.get_mut(&task).unwrap().1.push("poll"),
                _ => {}
            }
        }
        let count = |unwrapped: bool, end: &[&str]| {
            ends.values().filter(|(is, how)| *is == unwrapped && how == end).count()
        };
        // Tokio ends an aborted task in a poll, too: from outside it looks finished.
        assert_eq!(count(true, &["poll", "poll", "ready"]), 11);
        assert_eq!(count(false, &["poll", "poll", "ready"]), 5, "recorded once, not twice");
        assert_eq!(ends.len(), 16);
    });
}
